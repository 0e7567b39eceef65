//! What a shared cache may keep, and for how long (RFC 9111, with RFC 5861 and RFC 9213): decisions as functions of
//! header fields.
//!
//! The crate http-cache-semantics decides some of this. It knows no targeted fields and no stale-while-revalidate,
//! reads Cache-Control less leniently than the public test suite asks for, and keeps whole copies of requests and
//! responses as its state; what the cache keeps here is a few numbers.
//!
//! - `directives`: Cache-Control, Pragma and CDN-Cache-Control
//! - `update`: what a 304 changes of what is stored
//! - `invalidation`: what a request that changes something makes stale

pub mod directives;
pub mod invalidation;
#[cfg(test)]
mod tests;
pub mod update;

use directives::{Directives, Response, seconds};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};
use std::time::{Duration, SystemTime};

/// How long a response is fresh at most whose server does not say how long.
pub const HEURISTIC_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The part of its age that such a response stays fresh: a tenth (RFC 9111, 4.2.2).
const HEURISTIC_PART: u32 = 10;

/// When a request was sent, and its answer received.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub received: SystemTime,
    /// From the request to the head of the answer.
    pub delay: Duration,
}

/// A response that may be kept, and on what terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storable {
    /// How old it may become before it is stale.
    pub lifetime: Duration,
    /// How old it was when it was received. Its age is this and the time since.
    pub initial_age: Duration,
    /// It is not served stale, whatever happens.
    pub must_revalidate: bool,
    /// It is served only after the origin has confirmed it.
    pub no_cache: bool,
    /// How long after its lifetime it is served while it is fetched anew.
    pub stale_while_revalidate: Duration,
    /// How long after its lifetime it is served if the origin fails; `None` leaves that to the server.
    pub stale_if_error: Option<Duration>,
    /// Fields of the request that chose it, sorted. A request in which they differ is for another response.
    pub vary: Vec<HeaderName>,
    /// The entity tag as it came, which may be no proper one.
    pub etag: Option<HeaderValue>,
    pub last_modified: Option<HeaderValue>,
    /// Fields that are not kept, besides those of [`update::is_stored`].
    pub left_out: Vec<HeaderName>,
}

impl Storable {
    /// Whether the origin can be asked if it still holds.
    pub fn has_validator(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }
}

/// Whether and how a shared cache may keep an answer to this request; `None` if it may not, or to no use. Neither 206
/// nor 304 is decided on here: they are parts of other responses.
pub fn storable(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    answer: &HeaderMap,
    times: Times,
) -> Option<Storable> {
    let targeted = Response::of_cdn(answer);
    // RFC 9213, 2.2: where it counts, Cache-Control and Expires do not.
    let expires = if targeted.is_none() { answer.get_all(header::EXPIRES).iter().next() } else { None };
    let said = targeted.unwrap_or_else(|| Response::of(answer));
    let is_understood = is_understood(status);
    let may_be_stored = *method == Method::GET
        && status.as_u16() >= 200
        && !matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED)
        && if said.must_understand { is_understood } else { !said.no_store }
        && !said.private
        && !Directives::of(request).no_store;
    if !may_be_stored {
        return None;
    }
    if request.contains_key(header::AUTHORIZATION) && !(said.public || said.must_revalidate || said.s_maxage.is_some())
    {
        return None;
    }
    let vary = vary(answer)?;
    let date = single(answer, &header::DATE).and_then(date).unwrap_or(times.received);
    let last_modified = single(answer, &header::LAST_MODIFIED);
    let explicit = match (said.s_maxage.or(said.max_age), expires) {
        (Some(lifetime), _) => Some(lifetime),
        (None, Some(_)) => Some(until_expiry(answer, date)),
        (None, None) => None,
    };
    let may_guess = (said.public || is_heuristic(status)) && !answer.contains_key(header::SET_COOKIE);
    let guessed = || may_guess.then(|| guess(last_modified?, date)).flatten();
    if explicit.is_none() && !said.public && !is_heuristic(status) && !said.no_cache {
        return None;
    }
    let must_revalidate = said.must_revalidate || said.s_maxage.is_some();
    let storable = Storable {
        lifetime: explicit.or_else(guessed).unwrap_or_default(),
        initial_age: initial_age(answer, date, times),
        must_revalidate,
        no_cache: said.no_cache,
        stale_while_revalidate: said.stale_while_revalidate.filter(|_| !must_revalidate).unwrap_or_default(),
        stale_if_error: said.stale_if_error,
        vary,
        etag: single(answer, &header::ETAG).cloned(),
        last_modified: last_modified.cloned(),
        left_out: said.left_out,
    };
    let is_fresh = storable.lifetime > storable.initial_age && !storable.no_cache;
    let serves_stale = !storable.stale_while_revalidate.is_zero() || storable.stale_if_error.is_some();
    (is_fresh || storable.has_validator() || serves_stale).then_some(storable)
}

