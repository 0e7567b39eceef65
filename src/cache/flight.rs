//! Single flight: one reader per name, and everybody else who wants it waits for that one.
//!
//! A fill belongs to nobody's connection. Whoever goes away, the reading goes on, and whoever waits learns how it ends.

use super::entry::Lease;
use super::open_files::Opened;
use crate::limits;
use crate::machine;
use crate::origin::remote::Passing;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{self, Mutex, Race};
use crate::version::{Change, Described, SETTLING, Trust, Version};
use crate::wake::{Waiter, Waiters};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// The reading of one file, from its open to its end.
pub struct Flight {
    name: Arc<[u8]>,
    hash: u64,
    /// Set for a fill that is not in the index: nobody joins it, and why it will not be cached.
    aside: Option<Bypass>,
    /// The file, if it was still open.
    opened: Mutex<Option<Opened>>,
    /// The response that is being validated, and replaced if it no longer is the current one.
    stale: Option<Lease>,
    /// When the name was looked up last: monotonic nanoseconds.
    looked: AtomicU64,
    state: Mutex<Moving>,
}

struct Moving {
    progress: Progress,
    waiters: Waiters,
    /// Interim responses of a remote origin, in HTTP's form.
    interim: Vec<Arc<[u8]>>,
}

/// How far a fill is.
#[derive(Clone)]
pub enum Progress {
    /// The file is being opened.
    Opening,
    /// It is being read from the open file; [`crate::cache::entry::Entry::filled`] tells how far.
    Filling(Lease, Arc<OpenFile>),
    /// It has its memory, and is being read into the page cache only; [`OpenFile::fetched`] tells how far.
    Fetching(Lease, Arc<OpenFile>),
    /// It has its memory, and stays in the open file until it is asked for again: see [`super::residency`].
    Deferred(Lease, Arc<OpenFile>),
    /// It is coming from a remote origin; [`crate::cache::entry::Entry::filled`] tells how far.
    Arriving(Lease),
    /// It is whole.
    Ready(Lease),
    /// What was [stale](Flight::stale) has been validated: the origin says that it is current.
    Validated(Lease),
    /// What is stale is served, since the origin fails.
    Stale(Lease),
    /// The origin's answer is for the request alone that it was asked for.
    Passing(Arc<Passing>),
    /// It is served from the open file without being cached.
    Uncached(Arc<OpenFile>, Bypass),
    /// It cannot be had.
    Failed(Failure),
}

/// A file of the origin that is open, in the version it was found to be.
pub struct OpenFile {
    pub fd: OwnedFd,
    /// The name it was opened by.
    pub name: Arc<[u8]>,
    pub described: Described,
    /// It was last changed so long ago that nobody seems to be writing to it: its pages in the page cache may be sent
    /// by reference.
    pub is_settled: bool,
    /// How far its times could be trusted when it was opened.
    trust: Trust,
    /// When it was opened: monotonic nanoseconds.
    opened: u64,
    /// When it was surely found under its name: monotonic nanoseconds.
    found: AtomicU64,
    /// When it was last found to be that version: monotonic nanoseconds.
    compared: AtomicU64,
    /// When it was last found to be in the page cache as a whole: monotonic nanoseconds.
    warm: AtomicU64,
    /// Bytes that were read into the page cache; see [`NOT_FETCHED`].
    fetched: AtomicU64,
}

/// What [`OpenFile::fetched`] counts while nobody fetches the file.
const NOT_FETCHED: u64 = u64::MAX;

impl OpenFile {
    /// The file was opened by `name` and found to be this version `now`, when its last change was `age` ago as far as
    /// anybody knows. `settled` is for how long a file must have been left alone to be [settled](OpenFile::is_settled).
    pub fn new(
        fd: OwnedFd,
        name: Arc<[u8]>,
        described: Described,
        age: Option<Duration>,
        settled: Duration,
        now: u64,
    ) -> OpenFile {
        OpenFile {
            fd,
            name,
            described,
            is_settled: settled.is_zero() || age.is_some_and(|age| age >= settled),
            trust: Trust::after(age),
            opened: now,
            found: AtomicU64::new(now),
            compared: AtomicU64::new(now),
            warm: AtomicU64::new(0),
            fetched: AtomicU64::new(NOT_FETCHED),
        }
    }

