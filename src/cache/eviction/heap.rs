//! A heap whose keys rise without the heap being told: hits raise a tag's rank with a plain store, and the heap looks again
//! only when the least one is sought. Since ranks never fall, a stored key is a lower bound of the rank; so when the entry at
//! the top has a key equal to its rank, it is the least of all: the order is exact, not approximate.
//!
//! Entries found leased are parked: see [`super::parking`].

use super::parking::{Parking, RECHECKED};
use super::{NOWHERE, Tag};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Debug, Default)]
pub(super) struct LazyHeap {
    /// A binary heap by stored key: (a lower bound of the tag's rank, the tag).
    heap: Vec<(u64, Arc<Tag>)>,
    parked: Parking,
}

impl LazyHeap {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len() + self.parked.len()
    }

    /// The tag's rank must be set.
    pub(super) fn insert(&mut self, tag: Arc<Tag>) {
        self.heap.push((tag.rank.load(Relaxed), tag));
        self.rise(self.heap.len() - 1);
    }

    /// Says whether the tag was here.
    pub(super) fn remove(&mut self, tag: &Arc<Tag>) -> bool {
        let place = tag.place.load(Relaxed);
        if place == NOWHERE {
            return false;
        }
        if Parking::holds(place) {
            self.parked.unpark(place);
        } else {
            self.remove_at(place as usize);
        }
        true
    }

    /// The entry of least rank that is not leased, still in the heap.
    pub(super) fn least(&mut self, leased: &dyn Fn(&Tag) -> bool) -> Option<&Arc<Tag>> {
        self.recheck(RECHECKED, leased);
        if !self.settle(leased) {
            // Everything left is parked: look at all of it before giving up.
            self.recheck(self.parked.len(), leased);
            self.settle(leased);
        }
        self.heap.first().map(|(_, tag)| tag)
    }

    /// Takes the entry that [`LazyHeap::least`] showed.
    pub(super) fn pop(&mut self) -> Option<Arc<Tag>> {
        (!self.heap.is_empty()).then(|| self.remove_at(0))
    }

    /// Whether entries of at most this rank make up `bytes` of budget, or else everything that could go is of at most this
    /// rank. Looks at no more of the heap than has such keys.
    pub(super) fn covers(&self, bytes: u64, rank: u64, leased: &dyn Fn(&Tag) -> bool) -> bool {
        let (mut covered, mut dearer) = (0, false);
        let mut next = vec![0];
        while let Some(index) = next.pop() {
            let Some((key, tag)) = self.heap.get(index) else { continue };
            if *key > rank {
                // So are all below it; at least this one must be free to go for that to matter.
                dearer |= !leased(tag);
                continue;
            }
            if !leased(tag) {
                if tag.rank.load(Relaxed) <= rank {
                    covered += tag.charged;
                } else {
                    dearer = true;
                }
                if covered >= bytes {
                    return true;
                }
            }
            next.extend([2 * index + 1, 2 * index + 2]);
        }
        !dearer
    }

    /// Brings the least rank that is not leased to the top. False: there is none.
    fn settle(&mut self, leased: &dyn Fn(&Tag) -> bool) -> bool {
        while let Some((key, tag)) = self.heap.first() {
            let rank = tag.rank.load(Relaxed);
            if rank > *key {
                self.heap[0].0 = rank;
                self.sink(0);
            } else if leased(tag) {
                let tag = self.remove_at(0);
                self.parked.park(tag);
            } else {
                return true;
            }
        }
        false
    }

    /// Looks at `count` parked entries again, and takes those back that are no longer leased.
    fn recheck(&mut self, count: usize, leased: &dyn Fn(&Tag) -> bool) {
        let mut back = Vec::new();
        self.parked.recheck(count, leased, |tag| back.push(tag));
        back.into_iter().for_each(|tag| self.insert(tag));
    }

    fn remove_at(&mut self, index: usize) -> Arc<Tag> {
        let (_, tag) = self.heap.swap_remove(index);
        if index < self.heap.len() {
            self.sink(index);
            self.rise(index);
        }
        tag.place.store(NOWHERE, Relaxed);
        tag
    }

    /// Moves the entry at `index` up to its place.
    fn rise(&mut self, mut index: usize) {
        while index > 0 && self.heap[index].0 < self.heap[(index - 1) / 2].0 {
            self.heap.swap(index, (index - 1) / 2);
            self.note(index);
            index = (index - 1) / 2;
        }
        self.note(index);
    }

    /// Moves the entry at `index` down to its place.
    fn sink(&mut self, mut index: usize) {
        loop {
            let (left, right) = (2 * index + 1, 2 * index + 2);
            let Some((left_key, _)) = self.heap.get(left) else { break };
            let child = if self.heap.get(right).is_some_and(|(key, _)| key < left_key) { right } else { left };
            if self.heap[index].0 <= self.heap[child].0 {
                break;
            }
            self.heap.swap(index, child);
            self.note(index);
            index = child;
        }
        self.note(index);
    }

    fn note(&self, index: usize) {
        self.heap[index].1.place.store(index as u32, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    fn tag(resident: u32, rank: u64) -> Arc<Tag> {
        let tag = Tag::new(u64::from(resident), 1, 1, resident);
        tag.rank.store(rank, Relaxed);
        Arc::new(tag)
    }

    proptest! {
        /// Against looking at every entry: ranks rise at will, and the least is always the least.
        #[test]
        fn the_least_is_the_least(steps in prop::collection::vec((0..5u8, any::<usize>(), 0..1000u64), 1..300)) {
            let mut heap = LazyHeap::default();
            let mut all: Vec<Arc<Tag>> = Vec::new();
            for (number, (kind, pick, amount)) in steps.into_iter().enumerate() {
                let picked = (!all.is_empty()).then(|| pick % all.len().max(1));
                match (kind, picked) {
                    (0 | 1, _) => {
                        all.push(tag(number as u32, amount));
                        heap.insert(all.last().unwrap().clone());
                    }
                    (2, Some(index)) => {
                        all[index].rank.fetch_add(amount, Relaxed);
                    }
                    (3, Some(index)) => prop_assert!(heap.remove(&all.swap_remove(index))),
                    (4, Some(_)) => {
                        let least = all.iter().map(|tag| tag.rank.load(Relaxed)).min().unwrap();
                        prop_assert_eq!(heap.least(&|_| false).unwrap().rank.load(Relaxed), least);
                        let popped = heap.pop().unwrap();
                        prop_assert_eq!(popped.rank.load(Relaxed), least);
                        all.retain(|tag| !Arc::ptr_eq(tag, &popped));
                        prop_assert!(!heap.remove(&popped), "a victim is already gone");
                    }
                    _ => {}
                }
                prop_assert_eq!(heap.len(), all.len());
            }
        }

        /// Leased entries are never chosen, stay, and come back once their lease has ended.
        #[test]
        fn leased_entries_are_passed_over(ranks in prop::collection::vec(0..50u64, 1..80), leases in any::<u64>()) {
            let mut heap = LazyHeap::default();
            let is_leased = |tag: &Tag| leases >> (tag.resident % 64) & 1 == 1;
            for (number, rank) in ranks.iter().enumerate() {
                heap.insert(tag(number as u32, *rank));
            }
            let mut last = 0;
            while let Some(least) = heap.least(&is_leased) {
                prop_assert!(!is_leased(least));
                prop_assert!(least.rank.load(Relaxed) >= last, "out of order");
                last = least.rank.load(Relaxed);
                heap.pop();
            }
            let left = (0..ranks.len() as u64).filter(|number| leases >> (number % 64) & 1 == 1).count();
            prop_assert_eq!(heap.len(), left);
            while heap.least(&|_| false).is_some() {
                heap.pop();
            }
            prop_assert_eq!(heap.len(), 0);
        }
    }

    #[test]
    fn parked_entries_can_be_removed() {
        let mut heap = LazyHeap::default();
        let tags: Vec<_> = (0..40).map(|number| tag(number, number.into())).collect();
        tags.iter().for_each(|tag| heap.insert(tag.clone()));
        assert_eq!(heap.least(&|tag| tag.resident < 30).unwrap().resident, 30);
        assert!(heap.remove(&tags[3]) && !heap.remove(&tags[3]));
        assert_eq!(heap.len(), 39);
        assert_eq!(heap.least(&|tag| tag.resident != 4).unwrap().resident, 4);
    }

    #[test]
    fn many_leases_do_not_make_each_choice_walk_over_them() {
        let mut heap = LazyHeap::default();
        (0..20_000).for_each(|number| heap.insert(tag(number, number.into())));
        let asked = Cell::new(0u64);
        let leased = |tag: &Tag| {
            asked.set(asked.get() + 1);
            tag.resident < 5_000
        };
        while heap.least(&leased).is_some() {
            heap.pop();
        }
        assert_eq!(heap.len(), 5_000);
        let most = 20_000 * (RECHECKED as u64 + 1) + 2 * 5_000;
        assert!(asked.get() <= most, "{} questions for 15,000 victims", asked.get());
    }
}
