//! Conditional requests (RFC 9110, 13).

use super::range::{self, Selection};
use super::representation::Representation;
use crate::version::Version;
use std::ops::Range;

/// The conditions of one request, as sent.
#[derive(Debug, Default, Clone, Copy)]
pub struct Conditions<'a> {
    pub if_match: Option<&'a [u8]>,
    pub if_none_match: Option<&'a [u8]>,
    pub if_modified_since: Option<&'a [u8]>,
    pub if_unmodified_since: Option<&'a [u8]>,
    pub if_range: Option<&'a [u8]>,
    pub range: Option<&'a [u8]>,
}

/// What a GET or HEAD is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// 200
    Whole,
    /// 206
    Part { from: u64, to: u64 },
    /// 206 with several parts.
    Parts(Vec<Range<u64>>),
    /// 304
    NotModified,
    /// 412
    Failed,
    /// 416
    Unsatisfiable,
}

impl Conditions<'_> {
    /// Evaluates the conditions of a GET or HEAD in the order of RFC 9110, 13.2.2.
    pub fn evaluate(&self, current: Representation<'_>) -> Verdict {
        let unconditional = self.range.is_none()
            && self.if_none_match.is_none()
            && self.if_modified_since.is_none()
            && self.if_match.is_none()
            && self.if_unmodified_since.is_none();
        if unconditional {
            return Verdict::Whole;
        }
        if self.precondition_fails(current) {
            return Verdict::Failed;
        }
        let not_modified = match (self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => holds(tags, current, Comparison::Weak),
            (None, Some(date)) => is_older(current, date),
            (None, None) => false,
        };
        if not_modified {
            return Verdict::NotModified;
        }
        match self.range.filter(|_| self.range_applies(current)) {
            None => Verdict::Whole,
            Some(value) => match range::select(value, current.size()) {
                Selection::Whole => Verdict::Whole,
                Selection::Part { from, to } => Verdict::Part { from, to },
                Selection::Parts(ranges) => Verdict::Parts(ranges),
                Selection::Unsatisfiable => Verdict::Unsatisfiable,
            },
        }
    }

    /// Evaluates the conditions of a PUT or DELETE, where `present` is the file as it is now, in the same order.
    pub fn permits_write(&self, present: Option<&Version>) -> bool {
        let tag = present.map(Version::etag);
        let names = |list: &[u8], comparison| tag.as_ref().is_some_and(|tag| any_tag(list, tag, comparison));
        let matches = match (self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => names(tags, Comparison::Strong),
            (None, Some(date)) => seconds(date)
                .is_none_or(|since| present.is_some_and(|present| present.mtime_ns.div_euclid(1_000_000_000) <= since)),
            (None, None) => true,
        };
        matches && !self.if_none_match.is_some_and(|tags| names(tags, Comparison::Weak))
    }

    fn precondition_fails(&self, current: Representation<'_>) -> bool {
        match (self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => !holds(tags, current, Comparison::Strong),
            (None, Some(date)) => modified(current, date).is_some_and(|(modified, since)| modified > since),
            (None, None) => false,
        }
    }

    /// RFC 9110, 13.1.5: an entity tag must match strongly; a date must be the very date of Last-Modified.
    fn range_applies(&self, current: Representation<'_>) -> bool {
        match self.if_range.map(<[u8]>::trim_ascii) {
            None => true,
            Some(value) if value.starts_with(b"\"") => current.etag().is_some_and(|etag| *value == *etag),
            Some(value) if value.starts_with(b"W/") => false,
            Some(value) => modified(current, value).is_some_and(|(modified, said)| modified == said),
        }
    }
}

/// Whether a list of entity tags (or `*`) holds that of what is there.
fn holds(list: &[u8], current: Representation<'_>, comparison: Comparison) -> bool {
    current.etag().map_or(list.trim_ascii() == b"*", |etag| names(list, &etag, comparison))
}

/// When what is there was modified, and the time that is compared with it; `None`: one of them is not known.
fn modified(current: Representation<'_>, date: &[u8]) -> Option<(i64, i64)> {
    Some((current.modified_seconds()?, seconds(date)?))
}

/// Whether what is there has not been modified since that date. A stored response that does not say when it was
/// modified was not modified after the origin sent it (RFC 9111, 4.3.2).
fn is_older(current: Representation<'_>, date: &[u8]) -> bool {
    let latest = current.modified_seconds().or_else(|| current.sent_seconds());
    latest.zip(seconds(date)).is_some_and(|(latest, since)| latest <= since)
}

/// How entity tags are compared (RFC 9110, 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags (or `*`) names `etag`, which may be weak where it comes from another server.
pub fn names(list: &[u8], etag: &[u8], comparison: Comparison) -> bool {
    match etag.strip_prefix(b"W/") {
        Some(opaque) => {
            list.trim_ascii() == b"*" || comparison == Comparison::Weak && any_tag(list, opaque, comparison)
        }
        None => any_tag(list, etag, comparison),
    }
}

