//! Where policies keep the entries that would go next but are leased. They are looked at again a few at a time, so that
//! hundreds of leases do not make every choice of a victim walk over all of them.

use super::{NOWHERE, Object};
use crate::sync::atomic::Ordering::Relaxed;

/// In `Tag::place`: the object is parked.
const PARKED: u32 = 1 << 31;
/// The bits of `Tag::place` that say where in a structure; those between are a mark of the structure's own.
pub(super) const INDEX: u32 = (1 << 30) - 1;

/// Parked entries looked at again before each choice. While no more than this many are leased, the choice is exact
/// among the others; with more, an entry waits for at most (parked / 16) choices after its lease has ended.
pub(super) const RECHECKED: usize = 16;

#[derive(Debug)]
pub(super) struct Parking<T> {
    objects: Vec<T>,
    /// Where to look next.
    next: usize,
    mark: u32,
}

/// Whether a place is one of parked objects.
pub(super) fn is_parked(place: u32) -> bool {
    place != NOWHERE && place & PARKED != 0
}

impl<T: Object> Parking<T> {
    /// `mark`: bits between `PARKED` and [`INDEX`] that every parked object's place shall have.
    pub(super) fn marked(mark: u32) -> Parking<T> {
        Parking { objects: Vec::new(), next: 0, mark }
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn park(&mut self, object: T) {
        object.tag().place.store(PARKED | self.mark | self.objects.len() as u32, Relaxed);
        self.objects.push(object);
    }

    /// Takes back the object at a place that [`is_parked`].
    pub(super) fn unpark(&mut self, place: u32) -> T {
        let index = (place & INDEX) as usize;
        let object = self.objects.swap_remove(index);
        if let Some(moved) = self.objects.get(index) {
            moved.tag().place.store(PARKED | self.mark | index as u32, Relaxed);
        }
        object.tag().place.store(NOWHERE, Relaxed);
        object
    }

    /// Looks at up to `count` parked entries, in turn, and takes those back that are no longer leased.
    pub(super) fn recheck(&mut self, count: usize, leased: &dyn Fn(&T) -> bool, mut back: impl FnMut(T)) {
        for _ in 0..count.min(self.objects.len()) {
            if self.next >= self.objects.len() {
                self.next = 0;
            }
            if leased(&self.objects[self.next]) {
                self.next += 1;
            } else {
                back(self.unpark(self.next as u32));
            }
        }
    }
}
