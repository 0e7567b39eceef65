//! Which name is asked for next: by popularity, by a share of misses, or as a trace has it.
//!
//! Every thread has a generator of its own, seeded from the run's seed and its number: a run with the same seed and
//! number of threads asks for the same names in the same order on each thread. Only a share of misses depends on what
//! the server answers: it is steered by that.

use crate::{corpus::body::mix, stats::Class};
use anyhow::{Result, bail};
use rand_distr::{Distribution, Zipf};
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use std::{fmt, str::FromStr, sync::Arc};

/// How often which name is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Popularity {
    /// All alike.
    Uniform,
    /// The k-th name of the list with a probability in proportion to 1/k^exponent.
    Zipf { exponent: f64 },
    /// One after the other, and again.
    Sequential,
}

impl FromStr for Popularity {
    type Err = String;

    fn from_str(text: &str) -> Result<Popularity, String> {
        let exponent =
            |text: &str| text.parse::<f64>().ok().filter(|exponent| *exponent >= 0.0 && exponent.is_finite());
        match text.split_once(':') {
            None if text == "uniform" => Ok(Popularity::Uniform),
            None if text == "sequential" => Ok(Popularity::Sequential),
            Some(("zipf", s)) if exponent(s).is_some() => Ok(Popularity::Zipf { exponent: exponent(s).unwrap_or(0.0) }),
            _ => Err(format!(
                "`{text}` is not a popularity: write uniform, zipf:0.9 (any exponent from 0) or sequential"
            )),
        }
    }
}

impl fmt::Display for Popularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Popularity::Uniform => f.write_str("uniform"),
            Popularity::Zipf { exponent } => write!(f, "zipf:{exponent}"),
            Popularity::Sequential => f.write_str("sequential"),
        }
    }
}

/// The order of all requests of a run.
#[derive(Debug, Clone)]
pub enum Order {
    /// Names 0..count by popularity.
    Popular { count: u32, popularity: Popularity },
    /// A part of the requests goes round the names hot..count, too many to stay in the cache; the others ask for names
    /// that fit it, by popularity. How large a part is steered so that a share of `misses` (0..=1) comes of it.
    Mixed { hot: u32, count: u32, misses: f64, popularity: Popularity },
    /// The names in a trace's order, once.
    Replay { sequence: Arc<[u32]> },
}

impl Order {
    /// Splits names into those that fit a cache of `cache_bytes` with room to spare and those that follow, which cannot
    /// be in it: asked for in turn, each is long gone when its turn comes again.
    ///
    /// # Errors
    /// Says what the list of names lacks for that.
    pub fn mixed(sizes: &[Option<u64>], cache_bytes: u64, misses: f64, popularity: Popularity) -> Result<Order> {
        if !(0.0..=1.0).contains(&misses) {
            bail!("a miss ratio is a number from 0 to 1, not {misses}");
        }
        let mut sum = 0u64;
        let (mut hot, mut cold_bytes) = (0, 0u64);
        for size in sizes {
            let Some(size) = size else {
                bail!(
                    "a miss ratio needs the sizes of the names: a list with sizes (`path<TAB>bytes`), --listing or \
                    --trace"
                );
            };
            sum = sum.saturating_add(*size);
            // Three quarters: what the names that pass through push out is, for any sensible policy, one of themselves.
            if sum <= cache_bytes / 4 * 3 {
                hot += 1;
            } else {
                cold_bytes = cold_bytes.saturating_add(*size);
            }
        }
        if hot == 0 && misses < 1.0 {
            bail!("the first name alone does not fit three quarters of a cache of {cache_bytes} bytes");
        }
        if misses > 0.0 && cold_bytes < cache_bytes.saturating_mul(2) {
            bail!(
                "the names beyond the first {hot}, which fit the cache, have {cold_bytes} bytes: that is too few to \
                keep \
                 them out of a cache of {cache_bytes} bytes; make a corpus of at least {} bytes, or set --cache-size",
                cache_bytes.saturating_mul(3)
            );
        }
        Ok(Order::Mixed { hot, count: sizes.len() as u32, misses, popularity })
    }

