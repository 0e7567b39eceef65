//! Requests that no cache answers: they go to the remote origin as they come, and its answers come back so.
//!
//! Neither body is held: whoever takes it slowly slows down who sends it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode, Uri};

use super::answer::{Answer, Content};
use super::parts::host_of;
use super::plane::{ControlPlane, unauthorized};
use super::request_body::RequestBody;
use crate::cache::stats::Departure;
use crate::exchange::route;
use crate::http::cache_status::{CacheStatus, Further};
use crate::http::caching::invalidation::{invalidated, is_safe};
use crate::http::hop;
use crate::origin::remote::{self, Ask, Fault};

/// The methods that are known to be passed on; others are, too.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";

/// Those of a server that passes on only what changes nothing.
const SAFE_METHODS: &str = "GET, HEAD, OPTIONS, TRACE";

impl ControlPlane {
    /// Passes on a request for `key` whose method is neither GET nor HEAD, and removes from the cache what it makes
    /// stale.
    pub async fn forward(self: &Rc<Self>, key: &[u8], parts: &Parts, body: RequestBody) -> Result<Answer, Answer> {
        let body = self.limited(body)?;
        self.pass_on(key, parts, body).await
    }

    /// The body of a request, of which as many bytes are taken as an upload may have.
    pub(super) fn limited(&self, body: RequestBody) -> Result<remote::Body, Answer> {
        Ok(Limited::new(body, self.shared.options.max_upload_bytes).map_err(failed)?.boxed_unsync())
    }

    /// Passes on a request with this body.
    pub(super) async fn pass_on(&self, key: &[u8], parts: &Parts, body: remote::Body) -> Result<Answer, Answer> {
        let absent = || Answer::problem(StatusCode::NOT_FOUND, "there is no origin to ask");
        let remote = self.shared.origin.remote().ok_or_else(absent)?;
        let mut fields = self.admit_forward(parts).await?;
        if parts.method == Method::CONNECT {
            return Err(self.not_forwarded(parts));
        }
        if let Some(answer) = last_hop(parts, &mut fields, self.allowed()) {
            return Ok(answer);
        }
        let uri = Uri::try_from(key).map_err(|_| failed(Fault::Target("it is no path")))?;
        let mut ask = Ask::new(body);
        *ask.method_mut() = parts.method.clone();
        *ask.uri_mut() = uri;
        *ask.version_mut() = parts.version;
        *ask.headers_mut() = fields;
        *ask.extensions_mut() = parts.extensions.clone();
        match remote.send(ask).await {
            Ok(answer) => {
                self.invalidate(key, parts, answer.status(), answer.headers());
                Ok(outward(answer))
            }
            Err(fault) => {
                // It may have been acted on all the same.
                if matches!(fault, Fault::TimedOut { .. } | Fault::Broken(_) | Fault::Request(_)) {
                    self.invalidate(key, parts, StatusCode::OK, &HeaderMap::new());
                }
                self.shared.origin_fails(key, &fault);
                Err(failed(fault))
            }
        }
    }

    /// Whether a request may be passed on; then its fields.
    async fn admit_forward(&self, parts: &Parts) -> Result<HeaderMap, Answer> {
        let mut fields = parts.headers.clone();
        let is_expected = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if parts.headers.get_all(header::EXPECT).iter().any(|value| !is_expected(value)) {
            return Err(Answer::problem(StatusCode::EXPECTATION_FAILED, "of Expect only 100-continue is known here"));
        }
        let (is_safe, guard) = (is_safe(&parts.method), &self.shared.guard);
        if !is_safe && self.shared.remote_options().is_some_and(|options| options.read_only) {
            return Err(self.not_forwarded(parts));
        }
        let authorization = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        if !(if is_safe { guard.admits_read(authorization) } else { guard.admits_write(authorization) }) {
            return Err(unauthorized(authorization));
        }
        if guard.has_token() && (!is_safe || self.shared.options.token_reads) {
            // It was for this server.
            fields.remove(header::AUTHORIZATION);
        }
        Ok(fields)
    }

