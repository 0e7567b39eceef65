//! Where the bytes of an entry are. In most cases they are in the arena; but in a full arena a file gets its place at
//! once, and its bytes when they have proved to be wanted.
//!
//! Most of what is asked for while the arena is full is evicted before it is asked for again, and copying it there is
//! most of what such a miss costs. So a file whose first response can leave from the page cache is cached without its
//! bytes: budget, place and rank are those of any other cached file, and the open file stands for what it is to hold.
//! It is read when somebody asks for it again, or when it has stayed for [`crate::limits::DEFER`], whichever comes
//! first.

use super::entry::{Entry, Lease, Shared};
use super::flight::{Flight, OpenFile, Progress};
use super::open_files::{Kept, Slot};
use super::permit::FillPermit;
use super::{Cache, Departure};
use crate::wake::Waiter;
use std::sync::Arc;

/// Where the bytes of an entry are: in the arena, as far as they have been read, or elsewhere. It moves on together
/// with the entry's place in the index: nobody finds an entry there whose bytes are nowhere.
pub(super) type Residency = Option<Box<Elsewhere>>;

pub(super) enum Elsewhere {
    /// In the open file. Nobody reads it yet.
    PageCache { file: Arc<OpenFile>, slot: Slot },
    /// On their way from the open file to the arena, after all.
    Reading(Arc<Flight>),
    /// Nowhere: the entry has left the index before anybody read them.
    Gone,
}

/// The reading of what was deferred.
pub enum Resumed {
    /// It has begun.
    Begun(FillPermit),
    /// Another has begun it.
    Joined(Arc<Flight>),
}

impl Cache {
    /// Caches the file without its bytes. The one who waits for the fill sends it from the open file. `None`: not
    /// possible (any more), so that it is to be read now.
    pub(super) fn defer(&self, fill: &Arc<Flight>, entry: &Lease, file: &Arc<OpenFile>) -> Option<Vec<Waiter>> {
        let slot = self.open_files.take()?;
        *entry.residency.lock() = Some(Box::new(Elsewhere::PageCache { file: file.clone(), slot }));
        if !self.admit(fill, entry) {
            *entry.residency.lock() = None;
            return None;
        }
        Some(fill.move_on(Progress::Deferred(entry.clone(), file.clone())))
    }

    /// The bytes of a deferred file are wanted. `None` if it is whole by now; or if it never will be, as it has left
    /// the cache, or was written to since and leaves it now.
    pub fn resume(self: &Arc<Self>, entry: &Lease, now: u64) -> Option<Resumed> {
        let mut residency = entry.residency.lock();
        match residency.as_deref()? {
            Elsewhere::Gone => None,
            Elsewhere::Reading(fill) => Some(Resumed::Joined(fill.clone())),
            Elsewhere::PageCache { file, .. } if file.is_same(now) => {
                entry.read_at(file, now);
                let fill = Arc::new(Flight::resumed(entry, file.clone()));
                *residency = Some(Box::new(Elsewhere::Reading(fill.clone())));
                Some(Resumed::Begun(FillPermit::new(self, fill)))
            }
            Elsewhere::PageCache { .. } => {
                drop(residency);
                self.remove_entry(entry, Departure::Invalidated);
                None
            }
        }
    }

    /// Takes an entry that the policy gives up out of the index. Its file, if nobody has read it, stays open: it is
    /// returned.
    pub(super) fn evict(&self, entry: &Shared) -> Option<Arc<Kept>> {
        let mut residency = entry.residency.lock();
        // What is in the arena, or on its way there, stays as long as there are leases of it.
        if let Some(Elsewhere::PageCache { .. }) = residency.as_deref()
            && let Some(elsewhere) = residency.replace(Box::new(Elsewhere::Gone))
            && let Elsewhere::PageCache { file, slot } = *elsewhere
            // None is closed for another: of files that come in turn, the oldest is the one needed next.
            && !self.open_files.is_used_up()
        {
            let kept = Arc::new(Kept::new(entry, file, slot, self.open_time));
            self.index.keep(entry, &kept);
            return Some(kept);
        }
        self.index.remove_entry(entry);
        None
    }
}

impl Entry {
    /// Nobody reads its bytes any more. (The fill holds a lease of the entry, which must not hold the fill for ever.)
    pub(super) fn end_reading(&self) {
        *self.residency.lock() = None;
    }
}
