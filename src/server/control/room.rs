//! How much memory all listings together may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::limits;
use crate::origin::directory::Growth;

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
    /// Room for so many bytes in all, taken before they are there.
    pub fn grow(&mut self, bytes: usize) -> Growth {
        if bytes > limits::LISTING_BYTES {
            return Growth::TooLarge;
        }
        let more = bytes.saturating_sub(self.bytes);
        let taken = self.taken.fetch_add(more, Relaxed) + more;
        self.bytes += more;
        if taken > limits::LISTING_BYTES {
            self.taken.fetch_sub(more, Relaxed);
            self.bytes -= more;
            return Growth::Busy;
        }
        Growth::Granted
    }

    /// Gives all of it back.
    pub fn clear(&mut self) {
        self.taken.fetch_sub(std::mem::take(&mut self.bytes), Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_granted_than_there_is() {
        let listings = Listings::default();
        let take = |bytes| {
            let mut room = listings.room();
            (room.grow(bytes) == Growth::Granted).then_some(room)
        };
        assert_eq!(listings.room().grow(limits::LISTING_BYTES + 1), Growth::TooLarge, "also if it is alone");
        let mut rooms: Vec<Room> = std::iter::from_fn(|| take(limits::LISTING_BYTES / 4)).collect();
        assert_eq!(rooms.len(), 4);
        assert_eq!(rooms[0].grow(limits::LISTING_BYTES), Growth::Busy, "others hold the rest");
        rooms[1].clear();
        assert_eq!(rooms[0].grow(limits::LISTING_BYTES / 2), Growth::Granted);
        drop(rooms);
        assert!(take(limits::LISTING_BYTES).is_some());
    }
}
