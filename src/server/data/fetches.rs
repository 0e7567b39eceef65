//! Storage: fills of the arena. They belong to the worker, not to a connection: whoever asked may leave, and they go on.

use super::deliver;
use super::worker::Worker;
use crate::arena::Allocation;
use crate::cache::entry::Lease;
use crate::cache::flight::{Failure, Flight, OpenFile};
use crate::cache::open_files::Opened;
use crate::cache::permit::FillPermit;
use crate::cache::residency::Resumed;
use crate::exchange::revalidate;
use crate::http::media::SNIFFED_BYTES;
use crate::limits;
use crate::metrics::labels::Fill as Step;
use crate::origin::{Found, Origin, Root, RootAbsent, identity};
use crate::planted::{self, Defect};
use crate::ring::Completion;
use crate::ring::kernel::{Kernel, Kind, Op, Token};
use crate::ring::lent::Lent;
use crate::rules::Description;
use crate::version::{Change, Described, Label, Version};
use io_uring::types::OpenHow;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// A path to open beneath the root.
pub(super) struct Open {
    root: Arc<Root>,
    /// When the root had been exchanged last, as far as was known: see [`Origin::exchanged`].
    exchanged: u64,
    path: Vec<u8>,
    how: OpenHow,
    attempts: u32,
    /// When it was asked for: what is found then may be another file by the time at which that is noticed.
    began: u64,
}

impl Open {
    pub(super) fn new(origin: &Origin, name: &[u8], how: OpenHow) -> Result<Lent<Open>, RootAbsent> {
        // Read first: what is exchanged in between is then noticed.
        let exchanged = origin.exchanged();
        let root = origin.root()?;
        let mut path = Vec::with_capacity(name.len() + 1);
        path.extend_from_slice(name);
        path.push(0);
        Ok(Lent::new(Open { root, exchanged, path, how, attempts: 0, began: 0 }))
    }

    pub(super) fn op(open: &mut Lent<Open>) -> Op {
        let root = open.root.as_raw_fd();
        let path = open.lend(|open| open.path.as_mut_ptr().cast());
        let how = open.lend_also(|open| &raw mut open.how);
        Op::Open { root, path, how }
    }

    /// Whether to open again: it failed for a reason that may have passed (the tree was renamed while the path was resolved, or a
    /// signal came), or the root was exchanged meanwhile, whatever was found in the earlier one.
    ///
    /// # Errors
    /// There is no root to open it in.
    pub(super) fn is_worth_another(&mut self, result: i32, origin: &Origin) -> Result<bool, RootAbsent> {
        self.attempts += 1;
        let exchanged = origin.exchanged();
        if self.exchanged != exchanged {
            self.root = origin.root()?;
            self.exchanged = exchanged;
            return Ok(true);
        }
        Ok((result == -libc::EAGAIN || result == -libc::EINTR) && self.attempts < limits::OPEN_ATTEMPTS)
    }
}

/// A fill that this worker does.
pub(super) struct FillTask {
    permit: FillPermit,
    stage: Stage,
}

/// How far it is.
enum Stage {
    Opening(Lent<Open>),
    Sniffing(Sniffing),
    Fetching(Fetching),
    Reading(Reading),
}

/// An open file whose first bytes tell its media type.
struct Sniffing {
    file: OwnedFd,
    version: Version,
    description: Description,
    start: Lent<Vec<u8>>,
    /// When it was found under its name, and when it was looked at.
    checked: u64,
    identified: u64,
}

/// A file that is read into the page cache only. One byte of each step is read, as it waits for the others that are on their
/// way.
struct Fetching {
    file: Arc<OpenFile>,
    entry: Lease,
    byte: Lent<u8>,
    /// Bytes that are there.
    at: u64,
    /// Up to here the kernel was told to read ahead.
    ahead: u64,
}

/// Whether files are worth fetching into the page cache: some file systems keep nothing there.
#[derive(Default)]
pub(super) struct FetchTrials {
    /// Fetches in a row after which the page cache did not have the file.
    useless: u32,
    /// After too many of them, when it is tried again: monotonic nanoseconds.
    again: u64,
}

