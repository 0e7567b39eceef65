//! Where the bytes of a file go while they arrive: a partial download, or standard output.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use super::Error;
use super::kept::Version;

/// What takes the bytes of one file, from the first on.
pub trait Sink {
    /// Bytes so far.
    fn len(&self) -> u64;

    /// Whether there are no bytes yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The version that the bytes so far belong to, if they can be continued.
    fn version(&self) -> Option<&Version>;

    /// How often bytes that had come were thrown away for those of another version.
    fn discarded(&self) -> u32;

    /// The bytes so far are as many as the file has.
    fn all_are_here(&mut self);

    /// Begins anew with the bytes of `version`, or with bytes that cannot be resumed (None).
    fn restart(&mut self, version: Option<Version>) -> Result<(), Error>;

    /// Makes the next [`append`](Sink::append) continue after the bytes so far.
    fn resume(&mut self) -> Result<(), Error>;

    /// Adds bytes.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Error>;
}

/// Standard output: bytes that were written to it cannot be taken back.
pub struct Output {
    stdout: File,
    len: u64,
    version: Option<Version>,
}

impl Output {
    /// Standard output, unbuffered, for one file.
    pub fn new() -> Result<Output, Error> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(Error::Output)?;
        Ok(Output { stdout: File::from(stdout), len: 0, version: None })
    }
}

impl Sink for Output {
    fn len(&self) -> u64 {
        self.len
    }

    fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    fn discarded(&self) -> u32 {
        0
    }

    fn all_are_here(&mut self) {
        if let Some(version) = &mut self.version {
            version.size = Some(self.len);
        }
    }

    fn restart(&mut self, version: Option<Version>) -> Result<(), Error> {
        if self.len > 0 {
            let message = "what was written to standard output is only its beginning: \
                           it broke off, and the server cannot go on with the same version";
            return Err(Error::Local(message.to_owned()));
        }
        self.version = version;
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stdout.write_all(bytes).map_err(Error::Output)?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}
