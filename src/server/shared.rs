//! What all threads of the server share.

use super::access_log::AccessLog;
use super::auth::Guard;
use crate::cache::Cache;
use crate::cache::fill::Fill;
use crate::config::ServeOptions;
use crate::exchange::revalidate::Checked;
use crate::limits;
use crate::metrics::Metrics;
use crate::metrics::labels::Revalidation;
use crate::origin::Origin;
use crate::ring::kernel::{Kind, Token};
use crate::ring::notifier::Notifier;
use crate::wake::Waiter;
use parking_lot::Mutex;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What both lanes share.
pub struct Shared {
    pub options: ServeOptions,
    pub origin: Origin,
    pub cache: Cache,
    pub metrics: Metrics,
    pub connections: Arc<Admission>,
    pub mail: Mail,
    pub guard: Guard,
    pub access_log: AccessLog,
    /// How many the process may have.
    pub descriptors: usize,
}

impl Shared {
    /// Descriptors that the cache may use now: connections, and some that may come at once, go first.
    pub fn descriptors_for_cache(&self) -> usize {
        let connections = (self.connections.open() * 2).max(self.descriptors / 4);
        self.descriptors.saturating_sub(limits::OWN_DESCRIPTORS + connections).min(limits::OPEN_FILES)
    }
}

/// The count of connections of both lanes, and its limit.
pub struct Admission {
    open: AtomicUsize,
    limit: usize,
}

/// A connection's place among those that are allowed; given back when dropped.
pub struct Admitted(Arc<Admission>);

impl Admission {
    pub fn new(limit: usize) -> Arc<Admission> {
        Arc::new(Admission { open: AtomicUsize::new(0), limit })
    }

    /// A place, if there is one.
    pub fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(self.clone());
        (before < self.limit).then_some(admitted)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Messages between threads: where each worker's ring is, and what was left for it.
pub struct Mail {
    rings: Vec<OnceLock<RawFd>>,
    notifier: Notifier,
    delegated: Mutex<Vec<Arc<Fill>>>,
}

/// The worker that does what is delegated.
const DELEGATE: usize = 0;

impl Mail {
    /// # Errors
    /// Those of io_uring_setup.
    pub fn new(workers: usize) -> io::Result<Mail> {
        let rings = (0..workers).map(|_| OnceLock::new()).collect();
        Ok(Mail { rings, notifier: Notifier::new()?, delegated: Mutex::new(Vec::new()) })
    }

    /// A worker's ring is set up.
    pub fn register(&self, worker: usize, ring: RawFd) {
        let _ = self.rings[worker].set(ring);
    }

    /// The ring of a worker; `None` before it is set up.
    pub fn ring(&self, worker: usize) -> Option<RawFd> {
        self.rings.get(worker)?.get().copied()
    }

    /// Sends a message to a worker, from a thread that is none.
    ///
    /// # Errors
    /// Those of MSG_RING.
    pub fn send(&self, worker: usize, token: Token) -> io::Result<()> {
        match self.ring(worker) {
            Some(ring) => self.notifier.send(ring, token),
            None => Ok(()),
        }
    }

    /// Has a worker do a fill that a thread without a ring has begun.
    ///
    /// # Errors
    /// Those of MSG_RING; the caller then owes the fill its end.
    pub fn delegate(&self, fill: Arc<Fill>) -> io::Result<()> {
        self.delegated.lock().push(fill);
        self.send(DELEGATE, Token::new(Kind::Delegated, 0, 0))
    }

    /// What was delegated since the last call.
    pub fn take_delegated(&self) -> Vec<Arc<Fill>> {
        std::mem::take(&mut self.delegated.lock())
    }

    /// Tells those who wait for a fill that it has moved on, from a thread that is no worker.
    pub fn wake(&self, waiters: Vec<Waiter>) {
        for waiter in waiters {
            match waiter {
                // A worker that is gone has no connection to wake.
                Waiter::Ring { worker, message } => {
                    let _ = Token::unpack(message).map(|token| self.send(worker, token));
                }
                Waiter::Task(waker) => waker.wake(),
            }
        }
    }
}

impl From<Checked> for Revalidation {
    fn from(checked: Checked) -> Revalidation {
        match checked {
            Checked::Unchanged => Revalidation::Unchanged,
            Checked::Changed => Revalidation::Changed,
            Checked::Gone => Revalidation::Gone,
            Checked::Denied | Checked::Failed | Checked::RootAbsent => Revalidation::Failed,
        }
    }
}
