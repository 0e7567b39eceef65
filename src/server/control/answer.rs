//! What a request is answered with, and what is counted and logged of it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode};
use tokio::sync::mpsc;

use super::outbound::{End, Outbound};
use super::socket::Answering;
use crate::http::cache_status::CacheStatus;
use crate::http::response::{Page, Problem, has_no_body};
use crate::metrics::labels::Class;
use crate::net::peer::Peer;
use crate::origin::remote;
use crate::ring::system::monotonic;
use crate::rules::{Edit, Rules};
use crate::server::access_log::{Asked, Record, Request};
use crate::server::shared::Shared;

/// Pieces of a body that wait for the client at most; each is a few ten KiB.
const PIECES_AHEAD: usize = 1;

/// A body, and where it comes from.
pub(super) enum Content {
    Empty,
    /// All there is, at once.
    Whole(Bytes),
    /// Piece by piece, from a task; `left` is known for files.
    Pieces {
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        left: Option<u64>,
    },
    /// As a remote origin sends it; `left` is known if it was announced.
    Origins {
        body: remote::Body,
        left: Option<u64>,
    },
}

/// Where a task puts the pieces of a body. Waits as long as the client is behind; fails when the client has gone.
pub(super) type PieceSender = mpsc::Sender<io::Result<Bytes>>;

/// A body in pieces, and its other end.
pub(super) fn pieces(left: Option<u64>) -> (PieceSender, Content) {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    (sender, Content::Pieces { pieces, left })
}

/// An answer on its way to hyper.
pub(super) struct Answer {
    pub status: StatusCode,
    /// Boxed, so that an answer is small enough to be a result's error.
    pub headers: Box<HeaderMap>,
    pub content: Content,
    pub cache_status: Option<CacheStatus>,
    /// The fields that rules have for the name are there.
    pub has_rules: bool,
}

impl Answer {
    pub fn new(status: StatusCode, content: Content) -> Answer {
        Answer { status, headers: Box::default(), content, cache_status: None, has_rules: false }
    }

    /// Changes its fields as the rules have it for the name, if they did not yet.
    pub fn with_rules(mut self, rules: &Rules, name: &[u8], origin: Option<&[u8]>) -> Answer {
        if std::mem::replace(&mut self.has_rules, true) {
            return self;
        }
        for edit in rules.always(name, origin) {
            let (Edit::Set(name, _) | Edit::Append(name, _) | Edit::Remove(name)) = &edit;
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
            if !matches!(edit, Edit::Append(..)) {
                self.headers.remove(&name);
            }
            if let Edit::Set(_, value) | Edit::Append(_, value) = edit {
                self = self.with(name, value);
            }
        }
        self
    }

    /// A whole body of a type.
    pub fn page(content_type: &'static str, body: impl Into<Bytes>) -> Answer {
        Answer::new(StatusCode::OK, Content::Whole(body.into()))
            .with(header::CONTENT_TYPE, HeaderValue::from_static(content_type))
            .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
            .with(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
    }

    /// A short text that says what was wrong.
    pub fn problem(status: StatusCode, text: impl std::fmt::Display) -> Answer {
        Answer::new(status, Content::Whole(format!("{text}\n").into()))
            .with(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))
    }

    /// The page in place of the text.
    pub fn with_page(mut self, page: &Page) -> Answer {
        self.headers.remove(header::CONTENT_TYPE);
        self.content = Content::Whole(Bytes::copy_from_slice(&page.body));
        self.with(header::CONTENT_TYPE, page.content_type.as_str())
    }

