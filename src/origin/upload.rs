//! Storing and deleting files: atomically, durably, and beneath the root only.
//!
//! ```text
//! begin    an unnamed file (O_TMPFILE) in the target's directory, or in its closest ancestor that exists;
//!          where the file system cannot do that, a file with a hidden name (staging)
//! write    the caller writes the body and syncs the file
//! commit   create what directories are missing, look at the target, decide by the condition;
//!          nothing there: link the file to its name (which fails if something appeared)
//!          a file there:  link it to a hidden name, rename that over the target
//!          sync the directory
//! drop     without commit: the unnamed file is gone by itself, a hidden name is unlinked
//! ```
//! A crash at any moment leaves the old or the new file under the name, and at most one hidden name, which the next start
//! sweeps away. Callers keep writers of one name apart between looking and committing ([`Upload::commit`] checks and acts in one
//! call, but not atomically against other programs).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::identity::{Found, Identity};
use super::{Origin, READ_FLAGS, split, staging};

/// Why a write to the origin did not happen. The old file, if any, is untouched.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("there is a directory of that name")]
    IsDirectory,
    #[error("a part of the path is a file or leads out of the root, so nothing can be stored beneath it")]
    ParentNotDirectory,
    #[error("what has that name is neither a file nor a directory")]
    Special,
    #[error("there is no such file")]
    NotFound,
    #[error("the condition of the request does not hold for the file as it is now")]
    ConditionFailed,
    #[error("a part of the path is longer than the file system takes")]
    NameTooLong,
    #[error("the origin cannot be written: {0}")]
    Denied(io::Error),
    #[error("the origin is out of space: {0}")]
    NoSpace(io::Error),
    #[error("the origin failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> WriteError {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => WriteError::NoSpace(error),
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => WriteError::Denied(error),
            Some(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => WriteError::ParentNotDirectory,
            Some(Errno::NAMETOOLONG) => WriteError::NameTooLong,
            Some(Errno::ISDIR) => WriteError::IsDirectory,
            _ => WriteError::Io(error),
        }
    }
}

impl From<Errno> for WriteError {
    fn from(errno: Errno) -> WriteError {
        io::Error::from(errno).into()
    }
}

/// What must be true of the present file (None: there is none) for a write to go ahead.
pub type Condition<'a> = &'a (dyn Fn(Option<&Identity>) -> bool + Send + Sync);

/// A file stored under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The new version.
    pub identity: Identity,
    /// Whether there was no file of that name before.
    pub created: bool,
}

