//! Ranges, conditions and digests against references.

use crate::http::conditional::{Conditions, Verdict};
use crate::http::date;
use crate::http::digest;
use crate::http::range::{self, ContentRange, Selection};
use crate::http::representation::Representation;
use crate::limits;
use crate::version::freshness::{Freshness, Reuse};
use crate::version::stored::Stored;
use arbitrary::{Result, Unstructured};
use base64::Engine;
use std::ops::Range;

/// A number of digits and nothing else. Those beyond u64 are alike: they lie beyond any file.
fn digits(text: &str) -> Option<u128> {
    let is_number = !text.is_empty() && text.chars().all(|digit| digit.is_ascii_digit());
    let add = |number: u128, digit: char| (number * 10 + u128::from(digit as u32 - 48)).min(u128::from(u64::MAX));
    is_number.then(|| text.chars().fold(0, add))
}

/// The ranges that a field asks for, cut to the body, empty ones included; `None` if it is to be ignored (RFC 9110,
/// 14.1 and 14.2).
fn asked(value: &str, length: u128) -> Option<Vec<Range<u128>>> {
    let value = value.trim();
    let equals = value.find('=')?;
    if !value[..equals].trim_end().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ranges = Vec::new();
    for element in value[equals + 1..].split(',') {
        let element = element.trim();
        if element.is_empty() {
            continue;
        }
        let dash = element.find('-')?;
        let (first, last) = (&element[..dash], &element[dash + 1..]);
        ranges.push(match (first.is_empty(), last.is_empty()) {
            (true, _) => length - digits(last)?.min(length)..length,
            (false, true) => digits(first)?.min(length)..length,
            (false, false) => {
                let (from, to) = (digits(first)?, digits(last)?);
                if to < from {
                    return None;
                }
                from.min(length)..(to + 1).min(length)
            }
        });
    }
    (!ranges.is_empty() && ranges.len() <= limits::RANGES).then_some(ranges)
}

/// A Range field, for a body of at most 255 bytes, and the same text as Content-Range.
pub fn range(bytes: &[u8]) {
    let Some((&length, value)) = bytes.split_first() else { return };
    let length = u64::from(length);
    let selection = range::select(value, length);
    let asked = std::str::from_utf8(value).ok().filter(|_| length > 0).and_then(|text| asked(text, length.into()));
    let is_wanted = |at: u64| asked.iter().flatten().any(|range| range.contains(&u128::from(at)));
    let parts = match &selection {
        Selection::Whole => {
            assert!(asked.is_none(), "ranges that are ignored");
            Vec::new()
        }
        Selection::Unsatisfiable => Vec::new(),
        Selection::Part { from, to } => vec![Range { start: *from, end: *to }],
        Selection::Parts(parts) => parts.clone(),
    };
    assert_eq!(selection == Selection::Whole, asked.is_none());
    if selection != Selection::Whole {
        for at in 0..length {
            let within = parts.iter().filter(|part| part.contains(&at)).count();
            assert_eq!(within, usize::from(is_wanted(at)), "byte {at} of {length} in {selection:?}");
        }
        for (number, part) in parts.iter().enumerate() {
            assert!(part.start < part.end && part.end <= length);
            let touches = |other: &Range<u64>| other.start == part.end;
            assert!(!parts.iter().any(touches), "{selection:?}");
            // Each stands where the first of its ranges stood.
            let place = |part: &Range<u64>| {
                let is_its = |range: &Range<u128>| !range.is_empty() && part.contains(&(range.start as u64));
                asked.iter().flatten().position(is_its)
            };
            assert!(number == 0 || place(&parts[number - 1]) < place(part), "{selection:?}");
        }
    }
    if let Some(begin) = range::begin(value).filter(|&begin| begin < length) {
        assert!(matches!(selection, Selection::Part { from, .. } if from == begin), "it begins at {begin}");
    }
    content_range(value);
}

fn content_range(value: &[u8]) {
    let Ok(text) = std::str::from_utf8(value) else { return };
    let reference = || {
        let (unit, rest) = text.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| digits(text).and_then(|_| text.parse::<u64>().ok());
        let (first, last) = (number(first)?, number(last)?);
        let total = if total == "*" { None } else { Some(number(total)?) };
        let fits = first <= last && total.is_none_or(|total| last < total) && unit.eq_ignore_ascii_case("bytes");
        (fits && last < u64::MAX).then(|| ContentRange { first, end: last + 1, total })
    };
    assert_eq!(ContentRange::parse(text), reference());
}

/// A date, in seconds since 1970, as a field has it.
fn dated(seconds: i64) -> Vec<u8> {
    let mut text = Vec::new();
    date::write(&mut text, seconds as u64);
    text
}

/// A list of entity tags: each weak or not, by number.
#[derive(Debug)]
enum Tags {
    Any,
    List(Vec<(bool, u8)>),
}

impl Tags {
    fn choose(input: &mut Unstructured<'_>) -> Result<Tags> {
        if input.ratio(1, 6)? {
            return Ok(Tags::Any);
        }
        let one = |input: &mut Unstructured<'_>| Ok((input.arbitrary()?, input.int_in_range(0..=3)?));
        Ok(Tags::List((0..input.int_in_range(1..=3)?).map(|_| one(input)).collect::<Result<_>>()?))
    }

    fn written(&self) -> Vec<u8> {
        match self {
            Tags::Any => b" * ".to_vec(),
            Tags::List(tags) => {
                tags.iter().map(|&(is_weak, number)| tag(is_weak, number)).collect::<Vec<_>>().join(&b" , "[..])
            }
        }
    }

