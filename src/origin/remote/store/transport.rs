//! The HTTP client by which the crate asks stores, and whoever gives it credentials: connections are those of [`Pool`].
//!
//! The crate tells its callers little of what a store answered. So this client notes the last answer of each operation
//! ([`Heard`]), and puts a [`Fault`] at the bottom of the errors that it makes.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use object_store::client as crated;
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody};
use parking_lot::Mutex;
use rustls::ClientConfig;

use super::super::http::{Bounds, Endpoint, Pool};
use super::super::{Ask, Body, Fault};
use super::names;
use crate::limits;

tokio::task_local! {
    /// The operation that the running task has under way.
    static OPERATION: Operation;
}

/// What this client is to do for an operation, and notes of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Operation {
    /// The last answer, whatever attempt it belongs to.
    heard: Arc<Mutex<Option<Heard>>>,
    /// Its answer is an object, and may be of any length.
    is_object: bool,
    /// Its answer is a page of a listing.
    is_listing: bool,
    /// A field that is added to the request that completes a multipart upload: the crate knows no conditions there.
    on_completion: Option<(HeaderName, HeaderValue)>,
}

/// An answer, without its body.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    /// The store said it, not whoever gives credentials.
    pub by_store: bool,
    pub status: StatusCode,
    pub fields: HeaderMap,
}

impl Operation {
    pub fn for_object() -> Operation {
        Operation { is_object: true, ..Operation::default() }
    }

    pub fn for_listing() -> Operation {
        Operation { is_listing: true, ..Operation::default() }
    }

    /// One whose last request is sent with this field.
    pub fn completed_if(field: Option<(HeaderName, HeaderValue)>) -> Operation {
        Operation { on_completion: field, ..Operation::default() }
    }

    /// Does `work`, all of whose requests are this operation's.
    pub async fn scope<T>(&self, work: impl Future<Output = T>) -> T {
        OPERATION.scope(self.clone(), work).await
    }

    /// The last answer.
    pub fn heard(&self) -> Option<Heard> {
        self.heard.lock().clone()
    }
}

/// The client. It keeps connections, and bounds how many there are to each server.
#[derive(Clone)]
pub(super) struct Transport(Arc<Shared>);

struct Shared {
    bounds: Bounds,
    /// How connections are made safe, where they are.
    tls: ClientConfig,
    /// The store, and whoever gives credentials: by scheme and authority.
    pools: Mutex<Vec<(Server, Pool)>>,
    /// The store is asked without credentials.
    is_anonymous: bool,
}

/// A server: whether TLS is spoken, its name, and its port.
#[derive(Clone, PartialEq, Eq)]
struct Server {
    is_safe: bool,
    host: String,
    port: u16,
}

impl Server {
    fn of(uri: &Uri) -> Option<Server> {
        let is_safe = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return None,
        };
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Server { is_safe, host, port: uri.port_u16().unwrap_or(if is_safe { 443 } else { 80 }) })
    }
}

impl Transport {
    pub fn new(tls: ClientConfig, bounds: Bounds, is_anonymous: bool) -> Transport {
        Transport(Arc::new(Shared { bounds, tls, pools: Mutex::default(), is_anonymous }))
    }

    /// The connections to a server.
    fn pool(&self, uri: &Uri) -> Result<Pool, Fault> {
        let server = Server::of(uri).ok_or(Fault::Target("it is no address of a server"))?;
        let mut pools = self.0.pools.lock();
        if let Some((_, pool)) = pools.iter().find(|(known, _)| *known == server) {
            return Ok(pool.clone());
        }
        let tls = server.is_safe.then(|| self.0.tls.clone());
        let endpoint = Endpoint::new(&server.host, server.port, tls)
            .map_err(|error| Fault::Unreachable(format!("{}: {error}", server.host)))?;
        let pool = Pool::new(endpoint, self.0.bounds.clone());
        if pools.len() >= limits::STORE_SERVERS {
            pools.remove(0);
        }
        pools.push((server, pool.clone()));
        Ok(pool)
    }