impl FetchTrials {
    fn is_worth_a_try(&self, now: u64) -> bool {
        self.useless < limits::USELESS_FETCHES || now >= self.again
    }

    fn was_useless(&mut self, now: u64) {
        self.useless = self.useless.saturating_add(1);
        self.again = now.saturating_add(limits::FETCH_PAUSE.as_nanos() as u64);
    }
}

/// A fill whose file is open.
struct Reading {
    file: Arc<OpenFile>,
    entry: Lent<Lease>,
    /// Up to here the kernel was told to read ahead, if it has to read at all.
    ahead: Option<u64>,
}

/// A file that was cached without its bytes.
pub(super) struct Deferred {
    name: Arc<[u8]>,
    /// When it is to be read, if it is still cached then: monotonic nanoseconds.
    due: u64,
}

/// Has the kernel read ahead of what is `left` of a file, whose bytes before `ahead` it was told to read before.
fn read_ahead(kernel: &mut impl Kernel, file: RawFd, ahead: &mut u64, left: Range<u64>) {
    while *ahead < left.end && *ahead < left.start + limits::READ_AHEAD {
        kernel.read_ahead(file, *ahead, limits::READ_AHEAD_PIECE);
        *ahead += limits::READ_AHEAD_PIECE;
    }
}

impl<K: Kernel> Worker<K> {
    pub(super) fn begin_fill(&mut self, permit: FillPermit) -> io::Result<()> {
        self.metrics.fills[Step::Started].one();
        if let Some((entry, file)) = permit.reading() {
            return self.begin_reading(permit, entry, file);
        }
        if let Some(Opened { file, checked, .. }) = permit.take_opened()
            && self.is_fresh(checked)
            && file.is_same(self.now)
        {
            self.metrics.fills[Step::Reopened].one();
            return self.fill_from(permit, file, checked, 0);
        }
        let Ok(open) = Open::new(&self.shared.origin, permit.name(), self.shared.origin.open_how()) else {
            return self.end_failed_fill(permit, Failure::RootAbsent);
        };
        let key = self.fills.insert(FillTask { permit, stage: Stage::Opening(open) });
        self.open_for_fill(key)
    }

    /// The fill of an entry whose bytes are not there, or not yet: begun now, if it was deferred. `None` if there is none.
    pub(super) fn resume(&mut self, entry: &Lease) -> io::Result<Option<Arc<Flight>>> {
        match self.shared.cache.resume(entry, self.now) {
            None => Ok(None),
            Some(Resumed::Joined(fill)) => Ok(Some(fill)),
            Some(Resumed::Begun(permit)) => {
                let fill = permit.fill().clone();
                self.begin_fill(permit)?;
                Ok(Some(fill))
            }
        }
    }

    /// Reads what was deferred and has stayed, a few files at a time: when not much else is being read, or else when it has
    /// waited for several times as long as it should.
    pub(super) fn resume_due(&mut self) -> io::Result<()> {
        let mut overdue = limits::FILLS_AT_LEISURE;
        while let Some(deferred) = self.deferred.front()
            && deferred.due <= self.now
        {
            // What has been evicted meanwhile is forgotten at once, so that the queue stays short.
            let Some(entry) = self.shared.cache.get(&deferred.name) else {
                self.deferred.pop_front();
                continue;
            };
            if self.fills.len() >= limits::FILLS_AT_LEISURE {
                let is_overdue = self.now - deferred.due > 4 * limits::DEFER.as_nanos() as u64;
                if !is_overdue || overdue == 0 {
                    break;
                }
                overdue -= 1;
            }
            self.deferred.pop_front();
            self.resume(&entry)?;
        }
        Ok(())
    }

    /// Fills that the control plane has begun.
    pub(super) fn begin_delegated(&mut self) -> io::Result<()> {
        for permit in self.shared.mail.take_delegated() {
            // That side waits for bytes: a file that could be sent as it is is of no use to it.
            drop(permit.take_opened());
            self.begin_fill(permit)?;
        }
        Ok(())
    }

