//! `sieve`: one queue, and a hand that walks from the oldest to the newest; what was hit since the hand last passed
//! stays where it is, the first that was not goes.
//!
//! Source: Zhang, Yang, Yue, Vigfusson, Rashmi, *SIEVE is Simpler than LRU*, NSDI 2024.

use super::parking::{Parking, RECHECKED, is_parked};
use super::queue::{END, Queue};
use super::{Candidate, NOWHERE, Object, Policy, Touch, Victim};
use crate::sync::atomic::Ordering::Relaxed;

#[derive(Debug)]
pub(super) struct Sieve<T> {
    queue: Queue<T>,
    /// The next to be looked at; [`END`]: the oldest.
    hand: u32,
    parked: Parking<T>,
}

impl<T: Object> Sieve<T> {
    pub(super) fn new() -> Sieve<T> {
        Sieve { queue: Queue::marked(0), hand: END, parked: Parking::marked(0) }
    }

    fn take(&mut self, place: u32) -> T {
        if self.hand == place {
            self.hand = self.queue.newer(place);
        }
        self.queue.remove(place)
    }

    /// Leased ones are put aside, and come back as the newest.
    fn recheck(&mut self, count: usize, leased: &dyn Fn(&T) -> bool) {
        self.parked.recheck(count, leased, |object| self.queue.push(object));
    }

    fn sift(&mut self, leased: &dyn Fn(&T) -> bool) -> Option<T> {
        while self.queue.oldest() != END {
            let index = if self.hand == END { self.queue.oldest() } else { self.hand };
            let object = self.queue.object(index);
            if leased(object) {
                let object = self.take(index);
                self.parked.park(object);
            } else if object.tag().hits.load(Relaxed) > 0 {
                object.tag().hits.store(0, Relaxed);
                self.hand = self.queue.newer(index);
            } else {
                self.hand = index;
                return Some(self.take(index));
            }
        }
        None
    }
}

impl<T: Object> Policy<T> for Sieve<T> {
    fn touch(&self) -> Touch {
        Touch::Count { most: 1 }
    }

    fn miss(&mut self, _: &Candidate) {}

    fn insert(&mut self, object: T) {
        self.queue.push(object);
    }

    fn remove(&mut self, object: &T) {
        match object.tag().place.load(Relaxed) {
            NOWHERE => {}
            parked if is_parked(parked) => {
                self.parked.unpark(parked);
            }
            place => {
                self.take(place);
            }
        }
    }

    fn victim(&mut self, _: &Candidate, leased: &dyn Fn(&T) -> bool) -> Victim<T> {
        self.recheck(RECHECKED, leased);
        let mut found = self.sift(leased);
        if found.is_none() {
            self.recheck(self.parked.len(), leased);
            found = self.sift(leased);
        }
        found.map_or(Victim::None, Victim::Evict)
    }
}
