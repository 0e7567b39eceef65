//! When requests are meant to start. Slots are never skipped: one whose time has passed is still handed out, with the
//! time it was meant for.

use super::plan::{Arrivals, Pace, Stage};
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
    /// Every `step`-th of the slots at, at + step …, where the stages place them.
    Constant {
        stages: Stages,
        at: u64,
        step: u64,
    },
    /// The gaps of one thread are exponential with the thread's share of the rate: together they are Poisson again.
    /// `at` counts slots, fractions included, which the stages turn into times.
    Poisson {
        stages: Stages,
        at: f64,
        mean: f64,
        random: Box<Xoshiro256PlusPlus>,
    },
    Times {
        ns: Arc<[u64]>,
        at: usize,
        step: usize,
    },
}

/// Turns the number of a slot into its time. Numbers must not fall.
#[derive(Debug)]
struct Stages {
    stages: Arc<[Stage]>,
    index: usize,
    /// The number and the time of the stage's first slot.
    first: f64,
    begin_ns: f64,
}

impl Stages {
    fn new(stages: &Arc<[Stage]>) -> Stages {
        Stages { stages: stages.clone(), index: 0, first: 0.0, begin_ns: 0.0 }
    }

    /// `None` after the last stage.
    fn time_ns(&mut self, number: f64) -> Option<u64> {
        loop {
            let Stage { seconds, per_second } = *self.stages.get(self.index)?;
            // Not 0 × ∞: a stage without requests has no slot, however long it is.
            let slots = if per_second > 0.0 { seconds * per_second } else { 0.0 };
            if number < self.first + slots {
                // From the number of the slot, so that no error adds up.
                return Some((self.begin_ns + (number - self.first) * 1e9 / per_second) as u64);
            }
            self.first += slots;
            self.begin_ns += seconds * 1e9;
            self.index += 1;
        }
    }
}

impl Schedule {
    /// The slots of thread `thread` of `threads`; `None` in a closed loop.
    pub fn new(pace: &Pace, thread: u32, threads: u32, seed: u64) -> Option<Schedule> {
        let slots = match pace {
            Pace::AsFastAsPossible => return None,
            Pace::Stages { stages, arrivals: Arrivals::Constant } => {
                Slots::Constant { stages: Stages::new(stages), at: u64::from(thread), step: u64::from(threads) }
            }
            Pace::Stages { stages, arrivals: Arrivals::Poisson } => {
                // Not the generator that names are chosen with: arrivals do not change what is asked for.
                let seed = mix(seed ^ mix(u64::from(thread) + 0x0a11_14a1));
                let random = Box::new(Xoshiro256PlusPlus::seed_from_u64(seed));
                Slots::Poisson { stages: Stages::new(stages), at: 0.0, mean: f64::from(threads), random }
            }
            Pace::Times { ns } => Slots::Times { ns: ns.clone(), at: thread as usize, step: threads as usize },
        };
        let mut schedule = Schedule { slots, next_ns: None };
        schedule.next_ns = schedule.slots.next();
        Some(schedule)
    }

    /// The next slot; `None` when recorded times or stages have ended.
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
            Slots::Constant { stages, at, step } => {
                let slot = stages.time_ns(*at as f64);
                *at += *step;
                slot
            }
            Slots::Poisson { stages, at, mean, random } => {
                let gap: f64 = Exp1.sample(random);
                *at += gap * *mean;
                stages.time_ns(*at)
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

    fn rate(per_second: f64, arrivals: Arrivals) -> Pace {
        Pace::Stages { stages: [Stage { seconds: f64::INFINITY, per_second }].into(), arrivals }
    }

    fn slots(pace: &Pace, thread: u32, threads: u32, until_ns: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(pace, thread, threads, 1).unwrap();
        std::iter::from_fn(|| schedule.take_due(until_ns)).collect()
    }

    #[test]
    fn a_constant_rate_is_shared_and_keeps_its_distance() {
        let pace = rate(1000.0, Arrivals::Constant);
        assert_eq!(slots(&pace, 0, 1, 3_000_000), [0, 1_000_000, 2_000_000, 3_000_000]);
        assert_eq!(slots(&pace, 1, 2, 3_000_000), [1_000_000, 3_000_000]);
    }

    #[test]
    fn stages_follow_each_other_and_end() {
        let stages = [(0.002, 1000.0), (0.003, 0.0), (0.001, 2000.0)];
        let stages: Arc<[Stage]> = stages.map(|(seconds, per_second)| Stage { seconds, per_second }).into();
        let pace = Pace::Stages { stages: stages.clone(), arrivals: Arrivals::Constant };
        assert_eq!(slots(&pace, 0, 1, u64::MAX), [0, 1_000_000, 5_000_000, 5_500_000]);
        assert_eq!(slots(&pace, 1, 2, u64::MAX), [1_000_000, 5_500_000]);
        // By chance there may be none within 6 ms, but never one without a rate or after the end.
        let pace = Pace::Stages { stages, arrivals: Arrivals::Poisson };
        let all = slots(&pace, 0, 1, u64::MAX);
        assert!(all.iter().all(|&slot| slot < 2_000_000 || (5_000_000..6_000_000).contains(&slot)), "{all:?}");
        let long: Arc<[Stage]> =
            [(10.0, 1000.0), (10.0, 5000.0)].map(|(seconds, per_second)| Stage { seconds, per_second }).into();
        let all = slots(&Pace::Stages { stages: long, arrivals: Arrivals::Poisson }, 0, 1, u64::MAX);
        let first = all.iter().filter(|&&slot| slot < 10_000_000_000).count() as f64;
        assert!(
            (first - 10_000.0).abs() < 500.0 && (all.len() as f64 - 60_000.0).abs() < 1250.0,
            "{first}, {}",
            all.len()
        );
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_variance_of_poisson() {
        let pace = rate(10_000.0, Arrivals::Poisson);
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
