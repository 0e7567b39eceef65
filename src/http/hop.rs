//! Fields that concern one connection only (RFC 9110, 7.6.1), and the field that says through whom a message came.

use foldhash::fast::RandomState;
use hyper::HeaderMap;
use hyper::Version;
use hyper::header::{self, HeaderName, HeaderValue};
use std::hash::BuildHasher;
use std::sync::OnceLock;

/// How this server names itself in Via and CDN-Loop.
pub const PSEUDONYM: &str = "forebay";

/// This server's entry in CDN-Loop (RFC 8586). It tells this process from others of its kind: a cache in front of
/// caches is no loop.
pub fn instance() -> &'static str {
    static INSTANCE: OnceLock<String> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let number = RandomState::default().hash_one(std::process::id());
        format!("{PSEUDONYM}; instance={number:016x}")
    })
}

/// Whether a request with this CDN-Loop field came through this server before.
pub fn has_come_back(cdn_loop: &[u8]) -> bool {
    cdn_loop.split(|&byte| byte == b',').any(|entry| entry.trim_ascii() == instance().as_bytes())
}

/// Fields that are not passed on, named by a Connection field or not. `Trailer` is passed on with a request, as its
/// trailers are.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Fields without which a message is another one; a Connection field that names them is taken for an attack
/// (it would have a cache store what was not meant so).
const END_TO_END: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CACHE_CONTROL,
    header::VARY,
    header::AUTHORIZATION,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
];

/// Removes what concerns one connection only.
pub fn strip(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !END_TO_END.contains(name))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        fields.remove(name);
    }
}

/// Whether a field concerns one connection only, whatever Connection names.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// Makes the fields of an answer those of this server's: it is added to Via, and trailers are not passed on (RFC 9110,
/// 6.5.1).
pub fn pass_answer(fields: &mut HeaderMap, received: Version) {
    fields.remove(header::TRAILER);
    add_via(fields, received);
}

/// Adds this server to those that a message came through; `received` is the version that it was received in.
pub fn add_via(fields: &mut HeaderMap, received: Version) {
    let protocol = match received {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    };
    if let Ok(value) = HeaderValue::try_from(format!("{protocol} {PSEUDONYM}")) {
        fields.append(header::VIA, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
            })
            .collect()
    }

    #[test]
    fn what_concerns_one_connection_is_not_passed_on() {
        let mut message = fields(&[
            ("Connection", "close, X-One , ,\u{1f600}"),
            ("Connection", "x-two"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authorization", "Basic Zm9v"),
            ("Proxy-Authenticate", "Basic"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "websocket"),
            ("X-One", "1"),
            ("X-Two", "2"),
            ("X-Three", "3"),
            ("Trailer", "Digest"),
            ("Content-Length", "5"),
        ]);
        strip(&mut message);
        assert_eq!(message, fields(&[("X-Three", "3"), ("Trailer", "Digest"), ("Content-Length", "5")]));
        assert!(is_hop_by_hop(&header::UPGRADE) && !is_hop_by_hop(&header::TRAILER));
    }

    #[test]
    fn connection_takes_nothing_away_that_makes_a_message_another_one() {
        let mut message =
            fields(&[("Connection", "Cache-Control, Vary, Host"), ("Cache-Control", "private"), ("Vary", "A")]);
        strip(&mut message);
        assert_eq!(message, fields(&[("Cache-Control", "private"), ("Vary", "A")]));
    }

    #[test]
    fn via_is_added_after_those_that_were_before() {
        let mut message = fields(&[("Via", "1.0 fred")]);
        add_via(&mut message, Version::HTTP_11);
        add_via(&mut message, Version::HTTP_10);
        let all: Vec<_> = message.get_all("via").iter().collect();
        assert_eq!(all, ["1.0 fred", "1.1 forebay", "1.0 forebay"]);
    }
}
