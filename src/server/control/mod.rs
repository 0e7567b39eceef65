//! The control plane: everything that is not a plain read of a file, on hyper and the tokio-uring runtime, in a thread
//! of its own.
//!
//! A connection comes here for good, with the bytes already received from it ([`Handoff`]), and is served here until it
//! ends, plain reads included, from the same cache.
//!
//! - `socket`: the connection and its deadlines; `inbound`, `outbound`: the requests and responses in its bytes
//! - `plane`: what all connections share; `parts`: what is read of a request's head
//! - `request_body`: what becomes of a body that nobody reads to its end
//! - `route`: which request goes where, and who may
//! - `methods`: which methods a target has
//! - `file`, `listing`, `upload`, `pages`: the answers
//! - `pool`: threads for what may block
//! - `forward`: what is the remote origin's to answer
//! - `answer`: what they have in common, and what is counted and logged of them

mod answer;
mod file;
mod filling;
mod forward;
pub(crate) mod inbound;
mod listing;
mod methods;
mod object;
mod outbound;
mod pages;
mod parts;
mod plane;
mod policy;
mod pool;
mod rates;
mod remote;
mod request_body;
mod room;
mod route;
mod slices;
mod socket;
mod upload;

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Handoff;
use super::access_log::Asked;
use super::shared::Shared;
use crate::http::request::HeadLimits;
use crate::limits;
use crate::metrics::labels::{Class, Connection, Timeout};
use crate::net::peer::Peer;
use crate::ring::system::monotonic;
use inbound::{HEAD_GROWTH, Inbound};
use outbound::Outbound;
use plane::ControlPlane;
use socket::{Deadlines, Progress, Socket, Streams};

/// The running control plane.
pub struct Control {
    sender: Sender,
    stop: watch::Sender<Option<Duration>>,
    thread: JoinHandle<()>,
}

/// Where workers hand connections to. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    queue: mpsc::UnboundedSender<Handoff>,
    shared: Arc<Shared>,
}

impl Sender {
    /// Hands a connection over. Never blocks; the queue is bounded by the count of connections. After the control plane
    /// has ended the connection is closed.
    pub fn hand_off(&self, handoff: Handoff) {
        let metrics = &self.shared.metrics.shared;
        metrics.control_queue.rise();
        if self.queue.send(handoff).is_err() {
            metrics.control_queue.fall();
        }
    }
}

/// Starts the control plane in its thread.
///
/// # Errors
/// The thread, its runtime or its ring cannot be had.
pub fn spawn(shared: Arc<Shared>) -> io::Result<Control> {
    let (queue, handoffs) = mpsc::unbounded_channel();
    let (stop, stopping) = watch::channel(None);
    let (report, started) = std::sync::mpsc::channel();
    let sender = Sender { queue, shared: shared.clone() };
    let body = move || {
        // Linux has it for each thread, and for those that come of it: the workers come first where a core is shared.
        if let Err(error) = rustix::process::nice(limits::CONTROL_NICE) {
            tracing::warn!("the control plane runs at the workers' priority: {error}");
        }
        match pool::start().and_then(|()| tokio_uring::Runtime::new(&tokio_uring::builder())) {
            Ok(runtime) => {
                let _ = report.send(Ok(()));
                runtime.block_on(run(shared, handoffs, stopping));
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        }
    };
    let thread = thread::Builder::new().name("control".into()).spawn(body)?;
    started.recv().unwrap_or_else(|_| Err(io::Error::other("the control plane's thread ended at its start")))?;
    Ok(Control { sender, stop, thread })
}

impl Control {
    /// Where workers hand connections to.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Begins to end: idle connections are closed, each other one after its present request, all of them when `drain`
    /// is over.
    pub fn shutdown(&self, drain: Duration) {
        self.stop.send_replace(Some(drain));
    }

    /// Waits for the end; without [`Control::shutdown`] before it, that comes when all connections have ended by
    /// themselves. Workers' senders must be gone, or the end comes only when the drain time is over.
    pub fn join(self) {
        let Control { sender, stop: _stop, thread } = self;
        drop(sender);
        if thread.join().is_err() {
            tracing::error!("the control plane's thread panicked");
        }
    }
}

/// Takes connections up until it is told to end, then sees them out.
async fn run(
    shared: Arc<Shared>,
    mut handoffs: mpsc::UnboundedReceiver<Handoff>,
    mut stop: watch::Receiver<Option<Duration>>,
) {
    let plane = Rc::new(ControlPlane::new(shared.clone()));
    tokio_uring::spawn({
        let (plane, shared) = (plane.clone(), shared.clone());
        async move { plane.rates.sample(shared).await }
    });
    let mut connections = JoinSet::new();
    let mut deadline = pin!(tokio::time::sleep(Duration::MAX));
    let mut is_open = true;
    while is_open || !connections.is_empty() {
        let draining = stop.borrow().is_some();
        tokio::select! {
            handoff = handoffs.recv(), if is_open => match handoff {
                Some(handoff) => {
                    shared.metrics.shared.control_queue.fall();
                    connections.spawn_local(serve(plane.clone(), handoff, stop.clone()));
                }
                None => is_open = false,
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!("a connection's task failed: {error}");
                }
            }
            Ok(()) = stop.changed(), if !draining => {
                let drain = stop.borrow().unwrap_or_default();
                deadline.as_mut().reset(tokio::time::Instant::now() + drain);
            }
            () = &mut deadline => break,
        }
    }
    shared.metrics.control.timeouts[Timeout::Drain].add(connections.len() as u64);
}

