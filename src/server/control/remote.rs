//! GET and HEAD of what stands on another machine.

use std::rc::Rc;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;

use super::answer::{Answer, Content};
use super::parts::field;
use super::plane::ControlPlane;
use crate::exchange::{Role, route};
use crate::http::accept::Accept;
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
        let answer = match passing.and_then(|passing| pass_on(&passing)) {
            Some(answer) => answer,
            None => {
                let none = || Answer::problem(StatusCode::BAD_GATEWAY, "the origin has given no answer");
                self.read(key, Role::Itself, parts).await?.ok_or_else(none)?
            }
        };
        let is_store = self.shared.origin.remote().is_some_and(|remote| remote.is_store());
        Ok(if is_store { with_query(answer, parts.uri.query()) } else { answer })
    }

    /// The object that stands for the directory `name` of a store, if there is one and it is wanted.
    pub async fn index_object(
        self: &Rc<Self>,
        name: &[u8],
        parts: &Parts,
        passing: Option<Arc<Passing>>,
    ) -> Result<Option<Answer>, Answer> {
        if let Some(answer) = passing.and_then(|passing| pass_on(&passing)) {
            return Ok(Some(answer));
        }
        let accept = field(&parts.headers, header::ACCEPT);
        match self.shared.indexes().of(name, Accept(accept.as_deref())) {
            Some((index, role)) => self.read(&route::object(index.bytes()), role, parts).await,
            None => Ok(None),
        }
    }
}

/// The redirect from a directory's name to that with a slash keeps the query, which a store is not told.
fn with_query(mut answer: Answer, query: Option<&str>) -> Answer {
    if answer.status == StatusCode::PERMANENT_REDIRECT
        && let (Some(query), Some(location)) = (query, answer.headers.get_mut(header::LOCATION))
        && let Ok(with_query) = HeaderValue::try_from([location.as_bytes(), b"?", query.as_bytes()].concat())
    {
        *location = with_query;
    }
    answer
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
