//! Versions: which bytes of which file, and what may have become of them since.
//!
//! Everything that asks whether a file still is what it was asks here ([`Version::compare`]), so that all parts of the
//! server believe the same.

pub mod freshness;
pub mod slices;
pub mod stored;
pub mod weights;

use crate::machine;
use crate::planted::{self, Defect};
use rustix::fs::{FileType, Stat};
use std::fmt::Write;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second that an HTTP date can say: 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// Two changes of a file within this time may leave the same times: two ticks of a kernel that was built with HZ=100
/// (kernels before 6.13 stamp to the tick).
const STAMP_PRECISION: Duration = Duration::from_millis(20);

/// For how long after a change a file may be changed further without another time to show for it: FAT stamps in steps
/// of two seconds, and a long write(2) stamps when it begins. What was read earlier than that is compared once more.
pub const SETTLING: Duration = Duration::from_secs(2).saturating_add(STAMP_PRECISION);

/// One version of one file, as far as its file system tells versions apart: a write moves mtime and ctime, and a
/// replacement has another inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Device number, as st_dev has it: 12 and 20 bits.
    pub dev: u32,
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970; clamped to what fits (years 1677 to 2262).
    pub mtime_ns: i64,
    /// Time of the last change of the inode, likewise. Unlike mtime it cannot be set back by a program.
    pub ctime_ns: i64,
    /// Names that lead to the inode.
    pub links: u32,
}

/// Two numbers, with what stands around them.
const ETAG_MAX: usize = 35;

/// An entity tag, made without allocating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Etag {
    text: [u8; ETAG_MAX],
    len: u8,
}

impl Etag {
    fn push(&mut self, byte: u8) {
        self.text[usize::from(self.len)] = byte;
        self.len += 1;
    }

    fn push_hex(&mut self, number: u64) {
        let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
        (0..digits).rev().for_each(|digit| self.push(b"0123456789abcdef"[(number >> (4 * digit) & 15) as usize]));
    }
}

impl std::fmt::Display for Etag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.iter().try_for_each(|&byte| f.write_char(char::from(byte)))
    }
}

impl std::ops::Deref for Etag {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.text[..usize::from(self.len)]
    }
}

/// What is said of a file beside its version: the same of many files, which share it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Label {
    /// The media type, with its charset.
    pub content_type: String,
    /// Fields of every response, each a line with its CRLF.
    pub fields: String,
    /// Fields that only go with a body, likewise.
    pub content_fields: String,
    /// Origins whose pages may read it, where there are several: each is told its own.
    pub origins: Vec<String>,
}

/// A version, and what describes it to those who get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub version: Version,
    pub label: Arc<Label>,
    /// The time of modification that is told, in seconds since 1970.
    pub modified: u64,
}

impl Described {
    /// An empty file of which nothing is known.
    pub fn nothing() -> &'static Described {
        static NOTHING: LazyLock<Described> = LazyLock::new(|| {
            let version = Version { dev: 0, ino: 0, size: 0, mtime_ns: 0, ctime_ns: 0, links: 0 };
            Described { version, label: Arc::default(), modified: 0 }
        });
        &NOTHING
    }
}

/// What an open file descriptor turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A regular file: the only kind that is served as one.
    File(Version),
    /// A directory.
    Directory,
    /// A device, pipe or socket: never served.
    Special,
}

impl Found {
    /// Looks at an open file (or at the place that an O_PATH descriptor names). One fstat.
    ///
    /// # Errors
    /// What fstat says; with an open descriptor on a healthy file system, nothing.
    pub fn of(fd: impl AsFd) -> io::Result<Found> {
        Ok(Found::from_stat(&machine::stat(fd)?))
    }

    /// What a statx tells.
    pub fn from_statx(stat: &libc::statx) -> Found {
        match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::RegularFile => Found::File(Version {
                dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor) as u32,
                ino: stat.stx_ino,
                size: stat.stx_size,
                mtime_ns: nanoseconds(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec.into()),
                ctime_ns: nanoseconds(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec.into()),
                links: stat.stx_nlink,
            }),
            FileType::Directory => Found::Directory,
            _ => Found::Special,
        }
    }

    /// What a stat tells.
    pub fn from_stat(stat: &Stat) -> Found {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Found::File(Version::of_stat(stat)),
            FileType::Directory => Found::Directory,
            _ => Found::Special,
        }
    }
}

