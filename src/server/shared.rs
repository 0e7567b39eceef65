//! What all threads of the server share.

use super::access_log::AccessLog;
use super::alarm::Alarms;
use super::auth::Guard;
use super::fetcher::queue::Fetcher;
use super::readiness::Readiness;
use super::site::Site;
use crate::cache::Cache;
use crate::cache::eviction::Touch;
use crate::cache::permit::FillPermit;
use crate::config::{ServeOptions, Source};
use crate::exchange::fallback::Fallback;
use crate::exchange::revalidate::Checked;
use crate::exchange::route::Indexes;
use crate::exchange::{Refers, Terms};
use crate::limits;
use crate::metrics::Metrics;
use crate::metrics::labels::Revalidation;
use crate::origin::Origin;
use crate::origin::remote::RemoteOptions;
use crate::ring::kernel::{Kind, Token};
use crate::ring::notifier::Notifier;
use crate::ring::system::monotonic;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{self, Mutex, Race};
use crate::text;
use crate::wake::{Waiter, Wake};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::OnceLock;

/// What both planes share.
pub struct Shared {
    pub options: ServeOptions,
    pub origin: Origin,
    pub cache: Arc<Cache>,
    pub metrics: Metrics,
    pub connections: Arc<Admission>,
    pub mail: Arc<Mail>,
    pub guard: Guard,
    pub site: Site,
    pub fallback: Option<Fallback>,
    pub access_log: AccessLog,
    /// How many the process may have.
    pub descriptors: usize,
    pub alarms: Alarms,
    pub readiness: Readiness,
    /// Who asks a remote origin.
    pub fetcher: Option<Fetcher>,
}

impl Shared {
    /// Who asks the origin, if it is a remote one.
    pub fn fetcher(&self) -> Option<&Fetcher> {
        self.fetcher.as_ref()
    }

    /// How a remote origin is asked.
    pub fn remote_options(&self) -> Option<&RemoteOptions> {
        match &self.options.origin {
            Source::Directory(_) => None,
            Source::Remote(options) => Some(options),
        }
    }

    /// A remote origin fails: that is said once, and again when it has not failed for a while.
    pub fn origin_fails(&self, name: &[u8], why: &dyn std::fmt::Display) {
        let name = text::escape(name);
        tracing::debug!("{name}: {why}");
        self.alarms.origin.raise(monotonic(), || tracing::warn!("the origin fails, first for {name}: {why}"));
    }

    /// Tells those who wait, from a thread that is no worker.
    pub fn wake(&self, waiters: Vec<Waiter>) {
        self.mail.wake(waiters);
    }

    /// What an exchange stands on `now`, on a plane that sends open files as `refers` says.
    pub fn terms<'a>(&'a self, touch: &'a Touch, now: u64, refers: Option<&'a Refers>) -> Terms<'a> {
        Terms {
            cache: &self.cache,
            touch,
            revalidate: self.options.revalidate,
            exchanged: self.origin.exchanged(),
            fallback: self.fallback.as_ref(),
            now,
            refers,
            is_remote: self.fetcher.is_some(),
        }
    }

    /// Which files stand for directories.
    pub fn indexes(&self) -> Indexes<'_> {
        Indexes { name: self.options.index.as_deref(), listings: self.options.listings }
    }

    /// Descriptors that the cache may use now: connections, and some that may come at once, go first.
    pub fn descriptors_for_cache(&self) -> usize {
        let connections = (self.connections.open() * 2).max(self.descriptors / 4);
        let own = own_descriptors(self.descriptors);
        self.descriptors.saturating_sub(own + connections).min(limits::OPEN_FILES)
    }

    /// Connections that may be answered that they are one too many, at the same time and by one worker.
    pub fn refused_at_once(&self) -> usize {
        let spare = own_descriptors(self.descriptors) / 4 / self.options.workers.max(1);
        spare.clamp(1, limits::REFUSED_AT_ONCE)
    }
}

/// Descriptors that are kept for the server itself, of so many.
fn own_descriptors(descriptors: usize) -> usize {
    limits::OWN_DESCRIPTORS.min(descriptors / 2)
}

/// Connections that there are descriptors for: each may have a file of its own, past the cache.
pub fn connections_for(descriptors: usize) -> usize {
    ((descriptors - own_descriptors(descriptors)) / 2).max(1)
}

