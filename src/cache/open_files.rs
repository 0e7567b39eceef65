//! Files that stay open for a while after they were evicted unread: who asks for one again spares its open.
//!
//! A working set larger than the arena is asked for in turns that the arena does not last. As long as such a file was
//! compared with the disk within the revalidation interval, its name need not be looked up again.

use super::entry::Shared;
use super::flight::OpenFile;
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use crate::sync::{self, Mutex, Race};
use std::sync::Arc;
use std::time::Duration;

/// The count of open files.
pub(super) struct Quota {
    open: AtomicUsize,
    limit: AtomicUsize,
}

/// One of them; given back when dropped.
pub(super) struct Slot(Arc<Quota>);

impl Quota {
    /// With a limit of zero.
    pub fn new() -> Arc<Quota> {
        Arc::new(Quota { open: AtomicUsize::new(0), limit: AtomicUsize::new(0) })
    }

    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    /// How many are open beyond the limit.
    pub fn excess(&self) -> usize {
        self.open.load(Relaxed).saturating_sub(self.limit.load(Relaxed))
    }

    pub fn is_used_up(&self) -> bool {
        self.open.load(Relaxed) >= self.limit.load(Relaxed)
    }

    pub fn take(self: &Arc<Self>) -> Option<Slot> {
        if sync::is_planted(Race::PlaceTakenAfterLook) {
            let is_free = self.open.load(Relaxed) < self.limit.load(Relaxed);
            return is_free.then(|| {
                self.open.fetch_add(1, Relaxed);
                Slot(self.clone())
            });
        }
        let slot = Slot(self.clone());
        (self.open.fetch_add(1, Relaxed) < self.limit.load(Relaxed)).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// An open file, and what is known of it.
pub struct Opened {
    pub file: Arc<OpenFile>,
    /// When it was last found under its name: monotonic nanoseconds.
    pub checked: u64,
    pub(super) _slot: Slot,
}

/// The place of such a file in the index.
pub(super) struct Kept {
    name: Arc<[u8]>,
    hash: u64,
    opened: Mutex<Option<Opened>>,
    /// When it is closed: monotonic nanoseconds.
    until: u64,
}

impl Kept {
    /// What stays of `entry`.
    pub fn new(entry: &Shared, file: Arc<OpenFile>, slot: Slot, time: Duration) -> Kept {
        let checked = entry.checked();
        let until = checked.saturating_add(time.as_nanos() as u64);
        let opened = Mutex::new(Some(Opened { file, checked, _slot: slot }));
        Kept { name: entry.name().into(), hash: entry.hash(), opened, until }
    }

    pub fn shared_name(&self) -> &Arc<[u8]> {
        &self.name
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn until(&self) -> u64 {
        self.until
    }

    pub fn is_taken(&self) -> bool {
        self.opened.lock().is_none()
    }

    /// The file, for the one who needs it; `None` if it was taken before.
    pub fn take(&self) -> Option<Opened> {
        self.opened.lock().take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let quota = Quota::new();
        assert!(quota.take().is_none() && quota.is_used_up());
        quota.set_limit(2);
        let slots: Vec<Slot> = std::iter::from_fn(|| quota.take()).collect();
        assert_eq!((slots.len(), quota.is_used_up(), quota.excess()), (2, true, 0));
        quota.set_limit(1);
        assert_eq!(quota.excess(), 1);
        drop(slots);
        assert_eq!((quota.is_used_up(), quota.excess()), (false, 0));
        assert!(quota.take().is_some());
    }
}
