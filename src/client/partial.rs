//! A download in progress: a hidden file beside its destination, kept when the transfer breaks and gone when it is
//! whole.
//!
//! ```text
//! DIR/name                   the destination: only ever a whole file
//! DIR/.name.forebay-part     the bytes so far, from the first on; locked while a fetch writes it
//! DIR/.name.forebay-etag     which version of which URL they belong to, as JSON
//! ```
//!
//! The order of steps keeps the two in agreement, wherever a crash falls: the record is removed before the bytes of
//! another version are begun, and written before their first. Bytes without a record are never resumed.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::kept::{self, Version};
use super::sink::Sink;
use super::{Error, file_error};
use crate::text;

const PART_SUFFIX: &str = ".forebay-part";
const RECORD_SUFFIX: &str = ".forebay-etag";
/// The longest stem that leaves room for the dot and the suffix in 255 bytes (NAME_MAX).
const STEM_BYTES_MAX: usize = 241;

/// What became of the bytes of a finished download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// They are the destination.
    InPlace,
    /// They are gone: something was there already that was not to be replaced.
    LeftAlone,
}

/// The partial download for one destination.
#[derive(Debug)]
pub struct Partial {
    destination: PathBuf,
    part: PathBuf,
    record: PathBuf,
    file: Option<File>,
    /// Bytes so far.
    len: u64,
    /// None: what is there cannot be resumed.
    version: Option<Version>,
    /// How often bytes that had come were thrown away.
    discarded: u32,
}

impl Partial {
    /// Finds what an earlier fetch left for this destination. Creates nothing.
    pub fn find(destination: &Path) -> Result<Partial, Error> {
        let name = destination.file_name().expect("a destination ends in a name");
        if is_reserved(name) {
            return Err(Error::Local("this is the name of a partial download; it cannot be fetched".to_owned()));
        }
        if destination.is_dir() {
            return Err(Error::Local(format!("{} is a directory here", text::path(destination))));
        }
        // A name that is too long here is refused before its bytes come.
        if let Err(error) = destination.symlink_metadata()
            && error.kind() == io::ErrorKind::InvalidFilename
        {
            return Err(file_error("create", destination)(error));
        }
        let stem = stem(name);
        let beside = |suffix: &str| {
            let mut hidden = OsString::from(".");
            hidden.push(&stem);
            hidden.push(suffix);
            destination.with_file_name(hidden)
        };
        let mut partial = Partial {
            part: beside(PART_SUFFIX),
            record: beside(RECORD_SUFFIX),
            destination: destination.to_owned(),
            file: None,
            len: 0,
            version: None,
            discarded: 0,
        };
        if let Some(version) = partial.read_record()
            && let Some(file) = partial.open(false)?
        {
            partial.len = file.metadata().map_err(file_error("read", &partial.part))?.len();
            partial.file = Some(file);
            partial.version = Some(version);
        }
        Ok(partial)
    }

    /// The bytes are whole: makes them durable, gives them their time, and puts them in place. What is there already is
    /// replaced or left alone, as `replace` says. Blocks on the disk.
    pub fn finish(self, modified: Option<SystemTime>, replace: bool) -> Result<Finished, Error> {
        let file = self.file.as_ref().expect("restarted or resumed before");
        if let Some(modified) = modified {
            file.set_modified(modified).map_err(file_error("set the time of", &self.part))?;
        }
        if let Some(version) = &self.version {
            kept::remember(file, version);
        }
        file.sync_all().map_err(file_error("write", &self.part))?;
        if !self.put_in_place(replace).map_err(file_error("put in place", &self.destination))? {
            remove_if_there(&self.record).map_err(file_error("remove", &self.record))?;
            remove_if_there(&self.part).map_err(file_error("remove", &self.part))?;
            return Ok(Finished::LeftAlone);
        }
        let directory = match self.destination.parent() {
            Some(directory) if directory != Path::new("") => directory,
            _ => Path::new("."),
        };
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(file_error("write", directory))?;
        remove_if_there(&self.record).map_err(file_error("remove", &self.record))?;
        Ok(Finished::InPlace)
    }

    /// Renames the bytes to the destination; false if something is there that is not to be replaced.
    fn put_in_place(&self, replace: bool) -> io::Result<bool> {
        if replace {
            return std::fs::rename(&self.part, &self.destination).map(|()| true);
        }
        match rustix::fs::renameat_with(CWD, &self.part, CWD, &self.destination, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // A file system that cannot tell: a file that appears in this very moment is replaced.
            Err(Errno::INVAL) if self.destination.symlink_metadata().is_err() => {
                std::fs::rename(&self.part, &self.destination).map(|()| true)
            }
            Err(Errno::INVAL) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what there is of a download that cannot be resumed anyway.
    pub fn discard_unless_resumable(&self) {
        if self.file.is_some() && (self.version.is_none() || self.len == 0) {
            // Litter is all that a failure here leaves.
            let _ = remove_if_there(&self.record);
            let _ = remove_if_there(&self.part);
        }
    }

    fn read_record(&self) -> Option<Version> {
        let json = std::fs::read(&self.record).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// Opens and locks the bytes so far. None if there are none and none are to be created.
    fn open(&self, create: bool) -> Result<Option<File>, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).custom_flags(libc::O_NOFOLLOW);
        loop {
            let file = match options.open(&self.part) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !create => return Ok(None),
                Err(error) => return Err(file_error("open", &self.part)(error)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let destination = text::path(&self.destination);
                    return Err(Error::Local(format!("another fetch is writing {destination} now")));
                }
                // A file system without locks: two fetches of one name at once are then the user's affair.
                Err(TryLockError::Error(_)) => {}
            }
            // Another fetch may have finished between the opening and the lock: then this file is its destination now.
            let opened = file.metadata().map_err(file_error("read", &self.part))?;
            match std::fs::symlink_metadata(&self.part) {
                Ok(named) if (named.dev(), named.ino()) == (opened.dev(), opened.ino()) => return Ok(Some(file)),
                _ => continue,
            }
        }
    }
}

