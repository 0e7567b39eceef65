//! `lru`: the least recently used object goes.
//!
//! Time is counted in misses: an insert moves the clock, a hit only notes the time on its own tag. So hits share no
//! counter that they would write; what is lost is the order of hits between two misses, which no victim choice fell
//! into. (The order is that of the textbook; lazily re-keyed priorities instead of list moves are an old trick, for
//! instance in *CAR*, Bansal and Modha, FAST 2004, as a clock bit.)

use super::heap::LazyHeap;
use super::{Candidate, Object, Policy, Tag, Touch, Victim};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

/// The time, in inserts. Written on misses only.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

impl Clock {
    /// Notes that `tag` was used now.
    #[inline]
    pub(super) fn touch(&self, tag: &Tag) {
        let now = self.0.load(Relaxed);
        // A tag that is hit again and again within one tick stays clean in every core's cache.
        if tag.rank.load(Relaxed) < now {
            tag.rank.store(now, Relaxed);
        }
    }

    /// Sets the tag's first use, and moves on.
    pub(super) fn start(&self, tag: &Tag) {
        let now = self.0.load(Relaxed) + 1;
        tag.rank.store(now, Relaxed);
        self.0.store(now, Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Lru<T> {
    clock: Arc<Clock>,
    order: LazyHeap<T>,
}

impl<T: Object> Lru<T> {
    pub(super) fn new() -> Lru<T> {
        Lru { clock: Arc::default(), order: LazyHeap::default() }
    }
}

impl<T: Object> Policy<T> for Lru<T> {
    fn touch(&self) -> Touch {
        Touch::Recency(self.clock.clone())
    }

    fn miss(&mut self, _: &Candidate) {}

    fn insert(&mut self, object: T) {
        self.clock.start(object.tag());
        self.order.insert(object);
    }

    fn remove(&mut self, object: &T) {
        self.order.remove(object);
    }

    fn victim(&mut self, _: &Candidate, leased: &dyn Fn(&T) -> bool) -> Victim<T> {
        self.order.least(leased);
        self.order.pop().map_or(Victim::None, Victim::Evict)
    }
}
