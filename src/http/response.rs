//! Response heads, appended to a buffer that may already hold others.

use super::cache_status::{CacheStatus, Further};
use super::date::Date;
use super::encoding::Negotiated;
use super::representation::Representation;
use super::request::BadRequest;
use super::target;
use crate::text::write_number;
use std::sync::Arc;
use std::time::Duration;

/// What ends a connection's use after a response, and how that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1: the connection stays, which goes without saying.
    KeepAlive,
    /// HTTP/1.0 with keep-alive: it stays, which must be said.
    KeepAliveSaid,
    Close,
}

impl Persistence {
    fn field(self) -> &'static [u8] {
        match self {
            Persistence::KeepAlive => b"",
            Persistence::KeepAliveSaid => b"Connection: keep-alive\r\n",
            Persistence::Close => b"Connection: close\r\n",
        }
    }
}

/// The parts of a response about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// 200 with all of it.
    Whole,
    /// 206 with bytes `from..to`.
    Part { from: u64, to: u64 },
    /// 206 with several parts, which are so many bytes together. The media type is the body's, and not said here.
    Parts { length: u64 },
    /// 304
    NotModified,
    /// 416
    Unsatisfiable,
    /// 412
    Failed,
}

impl Content {
    pub fn status(self) -> u16 {
        match self {
            Content::Whole => 200,
            Content::Part { .. } | Content::Parts { .. } => 206,
            Content::NotModified => 304,
            Content::Unsatisfiable => 416,
            Content::Failed => 412,
        }
    }
}

/// The head of a response about a file, or one that a remote origin gave.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub content: Content,
    pub representation: Representation<'a>,
    pub negotiated: Negotiated,
    pub cache_status: CacheStatus,
    pub further: Further,
}

