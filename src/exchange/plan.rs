//! A response as it is meant, before a plane sends it.

use super::{Ask, Role};
use crate::cache::entry::Lease;
use crate::cache::flight::{Bypass, Flight, OpenFile};
use crate::http::cache_status::{CacheStatus, Reason};
use crate::http::conditional::Verdict;
use crate::http::encoding::Negotiated;
use crate::http::multipart::Multipart;
use crate::http::representation::Representation;
use crate::http::request::Method;
use crate::http::response::Content;
use std::ops::Range;
use std::sync::Arc;

/// A response about one version of one file.
pub struct Plan {
    pub cache_status: CacheStatus,
    /// What the head says of the content.
    pub content: Content,
    /// The bytes of the file that follow the head; empty for a HEAD and for heads without content.
    pub body: Range<u64>,
    /// The parts of a body that has several ranges; `body` is empty then.
    pub parts: Option<Multipart>,
    pub source: Source,
    pub negotiated: Negotiated,
    /// How the version is described, if not as what it is: a variant is described as its original in a coding.
    pub described: Option<Representation>,
}

/// Where the bytes of a body come from.
#[derive(Clone)]
pub enum Source {
    /// The arena; while the file is still being read into it, `fill` tells how far.
    Arena { lease: Lease, fill: Option<Arc<Flight>> },
    /// The open file: past the cache, or while the file is being read into the arena.
    File { file: Arc<OpenFile>, fill: Option<(Lease, Arc<Flight>)> },
}

impl From<Bypass> for Reason {
    fn from(bypass: Bypass) -> Reason {
        match bypass {
            Bypass::TooLarge => Reason::TooLarge,
            Bypass::NoRoom => Reason::NoRoom,
            Bypass::NotAdmitted => Reason::NotAdmitted,
            Bypass::Changed => Reason::Changed,
            Bypass::HeadOnly => Reason::HeadOnly,
        }
    }
}

impl Source {
    /// The version that is sent.
    pub fn representation(&self) -> &Representation {
        match self {
            Source::Arena { lease, .. } => lease.described(),
            Source::File { file, .. } => &file.described,
        }
    }
}

impl Plan {
    /// Step 5: conditions and ranges decide what is sent of the version that was found.
    pub fn new(ask: &Ask<'_>, cache_status: CacheStatus, source: Source) -> Plan {
        let representation = source.representation();
        let size = representation.version.size;
        let mut parts = None;
        let (content, body) = match ask.conditions.evaluate(representation) {
            Verdict::Whole => (Content::Whole, 0..size),
            Verdict::Part { from, to } => (Content::Part { from, to }, from..to),
            Verdict::Parts(ranges) => {
                let body = Multipart::new(ranges, size, &representation.etag(), representation.content_type());
                let content = Content::Parts { length: body.length() };
                parts = Some(body);
                (content, 0..0)
            }
            Verdict::NotModified => (Content::NotModified, 0..0),
            Verdict::Failed => (Content::Failed, 0..0),
            Verdict::Unsatisfiable => (Content::Unsatisfiable, 0..0),
        };
        let body = if ask.method == Method::Head { 0..0 } else { body };
        let by_type = ask.role == Role::Index { or_listing: true };
        let origin = representation.allowed(ask.origin);
        let negotiated = Negotiated { by_type, origin, ..Negotiated::default() };
        Plan { cache_status, content, body, parts, source, negotiated, described: None }
    }

    /// The version that is sent.
    pub fn representation(&self) -> &Representation {
        self.described.as_ref().unwrap_or_else(|| self.source.representation())
    }

    /// Bytes of the body.
    pub fn body_bytes(&self) -> u64 {
        self.body.end - self.body.start
    }
}
