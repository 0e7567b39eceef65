//! Which version of which file an open file is.

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

impl Identity {
    /// The identity of an open file; `None` when it is no regular file.
    ///
    /// # Errors
    /// Those of fstat.
    pub fn of(file: BorrowedFd<'_>) -> io::Result<Option<Identity>> {
        let stat = rustix::fs::fstat(file)?;
        let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
        let nanoseconds = |seconds: i64, rest: u64| seconds.saturating_mul(1_000_000_000).saturating_add(rest as i64);
        Ok(regular.then(|| Identity {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size as u64,
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }))
    }

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

    #[test]
    fn versions_of_a_file_differ() {
        let mut file = tempfile::tempfile().unwrap();
        let empty = Identity::of(file.as_fd()).unwrap().unwrap();
        file.write_all(b"x").unwrap();
        let one = Identity::of(file.as_fd()).unwrap().unwrap();
        assert_eq!((empty.size, one.size, empty.ino), (0, 1, one.ino));
        assert_ne!(empty.etag(), one.etag());
    }

    #[test]
    fn only_regular_files_have_one() {
        let directory = std::fs::File::open("/").unwrap();
        assert_eq!(Identity::of(directory.as_fd()).unwrap(), None);
    }
}
