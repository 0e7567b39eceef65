//! Which media types a client takes, and which it likes better (RFC 9110, 12.5.1).

use crate::version::weights::split_weight;
use std::cmp::Reverse;

/// The value of an Accept field; `None` where there is no such field.
#[derive(Debug, Clone, Copy)]
pub struct Accept<'a>(pub Option<&'a [u8]>);

/// How much a type is wanted: by its weight; among equals what is named more exactly, then what is named first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Thousandths, more than none.
    weight: u16,
    /// Parts of the type that are named.
    exactness: u8,
    place: Reverse<usize>,
}

impl Accept<'_> {
    /// How much the client wants `kind/subkind`; `None` if it does not take it. A field that is not there, or in which
    /// nothing can be read, takes everything alike.
    pub fn rank(&self, kind: &str, subkind: &str) -> Option<Rank> {
        let (mut says_something, mut found) = (false, None::<Rank>);
        for (place, item) in self.0.unwrap_or_default().split(|&byte| byte == b',').enumerate() {
            let (range, Some(weight)) = split_weight(item) else { continue };
            let Some(slash) = range.iter().position(|&byte| byte == b'/') else { continue };
            says_something = true;
            let (first, second) = (part(&range[..slash], kind), part(&range[slash + 1..], subkind));
            let (Some(first), Some(second)) = (first, second) else { continue };
            let exactness = first + second;
            // The most exact range decides, whatever its weight.
            if found.is_none_or(|found| found.exactness < exactness) {
                found = Some(Rank { weight, exactness, place: Reverse(place) });
            }
        }
        if !says_something {
            return Some(Rank { weight: 1, exactness: 0, place: Reverse(0) });
        }
        found.filter(|rank| rank.weight > 0)
    }
}

/// Whether a part of a media range matches, and then how exactly.
fn part(range: &[u8], own: &str) -> Option<u8> {
    match range {
        b"*" => Some(0),
        named => named.eq_ignore_ascii_case(own.as_bytes()).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_range_decides() {
        // RFC 9110, 12.5.1: its example.
        let accept = Accept(Some(
            b"text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, text/plain;format=fixed;q=0.4, */*;q=0.5",
        ));
        let weight = |kind, subkind| accept.rank(kind, subkind).map(|rank| rank.weight);
        assert_eq!(weight("text", "html"), Some(300));
        assert_eq!(weight("text", "plain"), Some(700));
        assert_eq!(weight("image", "jpeg"), Some(500));
        let takes_html = |accept: &str| Accept(Some(accept.as_bytes())).rank("text", "html").is_some();
        for accept in ["", "nonsense", "*/*", "text/*", "TEXT/HTML;q=0.001", "text/html;q=7", "*/*;q=0, text/html", ","]
        {
            assert!(takes_html(accept), "{accept}");
        }
        for accept in ["application/json", "text/html;q=0", "text/html;q=0, */*", "*/*;q=0", "text/*;q=0, */*;q=1"] {
            assert!(!takes_html(accept), "{accept}");
        }
        assert!(Accept(None).rank("text", "html").is_some());
    }
}