/// A file being uploaded: no name yet, or a hidden one.
#[derive(Debug)]
pub struct Upload {
    name: Vec<u8>,
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

impl Origin {
    /// Opens a file to upload `name` into. Directories that are missing are created by the commit, not before.
    ///
    /// # Errors
    /// [`WriteError`]; already here if the name is a directory's, or its place cannot be written.
    pub fn begin_upload(&self, name: &[u8]) -> Result<Upload, WriteError> {
        self.present(name)?;
        let _stays = self.tree.read();
        let mut place = split(name).0;
        let directory = loop {
            match self.open_place(place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !place.is_empty() => place = split(place).0,
                result => break result?,
            }
        };
        let mode = Mode::from_raw_mode(0o666);
        let unnamed = rustix::fs::openat(&directory, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode);
        let (file, staged) = match unnamed {
            Ok(fd) => (File::from(fd), None),
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
        Ok(Upload { name: name.to_vec(), file, staged })
    }

    /// Deletes the file `name`, durably.
    ///
    /// # Errors
    /// [`WriteError`]; the file is then still there, except after a failed sync of the directory ([`WriteError::Io`]).
    pub fn delete(&self, name: &[u8], condition: Condition<'_>) -> Result<(), WriteError> {
        let present = self.present(name)?.ok_or(WriteError::NotFound)?;
        if !condition(Some(&present)) {
            return Err(WriteError::ConditionFailed);
        }
        let (place, last) = split(name);
        let directory = self.open_place(place)?;
        match rustix::fs::unlinkat(&directory, last, AtFlags::empty()) {
            Err(Errno::NOENT) => return Err(WriteError::NotFound),
            result => result?,
        }
        self.sync_directory(place)?;
        Ok(())
    }

    /// The file that a write to `name` would replace, if there is one.
    ///
    /// # Errors
    /// What is there cannot be replaced, or not be looked at.
    pub fn present(&self, name: &[u8]) -> Result<Option<Identity>, WriteError> {
        match self.look(name) {
            Ok(Found::File(identity)) => Ok(Some(identity)),
            Ok(Found::Directory) => Err(WriteError::IsDirectory),
            Ok(Found::Special) => Err(WriteError::Special),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the names in a directory durable.
    fn sync_directory(&self, place: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.resolve(place, READ_FLAGS | OFlags::DIRECTORY)?)?)
    }

    /// Opens the directory `place`, creating what is missing of it; says which directories it created, outermost first.
    fn create_place<'n>(&self, place: &'n [u8], created: &mut Vec<&'n [u8]>) -> Result<OwnedFd, WriteError> {
        match self.open_place(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !place.is_empty() => {}
            result => return Ok(result?),
        }
        let (above, last) = split(place);
        let parent = self.create_place(above, created)?;
        match rustix::fs::mkdirat(&parent, last, Mode::from_raw_mode(0o777)) {
            Ok(()) => created.push(place),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        match self.open_place(place) {
            // A symbolic link that leads nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(WriteError::ParentNotDirectory),
            result => Ok(result?),
        }
    }
}

impl Upload {
    /// The file to write the body to, from offset 0. The caller syncs it before [`Upload::commit`].
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, if `condition` holds for what has that name now, and makes that durable.
    ///
    /// # Errors
    /// [`WriteError`]; the old file is then untouched, except after a failed sync of the directory, when the name may hold
    /// either version after a crash.
    pub fn commit(self, origin: &Origin, condition: Condition<'_>) -> Result<Stored, WriteError> {
        let name = self.name.clone();
        let place = split(&name).0;
        {
            let _stays = origin.tree.read();
            if origin.open_place(place).is_ok() {
                return self.put_in_place(origin, &name, condition);
            }
        }
        let _alone = origin.tree.write();
        let mut created = Vec::new();
        let result = origin.create_place(place, &mut created).and_then(|_| self.put_in_place(origin, &name, condition));
        let settled = match &result {
            Ok(_) => created.iter().try_for_each(|place| origin.sync_directory(split(place).0)),
            Err(_) => {
                for place in created.iter().rev() {
                    let (above, last) = split(place);
                    // Not empty any more is fine; anything else leaves an empty directory, which is no worse than an error here.
                    let _ = origin.open_place(above).map(|fd| rustix::fs::unlinkat(fd, last, AtFlags::REMOVEDIR));
                }
                Ok(())
            }
        };
        settled?;
        result
    }

    fn put_in_place(mut self, origin: &Origin, name: &[u8], condition: Condition<'_>) -> Result<Stored, WriteError> {
        let present = origin.present(name)?;
        if !condition(present.as_ref()) {
            return Err(WriteError::ConditionFailed);
        }
        let (place, last) = split(name);
        let directory = origin.open_place(place)?;
        if present.is_some() {
            self.keep_mode(origin)?;
        }
        let created = present.is_none() && self.create(&directory, last)?;
        if !created {
            // Something may have appeared since the look; then the condition must hold for that, too.
            if present.is_none() && !condition(origin.present(name)?.as_ref()) {
                return Err(WriteError::ConditionFailed);
            }
            self.replace(directory, last)?;
        }
        origin.sync_directory(place)?;
        match Found::of(&self.file)? {
            Found::File(identity) => Ok(Stored { identity, created }),
            Found::Directory | Found::Special => Err(WriteError::Special),
        }
    }

