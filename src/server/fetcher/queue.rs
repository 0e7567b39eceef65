//! Fetches on their way to the thread that does them.

use crate::cache::entry::Lease;
use crate::cache::flight::Failure;
use crate::cache::permit::FillPermit;
use crate::exchange::Ask as ReadAsk;
use crate::http::range;
use crate::http::request::{Fields, Method};
use crate::limits;
use crate::net::peer::Peer;
use crate::origin::remote::{self, Ask, Interim};
use crate::version::slices::Slice;
use crate::version::stored::Stored;
use crate::wake::Waiter;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Uri};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Where fetches are asked for, from any thread.
#[derive(Clone)]
pub struct Fetcher {
    queue: mpsc::Sender<Fetch>,
}

/// Where the thread takes them from.
pub struct Fetches(pub(super) mpsc::Receiver<Fetch>);

/// A fill, and the request that it was begun for.
pub struct Fetch {
    pub(super) permit: FillPermit,
    pub(super) method: Method,
    /// Path and query, as the origin is asked for them.
    target: Box<[u8]>,
    fields: OwnedFields,
    peer: Option<Peer>,
    /// The slice that is wanted of an object that is known.
    pub(super) part: Option<Part>,
}

/// A slice of an object.
pub struct Part {
    /// The entry that describes the object.
    pub head: Lease,
    pub stored: Arc<Stored>,
    pub slice: Slice,
}

/// A request that has several fetches begun.
pub struct Asked {
    /// Path and query, as the origin is asked for them.
    pub target: Box<[u8]>,
    pub fields: HeaderMap,
    pub peer: Option<Peer>,
}

/// What the origin is asked.
pub(super) struct Asking {
    pub ask: Ask,
    /// The fields of the client's request.
    pub asked: HeaderMap,
    /// Only these bytes are asked for, since nothing is known of the object and the client wants a part of it that
    /// begins here.
    pub slice: Option<Range<u64>>,
}

/// The fields of a request, taken apart later by the thread that needs them.
enum OwnedFields {
    Head(Box<[u8]>),
    Map(Box<HeaderMap>),
}

impl Fetch {
    /// The fetch that a request has begun.
    pub fn new(permit: FillPermit, ask: &ReadAsk<'_>, peer: Option<Peer>) -> Fetch {
        let fields = match ask.fields {
            Fields::Head(head) => OwnedFields::Head(head.into()),
            Fields::Map(map) => OwnedFields::Map(Box::new(map.clone())),
        };
        Fetch { permit, method: ask.method, target: ask.name.into(), fields, peer, part: None }
    }

    /// The fetch of a slice.
    pub fn of_part(permit: FillPermit, asked: &Asked, part: Part) -> Fetch {
        let fields = OwnedFields::Map(Box::new(asked.fields.clone()));
        Fetch { permit, method: Method::Get, target: asked.target.clone(), fields, peer: asked.peer, part: Some(part) }
    }

    /// Without what the client has proved itself with to this server, which is none of the origin's business.
    pub(super) fn without_authorization(mut self) -> Fetch {
        let mut fields = self.fields();
        fields.remove(header::AUTHORIZATION);
        self.fields = OwnedFields::Map(Box::new(fields));
        self
    }

    /// All fields of the request.
    fn fields(&self) -> HeaderMap {
        let fields = match &self.fields {
            OwnedFields::Head(head) => Fields::Head(head),
            OwnedFields::Map(map) => return (**map).clone(),
        };
        let mut map = HeaderMap::new();
        fields.for_each(|name, value| {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        });
        map
    }

    /// What the origin is asked. If slices have so many bytes, and the client wants a part of something of which
    /// nothing is known, that is the slice in which it begins.
    ///
    /// # Errors
    /// The target is none that can be asked for.
    pub(super) fn ask(&self, slice_bytes: u64) -> Result<Asking, Failure> {
        let asked = self.fields();
        let mut fields = asked.clone();
        // A fill is of all that there is, for everybody. Who asks alone has the origin decide.
        if self.permit.aside().is_none() || self.part.is_some() {
            CONDITIONS.iter().for_each(|name| drop(fields.remove(name)));
        }
        let stale = self.permit.stale().and_then(|stale| stale.stored());
        let mut slice = None;
        if let Some(part) = &self.part {
            let etag = part.stored.etag.as_deref().and_then(|etag| HeaderValue::from_bytes(etag).ok());
            fields.extend(etag.map(|etag| (header::IF_MATCH, etag)));
            fields.extend(range_field(&part.slice.range));
        } else if let Some(stored) = stale {
            if let Some(etag) = stored.etag.as_deref().and_then(|etag| HeaderValue::from_bytes(etag).ok()) {
                fields.insert(header::IF_NONE_MATCH, etag);
            }
            if let Some(modified) = stored.modified.and_then(http_date) {
                fields.insert(header::IF_MODIFIED_SINCE, modified);
            }
        } else if slice_bytes > 0 && self.method == Method::Get && self.permit.aside().is_none() {
            let range = asked.get(header::RANGE).filter(|_| !asked.contains_key(header::IF_RANGE));
            let begin = range.and_then(|range| range::begin(range.as_bytes()));
            slice = begin.map(|begin| Slice::at(begin, slice_bytes, u64::MAX).range);
            fields.extend(slice.as_ref().and_then(range_field));
        }
        Ok(Asking { ask: self.request(fields).ok_or(Failure::Remote(400))?, asked, slice })
    }

    /// The request as the client has sent it.
    pub(super) fn ask_alone(&self) -> Option<Ask> {
        self.request(self.fields())
    }

    fn request(&self, fields: HeaderMap) -> Option<Ask> {
        let mut ask = Ask::new(remote::empty());
        *ask.method_mut() = if self.method == Method::Head { hyper::Method::HEAD } else { hyper::Method::GET };
        *ask.uri_mut() = Uri::try_from(&*self.target).ok()?;
        *ask.headers_mut() = fields;
        if let Some(peer) = self.peer {
            ask.extensions_mut().insert(peer);
        }
        if self.part.is_none() {
            ask.extensions_mut().insert(Interim::new(self.permit.informer()));
        }
        Some(ask)
    }
}

/// A range of bytes as a field.
fn range_field(range: &Range<u64>) -> Option<(HeaderName, HeaderValue)> {
    let value = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
    HeaderValue::try_from(value).ok().map(|value| (header::RANGE, value))
}

/// The fields that make a request conditional or partial.
const CONDITIONS: [HeaderName; 6] = [
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

/// Seconds since 1970 as an HTTP date.
fn http_date(seconds: i64) -> Option<HeaderValue> {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds.try_into().ok()?))?;
    HeaderValue::try_from(httpdate::fmt_http_date(time)).ok()
}

/// The two ends of the queue.
pub fn channel() -> (Fetcher, Fetches) {
    let (queue, fetches) = mpsc::channel(limits::FETCHES);
    (Fetcher { queue }, Fetches(fetches))
}

impl Fetcher {
    /// Has the origin asked. Never blocks: when too many wait, the fill fails, and those who follow it are returned to
    /// be told.
    pub fn fetch(&self, fetch: Fetch) -> Vec<Waiter> {
        match self.queue.try_send(fetch) {
            Ok(()) => Vec::new(),
            Err(TrySendError::Full(fetch) | TrySendError::Closed(fetch)) => fetch.permit.fail(Failure::Remote(503)),
        }
    }
}
