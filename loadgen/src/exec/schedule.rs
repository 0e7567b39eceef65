//! When requests are meant to start. Slots are never skipped: one whose time has passed is still handed out, with the
//! time it was meant for.

use super::plan::{Arrivals, Pace};
use crate::corpus::body::mix;
use rand_distr::{Distribution, Exp1};
use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
use std::sync::Arc;

/// The slots of one thread, in nanoseconds after the start of the run.
#[derive(Debug)]
pub struct Schedule {
    slots: Slots,
    next_ns: Option<u64>,
}

#[derive(Debug)]
enum Slots {
    /// Every `step`-th of the slots `at`, at + step …, `period_ns` apart.
    Constant {
        period_ns: f64,
        at: u64,
        step: u64,
    },
    /// The gaps of one thread are exponential with the thread's share of the rate: together they are Poisson again.
    Poisson {
        mean_ns: f64,
        now_ns: f64,
        random: Box<Xoshiro256PlusPlus>,
    },
    Times {
        ns: Arc<[u64]>,
        at: usize,
        step: usize,
    },
}

impl Schedule {
    /// The slots of thread `thread` of `threads`; `None` in a closed loop.
    pub fn new(pace: &Pace, thread: u32, threads: u32, seed: u64) -> Option<Schedule> {
        let slots = match pace {
            Pace::AsFastAsPossible => return None,
            Pace::Rate { per_second, arrivals: Arrivals::Constant } => {
                Slots::Constant { period_ns: 1e9 / per_second, at: u64::from(thread), step: u64::from(threads) }
            }
            Pace::Rate { per_second, arrivals: Arrivals::Poisson } => {
                // Not the generator that names are chosen with: arrivals do not change what is asked for.
                let seed = mix(seed ^ mix(u64::from(thread) + 0x0a11_14a1));
                let random = Box::new(Xoshiro256PlusPlus::seed_from_u64(seed));
                Slots::Poisson { mean_ns: 1e9 / per_second * f64::from(threads), now_ns: 0.0, random }
            }
            Pace::Times { ns } => Slots::Times { ns: ns.clone(), at: thread as usize, step: threads as usize },
        };
        let mut schedule = Schedule { slots, next_ns: None };
        schedule.next_ns = schedule.slots.next();
        Some(schedule)
    }

    /// The next slot; `None` when recorded times have ended.
    #[inline]
    pub fn peek(&self) -> Option<u64> {
        self.next_ns
    }

    /// Takes the next slot if it is due.
    #[inline]
    pub fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_ns.filter(|&slot| slot <= now_ns)?;
        self.next_ns = self.slots.next();
        Some(due)
    }
}

impl Slots {
    fn next(&mut self) -> Option<u64> {
        match self {
            Slots::Constant { period_ns, at, step } => {
                // From the number of the slot, so that no error adds up.
                let slot = (*at as f64 * *period_ns) as u64;
                *at += *step;
                Some(slot)
            }
            Slots::Poisson { mean_ns, now_ns, random } => {
                let gap: f64 = Exp1.sample(random);
                *now_ns += gap * *mean_ns;
                Some(*now_ns as u64)
            }
            Slots::Times { ns, at, step } => {
                let slot = ns.get(*at).copied();
                *at += *step;
                slot
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(pace: &Pace, thread: u32, threads: u32, until_ns: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(pace, thread, threads, 1).unwrap();
        std::iter::from_fn(|| schedule.take_due(until_ns)).collect()
    }

    #[test]
    fn a_constant_rate_is_shared_and_keeps_its_distance() {
        let pace = Pace::Rate { per_second: 1000.0, arrivals: Arrivals::Constant };
        assert_eq!(slots(&pace, 0, 1, 3_000_000), [0, 1_000_000, 2_000_000, 3_000_000]);
        assert_eq!(slots(&pace, 1, 2, 3_000_000), [1_000_000, 3_000_000]);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_variance_of_poisson() {
        let pace = Pace::Rate { per_second: 10_000.0, arrivals: Arrivals::Poisson };
        let mut all: Vec<u64> = (0..2).flat_map(|thread| slots(&pace, thread, 2, 20_000_000_000)).collect();
        all.sort_unstable();
        let count = all.len() as f64;
        assert!((count - 200_000.0).abs() < 5.0 * 200_000f64.sqrt(), "{count}");
        // Counts in equal windows: the variance equals the mean.
        let mut windows = vec![0.0f64; 2000];
        all.iter().for_each(|&slot| windows[(slot / 10_000_000).min(1999) as usize] += 1.0);
        let variance = windows.iter().map(|count| (count - 100.0).powi(2)).sum::<f64>() / 2000.0;
        assert!((variance / 100.0 - 1.0).abs() < 0.2, "{variance}");
    }

    #[test]
    fn recorded_times_are_kept_and_end() {
        let pace = Pace::Times { ns: [0, 5, 5, 9].into() };
        assert_eq!(slots(&pace, 0, 1, 100), [0, 5, 5, 9]);
        assert_eq!(slots(&pace, 0, 1, 5), [0, 5, 5]);
        assert!(Schedule::new(&Pace::AsFastAsPossible, 0, 1, 0).is_none());
    }
}