/// Whether a list of entity tags (or `*`) holds `etag`, which is strong.
fn any_tag(list: &[u8], etag: &[u8], comparison: Comparison) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    // Tags may contain commas, so the list is walked from quote to quote.
    while let Some(open) = rest.iter().position(|&byte| byte == b'"') {
        let weak = rest[..open].ends_with(b"W/");
        let Some(length) = rest[open + 1..].iter().position(|&byte| byte == b'"') else { return false };
        let close = open + 1 + length;
        if rest[open..=close] == *etag && (comparison == Comparison::Weak || !weak) {
            return true;
        }
        rest = &rest[close + 1..];
    }
    false
}

/// An HTTP date in seconds since 1970; None when it is none (the field is then ignored).
pub fn seconds(date: &[u8]) -> Option<i64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(date).ok()?.trim()).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Described;

    fn current() -> Described {
        crate::http::representation::tests::sample(10, 784_111_777)
    }

    fn tag(representation: &Described) -> String {
        String::from_utf8(representation.etag().to_vec()).unwrap()
    }

    const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &[u8] = b"Sun, 06 Nov 1994 08:49:38 GMT";
    const EARLIER: &[u8] = b"Sun, 06 Nov 1994 08:49:36 GMT";

    #[test]
    fn if_none_match_comes_before_if_modified_since() {
        let current = current();
        let own = tag(&current);
        for (value, expected) in [
            (own.clone(), Verdict::NotModified),
            (format!("W/{own}"), Verdict::NotModified),
            (format!("\"a,b\", W/\"c\" , {own}"), Verdict::NotModified),
            ("*".into(), Verdict::NotModified),
            ("\"other\"".into(), Verdict::Whole),
            ("\"unclosed".into(), Verdict::Whole),
        ] {
            let conditions = Conditions {
                if_none_match: Some(value.as_bytes()),
                if_modified_since: Some(LATER),
                ..Conditions::default()
            };
            assert_eq!(conditions.evaluate(Representation::File(&current)), expected, "{value}");
        }
    }

    #[test]
    fn dates_compare_by_the_second() {
        let current = current();
        for (date, expected) in [
            (DATE, Verdict::NotModified),
            (LATER, Verdict::NotModified),
            (EARLIER, Verdict::Whole),
            (b"yesterday".as_slice(), Verdict::Whole),
        ] {
            let conditions = Conditions { if_modified_since: Some(date), ..Conditions::default() };
            assert_eq!(conditions.evaluate(Representation::File(&current)), expected);
        }
        for (date, expected) in [(DATE, Verdict::Whole), (EARLIER, Verdict::Failed)] {
            let conditions = Conditions { if_unmodified_since: Some(date), ..Conditions::default() };
            assert_eq!(conditions.evaluate(Representation::File(&current)), expected);
        }
    }

    #[test]
    fn if_match_is_strong() {
        let current = current();
        let own = tag(&current);
        for (value, expected) in
            [(own.clone(), Verdict::Whole), (format!("W/{own}"), Verdict::Failed), ("\"x\"".into(), Verdict::Failed)]
        {
            let conditions = Conditions { if_match: Some(value.as_bytes()), ..Conditions::default() };
            assert_eq!(conditions.evaluate(Representation::File(&current)), expected);
        }
    }

    #[test]
    fn writes_are_conditional_on_what_is_there() {
        let identity = current().version;
        let own = identity.etag().to_string();
        let weak = format!("W/{own}");
        for (field, value, on_present, on_absent) in [
            ("match", "*", true, false),
            ("match", own.as_str(), true, false),
            ("match", weak.as_str(), false, false),
            ("match", "\"other\"", false, false),
            ("none-match", "*", false, true),
            ("none-match", own.as_str(), false, true),
            ("none-match", weak.as_str(), false, true),
            ("none-match", "\"other\"", true, true),
            ("unmodified", "Sun, 06 Nov 1994 08:49:37 GMT", true, false),
            ("unmodified", "Sun, 06 Nov 1994 08:49:36 GMT", false, false),
            ("unmodified", "yesterday", true, true),
        ] {
            let set = |name| (field == name).then_some(value.as_bytes());
            let conditions = Conditions {
                if_match: set("match"),
                if_none_match: set("none-match"),
                if_unmodified_since: set("unmodified"),
                ..Conditions::default()
            };
            assert_eq!(conditions.permits_write(Some(&identity)), on_present, "{field} {value}");
            assert_eq!(conditions.permits_write(None), on_absent, "{field} {value}");
        }
    }

    #[test]
    fn ranges_apply_only_to_the_version_they_name() {
        let current = current();
        let own = tag(&current);
        let part = || Verdict::Part { from: 0, to: 5 };
        for (value, expected) in [
            (own.as_bytes(), part()),
            (DATE, part()),
            (LATER, Verdict::Whole),
            (b"\"x\"", Verdict::Whole),
            (format!("W/{own}").as_bytes(), Verdict::Whole),
        ] {
            let conditions = Conditions { range: Some(b"bytes=0-4"), if_range: Some(value), ..Conditions::default() };
            assert_eq!(conditions.evaluate(Representation::File(&current)), expected);
        }
        let conditions = Conditions { range: Some(b"bytes=10-"), ..Conditions::default() };
        assert_eq!(conditions.evaluate(Representation::File(&current)), Verdict::Unsatisfiable);
    }
}
