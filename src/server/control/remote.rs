//! GET and HEAD of what stands on another machine.

use std::rc::Rc;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderName;
use hyper::http::request::Parts;

use super::answer::{Answer, Content};
use super::plane::ControlPlane;
use crate::exchange::Role;
use crate::http::cache_status::{CacheStatus, Forward, Reason};
use crate::http::representation::Representation;
use crate::http::response::{Content as Said, Head};
use crate::http::{cache_status, encoding};
use crate::origin::remote::{Passing, PassingBody};

impl ControlPlane {
    /// Answers a GET or HEAD of what the origin has under this path and query. `passing` is the origin's answer to this
    /// very request, if it was given already.
    pub async fn stored(
        self: &Rc<Self>,
        key: &[u8],
        parts: &Parts,
        passing: Option<Arc<Passing>>,
    ) -> Result<Answer, Answer> {
        if let Some(answer) = passing.and_then(|passing| pass_on(&passing)) {
            return Ok(answer);
        }
        let none = || Answer::problem(StatusCode::BAD_GATEWAY, "the origin has given no answer");
        self.read(key, Role::Itself, parts).await?.ok_or_else(none)
    }
}

/// The origin's answer as it comes; `None` if it was taken before.
pub(super) fn pass_on(passing: &Passing) -> Option<Answer> {
    let content = match &passing.body {
        PassingBody::Whole(bytes) => Content::Whole(bytes.clone()),
        PassingBody::Coming(body) => Content::Origins { body: body.lock().take()?, left: passing.announced },
    };
    let (stored, age) = (&passing.head, passing.head.freshness.initial_age);
    let cache_status = CacheStatus::Uncached { forward: Forward::UriMiss, reason: Reason::Private };
    let head = Head {
        content: Said::Whole,
        representation: Representation::Response { stored, age },
        negotiated: encoding::Negotiated::default(),
        cache_status,
        further: cache_status::Further { ttl: None, origin_status: Some(stored.status) },
    };
    let mut fields = Vec::new();
    head.write_fields(&mut fields);
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut answer = Answer::new(status, content).with_lines(&fields);
    if matches!(passing.body, PassingBody::Coming(_)) {
        // How long it is shows as it comes, or is said by the origin itself.
        answer.headers.remove(hyper::header::CONTENT_LENGTH);
        if let Some(length) = passing.announced {
            answer = answer.with(HeaderName::from_static("content-length"), length.to_string());
        }
    }
    answer.cache_status = Some(cache_status);
    Some(answer)
}
