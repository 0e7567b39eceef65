//! The words the numbers are told apart by. Each enum is closed, so a dashboard can rely on every series being there
//! from the first scrape, at zero.

use crate::http::cache_status::{CacheStatus, Forward, Reason};

use super::counter::{Counter, Family, Label, SharedCounter};

/// Declares a label: an enum, its label pairs, and the families of counters indexed by it.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident, $family:ident, $shared:ident {
        $($(#[$variant_doc:meta])* $variant:ident => $pairs:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$($name::$variant,)+];

            #[inline]
            fn index(self) -> usize {
                self as usize
            }

            fn pairs(self) -> &'static str {
                match self {
                    $($name::$variant => $pairs,)+
                }
            }
        }

        #[doc = concat!("A single-writer counter for each [`", stringify!($name), "`].")]
        pub type $family = Family<Counter, $name, { [$($name::$variant,)+].len() }>;
        #[doc = concat!("A counter any thread may write for each [`", stringify!($name), "`].")]
        pub type $shared = Family<SharedCounter, $name, { [$($name::$variant,)+].len() }>;
    };
}

labels! {
    /// What the cache said to a request; the server's own word, the same as in the Cache-Status header.
    Class, ByClass, SharedByClass {
        /// Answered from the arena, the entry being fresh.
        Hit => r#"class="hit",detail="fresh""#,
        /// Answered from the arena after the entry was compared with the disk and found current.
        HitRevalidated => r#"class="hit",detail="revalidated""#,
        /// Not cached; filled, and stored.
        MissStored => r#"class="miss",detail="stored""#,
        /// Not cached; joined a fill that another request had begun.
        MissCollapsed => r#"class="miss",detail="collapsed""#,
        /// Cached, but the file on disk had changed.
        MissStale => r#"class="miss",detail="stale""#,
        /// Larger than the arena: streamed from the file.
        MissTooLarge => r#"class="miss",detail="too_large""#,
        /// Everything in the arena was leased or otherwise not to be had: streamed from the file.
        MissNoRoom => r#"class="miss",detail="no_room""#,
        /// The eviction policy would not give anything up for it: streamed from the file.
        MissNotAdmitted => r#"class="miss",detail="not_admitted""#,
        /// The file changed while it was read, so it was not kept.
        MissChanged => r#"class="miss",detail="changed""#,
        /// The request or a remote origin wanted it for this request alone.
        MissPrivate => r#"class="miss",detail="private""#,
        /// Nothing that is ever cached: errors, uploads, listings, pages of the server itself.
        Other => r#"class="other",detail="none""#,
    }
}

labels! {
    /// How a remote origin answered.
    OriginAnswer, ByOriginAnswer, SharedByOriginAnswer {
        /// With what was asked for.
        Success => r#"answer="2xx""#,
        /// That what is cached is current.
        NotModified => r#"answer="304""#,
        /// With another place to ask.
        Redirection => r#"answer="3xx""#,
        /// That the request cannot be answered.
        ClientError => r#"answer="4xx""#,
        /// That it cannot answer.
        ServerError => r#"answer="5xx""#,
        /// Not at all: no connection, no time left, no HTTP.
        None => r#"answer="none""#,
    }
}

impl OriginAnswer {
    /// The label of an answer with this status.
    pub fn of(status: u16) -> OriginAnswer {
        match status {
            304 => OriginAnswer::NotModified,
            300..=399 => OriginAnswer::Redirection,
            400..=499 => OriginAnswer::ClientError,
            500..=599 => OriginAnswer::ServerError,
            _ => OriginAnswer::Success,
        }
    }
}

