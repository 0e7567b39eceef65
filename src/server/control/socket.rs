//! A connection taken over from the data plane.
//!
//! hyper knows no deadline but one for a head, and goes on only when the socket wakes it. So the deadlines are kept
//! here: for the next request, for the rest of its head, for the client to take bytes, and for it to end its side.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::inbound::Inbound;
use super::outbound::Outbound;
use crate::http::response::Problem;
use crate::limits;
use crate::metrics::WorkerMetrics;
use crate::metrics::labels::Timeout;
use crate::net::peer::Peer;
use crate::ring::system;

/// How long the client of one connection may take for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// Until the first byte of a next request.
    pub idle: Duration,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Without taking a byte of what it is sent.
    pub send: Duration,
}

/// What the socket and the requests of one connection tell each other.
#[derive(Debug)]
pub(super) struct Progress {
    /// Requests that are being answered: the body is read and the response sent in their own time.
    answering: Cell<usize>,
    /// Requests that were begun: a wait that began before the last of them is over.
    begun: Cell<u64>,
    /// The answer to the stand-in that hyper is given in place of a request whose head is refused.
    refused: RefCell<Option<Problem>>,
    /// When bytes last moved.
    moved: Cell<Instant>,
    /// The connection, if it reads: the end of a request begins the wait for the next one.
    reader: RefCell<Option<Waker>>,
}

/// A request that is being answered, until this is dropped.
pub(super) struct Answering(Rc<Progress>);

impl Progress {
    pub fn new() -> Rc<Progress> {
        Rc::new(Progress {
            answering: Cell::new(0),
            begun: Cell::new(0),
            refused: RefCell::new(None),
            moved: Cell::new(Instant::now()),
            reader: RefCell::new(None),
        })
    }

    pub fn begin(self: &Rc<Self>) -> Answering {
        self.answering.set(self.answering.get() + 1);
        self.begun.set(self.begun.get() + 1);
        Answering(self.clone())
    }

    /// The refusal of the head in whose place hyper was given the request at hand.
    pub fn take_refused(&self) -> Option<Problem> {
        self.refused.take()
    }

    /// Since when nothing moves, if there is no request that accounts for it.
    pub fn still_since(&self) -> Option<Instant> {
        (self.answering.get() == 0).then(|| self.moved.get())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.set(self.0.answering.get() - 1);
        self.0.moved.set(Instant::now());
        if let Some(reader) = self.0.reader.take() {
            reader.wake();
        }
    }
}

/// What the bytes of one connection are.
pub(super) struct Streams {
    pub inbound: Inbound,
    pub outbound: Rc<Outbound>,
}

/// The socket of one client.
pub(super) struct Socket {
    transport: Transport,
    streams: Streams,
    /// Of a head, what hyper has not read yet.
    head: Bytes,
    deadlines: Deadlines,
    progress: Rc<Progress>,
    waits: Option<Wait>,
    /// Set while a write waits.
    stalled: Option<Stalled>,
    lingering: Option<Lingering>,
    /// Set when the server stops: then there is no time to linger.
    is_stopping: watch::Receiver<Option<Duration>>,
    metrics: Arc<WorkerMetrics>,
}

/// The wait for a next byte.
struct Wait {
    what: Awaited,
    deadline: Pin<Box<Sleep>>,
    /// Requests that had been begun before.
    begun: u64,
}

/// The wait for a client to take bytes. It may take many before the socket has room for more.
struct Stalled {
    deadline: Pin<Box<Sleep>>,
    /// How far it had come when the wait began.
    progress: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Request,
    RestOfHead,
}

/// Reading on after the sending side has ended.
struct Lingering {
    /// Runs while nothing arrives.
    quiet: Pin<Box<Sleep>>,
    /// When it ends in any case.
    until: Instant,
    /// Bytes that may still arrive.
    left: u64,
}

enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls a method of whichever transport it is.
macro_rules! transport {
    ($socket:expr, $transport:ident => $call:expr) => {
        match &mut $socket.transport {
            Transport::Tcp($transport) => $call,
            Transport::Unix($transport) => $call,
        }
    };
}

