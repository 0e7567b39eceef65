//! Directories that an upload creates on its way, and how they become durable.
//!
//! No lock is held while a directory is synced, so that an upload into many new directories delays nobody. An upload
//! that finds a directory which another one has just created cannot know whether its name is durable. As long as there
//! are such directories, every upload syncs all those on its way before it acknowledges anything.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::WriteError;
use super::root::Root;
use super::{LOOK_FLAGS, READ_FLAGS, split};

/// How many uploads have created directories whose names are not known to be durable.
#[derive(Debug, Default)]
pub(super) struct Unsettled(AtomicUsize);

/// The directories that one upload has created, outermost first. They count as unsettled until this is dropped.
pub(super) struct Created<'u> {
    unsettled: &'u Unsettled,
    places: Vec<Vec<u8>>,
}

impl Unsettled {
    /// Nothing is created yet.
    pub fn begin(&self) -> Created<'_> {
        Created { unsettled: self, places: Vec::new() }
    }
}

impl Created<'_> {
    /// Opens the directory `place`, creating what is missing of it.
    ///
    /// # Errors
    /// What keeps a directory from being created or opened. NotFound: one on the way was removed meanwhile.
    pub fn open(&mut self, root: &Root, place: &[u8]) -> Result<OwnedFd, WriteError> {
        let mut missing = vec![place];
        let mut directory = loop {
            let last = missing[missing.len() - 1];
            match root.open_place(last) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !last.is_empty() => {
                    missing.push(split(last).0)
                }
                result => break result?,
            }
        };
        missing.pop();
        while let Some(next) = missing.pop() {
            self.create(&directory, next)?;
            directory = match root.open_place(next) {
                // It exists and cannot be opened: a symbolic link that leads nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound && is_link(&directory, split(next).1) => {
                    return Err(WriteError::ParentNotDirectory);
                }
                result => result?,
            };
        }
        Ok(directory)
    }

    fn create(&mut self, above: &OwnedFd, place: &[u8]) -> Result<(), Errno> {
        // Counted first, so that nobody finds the directory without finding the count.
        let is_first = self.places.is_empty();
        if is_first {
            self.unsettled.0.fetch_add(1, Ordering::SeqCst);
        }
        self.places.push(place.to_vec());
        let result = rustix::fs::mkdirat(above, split(place).1, Mode::from_raw_mode(0o777));
        if result.is_err() {
            self.places.pop();
            if is_first {
                self.unsettled.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        match result {
            Err(Errno::EXIST) => Ok(()),
            result => result,
        }
    }

    /// Makes all directories on the way to `place` durable, as far as anybody has created some of late.
    ///
    /// # Errors
    /// Those of fsync.
    pub fn settle(&self, root: &Root, place: &[u8]) -> io::Result<()> {
        let mut at = place;
        while !at.is_empty() && self.unsettled.0.load(Ordering::SeqCst) > 0 {
            at = split(at).0;
            root.sync_directory(at)?;
        }
        Ok(())
    }

    /// Removes what was created and is still empty.
    pub fn take_back(&mut self, root: &Root) {
        for place in self.places.iter().rev() {
            let (above, last) = split(place);
            let Ok(directory) = root.open_place(above) else { continue };
            if rustix::fs::unlinkat(directory, last, AtFlags::REMOVEDIR) == Err(Errno::NOTEMPTY) {
                // Another upload uses it by now, and makes it durable, too. Nobody is left here to be told of a
                // failure.
                let _ = root.sync_directory(above);
            }
        }
    }
}

impl Drop for Created<'_> {
    fn drop(&mut self) {
        if !self.places.is_empty() {
            self.unsettled.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn is_link(directory: &OwnedFd, name: &[u8]) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

impl Root {
    /// Opens a directory as a place to look from or create in; it need not be readable.
    pub(super) fn open_place(&self, name: &[u8]) -> io::Result<OwnedFd> {
        Ok(self.resolve(name, LOOK_FLAGS | OFlags::DIRECTORY)?)
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_directory(&self, place: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.resolve(place, READ_FLAGS | OFlags::DIRECTORY)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::open;
    use super::*;

    #[test]
    fn new_directories_count_as_unsettled_until_their_creator_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let origin = open(dir.path());
        let root = origin.root().unwrap();
        let count = || origin.unsettled.0.load(Ordering::SeqCst);
        let mut first = origin.unsettled.begin();
        first.open(&root, b"").unwrap();
        assert_eq!(count(), 0);
        first.open(&root, b"a/b").unwrap();
        let mut second = origin.unsettled.begin();
        second.open(&root, b"a/b").unwrap();
        assert_eq!((first.places.len(), second.places.len(), count()), (2, 0, 1));
        first.settle(&root, b"a/b").unwrap();
        drop(first);
        assert_eq!(count(), 0);

        // What another one uses by now stays.
        second.open(&root, b"a/b/c/d").unwrap();
        std::fs::write(dir.path().join("a/b/c/file"), "x").unwrap();
        second.take_back(&root);
        drop(second);
        assert!(dir.path().join("a/b/c").exists() && !dir.path().join("a/b/c/d").exists());
        assert_eq!(count(), 0);
    }
}
