//! PUT and DELETE of objects: they go to the store as they come, once it is known that the client may.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use hyper::http::request::Parts;
use sha2::{Digest, Sha256};

use super::answer::Answer;
use super::plane::ControlPlane;
use super::request_body::RequestBody;
use super::upload::expected_digest;
use crate::net::peer::Peer;
use crate::origin::remote::{Body, Fault};

impl ControlPlane {
    /// Answers a request to a store that is no read, for the object whose target is `key`, or for a directory without
    /// one.
    pub async fn write_object(
        self: &Rc<Self>,
        key: Option<&[u8]>,
        peer: Peer,
        parts: &Parts,
        body: RequestBody,
    ) -> Result<Answer, Answer> {
        let target = self.target(parts)?;
        if parts.method != Method::PUT && parts.method != Method::DELETE {
            self.admit_read(&target, &parts.headers)?;
            let text = format!("{} is not a method that an object store has", parts.method);
            return Err(self.not_allowed(Some(&target), text).await);
        }
        let name = self.admit_write(target, peer, parts).await?;
        let key = key.ok_or_else(|| Answer::problem(hyper::StatusCode::CONFLICT, "a directory cannot be written"))?;
        let expected = expected_digest(&parts.headers)?;
        let body = Verified { body: self.limited(body)?, sum: Sha256::new(), expected, is_over: false };
        let _turn = self.turn(&name).await;
        self.pass_on(key, parts, body.boxed_unsync()).await
    }
}

/// The body of an upload, which does not end well unless it is what its Content-Digest says (RFC 9530), before it or
/// after it.
struct Verified {
    body: Body,
    sum: Sha256,
    expected: Option<[u8; 32]>,
    is_over: bool,
}

impl Verified {
    /// The body is over: whether it was what it was said to be.
    fn verdict(&mut self) -> Option<Result<Frame<Bytes>, Fault>> {
        self.is_over = true;
        let sum = <[u8; 32]>::from(std::mem::take(&mut self.sum).finalize());
        let is_other = self.expected.is_some_and(|expected| expected != sum);
        let reason = || Fault::Request("its body is not what its Content-Digest says; nothing was stored".to_owned());
        is_other.then(|| Err(reason()))
    }
}

impl HttpBody for Verified {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(self.verdict()),
                Some(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        self.sum.update(&piece);
                        return Poll::Ready(Some(Ok(Frame::data(piece))));
                    }
                    Err(frame) => match frame.trailers_ref().map_or(Ok(None), expected_digest) {
                        Ok(trailed) => self.expected = trailed.or(self.expected),
                        Err(_) => {
                            let reason = "the Content-Digest after its body is none".to_owned();
                            return Poll::Ready(Some(Err(Fault::Request(reason))));
                        }
                    },
                },
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
