//! Files that are cached without their bytes, and are read at leisure when they have stayed.

use crate::cache::Cache;
use crate::cache::entry::Lease;
use crate::limits;
use std::collections::VecDeque;
use std::sync::Arc;

/// Files that were cached without their bytes, the oldest first.
#[derive(Default)]
pub(super) struct Deferrals(VecDeque<Deferred>);

/// A file that was cached without its bytes.
struct Deferred {
    name: Arc<[u8]>,
    /// When it is to be read, if it is still cached then: monotonic nanoseconds.
    due: u64,
}

impl Deferrals {
    pub fn push(&mut self, name: Arc<[u8]>, now: u64) {
        self.0.push_back(Deferred { name, due: now + limits::DEFER.as_nanos() as u64 });
    }

    /// The next that is to be read now; while the worker `is_busy`, only one that has waited for several times as long
    /// as it should. What has been evicted is forgotten at once, so that the queue stays short.
    pub fn pop_due(&mut self, cache: &Cache, now: u64, is_busy: bool) -> Option<Lease> {
        loop {
            let due = self.0.front()?.due;
            let latest = if is_busy { now.saturating_sub(4 * limits::DEFER.as_nanos() as u64 + 1) } else { now };
            let entry = cache.get(&self.0.front()?.name);
            if due > now || due > latest && entry.is_some() {
                return None;
            }
            self.0.pop_front();
            if entry.is_some() {
                return entry;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::stats::Departure;
    use crate::cache::testing::{cache, deferred};

    /// In the order in which they were deferred, when they are due; those that have left the cache are passed over.
    #[test]
    fn what_was_deferred_and_has_stayed_is_read_in_its_turn() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, _) = cache();
        let mut deferrals = Deferrals::default();
        let (time, start) = (limits::DEFER.as_nanos() as u64, 1_000);
        for name in [b"a", b"b", b"c"] {
            deferred(&cache, directory.path(), name, 5000);
            deferrals.push((*name).into(), start);
        }
        assert!(deferrals.pop_due(&cache, start + time - 1, false).is_none(), "not yet");
        cache.remove(b"a", Departure::Deleted);
        assert_eq!(deferrals.pop_due(&cache, start + time, false).unwrap().name(), b"b");
        assert!(deferrals.pop_due(&cache, start + 5 * time, true).is_none(), "others are being read");
        assert_eq!(
            deferrals.pop_due(&cache, start + 5 * time + 1, true).unwrap().name(),
            b"c",
            "it has waited long enough"
        );
        assert!(deferrals.0.is_empty() && deferrals.pop_due(&cache, u64::MAX, false).is_none());
    }
}
