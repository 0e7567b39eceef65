//! Storing and deleting files: atomically, durably, and beneath the root only.
//!
//! ```text
//! begin    an unnamed file (O_TMPFILE) in the target's directory, or in its closest ancestor that exists;
//!          where the file system cannot do that, a file with a hidden name (staging)
//! write    the caller writes the body and syncs the file
//! commit   see that the root still is the one in which the upload began;
//!          create what directories are missing (place), look at the target, decide by the condition;
//!          nothing there: link the file to its name (which fails if something appeared)
//!          a file there:  link it to a hidden name, rename that over the target
//!          sync the directory, and those above it that are new
//! drop     without commit: the unnamed file is gone by itself, a hidden name is unlinked
//! ```
//! A crash at any moment leaves the old or the new file under the name, and at most one hidden name, which the next
//! start sweeps away. Callers keep writers of one name apart between looking and committing ([`Upload::commit`] checks
//! and acts in one call, but not atomically against other programs).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::error::WriteError;
use super::{Directory, LOOK_FLAGS, Root, split, staging};
use crate::version::{Found, Version};
use crate::{limits, machine};

/// What must be true of the present file (None: there is none) for a write to go ahead.
pub type Condition<'a> = &'a (dyn Fn(Option<&Version>) -> bool + Send + Sync);

/// A file stored under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The new version.
    pub identity: Version,
    /// Whether there was no file of that name before.
    pub created: bool,
}

/// A file being uploaded: no name yet, or a hidden one.
#[derive(Debug)]
pub struct Upload {
    name: Vec<u8>,
    /// Where it began: the only root that it can be committed to.
    root: Arc<Root>,
    file: File,
    staged: Option<Hidden>,
}

/// A hidden name, unlinked when dropped.
#[derive(Debug)]
struct Hidden {
    directory: OwnedFd,
    name: String,
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            // Nothing can be done about a failure here, and the next start's sweep will try again.
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

impl Hidden {
    /// The file has its real name now: nothing is left to unlink.
    fn renamed(mut self) {
        self.name.clear();
    }
}

/// How often a commit is tried again because a directory vanished under it: another upload that failed took it back.
const COMMIT_TRIES: usize = 32;

/// By how much a file's time is moved on until it differs from its predecessor's: what file systems keep is as fine as
/// a nanosecond (ext4, XFS, tmpfs) or 100 (NTFS), and as coarse as a second (NFS) or two (FAT).
const STAMP_STEPS: [Duration; 5] =
    [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(1), Duration::from_secs(1), Duration::from_secs(2)];

impl Directory {
    /// Opens a file to upload `name` into. Directories that are missing are created by the commit, not before.
    ///
    /// # Errors
    /// [`WriteError`]; already here if the name is a directory's or too deep, or its place cannot be written.
    pub fn begin_upload(&self, name: &[u8]) -> Result<Upload, WriteError> {
        let depth = name.split(|&byte| byte == b'/').count();
        if depth > limits::NAME_DEPTH {
            return Err(WriteError::TooDeep(depth));
        }
        self.follow();
        let root = self.root()?;
        present(&root, name)?;
        let mut place = split(name).0;
        loop {
            match stage(&root, place) {
                Err(WriteError::Io(error)) if error.kind() == io::ErrorKind::NotFound && !place.is_empty() => {
                    place = split(place).0;
                }
                result => return result.map(|(file, staged)| Upload { name: name.to_vec(), root, file, staged }),
            }
        }
    }

