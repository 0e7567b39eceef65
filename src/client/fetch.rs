//! `fetch`: files from the server into a directory, whole or not at all, resumed where an earlier transfer broke off.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode, body::Incoming};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::name::RemoteName;
use super::partial::{Partial, Version};
use super::report::Report;
use super::{Error, Settings};
use crate::text;

/// Attempts in a row that bring no new byte before a file is given up.
const FRUITLESS_ATTEMPTS_MAX: u32 = 5;
/// How often bytes that came are thrown away before a file is given up: it may well change while it is fetched, but not without end.
const STARTS_OVER_MAX: u32 = 5;
/// The pause before the second attempt; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// One file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its name on the server.
    pub name: RemoteName,
    /// Where it goes, including the file's name.
    pub destination: PathBuf,
}

/// Fetches the files over up to `jobs` connections at a time. Each is reported on its own; one that fails does not stop the others.
pub async fn fetch(settings: Arc<Settings>, orders: Vec<Order>, jobs: usize, report: Arc<Report>) {
    let mut seen = HashSet::new();
    let orders: VecDeque<Order> = orders.into_iter().filter(|order| seen.insert(order.destination.clone())).collect();
    let jobs = jobs.clamp(1, orders.len().max(1));
    let queue = Arc::new(Mutex::new(orders));
    let mut tasks = JoinSet::new();
    for _ in 0..jobs {
        let (settings, queue, report) = (settings.clone(), queue.clone(), report.clone());
        tasks.spawn(async move {
            let mut connection = match Connection::new(settings) {
                Ok(connection) => connection,
                Err(error) => return report.failure(&format!("fetch: {error}")),
            };
            loop {
                let Some(order) = queue.lock().pop_front() else { return };
                match fetch_one(&mut connection, &order, &report).await {
                    Ok(done) => report.line(&done.line(&order)),
                    Err(error) => {
                        report.failure(&format!("fetch: {}: {error}", order.name));
                        if let Error::Connect { .. } = error {
                            // Nobody is there: the rest would fail the same way, one timeout after the other.
                            let rest = std::mem::take(&mut *queue.lock());
                            if !rest.is_empty() {
                                report.failure(&format!("fetch: {} more not tried", rest.len()));
                            }
                        }
                    }
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            report.failure(&format!("fetch: a transfer ended unexpectedly: {error}"));
        }
    }
}

/// How a transfer went.
struct Done {
    bytes: u64,
    resumed_at: u64,
}

impl Done {
    fn line(&self, order: &Order) -> String {
        let mut line = format!("fetched {} ({}", order.name, text::bytes(self.bytes));
        if self.resumed_at > 0 {
            line.push_str(&format!(", resumed at {}", text::bytes(self.resumed_at)));
        }
        line + ")"
    }
}

/// What one answer means for the download.
enum Answer {
    /// The body's bytes follow those so far.
    Body(Body),
    /// The bytes so far are the whole, current file.
    Whole { modified: Option<SystemTime> },
    /// The bytes so far may be all there are: ask whether they are.
    Confirm,
    /// The bytes so far are of no use: ask again without them.
    Again,
}

/// A body to come, with what its head announced.
struct Body {
    response: Response<Incoming>,
    modified: Option<SystemTime>,
    /// Where it ends, counted from the file's first byte.
    end: Option<u64>,
    /// The bytes of the whole file.
    total: Option<u64>,
    /// Whether it is a part, after which there may be more.
    is_part: bool,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The whole file.
    Whole,
    /// What follows the bytes so far.
    Rest,
    /// Whether the bytes so far are the current file; the whole of it if not.
    Confirmation,
}

/// Fetches one file, over as many connections as it takes while each brings some bytes.
async fn fetch_one(connection: &mut Connection, order: &Order, report: &Report) -> Result<Done, Error> {
    let mut partial = Partial::find(&order.destination)?;
    let result = transfer(connection, order, &mut partial, report).await;
    let (modified, resumed_at) = match result {
        Ok(whole) => whole,
        Err(error) => {
            partial.discard_unless_resumable();
            return Err(error);
        }
    };
    let bytes = partial.len();
    tokio::task::spawn_blocking(move || partial.finish(modified))
        .await
        .map_err(|error| Error::Local(format!("writing ended unexpectedly: {error}")))??;
    Ok(Done { bytes, resumed_at })
}

/// Brings the bytes here; returns the file's time and where the bytes of this run begin.
async fn transfer(
    connection: &mut Connection,
    order: &Order,
    partial: &mut Partial,
    report: &Report,
) -> Result<(Option<SystemTime>, u64), Error> {
    let url = format!("http://{}{}", connection.address(), order.name.target());
    let mut resumed_at = partial.len();
    let mut fruitless = 0;
    let mut was_connected = false;
    loop {
        let len_before = partial.len();
        let attempt = attempt(connection, order, &url, partial, &mut resumed_at, report).await;
        let error = match attempt {
            Ok(Some(modified)) => return Ok((modified, resumed_at)),
            Ok(None) => None,
            Err(error) if error.is_transient() => Some(error),
            // A server that was there a moment ago may be starting again.
            Err(error @ Error::Connect { .. }) if was_connected => Some(error),
            Err(error) => return Err(error),
        };
        was_connected = true;
        fruitless = if partial.len() > len_before { 0 } else { fruitless + 1 };
        if partial.discarded() > STARTS_OVER_MAX {
            return Err(Error::Unexpected(format!(
                "it was begun anew {STARTS_OVER_MAX} times, and the server still sends nothing that fits together"
            )));
        }
        if fruitless >= FRUITLESS_ATTEMPTS_MAX {
            let gave_up = || Error::Unexpected("the server sends no further bytes of it".to_owned());
            return Err(error.unwrap_or_else(gave_up));
        }
        if error.is_some() {
            tokio::time::sleep(PAUSE_FIRST * 2u32.pow(fruitless.saturating_sub(1))).await;
        }
    }
}

/// One request and its body. Some(time of the file) when the file is whole then; None when there is more to ask for.
async fn attempt(
    connection: &mut Connection,
    order: &Order,
    url: &str,
    partial: &mut Partial,
    resumed_at: &mut u64,
    report: &Report,
) -> Result<Option<Option<SystemTime>>, Error> {
    let (asked, fields) = request_fields(partial, url);
    let response = connection.get(&order.name.target(), &fields).await?;
    let Body { response, modified, end, total, is_part } =
        match understand(connection, response, asked, url, partial).await? {
            Answer::Whole { modified } => return Ok(Some(modified)),
            Answer::Confirm => return Ok(None),
            Answer::Again => {
                connection.close();
                partial.restart(None)?;
                *resumed_at = 0;
                return Ok(None);
            }
            Answer::Body(body) => body,
        };
    *resumed_at = (*resumed_at).min(partial.len());
    let bar = report.bar(&order.name.to_string(), total);
    bar.set_position(partial.len());
    bar.reset_eta();
    let mut body = response.into_body();
    while let Some(chunk) = connection.chunk(&mut body).await? {
        if end.is_some_and(|end| partial.len() + chunk.len() as u64 > end) {
            connection.close();
            partial.restart(None)?;
            return Err(Error::Unexpected("the server sends more bytes than it announced".to_owned()));
        }
        partial.append(&chunk)?;
        bar.set_position(partial.len());
    }
    bar.finish_and_clear();
    match total {
        Some(total) if partial.len() < total => Ok(None),
        None if is_part => Ok(None),
        _ => Ok(Some(modified)),
    }
}

/// What to ask for, with the fields that ask for it: what continues the bytes so far, if they can be continued.
fn request_fields(partial: &Partial, url: &str) -> (Asked, Vec<(HeaderName, HeaderValue)>) {
    // The bytes are to be stored as they are.
    let identity = (header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let version = partial.version().filter(|version| version.url == url);
    let etag = version.and_then(|version| HeaderValue::from_str(&version.etag).ok());
    let Some((version, etag)) = version.zip(etag) else { return (Asked::Whole, vec![identity]) };
    if version.size == Some(partial.len()) {
        return (Asked::Confirmation, vec![identity, (header::IF_NONE_MATCH, etag)]);
    }
    if partial.is_empty() {
        return (Asked::Whole, vec![identity]);
    }
    let range = HeaderValue::from_str(&format!("bytes={}-", partial.len())).expect("digits");
    (Asked::Rest, vec![identity, (header::RANGE, range), (header::IF_RANGE, etag)])
}

/// Decides what a response means, and readies the partial download for its body.
async fn understand(
    connection: &mut Connection,
    response: Response<Incoming>,
    asked: Asked,
    url: &str,
    partial: &mut Partial,
) -> Result<Answer, Error> {
    let headers = response.headers();
    let modified = text_field(headers, header::LAST_MODIFIED).and_then(|date| httpdate::parse_http_date(date).ok());
    let etag = text_field(headers, header::ETAG).filter(|tag| tag.starts_with('"')).map(str::to_owned);
    match response.status() {
        StatusCode::OK => {
            let size = body_length(&response);
            if size.is_none() && !is_chunked(headers) {
                connection.close();
                return Err(Error::Unexpected("the server did not say how long it is".to_owned()));
            }
            let version = etag.map(|etag| Version { url: url.to_owned(), etag, size });
            partial.restart(version)?;
            Ok(Answer::Body(Body { response, modified, end: size, total: size, is_part: false }))
        }
        StatusCode::PARTIAL_CONTENT if asked == Asked::Rest => {
            let range = text_field(headers, header::CONTENT_RANGE).and_then(ContentRange::parse);
            let Some((version, range)) = partial.version().zip(range) else { return Ok(Answer::Again) };
            let is_next = range.first == partial.len()
                && is_version(etag.as_ref(), version)
                && (version.size.is_none() || range.total.is_none() || version.size == range.total)
                && body_length(&response).is_none_or(|length| length == range.end - range.first);
            if !is_next {
                return Ok(Answer::Again);
            }
            let total = version.size.or(range.total);
            partial.resume()?;
            Ok(Answer::Body(Body { response, modified, end: Some(range.end), total, is_part: true }))
        }
        StatusCode::NOT_MODIFIED if asked == Asked::Confirmation => {
            let is_current = partial.version().is_some_and(|version| is_version(etag.as_ref(), version));
            if !is_current {
                return Ok(Answer::Again);
            }
            partial.resume()?;
            Ok(Answer::Whole { modified })
        }
        StatusCode::RANGE_NOT_SATISFIABLE if asked == Asked::Rest => {
            // After a body without a length, all bytes may be here and only its end be missing.
            let total =
                text_field(headers, header::CONTENT_RANGE).and_then(|field| field.trim().strip_prefix("bytes */"));
            if total.and_then(|total| total.parse().ok()) != Some(partial.len()) {
                return Ok(Answer::Again);
            }
            partial.all_are_here();
            Ok(Answer::Confirm)
        }
        StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED if asked != Asked::Whole => Ok(Answer::Again),
        StatusCode::NOT_MODIFIED => {
            connection.close();
            Err(Error::Unexpected("the server answered 304 to a request without a condition".to_owned()))
        }
        status if status.is_success() => {
            connection.close();
            Err(Error::Unexpected(format!("the server answered {status} to a GET, without the file")))
        }
        _ => Err(connection.refused(response).await),
    }
}

/// Whether an answer is about this version; one that does not say has been asked for it.
fn is_version(etag: Option<&String>, version: &Version) -> bool {
    etag.is_none_or(|etag| *etag == version.etag)
}

/// A `Content-Range: bytes first-last/total` (RFC 9110, section 14.4).
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    /// After the last.
    end: u64,
    /// None: the server does not know.
    total: Option<u64>,
}

impl ContentRange {
    fn parse(field: &str) -> Option<ContentRange> {
        let (unit, rest) = field.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let total = if total == "*" { None } else { Some(total.parse().ok()?) };
        let is_sound = unit.eq_ignore_ascii_case("bytes") && first <= last && total.is_none_or(|total| last < total);
        is_sound.then_some(ContentRange { first, end: last.checked_add(1)?, total })
    }
}

/// The length of a body as its `Content-Length` gives it. hyper holds the body to it.
fn body_length(response: &Response<Incoming>) -> Option<u64> {
    text_field(response.headers(), header::CONTENT_LENGTH)?.parse().ok()
}

fn is_chunked(headers: &HeaderMap) -> bool {
    text_field(headers, header::TRANSFER_ENCODING).is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"))
}

fn text_field(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The orders for names as typed, each beneath `directory`.
pub fn orders(names: &[RemoteName], directory: &Path) -> Vec<Order> {
    names.iter().map(|name| Order { name: name.clone(), destination: directory.join(name.path()) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(ContentRange::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_order_lies_beneath_the_directory() {
        let names = [RemoteName::parse("/a/b").unwrap(), RemoteName::parse("c").unwrap()];
        let paths: Vec<_> = orders(&names, Path::new("out")).into_iter().map(|order| order.destination).collect();
        assert_eq!(paths, [Path::new("out/a/b"), Path::new("out/c")]);
    }
}
