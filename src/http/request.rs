//! Request heads, parsed (by httparse) just far enough to know which plane serves a request and what it asks for.

use super::conditional::Conditions;
use super::framing::{Framing, Unframed};
use super::host;
use hyper::HeaderMap;
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// The most header fields that any setting allows.
pub const HEADERS_MAX: usize = 128;

/// A request's head. Borrowed from the bytes received.
#[derive(Debug)]
pub struct Request<'a> {
    pub method: Method,
    /// As sent: path, query and all.
    pub target: &'a [u8],
    /// HTTP/1.1; else HTTP/1.0.
    pub is_11: bool,
    pub keep_alive: bool,
    /// What the data plane does not do: a body, an expectation, an upgrade.
    pub wants_control_plane: bool,
    /// An OPTIONS by which a browser asks whether a page of another origin may ask, and nothing else that the data
    /// plane does not do.
    pub is_preflight: bool,
    /// Where its body ends.
    pub framing: Framing,
    pub conditions: Conditions<'a>,
    pub authorization: Option<&'a [u8]>,
    pub host: Option<&'a [u8]>,
    pub origin: Option<&'a [u8]>,
    pub accept: Option<&'a [u8]>,
    pub accept_encoding: Option<&'a [u8]>,
    /// What the request says of caches on its way.
    pub cache_control: Option<&'a [u8]>,
    /// The same in HTTP/1.0's words.
    pub pragma: Option<&'a [u8]>,
    /// For the access log.
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    /// Bytes of the head, its blank line included.
    pub len: usize,
    /// The head itself.
    pub head: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    /// Anything else: the control plane's.
    Other,
}

/// The fields of a request, wherever they are kept.
#[derive(Debug, Clone, Copy)]
pub enum Fields<'a> {
    /// In its head, as received.
    Head(&'a [u8]),
    /// Taken apart.
    Map(&'a HeaderMap),
}

impl<'a> Fields<'a> {
    /// The value of a field, its lines joined by commas (RFC 9110, 5.3). The name is in lower case.
    pub fn get(self, name: &str) -> Option<Cow<'a, [u8]>> {
        let mut joined: Option<Cow<'a, [u8]>> = None;
        self.for_each(|field, value| {
            if !field.eq_ignore_ascii_case(name) {
                return;
            }
            match &mut joined {
                None => joined = Some(Cow::Borrowed(value)),
                Some(before) => {
                    let before = before.to_mut();
                    before.extend_from_slice(b", ");
                    before.extend_from_slice(value);
                }
            }
        });
        joined
    }

    /// Calls `each` for every line: its name, as written, and its value.
    pub fn for_each(self, mut each: impl FnMut(&str, &'a [u8])) {
        match self {
            Fields::Map(map) => map.iter().for_each(|(name, value)| each(name.as_str(), value.as_bytes())),
            Fields::Head(head) => {
                let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
                let mut request = httparse::Request::new(&mut []);
                if request.parse_with_uninit_headers(head, &mut fields).is_ok() {
                    request.headers.iter().for_each(|field| each(field.name, field.value));
                }
            }
        }
    }
}

/// What the bytes received so far are.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are whole requests, and none is kept")]
pub enum Parsed<'a> {
    /// Not yet a whole head.
    Partial,
    Whole(Request<'a>),
    /// No request that can be answered but by this refusal and a close.
    Bad(BadRequest),
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRequest {
    Syntax,
    Version,
    TooManyHeaders,
    LineTooLong,
    HeadTooLong,
    /// There is no Host field, or more than one, or it is malformed.
    Host,
    /// There is more than one Authorization field: which of them counts is not for a server to choose.
    Authorization,
    /// The target is neither a path nor an URL.
    Target,
    /// It cannot be told where the body ends.
    Framing,
    /// The body has a transfer coding that is not known here.
    Coding,
}

impl From<Unframed> for BadRequest {
    fn from(unframed: Unframed) -> BadRequest {
        match unframed {
            Unframed::Malformed => BadRequest::Framing,
            Unframed::Coding => BadRequest::Coding,
        }
    }
}

/// Limits on a head, from the options.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Bytes of a whole head.
    pub bytes: usize,
    /// Header fields, at most [`HEADERS_MAX`].
    pub fields: usize,
}

/// Parses the head at the start of `bytes`.
pub fn parse(bytes: &[u8], limits: HeadLimits) -> Parsed<'_> {
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut fields[..limits.fields.min(HEADERS_MAX)]);
    let len = match parsed {
        Ok(httparse::Status::Complete(len)) if len <= limits.bytes => len,
        Ok(httparse::Status::Partial) if bytes.len() < limits.bytes => return Parsed::Partial,
        Ok(_) => {
            let line_ends = bytes[..limits.bytes.min(bytes.len())].contains(&b'\n');
            return Parsed::Bad(if line_ends { BadRequest::HeadTooLong } else { BadRequest::LineTooLong });
        }
        Err(httparse::Error::Version) => return Parsed::Bad(BadRequest::Version),
        Err(httparse::Error::TooManyHeaders) => return Parsed::Bad(BadRequest::TooManyHeaders),
        Err(_) => return Parsed::Bad(BadRequest::Syntax),
    };
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => Method::Other,
    };
    let is_11 = request.version == Some(1);
    let mut head = Request {
        method,
        target: request.path.unwrap_or("").as_bytes(),
        is_11,
        keep_alive: is_11,
        wants_control_plane: false,
        is_preflight: false,
        framing: Framing::None,
        conditions: Conditions::default(),
        authorization: None,
        host: None,
        origin: None,
        accept: None,
        accept_encoding: None,
        cache_control: None,
        pragma: None,
        referer: None,
        user_agent: None,
        len,
        head: &bytes[..len],
    };
    for field in request.headers.iter() {
        if let Err(why) = head.note(field.name, field.value) {
            return Parsed::Bad(why);
        }
    }
    head.wants_control_plane |= !matches!(head.framing, Framing::None | Framing::Length(0));
    head.is_preflight &= request.method == Some("OPTIONS") && !head.wants_control_plane;
    head.wants_control_plane |= method == Method::Other;
    if method != Method::Get {
        // RFC 9110, 14.2: ranges are defined for GET only.
        head.conditions.range = None;
    }
    // RFC 9112, 3.2: exactly one Host field in HTTP/1.1, at most one in any version.
    if is_11 && head.host.is_none() {
        return Parsed::Bad(BadRequest::Host);
    }
    Parsed::Whole(head)
}

