//! The HTTP client by which the crate asks stores, and whoever gives it credentials.
//!
//! The crate tells its callers little of what a store answered. So this client notes the last answer of each operation
//! ([`Heard`]), and puts a [`Fault`] at the bottom of the errors that it makes.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector as Sockets;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client as crated;
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::super::Fault;
use super::Patience;
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

/// The client. It keeps connections, and bounds how many there are.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    client: Client<HttpsConnector<Sockets>, HttpRequestBody>,
    patience: Patience,
    connections: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// The store is asked without credentials.
    anonymous: bool,
}

impl Transport {
    pub fn new(tls: rustls::ClientConfig, patience: Patience, connections: usize, anonymous: bool) -> Transport {
        let mut sockets = Sockets::new();
        sockets.enforce_http(false);
        sockets.set_nodelay(true);
        sockets.set_connect_timeout(Some(patience.connect));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(sockets);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits::STORE_KEEP)
            .pool_max_idle_per_host(connections)
            .http1_max_buf_size(limits::STORE_HEAD_BYTES)
            .build(connector);
        let connections = Arc::new(Semaphore::new(connections));
        Transport { client, patience, connections, waiting: Arc::default(), anonymous }
    }

    /// Waits for one of the connections; not for ever, and not behind too many.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, HttpError> {
        if let Ok(permit) = self.connections.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let place = Place::take(&self.waiting).ok_or_else(|| because(HttpErrorKind::Unknown, Fault::Busy))?;
        let permit = tokio::time::timeout(self.patience.answer, self.connections.clone().acquire_owned()).await;
        drop(place);
        permit.ok().and_then(Result::ok).ok_or_else(|| because(HttpErrorKind::Unknown, Fault::Busy))
    }

    async fn ask(self, mut request: HttpRequest, operation: Operation) -> Result<HttpResponse, HttpError> {
        if let Some((name, value)) = &operation.on_completion
            && is_completion(request.method(), request.uri())
        {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let by_store = self.anonymous || is_signed(&request);
        let asks_for_part = request.headers().contains_key(header::RANGE);
        let permit = self.permit().await?;
        let limit = self.patience.answer;
        let answered = match tokio::time::timeout(limit, self.client.request(request)).await {
            Ok(answered) => answered.map_err(failure),
            Err(_elapsed) => Err((HttpErrorKind::Timeout, Fault::TimedOut { waited_for: "answered", limit })),
        };
        let response = answered.map_err(|(kind, fault)| match by_store {
            true => because(kind, fault),
            false => because(kind, Fault::Credentials(format!("whoever gives them does not answer: {fault}"))),
        })?;
        let (mut parts, body) = response.into_parts();
        // Some stores send a part with the status of a whole.
        if asks_for_part && parts.status == StatusCode::OK && parts.headers.contains_key(header::CONTENT_RANGE) {
            parts.status = StatusCode::PARTIAL_CONTENT;
        }
        *operation.heard.lock() = Some(Heard { by_store, status: parts.status, fields: parts.headers.clone() });
        let bound = match operation.is_object && parts.status.is_success() {
            true => u64::MAX,
            false => limits::STORE_TEXT_BYTES,
        };
        let body = Watched::new(body, self.patience.idle, bound, permit);
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
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
    let has = |wanted: &str| query.split('&').any(|pair| pair == wanted);
    match *method {
        Method::POST => query.split('&').any(|pair| pair.starts_with("uploadId=")),
        Method::PUT => has("comp=blocklist"),
        _ => false,
    }
}

/// A place among those who wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Place<'a>> {
        let place = Place(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < limits::STORE_WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer: it may not pause for too long, is cut where it has no reason to be that long, and holds its
/// connection until it ends.
struct Watched {
    body: Incoming,
    pause: Pin<Box<Sleep>>,
    limit: Duration,
    bound: u64,
    permit: Option<OwnedSemaphorePermit>,
}

impl Watched {
    fn new(body: Incoming, limit: Duration, bound: u64, permit: OwnedSemaphorePermit) -> Watched {
        // Nobody waits for the rest of a body that has ended.
        let permit = (!body.is_end_stream()).then_some(permit);
        Watched { body, pause: Box::pin(tokio::time::sleep(limit)), limit, bound, permit }
    }

    fn end(&mut self, error: Option<HttpError>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.permit = None;
        Poll::Ready(error.map(Err))
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                if length > self.bound {
                    let text = format!("it is longer than {} bytes", limits::STORE_TEXT_BYTES);
                    return self.end(Some(because(HttpErrorKind::Decode, Fault::Broken(text))));
                }
                self.bound -= length;
                let next = Instant::now() + self.limit;
                self.pause.as_mut().reset(next);
                if self.body.is_end_stream() {
                    self.permit = None;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let fault = Fault::Broken(format!("it ended early: {error}"));
                self.end(Some(because(HttpErrorKind::Interrupted, fault)))
            }
            Poll::Ready(None) => self.end(None),
            Poll::Pending => match self.pause.as_mut().poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => {
                    let fault = Fault::TimedOut { waited_for: "sent the next bytes", limit: self.limit };
                    self.end(Some(because(HttpErrorKind::Timeout, fault)))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a request was not answered.
fn failure(error: ClientError) -> (HttpErrorKind, Fault) {
    let text = causes(&error);
    match error.is_connect() {
        true => (HttpErrorKind::Connect, Fault::Unreachable(text)),
        false => (HttpErrorKind::Interrupted, Fault::Broken(text)),
    }
}

/// Whether a request proves who asks: those to stores do, those for credentials do not yet.
fn is_signed(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.headers().contains_key(header::AUTHORIZATION) || query.split('&').any(|pair| pair.starts_with("sig="))
}

fn because(kind: HttpErrorKind, fault: Fault) -> HttpError {
    HttpError::new(kind, fault)
}

/// The innermost reason of an error: those around it say only where it came from.
fn causes(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
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
