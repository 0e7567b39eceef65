//! Bodies on their way: to the origin, with a look at whose turn it is, and from it, with a limit to its silence.

use super::fault::broken;
use crate::http::hop;
use crate::origin::remote::{Body, Fault};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Since when it has been the origin's turn: it has to take what there is of the request, and then to answer. While the
/// client's part of the request is awaited, it is not.
#[derive(Clone)]
pub struct Turn(Arc<Mutex<Option<Instant>>>);

impl Turn {
    pub fn begin() -> Turn {
        Turn(Arc::new(Mutex::new(Some(Instant::now()))))
    }

    /// It is the origin's turn from now on.
    pub fn renew(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// When the origin will have taken longer than `limit`, if nothing happens.
    fn due(&self, limit: Duration) -> Instant {
        self.0.lock().unwrap_or_else(Instant::now) + limit
    }

    /// What `answer` becomes, or nothing if the origin took longer than `limit` at any time.
    pub async fn within<T>(&self, limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let due = self.due(limit);
            tokio::select! {
                biased;
                answer = &mut answer => return Some(answer),
                () = tokio::time::sleep_until(due) => {
                    if self.due(limit) <= Instant::now() {
                        return None;
                    }
                }
            }
        }
    }
}

/// The body of a request.
pub struct Sending {
    body: Body,
    turn: Turn,
}

impl Sending {
    pub fn new(body: Body, turn: Turn) -> Sending {
        Sending { body, turn }
    }

    pub fn turn(&self) -> Turn {
        self.turn.clone()
    }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        *self.turn.0.lock() = polled.is_ready().then(Instant::now);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a body comes by; given up when dropped.
pub trait Hold {
    /// All has come: it may serve for something else.
    fn keep(self);

    /// Whether it was ended in the middle, so that what looks like the end of the body is none.
    fn was_cut(&self) -> bool;
}

/// The body of an answer. When all of it was taken, its connection is kept for the next request; otherwise it is closed
/// with it.
pub struct Receiving<L> {
    body: Incoming,
    lease: Option<L>,
    /// How long the origin may send nothing while more is wanted.
    limit: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    is_silent: bool,
    failed: Option<Fault>,
}

impl<L: Hold> Receiving<L> {
    pub fn new(body: Incoming, lease: L, limit: Duration) -> Receiving<L> {
        let mut receiving =
            Receiving { body, lease: Some(lease), limit, silence: None, is_silent: false, failed: None };
        receiving.keep_at_end();
        receiving
    }

    fn keep_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.keep();
        }
    }

    /// Closes the connection, and tells why, now and whenever it is asked again: there is no end after it.
    fn fail(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.lease = None;
        self.failed = Some(fault.clone());
        Poll::Ready(Some(Err(fault)))
    }

    /// Waits on, but not for longer than the origin may be silent.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = Instant::now() + self.limit;
        let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if !self.is_silent {
            silence.as_mut().reset(due);
            self.is_silent = true;
        }
        silence.as_mut().poll(cx)
    }
}

impl<L: Hold + Unpin> HttpBody for Receiving<L> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if let Some(fault) = &this.failed {
            return Poll::Ready(Some(Err(fault.clone())));
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(this.poll_silence(cx));
                this.fail(Fault::TimedOut { waited_for: "sent any more of its answer", limit: this.limit })
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                this.is_silent = false;
                if let Some(trailers) = frame.trailers_mut() {
                    hop::strip(trailers);
                }
                this.keep_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.fail(broken(&error)),
            Poll::Ready(None) => {
                if this.body.size_hint().lower() > 0 || this.lease.as_ref().is_some_and(L::was_cut) {
                    return this.fail(Fault::Broken("its connection was given up".into()));
                }
                if let Some(lease) = this.lease.take() {
                    lease.keep();
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