    fn open_for_fill(&mut self, key: usize) -> io::Result<()> {
        let Stage::Opening(open) = &mut self.fills[key].stage else { return Ok(()) };
        open.get_mut().began = self.now;
        let op = Open::op(open);
        self.kernel.submit(op, Token::new(Kind::FillOpen, 0, key as u32))
    }

    pub(super) fn fill_opened(&mut self, key: u32, completion: &Completion) -> io::Result<()> {
        let key = key as usize;
        let Some(FillTask { stage: Stage::Opening(open), .. }) = self.fills.get_mut(key) else { return Ok(()) };
        open.returned();
        let file = (completion.result >= 0).then(|| self.kernel.adopt(completion.result));
        match open.get_mut().is_worth_another(completion.result, &self.shared.origin) {
            Ok(false) => {}
            Ok(true) => return self.open_for_fill(key),
            Err(RootAbsent) => return self.fail_fill(key, Failure::RootAbsent),
        }
        let attempts = open.attempts;
        let began = if planted::is(Defect::CheckedWhenNoticed) { self.now } else { open.began };
        let Some(file) = file else { return self.fail_fill(key, Failure::of_errno(-completion.result)) };
        let version = match self.kernel.identify(file.as_fd()) {
            // It lost its name while it was opened: the name has another file by now, or none.
            Ok(Found::File(Version { links: 0, .. })) if attempts < limits::NAMELESS_ATTEMPTS => {
                return self.open_for_fill(key);
            }
            Ok(Found::File(version)) => version,
            Ok(Found::Directory) => return self.fail_fill(key, Failure::IsDirectory),
            Ok(Found::Special) => return self.fail_fill(key, Failure::Forbidden),
            Err(error) => return self.fail_fill(key, Failure::Io(error.raw_os_error().unwrap_or(libc::EIO))),
        };
        let description = self.shared.site.said().rules.describe(self.fills[key].permit.name());
        if description.media.needs_content() && version.size > 0 {
            let start = Lent::new(vec![0; SNIFFED_BYTES]);
            self.fills[key].stage =
                Stage::Sniffing(Sniffing { file, version, description, start, checked: began, identified: self.now });
            return self.sniff(key);
        }
        let permit = self.fills.remove(key).permit;
        let label = self.shared.site.said().label(description, b"");
        self.fill_described(permit, file, version, label, (began, self.now))
    }

    fn sniff(&mut self, key: usize) -> io::Result<()> {
        let Stage::Sniffing(sniffing) = &mut self.fills[key].stage else { return Ok(()) };
        let into = sniffing.start.lend(|start| start.as_mut_ptr());
        let op = Op::Read { file: sniffing.file.as_raw_fd(), into, len: SNIFFED_BYTES as u32, offset: 0 };
        self.kernel.submit(op, Token::new(Kind::FillRead, 0, key as u32))
    }

    /// The first bytes are there. If they cannot be read, that shows when the file is.
    fn sniffed(&mut self, key: usize, result: i32) -> io::Result<()> {
        let FillTask { permit, stage: Stage::Sniffing(mut sniffing) } = self.fills.remove(key) else { return Ok(()) };
        sniffing.start.returned();
        let read = usize::try_from(result).unwrap_or(0).min(SNIFFED_BYTES);
        let Sniffing { file, version, description, start, checked, identified } = sniffing;
        let label = self.shared.site.said().label(description, &start[..read]);
        self.fill_described(permit, file, version, label, (checked, identified))
    }

    /// It is known what the file of a fill is, which was found under its name at `checked`, and looked at when it was `identified`.
    fn fill_described(
        &mut self,
        permit: FillPermit,
        file: OwnedFd,
        version: Version,
        label: Arc<Label>,
        (checked, identified): (u64, u64),
    ) -> io::Result<()> {
        let age = version.age(identity::clock_of(file.as_fd(), &version));
        let representation = Described::new(version, label);
        let (name, settled) = (permit.shared_name().clone(), self.shared.options.settled);
        let file = OpenFile::new(file, name, representation, age, settled, identified).found_at(checked);
        let file = Arc::new(file);
        self.fill_from(permit, file, checked, 1)
    }

