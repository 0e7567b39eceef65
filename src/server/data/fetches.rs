//! Storage: fills of the arena. They belong to the worker, not to a connection: whoever asked may leave, and they go
//! on.

use super::deferrals::Deferrals;
use super::deliver;
use super::io::Io;
use super::open::Open;
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
use crate::origin::{Found, RootAbsent, identity};
use crate::planted::{self, Defect};
use crate::ring::kernel::{Kernel, Kind, Op, Token};
use crate::ring::lent::Lent;
use crate::rules::Description;
use crate::version::{Change, Described, Label, Version};
use slab::Slab;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// The fills that a worker does, and the files that it will read at its leisure.
#[derive(Default)]
pub(super) struct Fetches {
    fills: Slab<FillTask>,
    trials: FetchTrials,
    deferred: Deferrals,
}

/// A fill that this worker does.
struct FillTask {
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

/// A file that is read into the page cache only. One byte of each step is read, as it waits for the others that are on
/// their way.
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
struct FetchTrials {
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

/// Has the kernel read ahead of what is `left` of a file, whose bytes before `ahead` it was told to read before.
fn read_ahead(kernel: &mut impl Kernel, file: RawFd, ahead: &mut u64, left: Range<u64>) {
    while *ahead < left.end && *ahead < left.start + limits::READ_AHEAD {
        kernel.read_ahead(file, *ahead, limits::READ_AHEAD_PIECE);
        *ahead += limits::READ_AHEAD_PIECE;
    }
}

impl Fetches {
    /// Nothing is being read.
    pub fn is_empty(&self) -> bool {
        self.fills.is_empty()
    }

    pub fn begin<K: Kernel>(&mut self, io: &mut Io<K>, permit: FillPermit) -> io::Result<()> {
        io.metrics.fills[Step::Started].one();
        permit.looks(io.now);
        if let Some((entry, file)) = permit.reading() {
            return self.begin_reading(io, permit, entry, file);
        }
        if let Some(Opened { file, checked, .. }) = permit.take_opened()
            && self.is_fresh(io, checked)
            && file.is_same(io.now)
        {
            io.metrics.fills[Step::Reopened].one();
            return self.fill_from(io, permit, file, checked, 0);
        }
        let Ok(open) = Open::new(&io.shared.origin, permit.name(), io.shared.origin.open_how()) else {
            return self.end_failed_fill(io, permit, Failure::RootAbsent);
        };
        let key = self.fills.insert(FillTask { permit, stage: Stage::Opening(open) });
        self.open_for_fill(io, key)
    }

    /// The fill of an entry whose bytes are not there, or not yet: begun now, if it was deferred. `None` if there is
    /// none.
    pub fn resume<K: Kernel>(&mut self, io: &mut Io<K>, entry: &Lease) -> io::Result<Option<Arc<Flight>>> {
        match io.shared.cache.resume(entry, io.now) {
            None => Ok(None),
            Some(Resumed::Joined(fill)) => Ok(Some(fill)),
            Some(Resumed::Begun(permit)) => {
                let fill = permit.fill().clone();
                self.begin(io, permit)?;
                Ok(Some(fill))
            }
        }
    }

    /// Reads what was deferred and has stayed, a few files at a time: when not much else is being read, or else when it
    /// has waited for several times as long as it should.
    pub fn resume_due<K: Kernel>(&mut self, io: &mut Io<K>) -> io::Result<()> {
        let mut late = 0;
        loop {
            let is_busy = self.fills.len() >= limits::FILLS_AT_LEISURE;
            if is_busy && late == limits::FILLS_AT_LEISURE {
                return Ok(());
            }
            let Some(entry) = self.deferred.pop_due(&io.shared.cache, io.now, is_busy) else { return Ok(()) };
            late += usize::from(is_busy);
            self.resume(io, &entry)?;
        }
    }

    /// Fills that the control plane has begun.
    pub fn begin_delegated<K: Kernel>(&mut self, io: &mut Io<K>) -> io::Result<()> {
        for permit in io.shared.mail.take_delegated() {
            // That side waits for bytes: a file that could be sent as it is is of no use to it.
            drop(permit.take_opened());
            self.begin(io, permit)?;
        }
        Ok(())
    }

