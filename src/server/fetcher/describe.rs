//! What is kept of an answer: the fields that are passed on, and how long it may be used.

use crate::cache::permit::FillPermit;
use crate::http::caching::directives::CDN_CACHE_CONTROL;
use crate::http::caching::{self, Storable, Times, update};
use crate::ring::system::monotonic;
use crate::server::shared::Shared;
use crate::version::freshness::{Freshness, Reuse};
use crate::version::slices::Slice;
use crate::version::stored::{Stored, Vary};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// An answer that may be stored.
pub(super) struct Judged {
    freshness: Freshness,
    vary: Vec<Box<str>>,
    /// Fields that are not kept.
    left_out: Vec<HeaderName>,
}

/// Whether an answer may be stored, and for how long it may be used.
pub(super) fn judge(shared: &Shared, asked: &HeaderMap, parts: &Parts, delay: Duration) -> Option<Judged> {
    let mut fields = Cow::Borrowed(&parts.headers);
    if let Some(lifetime) = lifetime_by_default(shared, parts) {
        let said = HeaderValue::try_from(format!("max-age={}", lifetime.as_secs())).ok()?;
        fields.to_mut().insert(header::CACHE_CONTROL, said);
    }
    let times = Times { received: SystemTime::now(), delay };
    let storable = caching::storable(&Method::GET, asked, parts.status, &fields, times)?;
    let names = storable.vary.iter().map(|name| name.as_str().into()).collect();
    Some(Judged { freshness: freshness(&storable), vary: names, left_out: storable.left_out })
}

/// For how long an answer is fresh whose origin says nothing of that: that there is nothing under a name is remembered
/// for a moment, and an object of a store is taken for current as a file of a directory is.
fn lifetime_by_default(shared: &Shared, parts: &Parts) -> Option<Duration> {
    let says_so = [header::CACHE_CONTROL, header::EXPIRES, header::PRAGMA, CDN_CACHE_CONTROL];
    if says_so.iter().any(|name| parts.headers.contains_key(name)) {
        return None;
    }
    match parts.status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Some(shared.remote_options()?.negative),
        StatusCode::OK if shared.origin.remote()?.is_store() => Some(shared.options.revalidate),
        _ => None,
    }
}

fn freshness(storable: &Storable) -> Freshness {
    let reuse = match (storable.no_cache, storable.must_revalidate) {
        (true, _) => Reuse::Validated,
        (false, true) => Reuse::Strict,
        (false, false) => Reuse::Lenient,
    };
    Freshness {
        received: monotonic(),
        initial_age: storable.initial_age.as_secs(),
        lifetime: storable.lifetime.as_secs(),
        stale_while_revalidate: storable.stale_while_revalidate.as_secs(),
        stale_if_error: storable.stale_if_error.map(|grace| grace.as_secs()),
        reuse,
    }
}

/// What is kept of an answer whose body has `size` bytes.
pub(super) fn describe(permit: &FillPermit, asked: &HeaderMap, parts: &Parts, size: u64, judged: Judged) -> Stored {
    let before = permit.stale().and_then(|stale| stale.stored());
    let mut kept = parts.headers.clone();
    update::retain_stored(&mut kept, &judged.left_out);
    let mut stored = describe_fields(parts.status, &kept, size);
    stored.freshness = judged.freshness;
    if !judged.vary.is_empty() {
        let names: Box<[Box<str>]> = judged.vary.into();
        let values = Vary::select(&names, |name| field(asked, name));
        // What was stored beside the earlier response stays findable if it is chosen by the same fields.
        let earlier = before.as_ref().and_then(|before| before.vary.as_ref()).filter(|vary| vary.names == names);
        let family = earlier.map_or_else(next_family, |vary| vary.family);
        stored.vary = Some(Vary { names, values, family });
    }
    stored
}

