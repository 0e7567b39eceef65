//! `sieve`: one queue, and a hand that walks from the oldest to the newest; what was hit since the hand last passed stays
//! where it is, the first that was not goes.
//!
//! Source: Zhang, Yang, Yue, Vigfusson, Rashmi, *SIEVE is Simpler than LRU*, NSDI 2024.

use super::parking::{Parking, RECHECKED};
use super::queue::{END, Queue};
use super::{Candidate, NOWHERE, Policy, Tag, Touch, Victim};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Debug)]
pub(super) struct Sieve {
    queue: Queue,
    /// The next to be looked at; [`END`]: the oldest.
    hand: u32,
    parked: Parking,
}

impl Sieve {
    pub(super) fn new() -> Sieve {
        Sieve { queue: Queue::marked(0), hand: END, parked: Parking::default() }
    }

    fn take(&mut self, place: u32) -> Arc<Tag> {
        if self.hand == place {
            self.hand = self.queue.newer(place);
        }
        self.queue.remove(place)
    }

    /// Leased ones are put aside, and come back as the newest.
    fn recheck(&mut self, count: usize, leased: &dyn Fn(&Tag) -> bool) {
        self.parked.recheck(count, leased, |tag| self.queue.push(tag));
    }

    fn sift(&mut self, leased: &dyn Fn(&Tag) -> bool) -> Option<Arc<Tag>> {
        while self.queue.oldest() != END {
            let index = if self.hand == END { self.queue.oldest() } else { self.hand };
            let tag = self.queue.tag(index);
            if leased(tag) {
                let tag = self.take(index);
                self.parked.park(tag);
            } else if tag.hits.load(Relaxed) > 0 {
                tag.hits.store(0, Relaxed);
                self.hand = self.queue.newer(index);
            } else {
                self.hand = index;
                return Some(self.take(index));
            }
        }
        None
    }
}

impl Policy for Sieve {
    fn touch(&self) -> Touch {
        Touch::Count { most: 1 }
    }

    fn miss(&mut self, _: &Candidate) {}

    fn insert(&mut self, tag: Arc<Tag>) {
        self.queue.push(tag);
    }

    fn remove(&mut self, tag: &Arc<Tag>) {
        match tag.place.load(Relaxed) {
            NOWHERE => {}
            parked if Parking::holds(parked) => {
                self.parked.unpark(parked);
            }
            place => {
                self.take(place);
            }
        }
    }

    fn victim(&mut self, _: &Candidate, leased: &dyn Fn(&Tag) -> bool) -> Victim {
        self.recheck(RECHECKED, leased);
        let mut found = self.sift(leased);
        if found.is_none() {
            self.recheck(self.parked.len(), leased);
            found = self.sift(leased);
        }
        found.map_or(Victim::None, Victim::Evict)
    }
}