    fn open_for_fill<K: Kernel>(&mut self, io: &mut Io<K>, key: usize) -> io::Result<()> {
        let FillTask { permit, stage: Stage::Opening(open) } = &mut self.fills[key] else { return Ok(()) };
        permit.looks(io.now);
        open.get_mut().began = io.now;
        let op = Open::op(open);
        io.kernel.submit(op, Token::new(Kind::FillOpen, 0, key as u32))
    }

    pub fn opened<K: Kernel>(&mut self, io: &mut Io<K>, key: u32, result: i32) -> io::Result<()> {
        let key = key as usize;
        let Some(FillTask { stage: Stage::Opening(open), .. }) = self.fills.get_mut(key) else { return Ok(()) };
        open.returned();
        let file = (result >= 0).then(|| io.kernel.adopt(result));
        match open.get_mut().is_worth_another(result, &io.shared.origin) {
            Ok(false) => {}
            Ok(true) => return self.open_for_fill(io, key),
            Err(RootAbsent) => return self.fail_fill(io, key, Failure::RootAbsent),
        }
        let attempts = open.attempts;
        let began = if planted::is(Defect::CheckedWhenNoticed) { io.now } else { open.began };
        let Some(file) = file else { return self.fail_fill(io, key, Failure::of_errno(-result)) };
        let version = match io.kernel.identify(file.as_fd()) {
            // It lost its name while it was opened: the name has another file by now, or none.
            Ok(Found::File(Version { links: 0, .. })) if attempts < limits::NAMELESS_ATTEMPTS => {
                return self.open_for_fill(io, key);
            }
            Ok(Found::File(version)) => version,
            Ok(Found::Directory) => return self.fail_fill(io, key, Failure::IsDirectory),
            Ok(Found::Special) => return self.fail_fill(io, key, Failure::Forbidden),
            Err(error) => return self.fail_fill(io, key, Failure::Io(error.raw_os_error().unwrap_or(libc::EIO))),
        };
        let description = io.shared.site.said().rules.describe(self.fills[key].permit.name());
        if description.media.needs_content() && version.size > 0 {
            let start = Lent::new(vec![0; SNIFFED_BYTES]);
            self.fills[key].stage =
                Stage::Sniffing(Sniffing { file, version, description, start, checked: began, identified: io.now });
            return self.sniff(io, key);
        }
        let permit = self.fills.remove(key).permit;
        let label = io.shared.site.said().label(description, b"");
        self.fill_described(io, permit, file, version, label, (began, io.now))
    }

    fn sniff<K: Kernel>(&mut self, io: &mut Io<K>, key: usize) -> io::Result<()> {
        let Stage::Sniffing(sniffing) = &mut self.fills[key].stage else { return Ok(()) };
        let into = sniffing.start.lend(|start| start.as_mut_ptr());
        let op = Op::Read { file: sniffing.file.as_raw_fd(), into, len: SNIFFED_BYTES as u32, offset: 0 };
        io.kernel.submit(op, Token::new(Kind::FillRead, 0, key as u32))
    }

    /// The first bytes are there. If they cannot be read, that shows when the file is.
    fn sniffed<K: Kernel>(&mut self, io: &mut Io<K>, key: usize, result: i32) -> io::Result<()> {
        let FillTask { permit, stage: Stage::Sniffing(mut sniffing) } = self.fills.remove(key) else { return Ok(()) };
        sniffing.start.returned();
        let read = usize::try_from(result).unwrap_or(0).min(SNIFFED_BYTES);
        let Sniffing { file, version, description, start, checked, identified } = sniffing;
        let label = io.shared.site.said().label(description, &start[..read]);
        self.fill_described(io, permit, file, version, label, (checked, identified))
    }

    /// It is known what the file of a fill is, which was found under its name at `checked`, and looked at when it was
    /// `identified`.
    fn fill_described<K: Kernel>(
        &mut self,
        io: &mut Io<K>,
        permit: FillPermit,
        file: OwnedFd,
        version: Version,
        label: Arc<Label>,
        (checked, identified): (u64, u64),
    ) -> io::Result<()> {
        let age = version.age(identity::clock_of(file.as_fd(), &version));
        let representation = Described::new(version, label);
        let (name, settled) = (permit.shared_name().clone(), io.shared.options.settled);
        let file = OpenFile::new(file, name, representation, age, settled, identified).found_at(checked);
        let file = Arc::new(file);
        self.fill_from(io, permit, file, checked, 1)
    }

