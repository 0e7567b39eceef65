//! Connections to one origin, kept for the next request, and never more of them than allowed.
//!
//! This is a pool over `hyper::client::conn` and not hyper-util's: that one bounds no connections and no waiting, tells
//! neither a connection that cannot be made from an answer that does not come, nor a request of which nothing arrived
//! from one that may have been acted on, and would hand a connection of one runtime to another.

use super::body::{Hold, Receiving, Sending, Turn};
use super::connect::Endpoint;
use super::fault::broken;
use crate::limits;
use crate::origin::remote::{Answer, Ask, Fault};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header;
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::{Handle, Id};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// What one origin may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at the same time, those included that are kept for the next request.
    pub connections: usize,
    /// Requests that wait for a connection; one more is told [`Fault::Busy`].
    pub queue: usize,
    /// How long one may wait there.
    pub queue_timeout: Duration,
    /// For the name, TCP and TLS.
    pub connect_timeout: Duration,
    /// From the request, or the last piece of its body, to the head of the answer.
    pub first_byte_timeout: Duration,
    /// Between two pieces of the answer, while more is wanted.
    pub idle_timeout: Duration,
    /// Bytes of an answer's head.
    pub head_bytes: usize,
    /// Tries beyond the first, of what is safe to try again.
    pub retries: u32,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            connections: 64,
            queue: 1024,
            queue_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            head_bytes: 64 << 10,
            retries: 2,
        }
    }
}

/// How many connections there are, and who wants one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Connections, kept ones included.
    pub open: usize,
    /// Of these, kept for the next request.
    pub kept: usize,
    /// Requests that wait for one.
    pub waiting: usize,
}

/// A pool for one origin. Clones share it, and it may be used from several runtimes: a connection stays with its own
/// runtime, and the limit is for all together.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    endpoint: Endpoint,
    bounds: Bounds,
    /// A permit for each request that has a connection, or is about to have one.
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    open: AtomicUsize,
    kept: Mutex<Vec<Kept>>,
}

/// A connection that no request uses. The youngest is last.
struct Kept {
    connection: Connection,
    runtime: Id,
    since: Instant,
}

/// A connection, closed when dropped.
struct Connection {
    sender: SendRequest<Sending>,
    received: Arc<AtomicBool>,
    /// Its task was ended before it was over, so what looks like the end of a body is none.
    cut: Arc<AtomicBool>,
    task: AbortHandle,
    pool: Pool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
        self.pool.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sets the flag if the task that it is in is dropped.
struct Cut(Arc<AtomicBool>);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A connection that an answer comes by, and its place among those that are allowed.
struct Lease {
    connection: Connection,
    permit: OwnedSemaphorePermit,
}

impl Hold for Lease {
    fn keep(mut self) {
        if self.connection.sender.is_closed() {
            return;
        }
        if self.connection.sender.is_ready() {
            return self.give_back();
        }
        // Rarely: the origin has answered before it took the whole request, or the task had no turn yet.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let ready = tokio::time::timeout(limits::ORIGIN_SETTLE, self.connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                self.give_back();
            }
        });
    }

    fn was_cut(&self) -> bool {
        self.connection.cut.load(Ordering::Acquire)
    }
}

impl Lease {
    fn give_back(self) {
        let Lease { connection, permit } = self;
        let Ok(runtime) = Handle::try_current() else { return };
        let pool = connection.pool.clone();
        pool.0.kept.lock().push(Kept { connection, runtime: runtime.id(), since: Instant::now() });
        drop(permit);
    }
}

/// A request that came to nothing.
struct Failed {
    fault: Fault,
    /// To be tried again, where that is safe: nothing of it reached the origin, or it changes nothing there and no
    /// answer began.
    request: Option<Request<Sending>>,
}

impl Pool {
    pub fn new(endpoint: Endpoint, bounds: Bounds) -> Pool {
        let permits = Arc::new(Semaphore::new(bounds.connections.clamp(1, Semaphore::MAX_PERMITS)));
        let (waiting, open) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Pool(Arc::new(Shared { endpoint, bounds, permits, waiting, open, kept: Mutex::default() }))
    }

    pub fn usage(&self) -> Usage {
        let Shared { waiting, open, kept, .. } = &*self.0;
        let kept = kept.lock().len();
        Usage { open: open.load(Ordering::Relaxed), kept, waiting: waiting.load(Ordering::Relaxed) }
    }

