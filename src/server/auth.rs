//! Who may: the bearer token (RFC 6750) that writes need, and reads too if so configured. Used by both planes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::hosts::Hosts;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The longest token that is taken from a file, bytes.
const TOKEN_BYTES_MAX: usize = 4096;

/// Decides by the Authorization field of a request.
#[derive(Debug)]
pub struct Guard {
    /// Where the token is; None: no token was configured.
    file: Option<PathBuf>,
    /// The SHA-256 of the token: of one length for every token, so that comparing tells nothing of its length either.
    token: RwLock<Option<[u8; 32]>>,
    reads: bool,
    hosts: Hosts,
}

/// Why a token file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the token file {0} cannot be read: {1}")]
    Unreadable(PathBuf, io::Error),
    #[error(
        "the token file {0} is empty; put one line with a token in it, such as the output of `openssl rand -hex 32`"
    )]
    Empty(PathBuf),
    #[error(
        "the token file {0} holds more than one line of at most {TOKEN_BYTES_MAX} printable ASCII characters without spaces"
    )]
    Malformed(PathBuf),
}

impl Guard {
    /// A guard that asks for the token in `file` on writes, and on reads if `reads`. Without a file nobody is asked.
    ///
    /// # Errors
    /// [`TokenError`]: the file cannot be read or holds no token.
    pub fn open(file: Option<&Path>, reads: bool) -> Result<Guard, TokenError> {
        let guard = Guard { file: file.map(Path::to_owned), token: RwLock::new(None), reads, hosts: Hosts::default() };
        guard.reload()?;
        Ok(guard)
    }

    /// Answers to these host names only, where that is asked for: see [`Hosts`].
    pub fn answering_to(self, names: &[String]) -> Guard {
        Guard { hosts: Hosts::new(names), ..self }
    }

    #[inline]
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Whether writes need a token.
    pub fn has_token(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the token file again.
    ///
    /// # Errors
    /// As [`Guard::open`]; the token then stays what it was.
    pub fn reload(&self) -> Result<(), TokenError> {
        if let Some(file) = &self.file {
            let token = read_token(file)?;
            *self.token.write() = Some(token);
        }
        Ok(())
    }

    /// Whether a read with this Authorization field may go ahead.
    #[inline]
    pub fn admits_read(&self, authorization: Option<&[u8]>) -> bool {
        !self.reads || self.knows(authorization)
    }

    /// Whether a write with this Authorization field may go ahead. (Whether there are writes at all is not asked here.)
    pub fn admits_write(&self, authorization: Option<&[u8]>) -> bool {
        self.knows(authorization)
    }

    fn knows(&self, authorization: Option<&[u8]>) -> bool {
        let Some(expected) = *self.token.read() else { return true };
        let Some(given) = authorization.and_then(bearer) else { return false };
        let given: [u8; 32] = Sha256::digest(given).into();
        given.ct_eq(&expected).into()
    }
}

/// The token of an Authorization field with the Bearer scheme.
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.trim_ascii().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn read_token(file: &Path) -> Result<[u8; 32], TokenError> {
    let text = fs::read(file).map_err(|error| TokenError::Unreadable(file.to_owned(), error))?;
    match text.trim_ascii() {
        [] => Err(TokenError::Empty(file.to_owned())),
        token if token.len() > TOKEN_BYTES_MAX || !token.iter().all(u8::is_ascii_graphic) => {
            Err(TokenError::Malformed(file.to_owned()))
        }
        token => Ok(Sha256::digest(token).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "s3cret\n").unwrap();
        let guard = Guard::open(Some(&file), false).unwrap();
        for (authorization, admitted) in [
            (None, false),
            (Some(&b"Bearer s3cret"[..]), true),
            (Some(b"bearer  s3cret "), true),
            (Some(b"Bearer s3cre"), false),
            (Some(b"Bearer s3crets"), false),
            (Some(b"Bearer S3CRET"), false),
            (Some(b"Bearer "), false),
            (Some(b"Bearer"), false),
            (Some(b"Basic s3cret"), false),
            (Some(b"s3cret"), false),
            (Some(b""), false),
        ] {
            assert_eq!(guard.admits_write(authorization), admitted, "{authorization:?}");
            assert!(guard.admits_read(authorization), "reads are open");
        }
        let reads = Guard::open(Some(&file), true).unwrap();
        assert!(!reads.admits_read(None) && reads.admits_read(Some(b"Bearer s3cret")));
    }

    #[test]
    fn a_reload_takes_the_new_token_and_a_failed_one_keeps_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "old").unwrap();
        let guard = Guard::open(Some(&file), false).unwrap();
        fs::write(&file, "new").unwrap();
        guard.reload().unwrap();
        assert!(guard.admits_write(Some(b"Bearer new")) && !guard.admits_write(Some(b"Bearer old")));
        for (content, expected) in
            [("", "is empty"), (" \n", "is empty"), ("two\nlines", "one line"), ("ü", "one line")]
        {
            fs::write(&file, content).unwrap();
            let message = guard.reload().unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("token"), "{message}");
        }
        fs::remove_file(&file).unwrap();
        assert!(guard.reload().unwrap_err().to_string().contains("cannot be read"));
        assert!(guard.admits_write(Some(b"Bearer new")));
    }

    #[test]
    fn without_a_token_file_nobody_is_asked() {
        let guard = Guard::open(None, false).unwrap();
        assert!(guard.admits_write(None) && guard.admits_read(None));
    }
}