labels! {
    /// The status of a response, among those the server sends.
    Status, ByStatus, SharedByStatus {
        Continue100 => r#"status="100""#,
        Ok200 => r#"status="200""#,
        Created201 => r#"status="201""#,
        NoContent204 => r#"status="204""#,
        PartialContent206 => r#"status="206""#,
        MovedPermanently301 => r#"status="301""#,
        NotModified304 => r#"status="304""#,
        BadRequest400 => r#"status="400""#,
        Unauthorized401 => r#"status="401""#,
        Forbidden403 => r#"status="403""#,
        NotFound404 => r#"status="404""#,
        MethodNotAllowed405 => r#"status="405""#,
        NotAcceptable406 => r#"status="406""#,
        RequestTimeout408 => r#"status="408""#,
        Conflict409 => r#"status="409""#,
        LengthRequired411 => r#"status="411""#,
        PreconditionFailed412 => r#"status="412""#,
        ContentTooLarge413 => r#"status="413""#,
        UriTooLong414 => r#"status="414""#,
        UnsupportedMediaType415 => r#"status="415""#,
        RangeNotSatisfiable416 => r#"status="416""#,
        ExpectationFailed417 => r#"status="417""#,
        HeaderFieldsTooLarge431 => r#"status="431""#,
        InternalServerError500 => r#"status="500""#,
        NotImplemented501 => r#"status="501""#,
        BadGateway502 => r#"status="502""#,
        ServiceUnavailable503 => r#"status="503""#,
        GatewayTimeout504 => r#"status="504""#,
        VersionNotSupported505 => r#"status="505""#,
        InsufficientStorage507 => r#"status="507""#,
        /// A status no part of the server sends on purpose.
        Other => r#"status="other""#,
    }
}

impl Class {
    /// The class of a file's response.
    pub fn of(status: CacheStatus) -> Class {
        match status {
            CacheStatus::Hit | CacheStatus::HitStale => Class::Hit,
            CacheStatus::HitRevalidated | CacheStatus::Validated => Class::HitRevalidated,
            CacheStatus::Stored { forward: Forward::Stale } => Class::MissStale,
            CacheStatus::Stored { .. } => Class::MissStored,
            CacheStatus::Collapsed { .. } => Class::MissCollapsed,
            CacheStatus::Forwarded => Class::Other,
            CacheStatus::Uncached { reason, .. } => match reason {
                Reason::TooLarge => Class::MissTooLarge,
                Reason::NoRoom => Class::MissNoRoom,
                Reason::NotAdmitted => Class::MissNotAdmitted,
                Reason::Changed => Class::MissChanged,
                Reason::Private => Class::MissPrivate,
                Reason::HeadOnly | Reason::NotFound => Class::Other,
            },
        }
    }
}

impl Status {
    /// The first digit of the status; `None` of [`Status::Other`].
    pub fn class(self) -> Option<usize> {
        let digit = self.pairs().bytes().find(u8::is_ascii_digit)?;
        Some(usize::from(digit - b'0'))
    }

    /// The label of a status code.
    #[inline]
    pub fn of(code: u16) -> Status {
        match code {
            100 => Status::Continue100,
            200 => Status::Ok200,
            201 => Status::Created201,
            204 => Status::NoContent204,
            206 => Status::PartialContent206,
            301 => Status::MovedPermanently301,
            304 => Status::NotModified304,
            400 => Status::BadRequest400,
            401 => Status::Unauthorized401,
            403 => Status::Forbidden403,
            404 => Status::NotFound404,
            405 => Status::MethodNotAllowed405,
            406 => Status::NotAcceptable406,
            408 => Status::RequestTimeout408,
            409 => Status::Conflict409,
            411 => Status::LengthRequired411,
            412 => Status::PreconditionFailed412,
            413 => Status::ContentTooLarge413,
            414 => Status::UriTooLong414,
            415 => Status::UnsupportedMediaType415,
            416 => Status::RangeNotSatisfiable416,
            417 => Status::ExpectationFailed417,
            431 => Status::HeaderFieldsTooLarge431,
            500 => Status::InternalServerError500,
            501 => Status::NotImplemented501,
            502 => Status::BadGateway502,
            503 => Status::ServiceUnavailable503,
            504 => Status::GatewayTimeout504,
            505 => Status::VersionNotSupported505,
            507 => Status::InsufficientStorage507,
            _ => Status::Other,
        }
    }
}

