//! `larger-first`, the historical rule of this server: to make room for a file, delete one cached file larger than it;
//! if there is none, keep deleting until there is room.
//!
//! The rule leaves open which one. Here it is the least recently used of those that qualify, found without scanning:
//! files are kept in classes by size, four to the octave, each in order of use, so that every file of a higher class is
//! larger. Only when there is none is the wanted file's own class searched, in order of size.

use super::heap::LazyHeap;
use super::lru::Clock;
use super::{Candidate, Object, Policy, Touch, Victim};
use crate::sync::atomic::Ordering::Relaxed;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct LargerFirst<T> {
    clock: Arc<Clock>,
    /// By size class, each in order of use.
    classes: Vec<LazyHeap<T>>,
    /// By (size, address, which tells equal sizes apart).
    by_size: BTreeMap<(u64, usize), T>,
}

impl<T: Object> LargerFirst<T> {
    pub(super) fn new() -> LargerFirst<T> {
        LargerFirst { clock: Arc::default(), classes: Vec::new(), by_size: BTreeMap::new() }
    }

    /// The least recently used file of the classes from `first` on.
    fn least_recent(&mut self, first: usize, leased: &dyn Fn(&T) -> bool) -> Option<T> {
        let classes = self.classes.iter_mut().skip(first);
        let least =
            classes.filter_map(|class| class.least(leased)).min_by_key(|object| object.tag().rank.load(Relaxed));
        least.cloned()
    }

    /// The smallest file larger than `size`.
    fn next_larger(&self, size: u64, leased: &dyn Fn(&T) -> bool) -> Option<T> {
        let larger = self.by_size.range((Excluded((size, usize::MAX)), Unbounded));
        larger.map(|(_, object)| object).find(|object| !leased(object)).cloned()
    }

    fn forget(&mut self, object: &T) -> bool {
        let known = self.by_size.remove(&(object.size(), object.address())).is_some();
        known && self.classes[class_of(object.size())].remove(object)
    }
}

impl<T: Object> Policy<T> for LargerFirst<T> {
    fn touch(&self) -> Touch {
        Touch::Recency(self.clock.clone())
    }

    fn handles(&self) -> usize {
        2
    }

    fn miss(&mut self, _: &Candidate) {}

    fn insert(&mut self, object: T) {
        self.clock.start(object.tag());
        let class = class_of(object.size());
        if class >= self.classes.len() {
            self.classes.resize_with(class + 1, LazyHeap::default);
        }
        self.by_size.insert((object.size(), object.address()), object.clone());
        self.classes[class].insert(object);
    }

    fn remove(&mut self, object: &T) {
        self.forget(object);
    }

    fn victim(&mut self, wanted: &Candidate, leased: &dyn Fn(&T) -> bool) -> Victim<T> {
        let larger = self.least_recent(class_of(wanted.size) + 1, leased);
        let victim = larger.or_else(|| self.next_larger(wanted.size, leased)).or_else(|| self.least_recent(0, leased));
        match victim {
            Some(object) => {
                self.forget(&object);
                Victim::Evict(object)
            }
            None => Victim::None,
        }
    }
}

/// Four classes to the octave: every size of a class is larger than every size of a lower one.
fn class_of(size: u64) -> usize {
    let octave = size.max(4).ilog2();
    (octave * 4) as usize + (size.max(4) >> (octave - 2) & 3) as usize - 8
}

#[cfg(test)]
mod tests {
    use super::class_of;

    #[test]
    fn classes_are_in_order_of_size() {
        assert_eq!(class_of(0), 0);
        let sizes = (0..5000).chain((13..63).map(|bits| (1 << bits) - 1)).chain([u64::MAX]);
        let classes: Vec<usize> = sizes.map(class_of).collect();
        assert!(classes.is_sorted());
        assert_eq!((class_of(1 << 20), class_of((1 << 20) + (1 << 18) - 1)), (72, 72));
        assert_eq!(class_of((1 << 20) + (1 << 18)), 73);
    }
}
