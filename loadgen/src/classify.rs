//! How hits are told from misses: by what a response says of itself.
//!
//! The standard field is `Cache-Status` (RFC 9211): a list with one member per cache, the one nearest to the origin
//! first. The last member speaks for the server this client is connected to, so it decides. Other caches say it in
//! fields of their own.

use crate::stats::Class;
use std::{fmt, str::FromStr};

/// What tells hits from misses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Rule {
    /// `Cache-Status`.
    #[default]
    Standard,
    /// `X-Varnish`, whose value names the request and, of a hit, the one that stored the object.
    Varnish,
    /// A field whose last list member begins with one of these words if it is a hit, whatever the letters' case.
    Field { name: String, hits: Vec<String> },
}

/// Caches by name, and how each tells.
const PRESETS: [(&str, &str); 7] = [
    ("nginx", "X-Cache-Status: HIT|STALE|UPDATING|REVALIDATED"),
    ("cloudflare", "CF-Cache-Status: HIT|STALE|UPDATING|REVALIDATED"),
    ("cloudfront", "X-Cache: Hit|RefreshHit"),
    ("fastly", "X-Cache: HIT"),
    ("akamai", "X-Cache: TCP_HIT|TCP_MEM_HIT|TCP_IMS_HIT|TCP_REFRESH_HIT"),
    ("squid", "X-Cache: HIT"),
    ("apache", "X-Cache: HIT|REVALIDATE"),
];

impl Rule {
    /// Takes a field of a response into account.
    #[inline]
    pub fn note(&self, name: &str, value: &[u8], class: &mut Class) {
        match self {
            Rule::Standard if name.len() == 12 && name.eq_ignore_ascii_case("cache-status") => {
                *class = cache_status(value);
            }
            Rule::Varnish if name.len() == 9 && name.eq_ignore_ascii_case("x-varnish") => {
                let ids = value.split(u8::is_ascii_whitespace).filter(|id| !id.is_empty()).count();
                *class = if ids > 1 { Class::Hit } else { Class::Miss };
            }
            Rule::Field { name: wanted, hits } if name.eq_ignore_ascii_case(wanted) => {
                let member = value.rsplit(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
                let begins = |word: &String| {
                    let start = member.get(..word.len());
                    start.is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
                };
                *class = if hits.iter().any(begins) { Class::Hit } else { Class::Miss };
            }
            _ => {}
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    /// Reads `X-Cache: HIT`, `X-Cache: HIT|STALE`, or a preset's name.
    fn from_str(text: &str) -> Result<Rule, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "forebay" | "cache-status" => return Ok(Rule::Standard),
            "varnish" => return Ok(Rule::Varnish),
            _ => {}
        }
        let preset = PRESETS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
        let (name, hits) = preset
            .map_or(text, |(_, rule)| rule)
            .split_once(':')
            .map(|(name, hits)| (name.trim(), hits.split('|').map(|word| word.trim().to_owned()).collect::<Vec<_>>()))
            .filter(|(name, hits)| !name.is_empty() && hits.iter().all(|word| !word.is_empty()))
            .ok_or_else(|| {
                let names = PRESETS.map(|(name, _)| name).join(", ");
                format!(
                    "`{text}` tells no hits: write `X-Cache: HIT`, `X-Cache: HIT|STALE`, or one of forebay, \
                varnish, {names}"
                )
            })?;
        Ok(Rule::Field { name: name.to_owned(), hits })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Standard => f.write_str("Cache-Status"),
            Rule::Varnish => f.write_str("varnish"),
            Rule::Field { name, hits } => write!(f, "{name}: {}", hits.join("|")),
        }
    }
}

/// What one value of `Cache-Status` (RFC 9211) says. A value without `hit` or `fwd` in its last member says nothing.
fn cache_status(value: &[u8]) -> Class {
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
            assert_eq!(cache_status(value.as_bytes()), class, "{value}");
        }
    }

    #[test]
    fn other_caches_say_it_in_fields_of_their_own() {
        for (rule, field, value, class) in [
            ("X-Cache: HIT", "x-cache", "HIT", Class::Hit),
            ("X-Cache: HIT", "X-Cache", "hit from edge7", Class::Hit),
            ("X-Cache: HIT", "X-Cache", "MISS", Class::Miss),
            ("X-Cache: HIT", "X-Cache", "MISS, HIT", Class::Hit),
            ("X-Cache: HIT", "X-Cache", "HIT, MISS", Class::Miss),
            ("X-Cache: HIT", "X-Cache", "", Class::Miss),
            ("X-Cache: HIT", "X-Other", "HIT", Class::Unclassified),
            ("X-Cache: HIT", "Cache-Status", "x; hit", Class::Unclassified),
            ("nginx", "X-Cache-Status", "REVALIDATED", Class::Hit),
            ("nginx", "X-Cache-Status", "EXPIRED", Class::Miss),
            ("CloudFront", "X-Cache", "RefreshHit from cloudfront", Class::Hit),
            ("cloudfront", "X-Cache", "Miss from cloudfront", Class::Miss),
            ("akamai", "X-Cache", "TCP_MEM_HIT from a1-2-3-4", Class::Hit),
            ("cloudflare", "cf-cache-status", "DYNAMIC", Class::Miss),
            ("varnish", "X-Varnish", "32770 3", Class::Hit),
            ("varnish", "X-Varnish", "32770", Class::Miss),
            ("forebay", "Cache-Status", "forebay; hit", Class::Hit),
        ] {
            let rule: Rule = rule.parse().unwrap();
            let mut seen = Class::Unclassified;
            rule.note(field, value.as_bytes(), &mut seen);
            assert_eq!(seen, class, "{rule}: {field}: {value}");
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
        for text in ["", "HIT", ": HIT", "X-Cache:", "X-Cache: HIT||x"] {
            assert!(text.parse::<Rule>().unwrap_err().contains("cloudfront"), "{text}");
        }
    }
}