labels! {
    /// How the bytes of a response body left the arena.
    Transmit, ByTransmit, SharedByTransmit {
        /// Copied into the socket by a send.
        Copy => r#"mode="copy""#,
        /// Pages of the arena handed to the socket (sendfile or splice).
        Reference => r#"mode="reference""#,
        /// Sent from registered memory by SEND_ZC.
        Zerocopy => r#"mode="zerocopy""#,
    }
}

labels! {
    /// What the kernel reports a SEND_ZC has come to.
    Zerocopy, ByZerocopy, SharedByZerocopy {
        /// It was sent without a copy.
        Sent => r#"outcome="sent""#,
        /// The kernel copied after all (loopback, veth, or a device that cannot gather).
        Copied => r#"outcome="copied""#,
        /// It failed, and the response was finished or given up otherwise.
        Failed => r#"outcome="failed""#,
    }
}

labels! {
    /// A step in the life of a fill: reading one file into the arena.
    Fill, ByFill, SharedByFill {
        Started => r#"event="started""#,
        Finished => r#"event="finished""#,
        /// Its file had stayed open since it was cached before.
        Reopened => r#"event="reopened""#,
        /// Put off: the file is cached without its bytes, which are read when it is asked for again or has stayed for a
        /// while.
        Deferred => r#"event="deferred""#,
        /// The file could not be read to its end.
        Failed => r#"event="failed""#,
        /// The file changed while it was read; what was read was thrown away.
        Torn => r#"event="torn""#,
    }
}

labels! {
    /// A step in the life of a connection. Open ones are accepted minus closed.
    Connection, ByConnection, SharedByConnection {
        Accepted => r#"event="accepted""#,
        /// Closed, by either plane and either side.
        Closed => r#"event="closed""#,
        /// Turned away with 503 because the limit on connections was reached; not counted as accepted.
        Refused => r#"event="refused""#,
    }
}

labels! {
    /// What a comparison of a cached entry with the disk found.
    Revalidation, ByRevalidation, SharedByRevalidation {
        /// The same file with the same times and size.
        Unchanged => r#"outcome="unchanged""#,
        /// Another file, or other times or size.
        Changed => r#"outcome="changed""#,
        /// No file of that name.
        Gone => r#"outcome="gone""#,
        /// The file could not be looked at.
        Failed => r#"outcome="failed""#,
    }
}

labels! {
    /// What the server grew tired of waiting for.
    Timeout, ByTimeout, SharedByTimeout {
        /// The rest of a request head.
        Head => r#"kind="head""#,
        /// A next request on an idle connection.
        Idle => r#"kind="idle""#,
        /// The rest of an uploaded body.
        Body => r#"kind="body""#,
        /// A client to take any byte of its response.
        Send => r#"kind="send""#,
        /// A connection to end by itself during shutdown.
        Drain => r#"kind="drain""#,
    }
}

labels! {
    /// Why an entry left the cache.
    Removal, ByRemoval, SharedByRemoval {
        /// To make room for another file.
        Room => r#"reason="room""#,
        /// The file on disk was found changed.
        Invalidated => r#"reason="invalidated""#,
        /// An upload replaced the file.
        Replaced => r#"reason="replaced""#,
        /// The file was deleted, through the server or on disk.
        Deleted => r#"reason="deleted""#,
    }
}

labels! {
    /// What became of an upload.
    Upload, ByUpload, SharedByUpload {
        /// Durable under its name.
        Stored => r#"outcome="stored""#,
        /// Refused for what the request was: its precondition, digest, size or target.
        Refused => r#"outcome="refused""#,
        /// The client went away or stalled before the body was whole.
        Aborted => r#"outcome="aborted""#,
        /// The origin could not store it.
        Failed => r#"outcome="failed""#,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_code_has_the_label_that_names_it() {
        for code in 100..600 {
            let pairs = Status::of(code).pairs();
            assert!(pairs == format!("status=\"{code}\"") || pairs == "status=\"other\"", "{code}: {pairs}");
        }
        for status in Status::ALL.iter().filter(|&&s| s != Status::Other) {
            let code = status.pairs().trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number");
            assert_eq!(Status::of(code), *status);
            assert_eq!(status.class(), Some(usize::from(code / 100)));
        }
    }
}