    /// The file of a fill is open, and was found under its name at `checked`; `own` connections of this worker wait for it.
    fn fill_from(&mut self, permit: FillPermit, file: Arc<OpenFile>, checked: u64, own: usize) -> io::Result<()> {
        match permit.reserve(&file, checked, self.now) {
            Err(bypass) => {
                let waiters = permit.pass(file, bypass);
                self.wake_all(waiters)
            }
            Ok(entry) => {
                let may_refer = deliver::may_refer(self.shared.options.transmit, &file, &entry);
                if may_refer && permit.is_waited_for_by(own) {
                    let is_warm = self.is_warm(&file, entry.size());
                    if is_warm && self.shared.cache.arena().is_nearly_full() {
                        return self.defer_fill(permit, entry, file);
                    }
                    if !is_warm && entry.size() >= limits::REFER_MIN_BYTES && self.fetching.is_worth_a_try(self.now) {
                        return self.begin_fetching(permit, entry, file);
                    }
                }
                self.start_reading(permit, entry, file)
            }
        }
    }

    /// Whether the whole file is in the page cache.
    fn is_warm(&mut self, file: &OpenFile, size: u64) -> bool {
        if file.is_warm(self.now) {
            return true;
        }
        let is_warm = self.kernel.is_resident(file.fd.as_raw_fd(), 0, size);
        if is_warm {
            file.found_warm(self.now);
        }
        is_warm
    }

    /// The file is cached without being read, as far as that is possible.
    fn defer_fill(&mut self, permit: FillPermit, entry: Lease, file: Arc<OpenFile>) -> io::Result<()> {
        let name = file.name.clone();
        let waiters = match permit.defer(&entry, &file) {
            Ok(waiters) => waiters,
            Err(permit) => return self.start_reading(permit, entry, file),
        };
        self.metrics.fills[Step::Deferred].one();
        let due = self.now + limits::DEFER.as_nanos() as u64;
        self.deferred.push_back(Deferred { name, due });
        self.wake_all(waiters)
    }

    fn begin_fetching(&mut self, permit: FillPermit, entry: Lease, file: Arc<OpenFile>) -> io::Result<()> {
        let waiters = permit.fetch(&entry, file.clone());
        let stage = Stage::Fetching(Fetching { file, entry, byte: Lent::new(0), at: 0, ahead: 0 });
        let key = self.fills.insert(FillTask { permit, stage });
        self.wake_all(waiters)?;
        self.fetch_on(key)
    }

    /// Fetches the next step.
    fn fetch_on(&mut self, key: usize) -> io::Result<()> {
        let Stage::Fetching(fetching) = &mut self.fills[key].stage else { return Ok(()) };
        let (fd, size) = (fetching.file.fd.as_raw_fd(), fetching.entry.size());
        read_ahead(&mut self.kernel, fd, &mut fetching.ahead, fetching.at..size);
        let last = (fetching.at + limits::FETCH_BYTES).min(size) - 1;
        let into = fetching.byte.lend(|byte| byte);
        self.kernel.submit(Op::Read { file: fd, into, len: 1, offset: last }, Token::new(Kind::FillRead, 0, key as u32))
    }

    /// A step is there, or not.
    fn fetched(&mut self, key: usize, result: i32) -> io::Result<()> {
        let FillTask { permit, stage: Stage::Fetching(fetching) } = &mut self.fills[key] else { return Ok(()) };
        fetching.byte.returned();
        let (fill, file) = (permit.fill().clone(), fetching.file.clone());
        let (at, size, checked) = (fetching.at, fetching.entry.size(), fetching.entry.checked());
        let to = (at + limits::FETCH_BYTES).min(size);
        if !self.is_still_the_same(&fill, &file, checked) {
            return self.tear_fill(key);
        }
        if result != 1 || !self.kernel.is_resident(file.fd.as_raw_fd(), at, to - at) {
            // The page cache does not keep this file, or it cannot be read; that shows when it is read into the arena.
            self.fetching.was_useless(self.now);
            return self.end_fetching(key, false);
        }
        if let Stage::Fetching(fetching) = &mut self.fills[key].stage {
            fetching.at = to;
        }
        let waiters = self.fills[key].permit.fetched(&file, to);
        self.wake_all(waiters)?;
        if to < size {
            return self.fetch_on(key);
        }
        self.fetching = FetchTrials::default();
        file.found_warm(self.now);
        self.end_fetching(key, true)
    }

