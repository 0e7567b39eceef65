//! Whom a request is meant for: the Host field, or the authority of an absolute target (RFC 9112, 3.2).

use std::net::{Ipv4Addr, Ipv6Addr};

/// A host, and a port if one is named (RFC 3986, 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// As sent; an IPv6 address without its brackets.
    pub host: &'a str,
    pub port: Option<u16>,
    /// Of which kind the host is.
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Address,
    Name,
}

impl<'a> Authority<'a> {
    /// Parses `host[:port]`. `None` if it is none: user information and anything that no name or address may hold
    /// included.
    pub fn parse(text: &'a [u8]) -> Option<Authority<'a>> {
        let text = std::str::from_utf8(text).ok()?;
        if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            return Some(Authority { host, port: port(rest)?, kind: Kind::Address });
        }
        let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
        // What a registered name may hold (3.2.2); percent-encoding included, as nobody decodes it here.
        let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
        if host.is_empty() || !host.bytes().all(may_be) {
            return None;
        }
        let kind = if host.parse::<Ipv4Addr>().is_ok() { Kind::Address } else { Kind::Name };
        Some(Authority { host, port: port(rest)?, kind })
    }

    /// Whether this is the host `name`, written in lower case.
    pub fn is_name(&self, name: &str) -> bool {
        self.kind == Kind::Name && self.host.strip_suffix('.').unwrap_or(self.host).eq_ignore_ascii_case(name)
    }

    /// Whether both name the same host and port, where no port means the default one.
    pub fn is_same(&self, other: &Authority<'_>, default: Option<u16>) -> bool {
        let port = |authority: &Authority<'_>| authority.port.or(default);
        self.host.eq_ignore_ascii_case(other.host) && port(self) == port(other)
    }
}

/// What follows the host: nothing, or a colon and a port, which may be empty.
fn port(text: &str) -> Option<Option<u16>> {
    match text.strip_prefix(':') {
        None => text.is_empty().then_some(None),
        Some("") => Some(None),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok().map(Some),
        Some(_) => None,
    }
}

/// Whether a Host field has a value that it may have: a host, with a port or without, or nothing (RFC 9110, 7.2).
pub fn is_valid(field: &[u8]) -> bool {
    field.is_empty() || Authority::parse(field).is_some()
}

/// The authority of a request: that of an absolute target, which overrides the field.
pub fn effective<'a>(target: &'a [u8], field: Option<&'a [u8]>) -> Option<&'a [u8]> {
    if target.first() == Some(&b'/') {
        return field;
    }
    let colon = target.windows(3).position(|three| three == b"://");
    let Some(colon) = colon else { return field };
    let rest = &target[colon + 3..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (text, host, port, kind) in [
            ("example.org", "example.org", None, Kind::Name),
            ("Example.ORG.:80", "Example.ORG.", Some(80), Kind::Name),
            ("localhost:", "localhost", None, Kind::Name),
            ("127.0.0.1:8064", "127.0.0.1", Some(8064), Kind::Address),
            ("[::1]:8064", "::1", Some(8064), Kind::Address),
            ("[::1]", "::1", None, Kind::Address),
            // What a browser may make of it is no address to anybody here.
            ("127.1", "127.1", None, Kind::Name),
            ("127.0.0.1.evil.example", "127.0.0.1.evil.example", None, Kind::Name),
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), Some(Authority { host, port, kind }), "{text}");
        }
        for text in [
            "",
            ":80",
            "a/b",
            "abc\\foo",
            "localhost:80 x",
            "a b",
            "u@h",
            "a:b",
            "a:99999",
            "[::1",
            "[::1]x",
            "[x]",
            "a:1:2",
            "\u{e9}",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_absolute_target_overrides_the_field() {
        for (target, expected) in [
            ("/a", Some("field")),
            ("/http://x/", Some("field")),
            ("http://other:1/a", Some("other:1")),
            ("HTTP://other?q", Some("other")),
            ("*", Some("field")),
        ] {
            let found = effective(target.as_bytes(), Some(b"field"));
            assert_eq!(found, expected.map(str::as_bytes), "{target}");
        }
        assert_eq!(effective(b"/a", None), None);
    }
}