fn next_family() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What is known of a stored response when its origin has said with these fields that it is current (RFC 9111, 4.3.4).
pub(super) fn updated(
    shared: &Shared,
    asked: &HeaderMap,
    stored: &Stored,
    fields: HeaderMap,
    delay: Duration,
) -> Stored {
    let mut headers = lines(&stored.fields);
    lines(&stored.content_fields).into_iter().for_each(|(name, value)| {
        if let Some(name) = name {
            headers.append(name, value);
        }
    });
    if let Some(media) = stored.content_type.as_deref().and_then(|media| media.parse().ok()) {
        headers.insert(header::CONTENT_TYPE, media);
    }
    update::update(&mut headers, &fields);
    let (mut parts, ()) = hyper::Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    parts.headers = headers;
    if let Some(age) = fields.get(header::AGE) {
        parts.headers.insert(header::AGE, age.clone());
    }
    let judged = judge(shared, asked, &parts, delay);
    update::retain_stored(&mut parts.headers, judged.as_ref().map_or(&[], |judged| &judged.left_out));
    let freshness = judged.map(|judged| judged.freshness);
    let mut updated = describe_fields(parts.status, &parts.headers, stored.size);
    updated.vary = stored.vary.clone();
    updated.slice = stored.slice;
    // What is not to be stored any more is validated the next time.
    updated.freshness = freshness.unwrap_or(Freshness { reuse: Reuse::Validated, ..stored.freshness });
    updated
}

/// Lines of fields, taken apart.
fn lines(text: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let name = header::HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, header::HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) {
            map.append(name, value);
        }
    }
    map
}

/// What is said of an answer that is passed on, whose body has `size` bytes.
pub(super) fn passing(parts: &Parts, size: u64) -> Stored {
    // It is not stored: only what the origin itself compares counts.
    Stored { sent: None, ..describe_fields(parts.status, &parts.headers, size) }
}

fn describe_fields(status: StatusCode, headers: &HeaderMap, size: u64) -> Stored {
    let (mut fields, mut content_fields) = (Vec::new(), Vec::new());
    for (name, value) in headers {
        let out = match *name {
            header::CONTENT_LENGTH | header::CONTENT_TYPE | header::AGE => continue,
            header::CONTENT_LOCATION => &mut fields,
            _ if name.as_str().starts_with("content-") => &mut content_fields,
            _ => &mut fields,
        };
        write_name(name.as_str(), out);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let now = SystemTime::now();
    if !headers.contains_key(header::DATE) {
        // Whoever receives an answer without one says when that was (RFC 9110, 6.6.1).
        fields.extend_from_slice(format!("Date: {}\r\n", httpdate::fmt_http_date(now)).as_bytes());
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let time = |name| text(name).and_then(|date| httpdate::parse_http_date(date).ok());
    let seconds = |time: SystemTime| i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok();
    let received = monotonic();
    Stored {
        status: status.as_u16(),
        size,
        slice: None,
        etag: headers.get(header::ETAG).map(|etag| etag.as_bytes().into()),
        modified: time(header::LAST_MODIFIED).and_then(seconds),
        sent: seconds(time(header::DATE).unwrap_or(now)),
        fields: fields.into(),
        content_fields: content_fields.into(),
        content_type: text(header::CONTENT_TYPE).map(Into::into),
        freshness: Freshness {
            received,
            initial_age: text(header::AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0),
            lifetime: 0,
            stale_while_revalidate: 0,
            stale_if_error: None,
            reuse: Reuse::Validated,
        },
        vary: None,
    }
}

/// What is kept of a slice: its object is described elsewhere.
pub(super) fn slice(object: &Stored, slice: &Slice) -> Stored {
    Stored::bare(StatusCode::PARTIAL_CONTENT.as_u16(), slice.length(), object.freshness)
}

/// The length that an answer announces.
pub(super) fn announced(parts: &Parts) -> Option<u64> {
    match parts.status {
        StatusCode::NO_CONTENT => Some(0),
        _ => parts.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok(),
    }
}

/// Field names are written as most servers do: some clients compare them as they are.
fn write_name(name: &str, out: &mut Vec<u8>) {
    let mut is_first = true;
    for byte in name.bytes() {
        out.push(if is_first { byte.to_ascii_uppercase() } else { byte });
        is_first = byte == b'-';
    }
}

/// A field of a request, its lines joined.
fn field<'a>(fields: &'a HeaderMap, name: &str) -> Option<Cow<'a, [u8]>> {
    crate::http::request::Fields::Map(fields).get(name)
}