    /// The file of a fill is open, and was found under its name at `checked`; `own` connections of this worker wait for
    /// it.
    fn fill_from<K: Kernel>(
        &mut self,
        io: &mut Io<K>,
        permit: FillPermit,
        file: Arc<OpenFile>,
        checked: u64,
        own: usize,
    ) -> io::Result<()> {
        match permit.reserve(&file, checked, io.now) {
            Err(bypass) => {
                let waiters = permit.pass(file, bypass);
                io.wake(waiters)
            }
            Ok(entry) => {
                let may_refer = deliver::may_refer(io.shared.options.transmit, &file, &entry);
                if may_refer && permit.is_waited_for_by(own) {
                    let is_warm = self.is_warm(io, &file, entry.size());
                    if is_warm && io.shared.cache.arena().is_nearly_full() {
                        return self.defer_fill(io, permit, entry, file);
                    }
                    if !is_warm && entry.size() >= limits::REFER_MIN_BYTES && self.trials.is_worth_a_try(io.now) {
                        return self.begin_fetching(io, permit, entry, file);
                    }
                }
                self.start_reading(io, permit, entry, file)
            }
        }
    }

    /// Whether the whole file is in the page cache.
    fn is_warm<K: Kernel>(&mut self, io: &mut Io<K>, file: &OpenFile, size: u64) -> bool {
        if file.is_warm(io.now) {
            return true;
        }
        let is_warm = io.kernel.is_resident(file.fd.as_raw_fd(), 0, size);
        if is_warm {
            file.found_warm(io.now);
        }
        is_warm
    }

    /// The file is cached without being read, as far as that is possible.
    fn defer_fill<K: Kernel>(
        &mut self,
        io: &mut Io<K>,
        permit: FillPermit,
        entry: Lease,
        file: Arc<OpenFile>,
    ) -> io::Result<()> {
        let name = file.name.clone();
        let waiters = match permit.defer(&entry, &file) {
            Ok(waiters) => waiters,
            Err(permit) => return self.start_reading(io, permit, entry, file),
        };
        io.metrics.fills[Step::Deferred].one();
        self.deferred.push(name, io.now);
        io.wake(waiters)
    }

    fn begin_fetching<K: Kernel>(
        &mut self,
        io: &mut Io<K>,
        permit: FillPermit,
        entry: Lease,
        file: Arc<OpenFile>,
    ) -> io::Result<()> {
        let waiters = permit.fetch(&entry, file.clone());
        let stage = Stage::Fetching(Fetching { file, entry, byte: Lent::new(0), at: 0, ahead: 0 });
        let key = self.fills.insert(FillTask { permit, stage });
        io.wake(waiters)?;
        self.fetch_on(io, key)
    }

    /// Fetches the next step.
    fn fetch_on<K: Kernel>(&mut self, io: &mut Io<K>, key: usize) -> io::Result<()> {
        let Stage::Fetching(fetching) = &mut self.fills[key].stage else { return Ok(()) };
        let (fd, size) = (fetching.file.fd.as_raw_fd(), fetching.entry.size());
        read_ahead(&mut io.kernel, fd, &mut fetching.ahead, fetching.at..size);
        let last = (fetching.at + limits::FETCH_BYTES).min(size) - 1;
        let into = fetching.byte.lend(|byte| byte);
        io.kernel.submit(Op::Read { file: fd, into, len: 1, offset: last }, Token::new(Kind::FillRead, 0, key as u32))
    }