    /// Whether they name this tag (RFC 9110, 8.8.3.2); any of them, if the comparison is weak.
    fn name(&self, own: Option<(bool, u8)>, is_weakly: bool) -> bool {
        match (self, own) {
            (Tags::Any, _) => true,
            (Tags::List(_), None) => false,
            (Tags::List(tags), Some((own_weak, own))) => {
                tags.iter().any(|&(is_weak, number)| number == own && (is_weakly || !is_weak && !own_weak))
            }
        }
    }
}

/// Tags that look alike: some have commas, or what looks like a mark, in them.
fn tag(is_weak: bool, number: u8) -> Vec<u8> {
    let opaque = ["a", "a,b", "W/", ""][usize::from(number)];
    format!("{}\"{opaque}\"", if is_weak { "W/" } else { "" }).into_bytes()
}

/// The conditions of a read, in the order of RFC 9110, 13.2.2.
pub fn conditions(bytes: &[u8]) {
    let _ = conditioned(&mut Unstructured::new(bytes));
}

fn maybe<T>(input: &mut Unstructured<'_>, some: impl FnOnce(&mut Unstructured<'_>) -> Result<T>) -> Result<Option<T>> {
    if input.arbitrary()? { some(input).map(Some) } else { Ok(None) }
}

fn conditioned(input: &mut Unstructured<'_>) -> Result<()> {
    const DAY: i64 = 784_111_777;
    let own = maybe(input, |input| Ok((input.arbitrary()?, input.int_in_range(0..=3)?)))?;
    let modified = maybe(input, |input| Ok(DAY + input.int_in_range(0..=2)?))?;
    let time = |input: &mut Unstructured<'_>| Ok(DAY + input.int_in_range(0..=2)?);
    let (if_match, if_none_match) = (maybe(input, Tags::choose)?, maybe(input, Tags::choose)?);
    let (since, unmodified) = (maybe(input, time)?, maybe(input, time)?);
    let range_tag = maybe(input, |input| Ok((input.arbitrary::<bool>()?, input.int_in_range(0..=3u8)?)))?;
    let range_date = maybe(input, time)?;
    let range = maybe(input, |input| Ok(*input.choose(&["bytes=0-", "bytes=5-6", "bytes=20-"])?))?;
    let stored = stored(own.map(|(is_weak, number)| tag(is_weak, number)), modified);
    let written = (if_match.as_ref().map(Tags::written), if_none_match.as_ref().map(Tags::written));
    let dates = (since.map(dated), unmodified.map(dated));
    let if_range = range_tag.map(|(is_weak, number)| tag(is_weak, number)).or(range_date.map(dated));
    let conditions = Conditions {
        if_match: written.0.as_deref(),
        if_none_match: written.1.as_deref(),
        if_modified_since: dates.0.as_deref(),
        if_unmodified_since: dates.1.as_deref(),
        if_range: if_range.as_deref(),
        range: range.map(str::as_bytes),
    };
    let verdict = conditions.evaluate(Representation::Response { stored: &stored, age: 0 });
    let fails = match (&if_match, unmodified) {
        (Some(tags), _) => !tags.name(own, false),
        (None, Some(date)) => modified.is_some_and(|modified| modified > date),
        (None, None) => false,
    };
    let is_known = match (&if_none_match, since) {
        (Some(tags), _) => tags.name(own, true),
        (None, Some(date)) => modified.is_some_and(|modified| modified <= date),
        (None, None) => false,
    };
    let range_applies = match (range_tag, range_date) {
        (Some((is_weak, number)), _) => !is_weak && own == Some((false, number)),
        (None, Some(date)) => modified == Some(date),
        (None, None) => true,
    };
    let expected = match (fails, is_known, range.filter(|_| range_applies)) {
        (true, ..) => Verdict::Failed,
        (_, true, _) => Verdict::NotModified,
        (.., None) => Verdict::Whole,
        (.., Some("bytes=0-")) => Verdict::Part { from: 0, to: 10 },
        (.., Some("bytes=5-6")) => Verdict::Part { from: 5, to: 7 },
        (.., Some(_)) => Verdict::Unsatisfiable,
    };
    assert_eq!(verdict, expected, "{own:?} {modified:?} {conditions:?} {if_match:?} {if_none_match:?}");
    Ok(())
}

fn stored(etag: Option<Vec<u8>>, modified: Option<i64>) -> Stored {
    let freshness = Freshness {
        received: 0,
        initial_age: 0,
        lifetime: 0,
        stale_while_revalidate: 0,
        stale_if_error: None,
        reuse: Reuse::Lenient,
    };
    Stored { etag: etag.map(Into::into), modified, ..Stored::bare(200, 10, freshness) }
}

/// A Content-Digest.
pub fn content_digest(bytes: &[u8]) {
    let read = digest::sha256(bytes);
    let (own, rest) = bytes.split_at(bytes.len().min(32));
    let written = base64::engine::general_purpose::STANDARD.encode(own);
    let value = format!("a=1;x, sha-256=:{written}:;y=?0 ,\tsha-512=(a b)");
    assert_eq!(
        digest::sha256(value.as_bytes()).ok().as_ref().map(<[u8; 32]>::as_slice),
        (own.len() == 32).then_some(own)
    );
    if let Ok(digest) = read {
        // Whatever it was written like, these bytes were there: another spelling of them is the same digest.
        let again = format!("sha-256=:{}:", base64::engine::general_purpose::STANDARD.encode(digest));
        assert_eq!(digest::sha256(again.as_bytes()), Ok(digest));
        assert!(bytes.windows(7).any(|window| window == b"sha-256"), "{rest:?}");
    }
}
