//! A run from outside: starts the threads, merges what they counted, tells whoever watches.

use super::{
    collector::{Collector, Progress},
    plan::Plan,
    shared::{Interval, Shared},
    wire,
    worker::Worker,
};
use crate::stats::{Sample, Tally};
use anyhow::{Context, Result, bail};
use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As planned.
    Completed,
    /// By a signal.
    Interrupted,
    /// Before it began: no connection could be established.
    Unreachable,
}

/// What a run measured.
#[derive(Debug)]
pub struct Outcome {
    pub ended: Ended,
    /// From the end of the warm-up to the last response.
    pub elapsed: Duration,
    /// Processor time of the threads that send and receive, while measuring.
    pub cpu: Duration,
    pub tally: Tally,
    pub samples: Vec<Sample>,
}

/// Carries out a plan. `stop` ends it early; `watch` is called after every interval.
///
/// # Errors
/// Why io_uring cannot be used, or what failed inside it.
pub fn run(plan: &Plan, stop: Arc<AtomicBool>, mut watch: impl FnMut(Progress<'_>)) -> Result<Outcome> {
    let open_files = wire::raise_open_files();
    if u64::from(plan.connections) + 64 > open_files {
        bail!(
            "{} connections need as many open files, and the limit is {open_files}: raise it (ulimit -n)",
            plan.connections
        );
    }
    let (sender, receiver) = mpsc::channel();
    let shared = Shared::new(stop, sender);
    let start_ns = AtomicU64::new(0);
    let barrier = Barrier::new(plan.threads as usize);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|thread| {
                let (shared, start_ns, barrier) = (&shared, &start_ns, &barrier);
                let work = move || work(plan, shared, thread, barrier, start_ns);
                thread::Builder::new().name(format!("loadgen-{thread}")).spawn_scoped(scope, work)
            })
            .collect::<std::io::Result<_>>()
            .context("cannot start a thread")?;
        let mut collector = Collector::new(plan);
        collector.collect(&receiver, &shared, &mut watch);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread of the load generator panicked"))??;
        }
        let measured_from = start_ns.load(Ordering::Relaxed) + plan.warmup.as_nanos() as u64;
        let elapsed = Duration::from_nanos(shared.now_ns().saturating_sub(measured_from));
        collector.finish(elapsed.as_nanos() as u64);
        let Collector { total, samples, cpu, .. } = collector;
        let ended = match () {
            () if !shared.reached() => Ended::Unreachable,
            () if shared.stopped() => Ended::Interrupted,
            () => Ended::Completed,
        };
        Ok(Outcome { ended, elapsed, cpu, tally: total, samples })
    })
}

/// One thread, start to end. Whatever fails, it meets the others at the barrier and hands over a last interval.
fn work(plan: &Plan, shared: &Shared, thread: u32, barrier: &Barrier, start_ns: &AtomicU64) -> Result<()> {
    let worker = Worker::new(plan, shared, thread).and_then(|mut worker| {
        worker.connect().context("io_uring failed while connecting")?;
        Ok(worker)
    });
    if barrier.wait().is_leader() {
        start_ns.store(shared.now_ns(), Ordering::Relaxed);
    }
    barrier.wait();
    let reached = shared.reached();
    let measured = worker.and_then(|mut worker| {
        if !reached {
            worker.give_up();
            return Ok(());
        }
        worker.measure(start_ns.load(Ordering::Relaxed)).context("io_uring failed")
    });
    if measured.is_err() {
        shared.stop();
        shared.hand_over(Interval { thread, index: 0, tally: Tally::default(), last: Some(Duration::ZERO) });
    }
    measured
}