    /// A step is there, or not.
    fn fetched<K: Kernel>(&mut self, io: &mut Io<K>, key: usize, result: i32) -> io::Result<()> {
        let FillTask { permit, stage: Stage::Fetching(fetching) } = &mut self.fills[key] else { return Ok(()) };
        fetching.byte.returned();
        let (fill, file) = (permit.fill().clone(), fetching.file.clone());
        let (at, size, checked) = (fetching.at, fetching.entry.size(), fetching.entry.checked());
        let to = (at + limits::FETCH_BYTES).min(size);
        if !self.is_still_the_same(io, &fill, &file, checked) {
            return self.tear_fill(io, key);
        }
        if result != 1 || !io.kernel.is_resident(file.fd.as_raw_fd(), at, to - at) {
            // The page cache does not keep this file, or it cannot be read; that shows when it is read into the arena.
            self.trials.was_useless(io.now);
            return self.end_fetching(io, key, false);
        }
        if let Stage::Fetching(fetching) = &mut self.fills[key].stage {
            fetching.at = to;
        }
        let waiters = self.fills[key].permit.fetched(&file, to);
        io.wake(waiters)?;
        if to < size {
            return self.fetch_on(io, key);
        }
        self.trials = FetchTrials::default();
        file.found_warm(io.now);
        self.end_fetching(io, key, true)
    }

    /// The file is in the page cache, or is not going to be.
    fn end_fetching<K: Kernel>(&mut self, io: &mut Io<K>, key: usize, is_warm: bool) -> io::Result<()> {
        let FillTask { permit, stage: Stage::Fetching(Fetching { file, entry, .. }) } = self.fills.remove(key) else {
            return Ok(());
        };
        match is_warm {
            true => self.defer_fill(io, permit, entry, file.clone())?,
            false => self.start_reading(io, permit, entry, file.clone())?,
        }
        file.set_fetched(None);
        self.resume_due(io)
    }

    /// Whether the open file still is the version that was begun, so that what was read of it may be sent. It was found
    /// under its name at `found_at`.
    fn is_still_the_same<K: Kernel>(
        &mut self,
        io: &mut Io<K>,
        fill: &Arc<Flight>,
        file: &OpenFile,
        found_at: u64,
    ) -> bool {
        let began = &file.described.version;
        let Ok(Found::File(now)) = io.kernel.identify(file.fd.as_fd()) else { return false };
        match began.compare(&now, || io.shared.origin.leads_to(&file.name, began)) {
            Change::Same => {
                file.is_still_like_that(io.now);
                // What is read of an earlier root is for those who have begun only.
                if found_at <= io.shared.origin.exchanged() {
                    io.shared.cache.detach(fill);
                }
                true
            }
            // It was replaced, renamed or deleted: those who have begun get it whole, and whoever comes now gets what
            // is there now.
            Change::Renamed => {
                io.shared.cache.detach(fill);
                true
            }
            Change::Grown | Change::Different => false,
        }
    }

    fn start_reading<K: Kernel>(
        &mut self,
        io: &mut Io<K>,
        permit: FillPermit,
        entry: Lease,
        file: Arc<OpenFile>,
    ) -> io::Result<()> {
        let waiters = permit.start(&entry, file.clone());
        io.wake(waiters)?;
        self.begin_reading(io, permit, entry, file)
    }

    fn begin_reading<K: Kernel>(
        &mut self,
        io: &mut Io<K>,
        permit: FillPermit,
        entry: Lease,
        file: Arc<OpenFile>,
    ) -> io::Result<()> {
        // The storage is kept busy while chunks are copied and sent; a file of one chunk is asked for by its read.
        let (fd, size) = (file.fd.as_raw_fd(), entry.size());
        let is_cold = size > io.shared.options.read_chunk_bytes as u64
            && !file.is_warm(io.now)
            && !io.kernel.is_resident(fd, 0, size.min(limits::READ_AHEAD));
        let reading = Reading { file, entry: Lent::new(entry), ahead: is_cold.then_some(0) };
        let key = self.fills.insert(FillTask { permit, stage: Stage::Reading(reading) });
        self.read_on(io, key)
    }

    /// Reads the next chunk, or publishes what is whole.
    fn read_on<K: Kernel>(&mut self, io: &mut Io<K>, key: usize) -> io::Result<()> {
        let chunk = io.shared.options.read_chunk_bytes as u64;
        let Stage::Reading(reading) = &mut self.fills[key].stage else { return Ok(()) };
        let (size, at) = (reading.entry.size(), reading.entry.filled());
        if at == size {
            return self.publish_fill(io, key);
        }
        if let Some(ahead) = &mut reading.ahead {
            read_ahead(&mut io.kernel, reading.file.fd.as_raw_fd(), ahead, at..size);
        }
        let (into, len) = Allocation::lend_for_fill(&mut reading.entry, size, at, chunk, |lease| lease.allocation());
        let op = Op::Read { file: reading.file.fd.as_raw_fd(), into, len, offset: at };
        io.kernel.submit(op, Token::new(Kind::FillRead, 0, key as u32))
    }