/// What became of an open file since it was found to be some version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing that can be known.
    Same,
    /// It lost a name or has another one. Its bytes are what they were.
    Renamed,
    /// It is longer. A log was appended to, or something else was written over it: only its bytes can tell.
    Grown,
    /// It may have been written to.
    Different,
}

/// Whose clock a file system's times come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// This kernel's.
    Own,
    /// A server's, which may be ahead or behind.
    Foreign,
}

/// How far the times of a version can be trusted to show the next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It had been changed so lately that a further change may have left the same times within the kernel's own
    /// precision: they are not trusted at all, and every check compares its bytes.
    Fresh,
    /// It had been changed within [`SETTLING`], or nobody knows: a check compares its bytes once more when that has
    /// passed.
    Unsettled,
    Settled,
}

impl Change {
    /// Whether the bytes are what they were.
    pub fn keeps_bytes(self) -> bool {
        matches!(self, Change::Same | Change::Renamed)
    }
}

impl Version {
    /// The version of an open file; `None` when it is no regular file. One fstat.
    ///
    /// # Errors
    /// Those of fstat.
    pub fn of(fd: impl AsFd) -> io::Result<Option<Version>> {
        let stat = machine::stat(fd)?;
        Ok((FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| Version::of_stat(&stat)))
    }

    pub fn of_stat(stat: &Stat) -> Version {
        Version {
            dev: stat.st_dev as u32,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec.try_into().unwrap_or(0)),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec.try_into().unwrap_or(0)),
            links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        }
    }

    /// What became of the file between this version and `now`.
    ///
    /// ctime counts: whoever writes to a file and puts its mtime back moves it. A rename and the loss of a link move it
    /// too, and leave the bytes alone. A fallen link count shows the one; for the other `is_still_named` is asked:
    /// whether the name that the file was opened by still leads to it.
    pub fn compare(&self, now: &Version, is_still_named: impl FnOnce() -> bool) -> Change {
        if !self.is_same_file(now) {
            return Change::Different;
        }
        if now.size > self.size {
            return Change::Grown;
        }
        if (self.size, self.mtime_ns) != (now.size, now.mtime_ns) {
            return Change::Different;
        }
        match self.ctime_ns == now.ctime_ns || planted::is(Defect::CtimeIgnored) {
            // Times may be too coarse to show a lost name.
            true if now.links < self.links => Change::Renamed,
            true => Change::Same,
            false if now.links < self.links || !is_still_named() => Change::Renamed,
            false => Change::Different,
        }
    }

    /// Whether both are versions of the same inode.
    pub fn is_same_file(&self, other: &Version) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// How long ago the file was last changed. `None`: nobody knows, as the clock is another's, or was set back.
    ///
    /// ctime tells. An mtime that lies ahead of it was set by hand.
    pub fn age(&self, clock: Clock) -> Option<Duration> {
        let wall = machine::wall().as_nanos() as i64;
        match clock {
            Clock::Own => u64::try_from(wall.checked_sub(self.ctime_ns)?).ok().map(Duration::from_nanos),
            Clock::Foreign => None,
        }
    }

    /// A strong entity tag (RFC 9110, 8.8.3), quotes included: the same on every machine that has a faithful copy of
    /// the file, so that a download which one has begun another can resume.
    pub fn etag(&self) -> Etag {
        let mut etag = Etag { text: [0; ETAG_MAX], len: 0 };
        etag.push(b'"');
        etag.push_hex(self.mtime_ns as u64);
        etag.push(b'-');
        etag.push_hex(self.size);
        etag.push(b'"');
        etag
    }

    /// For Last-Modified: mtime in whole seconds, clamped to what an HTTP date can say (1970 to 9999).
    pub fn last_modified(&self) -> SystemTime {
        http_time(self.mtime_ns)
    }
}