impl Sink for Partial {
    fn len(&self) -> u64 {
        self.len
    }

    fn discarded(&self) -> u32 {
        self.discarded
    }

    fn all_are_here(&mut self) {
        if let Some(version) = &mut self.version {
            version.size = Some(self.len);
        }
    }

    fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// Creates missing directories.
    fn restart(&mut self, version: Option<Version>) -> Result<(), Error> {
        if let Some(directory) = self.destination.parent() {
            std::fs::create_dir_all(directory).map_err(file_error("create directory", directory))?;
        }
        self.version = None;
        self.discarded += u32::from(self.len > 0);
        remove_if_there(&self.record).map_err(file_error("remove", &self.record))?;
        if self.file.is_none() {
            self.file = self.open(true)?;
        }
        let file = self.file.as_mut().expect("opened above");
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(file_error("empty", &self.part))?;
        self.len = 0;
        if let Some(version) = &version {
            let json = serde_json::to_vec(version).expect("strings and a number");
            std::fs::write(&self.record, json).map_err(file_error("write", &self.record))?;
        }
        self.version = version;
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Error> {
        let file = self.file.as_mut().expect("only what is open is resumed");
        file.seek(SeekFrom::Start(self.len)).map_err(file_error("read", &self.part))?;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let file = self.file.as_mut().expect("restarted or resumed before");
        file.write_all(bytes).map_err(file_error("write", &self.part))?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

/// The part of a hidden name that stands for the destination's: the name itself, or its beginning and a hash if it is
/// too long.
fn stem(name: &OsStr) -> OsString {
    let bytes = name.as_bytes();
    if bytes.len() <= STEM_BYTES_MAX {
        return name.to_owned();
    }
    let hash: String = Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut stem = bytes[..STEM_BYTES_MAX - 17].to_vec();
    stem.push(b'~');
    stem.extend_from_slice(hash.as_bytes());
    OsString::from_vec(stem)
}

/// Whether a name is one that partial downloads take for themselves.
fn is_reserved(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".") && (name.ends_with(PART_SUFFIX.as_bytes()) || name.ends_with(RECORD_SUFFIX.as_bytes()))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(etag: &str) -> Option<Version> {
        Some(Version { url: "http://a:1/f".into(), etag: etag.into(), size: Some(6) })
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            directory.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_broken_download_is_found_again_and_finished() {
        let dir = tempfile::tempdir().unwrap();
        let destination = dir.path().join("sub/f");
        let mut first = Partial::find(&destination).unwrap();
        assert!(first.version().is_none() && names(dir.path()).is_empty());
        first.restart(version("\"1\"")).unwrap();
        first.append(b"abc").unwrap();
        drop(first);

        let mut second = Partial::find(&destination).unwrap();
        assert_eq!((second.len(), second.version().cloned()), (3, version("\"1\"")));
        second.resume().unwrap();
        second.append(b"def").unwrap();
        let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        second.finish(Some(then), true).unwrap();
        assert_eq!(std::fs::read(&destination).unwrap(), b"abcdef");
        assert_eq!(destination.metadata().unwrap().modified().unwrap(), then);
        assert_eq!(names(&dir.path().join("sub")), ["f"]);
    }

    #[test]
    fn bytes_without_a_record_are_not_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let destination = dir.path().join("f");
        let mut first = Partial::find(&destination).unwrap();
        first.restart(version("\"1\"")).unwrap();
        first.append(b"abc").unwrap();
        first.restart(None).unwrap();
        first.append(b"x").unwrap();
        first.discard_unless_resumable();
        drop(first);
        assert!(names(dir.path()).is_empty());

        std::fs::write(dir.path().join(".f.forebay-part"), "abc").unwrap();
        for record in [None, Some(""), Some("{\"url\":1}")] {
            if let Some(record) = record {
                std::fs::write(dir.path().join(".f.forebay-etag"), record).unwrap();
            }
            assert!(Partial::find(&destination).unwrap().version().is_none());
        }
        let mut again = Partial::find(&destination).unwrap();
        again.restart(version("\"2\"")).unwrap();
        again.append(b"z").unwrap();
        again.finish(None, true).unwrap();
        assert_eq!(std::fs::read(&destination).unwrap(), b"z");
        assert_eq!(names(dir.path()), ["f"]);
    }

    #[test]
    fn two_fetches_never_write_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let destination = dir.path().join("f");
        let mut first = Partial::find(&destination).unwrap();
        first.restart(version("\"1\"")).unwrap();
        let error = Partial::find(&destination).unwrap_err();
        assert!(error.to_string().contains("another fetch is writing"), "{error}");
        first.finish(None, true).unwrap();
        Partial::find(&destination).unwrap();
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join(".f.forebay-part")).unwrap();
        let mut partial = Partial::find(&dir.path().join("f")).unwrap();
        assert!(partial.restart(version("\"1\"")).is_err());
        assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
    }

    #[test]
    fn the_longest_names_work_and_own_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for len in [STEM_BYTES_MAX, STEM_BYTES_MAX + 1, 255] {
            let destination = dir.path().join("n".repeat(len));
            let mut partial = Partial::find(&destination).unwrap();
            partial.restart(version("\"1\"")).unwrap();
            partial.finish(None, true).unwrap();
            assert!(destination.exists());
        }
        assert!(Partial::find(&dir.path().join(".f.forebay-part")).is_err());
        assert!(Partial::find(dir.path()).is_err());
    }
}
