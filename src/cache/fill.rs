//! Single flight: one reader per name, and everybody else who wants it waits for that one.
//!
//! A fill belongs to nobody's connection. Whoever goes away, the reading goes on, and whoever waits learns how it ends.

use super::entry::Lease;
use crate::http::cache_status::Reason;
use crate::http::representation::Representation;
use crate::ring::kernel::Token;
use parking_lot::Mutex;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;

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
    /// It is being read; [`crate::cache::entry::Entry::filled`] tells how far.
    Filling(Lease),
    /// It is whole.
    Ready(Lease),
    /// It is served without being cached.
    Uncached(Arc<Uncached>),
    /// It cannot be had.
    Failed(Failure),
}

/// An open file that is not cached.
pub struct Uncached {
    pub file: OwnedFd,
    pub representation: Representation,
    pub reason: Reason,
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
            Progress::Filling(entry) => seen.is_none_or(|seen| entry.filled() > seen),
            Progress::Ready(_) | Progress::Uncached(_) | Progress::Failed(_) => true,
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
