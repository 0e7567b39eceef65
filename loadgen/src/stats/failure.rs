//! The ways in which a request fails, and their counts.

use serde::{Deserialize, Serialize};

/// Why a request did not count as a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be established.
    Connect,
    /// The connection ended before a whole response head arrived.
    Reset,
    /// No whole response within the time limit.
    Timeout,
    /// The connection ended inside the body, or the body was shorter than the file is known to be.
    ShortBody,
    /// The body was not the one derived from the file's name (only checked when verifying).
    WrongBytes,
    /// A whole response with a status other than 2xx.
    Status,
    /// Bytes that are not an HTTP/1.1 response.
    Malformed,
}

impl Failure {
    /// Every kind, in the order in which they are reported.
    pub const ALL: [Failure; 7] = [
        Failure::Connect,
        Failure::Reset,
        Failure::Timeout,
        Failure::ShortBody,
        Failure::WrongBytes,
        Failure::Status,
        Failure::Malformed,
    ];

    /// The key in the JSON file; the summary writes it with spaces.
    pub fn as_str(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::Reset => "reset",
            Failure::Timeout => "timeout",
            Failure::ShortBody => "short_body",
            Failure::WrongBytes => "wrong_bytes",
            Failure::Status => "status",
            Failure::Malformed => "malformed",
        }
    }
}

/// Failed requests by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    pub connect: u64,
    pub reset: u64,
    pub timeout: u64,
    pub short_body: u64,
    pub wrong_bytes: u64,
    pub status: u64,
    pub malformed: u64,
}

impl Failures {
    /// Counts one failure.
    pub fn count(&mut self, kind: Failure) {
        *self.of_mut(kind) += 1;
    }

    /// How many of one kind.
    pub fn of(&self, kind: Failure) -> u64 {
        let mut copy = *self;
        *copy.of_mut(kind)
    }

    /// All kinds together.
    pub fn sum(&self) -> u64 {
        Failure::ALL.iter().map(|&kind| self.of(kind)).sum()
    }

    /// Adds another count to this one.
    pub fn merge(&mut self, other: &Failures) {
        for kind in Failure::ALL {
            *self.of_mut(kind) += other.of(kind);
        }
    }

    fn of_mut(&mut self, kind: Failure) -> &mut u64 {
        match kind {
            Failure::Connect => &mut self.connect,
            Failure::Reset => &mut self.reset,
            Failure::Timeout => &mut self.timeout,
            Failure::ShortBody => &mut self.short_body,
            Failure::WrongBytes => &mut self.wrong_bytes,
            Failure::Status => &mut self.status,
            Failure::Malformed => &mut self.malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_apart_and_named_like_their_keys() {
        let mut failures = Failures::default();
        for (times, kind) in Failure::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| failures.count(kind));
        }
        let keys = serde_json::to_value(failures).unwrap();
        for (times, kind) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failures.of(kind), times as u64 + 1);
            assert_eq!(keys[kind.as_str()], times as u64 + 1);
        }
        let mut doubled = failures;
        doubled.merge(&failures);
        assert_eq!(doubled.sum(), 2 * failures.sum());
    }
}
