//! A response as it is meant, before a plane sends it.

use super::{Ask, Role};
use crate::cache::entry::Lease;
use crate::cache::flight::{Bypass, Flight, OpenFile};
use crate::http::cache_status::{CacheStatus, Further, Reason};
use crate::http::conditional::Verdict;
use crate::http::encoding::Negotiated;
use crate::http::multipart::Multipart;
use crate::http::representation::Representation;
use crate::http::request::Method;
use crate::http::response::{Content, Head};
use crate::origin::remote::Passing;
use crate::version::Described;
use crate::version::stored::Stored;
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
    /// How it is described.
    pub described: Shown,
    /// What Cache-Status says beyond how the response came about.
    pub further: Further,
}

/// How a response is described.
pub enum Shown {
    /// As the file that it is.
    AsIs,
    /// A variant, as its original in a coding.
    Coded(Described),
    /// As the response of the origin, which is so many seconds old.
    Response { stored: Arc<Stored>, age: u64 },
}

/// Where the bytes of a body come from.
#[derive(Clone)]
pub enum Source {
    /// The arena; while the file is still being read into it, `fill` tells how far.
    Arena { lease: Lease, fill: Option<Arc<Flight>> },
    /// The open file: past the cache, or while the file is being read into the arena.
    File { file: Arc<OpenFile>, fill: Option<(Lease, Arc<Flight>)> },
    /// An answer of a remote origin that is not stored, and whole.
    Passing(Arc<Passing>),
    /// The slices of the object that this entry describes, as far as they are cached, and its origin.
    Slices { head: Lease, held: Vec<Lease> },
}

impl From<Bypass> for Reason {
    fn from(bypass: Bypass) -> Reason {
        match bypass {
            Bypass::TooLarge => Reason::TooLarge,
            Bypass::NoRoom => Reason::NoRoom,
            Bypass::NotAdmitted => Reason::NotAdmitted,
            Bypass::Changed => Reason::Changed,
            Bypass::HeadOnly => Reason::HeadOnly,
            Bypass::Private => Reason::Private,
        }
    }
}

impl Source {
    /// What is sent.
    pub fn described(&self) -> Option<&Described> {
        match self {
            Source::Arena { lease, .. } => lease.described(),
            Source::File { file, .. } => Some(&file.described),
            Source::Passing(_) | Source::Slices { .. } => None,
        }
    }
}

impl Plan {
    /// Step 5 for a file: conditions and ranges decide what is sent of the version that was found.
    pub fn new(ask: &Ask<'_>, cache_status: CacheStatus, source: Source) -> Plan {
        Plan::described(ask, cache_status, source, Shown::AsIs)
    }

    /// Step 5 for what is described so. `None` stays undecided: an entry that is neither.
    pub fn described(ask: &Ask<'_>, cache_status: CacheStatus, source: Source, described: Shown) -> Plan {
        let plan = Plan {
            cache_status,
            content: Content::Whole,
            body: 0..0,
            parts: None,
            source,
            negotiated: Negotiated::default(),
            described,
            further: Further::default(),
        };
        let representation = plan.representation();
        let size = representation.size();
        // Conditions and ranges are about what a GET finds (RFC 9110, 13.2.1).
        let verdict = match representation.status() {
            200 => ask.conditions.evaluate(representation),
            _ => Verdict::Whole,
        };
        let mut parts = None;
        let (content, body) = match verdict {
            Verdict::Whole => (Content::Whole, 0..size),
            Verdict::Part { from, to } => (Content::Part { from, to }, from..to),
            Verdict::Parts(ranges) => {
                let etag = representation.etag();
                let media = representation.content_type().unwrap_or("application/octet-stream");
                let body = Multipart::new(ranges, size, etag.as_deref().unwrap_or_default(), media);
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
        let origin = plan.file().and_then(|file| file.allowed(ask.origin));
        let negotiated = Negotiated { by_type, origin, ..Negotiated::default() };
        Plan { content, body, parts, negotiated, ..plan }
    }

    /// What is sent, as it is described.
    pub fn representation(&self) -> Representation<'_> {
        match &self.described {
            Shown::AsIs => Representation::File(self.source.described().unwrap_or(Described::nothing())),
            Shown::Coded(described) => Representation::File(described),
            Shown::Response { stored, age } => Representation::Response { stored, age: *age },
        }
    }

    /// The head of the response.
    pub fn head(&self) -> Head<'_> {
        Head {
            content: self.content,
            representation: self.representation(),
            negotiated: self.negotiated,
            cache_status: self.cache_status,
            further: self.further,
        }
    }

    /// The file that is sent, as it is described.
    pub fn file(&self) -> Option<&Described> {
        match &self.described {
            Shown::Coded(described) => Some(described),
            Shown::AsIs => self.source.described(),
            Shown::Response { .. } => None,
        }
    }

    /// Bytes of the body.
    pub fn body_bytes(&self) -> u64 {
        self.body.end - self.body.start
    }
}