impl Trust {
    /// For a version that was last changed so long before it was read.
    pub fn after(age: Option<Duration>) -> Trust {
        match age {
            Some(age) if age < STAMP_PRECISION => Trust::Fresh,
            Some(age) if age >= SETTLING => Trust::Settled,
            Some(_) | None => Trust::Unsettled,
        }
    }
}

/// A time in whole seconds that every HTTP date formatter takes without complaint.
pub fn http_time(ns: i64) -> SystemTime {
    let seconds = u64::try_from(ns.div_euclid(1_000_000_000)).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND))
}

pub fn nanoseconds(seconds: i64, ns: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn version() -> Version {
        Version { dev: 1, ino: 2, size: 100, mtime_ns: 50 * SECOND, ctime_ns: 60 * SECOND, links: 2 }
    }

    fn becomes(now: Version, is_still_named: bool) -> Change {
        version().compare(&now, || is_still_named)
    }

    #[test]
    fn what_became_of_a_file() {
        let then = version();
        assert_eq!(becomes(then, true), Change::Same);
        assert_eq!(becomes(Version { ino: 3, ..then }, true), Change::Different);
        assert_eq!(becomes(Version { dev: 3, ..then }, false), Change::Different);
        assert_eq!(becomes(Version { size: 99, ..then }, true), Change::Different);
        assert_eq!(becomes(Version { mtime_ns: 51 * SECOND, ..then }, false), Change::Different);
        assert_eq!(becomes(Version { size: 101, ctime_ns: 61 * SECOND, ..then }, true), Change::Grown);
    }

    #[test]
    fn ctime_alone_passes_only_for_a_lost_name() {
        let moved = Version { ctime_ns: 61 * SECOND, ..version() };
        assert_eq!(becomes(moved, true), Change::Different, "written to, and the mtime put back");
        assert_eq!(becomes(moved, false), Change::Renamed);
        assert_eq!(becomes(Version { links: 1, ..version() }, true), Change::Renamed, "within one stamp");
        assert_eq!(becomes(Version { links: 1, ..moved }, true), Change::Renamed);
        assert_eq!(becomes(Version { links: 3, ..moved }, true), Change::Different);
    }

    #[test]
    fn only_a_clock_of_ones_own_tells_ages() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
        let changed = |ctime_ns| Version { ctime_ns, mtime_ns: i64::MAX, ..version() };
        let old = changed(now - 100 * SECOND);
        assert!(old.age(Clock::Own).unwrap() >= Duration::from_secs(100), "a future mtime says nothing");
        assert_eq!(old.age(Clock::Foreign), None);
        assert_eq!(changed(now + 100 * SECOND).age(Clock::Own), None);
        assert_eq!(changed(i64::MIN).age(Clock::Own), None);
        assert_eq!(Trust::after(None), Trust::Unsettled);
        assert_eq!(Trust::after(Some(Duration::ZERO)), Trust::Fresh);
        assert_eq!(Trust::after(Some(Duration::from_secs(2))), Trust::Unsettled);
        assert_eq!(Trust::after(Some(SETTLING)), Trust::Settled);
    }

    #[test]
    fn times_outside_what_http_can_say_are_clamped() {
        let at = |mtime_ns| Version { mtime_ns, size: mtime_ns as u64, ..version() };
        for mtime_ns in [i64::MIN, -1, 0, 999_999_999, i64::MAX, nanoseconds(i64::MAX, 5), nanoseconds(i64::MIN, 0)] {
            let version = at(mtime_ns);
            httpdate::fmt_http_date(version.last_modified());
            let expected = format!("\"{:x}-{:x}\"", version.mtime_ns, version.size);
            assert_eq!(&*version.etag(), expected.as_bytes());
        }
        assert_eq!(at(-1).last_modified(), UNIX_EPOCH);
        assert_eq!(at(1_999_999_999).last_modified(), UNIX_EPOCH + Duration::from_secs(1));
    }
}