    /// The file is in the page cache, or is not going to be.
    fn end_fetching(&mut self, key: usize, is_warm: bool) -> io::Result<()> {
        let FillTask { permit, stage: Stage::Fetching(Fetching { file, entry, .. }) } = self.fills.remove(key) else {
            return Ok(());
        };
        match is_warm {
            true => self.defer_fill(permit, entry, file.clone())?,
            false => self.start_reading(permit, entry, file.clone())?,
        }
        file.set_fetched(None);
        self.resume_due()
    }

    /// Whether the open file still is the version that was begun, so that what was read of it may be sent. It was found under its
    /// name at `found_at`.
    fn is_still_the_same(&mut self, fill: &Arc<Flight>, file: &OpenFile, found_at: u64) -> bool {
        let began = &file.described.version;
        let Ok(Found::File(now)) = self.kernel.identify(file.fd.as_fd()) else { return false };
        match began.compare(&now, || self.shared.origin.leads_to(&file.name, began)) {
            Change::Same => {
                file.is_still_like_that(self.now);
                // What is read of an earlier root is for those who have begun only.
                if found_at <= self.shared.origin.exchanged() {
                    self.shared.cache.detach(fill);
                }
                true
            }
            // It was replaced, renamed or deleted: those who have begun get it whole, and whoever comes now gets what is
            // there now.
            Change::Renamed => {
                self.shared.cache.detach(fill);
                true
            }
            Change::Grown | Change::Different => false,
        }
    }

    fn start_reading(&mut self, permit: FillPermit, entry: Lease, file: Arc<OpenFile>) -> io::Result<()> {
        let waiters = permit.start(&entry, file.clone());
        self.wake_all(waiters)?;
        self.begin_reading(permit, entry, file)
    }

    fn begin_reading(&mut self, permit: FillPermit, entry: Lease, file: Arc<OpenFile>) -> io::Result<()> {
        // The storage is kept busy while chunks are copied and sent; a file of one chunk is asked for by its read.
        let (fd, size) = (file.fd.as_raw_fd(), entry.size());
        let is_cold = size > self.shared.options.read_chunk_bytes as u64
            && !file.is_warm(self.now)
            && !self.kernel.is_resident(fd, 0, size.min(limits::READ_AHEAD));
        let reading = Reading { file, entry: Lent::new(entry), ahead: is_cold.then_some(0) };
        let key = self.fills.insert(FillTask { permit, stage: Stage::Reading(reading) });
        self.read_on(key)
    }

    /// Reads the next chunk, or publishes what is whole.
    fn read_on(&mut self, key: usize) -> io::Result<()> {
        let chunk = self.shared.options.read_chunk_bytes as u64;
        let Stage::Reading(reading) = &mut self.fills[key].stage else { return Ok(()) };
        let (size, at) = (reading.entry.size(), reading.entry.filled());
        if at == size {
            return self.publish_fill(key);
        }
        if let Some(ahead) = &mut reading.ahead {
            read_ahead(&mut self.kernel, reading.file.fd.as_raw_fd(), ahead, at..size);
        }
        let (into, len) = Allocation::lend_for_fill(&mut reading.entry, size, at, chunk, |lease| lease.allocation());
        let op = Op::Read { file: reading.file.fd.as_raw_fd(), into, len, offset: at };
        self.kernel.submit(op, Token::new(Kind::FillRead, 0, key as u32))
    }

