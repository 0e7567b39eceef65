//! How much memory all listings together may take.

use std::cell::Cell;
use std::rc::Rc;

use crate::limits;

/// Memory for the names of directories that are being listed.
#[derive(Default)]
pub(super) struct Listings(Rc<Cell<usize>>);

/// A part of it, given back when dropped.
pub(super) struct Room {
    of: Rc<Cell<usize>>,
    bytes: usize,
}

impl Listings {
    /// Room for so many bytes of names; one directory is listed in any case.
    pub fn take(&self, bytes: usize) -> Option<Room> {
        let taken = self.0.get();
        if taken > 0 && taken + bytes > limits::LISTING_BYTES {
            return None;
        }
        self.0.set(taken + bytes);
        Some(Room { of: self.0.clone(), bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of.set(self.of.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_listing_goes_ahead_in_any_case_and_no_more_than_there_is_room_for() {
        let listings = Listings::default();
        let huge = listings.take(2 * limits::LISTING_BYTES).expect("the first");
        assert!(listings.take(1).is_none());
        drop(huge);
        let rooms: Vec<Room> = std::iter::from_fn(|| listings.take(limits::LISTING_BYTES / 4)).collect();
        assert_eq!(rooms.len(), 4);
        drop(rooms);
        assert!(listings.take(limits::LISTING_BYTES).is_some());
    }
}
