//! What the control plane reads of a request's head.

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};

use crate::http::conditional::Conditions;
use crate::server::site::Circumstances;
use crate::version::Version;

/// Whom the request is meant for: the authority of its target, or else its Host field.
pub(super) fn host_of(parts: &Parts) -> Option<&[u8]> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    authority.or_else(|| parts.headers.get(header::HOST).map(HeaderValue::as_bytes))
}

/// What the refusal of a request depends on beside its name.
pub(super) fn circumstances(parts: &Parts) -> Circumstances<'_> {
    let origin = parts.headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    Circumstances { query: parts.uri.query().map(str::as_bytes), origin }
}

/// A header field as one value, its lines joined (RFC 9110, 5.3).
pub(super) fn field(headers: &HeaderMap, name: HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}

/// The condition fields of a request, owned.
#[derive(Debug, Default)]
pub(super) struct OwnedConditions {
    if_match: Option<Vec<u8>>,
    if_none_match: Option<Vec<u8>>,
    if_modified_since: Option<Vec<u8>>,
    if_unmodified_since: Option<Vec<u8>>,
    if_range: Option<Vec<u8>>,
    range: Option<Vec<u8>>,
}

impl OwnedConditions {
    /// Those of one request. Ranges are defined for GET only (RFC 9110, 14.2).
    pub fn of(parts: &Parts) -> OwnedConditions {
        let headers = &parts.headers;
        OwnedConditions {
            if_match: field(headers, header::IF_MATCH),
            if_none_match: field(headers, header::IF_NONE_MATCH),
            if_modified_since: field(headers, header::IF_MODIFIED_SINCE),
            if_unmodified_since: field(headers, header::IF_UNMODIFIED_SINCE),
            if_range: field(headers, header::IF_RANGE),
            range: field(headers, header::RANGE).filter(|_| parts.method == Method::GET),
        }
    }

    pub fn as_ref(&self) -> Conditions<'_> {
        Conditions {
            if_match: self.if_match.as_deref(),
            if_none_match: self.if_none_match.as_deref(),
            if_modified_since: self.if_modified_since.as_deref(),
            if_unmodified_since: self.if_unmodified_since.as_deref(),
            if_range: self.if_range.as_deref(),
            range: self.range.as_deref(),
        }
    }

    /// Whether a write may go ahead where `present` is the file as it is now.
    pub fn permits_write(&self, present: Option<&Version>) -> bool {
        self.as_ref().permits_write(present)
    }
}