    async fn ask(self, request: HttpRequest, operation: Operation) -> Result<HttpResponse, HttpError> {
        let by_store = self.0.is_anonymous || is_signed(&request);
        let asks_for_part = request.headers().contains_key(header::RANGE);
        let answered = match self.pool(request.uri()) {
            Ok(pool) => pool.send(in_origin_form(request, &operation)?).await,
            Err(fault) => Err(fault),
        };
        let answer = answered.map_err(|fault| match by_store {
            true => failure(fault),
            false => {
                let reason = format!("whoever gives them does not answer: {fault}");
                HttpError::new(failure(fault).kind(), Fault::Credentials(reason))
            }
        })?;
        let (mut parts, body) = answer.into_parts();
        // Some stores send a part with the status of a whole.
        if asks_for_part && parts.status == StatusCode::OK && parts.headers.contains_key(header::CONTENT_RANGE) {
            parts.status = StatusCode::PARTIAL_CONTENT;
        }
        *operation.heard.lock() = Some(Heard { by_store, status: parts.status, fields: parts.headers.clone() });
        let left = match operation.is_object && parts.status.is_success() {
            true => u64::MAX,
            false => limits::STORE_TEXT_BYTES,
        };
        let body = HttpResponseBody::new(Bounded { body: Mutex::new(body), left });
        if !operation.is_listing || !parts.status.is_success() {
            return Ok(HttpResponse::from_parts(parts, body));
        }
        let page = body.bytes().await?;
        parts.headers.remove(header::CONTENT_LENGTH);
        let paths = std::str::from_utf8(&page).ok().and_then(names::only_paths);
        Ok(HttpResponse::from_parts(parts, paths.map_or(page, Bytes::from).into()))
    }
}

/// The request as it is sent: its target without the server, which Host names.
fn in_origin_form(request: HttpRequest, operation: &Operation) -> Result<Ask, HttpError> {
    let (mut parts, body) = request.into_parts();
    if let Some((name, value)) = &operation.on_completion
        && is_completion(&parts.method, &parts.uri)
    {
        parts.headers.insert(name.clone(), value.clone());
    }
    let is_one = || failure(Fault::Target("it is no address of a server"));
    let host = parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    parts.headers.insert(header::HOST, host.ok_or_else(is_one)?);
    parts.uri = parts.uri.path_and_query().map_or("/", |target| target.as_str()).parse().map_err(|_| is_one())?;
    let broken = |error: HttpError| Fault::Request(error.to_string());
    Ok(Ask::from_parts(parts, body.map_err(broken).boxed_unsync()))
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transport")
    }
}

impl crated::HttpConnector for Transport {
    fn connect(&self, _: &crated::ClientOptions) -> object_store::Result<crated::HttpClient> {
        Ok(crated::HttpClient::new(self.clone()))
    }
}

impl crated::HttpService for Transport {
    // What the macro async_trait makes of `async fn call(&self, …)`, by which the trait is declared.
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let operation = OPERATION.try_with(Operation::clone).unwrap_or_else(|_| Operation::for_object());
        Box::pin(self.clone().ask(request, operation))
    }
}

/// Whether this is the last request of a multipart upload, in the terms of S3 and GCS, or of Azure.
fn is_completion(method: &Method, uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    match *method {
        Method::POST => query.split('&').any(|pair| pair.starts_with("uploadId=")),
        Method::PUT => query.split('&').any(|pair| pair == "comp=blocklist"),
        _ => false,
    }
}

/// Whether a request proves who asks: those to stores do, those for credentials do not yet.
fn is_signed(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.headers().contains_key(header::AUTHORIZATION) || query.split('&').any(|pair| pair.starts_with("sig="))
}

/// The body of an answer, of which only so many bytes may come. The crate wants bodies that threads may share, which
/// nobody does.
struct Bounded {
    body: Mutex<Body>,
    left: u64,
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = std::task::ready!(Pin::new(self.body.get_mut()).poll_frame(context));
        let length = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => 0,
        };
        if length > self.left {
            let text = format!("it is longer than {} bytes", limits::STORE_TEXT_BYTES);
            return Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Decode, Fault::Broken(text)))));
        }
        self.left -= length;
        Poll::Ready(frame.map(|frame| frame.map_err(failure)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.lock().size_hint()
    }
}

/// The crate's error for a fault, by which it decides whether to try again.
fn failure(fault: Fault) -> HttpError {
    let kind = match fault {
        Fault::Unreachable(_) => HttpErrorKind::Connect,
        Fault::TimedOut { .. } => HttpErrorKind::Timeout,
        Fault::Broken(_) => HttpErrorKind::Interrupted,
        Fault::Busy | Fault::Credentials(_) | Fault::Looped => HttpErrorKind::Unknown,
        Fault::Target(_) | Fault::TooLarge { .. } | Fault::Request(_) => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, fault)
}

/// The fault at the bottom of an error of the crate, if this client made it.
pub(super) fn fault_in(error: &(dyn Error + 'static)) -> Option<Fault> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return Some(fault.clone());
        }
        current = error.source();
    }
    None
}
