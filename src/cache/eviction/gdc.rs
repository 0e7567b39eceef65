//! `gdc`, the default: cost-aware greedy dual. An object's priority is
//!
//! ```text
//! H = L + f · (1/charged + 1/S0)
//! ```
//!
//! `f` its hits, up to 15; `charged` what it costs of the budget; `S0` what a miss costs beyond its bytes, expressed in
//! bytes (latency × bandwidth of the origin); `L` the priority of the last victim, so that what is not asked for any
//! more is overtaken. The least priority goes. `f · (1/charged + 1/S0)` is what keeping the object saves for each byte
//! it takes.
//!
//! Priorities only rise, and only by hits, so a hit stores its tag's new one and the heap catches up when a victim is
//! sought, which is exact: see [`super::heap`]. A sketch of the misses restores `f` for names that come back.
//!
//! Admission: a candidate that would itself be the victim before there is room for it is refused. That is, making room
//! for it may cost nothing of a priority above the one it would get. Small files rarely meet this; a large one that
//! would sweep out hundreds of better ones does, until it was asked for often enough, or too much was refused in a row.
//!
//! Sources: Cao and Irani, *Cost-aware WWW proxy caching algorithms*, USITS 1997 (greedy dual by size); Cherkasova,
//! *Improving WWW proxies performance with greedy-dual-size-frequency caching policy*, HP 1998 (with frequency);
//! Einziger, Friedman and Manes, *TinyLFU*, 2017 (a sketch to admit by).

use super::heap::LazyHeap;
use super::sketch::Sketch;
use super::{Candidate, Object, Policy, Tag, Touch, Victim};
use crate::arena::layout::PAGE;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

/// Hits that count.
const HITS_MAX: u32 = 15;
/// Priorities are fixed-point numbers with this for one. An object of 64 MiB still adds 2^14 per hit, and the level,
/// which rises by about 2^30 when 64 MiB of 16 KiB files are replaced once, has room for 2^33 such turnovers.
const ONE: u64 = 1 << 40;
/// After this many times the capacity was refused, a candidate is let in all the same, and the level rises to its
/// victims': so what is cached and never asked for again cannot shut out everything that is.
const REFUSED_CAPACITIES: u64 = 16;
/// The fewest columns of the sketch.
const COLUMNS_MIN: u64 = 1 << 10;
/// The most columns of the sketch: a megabyte of counters.
const COLUMNS_MAX: u64 = 1 << 18;

/// `L`, which every hit reads and only evictions write.
#[derive(Debug)]
pub struct Level {
    level: AtomicU64,
    s0: u64,
}

impl Level {
    /// Counts a hit, and raises the tag's priority to what it is worth now.
    #[inline]
    pub(super) fn touch(&self, tag: &Tag, charged: u64) {
        let mut hits = tag.hits.load(Relaxed);
        if hits < HITS_MAX {
            hits += 1;
            tag.hits.store(hits, Relaxed);
        }
        let rank = self.rank(hits, charged);
        // A saturated tag stays clean in every core's cache until the level has moved.
        if rank > tag.rank.load(Relaxed) {
            tag.rank.store(rank, Relaxed);
        }
    }

    /// `H` of what was hit so often.
    fn rank(&self, hits: u32, charged: u64) -> u64 {
        let weight = ONE / charged.max(1) + ONE / self.s0;
        self.level.load(Relaxed).saturating_add(u64::from(hits) * weight)
    }
}

#[derive(Debug)]
pub(super) struct Gdc<T> {
    level: Arc<Level>,
    /// Charged bytes of refused candidates since one was let in for their sake, and the most there may be.
    refused: u64,
    refused_max: u64,
    order: LazyHeap<T>,
    /// Of misses.
    sketch: Sketch,
    /// The candidate that was last found worth its victims, by key: the rest of them need no asking.
    admitted: Option<u64>,
}

impl<T: Object> Gdc<T> {
    /// `capacity` and `s0` in bytes.
    pub(super) fn new(capacity: u64, s0: u64) -> Gdc<T> {
        // A column for every page of the arena, 64 KiB of counters for 64 MiB, halved when each was raised twice on
        // average: about as many names as the arena can hold several times over.
        let columns = (capacity / PAGE).clamp(COLUMNS_MIN, COLUMNS_MAX).next_power_of_two();
        Gdc {
            level: Arc::new(Level { level: AtomicU64::new(0), s0: s0.max(1) }),
            refused: 0,
            refused_max: capacity.saturating_mul(REFUSED_CAPACITIES),
            order: LazyHeap::default(),
            sketch: Sketch::new(columns as usize, 2 * columns),
            admitted: None,
        }
    }

    /// `f` for a name that is not cached.
    fn frequency(&self, key: u64) -> u32 {
        u32::from(self.sketch.estimate(key)).clamp(1, HITS_MAX)
    }
}

impl<T: Object> Policy<T> for Gdc<T> {
    fn touch(&self) -> Touch {
        Touch::Priority(self.level.clone())
    }

    fn miss(&mut self, candidate: &Candidate) {
        self.sketch.add(candidate.key);
        self.admitted = self.admitted.filter(|key| *key != candidate.key);
    }

    fn insert(&mut self, object: T) {
        let hits = self.frequency(object.key());
        object.tag().hits.store(hits, Relaxed);
        object.tag().rank.store(self.level.rank(hits, object.charged()), Relaxed);
        self.order.insert(object);
    }

    fn remove(&mut self, object: &T) {
        self.order.remove(object);
    }