    pub(super) fn fill_read(&mut self, key: u32, completion: &Completion) -> io::Result<()> {
        let key = key as usize;
        let (permit, reading) = match self.fills.get_mut(key) {
            Some(FillTask { permit, stage: Stage::Reading(reading) }) => (permit, reading),
            Some(FillTask { stage: Stage::Fetching(_), .. }) => return self.fetched(key, completion.result),
            Some(FillTask { stage: Stage::Sniffing(_), .. }) => return self.sniffed(key, completion.result),
            Some(FillTask { stage: Stage::Opening(_), .. }) | None => return Ok(()),
        };
        reading.entry.returned();
        let read = match completion.result {
            1.. if planted::is(Defect::ShortReadWhole) => reading.entry.size() - reading.entry.filled(),
            read @ 1.. => read as u64,
            // The file is shorter than it was.
            0 => return self.tear_fill(key),
            error if error == -libc::EINTR && !planted::is(Defect::InterruptFails) => return self.read_on(key),
            error if error == -libc::EAGAIN => {
                // A filesystem that cannot wait in the ring takes O_NONBLOCK at its word: without it, a kernel worker
                // thread does the waiting.
                if rustix::fs::fcntl_setfl(&reading.file.fd, rustix::fs::OFlags::empty()).is_err() {
                    return self.fail_fill(key, Failure::Io(libc::EAGAIN));
                }
                return self.read_on(key);
            }
            error => return self.fail_fill(key, Failure::Io(-error)),
        };
        let (fill, file, entry) = (permit.fill().clone(), reading.file.clone(), reading.entry.clone());
        // Nobody sees the chunk before it is known to be of the same version as what was sent already.
        if !planted::is(Defect::FillUncompared) && !self.is_still_the_same(&fill, &file, entry.checked()) {
            return self.tear_fill(key);
        }
        let filled = entry.filled() + read;
        let waiters = self.fills[key].permit.advance(&entry, filled);
        self.wake_all(waiters)?;
        match filled < entry.size() {
            true => self.read_on(key),
            false => self.publish_fill(key),
        }
    }

    fn publish_fill(&mut self, key: usize) -> io::Result<()> {
        let task = self.fills.remove(key);
        let Stage::Reading(reading) = task.stage else { return Ok(()) };
        self.metrics.fills[Step::Finished].one();
        let waiters = task.permit.publish(reading.entry.clone());
        self.wake_all(waiters)?;
        self.resume_due()
    }

    /// The file changed while it was read.
    fn tear_fill(&mut self, key: usize) -> io::Result<()> {
        self.metrics.fills[Step::Torn].one();
        self.fail_fill(key, Failure::Changed)
    }

    fn fail_fill(&mut self, key: usize, failure: Failure) -> io::Result<()> {
        let task = self.fills.remove(key);
        self.end_failed_fill(task.permit, failure)?;
        self.resume_due()
    }

    fn end_failed_fill(&mut self, permit: FillPermit, failure: Failure) -> io::Result<()> {
        self.metrics.fills[Step::Failed].one();
        let waiters = permit.fail(failure);
        self.wake_all(waiters)
    }

    /// Whether what was found under its name at `checked` may be served without another look.
    fn is_fresh(&self, checked: u64) -> bool {
        let (interval, exchanged) = (self.shared.options.revalidate, self.shared.origin.exchanged());
        revalidate::due(checked, interval, exchanged, self.now) != revalidate::Due::Now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetching_recovers() {
        let mut trials = FetchTrials::default();
        let (start, pause) = (1_000, limits::FETCH_PAUSE.as_nanos() as u64);
        for _ in 0..limits::USELESS_FETCHES {
            assert!(trials.is_worth_a_try(start));
            trials.was_useless(start);
        }
        assert!(!trials.is_worth_a_try(start) && !trials.is_worth_a_try(start + pause - 1));
        let later = start + pause;
        assert!(trials.is_worth_a_try(later));
        trials.was_useless(later);
        assert!(!trials.is_worth_a_try(later), "one try at a time");
        assert!(trials.is_worth_a_try(later + pause));
    }
}