    /// Sends a request as it is, with a target in origin form and a Host field, and returns the answer as it comes:
    /// also one that says that something failed. Interim responses are told of
    /// ([`Interim`](crate::origin::remote::Interim)), and skipped.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn send(&self, ask: Ask) -> Result<Answer, Fault> {
        let bounds = &self.0.bounds;
        let mut permit = self.permit().await?;
        let turn = Turn::begin();
        let mut request = ask.map(|body| Sending::new(body, turn));
        let mut may_be_kept = true;
        let mut failures = 0;
        loop {
            let kept = if may_be_kept { self.take_kept() } else { None };
            let is_kept = kept.is_some();
            let failed = match kept {
                Some(connection) => self.ask(connection, permit, request).await,
                None => match self.connect().await {
                    Ok(connection) => self.ask(connection, permit, request).await,
                    Err(fault) => Err((permit, Failed { fault, request: Some(request) })),
                },
            };
            let Failed { fault, request: again } = match failed {
                Ok(answer) => return Ok(answer),
                Err((given_back, failed)) => {
                    permit = given_back;
                    failed
                }
            };
            match again {
                Some(again) if is_kept => {
                    // It was closed while nobody used it, and others may have been, too.
                    may_be_kept = false;
                    request = again;
                }
                Some(again) if failures < bounds.retries && !matches!(fault, Fault::TimedOut { .. }) => {
                    tokio::time::sleep(limits::ORIGIN_RETRY_PAUSE * 2u32.saturating_pow(failures)).await;
                    failures += 1;
                    request = again;
                }
                _ => return Err(fault),
            }
        }
    }

    /// A place among the connections that are allowed, in the order of arrival.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, Fault> {
        let Shared { permits, waiting, bounds, .. } = &*self.0;
        if let Ok(permit) = permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = queue(waiting, bounds.queue).ok_or(Fault::Busy)?;
        match tokio::time::timeout(bounds.queue_timeout, permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Fault::Busy),
        }
    }

    /// The connection of this runtime that was used last, of those that are still good.
    fn take_kept(&self) -> Option<Connection> {
        let runtime = Handle::current().id();
        let mut useless = Vec::new();
        let mut kept = self.0.kept.lock();
        useless.extend(
            kept.extract_if(.., |kept| {
                kept.connection.sender.is_closed() || kept.since.elapsed() > limits::ORIGIN_KEEP
            }),
        );
        let found = kept.iter().rposition(|kept| kept.runtime == runtime).map(|at| kept.remove(at));
        drop(kept);
        found.map(|kept| kept.connection)
    }

    /// A new connection, in place of a kept one of another runtime if there are as many as allowed.
    async fn connect(&self) -> Result<Connection, Fault> {
        let Shared { endpoint, bounds, open, kept, .. } = &*self.0;
        let displaced = {
            let mut kept = kept.lock();
            // All that are open and not kept have permits, and so has this one: one of the kept ones is too many.
            let is_full = open.fetch_add(1, Ordering::Relaxed) >= bounds.connections && !kept.is_empty();
            is_full.then(|| kept.remove(0))
        };
        drop(displaced);
        let counted = Counted(open);
        let wire = endpoint.connect(bounds.connect_timeout).await?;
        let (received, cut) = (wire.received(), Arc::new(AtomicBool::new(false)));
        let (sender, connection) = http1::Builder::new()
            .max_headers(limits::ORIGIN_FIELDS)
            .max_header_size(bounds.head_bytes)
            .max_buf_size(bounds.head_bytes.max(limits::ORIGIN_BUFFER_BYTES))
            .title_case_headers(true)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| broken(&error))?;
        let flag = cut.clone();
        let task = tokio::spawn(async move {
            let connection = std::pin::pin!(connection);
            // Dropped before the connection, so that whoever sees a body end knows.
            let cut = Cut(flag);
            if let Err(error) = connection.await {
                tracing::debug!("a connection to the origin ended: {error}");
            }
            std::mem::forget(cut);
        });
        std::mem::forget(counted);
        Ok(Connection { sender, received, cut, task: task.abort_handle(), pool: self.clone() })
    }

    async fn ask(
        &self,
        mut connection: Connection,
        permit: OwnedSemaphorePermit,
        request: Request<Sending>,
    ) -> Result<Answer, (OwnedSemaphorePermit, Failed)> {
        let limit = self.0.bounds.first_byte_timeout;
        let copy = (request.method().is_idempotent() && request.body().is_end_stream()).then(|| copy_of(&request));
        let turn = request.body().turn();
        turn.renew();
        connection.received.store(false, Ordering::Relaxed);
        let answer = turn.within(limit, connection.sender.try_send_request(request)).await;
        let nothing_came = !connection.received.load(Ordering::Relaxed);
        match answer {
            Some(Ok(answer)) => match checked(answer) {
                Ok(answer) => {
                    let idle = self.0.bounds.idle_timeout;
                    let lease = Lease { connection, permit };
                    Ok(answer.map(|body| Receiving::new(body, lease, idle).boxed_unsync()))
                }
                Err(fault) => Err((permit, Failed { fault, request: None })),
            },
            Some(Err(mut error)) => {
                let again = error.take_message().or_else(|| Some(of_copy(copy.filter(|_| nothing_came)?, turn)));
                Err((permit, Failed { fault: broken(error.error()), request: again }))
            }
            None => Err((permit, Failed { fault: Fault::TimedOut { waited_for: "answered", limit }, request: None })),
        }
    }
}

/// Takes itself from a count when dropped.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among those who wait, if there is one.
fn queue(waiting: &AtomicUsize, limit: usize) -> Option<Counted<'_>> {
    let before = waiting.fetch_add(1, Ordering::Relaxed);
    let counted = Counted(waiting);
    (before < limit).then_some(counted)
}

/// The head of a request without a body, to be sent again.
fn copy_of(request: &Request<Sending>) -> Parts {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy.into_parts().0
}

fn of_copy(parts: Parts, turn: Turn) -> Request<Sending> {
    Request::from_parts(parts, Sending::new(crate::origin::remote::empty(), turn))
}

/// Marks an answer whose body ends with its connection: whether all of it came cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndsWithConnection;

/// An answer whose framing means only one thing.
fn checked(mut answer: Response<Incoming>) -> Result<Response<Incoming>, Fault> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Fault::Broken("it switches to a protocol that nobody asked for".into()));
    }
    let codings: Vec<_> = answer.headers().get_all(header::TRANSFER_ENCODING).iter().collect();
    let is_chunked = match codings.as_slice() {
        [] => false,
        [coding] if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err(Fault::Broken(format!("its transfer coding is not chunked: {codings:?}"))),
    };
    if is_chunked {
        // RFC 9112, 6.3: the coding counts.
        answer.headers_mut().remove(header::CONTENT_LENGTH);
    } else if !answer.headers().contains_key(header::CONTENT_LENGTH) && !answer.body().is_end_stream() {
        answer.extensions_mut().insert(EndsWithConnection);
    }
    *answer.version_mut() = Version::HTTP_11;
    Ok(answer)
}
