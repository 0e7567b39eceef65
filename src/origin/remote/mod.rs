//! What stands behind the cache on another machine: an HTTP server ([`http`]) or an object store.
//!
//! Both are asked in HTTP's own terms, and answer so: a store's answer is described by the fields that an HTTP server would
//! send. Whoever asks decides what is kept of the answer; nothing here knows the cache.

pub mod http;
pub mod store;
pub mod tls;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{Request, Response};
use std::time::Duration;

/// A request to the origin, with the fields of the client that are the origin's affair. Its target is in origin form: path
/// and query as the client sent them.
pub type Ask = Request<Body>;

/// An answer of the origin. Its body comes as it is asked for, so that whoever takes it slowly slows the origin down.
pub type Answer = Response<Body>;

/// A body that comes piece by piece.
pub type Body = UnsyncBoxBody<Bytes, Fault>;

/// Why the origin gave no answer, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection could be made.
    #[error("the origin cannot be reached: {0}")]
    Unreachable(String),
    /// It took longer than it may.
    #[error("the origin has not {waited_for} within {limit:?}")]
    TimedOut { waited_for: &'static str, limit: Duration },
    /// What came is no HTTP, or ended early.
    #[error("the origin's answer is broken: {0}")]
    Broken(String),
    /// As many requests wait for the origin as may.
    #[error("too many requests wait for the origin")]
    Busy,
    /// The origin does not accept what this server proves itself with.
    #[error("the origin refuses this server's credentials: {0}")]
    Credentials(String),
    /// The request came through this server before.
    #[error("the request has come back to this server: its origin leads to itself")]
    Looped,
    /// What is asked for cannot be asked of the origin.
    #[error("the origin cannot be asked for this: {0}")]
    Target(&'static str),
    /// The client's part of the request is longer than it may be.
    #[error("the request has more than {limit} bytes, which is all that may be sent (--max-upload)")]
    TooLarge { limit: u64 },
    /// The client's part of the request broke off.
    #[error("the request broke off: {0}")]
    Request(String),
}

impl Fault {
    /// The status by which a client is told (RFC 9110, 15.6).
    pub fn status(&self) -> u16 {
        match self {
            Fault::Unreachable(_) | Fault::Broken(_) | Fault::Credentials(_) => 502,
            Fault::TimedOut { .. } => 504,
            Fault::Busy => 503,
            Fault::Looped => 508,
            Fault::TooLarge { .. } => 413,
            Fault::Request(_) | Fault::Target(_) => 400,
        }
    }
}

/// No body.
pub fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}
