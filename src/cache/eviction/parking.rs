//! Where policies keep the entries that would go next but are leased. They are looked at again a few at a time, so that
//! hundreds of leases do not make every choice of a victim walk over all of them.

use super::{NOWHERE, Tag};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// In `Tag::place`: the tag is parked.
const PARKED: u32 = 1 << 31;
/// The bits of `Tag::place` that say where in a structure; those between are a mark of the structure's own.
pub(super) const INDEX: u32 = (1 << 30) - 1;

/// Parked entries looked at again before each choice. While no more than this many are leased, the choice is exact among
/// the others; with more, an entry waits for at most (parked / 16) choices after its lease has ended.
pub(super) const RECHECKED: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Parking {
    tags: Vec<Arc<Tag>>,
    /// Where to look next.
    next: usize,
    mark: u32,
}

impl Parking {
    /// `mark`: bits between `PARKED` and [`INDEX`] that every parked tag's place shall have.
    pub(super) fn marked(mark: u32) -> Parking {
        Parking { mark, ..Parking::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.tags.len()
    }

    pub(super) fn holds(place: u32) -> bool {
        place != NOWHERE && place & PARKED != 0
    }

    pub(super) fn park(&mut self, tag: Arc<Tag>) {
        tag.place.store(PARKED | self.mark | self.tags.len() as u32, Relaxed);
        self.tags.push(tag);
    }

    /// Takes back a tag for whose place [`Parking::holds`].
    pub(super) fn unpark(&mut self, place: u32) -> Arc<Tag> {
        let index = (place & INDEX) as usize;
        let tag = self.tags.swap_remove(index);
        if let Some(moved) = self.tags.get(index) {
            moved.place.store(PARKED | self.mark | index as u32, Relaxed);
        }
        tag.place.store(NOWHERE, Relaxed);
        tag
    }

    /// Looks at up to `count` parked entries, in turn, and takes those back that are no longer leased.
    pub(super) fn recheck(&mut self, count: usize, leased: &dyn Fn(&Tag) -> bool, mut back: impl FnMut(Arc<Tag>)) {
        for _ in 0..count.min(self.tags.len()) {
            if self.next >= self.tags.len() {
                self.next = 0;
            }
            if leased(&self.tags[self.next]) {
                self.next += 1;
            } else {
                back(self.unpark(self.next as u32));
            }
        }
    }
}
