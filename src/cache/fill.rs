//! Single flight: one reader per name, and everybody else who wants it waits for that one.
//!
//! A fill belongs to nobody's connection. Whoever goes away, the reading goes on, and whoever waits learns how it ends.

use super::entry::Lease;
use crate::http::cache_status::Reason;
use crate::http::representation::Representation;
use crate::origin::Found;
use crate::ring::kernel::Token;
use parking_lot::Mutex;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// The reading of one file, from its open to its end.
pub struct Fill {
    name: Box<[u8]>,
    hash: u64,
    /// Set for a fill that is not in the index: nobody joins it, and why it will not be cached.
    aside: Option<Reason>,
    state: Mutex<Flight>,
}

struct Flight {
    progress: Progress,
    waiters: Vec<Waiter>,
}

/// How far a fill is.
#[derive(Clone)]
pub enum Progress {
    /// The file is being opened.
    Opening,
    /// It is being read from the open file; [`crate::cache::entry::Entry::filled`] tells how far.
    Filling(Lease, Arc<OpenFile>),
    /// It has its memory, and stays in the open file until it is asked for again: see [`super::defer`].
    Deferred(Lease, Arc<OpenFile>),
    /// It is whole.
    Ready(Lease),
    /// It is served from the open file without being cached.
    Uncached(Arc<OpenFile>, Reason),
    /// It cannot be had.
    Failed(Failure),
}

/// A file of the origin that is open, in the version it was found to be.
pub struct OpenFile {
    pub fd: OwnedFd,
    pub representation: Representation,
    /// It was last changed so long ago that nobody seems to be writing to it: its pages in the page cache may be sent by
    /// reference.
    pub is_settled: bool,
}

impl OpenFile {
    /// `settled` is for how long a file must have been left alone to be [settled](OpenFile::is_settled).
    pub fn new(fd: OwnedFd, representation: Representation, settled: Duration) -> OpenFile {
        let is_settled = !representation.identity.was_changed_within(settled);
        OpenFile { fd, representation, is_settled }
    }

    /// Whether it still is that version, as far as its times can tell.
    pub fn is_same(&self) -> bool {
        matches!(Found::of(self.fd.as_fd()), Ok(Found::File(now)) if now.same_bytes(&self.representation.identity))
    }
}

/// Why a file cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// There is no such file, or none beneath the root.
    NotFound,
    /// It is a directory.
    IsDirectory,
    /// It is neither a file nor a directory, or may not be read.
    Forbidden,
    /// It changed while it was read.
    Changed,
    /// The origin failed with this errno.
    Io(i32),
}

/// Who is told when a fill has moved on.
#[derive(Debug, Clone)]
pub enum Waiter {
    /// A connection of a worker.
    Connection { worker: usize, token: Token },
    /// A task of the control side.
    Task(Waker),
}

impl Fill {
    pub(super) fn new(name: &[u8], hash: u64, aside: Option<Reason>) -> Fill {
        let state = Mutex::new(Flight { progress: Progress::Opening, waiters: Vec::new() });
        Fill { name: name.into(), hash, aside, state }
    }

    /// The reading of a file that was opened before.
    pub(super) fn resumed(entry: &Lease, file: Arc<OpenFile>) -> Fill {
        let progress = Progress::Filling(entry.clone(), file);
        let state = Mutex::new(Flight { progress, waiters: Vec::new() });
        Fill { name: entry.name().into(), hash: entry.hash(), aside: None, state }
    }

    /// What is being read, and whence, once that is known.
    pub fn reading(&self) -> Option<(Lease, Arc<OpenFile>)> {
        match &self.state.lock().progress {
            Progress::Filling(entry, file) => Some((entry.clone(), file.clone())),
            Progress::Opening
            | Progress::Deferred(..)
            | Progress::Ready(_)
            | Progress::Uncached(..)
            | Progress::Failed(_) => None,
        }
    }

    /// One connection waits for it, and nobody else.
    pub fn is_wanted_once(&self) -> bool {
        matches!(self.state.lock().waiters[..], [Waiter::Connection { .. }])
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Why it will not be cached, if that was known from the beginning.
    pub fn aside(&self) -> Option<Reason> {
        self.aside
    }

    /// How far the fill is, if that is further than the caller has seen; else the caller is told (once) when it has moved
    /// on. `seen` is how many bytes the caller has had, `None` if it does not even know what the file is.
    pub fn poll(&self, seen: Option<u64>, waiter: impl FnOnce() -> Waiter) -> Option<Progress> {
        let mut state = self.state.lock();
        let news = match &state.progress {
            Progress::Opening => false,
            Progress::Filling(entry, _) => seen.is_none_or(|seen| entry.filled() > seen),
            Progress::Deferred(..) | Progress::Ready(_) | Progress::Uncached(..) | Progress::Failed(_) => true,
        };
        if news {
            return Some(state.progress.clone());
        }
        state.waiters.push(waiter());
        None
    }

    pub(super) fn advance(&self, entry: &Lease, filled: u64) -> Vec<Waiter> {
        let mut state = self.state.lock();
        entry.set_filled(filled);
        std::mem::take(&mut state.waiters)
    }

    pub(super) fn move_on(&self, progress: Progress) -> Vec<Waiter> {
        let mut state = self.state.lock();
        state.progress = progress;
        std::mem::take(&mut state.waiters)
    }
}
