//! What all threads counted, put together interval by interval.

use super::{
    plan::{Intervals, Plan},
    shared::{Interval, Shared},
};
use crate::stats::{Sample, Tally};
use std::{collections::BTreeMap, sync::mpsc, time::Duration};

/// What those who watch are told after each interval.
#[derive(Debug)]
pub struct Progress<'a> {
    /// The interval that has just ended.
    pub sample: &'a Sample,
    /// Successful and failed requests so far.
    pub requests: u64,
    pub failures: u64,
}

/// Puts the intervals of all threads together.
pub struct Collector {
    intervals: Intervals,
    /// Intervals that some thread has not handed over yet.
    open: BTreeMap<u64, Tally>,
    /// For each thread, the interval it is in; `None` when it has ended.
    at: Vec<Option<u64>>,
    pub total: Tally,
    pub samples: Vec<Sample>,
    pub cpu: Duration,
}

impl Collector {
    pub fn new(plan: &Plan) -> Collector {
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
    pub fn collect(
        &mut self,
        receiver: &mpsc::Receiver<Interval>,
        shared: &Shared,
        watch: &mut impl FnMut(Progress<'_>),
    ) {
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
    pub fn finish(&mut self, elapsed_ns: u64) {
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