impl<'a> Request<'a> {
    /// Notes one header field.
    fn note(&mut self, name: &str, value: &'a [u8]) -> Result<(), BadRequest> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let conditions = &mut self.conditions;
        match name.len() {
            4 if is("host") && (!host::is_valid(value) || set(&mut self.host, value)) => return Err(BadRequest::Host),
            // Several ranges are put together there.
            6 if is("pragma") => self.pragma = Some(value),
            5 if is("range") => self.wants_control_plane |= set(&mut conditions.range, value) || value.contains(&b','),
            6 if is("accept") => self.wants_control_plane |= set(&mut self.accept, value),
            6 if is("origin") => self.wants_control_plane |= set(&mut self.origin, value),
            6 if is("expect") => self.wants_control_plane = true,
            7 if is("referer") => self.referer = Some(value),
            7 if is("upgrade") => self.wants_control_plane = true,
            8 if is("if-match") => self.wants_control_plane |= set(&mut conditions.if_match, value),
            8 if is("if-range") => self.wants_control_plane |= set(&mut conditions.if_range, value),
            10 if is("user-agent") => self.user_agent = Some(value),
            10 if is("connection") => {
                for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    if option.eq_ignore_ascii_case(b"close") {
                        self.keep_alive = false;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") && !self.is_11 {
                        self.keep_alive = true;
                    }
                }
            }
            13 if is("if-none-match") => self.wants_control_plane |= set(&mut conditions.if_none_match, value),
            13 if is("cache-control") => self.wants_control_plane |= set(&mut self.cache_control, value),
            13 if is("authorization") && set(&mut self.authorization, value) => return Err(BadRequest::Authorization),
            // Whether it may be one is the control plane's to say.
            14 if is("service-worker") => self.wants_control_plane = true,
            14 if is("content-length") => self.framing = self.framing.with_length(value)?,
            15 if is("accept-encoding") => self.wants_control_plane |= set(&mut self.accept_encoding, value),
            17 if is("transfer-encoding") => self.framing = self.framing.with_coding(value, self.is_11)?,
            17 if is("if-modified-since") => self.wants_control_plane |= set(&mut conditions.if_modified_since, value),
            19 if is("if-unmodified-since") => {
                self.wants_control_plane |= set(&mut conditions.if_unmodified_since, value)
            }
            29 if is("access-control-request-method") => self.is_preflight = true,
            _ => {}
        }
        Ok(())
    }
}

