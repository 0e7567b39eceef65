//! `Cache-Status` (RFC 9211): what a response says of its way.
//!
//! The field is a list with one member per cache, the one nearest to the origin first. The last member speaks for the
//! server this client is connected to, so it decides.

use crate::stats::Class;

/// What one field value says. A value without `hit` or `fwd` in its last member says nothing.
pub fn classify(value: &[u8]) -> Class {
    // What Forebay itself says of a hit, before taking the general way.
    if value == b"forebay; hit" {
        return Class::Hit;
    }
    let member = split(value, b',').last().unwrap_or_default();
    let mut class = Class::Unclassified;
    for parameter in split(member, b';').skip(1) {
        let parameter = parameter.trim_ascii();
        let (name, value) = match parameter.iter().position(|&byte| byte == b'=') {
            Some(at) => (&parameter[..at], &parameter[at + 1..]),
            None => (parameter, &b"?1"[..]),
        };
        match name {
            b"hit" if value != b"?0" => return Class::Hit,
            b"fwd" => class = Class::Miss,
            _ => {}
        }
    }
    class
}

/// Splits at a separator, except inside quoted strings.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |&byte| {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
            return false;
        }
        quoted = byte == b'"';
        byte == separator
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_member_decides() {
        for (value, class) in [
            ("forebay; hit", Class::Hit),
            ("forebay;hit", Class::Hit),
            ("forebay; fwd=uri-miss; stored", Class::Miss),
            ("forebay; fwd=uri-miss; collapsed", Class::Miss),
            ("forebay; fwd=uri-miss; detail=too-large", Class::Miss),
            ("ExampleCache; hit; ttl=376", Class::Hit),
            ("\"a, b; fwd=x\"; hit", Class::Hit),
            ("\"quote \\\" ; hit\"; fwd=miss", Class::Miss),
            ("OriginCache; hit; ttl=1100, \"CDN Company Here\"; fwd=uri-miss", Class::Miss),
            ("OriginCache; fwd=stale, edge; hit=?1", Class::Hit),
            ("edge; hit=?0; fwd=bypass", Class::Miss),
            ("edge; key=hit", Class::Unclassified),
            ("edge; detail=\"; hit\"", Class::Unclassified),
            ("hit", Class::Unclassified),
            ("", Class::Unclassified),
            (",;=\"", Class::Unclassified),
        ] {
            assert_eq!(classify(value.as_bytes()), class, "{value}");
        }
    }
}