/// What is counted of a connection, whichever way its task ends.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: Arc<Shared>) -> Counted {
        shared.metrics.shared.control_connections.rise();
        Counted(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.shared.control_connections.fall();
        self.0.metrics.control.connections[Connection::Closed].one();
    }
}

/// Serves one connection until it ends.
async fn serve(plane: Rc<ControlPlane>, handoff: Handoff, mut stop: watch::Receiver<Option<Duration>>) {
    let _counted = Counted::new(plane.shared.clone());
    let Handoff { socket, received, admitted: _admitted, passing } = handoff;
    let options = &plane.shared.options;
    let control = plane.shared.metrics.control.clone();
    let deadlines = Deadlines { idle: options.idle_timeout, head: options.header_timeout, send: options.send_timeout };
    let head_limits = HeadLimits { bytes: options.max_head_bytes, fields: options.max_headers };
    let (progress, outbound) = (Progress::new(), Rc::<Outbound>::default());
    let taken = Peer::of(&socket).and_then(|peer| {
        let streams = Streams { inbound: Inbound::new(head_limits, received), outbound: outbound.clone() };
        Ok((peer, Socket::new(socket, peer, streams, deadlines, progress.clone(), stop.clone(), control)?))
    });
    let (peer, socket) = match taken {
        Ok(taken) => taken,
        Err(error) => return tracing::debug!("a connection could not be taken over from the data plane: {error}"),
    };
    let shared = plane.shared.clone();
    // The first request's answer may be there already.
    let passing = Cell::new(passing);
    let service = service_fn(|request| {
        let (plane, passing) = (plane.clone(), passing.take());
        let (answering, outbound) = (progress.begin(), outbound.clone());
        // Heads are passed to hyper one at a time, so a refusal is that of the request at hand.
        let refused = progress.take_refused();
        let asked = route::Asked { peer, refused, passing };
        Box::pin(async move { Ok::<_, Infallible>(plane.answer(asked, request, answering, outbound).await) })
    });
    let mut is_ending = stop.borrow().is_some();
    let mut connection = http1::Builder::new()
        // The socket keeps the deadlines.
        .header_read_timeout(None)
        .max_headers(options.max_headers)
        // The socket bounds heads; what it passes on may be longer by what it encodes.
        .max_header_size(HEAD_GROWTH * options.max_head_bytes)
        .max_buf_size((HEAD_GROWTH * options.max_head_bytes).max(BUFFER_BYTES))
        // Who ends their side after a request still wants the answer.
        .half_close(true)
        .title_case_headers(true)
        .keep_alive(!is_ending)
        .serve_connection(TokioIo::new(socket), service);
    // Longer than each deadline that the socket keeps: so whatever hyper waits for, no connection stays for ever.
    let patience =
        (options.idle_timeout.max(options.header_timeout) + options.send_timeout).max(limits::LINGER_MAX) * 2;
    let mut watched = Instant::now() + patience;
    let result = loop {
        tokio::select! {
            result = &mut connection => break result,
            Ok(()) = stop.changed(), if !is_ending => {
                is_ending = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = tokio::time::sleep_until(watched) => match progress.still_since() {
                Some(since) if since + patience <= Instant::now() => {
                    tracing::warn!("a connection from {peer} is closed: nothing moved for {patience:?}");
                    break Ok(());
                }
                since => watched = since.unwrap_or_else(Instant::now) + patience,
            },
        }
    };
    if let Err(error) = result {
        tracing::debug!("a connection from {peer} ended: {error}");
        // A head that the socket let pass, and hyper does not.
        if error.is_parse() {
            count_refused(&shared, peer, 400);
        }
    }
}

/// A head that hyper has answered is counted and logged like those that are refused before it sees them.
fn count_refused(shared: &Shared, peer: Peer, status: u16) {
    shared.metrics.control.answered(Class::Other, status);
    let mut record = shared.access_log.begin(monotonic(), || Asked { peer, request: None });
    record.answered(status, None);
    record.end(monotonic());
}

/// How much hyper receives at a time, bytes: large pieces make uploads cheaper. It also bounds what is buffered of a
/// response.
const BUFFER_BYTES: usize = 64 << 10;
