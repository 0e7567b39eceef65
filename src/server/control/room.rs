//! How much memory all listings together may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::limits;

/// Memory for the names of directories that are being listed: how much of it is taken.
#[derive(Default)]
pub(super) struct Listings(Arc<AtomicUsize>);

/// One listing's part of it, given back when dropped.
pub(super) struct Room {
    taken: Arc<AtomicUsize>,
    bytes: usize,
}

impl Listings {
    /// A part of nothing yet.
    pub fn room(&self) -> Room {
        Room { taken: self.0.clone(), bytes: 0 }
    }
}

impl Room {
    /// Room for so many bytes in all, taken before they are there. False if others hold too much of it: a listing that is alone
    /// goes ahead in any case.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let taken = self.taken.fetch_add(more, Relaxed) + more;
        self.bytes += more;
        if taken > limits::LISTING_BYTES && taken > self.bytes {
            self.taken.fetch_sub(more, Relaxed);
            self.bytes -= more;
            return false;
        }
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_listing_goes_ahead_in_any_case_and_no_more_than_there_is_room_for() {
        let listings = Listings::default();
        let take = |bytes| {
            let mut room = listings.room();
            room.grow(bytes).then_some(room)
        };
        let huge = take(2 * limits::LISTING_BYTES).expect("the first");
        assert!(take(1).is_none());
        drop(huge);
        let mut rooms: Vec<Room> = std::iter::from_fn(|| take(limits::LISTING_BYTES / 4)).collect();
        assert_eq!(rooms.len(), 4);
        assert!(!rooms[0].grow(limits::LISTING_BYTES), "others hold the rest");
        rooms.truncate(1);
        assert!(rooms[0].grow(3 * limits::LISTING_BYTES), "it is alone");
        drop(rooms);
        assert!(take(limits::LISTING_BYTES).is_some());
    }
}
