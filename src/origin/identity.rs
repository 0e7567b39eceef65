//! Which version of which file an open file is.

use rustix::fs::FileType;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What tells one version of one file from another. The time of change is part of it, since a program may set the time of
/// modification back but not that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The filesystem's device number.
    pub dev: u64,
    /// The inode's number, unique on its device as long as the file exists.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// When its bytes were last changed: nanoseconds since 1970.
    pub mtime_ns: i64,
    /// When its inode was last changed: nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// What an open descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// A regular file, the only thing that is served.
    File(Identity),
    Directory,
    /// A device, a socket, a pipe.
    Other,
}

impl Opened {
    /// Looks at an open descriptor (fstat).
    ///
    /// # Errors
    /// Those of fstat.
    pub fn of(file: BorrowedFd<'_>) -> io::Result<Opened> {
        let stat = rustix::fs::fstat(file)?;
        let nanoseconds = |seconds: i64, rest: u64| seconds.saturating_mul(1_000_000_000).saturating_add(rest as i64);
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Opened::File(Identity {
                dev: stat.st_dev,
                ino: stat.st_ino,
                size: stat.st_size as u64,
                mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
                ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
            }),
            FileType::Directory => Opened::Directory,
            _ => Opened::Other,
        })
    }
}

impl Identity {
    /// A strong entity tag (RFC 9110, 8.8.3), with its quotes: all that tells versions apart, in hexadecimal.
    pub fn etag(&self) -> String {
        format!("\"{:x}-{:x}-{:x}-{:x}-{:x}\"", self.dev, self.ino, self.size, self.mtime_ns, self.ctime_ns)
    }

    /// The time of modification; times before 1970 count as 1970, which HTTP dates can express.
    pub fn last_modified(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.mtime_ns.max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    fn file(opened: Opened) -> Identity {
        match opened {
            Opened::File(identity) => identity,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn versions_of_a_file_differ() {
        let mut open = tempfile::tempfile().unwrap();
        let empty = file(Opened::of(open.as_fd()).unwrap());
        open.write_all(b"x").unwrap();
        let one = file(Opened::of(open.as_fd()).unwrap());
        assert_eq!((empty.size, one.size, empty.ino), (0, 1, one.ino));
        assert_ne!(empty.etag(), one.etag());
    }

    #[test]
    fn only_regular_files_have_one() {
        let directory = std::fs::File::open("/").unwrap();
        assert_eq!(Opened::of(directory.as_fd()).unwrap(), Opened::Directory);
        let device = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Opened::of(device.as_fd()).unwrap(), Opened::Other);
    }
}
