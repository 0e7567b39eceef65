//! Fetches on their way to the thread that does them.

use crate::cache::flight::Failure;
use crate::cache::permit::FillPermit;
use crate::exchange::Ask as ReadAsk;
use crate::http::request::{Fields, Method};
use crate::limits;
use crate::net::peer::Peer;
use crate::origin::remote::{self, Ask};
use crate::wake::Waiter;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Uri};
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
        Fetch { permit, method: ask.method, target: ask.name.into(), fields, peer }
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

    /// What the origin is asked, and what the client had asked.
    ///
    /// # Errors
    /// The target is none that can be asked for.
    pub(super) fn ask(&self) -> Result<(Ask, HeaderMap), Failure> {
        let uri = Uri::try_from(&*self.target).map_err(|_| Failure::Remote(400))?;
        let asked = self.fields();
        let mut ask = Ask::new(remote::empty());
        *ask.method_mut() = if self.method == Method::Head { hyper::Method::HEAD } else { hyper::Method::GET };
        *ask.uri_mut() = uri;
        let mut fields = asked.clone();
        // A fill is of all that there is, for everybody. Who asks alone has the origin decide.
        if self.permit.aside().is_none() {
            CONDITIONS.iter().for_each(|name| drop(fields.remove(name)));
        }
        if let Some(stored) = self.permit.stale().and_then(|stale| stale.stored()) {
            if let Some(etag) = stored.etag.as_deref().and_then(|etag| HeaderValue::from_bytes(etag).ok()) {
                fields.insert(header::IF_NONE_MATCH, etag);
            }
            if let Some(modified) = stored.modified.and_then(http_date) {
                fields.insert(header::IF_MODIFIED_SINCE, modified);
            }
        }
        *ask.headers_mut() = fields;
        if let Some(peer) = self.peer {
            ask.extensions_mut().insert(peer);
        }
        Ok((ask, asked))
    }
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
    /// Has the origin asked. Never blocks: when too many wait, the fill fails, and those who follow it are returned to be
    /// told.
    pub fn fetch(&self, fetch: Fetch) -> Vec<Waiter> {
        match self.queue.try_send(fetch) {
            Ok(()) => Vec::new(),
            Err(TrySendError::Full(fetch) | TrySendError::Closed(fetch)) => fetch.permit.fail(Failure::Remote(503)),
        }
    }
}
