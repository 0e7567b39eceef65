//! Many replays of one trace: every policy at every size, on all cores.

use super::replay::{Account, Outcome, Setup, replay, replay_with_accounts};
use super::trace::Trace;
use crate::arena::layout::FOLIO;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

/// Sizes from `low` to `high` bytes, both included, two to the octave, in whole folios.
pub fn sizes(low: u64, high: u64) -> Vec<u64> {
    let mut sizes: Vec<u64> = (0..128)
        .map(|step| low as f64 * 2f64.powf(f64::from(step) / 2.0))
        .take_while(|size| *size < high as f64)
        .map(|size| size as u64 / FOLIO * FOLIO)
        .collect();
    sizes.push(high);
    sizes.dedup();
    sizes
}

/// What a replay made, and what became of each object where that was asked for.
pub type Replayed = (Outcome, Vec<Account>);

/// Replays the trace through every setup, and keeps accounts for the first `accounted` of them. `progress` is told the
/// requests done, from this thread.
pub fn replay_all(trace: &Trace, setups: &[Setup], accounted: usize, progress: impl Fn(u64)) -> Vec<Replayed> {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(setups.len());
    let (done, reports) = mpsc::channel();
    let mut outcomes = vec![(Outcome::default(), Vec::new()); setups.len()];
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (done, next) = (done.clone(), &next);
                scope.spawn(move || {
                    let claim = || Some(next.fetch_add(1, Relaxed)).filter(|index| *index < setups.len());
                    std::iter::from_fn(claim)
                        .map(|index| {
                            let mut progress = |requests| {
                                // Nobody listens any more only when everything is over anyway.
                                let _ = done.send(requests);
                            };
                            let replayed = match index < accounted {
                                true => replay_with_accounts(trace, &setups[index], &mut progress),
                                false => (replay(trace, &setups[index], &mut progress), Vec::new()),
                            };
                            (index, replayed)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        drop(done);
        reports.iter().for_each(&progress);
        for worker in workers {
            match worker.join() {
                Ok(finished) => finished.into_iter().for_each(|(index, outcome)| outcomes[index] = outcome),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::eviction::Eviction;

    #[test]
    fn sizes_go_from_the_first_to_the_last() {
        let mib =
            |sizes: &[f64]| sizes.iter().map(|size| (size * 1048576.0) as u64 / FOLIO * FOLIO).collect::<Vec<_>>();
        assert_eq!(sizes(16 << 20, 64 << 20), mib(&[16.0, 22.627417, 32.0, 45.254834, 64.0]));
        assert_eq!(sizes(16 << 20, 17 << 20), mib(&[16.0, 17.0]));
        assert_eq!(sizes(1 << 20, 1 << 20), [1 << 20]);
    }

    #[test]
    fn outcomes_are_in_the_order_asked_for() {
        let trace = Trace { requests: (0..900).map(|n| n * n % 300).collect(), sizes: vec![9000; 300], skipped: 0 };
        let setups: Vec<Setup> = [1 << 20, 2 << 20, 4 << 20]
            .map(|arena| Setup {
                eviction: Eviction::Lru,
                arena,
                miss_cost: 1 << 16,
                packed_max: 12 << 10,
                ideal: false,
                leases: 0,
            })
            .to_vec();
        let total = std::cell::Cell::new(0);
        let outcomes = replay_all(&trace, &setups, 1, |requests| total.set(total.get() + requests));
        assert_eq!(total.get(), 2700);
        for (setup, outcome) in setups.iter().zip(&outcomes) {
            assert_eq!(outcome.0, replay(&trace, setup, &mut |_| ()));
        }
        let accounts: Vec<usize> = outcomes.iter().map(|(_, accounts)| accounts.len()).collect();
        assert_eq!(accounts, [300, 0, 0]);
    }
}