    /// How many requests there are, where the order ends by itself.
    pub fn length(&self) -> Option<u64> {
        match self {
            Order::Replay { sequence } => Some(sequence.len() as u64),
            _ => None,
        }
    }

    /// The choices of thread `thread` of `threads`, which has `in_flight` requests on their way at most.
    pub fn chooser(&self, thread: u32, threads: u32, in_flight: u32, seed: u64) -> Chooser {
        let turn = |first: u32, end: u32| Turn { first, end, at: u64::from(thread), step: u64::from(threads) };
        let pick = |count: u32, popularity: Popularity| match popularity {
            Popularity::Uniform => Pick::Uniform { count },
            Popularity::Sequential => Pick::Turn(turn(0, count)),
            Popularity::Zipf { exponent } => {
                let ranks =
                    Zipf::new(f64::from(count), exponent).expect("there is a name, and the exponent was checked");
                Pick::Zipf { ranks }
            }
        };
        let choice = match self {
            Order::Popular { count, popularity } => Choice::Popular(pick(*count, *popularity)),
            Order::Mixed { hot, count, misses, popularity } => {
                let steering = Steering::new(*misses, in_flight);
                Choice::Mixed { steering, hot: pick((*hot).max(1), *popularity), cold: turn(*hot, *count) }
            }
            Order::Replay { sequence } => {
                Choice::Replay { sequence: sequence.clone(), at: thread as usize, step: threads as usize }
            }
        };
        let random = Xoshiro256PlusPlus::seed_from_u64(mix(seed ^ mix(u64::from(thread))));
        Chooser { random, choice }
    }
}

/// Chooses the names for one thread.
#[derive(Debug)]
pub struct Chooser {
    random: Xoshiro256PlusPlus,
    choice: Choice,
}

#[derive(Debug)]
enum Choice {
    Popular(Pick),
    Mixed { steering: Steering, hot: Pick, cold: Turn },
    Replay { sequence: Arc<[u32]>, at: usize, step: usize },
}

/// Finds the part of the requests that must go beyond the cache for a share of misses, by an integral controller: names
/// that fit the cache miss too when what passes through it has pushed them out, and how often is the server's policy.
///
/// As long as the part is not at a bound, all its steps add up to `gain` times the misses that are lacking: after n
/// responses the share is off by no more than 1 / (gain n).
#[derive(Debug)]
struct Steering {
    wanted: f64,
    /// The part of the requests that goes beyond the cache, from 0 to 1.
    beyond: f64,
    gain: f64,
}

/// Responses that one step of the steering looks back on. Fewer would follow chance, more would take long to get there.
const STEERING_RESPONSES: f64 = 64.0;

impl Steering {
    fn new(wanted: f64, in_flight: u32) -> Steering {
        // Responses tell of a choice made as many requests ago as are on their way. Steps so small that the part moves
        // little meanwhile do not swing to and fro.
        Steering { wanted, beyond: wanted, gain: 1.0 / (STEERING_RESPONSES + 2.0 * f64::from(in_flight)) }
    }

    #[inline]
    fn observe(&mut self, missed: bool) {
        let lacking = self.wanted - f64::from(u8::from(missed));
        self.beyond = (self.beyond + self.gain * lacking).clamp(0.0, 1.0);
    }
}

#[derive(Debug)]
enum Pick {
    Uniform { count: u32 },
    Zipf { ranks: Zipf<f64> },
    Turn(Turn),
}

/// Every `step`-th of the names first..end, round and round.
#[derive(Debug)]
struct Turn {
    first: u32,
    end: u32,
    at: u64,
    step: u64,
}

impl Turn {
    fn next(&mut self) -> u32 {
        let name = self.first + (self.at % u64::from(self.end - self.first)) as u32;
        self.at += self.step;
        name
    }
}

