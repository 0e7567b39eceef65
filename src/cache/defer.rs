//! Deferral: in a full arena a file gets its place at once, and its bytes when they have proved to be wanted.
//!
//! Most of what is asked for while the arena is full is evicted before it is asked for again, and copying it there is most
//! of what such a miss costs. So a file whose first response can leave from the page cache is cached without its bytes:
//! budget, place and rank are those of any other cached file, and the open file stands for what it is to hold. It is read
//! when somebody asks for it again, or when it has stayed for [`crate::limits::DEFER`], whichever comes first.

use super::entry::{Entry, Lease};
use super::fill::{Fill, OpenFile, Progress};
use super::opened::Place;
use super::{Cache, Departure};
use crate::wake::Waiter;
use std::sync::Arc;

/// Who knows the bytes of an entry that are not in the arena yet.
pub(super) enum Source {
    /// The fill that makes it; nobody, once it is whole or the reading has failed.
    Filler,
    /// The open file. Nobody reads it yet.
    File { file: Arc<OpenFile>, place: Place },
    /// The fill that reads them now, after all.
    Resumed(Arc<Fill>),
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
        let place = self.open_files.take()?;
        *entry.source.lock() = Source::File { file: file.clone(), place };
        if !self.admit(fill, entry) {
            *entry.source.lock() = Source::Filler;
            return None;
        }
        Some(fill.move_on(Progress::Deferred(entry.clone(), file.clone())))
    }

    /// The bytes of a deferred file are wanted. `None` if it is whole by now; or if it never will be, as the file was written to
    /// since: then it is cached no more.
    pub fn resume(&self, entry: &Lease, now: u64) -> Option<Resumed> {
        let mut source = entry.source.lock();
        match &*source {
            Source::Filler => None,
            Source::Resumed(fill) => Some(Resumed::Joined(fill.clone())),
            Source::File { file, .. } if file.is_same(now) => {
                entry.read_at(file, now);
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
    /// Its file, if nobody reads it.
    pub(super) fn take_file(&self) -> Option<(Arc<OpenFile>, Place)> {
        let mut source = self.source.lock();
        match std::mem::replace(&mut *source, Source::Filler) {
            Source::File { file, place } => Some((file, place)),
            other => {
                *source = other;
                None
            }
        }
    }

    /// Nobody reads its bytes any more. (The fill holds a lease of the entry, which must not hold the fill for ever.)
    pub(super) fn end_source(&self) {
        *self.source.lock() = Source::Filler;
    }
}
