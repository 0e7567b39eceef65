//! Why a write to the directory that is served did not happen.

use std::io;

use rustix::io::Errno;

use super::RootAbsent;
use crate::limits;

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
    #[error("the name has {0} parts; at most {depth} can be written", depth = limits::NAME_DEPTH)]
    TooDeep(usize),
    #[error("another directory took the place of the one that is served, during the write; send the file again")]
    RootExchanged,
    #[error(transparent)]
    RootAbsent(#[from] RootAbsent),
    #[error("the origin cannot be written: {0}")]
    Denied(io::Error),
    #[error("the origin is out of space: {0}")]
    NoSpace(io::Error),
    #[error("the file is larger than the file system, or the limit on the server's files (LimitFSIZE=), permits: {0}")]
    TooLarge(io::Error),
    #[error("the origin failed: {0}")]
    Io(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> WriteError {
        if RootAbsent::caused(&error) {
            return RootAbsent.into();
        }
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => WriteError::NoSpace(error),
            Some(Errno::FBIG) => WriteError::TooLarge(error),
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
