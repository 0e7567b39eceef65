//! An open root directory, and how names are resolved beneath it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::{Policy, RESOLVE_TRIES};
use crate::ring::looks::storage_is_slow;

/// An open root directory. Names are resolved beneath it as long as somebody holds it, whatever its path leads to
/// meanwhile.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    device: u64,
    inode: u64,
    policy: Policy,
}

/// The path that is served leads to no directory at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the directory that is served is not there at present; try again")]
pub struct RootAbsent;

impl From<RootAbsent> for io::Error {
    fn from(absent: RootAbsent) -> io::Error {
        io::Error::other(absent)
    }
}

impl RootAbsent {
    /// Whether this is why something failed.
    pub fn caused(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<RootAbsent>())
    }
}

impl Root {
    pub(super) fn open(path: &Path, policy: Policy) -> io::Result<Root> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&directory)?;
        if super::identity::may_be_slow(&directory) {
            storage_is_slow();
        }
        Ok(Root { directory, device: stat.st_dev, inode: stat.st_ino, policy })
    }

    /// Whether that is what was found where the path of the root leads.
    pub(super) fn is(&self, stat: &Stat) -> bool {
        (stat.st_dev, stat.st_ino) == (self.device, self.inode)
    }

    /// Opens what a read asks for.
    pub(super) fn resolve_read(&self, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        self.open_at(name, flags, self.policy.resolve_reads())
    }

    /// Opens what a write needs.
    pub(super) fn resolve(&self, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        self.open_at(name, flags, self.policy.resolve_writes())
    }

    fn open_at(&self, name: &[u8], flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let path = if name.is_empty() { b"." } else { name };
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < RESOLVE_TRIES => tries += 1,
                result => return result,
            }
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl AsRawFd for Root {
    fn as_raw_fd(&self) -> RawFd {
        self.directory.as_raw_fd()
    }
}