/// The count of connections of both planes, and its limit.
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
        if sync::is_planted(Race::PlaceTakenAfterLook) {
            return (self.open() < self.limit).then(|| {
                self.open.fetch_add(1, Ordering::Relaxed);
                Admitted(self.clone())
            });
        }
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(self.clone());
        (before < self.limit).then_some(admitted)
    }

    /// Connections that may be open.
    pub fn limit(&self) -> usize {
        self.limit
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

/// Messages to workers from other threads. One that the kernel does not deliver (it has no memory for it) is left for
/// the worker's next tick, so that nobody waits for what has happened already.
pub struct Mail {
    boxes: Vec<Mailbox>,
    notifier: Notifier,
    delegated: Mutex<Vec<FillPermit>>,
}

/// What is known of one worker.
#[derive(Default)]
struct Mailbox {
    ring: OnceLock<RawFd>,
    /// Messages that were not delivered; each is about a connection or a fill, whose counts bound them.
    missed: Mutex<Vec<Token>>,
}

/// The worker that does what is delegated.
pub const DELEGATE: usize = 0;

impl Mail {
    /// # Errors
    /// Those of io_uring_setup.
    pub fn new(workers: usize) -> io::Result<Mail> {
        Ok(Mail::over(Notifier::new()?, workers))
    }

    /// Mail that this notifier brings.
    pub fn over(notifier: Notifier, workers: usize) -> Mail {
        let boxes = (0..workers).map(|_| Mailbox::default()).collect();
        Mail { boxes, notifier, delegated: Mutex::new(Vec::new()) }
    }

    /// A worker's ring is set up.
    pub fn register(&self, worker: usize, ring: RawFd) {
        let _ = self.boxes[worker].ring.set(ring);
    }

    /// The ring of a worker; `None` before it is set up.
    pub fn ring(&self, worker: usize) -> Option<RawFd> {
        self.boxes.get(worker)?.ring.get().copied()
    }

    /// Sends a message to a worker, from a thread that is none; at the latest it is found by the worker's next tick.
    pub fn send(&self, worker: usize, token: Token) {
        let Some(ring) = self.ring(worker) else { return };
        if let Err(error) = self.notifier.send(ring, token) {
            tracing::debug!("a message to worker {worker} waits for its next tick: {error}");
            self.boxes[worker].missed.lock().push(token);
        }
    }

    /// The messages to this worker that were not delivered since the last call.
    pub fn take_missed(&self, worker: usize) -> Vec<Token> {
        let missed = &self.boxes[worker].missed;
        if sync::is_planted(Race::MailEmptiedAfterRead) {
            let tokens = missed.lock().clone();
            missed.lock().clear();
            return tokens;
        }
        std::mem::take(&mut missed.lock())
    }

    /// Has a worker do a fill that a thread without a ring has begun.
    pub fn delegate(&self, permit: FillPermit) {
        self.delegated.lock().push(permit);
        self.send(DELEGATE, Token::new(Kind::Delegated, 0, 0));
    }

    /// What was delegated since the last call.
    pub fn take_delegated(&self) -> Vec<FillPermit> {
        std::mem::take(&mut self.delegated.lock())
    }
}

/// From a thread that is no worker.
impl Wake for Mail {
    fn wake(&self, waiters: Vec<Waiter>) {
        for waiter in waiters {
            match waiter {
                Waiter::Ring { worker, message } => {
                    // A worker that is gone has no connection to wake.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_not_delivered_is_left_for_the_next_tick() {
        let mail = Mail::new(2).unwrap();
        let token = Token::new(Kind::Wake, 3, 4);
        mail.send(1, token);
        assert!(mail.take_missed(1).is_empty(), "nobody is there yet");
        // No ring: the kernel refuses every message to it.
        let file = std::fs::File::open("/dev/null").unwrap();
        mail.register(1, std::os::fd::AsRawFd::as_raw_fd(&file));
        mail.send(1, token);
        mail.wake(vec![Waiter::Ring { worker: 1, message: token.pack() }]);
        assert_eq!(mail.take_missed(1), [token, token]);
        assert!(mail.take_missed(1).is_empty() && mail.take_missed(0).is_empty());
    }
}