    /// The file was found under its name at `found`, before it was looked at.
    pub fn found_at(self, found: u64) -> OpenFile {
        self.found.store(found, Relaxed);
        self
    }

    /// When it was surely found under its name, or like that since.
    pub fn found(&self) -> u64 {
        self.found.load(Relaxed)
    }

    /// It was found to be like that again.
    pub fn is_still_like_that(&self, now: u64) {
        self.found.fetch_max(now, Relaxed);
        self.compared.store(now, Relaxed);
    }

    /// What can be had at once of the bytes from `at`.
    pub fn sample(&self, at: u64) -> Vec<u8> {
        let mut sample = vec![0; limits::SAMPLE_BYTES];
        let read = machine::read_now(&self.fd, &mut sample, at).unwrap_or(0);
        sample.truncate(read);
        sample
    }

    /// How far its times can be trusted, if it is still found to be that version `now`.
    pub fn trust(&self, now: u64) -> Trust {
        match now.saturating_sub(self.opened) >= SETTLING.as_nanos() as u64 {
            true => Trust::Settled,
            false => self.trust,
        }
    }

    /// How far it was read into the page cache, while it is.
    pub fn fetched(&self) -> Option<u64> {
        Some(self.fetched.load(Acquire)).filter(|&to| to != NOT_FETCHED)
    }

    /// It is being read into the page cache, and is there up to this byte; `None`: nobody reads it there any more.
    pub fn set_fetched(&self, to: Option<u64>) {
        self.fetched.store(to.unwrap_or(NOT_FETCHED), Release);
    }

    /// All of it was found to be in the page cache.
    pub fn found_warm(&self, now: u64) {
        self.warm.store(now, Relaxed);
    }

    /// Whether that is not long ago.
    pub fn is_warm(&self, now: u64) -> bool {
        let found = self.warm.load(Relaxed);
        found > 0 && now.saturating_sub(found) <= limits::WARM.as_nanos() as u64
    }

    /// Whether it still is that version and has all its names, as far as its times can tell.
    pub fn is_same(&self, now: u64) -> bool {
        let began = &self.described.version;
        let found = Version::of(self.fd.as_fd());
        let same = matches!(found, Ok(Some(found)) if began.compare(&found, || true) == Change::Same);
        if same {
            self.is_still_like_that(now);
        }
        same
    }

    /// Whether it was found to be that version at this very time: in this turn of an event loop.
    pub fn was_compared(&self, now: u64) -> bool {
        self.compared.load(Relaxed) == now
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
    /// The directory that is served is not there at present.
    RootAbsent,
    /// The origin failed with this errno.
    Io(i32),
    /// A remote origin gave no answer that could be passed on: the status that says why (RFC 9110, 15.6).
    Remote(u16),
}

/// Why a file is served without being cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// It is larger than the arena.
    TooLarge,
    /// All memory that could be freed is in use by responses in progress.
    NoRoom,
    /// The eviction policy holds everything it would displace for more valuable.
    NotAdmitted,
    /// It changed while it was read.
    Changed,
    /// Only its properties were asked for.
    HeadOnly,
    /// The request or the origin wants it for this request alone.
    Private,
}

impl Flight {
    fn new(name: Arc<[u8]>, hash: u64, progress: Progress) -> Flight {
        let state = Mutex::new(Moving { progress, waiters: Waiters::default(), interim: Vec::new() });
        Flight { name, hash, aside: None, opened: Mutex::new(None), stale: None, looked: AtomicU64::new(0), state }
    }

    /// The reading of a file of which nothing is known, or which is `opened` still.
    pub(super) fn begun(name: Arc<[u8]>, hash: u64, opened: Option<Opened>) -> Flight {
        Flight { opened: Mutex::new(opened), ..Flight::new(name, hash, Progress::Opening) }
    }

    /// One that no other request joins, as its file will not be cached.
    pub(super) fn set_aside(name: &[u8], hash: u64, reason: Bypass) -> Flight {
        Flight { aside: Some(reason), ..Flight::new(name.into(), hash, Progress::Opening) }
    }

    /// The reading of a file that is cached without its bytes.
    pub(super) fn resumed(entry: &Lease, file: Arc<OpenFile>) -> Flight {
        Flight::new(entry.name().into(), entry.hash(), Progress::Filling(entry.clone(), file))
    }