    fn victim(&mut self, wanted: &Candidate, leased: &dyn Fn(&T) -> bool) -> Victim<T> {
        if self.admitted != Some(wanted.key) {
            let rank = self.level.rank(self.frequency(wanted.key), wanted.charged);
            if !self.order.covers(wanted.charged, rank, leased) {
                self.refused += wanted.charged;
                if self.refused < self.refused_max {
                    return Victim::Refuse;
                }
                self.refused = 0;
            }
            self.admitted = Some(wanted.key);
        }
        self.order.least(leased);
        match self.order.pop() {
            Some(object) => {
                self.level.level.fetch_max(object.tag().rank.load(Relaxed), Relaxed);
                Victim::Evict(object)
            }
            None => Victim::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Measured;
    use super::*;

    const S0: u64 = 64;

    fn candidate(key: u64, charged: u64) -> Candidate {
        Candidate { key, size: charged, charged }
    }

    fn insert(policy: &mut Gdc<Arc<Measured>>, key: u64, charged: u64) -> Arc<Measured> {
        policy.miss(&candidate(key, charged));
        let tag = Arc::new(Measured::new(key, charged, charged, key as u32));
        policy.insert(tag.clone());
        tag
    }

    #[test]
    fn hits_saturate() {
        let mut policy = Gdc::new(1 << 20, S0);
        let tag = insert(&mut policy, 1, 128);
        let weight = ONE / 128 + ONE / S0;
        assert_eq!(tag.tag().rank.load(Relaxed), weight);
        let touch = policy.touch();
        for hits in 2..40 {
            touch.hit(&tag);
            assert_eq!(tag.tag().rank.load(Relaxed), weight * hits.min(15));
        }
    }

    #[test]
    fn a_name_that_comes_back_has_its_frequency_back() {
        let mut policy = Gdc::new(1 << 20, S0);
        for _ in 0..3 {
            policy.miss(&candidate(1, 128));
        }
        let tag = insert(&mut policy, 1, 128);
        assert_eq!(tag.tag().hits.load(Relaxed), 4);
    }

    #[test]
    fn the_level_is_the_last_victims_priority() {
        let mut policy = Gdc::new(1 << 20, S0);
        let (first, second) = (insert(&mut policy, 1, 200), insert(&mut policy, 2, 100));
        let cheap = candidate(3, 100);
        policy.miss(&cheap);
        let victim = policy.victim(&cheap, &|_| false);
        assert!(matches!(victim, Victim::Evict(tag) if Arc::ptr_eq(&tag, &first)));
        let third = insert(&mut policy, 4, 100);
        assert_eq!(third.tag().rank.load(Relaxed), first.tag().rank.load(Relaxed) + second.tag().rank.load(Relaxed));
    }

    #[test]
    fn a_large_candidate_is_refused_until_it_is_asked_for_often() {
        let mut policy = Gdc::new(1 << 20, S0);
        let touch = policy.touch();
        let small: Vec<_> = (0..10).map(|key| insert(&mut policy, key, 100)).collect();
        for _ in 0..3 {
            small.iter().for_each(|tag| touch.hit(tag));
        }
        let large = candidate(99, 1000);
        let mut refused = 0;
        let victim = loop {
            policy.miss(&large);
            match policy.victim(&large, &|_| false) {
                Victim::Refuse => refused += 1,
                other => break other,
            }
        };
        // 4 · (1/100 + 1/64) against f · (1/1000 + 1/64): more from f = 7 on.
        assert_eq!(refused, 6);
        assert!(matches!(victim, Victim::Evict(_)));
        // Once admitted, the rest of its victims go without another question.
        for _ in 0..9 {
            assert!(matches!(policy.victim(&large, &|_| false), Victim::Evict(_)));
        }
        assert!(matches!(policy.victim(&large, &|_| false), Victim::None));
    }

    #[test]
    fn refusing_does_not_go_on_for_ever() {
        let mut policy = Gdc::new(1000, S0);
        let touch = policy.touch();
        let dear: Vec<_> = (0..10).map(|key| insert(&mut policy, key, 100)).collect();
        (0..20).for_each(|_| dear.iter().for_each(|tag| touch.hit(tag)));
        // Other names every time, larger ones: none is worth its victims.
        let refused = (100..200).take_while(|&key| {
            let wanted = candidate(key, 500);
            policy.miss(&wanted);
            matches!(policy.victim(&wanted, &|_| false), Victim::Refuse)
        });
        assert_eq!(refused.count(), 31, "until 16,000 bytes were refused");
        // Now the level is the victim's, and any candidate is worth the others.
        let wanted = candidate(300, 500);
        policy.miss(&wanted);
        assert!(matches!(policy.victim(&wanted, &|_| false), Victim::Evict(_)));
    }

    #[test]
    fn what_is_leased_makes_no_room() {
        let mut policy = Gdc::new(1 << 20, S0);
        let touch = policy.touch();
        let cheap = insert(&mut policy, 1, 300);
        let dear = insert(&mut policy, 2, 300);
        (0..9).for_each(|_| touch.hit(&dear));
        let wanted = candidate(3, 200);
        policy.miss(&wanted);
        let cheap_leased = |tag: &Arc<Measured>| tag.key == cheap.key;
        assert!(matches!(policy.victim(&wanted, &cheap_leased), Victim::Refuse), "only the dear one could go");
        assert!(matches!(policy.victim(&wanted, &|_| true), Victim::None), "nothing could go");
        assert!(matches!(policy.victim(&wanted, &|_| false), Victim::Evict(tag) if tag.key == 1));
    }
}
