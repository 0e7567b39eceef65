//! The Cache-Status field (RFC 9211): the server's own word on how a response came about. One vocabulary for the header,
//! the metrics and the access log.

/// How a file's bytes were had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// From the cache.
    Hit,
    /// From the cache, after it was compared with the origin.
    HitRevalidated,
    /// Read from the origin and stored.
    Stored { forward: Forward },
    /// Waited for a read of the same file that another request had begun.
    Collapsed { forward: Forward },
    /// Read from the origin and not stored.
    Uncached { forward: Forward, reason: Reason },
}

/// Why the origin was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Nothing was cached under this name.
    UriMiss,
    /// What was cached no longer is what the disk holds.
    Stale,
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
        }
    }
}

impl CacheStatus {
    /// The field's value.
    pub fn as_str(self) -> &'static str {
        use {CacheStatus::*, Forward::*};
        match self {
            Hit | HitRevalidated => "forebay; hit",
            Stored { forward: UriMiss } => "forebay; fwd=uri-miss; stored",
            Stored { forward: Stale } => "forebay; fwd=stale; stored",
            Collapsed { forward: UriMiss } => "forebay; fwd=uri-miss; collapsed",
            Collapsed { forward: Stale } => "forebay; fwd=stale; collapsed",
            Uncached { forward: UriMiss, reason } => match reason {
                Reason::TooLarge => "forebay; fwd=uri-miss; detail=too-large",
                Reason::NoRoom => "forebay; fwd=uri-miss; detail=no-room",
                Reason::NotAdmitted => "forebay; fwd=uri-miss; detail=not-admitted",
                Reason::Changed => "forebay; fwd=uri-miss; detail=changed",
                Reason::HeadOnly => "forebay; fwd=uri-miss; detail=head-only",
                Reason::NotFound => "forebay; fwd=uri-miss; detail=not-found",
            },
            Uncached { forward: Stale, reason } => match reason {
                Reason::TooLarge => "forebay; fwd=stale; detail=too-large",
                Reason::NoRoom => "forebay; fwd=stale; detail=no-room",
                Reason::NotAdmitted => "forebay; fwd=stale; detail=not-admitted",
                Reason::Changed => "forebay; fwd=stale; detail=changed",
                Reason::HeadOnly => "forebay; fwd=stale; detail=head-only",
                Reason::NotFound => "forebay; fwd=stale; detail=not-found",
            },
        }
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
                let text = CacheStatus::Uncached { forward, reason }.as_str();
                assert!(text.ends_with(&format!("; detail={}", reason.as_str())), "{text}");
            }
        }
    }
}