    /// The validation of a response.
    pub(super) fn validating(stale: &Lease) -> Flight {
        let flight = Flight::new(stale.name().into(), stale.hash(), Progress::Opening);
        Flight { stale: Some(stale.clone()), ..flight }
    }

    /// The response that is being validated.
    pub fn stale(&self) -> Option<&Lease> {
        self.stale.as_ref()
    }

    /// The name is being looked up, from `now` on.
    pub fn looks(&self, now: u64) {
        self.looked.store(now, Relaxed);
    }

    /// When its name was looked up last, for the failure that was found: what came to be later may not have been seen.
    pub fn looked(&self) -> u64 {
        self.looked.load(Relaxed)
    }

    /// The file, if it was still open when the fill was begun.
    pub fn take_opened(&self) -> Option<Opened> {
        self.opened.lock().take()
    }

    /// What is being read, and whence, once that is known.
    pub fn reading(&self) -> Option<(Lease, Arc<OpenFile>)> {
        match &self.state.lock().progress {
            Progress::Filling(entry, file) => Some((entry.clone(), file.clone())),
            Progress::Opening
            | Progress::Fetching(..)
            | Progress::Deferred(..)
            | Progress::Arriving(_)
            | Progress::Ready(_)
            | Progress::Validated(_)
            | Progress::Stale(_)
            | Progress::Passing(_)
            | Progress::Uncached(..)
            | Progress::Failed(_) => None,
        }
    }

    /// So many connections wait for it, and nobody else.
    pub fn is_waited_for_by(&self, connections: usize) -> bool {
        self.state.lock().waiters.are_rings(connections)
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    pub fn shared_name(&self) -> &Arc<[u8]> {
        &self.name
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Why it will not be cached, if that was known from the beginning.
    pub fn aside(&self) -> Option<Bypass> {
        self.aside
    }

    /// How far the fill is, if that is further than the caller has seen; else the caller is told (once) when it has
    /// moved on. `seen` is how many bytes the caller has had, `None` if it does not even know what the file is.
    pub fn poll(&self, seen: Option<u64>, waiter: impl FnOnce() -> Waiter) -> Option<Progress> {
        let mut state = self.state.lock();
        let news = match &state.progress {
            Progress::Opening => false,
            Progress::Filling(entry, _) | Progress::Arriving(entry) => seen.is_none_or(|seen| entry.filled() > seen),
            Progress::Fetching(_, file) => seen.is_none_or(|seen| file.fetched().is_some_and(|to| to > seen)),
            Progress::Deferred(..)
            | Progress::Ready(_)
            | Progress::Validated(_)
            | Progress::Stale(_)
            | Progress::Passing(_)
            | Progress::Uncached(..)
            | Progress::Failed(_) => true,
        };
        if news {
            return Some(state.progress.clone());
        }
        state.waiters.insert(waiter());
        None
    }

    /// The interim response after so many; `None` if there is none (yet).
    pub fn interim(&self, told: usize) -> Option<Arc<[u8]>> {
        self.state.lock().interim.get(told).cloned()
    }

    /// The origin has sent an interim response. Those beyond [`limits::INTERIM_RESPONSES`] are left out.
    pub(super) fn inform(&self, head: Arc<[u8]>) -> Vec<Waiter> {
        let mut state = self.state.lock();
        if state.interim.len() >= limits::INTERIM_RESPONSES {
            return Vec::new();
        }
        state.interim.push(head);
        state.waiters.take()
    }

    pub(super) fn advance(&self, entry: &Lease, filled: u64) -> Vec<Waiter> {
        let mut state = self.state.lock();
        entry.set_filled(filled);
        state.waiters.take()
    }

    pub(super) fn fetched(&self, file: &OpenFile, to: u64) -> Vec<Waiter> {
        let mut state = self.state.lock();
        file.set_fetched(Some(to));
        state.waiters.take()
    }

    pub(super) fn move_on(&self, progress: Progress) -> Vec<Waiter> {
        if sync::is_planted(Race::WaitersTakenEarly) {
            let waiters = self.state.lock().waiters.take();
            self.state.lock().progress = progress;
            return waiters;
        }
        let mut state = self.state.lock();
        state.progress = progress;
        state.waiters.take()
    }
}
