//! Where the lines of the access log go: a file that is appended to, a pipe, or standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::AccessLogTarget;

/// Bytes that a pipe takes whole when it takes any (POSIX's PIPE_BUF on Linux), so that a write after a look does not
/// block.
const PIPE_BYTES: usize = 4096;

/// An open log.
pub(super) struct Sink {
    /// `None`: standard output, which others may share, and which is never opened again.
    file: Option<File>,
    /// A regular file; everything else has a reader, who may be slow or gone.
    is_file: bool,
}

impl Sink {
    /// Opens a log. A file is made if there is none. Never waits: a named pipe needs no reader yet, and keeps lines for
    /// one.
    ///
    /// # Errors
    /// It cannot be opened for appending.
    pub fn open(target: &AccessLogTarget) -> io::Result<Sink> {
        let AccessLogTarget::File(path) = target else {
            let is_file = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(io::stdout())?.st_mode).is_file();
            return Ok(Sink { file: None, is_file });
        };
        let file = open_file(path)?;
        let is_file = file.metadata()?.is_file();
        Ok(Sink { file: Some(file), is_file })
    }

    /// Whether both are the same file of the disk.
    pub fn is_same(&self, other: &Sink) -> bool {
        let identity = |sink: &Sink| {
            let metadata = sink.file.as_ref()?.metadata().ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        identity(self).is_some_and(|of_this| identity(other) == Some(of_this))
    }

    /// Whether the file has no name any more: nobody will ever read what is written to it.
    pub fn is_deleted(&self) -> bool {
        let metadata = |file: &File| file.metadata().ok();
        self.is_file && self.file.as_ref().and_then(metadata).is_some_and(|metadata| metadata.nlink() == 0)
    }

    /// Writes some of the bytes. Does not wait for a reader.
    ///
    /// # Errors
    /// WouldBlock: the reader is behind. Otherwise the bytes cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = if self.is_file { bytes } else { &bytes[..bytes.len().min(PIPE_BYTES)] };
        if !self.is_file && !self.is_ready(Duration::ZERO)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match &mut self.file {
            Some(file) => file.write(bytes),
            // Not through the buffer of `Stdout`, whose rest would be written again and again.
            None => Ok(rustix::io::write(io::stdout(), bytes)?),
        }
    }

    /// Waits until the log takes bytes, or is broken, for so long at most. Whether it does.
    ///
    /// # Errors
    /// Those of poll.
    pub fn is_ready(&self, patience: Duration) -> io::Result<bool> {
        let stdout = io::stdout();
        let fd: BorrowedFd<'_> = match &self.file {
            Some(file) => file.as_fd(),
            None => stdout.as_fd(),
        };
        let time = Timespec { tv_sec: patience.as_secs() as _, tv_nsec: patience.subsec_nanos() as _ };
        match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], Some(&time)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    // A named pipe without a reader would keep a plain open waiting.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    match OpenOptions::new().append(true).create(true).custom_flags(flags).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) && is_pipe(path) => {
            // Who opens both ends needs nobody else: the pipe keeps what it has room for until somebody reads it.
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
        }
        outcome => outcome,
    }
}

fn is_pipe(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo())
}