    /// Deletes the file `name`, durably.
    ///
    /// # Errors
    /// [`WriteError`]; the file is then still there, except after a failed sync of the directory ([`WriteError::Io`]).
    pub fn delete(&self, name: &[u8], condition: Condition<'_>) -> Result<(), WriteError> {
        self.follow();
        let root = self.root()?;
        let there = present(&root, name)?.ok_or(WriteError::NotFound)?;
        if !condition(Some(&there)) {
            return Err(WriteError::ConditionFailed);
        }
        let (place, last) = split(name);
        let directory = root.open_place(place)?;
        match rustix::fs::unlinkat(&directory, last, AtFlags::empty()) {
            Err(Errno::NOENT) => return Err(WriteError::NotFound),
            result => result?,
        }
        root.sync_directory(place)?;
        Ok(())
    }
}

/// The file that a write to `name` would replace, if there is one.
fn present(root: &Root, name: &[u8]) -> Result<Option<Version>, WriteError> {
    let found = root.resolve(name, LOOK_FLAGS).map_err(io::Error::from).and_then(Found::of);
    match found {
        Ok(Found::File(identity)) => Ok(Some(identity)),
        Ok(Found::Directory) => Err(WriteError::IsDirectory),
        Ok(Found::Special) => Err(WriteError::Special),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// An unnamed file in a directory, or one with a hidden name.
fn stage(root: &Root, place: &[u8]) -> Result<(File, Option<Hidden>), WriteError> {
    let directory = root.open_place(place)?;
    let mode = Mode::from_raw_mode(0o666);
    let unnamed = rustix::fs::openat(&directory, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode);
    let (file, staged) = match unnamed {
        Ok(fd) => (File::from(fd), None),
        // ext4 says EPERM of a directory that was removed since it was opened.
        Err(Errno::PERM) if rustix::fs::fstat(&directory)?.st_nlink == 0 => return Err(Errno::NOENT.into()),
        // What kernels and file systems without O_TMPFILE say.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
            let name = staging::fresh_name();
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&directory, &name, flags, mode)?;
            (File::from(fd), Some(Hidden { directory, name }))
        }
        Err(errno) => return Err(errno.into()),
    };
    // Tells sweeps that this upload lives. Without it (a file system without locks) nothing else is lost.
    let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    Ok((file, staged))
}

impl Upload {
    /// The file to write the body to, from offset 0. The caller syncs it before [`Upload::commit`].
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The file that this would replace, if there is one.
    ///
    /// # Errors
    /// What is there cannot be replaced, or not be looked at.
    pub fn present(&self) -> Result<Option<Version>, WriteError> {
        present(&self.root, &self.name)
    }

    /// Gives the file its name, if `condition` holds for what has that name now, and makes that durable.
    ///
    /// # Errors
    /// [`WriteError`]; the old file is then untouched, except after a failed sync of the directory, when the name may
    /// hold either version after a crash.
    pub fn commit(mut self, origin: &Directory, condition: Condition<'_>) -> Result<Stored, WriteError> {
        origin.follow();
        if !origin.is_present(&self.root) {
            return Err(origin.root().map_or_else(WriteError::from, |_| WriteError::RootExchanged));
        }
        let root = self.root.clone();
        let name = std::mem::take(&mut self.name);
        let place = split(&name).0;
        let mut created = origin.unsettled.begin();
        let mut tries = 0;
        let result = loop {
            let directory = created.open(&root, place);
            match directory.and_then(|directory| self.put_in_place(&directory, &name, condition)) {
                Err(WriteError::Io(error)) if error.kind() == io::ErrorKind::NotFound && tries < COMMIT_TRIES => {
                    tries += 1;
                }
                result => break result,
            }
        };
        match result {
            Ok(is_new) => {
                root.sync_directory(place)?;
                created.settle(&root, place)?;
                match Found::of(&self.file)? {
                    Found::File(identity) => Ok(Stored { identity, created: is_new }),
                    Found::Directory | Found::Special => Err(WriteError::Special),
                }
            }
            Err(error) => {
                created.take_back(&root);
                Err(error)
            }
        }
    }

    /// Says whether there was no file of that name before.
    fn put_in_place(&mut self, directory: &OwnedFd, name: &[u8], condition: Condition<'_>) -> Result<bool, WriteError> {
        let there = present(&self.root, name)?;
        if !condition(there.as_ref()) {
            return Err(WriteError::ConditionFailed);
        }
        let last = split(name).1;
        if there.is_some() {
            self.keep_mode(name)?;
        }
        stamp(&self.file, machine::wall(), there.as_ref())?;
        let created = there.is_none() && self.create(directory, last)?;
        if !created {
            // Something may have appeared since the look; then the condition must hold for that, too.
            if there.is_none() && !condition(present(&self.root, name)?.as_ref()) {
                return Err(WriteError::ConditionFailed);
            }
            self.replace(directory, last)?;
        }
        Ok(created)
    }

    /// A replacement may be read and written by whom its predecessor could.
    fn keep_mode(&self, name: &[u8]) -> Result<(), WriteError> {
        let old = rustix::fs::fstat(self.root.resolve(name, LOOK_FLAGS)?)?;
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(old.st_mode & 0o777))?;
        Ok(())
    }

