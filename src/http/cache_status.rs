//! The Cache-Status field (RFC 9211): the server's own word on how a response came about. One vocabulary for the
//! header, the metrics and the access log.

use crate::text::write_number;
use std::borrow::Cow;

/// How a file's bytes were had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// From the cache.
    Hit,
    /// From the cache, after it was compared with the origin.
    HitRevalidated,
    /// From the cache, after a remote origin said that it is current.
    Validated,
    /// From the cache, though it is stale: the origin fails.
    HitStale,
    /// Read from the origin and stored.
    Stored { forward: Forward },
    /// Waited for a read of the same file that another request had begun.
    Collapsed { forward: Forward },
    /// Passed on to the origin, since the method is none that a cache answers.
    Forwarded,
    /// Read from the origin and not stored.
    Uncached { forward: Forward, reason: Reason },
}

/// Why the origin was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Nothing was cached under this name.
    UriMiss,
    /// What was cached no longer is what the origin has, or was too old to know.
    Stale,
    /// What is cached under this name answers other requests.
    VaryMiss,
    /// Only some of what was asked for is cached.
    Partial,
    /// The request asked for what the origin has.
    Request,
    /// The method is none that is answered from the cache.
    Method,
    /// What is had under this name is never stored.
    Bypass,
}

/// Why a response was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Larger than the arena.
    TooLarge,
    /// All memory that could be freed is in use by responses in progress.
    NoRoom,
    /// The eviction policy holds everything it would displace for more valuable.
    NotAdmitted,
    /// The file changed while it was read.
    Changed,
    /// Only its properties were asked for (HEAD).
    HeadOnly,
    /// There is no such file.
    NotFound,
    /// The request or the origin wants it for one request alone.
    Private,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::TooLarge => "too-large",
            Reason::NoRoom => "no-room",
            Reason::NotAdmitted => "not-admitted",
            Reason::Changed => "changed",
            Reason::HeadOnly => "head-only",
            Reason::NotFound => "not-found",
            Reason::Private => "private",
        }
    }
}

impl Forward {
    pub fn as_str(self) -> &'static str {
        match self {
            Forward::UriMiss => "uri-miss",
            Forward::Stale => "stale",
            Forward::VaryMiss => "vary-miss",
            Forward::Partial => "partial",
            Forward::Request => "request",
            Forward::Method => "method",
            Forward::Bypass => "bypass",
        }
    }
}

/// What is said of a response of a remote origin beyond how it came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Further {
    /// For how many seconds it is fresh; negative, for how many it has been stale.
    pub ttl: Option<i64>,
    /// The status of the origin's answer.
    pub origin_status: Option<u16>,
}

impl CacheStatus {
    /// Appends the field's value.
    pub fn write(self, further: Further, out: &mut Vec<u8>) {
        out.extend_from_slice(b"forebay; ");
        let (how, forward, then) = match self {
            CacheStatus::Hit | CacheStatus::HitRevalidated | CacheStatus::HitStale => ("hit", None, ""),
            CacheStatus::Validated => ("fwd=", Some(Forward::Stale), ""),
            CacheStatus::Stored { forward } => ("fwd=", Some(forward), "; stored"),
            CacheStatus::Collapsed { forward } => ("fwd=", Some(forward), "; collapsed"),
            CacheStatus::Forwarded => ("fwd=", Some(Forward::Method), ""),
            CacheStatus::Uncached { forward, .. } => ("fwd=", Some(forward), ""),
        };
        out.extend_from_slice(how.as_bytes());
        out.extend_from_slice(forward.map_or("", Forward::as_str).as_bytes());
        if let Some(status) = further.origin_status.filter(|_| forward.is_some()) {
            out.extend_from_slice(b"; fwd-status=");
            write_number(out, u64::from(status));
        }
        out.extend_from_slice(then.as_bytes());
        if let Some(ttl) = further.ttl {
            out.extend_from_slice(if ttl < 0 { b"; ttl=-" } else { b"; ttl=" });
            write_number(out, ttl.unsigned_abs());
        }
        match self {
            CacheStatus::Uncached { reason, .. } => {
                out.extend_from_slice(b"; detail=");
                out.extend_from_slice(reason.as_str().as_bytes());
            }
            CacheStatus::HitStale => out.extend_from_slice(b"; detail=origin-failed"),
            _ => {}
        }
    }

    /// The field's value, where nothing further is known.
    pub fn text(self) -> Cow<'static, str> {
        if self == CacheStatus::Hit {
            return Cow::Borrowed("forebay; hit");
        }
        let mut text = Vec::new();
        self.write(Further::default(), &mut text);
        Cow::Owned(String::from_utf8_lossy(&text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_detail_is_the_reasons_own_word() {
        for reason in
            [Reason::TooLarge, Reason::NoRoom, Reason::NotAdmitted, Reason::Changed, Reason::HeadOnly, Reason::NotFound]
        {
            for forward in [Forward::UriMiss, Forward::Stale] {
                let text = CacheStatus::Uncached { forward, reason }.text();
                assert!(text.ends_with(&format!("; detail={}", reason.as_str())), "{text}");
            }
        }
    }
}
