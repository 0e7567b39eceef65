//! A heap whose keys rise without the heap being told: hits raise an object's rank with a plain store, and the heap
//! looks again only when the least one is sought. Since ranks never fall, a stored key is a lower bound of the rank; so
//! when the entry at the top has a key equal to its rank, it is the least of all: the order is exact, not approximate.
//!
//! Entries found leased are parked: see [`super::parking`].

use super::parking::{Parking, RECHECKED, is_parked};
use super::{NOWHERE, Object, push};
use crate::sync::atomic::Ordering::Relaxed;

#[derive(Debug)]
pub(super) struct LazyHeap<T> {
    /// A binary heap by stored key: (a lower bound of the object's rank, the object).
    heap: Vec<(u64, T)>,
    parked: Parking<T>,
}

impl<T: Object> Default for LazyHeap<T> {
    fn default() -> LazyHeap<T> {
        LazyHeap { heap: Vec::new(), parked: Parking::marked(0) }
    }
}

impl<T: Object> LazyHeap<T> {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len() + self.parked.len()
    }

    /// The object's rank must be set.
    pub(super) fn insert(&mut self, object: T) {
        push(&mut self.heap, (object.tag().rank.load(Relaxed), object));
        self.rise(self.heap.len() - 1);
    }

    /// Says whether the object was here.
    pub(super) fn remove(&mut self, object: &T) -> bool {
        let place = object.tag().place.load(Relaxed);
        if place == NOWHERE {
            return false;
        }
        if is_parked(place) {
            self.parked.unpark(place);
        } else {
            self.remove_at(place as usize);
        }
        true
    }

    /// The entry of least rank that is not leased, still in the heap.
    pub(super) fn least(&mut self, leased: &dyn Fn(&T) -> bool) -> Option<&T> {
        self.recheck(RECHECKED, leased);
        if !self.settle(leased) {
            // Everything left is parked: look at all of it before giving up.
            self.recheck(self.parked.len(), leased);
            self.settle(leased);
        }
        self.heap.first().map(|(_, object)| object)
    }

    /// Takes the entry that [`LazyHeap::least`] showed.
    pub(super) fn pop(&mut self) -> Option<T> {
        (!self.heap.is_empty()).then(|| self.remove_at(0))
    }

    /// Whether entries of at most this rank make up `bytes` of budget, or else everything that could go is of at most
    /// this rank. Looks at no more of the heap than has such keys.
    pub(super) fn covers(&self, bytes: u64, rank: u64, leased: &dyn Fn(&T) -> bool) -> bool {
        let (mut covered, mut dearer) = (0, false);
        let mut next = vec![0];
        while let Some(index) = next.pop() {
            let Some((key, object)) = self.heap.get(index) else { continue };
            if *key > rank {
                // So are all below it; at least this one must be free to go for that to matter.
                dearer |= !leased(object);
                continue;
            }
            if !leased(object) {
                if object.tag().rank.load(Relaxed) <= rank {
                    covered += object.charged();
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
    fn settle(&mut self, leased: &dyn Fn(&T) -> bool) -> bool {
        while let Some((key, object)) = self.heap.first() {
            let rank = object.tag().rank.load(Relaxed);
            if rank > *key {
                self.heap[0].0 = rank;
                self.sink(0);
            } else if leased(object) {
                let object = self.remove_at(0);
                self.parked.park(object);
            } else {
                return true;
            }
        }
        false
    }

    /// Looks at `count` parked entries again, and takes those back that are no longer leased.
    fn recheck(&mut self, count: usize, leased: &dyn Fn(&T) -> bool) {
        let mut back = Vec::new();
        self.parked.recheck(count, leased, |object| back.push(object));
        back.into_iter().for_each(|object| self.insert(object));
    }

    fn remove_at(&mut self, index: usize) -> T {
        let (_, object) = self.heap.swap_remove(index);
        if index < self.heap.len() {
            self.sink(index);
            self.rise(index);
        }
        object.tag().place.store(NOWHERE, Relaxed);
        object
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
        self.heap[index].1.tag().place.store(index as u32, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Measured;
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::sync::Arc;

    fn tag(number: u32, rank: u64) -> Arc<Measured> {
        let tag = Measured::new(u64::from(number), 1, 1, number);
        tag.tag.rank.store(rank, Relaxed);
        Arc::new(tag)
    }

    proptest! {
        /// Against looking at every entry: ranks rise at will, and the least is always the least.
        #[test]
        fn the_least_is_the_least(steps in prop::collection::vec((0..5u8, any::<usize>(), 0..1000u64), 1..300)) {
            let mut heap = LazyHeap::default();
            let mut all: Vec<Arc<Measured>> = Vec::new();
            for (number, (kind, pick, amount)) in steps.into_iter().enumerate() {
                let picked = (!all.is_empty()).then(|| pick % all.len().max(1));
                match (kind, picked) {
                    (0 | 1, _) => {
                        all.push(tag(number as u32, amount));
                        heap.insert(all.last().unwrap().clone());
                    }
                    (2, Some(index)) => {
                        all[index].tag().rank.fetch_add(amount, Relaxed);
                    }
                    (3, Some(index)) => prop_assert!(heap.remove(&all.swap_remove(index))),
                    (4, Some(_)) => {
                        let least = all.iter().map(|tag| tag.tag().rank.load(Relaxed)).min().unwrap();
                        prop_assert_eq!(heap.least(&|_| false).unwrap().tag().rank.load(Relaxed), least);
                        let popped = heap.pop().unwrap();
                        prop_assert_eq!(popped.tag().rank.load(Relaxed), least);
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
            let is_leased = |tag: &Arc<Measured>| leases >> (tag.number % 64) & 1 == 1;
            for (number, rank) in ranks.iter().enumerate() {
                heap.insert(tag(number as u32, *rank));
            }
            let mut last = 0;
            while let Some(least) = heap.least(&is_leased) {
                prop_assert!(!is_leased(least));
                prop_assert!(least.tag().rank.load(Relaxed) >= last, "out of order");
                last = least.tag().rank.load(Relaxed);
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
        assert_eq!(heap.least(&|tag| tag.number < 30).unwrap().number, 30);
        assert!(heap.remove(&tags[3]) && !heap.remove(&tags[3]));
        assert_eq!(heap.len(), 39);
        assert_eq!(heap.least(&|tag| tag.number != 4).unwrap().number, 4);
    }

    #[test]
    fn many_leases_do_not_make_each_choice_walk_over_them() {
        let mut heap = LazyHeap::default();
        (0..20_000).for_each(|number| heap.insert(tag(number, number.into())));
        let asked = Cell::new(0u64);
        let leased = |tag: &Arc<Measured>| {
            asked.set(asked.get() + 1);
            tag.number < 5_000
        };
        while heap.least(&leased).is_some() {
            heap.pop();
        }
        assert_eq!(heap.len(), 5_000);
        let most = 20_000 * (RECHECKED as u64 + 1) + 2 * 5_000;
        assert!(asked.get() <= most, "{} questions for 15,000 victims", asked.get());
    }
}
