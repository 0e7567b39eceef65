//! Ranges of bytes (RFC 9110, 14).

use crate::limits;
use std::iter;
use std::ops::Range;

/// What part of a body of known length is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All of it: no range was asked for, or none that must be understood.
    Whole,
    /// Bytes `from..to`, with `from < to <= length`.
    Part { from: u64, to: u64 },
    /// Several such parts, none of which touches another.
    Parts(Vec<Range<u64>>),
    /// Ranges that all lie outside (416).
    Unsatisfiable,
}

/// Reads a Range field. Other units, bad syntax and more than [`limits::RANGES`] ranges are answered with the whole
/// (14.2 allows it), and so is every range of an empty body: it has no bytes that could be left out.
pub fn select(value: &[u8], length: u64) -> Selection {
    if length == 0 {
        return Selection::Whole;
    }
    parse(value, length).unwrap_or(Selection::Whole)
}

/// What the ranges that can be satisfied come to; `None` if the field is to be ignored. A single one allocates nothing.
fn parse(value: &[u8], length: u64) -> Option<Selection> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let (unit, set) = text.split_once('=')?;
    if !unit.trim_end().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (mut first, mut others) = (None, Vec::new());
    let mut asked = 0;
    // A list may have empty elements (5.6.1).
    for element in set.split(',').map(str::trim).filter(|element| !element.is_empty()) {
        asked += 1;
        if asked > limits::RANGES {
            return None;
        }
        let range = parse_one(element, length)?;
        match &first {
            _ if range.is_empty() => {}
            None => first = Some(range),
            Some(_) => others.push(range),
        }
    }
    (asked > 0).then(|| selected(first, others))
}

/// One range, cut to the body; empty if it lies outside. `None`: it is malformed.
fn parse_one(text: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number beyond u64 lies beyond any file.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    Some(match (first, last) {
        ("", last) => length.saturating_sub(number(last)?)..length,
        (first, "") => number(first)?..length,
        (first, last) => {
            let (from, to) = (number(first)?, number(last)?);
            if to < from {
                return None;
            }
            from..to.saturating_add(1).min(length)
        }
    })
}

/// Where the only range of a Range field begins, if that can be told without knowing the length of the body.
pub fn begin(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let (unit, range) = text.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_one = unit.trim_end().eq_ignore_ascii_case("bytes") && is_number(first) && is_number(last);
    let first = first.parse().ok().filter(|_| is_one)?;
    (last.is_empty() || last.parse().unwrap_or(u64::MAX) >= first).then_some(first)
}

fn selected(first: Option<Range<u64>>, others: Vec<Range<u64>>) -> Selection {
    let Some(first) = first else { return Selection::Unsatisfiable };
    if others.is_empty() {
        return Selection::Part { from: first.start, to: first.end };
    }
    let merged = merged(first, others);
    match &merged[..] {
        [range] => Selection::Part { from: range.start, to: range.end },
        _ => Selection::Parts(merged),
    }
}

/// Makes one of those that overlap or touch. Each stands where the first of its ranges stood (15.3.7.2).
fn merged(first: Range<u64>, others: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted: Vec<(usize, Range<u64>)> = iter::once(first).chain(others).enumerate().collect();
    sorted.sort_by_key(|(_, range)| range.start);
    let mut merged: Vec<(usize, Range<u64>)> = Vec::new();
    for (place, range) in sorted {
        match merged.last_mut() {
            Some((first, last)) if range.start <= last.end => {
                last.end = last.end.max(range.end);
                *first = place.min(*first);
            }
            _ => merged.push((place, range)),
        }
    }
    merged.sort_by_key(|(place, _)| *place);
    merged.into_iter().map(|(_, range)| range).collect()
}

/// A `Content-Range: bytes first-last/total` (RFC 9110, section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte.
    pub first: u64,
    /// The byte after the last.
    pub end: u64,
    /// Bytes of the whole; `None`: the server does not know.
    pub total: Option<u64>,
}