    fn allowed(&self) -> &'static str {
        let is_read_only = self.shared.remote_options().is_some_and(|options| options.read_only);
        if is_read_only { SAFE_METHODS } else { METHODS }
    }

    fn not_forwarded(&self, parts: &Parts) -> Answer {
        let text = format!("{} is not a method that is passed on to the origin here", parts.method);
        Answer::problem(StatusCode::METHOD_NOT_ALLOWED, text)
            .with(header::ALLOW, HeaderValue::from_static(self.allowed()))
    }

    /// Removes from the cache what a request has made stale that was answered so.
    fn invalidate(&self, key: &[u8], parts: &Parts, status: StatusCode, answer: &HeaderMap) {
        let host = host_of(parts).and_then(|host| std::str::from_utf8(host).ok());
        let (Ok(target), Some(remote)) = (Uri::try_from(key), self.shared.origin.remote()) else { return };
        let why = if parts.method == Method::DELETE { Departure::Deleted } else { Departure::Replaced };
        for target in invalidated(&parts.method, &target, status, answer, host.as_slice()) {
            if let Ok(route::Remote::Stored(key)) = route::read_remote(target.as_bytes(), remote.is_store()) {
                self.shared.cache.remove(&key, why);
            }
        }
    }
}

/// The answer to a request that goes no further than this server (RFC 9110, 7.6.2). Others have one step fewer to go.
fn last_hop(parts: &Parts, fields: &mut HeaderMap, allowed: &'static str) -> Option<Answer> {
    if parts.method != Method::OPTIONS && parts.method != Method::TRACE {
        return None;
    }
    let steps: u64 = fields.get(header::MAX_FORWARDS)?.to_str().ok()?.trim().parse().ok()?;
    if let Some(left) = steps.checked_sub(1) {
        fields.insert(header::MAX_FORWARDS, HeaderValue::from(left));
        return None;
    }
    if parts.method == Method::OPTIONS {
        let answer = Answer::new(StatusCode::NO_CONTENT, Content::Empty);
        return Some(answer.with(header::ALLOW, HeaderValue::from_static(allowed)));
    }
    let mut message = format!("TRACE {} HTTP/1.1\r\n", parts.uri).into_bytes();
    let secret = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
    for (name, value) in fields.iter().filter(|(name, _)| !secret.contains(name)) {
        message.extend_from_slice(name.as_str().as_bytes());
        message.extend_from_slice(b": ");
        message.extend_from_slice(value.as_bytes());
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b"\r\n");
    Some(Answer::page("message/http", message))
}

/// The origin's answer to a request that was passed on.
fn outward(answer: remote::Answer) -> Answer {
    let (parts, body) = answer.into_parts();
    let mut headers = parts.headers;
    hop::pass_answer(&mut headers, parts.version);
    let left = body.size_hint().exact();
    let mut outward = Answer::new(parts.status, Content::Origins { body, left });
    outward.headers = Box::new(headers);
    outward.cache_status = Some(CacheStatus::Forwarded);
    let mut said = Vec::new();
    CacheStatus::Forwarded.write(Further { ttl: None, origin_status: Some(parts.status.as_u16()) }, &mut said);
    outward.with(HeaderName::from_static("cache-status"), said)
}

/// What a client is told to whose request there is no answer.
fn failed(fault: Fault) -> Answer {
    let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let answer = Answer::problem(status, &fault).cached(CacheStatus::Forwarded);
    if fault == Fault::Busy { answer.retry_soon() } else { answer }
}

/// The body of a request, up to a number of bytes.
struct Limited {
    body: RequestBody,
    left: u64,
    limit: u64,
}

impl Limited {
    /// # Errors
    /// It says itself that it is longer.
    fn new(body: RequestBody, limit: u64) -> Result<Limited, Fault> {
        if body.size_hint().lower() > limit {
            return Err(Fault::TooLarge { limit });
        }
        Ok(Limited { body, left: limit, limit })
    }
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Fault::Request(error.to_string())))),
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = self.left.checked_sub(bytes) else {
            return Poll::Ready(Some(Err(Fault::TooLarge { limit: self.limit })));
        };
        self.left = left;
        let mut frame = frame;
        if let Some(trailers) = frame.trailers_mut() {
            hop::strip(trailers);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