    pub fn read<K: Kernel>(&mut self, io: &mut Io<K>, key: u32, result: i32) -> io::Result<()> {
        let key = key as usize;
        let (permit, reading) = match self.fills.get_mut(key) {
            Some(FillTask { permit, stage: Stage::Reading(reading) }) => (permit, reading),
            Some(FillTask { stage: Stage::Fetching(_), .. }) => return self.fetched(io, key, result),
            Some(FillTask { stage: Stage::Sniffing(_), .. }) => return self.sniffed(io, key, result),
            Some(FillTask { stage: Stage::Opening(_), .. }) | None => return Ok(()),
        };
        reading.entry.returned();
        let read = match result {
            1.. if planted::is(Defect::ShortReadWhole) => reading.entry.size() - reading.entry.filled(),
            read @ 1.. => read as u64,
            // The file is shorter than it was.
            0 => return self.tear_fill(io, key),
            error if error == -libc::EINTR && !planted::is(Defect::InterruptFails) => return self.read_on(io, key),
            error if error == -libc::EAGAIN => {
                // A filesystem that cannot wait in the ring takes O_NONBLOCK at its word: without it, a kernel worker
                // thread does the waiting.
                if rustix::fs::fcntl_setfl(&reading.file.fd, rustix::fs::OFlags::empty()).is_err() {
                    return self.fail_fill(io, key, Failure::Io(libc::EAGAIN));
                }
                return self.read_on(io, key);
            }
            error => return self.fail_fill(io, key, Failure::Io(-error)),
        };
        let (fill, file, entry) = (permit.fill().clone(), reading.file.clone(), reading.entry.clone());
        // Nobody sees the chunk before it is known to be of the same version as what was sent already.
        if !planted::is(Defect::FillUncompared) && !self.is_still_the_same(io, &fill, &file, entry.checked()) {
            return self.tear_fill(io, key);
        }
        let filled = entry.filled() + read;
        let waiters = self.fills[key].permit.advance(&entry, filled);
        io.wake(waiters)?;
        match filled < entry.size() {
            true => self.read_on(io, key),
            false => self.publish_fill(io, key),
        }
    }

    fn publish_fill<K: Kernel>(&mut self, io: &mut Io<K>, key: usize) -> io::Result<()> {
        let task = self.fills.remove(key);
        let Stage::Reading(reading) = task.stage else { return Ok(()) };
        io.metrics.fills[Step::Finished].one();
        let waiters = task.permit.publish(reading.entry.clone());
        io.wake(waiters)?;
        self.resume_due(io)
    }

    /// The file changed while it was read.
    fn tear_fill<K: Kernel>(&mut self, io: &mut Io<K>, key: usize) -> io::Result<()> {
        io.metrics.fills[Step::Torn].one();
        self.fail_fill(io, key, Failure::Changed)
    }

    fn fail_fill<K: Kernel>(&mut self, io: &mut Io<K>, key: usize, failure: Failure) -> io::Result<()> {
        let task = self.fills.remove(key);
        self.end_failed_fill(io, task.permit, failure)?;
        self.resume_due(io)
    }

    fn end_failed_fill<K: Kernel>(&mut self, io: &mut Io<K>, permit: FillPermit, failure: Failure) -> io::Result<()> {
        io.metrics.fills[Step::Failed].one();
        let waiters = permit.fail(failure);
        io.wake(waiters)
    }

    /// Whether what was found under its name at `checked` may be served without another look.
    fn is_fresh<K: Kernel>(&self, io: &mut Io<K>, checked: u64) -> bool {
        let (interval, exchanged) = (io.shared.options.revalidate, io.shared.origin.exchanged());
        revalidate::due(checked, interval, exchanged, io.now) != revalidate::Due::Now
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
