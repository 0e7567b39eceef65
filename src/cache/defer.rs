//! Deferral: in a full arena a file gets its place at once, and its bytes when they have proved to be wanted.
//!
//! Most of what is asked for while the arena is full is evicted before it is asked for again, and copying it there is most
//! of what such a miss costs. So a file whose first response can leave from the page cache is cached without its bytes:
//! budget, place and rank are those of any other cached file, and the open file stands for what it is to hold. It is read
//! when somebody asks for it again, or when it has stayed for [`crate::limits::DEFER`], whichever comes first.

use super::entry::{Entry, Lease};
use super::fill::{Fill, OpenFile, Progress, Waiter};
use super::{Cache, Departure};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Who knows the bytes of an entry that are not in the arena yet.
pub(super) enum Source {
    /// The fill that makes it; nobody, once it is whole or the reading has failed.
    Filler,
    /// The open file. Nobody reads it yet.
    File { file: Arc<OpenFile>, _place: Place },
    /// The fill that reads them now, after all.
    Resumed(Arc<Fill>),
}

/// The files that may be kept open, by number.
pub(super) struct Quota {
    open: AtomicUsize,
    limit: usize,
}

/// One of those files; given back when dropped.
pub(super) struct Place(Arc<Quota>);

impl Quota {
    pub fn new(limit: usize) -> Arc<Quota> {
        Arc::new(Quota { open: AtomicUsize::new(0), limit })
    }

    fn take(self: &Arc<Self>) -> Option<Place> {
        let place = Place(self.clone());
        (self.open.fetch_add(1, Relaxed) < self.limit).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// The reading of what was deferred.
pub enum Resumed {
    /// It has begun: the caller is the filler, and owes the fill an end.
    Begun(Arc<Fill>),
    /// Another has begun it.
    Joined(Arc<Fill>),
}

impl Cache {
    /// Caches the file without its bytes. The one who waits for the fill sends it from the open file. `None`: not possible
    /// (any more), so that it is to be read now.
    pub fn defer(&self, fill: &Arc<Fill>, entry: &Lease, file: &Arc<OpenFile>) -> Option<Vec<Waiter>> {
        *entry.source.lock() = Source::File { file: file.clone(), _place: self.deferrals.take()? };
        if !self.admit(fill, entry) {
            *entry.source.lock() = Source::Filler;
            return None;
        }
        Some(fill.move_on(Progress::Deferred(entry.clone(), file.clone())))
    }

    /// The bytes of a deferred file are wanted. `None` if it is whole by now; or if it never will be, as the file was written to
    /// since: then it is cached no more.
    pub fn resume(&self, entry: &Lease) -> Option<Resumed> {
        let mut source = entry.source.lock();
        match &*source {
            Source::Filler => None,
            Source::Resumed(fill) => Some(Resumed::Joined(fill.clone())),
            Source::File { file, .. } if file.is_same() => {
                let fill = Arc::new(Fill::resumed(entry, file.clone()));
                *source = Source::Resumed(fill.clone());
                Some(Resumed::Begun(fill))
            }
            Source::File { .. } => {
                *source = Source::Filler;
                drop(source);
                self.remove_entry(entry, Departure::Invalidated);
                None
            }
        }
    }
}

impl Entry {
    /// Nobody reads its bytes any more. (The fill holds a lease of the entry, which must not hold the fill for ever.)
    pub(super) fn end_source(&self) {
        *self.source.lock() = Source::Filler;
    }
}