    /// A replacement may be read and written by whom its predecessor could.
    fn keep_mode(&self, origin: &Origin) -> Result<(), WriteError> {
        let old = rustix::fs::fstat(origin.resolve(&self.name, super::LOOK_FLAGS)?)?;
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
    fn replace(&mut self, directory: OwnedFd, last: &[u8]) -> Result<(), WriteError> {
        let target = rustix::io::fcntl_dupfd_cloexec(&directory, 0)?;
        let hidden = match self.staged.take() {
            Some(hidden) => hidden,
            None => {
                let name = staging::fresh_name();
                link(&self.file, &directory, name.as_bytes())?;
                Hidden { directory, name }
            }
        };
        rustix::fs::renameat(&hidden.directory, &hidden.name, target, last)?;
        hidden.renamed();
        Ok(())
    }
}

/// Links an unnamed file to a name. By the descriptor itself where that is allowed (with CAP_DAC_READ_SEARCH, or since Linux
/// 6.10), else through /proc, as open(2) describes.
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
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    const ANY: Condition<'static> = &|_| true;
    const ABSENT: Condition<'static> = &|present| present.is_none();

    fn put(origin: &Origin, name: &str, body: &str, condition: Condition<'_>) -> Result<Stored, WriteError> {
        let upload = origin.begin_upload(name.as_bytes())?;
        upload.file().write_all(body.as_bytes()).unwrap();
        upload.commit(origin, condition)
    }

    /// As `put`, by way of a hidden name, as on file systems without O_TMPFILE.
    fn put_hidden(origin: &Origin, name: &str, body: &str, condition: Condition<'_>) -> Result<Stored, WriteError> {
        let directory = origin.open_place(b"").unwrap();
        let hidden = staging::fresh_name();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        let fd = rustix::fs::openat(&directory, &hidden, flags, Mode::from_raw_mode(0o666)).unwrap();
        let staged = Some(Hidden { directory, name: hidden });
        let upload = Upload { name: name.as_bytes().to_vec(), file: File::from(fd), staged };
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
        type Put = fn(&Origin, &str, &str, Condition<'_>) -> Result<Stored, WriteError>;
        for put in [put as Put, put_hidden] {
            let root = tempfile::tempdir().unwrap();
            let origin = Origin::open(root.path()).unwrap();
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
        type Put = fn(&Origin, &str, &str, Condition<'_>) -> Result<Stored, WriteError>;
        for put in [put as Put, put_hidden] {
            let root = tempfile::tempdir().unwrap();
            fs::write(root.path().join("old"), "old").unwrap();
            fs::create_dir(root.path().join("dir")).unwrap();
            symlink("nowhere/at/all", root.path().join("broken")).unwrap();
            symlink("../..", root.path().join("up")).unwrap();
            let before = tree(root.path());
            let origin = Origin::open(root.path()).unwrap();
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
    fn a_link_is_replaced_not_followed() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "old").unwrap();
        symlink("file", root.path().join("link")).unwrap();
        symlink("nowhere", root.path().join("broken")).unwrap();
        let origin = Origin::open(root.path()).unwrap();
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
        let origin = Origin::open(root.path()).unwrap();
        assert!(matches!(origin.delete(b"dir", ANY), Err(WriteError::IsDirectory)));
        assert!(matches!(origin.delete(b"no", ANY), Err(WriteError::NotFound)));
        assert!(matches!(origin.delete(b"dir/file", &|_| false), Err(WriteError::ConditionFailed)));
        origin.delete(b"dir/file", &|present| present.is_some_and(|p| p.size == 1)).unwrap();
        assert_eq!(tree(root.path()), ["dir"]);
    }

    #[test]
    fn uploads_into_directories_that_come_and_go_do_not_lose_files() {
        let root = tempfile::tempdir().unwrap();
        let origin = Origin::open(root.path()).unwrap();
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
