//! A response of a remote origin as it is kept: everything but its body.

use super::freshness::Freshness;
use super::weights::{self, Order};
use std::borrow::Cow;

/// What is kept of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub status: u16,
    /// Bytes of the body.
    pub size: u64,
    /// The body is cached in slices of so many bytes, each by itself; `None`: as a whole.
    pub slice: Option<u64>,
    /// The entity tag as the origin has it: quoted, and marked if it is weak.
    pub etag: Option<Box<[u8]>>,
    /// Last-Modified, in seconds since 1970.
    pub modified: Option<i64>,
    /// When the origin sent what is stored: `Date`, or when it was received, in seconds since 1970.
    pub sent: Option<i64>,
    /// Fields of every response, each a line with its CRLF, as the origin sent them.
    pub fields: Box<[u8]>,
    /// Fields that only go with a body, likewise, but for Content-Type.
    pub content_fields: Box<[u8]>,
    /// The media type, if it is known.
    pub content_type: Option<Box<str>>,
    pub freshness: Freshness,
    /// Which requests it answers.
    pub vary: Option<Vary>,
}

impl Stored {
    /// A response of which nothing else is known.
    pub fn bare(status: u16, size: u64, freshness: Freshness) -> Stored {
        Stored {
            status,
            size,
            slice: None,
            etag: None,
            modified: None,
            sent: None,
            fields: Box::default(),
            content_fields: Box::default(),
            content_type: None,
            freshness,
            vary: None,
        }
    }
}

/// The fields of a request that chose a response among several (RFC 9111, 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vary {
    /// The names, in lower case.
    pub names: Box<[Box<str>]>,
    /// What the request had of each, normalised.
    pub values: Box<[Option<Box<[u8]>>]>,
    /// Tells the responses that were stored beside this one from those beside an earlier one.
    pub family: u64,
}

impl Vary {
    /// The values that a request has for these names. `field` says what it has of one, its lines joined by commas.
    pub fn select<'a>(names: &[Box<str>], field: impl Fn(&str) -> Option<Cow<'a, [u8]>>) -> Box<[Option<Box<[u8]>>]> {
        names.iter().map(|name| field(name).map(|value| normalise(name, &value))).collect()
    }

    /// Whether a request with these fields would have been answered with the same response.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<Cow<'a, [u8]>>) -> bool {
        self.names.iter().zip(&self.values).all(|(name, own)| match (field(name), own) {
            // Most are written as they were by whoever had it stored.
            (Some(value), Some(own)) => *value == **own || normalise(name, &value) == *own,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        })
    }

    /// The name under which the response to a request with these fields is stored beside the one called `primary`.
    pub fn key<'a>(&self, primary: &[u8], field: impl Fn(&str) -> Option<Cow<'a, [u8]>>) -> Vec<u8> {
        let mut key = primary.to_vec();
        key.push(0);
        key.extend_from_slice(&self.family.to_le_bytes());
        for value in Vary::select(&self.names, field) {
            // Its length first, so that no two lists of values look alike.
            let length = value.as_ref().map_or(0, |value| value.len() as u32 + 1);
            key.extend_from_slice(&length.to_le_bytes());
            key.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        key
    }
}

/// A value as all values are written that say the same. White space around the members of a list says nothing; in
/// fields whose members have weights, neither do the case of letters and the order that the weights decide.
fn normalise(name: &str, value: &[u8]) -> Box<[u8]> {
    let order = match name {
        "accept-language" => Some(Order::Counts),
        "accept-encoding" | "accept-charset" => Some(Order::IsNothing),
        _ => None,
    };
    if let Some(said) = order.and_then(|order| weights::normalise(value, order)) {
        return said.into();
    }
    let members: Vec<&[u8]> = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).collect();
    members.join(&b","[..]).into()
}

impl Stored {
    /// Bytes of memory that it takes beside the body.
    pub fn heap_bytes(&self) -> usize {
        let vary = self.vary.as_ref().map_or(0, |vary| {
            let values: usize = vary.values.iter().map(|value| value.as_ref().map_or(0, |value| value.len())).sum();
            vary.names.iter().map(|name| name.len() + 32).sum::<usize>() + values
        });
        let etag = self.etag.as_ref().map_or(0, |etag| etag.len());
        let media = self.content_type.as_ref().map_or(0, |media| media.len());
        size_of::<Stored>() + self.fields.len() + self.content_fields.len() + etag + media + vary
    }

    /// Whether the origin can be asked whether it still is the current one.
    pub fn has_validator(&self) -> bool {
        self.etag.is_some() || self.modified.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_chooses_by_what_it_says_not_by_how_it_writes_it() {
        let names: Box<[Box<str>]> = ["accept-encoding".into(), "x".into()].into();
        let request = |value: &'static str| {
            move |name: &str| (name == "accept-encoding").then_some(Cow::Borrowed(value.as_bytes()))
        };
        let values = Vary::select(&names, request("gzip, br"));
        let vary = Vary { names, values, family: 7 };
        assert!(vary.matches(request("gzip,br")) && vary.matches(request(" gzip ,  br ")));
        assert!(!vary.matches(request("br")) && !vary.matches(|_| None));
        assert_eq!(vary.key(b"/a", request("gzip,br")), vary.key(b"/a", request("gzip, br")));
        assert_ne!(vary.key(b"/a", request("br")), vary.key(b"/a", request("gzip")));
        assert_ne!(vary.key(b"/a", request("")), vary.key(b"/a", |_| None), "an empty field is not a missing one");
        let other = Vary { family: 8, ..vary.clone() };
        assert_ne!(vary.key(b"/a", request("br")), other.key(b"/a", request("br")));
    }

    /// What a value that cannot be read says is not guessed; and equal wishes are not taken for different ones.
    #[test]
    fn weighted_fields_are_compared_by_what_they_say() {
        let normal = |name: &str, value: &str| String::from_utf8(normalise(name, value.as_bytes()).into()).unwrap();
        assert_eq!(normal("accept-language", "EN, de;q=0.5"), normal("accept-language", "de;q=0.50,en"));
        assert_ne!(normal("accept-language", "en, de"), normal("accept-language", "de, en"));
        assert_eq!(normal("accept-encoding", "gzip, BR"), normal("accept-encoding", "br,gzip"));
        assert_eq!(normal("accept-encoding", "gzip;level=1, br"), "gzip;level=1,br");
        assert_ne!(normal("x", "a, B"), normal("x", "a, b"));
    }
}
