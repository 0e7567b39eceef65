//! A run from outside: starts the threads, merges what they counted, tells whoever watches.

use super::{
    plan::{Intervals, Plan},
    wire,
    worker::Worker,
};
use crate::stats::{Sample, Tally};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
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

/// What those who watch are told after each interval.
#[derive(Debug)]
pub struct Progress<'a> {
    /// The interval that has just ended.
    pub sample: &'a Sample,
    /// Successful and failed requests so far.
    pub requests: u64,
    pub failures: u64,
}

/// One interval of one thread.
pub(super) struct Interval {
    pub thread: u32,
    pub index: u64,
    pub tally: Tally,
    /// With the last interval of a thread: the processor time it used while measuring.
    pub last: Option<Duration>,
}

/// What the threads of a run share.
pub(super) struct Shared {
    origin: Instant,
    stop: Arc<AtomicBool>,
    pub established: AtomicU64,
    intervals: mpsc::Sender<Interval>,
    spares: Mutex<Vec<Tally>>,
}

impl Shared {
    /// Nanoseconds on the run's clock; never 0.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64 + 1
    }

    #[inline]
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// An empty tally, with its memory warm if one came back.
    pub fn spare_tally(&self) -> Tally {
        self.spares.lock().ok().and_then(|mut spares| spares.pop()).unwrap_or_default()
    }

    pub fn hand_over(&self, interval: Interval) {
        // The collector outlives the threads; if it is gone, so is the run.
        let _ = self.intervals.send(interval);
    }

    fn give_back(&self, mut tally: Tally) {
        tally.clear();
        if let Ok(mut spares) = self.spares.lock() {
            spares.push(tally);
        }
    }
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
    let shared = Shared {
        origin: Instant::now(),
        stop,
        established: AtomicU64::new(0),
        intervals: sender,
        spares: Mutex::default(),
    };
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
            () if shared.established.load(Ordering::Relaxed) == 0 => Ended::Unreachable,
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
    let reached = shared.established.load(Ordering::Relaxed) > 0;
    let measured = worker.and_then(|mut worker| {
        if !reached {
            worker.give_up();
            return Ok(());
        }
        worker.measure(start_ns.load(Ordering::Relaxed)).context("io_uring failed")
    });
    if measured.is_err() {
        shared.stop.store(true, Ordering::Relaxed);
        shared.hand_over(Interval { thread, index: 0, tally: Tally::default(), last: Some(Duration::ZERO) });
    }
    measured
}

/// Puts the intervals of all threads together.
struct Collector {
    intervals: Intervals,
    /// Intervals that some thread has not handed over yet.
    open: BTreeMap<u64, Tally>,
    /// For each thread, the interval it is in; `None` when it has ended.
    at: Vec<Option<u64>>,
    total: Tally,
    samples: Vec<Sample>,
    cpu: Duration,
}

impl Collector {
    fn new(plan: &Plan) -> Collector {
        Collector {
            intervals: Intervals::new(plan.interval),
            open: BTreeMap::new(),
            at: vec![Some(0); plan.threads as usize],
            total: Tally::default(),
            samples: Vec::new(),
            cpu: Duration::ZERO,
        }
    }

    /// Collects until every thread has handed over its last interval.
    fn collect(&mut self, receiver: &mpsc::Receiver<Interval>, shared: &Shared, watch: &mut impl FnMut(Progress<'_>)) {
        while self.at.iter().any(Option::is_some) {
            let Ok(Interval { thread, index, tally, last }) = receiver.recv() else { return };
            self.at[thread as usize] = if last.is_some() { None } else { Some(index + 1) };
            self.cpu += last.unwrap_or_default();
            match self.open.get_mut(&index) {
                None => drop(self.open.insert(index, tally)),
                Some(sum) => {
                    sum.merge(&tally);
                    shared.give_back(tally);
                }
            }
            let complete = self.at.iter().flatten().min().copied();
            while let Some(entry) = self.open.first_entry()
                && complete.is_some_and(|complete| *entry.key() < complete)
            {
                let (index, tally) = entry.remove_entry();
                self.add(index, &tally, u64::MAX);
                shared.give_back(tally);
                if let Some(sample) = self.samples.last() {
                    watch(Progress { sample, requests: self.total.requests(), failures: self.total.failures() });
                }
            }
        }
    }

    /// Adds the intervals that the run ended in.
    fn finish(&mut self, elapsed_ns: u64) {
        for (index, tally) in std::mem::take(&mut self.open) {
            self.add(index, &tally, elapsed_ns);
        }
    }

    fn add(&mut self, index: u64, tally: &Tally, end_ns: u64) {
        let (start_ns, end_ns) = (self.intervals.start_ns(index), self.intervals.end_ns(index).min(end_ns));
        if end_ns > start_ns {
            self.samples.push(Sample::of(tally, start_ns, end_ns));
        }
        self.total.merge(tally);
    }
}
