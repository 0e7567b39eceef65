//! A connection taken over from the data plane: what that plane had already received is read first.
//!
//! hyper knows no deadline but one for a head, and goes on only when the socket wakes it. So the deadlines are kept here:
//! for the next request, for the rest of its head, for the client to take bytes, and for it to end its side.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
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

use crate::http::date::Date;
use crate::http::response::{Persistence, Problem};
use crate::limits;
use crate::metrics::WorkerMetrics;
use crate::metrics::labels::Timeout;
use crate::net::peer::Peer;

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
    /// A head did not come to its end in time.
    late: Cell<bool>,
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
            late: Cell::new(false),
            moved: Cell::new(Instant::now()),
            reader: RefCell::new(None),
        })
    }

    pub fn begin(self: &Rc<Self>) -> Answering {
        self.answering.set(self.answering.get() + 1);
        self.begun.set(self.begun.get() + 1);
        Answering(self.clone())
    }

    /// Whether the connection ends since a head did not come to its end in time.
    pub fn was_late(&self) -> bool {
        self.late.get()
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

/// The socket of one client.
pub(super) struct Socket {
    transport: Transport,
    /// Received by the data plane, not read here yet.
    received: Bytes,
    deadlines: Deadlines,
    progress: Rc<Progress>,
    waits: Option<Wait>,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
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
        received: Vec<u8>,
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
            received: received.into(),
            deadlines,
            progress,
            waits: None,
            stalled: None,
            lingering: None,
            is_stopping,
            metrics,
        })
    }

    /// Reads on for a while after the sending side was ended: closing a socket with unread bytes resets the connection, and a
    /// reset can destroy the answer on its way (RFC 9112, 9.6).
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

    /// The next byte is not there yet: how long it may be waited for depends on what it belongs to.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.answering.get() > 0 {
            self.progress.reader.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let wait = self.wait_for(Awaited::Request);
        ready!(wait.deadline.as_mut().poll(cx));
        match wait.what {
            Awaited::Request => self.metrics.timeouts[Timeout::Idle].one(),
            Awaited::RestOfHead => {
                self.metrics.timeouts[Timeout::Head].one();
                self.time_out_head();
            }
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the next request did not come in time")))
    }

    /// The wait that goes on since the last request, or one that begins now. What arrives of a head buys it no time.
    fn wait_for(&mut self, what: Awaited) -> &mut Wait {
        let begun = self.progress.begun.get();
        let goes_on = |wait: &Wait| wait.begun == begun && (wait.what == what || what == Awaited::Request);
        let time = if what == Awaited::Request { self.deadlines.idle } else { self.deadlines.head };
        self.waits = self.waits.take().filter(goes_on);
        self.waits.get_or_insert_with(|| Wait { what, deadline: Box::pin(tokio::time::sleep(time)), begun })
    }

    /// Says why the connection ends. Nothing of a response is on its way here, as no request is being answered.
    fn time_out_head(&mut self) {
        self.progress.late.set(true);
        let mut text = Vec::new();
        Problem::of_late_head(self.deadlines.head).write(&mut text, true, &Date::now(), Persistence::Close);
        // A socket without room for it belongs to a client that does not read.
        let _ = transport!(self, socket => socket.try_write(&text));
    }

    /// Bytes were read: of a head, unless a request that is being answered accounts for them.
    fn note_read(&mut self) {
        self.progress.moved.set(Instant::now());
        if self.progress.answering.get() == 0 {
            self.wait_for(Awaited::RestOfHead);
        }
    }

    /// Counts what was written, or how long nothing could be.
    fn account(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(result) => {
                if self.stalled.take().is_some() {
                    // hyper waits for the reader when a pipelined request's response had to wait for this write, and
                    // would wait for ever if that request was the last.
                    cx.waker().wake_by_ref();
                }
                self.progress.moved.set(Instant::now());
                if let Ok(count) = result {
                    self.metrics.bytes_sent.add(count as u64);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let deadline = Instant::now() + self.deadlines.send;
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                ready!(stalled.as_mut().poll(cx));
                self.metrics.timeouts[Timeout::Send].one();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its response")))
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.received.is_empty() {
            let count = self.received.len().min(buf.remaining());
            buf.put_slice(&self.received[..count]);
            self.received.advance(count);
            self.note_read();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let Poll::Ready(result) = transport!(self, socket => Pin::new(socket).poll_read(cx, buf)) else {
            return self.poll_patience(cx);
        };
        if buf.filled().len() > before {
            self.note_read();
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = transport!(self, socket => Pin::new(socket).poll_write(cx, buf));
        self.account(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = transport!(self, socket => Pin::new(socket).poll_write_vectored(cx, bufs));
        self.account(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        transport!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(transport!(self, socket => Pin::new(socket).poll_shutdown(cx)))?;
        }
        self.poll_linger(cx)
    }
}
