//! Which version of which file: what a cached copy is compared by, and what its entity tag is made of.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Stat};

/// The last second that an HTTP date can say: 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

/// One version of one file. Two looks that find the same identity found the same bytes, as far as the file system's clock
/// tells versions apart: any write moves mtime and ctime, and a replacement has another inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Device number, as st_dev has it.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970; clamped to what fits (years 1677 to 2262).
    pub mtime_ns: i64,
    /// Time of the last change of the inode, likewise. Unlike mtime it cannot be set back by a program.
    pub ctime_ns: i64,
}

/// What an open file descriptor turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A regular file: the only kind that is served as one.
    File(Identity),
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
        Ok(Found::from_stat(&rustix::fs::fstat(fd)?))
    }

    pub(super) fn from_stat(stat: &Stat) -> Found {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Found::File(Identity::from_stat(stat)),
            FileType::Directory => Found::Directory,
            _ => Found::Special,
        }
    }
}

impl Identity {
    /// The identity of an open file; None when it is no regular file.
    ///
    /// # Errors
    /// As [`Found::of`].
    pub fn of(fd: impl AsFd) -> io::Result<Option<Identity>> {
        Ok(match Found::of(fd)? {
            Found::File(identity) => Some(identity),
            Found::Directory | Found::Special => None,
        })
    }

    fn from_stat(stat: &Stat) -> Identity {
        Identity {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec.try_into().unwrap_or(0)),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec.try_into().unwrap_or(0)),
        }
    }

    /// Whether an open file still has the bytes it had. Unlike a comparison of all that is known, this holds when the file
    /// lost its name meanwhile (that moves ctime): whoever reads it then reads one whole, if older, version.
    pub fn same_bytes(&self, other: &Identity) -> bool {
        (self.dev, self.ino, self.size, self.mtime_ns) == (other.dev, other.ino, other.size, other.mtime_ns)
    }

    /// Whether the file was changed less than `age` ago, by its own times; also if they lie in the future.
    pub fn was_changed_within(&self, age: Duration) -> bool {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
        let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        self.mtime_ns.max(self.ctime_ns) > wall.saturating_sub(age)
    }

    /// A strong entity tag (RFC 9110, 8.8.3), quotes included: the same on every machine that has a faithful copy of the file, so
    /// that a download which one has begun another can resume.
    pub fn etag(&self) -> String {
        format!("\"{:x}-{:x}\"", self.mtime_ns, self.size)
    }

    /// For Last-Modified: mtime in whole seconds, clamped to what an HTTP date can say (1970 to 9999).
    pub fn last_modified(&self) -> SystemTime {
        http_time(self.mtime_ns)
    }
}

/// A time in whole seconds that every HTTP date formatter takes without complaint.
pub(super) fn http_time(ns: i64) -> SystemTime {
    let seconds = u64::try_from(ns.div_euclid(1_000_000_000)).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND))
}

pub(super) fn nanoseconds(seconds: i64, ns: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    fn identity(path: &std::path::Path) -> Identity {
        match Found::of(File::open(path).unwrap()).unwrap() {
            Found::File(identity) => identity,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_replacement_of_the_same_length_and_time_has_another_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        let before = identity(&path);
        assert_eq!(before, identity(&path));
        assert_eq!(before.size, 3);

        let other = dir.path().join("b");
        fs::write(&other, "two").unwrap();
        let file = File::options().write(true).open(&other).unwrap();
        file.set_modified(before.last_modified()).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(before, identity(&path));
    }

    #[test]
    fn directories_and_pipes_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Found::of(File::open(dir.path()).unwrap()).unwrap(), Found::Directory);
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(Found::of(reader).unwrap(), Found::Special);
    }

    #[test]
    fn times_outside_what_http_can_say_are_clamped() {
        let at = |mtime_ns| Identity { dev: 0, ino: 0, size: 0, mtime_ns, ctime_ns: 0 };
        for mtime_ns in [i64::MIN, -1, 0, 999_999_999, i64::MAX, nanoseconds(i64::MAX, 5), nanoseconds(i64::MIN, 0)] {
            let identity = at(mtime_ns);
            httpdate::fmt_http_date(identity.last_modified());
            assert!(identity.etag().bytes().all(|b| b == b'"' || b == b'-' || b.is_ascii_hexdigit()));
        }
        assert_eq!(at(-1).last_modified(), UNIX_EPOCH);
        assert_eq!(at(1_999_999_999).last_modified(), UNIX_EPOCH + Duration::from_secs(1));
    }
}