impl Pick {
    fn next(&mut self, random: &mut Xoshiro256PlusPlus) -> u32 {
        match self {
            // A 64-bit product's upper half: a bias of less than 2^-32.
            Pick::Uniform { count } => ((u64::from(random.next_u32()) * u64::from(*count)) >> 32) as u32,
            Pick::Zipf { ranks } => ranks.sample(random) as u32 - 1,
            Pick::Turn(turn) => turn.next(),
        }
    }
}

impl Chooser {
    /// Takes note of how a response was served, which a share of misses is steered by.
    #[inline]
    pub fn observe(&mut self, class: Class) {
        if let Choice::Mixed { steering, .. } = &mut self.choice
            && class != Class::Unclassified
        {
            steering.observe(class == Class::Miss);
        }
    }
}

impl Iterator for Chooser {
    type Item = u32;

    /// The next name; `None` at the end of a trace.
    #[inline]
    fn next(&mut self) -> Option<u32> {
        Some(match &mut self.choice {
            Choice::Popular(pick) => pick.next(&mut self.random),
            Choice::Mixed { steering, hot, cold } => {
                // 53 bits: a uniform number in [0, 1).
                let uniform = (self.random.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
                if uniform < steering.beyond { cold.next() } else { hot.next(&mut self.random) }
            }
            Choice::Replay { sequence, at, step } => {
                let name = *sequence.get(*at)?;
                *at += *step;
                name
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const DRAWS: usize = 200_000;

    fn counts(order: &Order, names: usize, seed: u64) -> Vec<f64> {
        let mut counts = vec![0.0; names];
        order.chooser(0, 1, 1, seed).take(DRAWS).for_each(|name| counts[name as usize] += 1.0);
        counts
    }

    /// Pearson's statistic against expected shares, and the value it exceeds with a probability of about 10^-5
    /// (Wilson and Hilferty's approximation).
    fn chi_square(counts: &[f64], shares: &[f64]) -> (f64, f64) {
        let statistic = counts
            .iter()
            .zip(shares)
            .map(|(seen, share)| (seen - share * DRAWS as f64).powi(2) / (share * DRAWS as f64));
        let freedom = (counts.len() - 1) as f64;
        let limit = freedom * (1.0 - 2.0 / (9.0 * freedom) + 4.26 * (2.0 / (9.0 * freedom)).sqrt()).powi(3);
        (statistic.sum(), limit)
    }

    #[test]
    fn zipf_follows_its_distribution_for_any_exponent() {
        for exponent in [0.0, 0.5, 0.99, 1.0, 1.2, 2.0] {
            let names = 100;
            let order = Order::Popular { count: names, popularity: Popularity::Zipf { exponent } };
            let weights: Vec<f64> = (1..=names).map(|rank| f64::from(rank).powf(-exponent)).collect();
            let sum: f64 = weights.iter().sum();
            let shares: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
            let (statistic, limit) = chi_square(&counts(&order, names as usize, 11), &shares);
            assert!(statistic < limit, "exponent {exponent}: {statistic} is over {limit}");
        }
    }

    #[test]
    fn uniform_is_uniform_and_sequential_goes_round() {
        let uniform = Order::Popular { count: 50, popularity: Popularity::Uniform };
        let (statistic, limit) = chi_square(&counts(&uniform, 50, 3), &[1.0 / 50.0; 50]);
        assert!(statistic < limit);
        let sequential = Order::Popular { count: 3, popularity: Popularity::Sequential };
        assert_eq!(sequential.chooser(0, 1, 1, 0).take(5).collect::<Vec<_>>(), [0, 1, 2, 0, 1]);
        assert_eq!(sequential.chooser(1, 2, 1, 0).take(4).collect::<Vec<_>>(), [1, 0, 2, 1]);
    }

    #[test]
    fn the_same_seed_asks_for_the_same_names() {
        let order = Order::Popular { count: 1000, popularity: Popularity::Zipf { exponent: 0.8 } };
        let names = |thread, seed| order.chooser(thread, 2, 1, seed).take(100).collect::<Vec<_>>();
        assert_eq!(names(0, 5), names(0, 5));
        assert_ne!(names(0, 5), names(1, 5));
        assert_ne!(names(0, 5), names(0, 6));
        // Fixed for good: runs of different builds can be compared.
        assert_eq!(order.chooser(0, 1, 1, 1).take(5).collect::<Vec<_>>(), [854, 494, 275, 9, 407]);
    }

    #[test]
    fn threads_share_a_trace() {
        let order = Order::Replay { sequence: (0..7).collect() };
        assert_eq!(order.chooser(0, 2, 1, 0).collect::<Vec<_>>(), [0, 2, 4, 6]);
        assert_eq!(order.chooser(1, 2, 1, 0).collect::<Vec<_>>(), [1, 3, 5]);
    }

    #[test]
    fn a_miss_ratio_mixes_names_that_fit_with_names_that_cannot_stay() {
        let sizes = vec![Some(1000); 400];
        let order = Order::mixed(&sizes, 100_000, 0.25, Popularity::Uniform).unwrap();
        let Order::Mixed { hot, .. } = order else { panic!("{order:?}") };
        assert_eq!(hot, 75);
        let counts = counts(&order, 400, 9);
        let cold: f64 = counts[75..].iter().sum();
        assert!((cold / DRAWS as f64 - 0.25).abs() < 0.01);
        // In turn: none is asked for twice as often as another.
        assert!(counts[75..].iter().all(|count| (count - cold / 325.0).abs() <= 1.0));
    }

    #[test]
    fn a_miss_ratio_is_steered_by_what_the_server_says() {
        for (wanted, in_flight) in [(0.0, 8), (0.1, 1), (0.1, 64), (0.5, 8), (0.5, 1024), (0.9, 64), (1.0, 8)] {
            let order = Order::mixed(&[Some(1000); 400], 100_000, wanted, Popularity::Uniform).unwrap();
            let mut chooser = order.chooser(0, 1, in_flight, 5);
            // The least recently used name leaves, so that what passes through pushes out names that fit.
            let mut cache: VecDeque<u32> = (0..75).collect();
            let (mut on_their_way, mut misses) = (VecDeque::new(), 0);
            for _ in 0..DRAWS {
                let name = chooser.next().unwrap();
                let cached = cache.iter().position(|&cached| cached == name);
                cached.and_then(|at| cache.remove(at));
                cache.push_back(name);
                cache.drain(..cache.len().saturating_sub(100));
                misses += usize::from(cached.is_none());
                on_their_way.push_back(if cached.is_some() { Class::Hit } else { Class::Miss });
                if on_their_way.len() == in_flight as usize {
                    chooser.observe(on_their_way.pop_front().unwrap());
                    chooser.observe(Class::Unclassified);
                }
            }
            let share = misses as f64 / DRAWS as f64;
            assert!((share - wanted).abs() < 0.01, "{share} for {wanted} with {in_flight} in flight");
        }
    }

    #[test]
    fn a_miss_ratio_says_what_it_lacks() {
        let wrong = |sizes: &[Option<u64>], misses| {
            Order::mixed(sizes, 100, misses, Popularity::Uniform).unwrap_err().to_string()
        };
        assert!(wrong(&[Some(10); 100], 1.5).contains("0 to 1"));
        assert!(wrong(&[None], 0.5).contains("sizes"));
        assert!(wrong(&[Some(10); 9], 0.5).contains("at least 300 bytes"));
        assert!(wrong(&[Some(90); 9], 0.5).contains("first name"));
    }

    #[test]
    fn popularities_read_as_written() {
        for text in ["uniform", "sequential", "zipf:0", "zipf:0.9", "zipf:1.5"] {
            assert_eq!(text.parse::<Popularity>().unwrap().to_string(), text);
        }
        for text in ["", "zipf", "zipf:", "zipf:-1", "zipf:NaN", "zipf:inf", "uniform:1"] {
            assert!(text.parse::<Popularity>().is_err(), "{text}");
        }
    }
}
