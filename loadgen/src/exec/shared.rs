//! What the threads of a run share: its clock, its end, and where their tallies go.

use crate::stats::Tally;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// One interval of one thread.
pub struct Interval {
    pub thread: u32,
    pub index: u64,
    pub tally: Tally,
    /// With the last interval of a thread: the processor time it used while measuring.
    pub last: Option<Duration>,
}

/// What the threads of a run share.
pub struct Shared {
    origin: Instant,
    stop: Arc<AtomicBool>,
    established: AtomicU64,
    intervals: mpsc::Sender<Interval>,
    spares: Mutex<Vec<Tally>>,
}

impl Shared {
    /// The run's clock starts here. `stop` ends the run; tallies go to `intervals`.
    pub fn new(stop: Arc<AtomicBool>, intervals: mpsc::Sender<Interval>) -> Shared {
        let (established, spares) = (AtomicU64::new(0), Mutex::default());
        Shared { origin: Instant::now(), stop, established, intervals, spares }
    }

    /// Nanoseconds on the run's clock; never 0.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64 + 1
    }

    #[inline]
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends the run for all threads.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// A connection was established.
    pub fn count_established(&self) {
        self.established.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether any connection was ever established.
    pub fn reached(&self) -> bool {
        self.established.load(Ordering::Relaxed) > 0
    }

    /// An empty tally, with its memory warm if one came back.
    pub fn spare_tally(&self) -> Tally {
        self.spares.lock().ok().and_then(|mut spares| spares.pop()).unwrap_or_default()
    }

    pub fn hand_over(&self, interval: Interval) {
        // The collector outlives the threads; if it is gone, so is the run.
        let _ = self.intervals.send(interval);
    }

    /// Takes a tally that was counted, for its memory.
    pub fn give_back(&self, mut tally: Tally) {
        tally.clear();
        if let Ok(mut spares) = self.spares.lock() {
            spares.push(tally);
        }
    }
}