/// Notes a value; says whether there was one before. What stands on several lines is joined on the control plane.
fn set<'a>(field: &mut Option<&'a [u8]>, value: &'a [u8]) -> bool {
    field.replace(value).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, fields: 8 };

    fn whole(text: &str) -> Request<'_> {
        match parse(text.as_bytes(), LIMITS) {
            Parsed::Whole(request) => request,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn bad(text: &str) -> BadRequest {
        match parse(text.as_bytes(), LIMITS) {
            Parsed::Bad(why) => why,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn keep_alive_follows_version_and_connection() {
        assert!(whole("GET / HTTP/1.1\r\nHost: a\r\n\r\n").keep_alive);
        assert!(!whole("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n").keep_alive);
        assert!(!whole("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(whole("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").keep_alive);
        assert!(!whole("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, keep-alive\r\n\r\n").keep_alive);
    }

    #[test]
    fn what_has_a_body_or_another_method_takes_the_full_lane() {
        assert!(!whole("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").wants_control_plane);
        let others =
            ["Content-Length: 1", "Transfer-Encoding: chunked", "Expect: 100-continue", "Service-Worker: script"];
        for fields in others {
            assert!(whole(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).wants_control_plane, "{fields}");
        }
        assert!(whole("PUT /x HTTP/1.1\r\nHost: a\r\n\r\n").wants_control_plane);
    }

    #[test]
    fn bad_heads_are_told_apart() {
        assert_eq!(bad("GET / HTTP/1.1\r\n\r\n"), BadRequest::Host);
        assert_eq!(bad("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), BadRequest::Host);
        for host in ["a/b", "abc\\foo", "localhost:80 x", "a:b", "u@a", "[::1"] {
            assert_eq!(bad(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), BadRequest::Host, "{host}");
            assert_eq!(bad(&format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n")), BadRequest::Host, "{host}");
        }
        for host in ["", "a", "a.example:80", "[::1]:80", "127.0.0.1", "a:"] {
            assert!(whole(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).keep_alive, "{host}");
        }
        for (fields, why) in [
            ("Host: a/b", BadRequest::Host),
            ("Host: abc\\foo", BadRequest::Host),
            ("Host: localhost:80 x", BadRequest::Host),
            ("Host: a\r\nAuthorization: Bearer x\r\nAuthorization: Bearer x", BadRequest::Authorization),
            ("Host: a\r\nContent-Length: x", BadRequest::Framing),
            ("Host: a\r\nContent-Length: 0, 1", BadRequest::Framing),
            ("Host: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked", BadRequest::Framing),
            ("Host: a\r\nTransfer-Encoding: gzip, chunked", BadRequest::Coding),
        ] {
            assert_eq!(bad(&format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n")), why, "{fields}");
        }
        assert_eq!(bad("GET / HTTP/2.0\r\n\r\n"), BadRequest::Version);
        assert_eq!(bad("GET\r\n\r\n"), BadRequest::Syntax);
        assert_eq!(bad("\x16\x03\x01\x02\r\n"), BadRequest::Syntax);
        assert_eq!(bad(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(9))), BadRequest::TooManyHeaders);
        assert_eq!(bad(&format!("GET /{}", "a".repeat(1100))), BadRequest::LineTooLong);
        assert_eq!(bad(&format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(1100))), BadRequest::HeadTooLong);
    }

    #[test]
    fn heads_that_are_not_whole_wait() {
        let text = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
        for len in 0..text.len() {
            assert!(matches!(parse(&text.as_bytes()[..len], LIMITS), Parsed::Partial), "{len}");
        }
        assert_eq!(whole(text).len, text.len());
    }
}
