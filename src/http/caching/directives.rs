//! Cache-Control and its kin, read as leniently as caches must: a response with a mistake in it is a response all the
//! same. A mistake never makes anything fresh.

use crate::version::freshness::Wish;
use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};
use std::time::Duration;

/// Directives for caches of this kind only (RFC 9213).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// The longest time that is told apart from longer ones (RFC 9111, 1.2.2): 68 years.
const LONGEST: u64 = 1 << 31;

/// What a response says about its storage (RFC 9111, 5.2.2; RFC 5861).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    pub no_store: bool,
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub must_understand: bool,
    pub max_age: Option<Duration>,
    pub s_maxage: Option<Duration>,
    pub stale_while_revalidate: Option<Duration>,
    pub stale_if_error: Option<Duration>,
    /// Fields that are not to be kept, while the rest may be: those that `private` or `no-cache` name.
    pub left_out: Vec<HeaderName>,
}

impl Response {
    /// Of Cache-Control; without it, of Pragma.
    pub fn of(fields: &HeaderMap) -> Response {
        let mut found = Response::default();
        each(fields, &header::CACHE_CONTROL, |name, value| found.read(name, value));
        if !fields.contains_key(header::CACHE_CONTROL) {
            each(fields, &header::PRAGMA, |name, _| found.no_cache |= name.eq_ignore_ascii_case("no-cache"));
        }
        found
    }

    /// Of CDN-Cache-Control, which is a dictionary in the sense of RFC 9651; `None` if there is none, or it is broken,
    /// and the other fields count.
    pub fn of_cdn(fields: &HeaderMap) -> Option<Response> {
        let lines: Vec<&[u8]> = fields.get_all(CDN_CACHE_CONTROL).iter().map(|value| value.as_bytes()).collect();
        let all: Dictionary = Parser::new(&lines.join(&b", "[..])).parse().ok()?;
        if all.is_empty() {
            return None;
        }
        let mut found = Response::default();
        for (name, entry) in &all {
            let ListEntry::Item(item) = entry else { continue };
            let value = match &item.bare_item {
                BareItem::Boolean(false) => continue,
                BareItem::Boolean(true) => None,
                BareItem::Integer(number) => Some(i64::from(*number).to_string()),
                BareItem::String(text) => Some(text.as_str().to_owned()),
                BareItem::Token(text) => Some(text.as_str().to_owned()),
                _ => Some(String::new()),
            };
            let is_number = matches!(item.bare_item, BareItem::Integer(_));
            if is_time(name.as_str()) && !is_number {
                return None;
            }
            found.read(name.as_str(), value.as_deref());
        }
        Some(found)
    }

    fn read(&mut self, name: &str, value: Option<&str>) {
        match name.to_ascii_lowercase().as_str() {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache |= !self.leave_out(value),
            "private" => self.private |= !self.leave_out(value),
            "public" => self.public = true,
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = true,
            "must-understand" => self.must_understand = true,
            "max-age" => shorten(&mut self.max_age, value),
            "s-maxage" => shorten(&mut self.s_maxage, value),
            "stale-while-revalidate" => shorten(&mut self.stale_while_revalidate, value),
            "stale-if-error" => shorten(&mut self.stale_if_error, value),
            _ => {}
        }
    }

    /// Takes the names of fields from a directive's value. Without any, the directive is about the whole response.
    fn leave_out(&mut self, names: Option<&str>) -> bool {
        let names = names.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
        let names: Result<Vec<_>, _> = names.map(|name| HeaderName::from_bytes(name.as_bytes())).collect();
        match names {
            Ok(names) if !names.is_empty() => {
                self.left_out.extend(names);
                true
            }
            _ => false,
        }
    }
}

/// What a request wants of a cache (RFC 9111, 5.2.1; RFC 5861).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directives {
    pub no_cache: bool,
    pub no_store: bool,
    pub only_if_cached: bool,
    /// Nothing older.
    pub max_age: Option<Duration>,
    /// Nothing that is not fresh for so much longer.
    pub min_fresh: Option<Duration>,
    /// What has been stale for no longer, too.
    pub max_stale: Option<Duration>,
    /// The same, if the origin fails.
    pub stale_if_error: Option<Duration>,
}

impl Directives {
    /// Of Cache-Control; without it, of Pragma.
    pub fn of(fields: &HeaderMap) -> Directives {
        let mut found = Directives::default();
        each(fields, &header::CACHE_CONTROL, |name, value| found.read(name, value));
        if !fields.contains_key(header::CACHE_CONTROL) {
            each(fields, &header::PRAGMA, |name, _| found.no_cache |= name.eq_ignore_ascii_case("no-cache"));
        }
        found
    }

    fn read(&mut self, name: &str, value: Option<&str>) {
        let time = || value.map(seconds);
        match name.to_ascii_lowercase().as_str() {
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => shorten(&mut self.max_age, value),
            "min-fresh" => self.min_fresh = time().flatten().or(self.min_fresh),
            "max-stale" => self.max_stale = time().unwrap_or(Some(Duration::from_secs(LONGEST))),
            "stale-if-error" => self.stale_if_error = time().flatten(),
            _ => {}
        }
    }
}

/// What a request with these values of Cache-Control and Pragma says about the age of what it wants.
pub fn wish(cache_control: Option<&[u8]>, pragma: Option<&[u8]>) -> Wish {
    if cache_control.is_none() && pragma.is_none() {
        return Wish::default();
    }
    let mut fields = HeaderMap::new();
    for (name, value) in [(header::CACHE_CONTROL, cache_control), (header::PRAGMA, pragma)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value).ok()) {
            fields.insert(name, value);
        }
    }
    let said = Directives::of(&fields);
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
    Wish {
        max_age: seconds(said.max_age),
        min_fresh: seconds(said.min_fresh),
        max_stale: seconds(said.max_stale),
        no_cache: said.no_cache,
        no_store: said.no_store,
        only_if_cached: said.only_if_cached,
    }
}

fn is_time(name: &str) -> bool {
    matches!(name, "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error")
}

/// The shortest of the times that a directive was given with. One that is none is no time at all.
fn shorten(time: &mut Option<Duration>, value: Option<&str>) {
    let new = value.and_then(seconds).unwrap_or_default();
    *time = Some(time.map_or(new, |old| old.min(new)));
}

/// A number of seconds: digits and nothing else.
pub fn seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(text.parse().map_or(LONGEST, |seconds: u64| seconds.min(LONGEST))))
}

/// Each directive of a field, with its value, without the quotes.
fn each(fields: &HeaderMap, name: &HeaderName, mut found: impl FnMut(&str, Option<&str>)) {
    for line in fields.get_all(name) {
        let line = String::from_utf8_lossy(line.as_bytes());
        for member in members(&line) {
            let (name, value) = match member.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (member, None),
            };
            // A space at the sign makes it another directive, which nobody knows.
            match value.and_then(|value| value.strip_prefix('"')) {
                None => found(name, value),
                Some(quoted) => {
                    let text = quoted.strip_suffix('"').unwrap_or(quoted);
                    if text.contains('\\') {
                        found(name, Some(&unescaped(text)));
                    } else {
                        found(name, Some(text));
                    }
                }
            }
        }
    }
}

fn unescaped(text: &str) -> String {
    let mut characters = text.chars();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            other => plain.push(other),
        }
    }
    plain
}

/// The members of a list, cut at the commas that are not in quotes, without empty ones.
fn members(list: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let is_comma = move |character: char| {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' => return !is_quoted,
            _ => {}
        }
        false
    };
    list.split(is_comma).map(str::trim).filter(|member| !member.is_empty())
}