impl Socket {
    /// Takes a connected stream socket over; must be called on the runtime.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn new(
        socket: OwnedFd,
        peer: Peer,
        streams: Streams,
        deadlines: Deadlines,
        progress: Rc<Progress>,
        is_stopping: watch::Receiver<Option<Duration>>,
        metrics: Arc<WorkerMetrics>,
    ) -> io::Result<Socket> {
        let transport = match peer {
            Peer::Tcp(_) => {
                let socket = std::net::TcpStream::from(socket);
                socket.set_nonblocking(true)?;
                Transport::Tcp(TcpStream::from_std(socket)?)
            }
            Peer::Unix => {
                let socket = std::os::unix::net::UnixStream::from(socket);
                socket.set_nonblocking(true)?;
                Transport::Unix(UnixStream::from_std(socket)?)
            }
        };
        Ok(Socket {
            transport,
            streams,
            head: Bytes::new(),
            deadlines,
            progress,
            waits: None,
            stalled: None,
            lingering: None,
            is_stopping,
            metrics,
        })
    }

    /// Reads on for a while after the sending side was ended: closing a socket with unread bytes resets the connection,
    /// and a reset can destroy the answer on its way (RFC 9112, 9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = Instant::now();
        let lingering = self.lingering.get_or_insert_with(|| Lingering {
            quiet: Box::pin(tokio::time::sleep(limits::LINGER)),
            until: now + limits::LINGER_MAX,
            left: limits::LINGER_BYTES,
        });
        if self.is_stopping.borrow().is_some() || now >= lingering.until {
            return Poll::Ready(Ok(()));
        }
        let mut sink = [0; 4 << 10];
        loop {
            let mut sink = ReadBuf::new(&mut sink);
            let Poll::Ready(read) = transport!(self, socket => Pin::new(socket).poll_read(cx, &mut sink)) else {
                break;
            };
            let count = sink.filled().len() as u64;
            let Some(lingering) = &mut self.lingering else { break };
            if read.is_err() || count == 0 || count > lingering.left {
                return Poll::Ready(Ok(()));
            }
            lingering.left -= count;
            lingering.quiet.as_mut().reset((now + limits::LINGER).min(lingering.until));
        }
        match &mut self.lingering {
            Some(lingering) => lingering.quiet.as_mut().poll(cx).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The next head for hyper, waited for as long as it may take; nothing where the client has ended its side.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            if let Some((head, refused)) = self.streams.inbound.next_head() {
                self.progress.refused.replace(refused);
                return Poll::Ready(Ok(head));
            }
            let mut piece = [0; HEAD_PIECE_BYTES];
            let mut piece = ReadBuf::new(&mut piece);
            match transport!(self, socket => Pin::new(socket).poll_read(cx, &mut piece)) {
                Poll::Ready(Ok(())) if piece.filled().is_empty() => return Poll::Ready(Ok(Bytes::new())),
                Poll::Ready(Ok(())) => {
                    self.streams.inbound.receive(piece.filled());
                    self.progress.moved.set(Instant::now());
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(self.poll_patience(cx))?;
                    self.progress.refused.replace(Some(Problem::of_late_head(self.deadlines.head)));
                    return Poll::Ready(Ok(self.streams.inbound.end()));
                }
            }
        }
    }

    /// Bytes of a body: those that arrived with its head, then from the socket, and none of what follows it.
    fn poll_body(&mut self, cx: &mut Context<'_>, room: usize, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(piece) = self.streams.inbound.take_body(buf.remaining()) {
            buf.put_slice(&piece);
            return Poll::Ready(Ok(()));
        }
        let room = room.min(buf.remaining());
        let mut piece = ReadBuf::new(buf.initialize_unfilled_to(room));
        match transport!(self, socket => Pin::new(socket).poll_read(cx, &mut piece)) {
            Poll::Ready(result) => result?,
            Poll::Pending => return self.poll_patience(cx),
        }
        self.progress.moved.set(Instant::now());
        let belongs = self.streams.inbound.received_body(piece.filled());
        buf.advance(belongs);
        Poll::Ready(Ok(()))
    }

    /// The next byte is not there yet: how long it may be waited for depends on what it belongs to. Ready when the rest
    /// of a head is overdue, and with an error when the next request is.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.answering.get() > 0 {
            self.progress.reader.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let what = if self.streams.inbound.is_in_head() { Awaited::RestOfHead } else { Awaited::Request };
        let wait = self.wait_for(what);
        ready!(wait.deadline.as_mut().poll(cx));
        if what == Awaited::RestOfHead {
            self.metrics.timeouts[Timeout::Head].one();
            return Poll::Ready(Ok(()));
        }
        self.metrics.timeouts[Timeout::Idle].one();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the next request did not come in time")))
    }

    /// The wait that goes on since the last request, or one that begins now. What arrives of a head buys it no time.
    fn wait_for(&mut self, what: Awaited) -> &mut Wait {
        let begun = self.progress.begun.get();
        let goes_on = |wait: &Wait| wait.begun == begun && wait.what == what;
        let time = if what == Awaited::Request { self.deadlines.idle } else { self.deadlines.head };
        self.waits = self.waits.take().filter(goes_on);
        self.waits.get_or_insert_with(|| Wait { what, deadline: Box::pin(tokio::time::sleep(time)), begun })
    }

    /// Sends the interim responses that it is time for.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut heads = self.streams.outbound.take_interim();
        if heads.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !heads.is_empty() {
            let written = transport!(self, socket => Pin::new(socket).poll_write(cx, &heads));
            match self.account(cx, written, &[io::IoSlice::new(&heads)]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => drop(heads.drain(..count)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.streams.outbound.put_back(heads);
                    return Poll::Pending;
                }
            }
        }
        self.streams.outbound.put_back(heads);
        Poll::Ready(Ok(()))
    }

    /// Counts what was written of `bufs`, or how long nothing could be.
    fn account(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(result) => {
                if self.stalled.take().is_some() {
                    // hyper waits for the reader when a pipelined request's response had to wait for this write, and
                    // would wait for ever if that request was the last.
                    cx.waker().wake_by_ref();
                }
                self.progress.moved.set(Instant::now());
                let mut left = *result.as_ref().unwrap_or(&0);
                for buf in bufs {
                    let taken = left.min(buf.len());
                    self.streams.outbound.sent(&buf[..taken], &self.metrics);
                    left -= taken;
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.poll_stalled(cx));
                self.metrics.timeouts[Timeout::Send].one();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its response")))
            }
        }
    }

    /// Ready when the client has taken nothing for as long as it may.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let socket = match &self.transport {
            Transport::Tcp(socket) => socket.as_raw_fd(),
            Transport::Unix(socket) => socket.as_raw_fd(),
        };
        let time = self.deadlines.send;
        let stalled = self.stalled.get_or_insert_with(|| Stalled {
            deadline: Box::pin(tokio::time::sleep(time)),
            progress: system::progress(socket),
        });
        loop {
            ready!(stalled.deadline.as_mut().poll(cx));
            let progress = system::progress(socket);
            if progress == stalled.progress {
                return Poll::Ready(());
            }
            stalled.progress = progress;
            stalled.deadline.as_mut().reset(Instant::now() + time);
            self.progress.moved.set(Instant::now());
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.head.is_empty() {
            if let Some(room) = this.streams.inbound.body_room() {
                return this.poll_body(cx, room, buf);
            }
            if this.streams.inbound.is_over() {
                return Poll::Ready(Ok(()));
            }
            this.head = ready!(this.poll_head(cx))?;
        }
        let count = this.head.len().min(buf.remaining());
        buf.put_slice(&this.head[..count]);
        this.head.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// Bytes of a head that are received at a time.
const HEAD_PIECE_BYTES: usize = 4 << 10;

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let written = transport!(self, socket => Pin::new(socket).poll_write(cx, buf));
        self.account(cx, written, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let written = transport!(self, socket => Pin::new(socket).poll_write_vectored(cx, bufs));
        self.account(cx, written, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        transport!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(transport!(self, socket => Pin::new(socket).poll_shutdown(cx)))?;
            self.streams.outbound.close();
        }
        self.poll_linger(cx)
    }
}