    /// Says that the trouble may be over in a second.
    pub fn retry_soon(self) -> Answer {
        self.with(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// The refusal of a request head. What follows on such a client's connection is not to be believed.
    pub fn of_refused_head(problem: Problem) -> Answer {
        Answer::from(problem).with(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// Adds a header field. A value that cannot be one (from a file's name, say) is left out.
    pub fn with(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Answer {
        if let Ok(value) = value.try_into() {
            self.headers.append(name, value);
        }
        self
    }

    /// Adds header fields written as lines that end in CRLF.
    pub fn with_lines(mut self, lines: &[u8]) -> Answer {
        for line in lines.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), value) {
                self.headers.append(name, value);
            }
        }
        self
    }

    /// Says how the cache took part.
    pub fn cached(mut self, status: CacheStatus) -> Answer {
        self.cache_status = Some(status);
        self.with(HeaderName::from_static("cache-status"), status.text().as_ref())
    }

    /// The response, counted now; its bytes are counted, and it is logged, as it leaves. The body of a HEAD is left
    /// out, not its length.
    pub fn into_response(self, tally: Tally, answering: Answering, outbound: &Outbound) -> Response<Body> {
        let Tally { shared, mut record, has_body, is_11 } = tally;
        let class = self.cache_status.map_or(Class::Other, Class::of);
        record.answered(self.status.as_u16(), self.cache_status);
        shared.metrics.control.answered(class, self.status.as_u16());
        let has_body = has_body && !matches!(self.status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT);
        let end = match &self.content {
            Content::Whole(bytes) if has_body => End::Length(bytes.len() as u64),
            Content::Pieces { left: Some(left), .. } | Content::Origins { left: Some(left), .. } if has_body => {
                End::Length(*left)
            }
            Content::Pieces { left: None, .. } | Content::Origins { left: None, .. } if has_body && is_11 => {
                End::Chunks
            }
            Content::Pieces { left: None, .. } | Content::Origins { left: None, .. } if has_body => End::Close,
            Content::Empty | Content::Whole(_) | Content::Pieces { .. } | Content::Origins { .. } => End::Length(0),
        };
        outbound.begin(end, class, record);
        let mut response = Response::new(Body { content: self.content, _answering: answering });
        *response.status_mut() = self.status;
        *response.headers_mut() = *self.headers;
        response
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Answer {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = match has_no_body(problem.status) {
            true => Answer::new(status, Content::Empty),
            false => Answer::problem(status, &problem.text),
        };
        if let Some(page) = &problem.page {
            answer = answer.with_page(page);
        }
        if let Some(field) = &problem.field {
            answer = answer.with_lines(field.as_bytes());
        }
        answer.has_rules = true;
        match problem.cache_status {
            Some(status) => answer.cached(status),
            None => answer,
        }
    }
}

/// A body on its way to hyper.
pub(super) struct Body {
    content: Content,
    /// The connection's deadlines wait for the end of this request.
    _answering: Answering,
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut self.content {
            Content::Empty => None,
            Content::Whole(bytes) => {
                Some(Ok(std::mem::take(bytes))).filter(|piece| !matches!(piece, Ok(b) if b.is_empty()))
            }
            Content::Pieces { pieces, left } => match (std::task::ready!(pieces.poll_recv(cx)), left) {
                (Some(Ok(piece)), Some(left)) => {
                    *left = left.saturating_sub(piece.len() as u64);
                    Some(Ok(piece))
                }
                // A task that ended too early must not look like the end of the file.
                (None, Some(left)) if *left > 0 => Some(Err(io::ErrorKind::UnexpectedEof.into())),
                (piece, _) => piece,
            },
            Content::Origins { body, left } => match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                // Trailers come last, and are not passed on.
                Some(Ok(frame)) => frame.into_data().ok().map(|piece| {
                    *left = left.map(|left| left.saturating_sub(piece.len() as u64));
                    Ok(piece)
                }),
                Some(Err(fault)) => Some(Err(io::Error::other(fault))),
                None if left.is_some_and(|left| left > 0) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
                None => None,
            },
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Pieces { left, .. } => *left == Some(0),
            Content::Origins { body, left } => *left == Some(0) || body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Pieces { left: Some(left), .. } => SizeHint::with_exact(*left),
            Content::Pieces { left: None, .. } => SizeHint::default(),
            Content::Origins { left: Some(left), .. } => SizeHint::with_exact(*left),
            Content::Origins { left: None, .. } => SizeHint::default(),
        }
    }
}

/// The account of a request that is not answered yet.
pub(super) struct Tally {
    shared: Arc<Shared>,
    record: Record,
    /// Its response may have a body that is sent.
    has_body: bool,
    is_11: bool,
}

impl Tally {
    pub fn new(shared: Arc<Shared>, peer: Peer, request: &Parts) -> Tally {
        let is_11 = request.version != hyper::Version::HTTP_10;
        let field = |name| request.headers.get(name).map(HeaderValue::as_bytes);
        let target = if shared.access_log.is_on() { request.uri.to_string() } else { String::new() };
        let record = shared.access_log.begin(monotonic(), || Asked {
            peer,
            request: Some(Request {
                method: request.method.as_str(),
                target: target.as_bytes(),
                protocol: if is_11 { "HTTP/1.1" } else { "HTTP/1.0" },
                referer: field(header::REFERER),
                user_agent: field(header::USER_AGENT),
            }),
        });
        let has_body = request.method != Method::HEAD;
        Tally { shared, record, has_body, is_11 }
    }

    /// Of a head that is refused: there is no request to tell of.
    pub fn refused(shared: Arc<Shared>, peer: Peer) -> Tally {
        let record = shared.access_log.begin(monotonic(), || Asked { peer, request: None });
        Tally { shared, record, has_body: true, is_11: true }
    }
}