impl ContentRange {
    /// Reads the field; `None` if it is of another unit, broken, or not satisfiable.
    pub fn parse(field: &str) -> Option<ContentRange> {
        let (unit, rest) = field.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (decimal(first)?, decimal(last)?);
        let total = if total == "*" { None } else { Some(decimal(total)?) };
        let is_sound = unit.eq_ignore_ascii_case("bytes") && first <= last && total.is_none_or(|total| last < total);
        is_sound.then_some(ContentRange { first, end: last.checked_add(1)?, total })
    }
}

/// Digits and nothing else: `parse` alone takes a sign.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ranges() {
        let part = |from, to| Selection::Part { from, to };
        for (value, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=2-4", part(2, 5)),
            ("bytes=2-", part(2, 10)),
            ("bytes=2-99", part(2, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-99", part(0, 10)),
            ("Bytes = 9-9", part(9, 10)),
            ("bytes=10-", Selection::Unsatisfiable),
            ("bytes=10-12", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("bytes=0-99999999999999999999999", part(0, 10)),
            ("bytes=4-2", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes=,", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("lines=1-2", Selection::Whole),
            ("", Selection::Whole),
        ] {
            assert_eq!(select(value.as_bytes(), 10), expected, "{value}");
        }
        // curl, nginx's slices and others ask so for files that turn out to be empty, and fail on 416.
        for value in ["bytes=0-", "bytes=-1", "bytes=0-0,2-3", "bytes=5-"] {
            assert_eq!(select(value.as_bytes(), 0), Selection::Whole, "{value}");
        }
    }

    #[test]
    fn several_ranges() {
        let parts = |ranges: &[Range<u64>]| Selection::Parts(ranges.to_vec());
        for (value, expected) in [
            ("bytes=0-1,3-4", parts(&[0..2, 3..5])),
            ("bytes=3-4, 0-1", parts(&[3..5, 0..2])),
            ("bytes=0-1,,3-4,", parts(&[0..2, 3..5])),
            ("bytes=0-0,-1", parts(&[0..1, 9..10])),
            ("bytes=0-1,5-,20-30", parts(&[0..2, 5..10])),
            ("bytes=8-9,0-3,2-5", parts(&[8..10, 0..6])),
            ("bytes=2-5,8-9,0-3", parts(&[0..6, 8..10])),
            ("bytes=0-4,5-9", Selection::Part { from: 0, to: 10 }),
            ("bytes=0-,-1,3-4", Selection::Part { from: 0, to: 10 }),
            ("bytes=20-30,3-4", Selection::Part { from: 3, to: 5 }),
            ("bytes=20-30,40-", Selection::Unsatisfiable),
            ("bytes=0-1,4-2", Selection::Whole),
            ("bytes=0-1,x", Selection::Whole),
        ] {
            assert_eq!(select(value.as_bytes(), 10), expected, "{value}");
        }
        let many = |count: u64| {
            let ranges: Vec<String> = (0..count).map(|n| format!("{}-{}", n * 2, n * 2)).collect();
            select(format!("bytes={}", ranges.join(",")).as_bytes(), 1000)
        };
        assert!(matches!(many(64), Selection::Parts(parts) if parts.len() == 64));
        assert_eq!(many(65), Selection::Whole);
    }

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(ContentRange::parse("bytes 3-9/10"), Some(ContentRange { first: 3, end: 10, total: Some(10) }));
        assert_eq!(ContentRange::parse("bytes 3-9/*"), Some(ContentRange { first: 3, end: 10, total: None }));
        for wrong in [
            "",
            "bytes */10",
            "bytes 0-18446744073709551615/*",
            "bytes 9-3/10",
            "bytes 3-10/10",
            "lines 3-9/10",
            "bytes 3-9",
            "bytes -9/10",
            "bytes +3-9/10",
            "bytes 3-+9/10",
            "bytes 3-9/+10",
        ] {
            assert_eq!(ContentRange::parse(wrong), None, "{wrong}");
        }
    }
}