    /// Gives the file its name if nothing has that name; false if something has.
    fn create(&mut self, directory: &OwnedFd, last: &[u8]) -> Result<bool, WriteError> {
        let result = match &self.staged {
            None => link(&self.file, directory, last),
            Some(hidden) => {
                rustix::fs::renameat_with(&hidden.directory, &hidden.name, directory, last, RenameFlags::NOREPLACE)
            }
        };
        match result {
            Ok(()) => {
                if let Some(hidden) = self.staged.take() {
                    hidden.renamed();
                }
                Ok(true)
            }
            // A file system that cannot rename so: the plain rename does it.
            Err(Errno::INVAL) if self.staged.is_some() => Ok(false),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives the file its name, whatever file has it now.
    fn replace(&mut self, directory: &OwnedFd, last: &[u8]) -> Result<(), WriteError> {
        let hidden = match self.staged.take() {
            Some(hidden) => hidden,
            None => {
                let (name, directory) = (staging::fresh_name(), rustix::io::fcntl_dupfd_cloexec(directory, 0)?);
                link(&self.file, &directory, name.as_bytes())?;
                Hidden { directory, name }
            }
        };
        match rustix::fs::renameat(&hidden.directory, &hidden.name, directory, last) {
            Ok(()) => {
                hidden.renamed();
                Ok(())
            }
            Err(errno) => {
                // It has a name now, and keeps it for another try.
                self.staged = Some(hidden);
                Err(errno.into())
            }
        }
    }
}

/// Gives a file that is about to get its name the time of now, exactly, and one that differs from its predecessor's: of
/// two files of one size that are stored within one tick of the kernel's clock, each has an entity tag of its own.
fn stamp(file: &File, now: Duration, predecessor: Option<&Version>) -> Result<(), WriteError> {
    for step in STAMP_STEPS {
        let time = now.saturating_add(step);
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        let times = Timestamps { last_access: time, last_modification: time };
        // A file system that keeps no such times, or lets nobody set them: the file has the time of its last write.
        if rustix::fs::futimens(file, &times).is_err() {
            return Ok(());
        }
        let Found::File(version) = Found::of(file)? else { return Err(WriteError::Special) };
        if predecessor.is_none_or(|there| there.etag() != version.etag()) {
            return Ok(());
        }
    }
    Ok(())
}

/// Links an unnamed file to a name. By the descriptor itself where that is allowed (with CAP_DAC_READ_SEARCH, or since
/// Linux 6.10), else through /proc, as open(2) describes.
fn link(file: &File, directory: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::linkat(file.as_fd(), "", directory, name, AtFlags::EMPTY_PATH) {
        Err(Errno::NOENT | Errno::PERM) => {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, path, directory, name, AtFlags::SYMLINK_FOLLOW)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::open;
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    const ANY: Condition<'static> = &|_| true;
    const ABSENT: Condition<'static> = &|present| present.is_none();

    fn put(origin: &Directory, name: &str, body: &str, condition: Condition<'_>) -> Result<Stored, WriteError> {
        let upload = origin.begin_upload(name.as_bytes())?;
        upload.file().write_all(body.as_bytes()).unwrap();
        upload.commit(origin, condition)
    }

    /// As `put`, by way of a hidden name, as on file systems without O_TMPFILE.
    fn put_hidden(origin: &Directory, name: &str, body: &str, condition: Condition<'_>) -> Result<Stored, WriteError> {
        let root = origin.root().unwrap();
        let directory = root.open_place(b"").unwrap();
        let hidden = staging::fresh_name();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        let fd = rustix::fs::openat(&directory, &hidden, flags, Mode::from_raw_mode(0o666)).unwrap();
        let staged = Some(Hidden { directory, name: hidden });
        let upload = Upload { name: name.as_bytes().to_vec(), root, file: File::from(fd), staged };
        upload.file().write_all(body.as_bytes()).unwrap();
        upload.commit(origin, condition)
    }

    /// All names beneath a directory, sorted.
    fn tree(root: &Path) -> Vec<String> {
        let mut names = Vec::new();
        let mut pending = vec![root.to_owned()];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                names.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                if path.is_dir() && !path.is_symlink() {
                    pending.push(path);
                }
            }
        }
        names.sort();
        names
    }

    #[test]
    fn a_file_is_created_then_replaced_and_nothing_is_left_over() {
        type Put = fn(&Directory, &str, &str, Condition<'_>) -> Result<Stored, WriteError>;
        for put in [put as Put, put_hidden] {
            let root = tempfile::tempdir().unwrap();
            let origin = open(root.path());
            let first = put(&origin, "a/b/c.txt", "one", ANY).unwrap();
            assert!(first.created);
            assert_eq!(Found::File(first.identity), origin.look(b"a/b/c.txt").unwrap());
            fs::set_permissions(root.path().join("a/b/c.txt"), fs::Permissions::from_mode(0o600)).unwrap();

            let second = put(&origin, "a/b/c.txt", "second", ANY).unwrap();
            assert!(!second.created);
            assert_ne!(first.identity, second.identity);
            assert_eq!(Found::File(second.identity), origin.look(b"a/b/c.txt").unwrap());
            assert_eq!(fs::read(root.path().join("a/b/c.txt")).unwrap(), b"second");
            let mode = fs::metadata(root.path().join("a/b/c.txt")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "a replacement keeps the mode");
            assert_eq!(tree(root.path()), ["a", "a/b", "a/b/c.txt"]);
        }
    }

    #[test]
    fn what_fails_leaves_no_trace() {
        type Put = fn(&Directory, &str, &str, Condition<'_>) -> Result<Stored, WriteError>;
        for put in [put as Put, put_hidden] {
            let root = tempfile::tempdir().unwrap();
            fs::write(root.path().join("old"), "old").unwrap();
            fs::create_dir(root.path().join("dir")).unwrap();
            symlink("nowhere/at/all", root.path().join("broken")).unwrap();
            symlink("../..", root.path().join("up")).unwrap();
            let before = tree(root.path());
            let origin = open(root.path());
            assert!(matches!(put(&origin, "old", "new", ABSENT), Err(WriteError::ConditionFailed)));
            assert!(matches!(put(&origin, "n/e/w", "new", &|p| p.is_some()), Err(WriteError::ConditionFailed)));
            assert!(matches!(put(&origin, "dir", "new", ANY), Err(WriteError::IsDirectory)));
            assert!(matches!(put(&origin, "old/below", "new", ANY), Err(WriteError::ParentNotDirectory)));
            assert!(matches!(put(&origin, "broken/below", "new", ANY), Err(WriteError::ParentNotDirectory)));
            assert!(matches!(put(&origin, "up/escaped", "new", ANY), Err(WriteError::ParentNotDirectory)));
            assert!(matches!(put(&origin, &"x".repeat(256), "new", ANY), Err(WriteError::NameTooLong)));
            assert_eq!(tree(root.path()), before);
            assert_eq!(fs::read(root.path().join("old")).unwrap(), b"old");
            drop(origin.begin_upload(b"not/committed").unwrap());
            assert_eq!(tree(root.path()), before);
        }
    }

    #[test]
    fn files_stored_at_one_moment_have_entity_tags_of_their_own() {
        let root = tempfile::tempdir().unwrap();
        let store = |name: &str, now, predecessor: Option<&Version>| {
            let file = fs::File::create_new(root.path().join(name)).unwrap();
            (&file).write_all(b"same").unwrap();
            stamp(&file, now, predecessor).unwrap();
            let Found::File(version) = Found::of(&file).unwrap() else { panic!("not a file") };
            version
        };
        for now in [Duration::from_secs(1_800_000_000), machine::wall()] {
            let first = store(&format!("{now:?} first"), now, None);
            assert_eq!(first.mtime_ns, now.as_nanos() as i64);
            let second = store(&format!("{now:?} second"), now, Some(&first));
            assert_ne!(first.etag(), second.etag());
            assert!(second.mtime_ns > first.mtime_ns);
        }
    }

    #[test]
    fn a_link_is_replaced_not_followed() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "old").unwrap();
        symlink("file", root.path().join("link")).unwrap();
        symlink("nowhere", root.path().join("broken")).unwrap();
        let origin = open(root.path());
        for name in ["link", "broken"] {
            put(&origin, name, "new", ANY).unwrap();
            assert!(!root.path().join(name).is_symlink());
            assert_eq!(fs::read(root.path().join(name)).unwrap(), b"new");
        }
        assert_eq!(fs::read(root.path().join("file")).unwrap(), b"old");
        assert_eq!(tree(root.path()), ["broken", "file", "link"]);
    }

    #[test]
    fn deleting_takes_files_only() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dir")).unwrap();
        fs::write(root.path().join("dir/file"), "x").unwrap();
        let origin = open(root.path());
        assert!(matches!(origin.delete(b"dir", ANY), Err(WriteError::IsDirectory)));
        assert!(matches!(origin.delete(b"no", ANY), Err(WriteError::NotFound)));
        assert!(matches!(origin.delete(b"dir/file", &|_| false), Err(WriteError::ConditionFailed)));
        origin.delete(b"dir/file", &|present| present.is_some_and(|p| p.size == 1)).unwrap();
        assert_eq!(tree(root.path()), ["dir"]);
    }

    #[test]
    fn uploads_into_directories_that_come_and_go_do_not_lose_files() {
        let root = tempfile::tempdir().unwrap();
        let origin = open(root.path());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let origin = &origin;
                scope.spawn(move || {
                    for n in 0..50 {
                        let name = format!("new{n}/deep/{thread}");
                        let refused = put(origin, &format!("new{n}/deep/no"), "", &|_| false);
                        assert!(matches!(refused, Err(WriteError::ConditionFailed)), "{refused:?}");
                        assert!(put(origin, &name, &name, ANY).unwrap().created);
                    }
                });
            }
        });
        for name in (0..50).flat_map(|n| (0..4).map(move |thread| format!("new{n}/deep/{thread}"))) {
            assert_eq!(fs::read_to_string(root.path().join(&name)).unwrap(), name);
        }
    }
}
