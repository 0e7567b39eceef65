//! The body of a request, and what becomes of a body that nobody reads to its end.
//!
//! hyper gives up on such a body after one piece, and closes the connection when the response has left, without a word
//! in it. So what is left is read here before the response begins; or the response announces the close.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

use crate::limits;

/// The body of a request.
pub(super) struct RequestBody {
    /// Until this is dropped.
    incoming: Option<Incoming>,
    /// The client has not been told to send it: that is done by reading it.
    is_awaited: bool,
    rest: Rest,
}

/// What is left of the body of a request.
#[derive(Clone)]
pub(super) struct Rest(Arc<Mutex<State>>);

enum State {
    /// Somebody may still read it.
    InUse,
    /// It has been read to its end.
    Ended,
    /// It failed, or there is no telling whether the client will send it.
    Lost,
    /// Nobody reads it any more.
    Unread(Incoming),
}

impl RequestBody {
    /// The body of a request; it is awaited if the request has an `Expect` field.
    pub fn new(incoming: Incoming, is_awaited: bool) -> RequestBody {
        let state = if incoming.is_end_stream() { State::Ended } else { State::InUse };
        RequestBody { incoming: Some(incoming), is_awaited, rest: Rest(Arc::new(Mutex::new(state))) }
    }

    /// What will be left of it.
    pub fn rest(&self) -> Rest {
        self.rest.clone()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let mut state = self.rest.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (State::InUse, Some(incoming)) = (&*state, self.incoming.take()) {
            *state = if self.is_awaited { State::Lost } else { State::Unread(incoming) };
        }
    }
}

impl Rest {
    fn set(&self, state: State) -> State {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), state)
    }

    /// Reads what is left, if that is little and comes soon. Says whether the body has come to its end: if it has not,
    /// the connection cannot be used for another request.
    pub async fn read_out(self) -> bool {
        match self.set(State::Lost) {
            State::Ended => true,
            State::InUse | State::Lost => false,
            State::Unread(incoming) => {
                tokio::time::timeout(limits::UNREAD_BODY_TIME, drained(incoming)).await.unwrap_or(false)
            }
        }
    }
}

async fn drained(mut incoming: Incoming) -> bool {
    let mut left = limits::UNREAD_BODY_BYTES;
    while incoming.size_hint().lower() <= left {
        match incoming.frame().await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |piece| piece.len() as u64);
                let Some(fewer) = left.checked_sub(bytes) else { return false };
                left = fewer;
            }
        }
    }
    false
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.is_awaited = false;
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        let is_over = incoming.is_end_stream();
        match &frame {
            Some(Err(_)) => drop(self.rest.set(State::Lost)),
            Some(Ok(frame)) if !is_over && frame.is_data() => {}
            None | Some(Ok(_)) => drop(self.rest.set(State::Ended)),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
