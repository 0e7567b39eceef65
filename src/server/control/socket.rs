//! A connection taken over from the data plane: what the data plane had already received is read first.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use crate::limits;
use crate::metrics::WorkerMetrics;
use crate::metrics::labels::Timeout;
use crate::net::peer::Peer;

/// The socket of one client.
pub(super) struct Socket {
    transport: Transport,
    /// Received by the data plane, not read here yet.
    received: Bytes,
    /// How long the client may take no byte of what it is sent.
    patience: Duration,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Runs once the sending side has ended.
    lingering: Option<Pin<Box<Sleep>>>,
    /// Set when the server stops: then there is no time to linger.
    is_stopping: watch::Receiver<Option<Duration>>,
    metrics: Arc<WorkerMetrics>,
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
        patience: Duration,
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
            patience,
            stalled: None,
            lingering: None,
            is_stopping,
            metrics,
        })
    }

    /// Reads on for a while after the sending side was ended: closing a socket with unread bytes resets the connection, and a
    /// reset can destroy the answer on its way (RFC 9112, 9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let lingering = self.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(limits::LINGER)));
        if self.is_stopping.borrow().is_some() || lingering.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut sink = [0; 4 << 10];
        loop {
            let mut sink = ReadBuf::new(&mut sink);
            let read = ready!(transport!(self, socket => Pin::new(socket).poll_read(cx, &mut sink)));
            if read.is_err() || sink.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Counts what was written, or how long nothing could be.
    fn account(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(result) => {
                if self.stalled.take().is_some() {
                    // hyper waits for the reader when a pipelined request's response had to wait for this write, and would wait
                    // for ever if that request was the last.
                    cx.waker().wake_by_ref();
                }
                if let Ok(count) = result {
                    self.metrics.bytes_sent.add(count as u64);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let deadline = Instant::now() + self.patience;
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
            return Poll::Ready(Ok(()));
        }
        transport!(self, socket => Pin::new(socket).poll_read(cx, buf))
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
