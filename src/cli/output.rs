//! Standard output, and the one way in which it may fail without that being a failure.

use std::io::{self, Write};

/// Whoever read standard output has gone, as `head` does: the command ends quietly, with success.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more")]
pub struct OutputClosed;

/// Writes a text to standard output. The error is [`OutputClosed`] when its reader has gone.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
    }
}