impl Head<'_> {
    /// The response's status.
    pub fn status(&self) -> u16 {
        match self.content {
            Content::Whole => self.representation.status(),
            content => content.status(),
        }
    }

    /// Appends all of it. A response that does not say itself when it was made gets `date`.
    pub fn write(&self, out: &mut Vec<u8>, date: &Date, persistence: Persistence) {
        match self.status() {
            200 => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
            206 => out.extend_from_slice(b"HTTP/1.1 206 Partial Content\r\n"),
            304 => out.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n"),
            status => {
                out.extend_from_slice(b"HTTP/1.1 ");
                write_number(out, u64::from(status));
                out.push(b' ');
                out.extend_from_slice(reason_phrase(status).as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
        self.write_fields(out);
        if !self.representation.has_date() {
            out.extend_from_slice(b"Date: ");
            out.extend_from_slice(date.text());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(persistence.field());
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the fields that say what the response is, each line with its CRLF.
    pub fn write_fields(&self, out: &mut Vec<u8>) {
        let length = |out: &mut Vec<u8>, bytes: u64| {
            out.extend_from_slice(b"Content-Length: ");
            write_number(out, bytes);
            out.extend_from_slice(b"\r\n");
        };
        let size = self.representation.size();
        match self.content {
            Content::Whole if has_no_body(self.status()) => {}
            Content::Whole => length(out, size),
            Content::Part { from, to } => {
                out.extend_from_slice(b"Content-Range: bytes ");
                write_number(out, from);
                out.push(b'-');
                write_number(out, to - 1);
                out.push(b'/');
                write_number(out, size);
                out.extend_from_slice(b"\r\n");
                length(out, to - from);
            }
            Content::Parts { length: bytes } => length(out, bytes),
            Content::NotModified => {}
            Content::Unsatisfiable => {
                out.extend_from_slice(b"Content-Range: bytes */");
                write_number(out, size);
                out.extend_from_slice(b"\r\nContent-Length: 0\r\n");
            }
            Content::Failed => out.extend_from_slice(b"Content-Length: 0\r\n"),
        }
        self.representation.write_fields(out);
        if let (Some(origin), Representation::File(described)) = (self.negotiated.origin, self.representation) {
            described.write_origin(out, origin);
        }
        if matches!(self.content, Content::Whole | Content::Part { .. }) {
            self.representation.write_content_fields(out);
        }
        self.negotiated.write_fields(out);
        out.extend_from_slice(b"Cache-Status: ");
        self.cache_status.write(self.further, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether responses with this status never have a body, nor say how long it would be.
pub fn has_no_body(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// An answer that is not about a file's content: a status, and one line of text that says what was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub status: u16,
    pub text: String,
    /// Further fields (Allow, Location, Retry-After …), each with its CRLF.
    pub field: Option<String>,
    pub cache_status: Option<CacheStatus>,
    /// What is sent instead of the text.
    pub page: Option<Page>,
}

/// A page that stands for an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub content_type: String,
    pub body: Arc<[u8]>,
}

impl Problem {
    pub fn new(status: u16, text: impl Into<String>) -> Problem {
        Problem { status, text: text.into(), field: None, cache_status: None, page: None }
    }

    /// With a further field: its name and value, without the CRLF.
    pub fn with_field(self, field: &str) -> Problem {
        let fields = self.field.unwrap_or_default() + field + "\r\n";
        Problem { field: Some(fields), ..self }
    }

    /// The refusal of a head that was not whole after `time`.
    pub fn of_late_head(time: Duration) -> Problem {
        Problem::new(408, format!("the request head was not whole after {time:?}"))
    }

    /// The refusal of a head.
    pub fn of_bad_request(why: BadRequest, head_bytes: usize, fields: usize) -> Problem {
        match why {
            BadRequest::Syntax => Problem::new(400, "the request is not well-formed HTTP/1.1"),
            BadRequest::Host => {
                Problem::new(400, "the request must have exactly one Host field: a host, with a port or without")
            }
            BadRequest::Authorization => Problem::new(400, "the request has more than one Authorization field"),
            BadRequest::Target => Problem::new(400, target::Malformed::Form.to_string()),
            BadRequest::Framing => {
                let text = "the end of the body cannot be told: a request has one Content-Length, or one \
                            Transfer-Encoding: chunked, or neither";
                Problem::new(400, text)
            }
            BadRequest::Coding => Problem::new(501, "of the transfer codings only chunked is known here"),
            BadRequest::Version => Problem::new(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
            BadRequest::LineTooLong => {
                Problem::new(414, format!("the request target is too long: a whole head may have {head_bytes} bytes"))
            }
            BadRequest::HeadTooLong => {
                Problem::new(431, format!("the request head is too long: it may have {head_bytes} bytes"))
            }
            BadRequest::TooManyHeaders => {
                Problem::new(431, format!("the request has too many header fields: it may have {fields}"))
            }
        }
    }

    /// Bytes of the body.
    pub fn body_bytes(&self) -> usize {
        if has_no_body(self.status) {
            return 0;
        }
        self.page.as_ref().map_or(self.text.len() + 1, |page| page.body.len())
    }

    /// Appends head and (unless the request was HEAD) body.
    pub fn write(&self, out: &mut Vec<u8>, with_body: bool, date: &Date, persistence: Persistence) {
        let reason = reason_phrase(self.status);
        out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", self.status).as_bytes());
        if !has_no_body(self.status) {
            let length = self.body_bytes();
            let content_type = self.page.as_ref().map_or("text/plain; charset=utf-8", |page| &page.content_type);
            out.extend_from_slice(format!("Content-Type: {content_type}\r\nContent-Length: {length}\r\n").as_bytes());
        }
        if let Some(field) = &self.field {
            out.extend_from_slice(field.as_bytes());
        }
        if let Some(status) = self.cache_status {
            out.extend_from_slice(format!("Cache-Status: {}\r\n", status.text()).as_bytes());
        }
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(date.text());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(persistence.field());
        out.extend_from_slice(b"\r\n");
        match &self.page {
            _ if !with_body || has_no_body(self.status) => {}
            Some(page) => out.extend_from_slice(&page.body),
            None => {
                out.extend_from_slice(self.text.as_bytes());
                out.push(b'\n');
            }
        }
    }
}

/// The reason phrases of the statuses that are sent (RFC 9110, 15).
fn reason_phrase(status: u16) -> &'static str {
    let known = hyper::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    known.unwrap_or("Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::cache_status::{Forward, Reason};
    use crate::http::representation::tests::sample;

    fn text(content: Content) -> String {
        let mut out = Vec::new();
        let described = sample(12345, 784_111_777);
        let head = Head {
            content,
            representation: Representation::File(&described),
            negotiated: Negotiated::default(),
            cache_status: CacheStatus::Hit,
            further: Further::default(),
        };
        head.write(&mut out, &Date::now(), Persistence::KeepAlive);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn file_heads() {
        let whole = text(Content::Whole);
        assert!(whole.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nETag: \""), "{whole}");
        assert!(
            whole.contains("\r\nCache-Status: forebay; hit\r\nDate: ") && whole.ends_with(" GMT\r\n\r\n"),
            "{whole}"
        );
        let part = text(Content::Part { from: 10, to: 20 });
        assert!(
            part.contains("206 ") && part.contains("\r\nContent-Range: bytes 10-19/12345\r\nContent-Length: 10\r\n")
        );
        let none = text(Content::Unsatisfiable);
        assert!(none.contains("416 ") && none.contains("Content-Range: bytes */12345\r\nContent-Length: 0\r\n"));
        assert!(!text(Content::NotModified).contains("Content-Length"));
    }

    #[test]
    fn problems_say_what_was_wrong() {
        let mut problem = Problem::new(404, "no such file: x");
        problem.cache_status = Some(CacheStatus::Uncached { forward: Forward::UriMiss, reason: Reason::NotFound });
        let (mut with, mut without) = (Vec::new(), Vec::new());
        problem.write(&mut with, true, &Date::now(), Persistence::Close);
        problem.write(&mut without, false, &Date::now(), Persistence::Close);
        let text = String::from_utf8(with.clone()).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 404 Not Found\r\n") && text.ends_with("\r\n\r\nno such file: x\n"),
            "{text}"
        );
        assert!(text.contains("Content-Length: 16\r\n") && text.contains("Connection: close\r\n"), "{text}");
        assert_eq!(with.len(), without.len() + 16);
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 4096, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
