//! What is known of a file that was fetched: the version that its bytes are, and whether they still are.
//!
//! A whole file carries its version in an extended attribute, together with its size and time, so that a copy or a
//! rename keeps it and a change takes it away. Where a file system has no such attributes, size and time alone tell
//! whether a file is the server's.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::HeaderValue;
use rustix::fs::XattrFlags;
use serde::{Deserialize, Serialize};

/// The attribute's name; its value is a [`Record`] as JSON.
const ATTRIBUTE: &str = "user.forebay.version";
/// The longest value that is read: more than any URL and entity tag that a server takes.
const RECORD_BYTES_MAX: usize = 32 << 10;

/// Which bytes a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The URL they come from.
    pub url: String,
    /// The strong entity tag of the version, with its quotes.
    pub etag: String,
    /// The bytes of the whole file, if the server said.
    pub size: Option<u64>,
}

/// What the attribute says.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    url: String,
    etag: String,
    size: u64,
    /// Seconds and nanoseconds.
    mtime: (i64, i64),
}

/// A whole file that is here already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its bytes.
    pub size: u64,
    modified: Option<SystemTime>,
    etag: Option<HeaderValue>,
}

impl Kept {
    /// What is known of the file at `path`; None if there is none.
    pub fn of(path: &Path, url: &str) -> Option<Kept> {
        let metadata = path.symlink_metadata().ok().filter(|metadata| metadata.is_file())?;
        let is_untouched = |record: &Record| {
            record.url == url
                && record.size == metadata.len()
                && record.mtime == (metadata.mtime(), metadata.mtime_nsec())
        };
        let record = read(path).filter(is_untouched);
        Some(Kept {
            size: metadata.len(),
            modified: metadata.modified().ok(),
            etag: record.and_then(|record| HeaderValue::from_str(&record.etag).ok()),
        })
    }

    /// The entity tag of the version that the file is, if it is known.
    pub fn etag(&self) -> Option<&HeaderValue> {
        self.etag.as_ref()
    }

    /// Whether size and time are those of what the server has. They decide only where no entity tag does.
    pub fn is_like(&self, size: Option<u64>, modified: Option<SystemTime>) -> bool {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok().as_ref().map(Duration::as_secs);
        let own = self.modified.and_then(seconds);
        self.etag.is_none() && size == Some(self.size) && own.is_some() && modified.and_then(seconds) == own
    }
}

/// Has a file, which is whole and has its time, carry its version. Where that cannot be, its size and time must do.
pub fn remember(file: &File, version: &Version) {
    let Ok(metadata) = file.metadata() else { return };
    let record = Record {
        url: version.url.clone(),
        etag: version.etag.clone(),
        size: metadata.len(),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
    };
    if let Ok(json) = serde_json::to_vec(&record) {
        let _ = rustix::fs::fsetxattr(file, ATTRIBUTE, &json, XattrFlags::empty());
    }
}

fn read(path: &Path) -> Option<Record> {
    let mut value = vec![0; RECORD_BYTES_MAX];
    let len = rustix::fs::lgetxattr(path, ATTRIBUTE, &mut value[..]).ok()?;
    serde_json::from_slice(&value[..len]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_touched_is_known_by_size_and_time_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "abc").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        file.set_modified(time).unwrap();
        assert!(Kept::of(&path, "http://a/f").unwrap().is_like(Some(3), Some(time)));
        remember(&file, &Version { url: "http://a/f".into(), etag: "\"1\"".into(), size: Some(3) });
        let kept = Kept::of(&path, "http://a/f").unwrap();
        if kept.etag().is_some() {
            assert_eq!(kept.etag().unwrap(), "\"1\"");
            assert!(!kept.is_like(Some(3), Some(time)), "the entity tag decides");
        }
        let elsewhere = Kept::of(&path, "http://b/f").unwrap();
        assert!(elsewhere.etag().is_none() && elsewhere.is_like(Some(3), Some(time)));
        file.set_modified(time + Duration::from_secs(1)).unwrap();
        let touched = Kept::of(&path, "http://a/f").unwrap();
        assert!(touched.etag().is_none() && !touched.is_like(Some(3), Some(time)));
        assert!(!touched.is_like(Some(3), None) && !touched.is_like(None, Some(time)));
        assert_eq!(Kept::of(dir.path(), "http://a/"), None);
    }
}
