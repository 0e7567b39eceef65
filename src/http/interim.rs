//! Interim responses of an origin, as they are passed on (RFC 9110, 15.2).

use super::hop;
use crate::limits;
use hyper::header::{self, HeaderName};
use hyper::{HeaderMap, StatusCode};

/// Fields of messages with a body.
const FRAMING: [HeaderName; 3] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TRAILER];

/// The head of an interim response; `None` for those that are this server's own affair (100 is for whoever sends the
/// body, 101 for whoever has asked for it), and for what is too long.
pub fn head(status: StatusCode, fields: &HeaderMap) -> Option<Vec<u8>> {
    if !status.is_informational() || matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
        return None;
    }
    let mut fields = fields.clone();
    hop::strip(&mut fields);
    FRAMING.iter().for_each(|name| drop(fields.remove(name)));
    let mut head = format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("")).into_bytes();
    for (name, value) in &fields {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    (head.len() <= limits::INTERIM_BYTES).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn hints_are_passed_on_and_what_concerns_the_connection_is_not() {
        let mut fields = HeaderMap::new();
        for (name, value) in [("link", "</a.css>"), ("connection", "x-hop"), ("x-hop", "1"), ("content-length", "5")] {
            fields.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let head_of = |status: u16, fields: &HeaderMap| head(StatusCode::from_u16(status).unwrap(), fields);
        assert_eq!(head_of(103, &fields).unwrap(), b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
        assert_eq!(head_of(102, &HeaderMap::new()).unwrap(), b"HTTP/1.1 102 Processing\r\n\r\n");
        assert_eq!(head_of(199, &HeaderMap::new()).unwrap(), b"HTTP/1.1 199 \r\n\r\n");
        assert!([100, 101, 200].iter().all(|&status| head_of(status, &fields).is_none()));
        fields.insert("link", HeaderValue::try_from("x".repeat(limits::INTERIM_BYTES)).unwrap());
        assert!(head_of(103, &fields).is_none());
    }
}