/// Whether a status is known here as RFC 9110 defines it; others are treated as the first of their class.
fn is_understood(status: StatusCode) -> bool {
    let is_of_http = matches!(status.as_u16(), 200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426);
    is_of_http || matches!(status.as_u16(), 428 | 429 | 431 | 451 | 500..=505 | 511)
}

/// Whether a status may be kept without being told so (RFC 9110, 15.1).
fn is_heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The names of the Vary fields, sorted; `None` if every request differs, or the names are none.
fn vary(answer: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for line in answer.get_all(header::VARY) {
        for name in line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
        {
            if name == b"*" {
                return None;
            }
            names.push(HeaderName::from_bytes(name).ok()?);
        }
    }
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    Some(names)
}

/// A field's value if it was given once. Of several that say the same, one counts.
fn single<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = fields.get_all(name).iter();
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// From the response's date to the end of its freshness. What cannot be read, or is said in two ways, is over.
fn until_expiry(answer: &HeaderMap, sent: SystemTime) -> Duration {
    let expires = single(answer, &header::EXPIRES).and_then(date);
    expires.and_then(|expires| expires.duration_since(sent).ok()).unwrap_or_default()
}

/// How long a response is probably good that does not say so: it has been good for long.
fn guess(last_modified: &HeaderValue, sent: SystemTime) -> Option<Duration> {
    let age = sent.duration_since(date(last_modified)?).ok()?;
    Some((age / HEURISTIC_PART).min(HEURISTIC_MAX))
}

/// How old a response was when it was received (RFC 9111, 4.2.3).
fn initial_age(answer: &HeaderMap, sent: SystemTime, times: Times) -> Duration {
    let apparent = times.received.duration_since(sent).unwrap_or_default();
    let first = answer.get(header::AGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let said = seconds(first.split(',').next().unwrap_or_default().trim()).unwrap_or_default();
    apparent.max(said + times.delay)
}

/// A date in any of HTTP's three forms; neither the case of its letters nor the day of the week, which the rest tells,
/// matters.
pub fn date(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?.trim();
    let read = |text: &str| httpdate::parse_http_date(text).ok();
    read(text).or_else(|| {
        let cased = cased(text);
        let (_, rest) = cased.split_at_checked(3).filter(|(day, _)| DAYS.contains(day))?;
        DAYS.iter().find_map(|day| read(&format!("{day}{rest}")))
    })
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// The text with its words written as HTTP writes them: `Thu`, `Aug`, but `GMT`.
fn cased(text: &str) -> String {
    let mut cased = text.to_ascii_lowercase();
    let starts: Vec<usize> = text
        .char_indices()
        .filter(|&(at, letter)| {
            letter.is_ascii_alphabetic() && !text[..at].ends_with(|before: char| before.is_ascii_alphabetic())
        })
        .map(|(at, _)| at)
        .collect();
    for at in starts {
        cased[at..=at].make_ascii_uppercase();
    }
    match cased.strip_suffix("Gmt") {
        Some(before) => format!("{before}GMT"),
        None => cased,
    }
}
