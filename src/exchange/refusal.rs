//! Why a request gets no file, in one vocabulary for both planes: the status, the text, and the fields that go with it.

use crate::cache::flight::Failure;
use crate::http::cache_status::{CacheStatus, Forward, Reason};
use crate::http::response::Problem;
use crate::http::target::Malformed;
use crate::origin::RootAbsent;
use crate::text;
use std::io;

/// Why a request gets no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The target names nothing.
    Malformed(Malformed),
    /// There is no such file, or none that is served.
    NotFound { name: Box<[u8]>, forward: Forward },
    /// It may not be read, or is neither a file nor a directory.
    Forbidden { name: Box<[u8]> },
    /// It changes faster than it can be read.
    Changed { name: Box<[u8]> },
    /// The directory that is served is not there at present.
    RootAbsent,
    /// The origin failed with this errno.
    Origin { name: Box<[u8]>, errno: i32 },
    /// The request wants only what is cached, and nothing is that it may have.
    NotCached,
    /// A remote origin gave no answer that could be passed on.
    Remote { status: u16 },
}

/// Whether an error says that this machine has too little of something at present: descriptors, memory, or (ECANCELED,
/// where io_uring can start none for an operation that blocks) threads.
pub fn is_passing(errno: i32) -> bool {
    matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN | libc::ECANCELED)
}

impl Failure {
    /// What an error of the origin means, by its errno.
    pub fn of_errno(errno: i32) -> Failure {
        match errno {
            // ELOOP and EXDEV: a link that leads in circles or out of the root.
            libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EXDEV | libc::ENAMETOOLONG | libc::EINVAL => {
                Failure::NotFound
            }
            libc::EACCES | libc::EPERM | libc::ENXIO | libc::ENODEV => Failure::Forbidden,
            errno => Failure::Io(errno),
        }
    }

    /// What an error of the origin means.
    pub fn of(error: &io::Error) -> Failure {
        if RootAbsent::caused(error) {
            return Failure::RootAbsent;
        }
        Failure::of_errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl Refusal {
    /// The refusal of a file that could not be had.
    pub fn of_failure(name: &[u8], failure: Failure, forward: Forward) -> Refusal {
        let name = name.into();
        match failure {
            Failure::NotFound | Failure::IsDirectory => Refusal::NotFound { name, forward },
            Failure::Forbidden => Refusal::Forbidden { name },
            Failure::Changed => Refusal::Changed { name },
            Failure::RootAbsent => Refusal::RootAbsent,
            Failure::Io(errno) => Refusal::Origin { name, errno },
            Failure::Remote(status) => Refusal::Remote { status },
        }
    }

    /// The name that was asked for, if it came to one.
    pub fn name(&self) -> Option<&[u8]> {
        match self {
            Refusal::NotFound { name, .. }
            | Refusal::Forbidden { name }
            | Refusal::Changed { name }
            | Refusal::Origin { name, .. } => Some(name),
            Refusal::Malformed(_) | Refusal::RootAbsent | Refusal::NotCached | Refusal::Remote { .. } => None,
        }
    }

    /// The response: a status, and one line of text that says what was wrong.
    pub fn problem(&self) -> Problem {
        match self {
            Refusal::Malformed(malformed @ Malformed::TooLong) => Problem::new(414, malformed.to_string()),
            Refusal::Malformed(malformed) => Problem::new(400, malformed.to_string()),
            Refusal::NotFound { name, forward } => {
                let mut problem = Problem::new(404, format!("no such file: {}", text::escape(name)));
                problem.cache_status = Some(CacheStatus::Uncached { forward: *forward, reason: Reason::NotFound });
                problem
            }
            Refusal::Forbidden { name } => {
                Problem::new(403, format!("not a file that may be read: {}", text::escape(name)))
            }
            Refusal::Changed { name } => {
                let words = format!("the file changes faster than it can be read: {}", text::escape(name));
                Problem::new(503, words).with_field("Retry-After: 1")
            }
            Refusal::RootAbsent => Problem::new(503, RootAbsent.to_string()).with_field("Retry-After: 1"),
            Refusal::NotCached => Problem::new(504, "nothing is cached that this request may have (only-if-cached)"),
            Refusal::Remote { status: 503 } => {
                Problem::new(503, "too many requests wait for the origin").with_field("Retry-After: 1")
            }
            Refusal::Remote { status: 508 } => {
                Problem::new(508, "the request has come back to this server: its origin leads to itself")
            }
            Refusal::Remote { status: 504 } => Problem::new(504, "the origin has not answered in time"),
            Refusal::Remote { status } => {
                Problem::new(*status, "the origin cannot be reached, or its answer is broken")
            }
            Refusal::Origin { name, errno } if is_passing(*errno) => {
                let cause = io::Error::from_raw_os_error(*errno);
                let words = format!("the file cannot be read at present: {}: {cause}", text::escape(name));
                Problem::new(503, words).with_field("Retry-After: 1")
            }
            Refusal::Origin { name, errno } => {
                let cause = io::Error::from_raw_os_error(*errno);
                Problem::new(500, format!("the file cannot be read: {}: {cause}", text::escape(name)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_status() {
        for (failure, status) in [
            (Failure::NotFound, 404),
            (Failure::IsDirectory, 404),
            (Failure::Forbidden, 403),
            (Failure::Changed, 503),
            (Failure::Io(libc::EIO), 500),
            (Failure::Io(libc::EMFILE), 503),
            (Failure::Io(libc::ECANCELED), 503),
        ] {
            let problem = Refusal::of_failure(b"a/b", failure, Forward::Stale).problem();
            assert_eq!(problem.status, status, "{failure:?}");
            assert!(problem.text.contains("a/b"), "{}", problem.text);
            assert_eq!(problem.field.is_some(), status == 503, "{problem:?}");
        }
        let problem = Refusal::of_failure(b"a/b", Failure::RootAbsent, Forward::Stale).problem();
        assert_eq!((problem.status, problem.field.as_deref()), (503, Some("Retry-After: 1\r\n")));
        assert_eq!(Refusal::Malformed(Malformed::TooLong).problem().status, 414);
        assert_eq!(Refusal::Malformed(Malformed::Nul).problem().status, 400);
    }

    #[test]
    fn names_stay_on_their_line() {
        let text = Refusal::Forbidden { name: (*b"a\r\nX: y\x1b[2J\xc2\x9bm").into() }.problem().text;
        assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
    }
}
