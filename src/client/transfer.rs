//! The way of one file from the server: requests, what their answers mean, and the bytes into a [`Sink`], resumed where
//! they broke off.

use std::time::{Duration, SystemTime};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode, body::Incoming};

use super::Error;
use super::connection::Connection;
use super::kept::{Kept, Version};
use super::name::RemoteName;
use super::report::Report;
use super::sink::Sink;
use crate::http::range::ContentRange;

/// Attempts in a row that bring no new byte before a file is given up.
const FRUITLESS_ATTEMPTS_MAX: u32 = 5;
/// How often bytes that came are thrown away before a file is given up: it may well change while it is fetched, but not
/// without end.
const STARTS_OVER_MAX: u32 = 5;
/// The pause before the second attempt; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// How a transfer ended.
pub enum Outcome {
    /// The sink has the whole file.
    Whole { modified: Option<SystemTime>, resumed_at: u64 },
    /// The file that is here already is what the server has.
    Same,
}

/// What one answer means for the download.
enum Answer {
    /// The body's bytes follow those so far.
    Body(Body),
    /// The bytes so far are the whole, current file.
    Whole { modified: Option<SystemTime> },
    /// The file that is here already is the current one.
    Same,
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
    /// The whole file, if it is not what is here already.
    Change,
}

/// Where a file is on the server.
pub fn url(connection: &Connection, name: &RemoteName) -> String {
    format!("http://{}{}", connection.address(), name.target())
}

/// Brings a file's bytes here, over as many connections as it takes while each brings some, unless it is what is `kept`
/// here already.
pub async fn transfer(
    connection: &mut Connection,
    name: &RemoteName,
    mut kept: Option<Kept>,
    sink: &mut dyn Sink,
    report: &Report,
) -> Result<Outcome, Error> {
    let url = url(connection, name);
    let mut resumed_at = sink.len();
    let mut fruitless = 0;
    let mut was_connected = false;
    loop {
        let len_before = sink.len();
        let attempt = attempt(connection, name, &url, &mut kept, sink, &mut resumed_at, report).await;
        let error = match attempt {
            Ok(Progress::Whole { modified }) => return Ok(Outcome::Whole { modified, resumed_at }),
            Ok(Progress::Same) => return Ok(Outcome::Same),
            Ok(Progress::More) => None,
            Err(error) if error.is_transient() => Some(error),
            // A server that was there a moment ago may be starting again.
            Err(error @ Error::Connect { .. }) if was_connected => Some(error),
            Err(error) => return Err(error),
        };
        was_connected = true;
        fruitless = if sink.len() > len_before { 0 } else { fruitless + 1 };
        if sink.discarded() > STARTS_OVER_MAX {
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

/// How far one request has brought a file.
enum Progress {
    Whole { modified: Option<SystemTime> },
    Same,
    More,
}

/// One request and its body.
async fn attempt(
    connection: &mut Connection,
    name: &RemoteName,
    url: &str,
    kept: &mut Option<Kept>,
    sink: &mut dyn Sink,
    resumed_at: &mut u64,
    report: &Report,
) -> Result<Progress, Error> {
    let (asked, fields) = request_fields(sink, url, kept.as_ref());
    let response = connection.get(&name.target(), &fields).await?;
    let Body { response, modified, end, total, is_part } =
        match understand(connection, response, asked, url, kept.as_ref(), sink).await? {
            Answer::Whole { modified } => return Ok(Progress::Whole { modified }),
            Answer::Same => return Ok(Progress::Same),
            Answer::Confirm => return Ok(Progress::More),
            Answer::Again => {
                connection.close();
                sink.restart(None)?;
                *kept = None;
                *resumed_at = 0;
                return Ok(Progress::More);
            }
            Answer::Body(body) => body,
        };
    *resumed_at = (*resumed_at).min(sink.len());
    let bar = report.bar(&name.to_string(), total);
    bar.set_position(sink.len());
    bar.reset_eta();
    let mut body = response.into_body();
    while let Some(chunk) = connection.chunk(&mut body).await? {
        if end.is_some_and(|end| sink.len() + chunk.len() as u64 > end) {
            connection.close();
            sink.restart(None)?;
            return Err(Error::Unexpected("the server sends more bytes than it announced".to_owned()));
        }
        sink.append(&chunk)?;
        bar.set_position(sink.len());
    }
    bar.finish_and_clear();
    match total {
        Some(total) if sink.len() < total => Ok(Progress::More),
        None if is_part => Ok(Progress::More),
        _ => Ok(Progress::Whole { modified }),
    }
}

/// What to ask for, with the fields that ask for it: what continues the bytes so far, if they can be continued.
fn request_fields(sink: &dyn Sink, url: &str, kept: Option<&Kept>) -> (Asked, Vec<(HeaderName, HeaderValue)>) {
    // The bytes are to be stored as they are.
    let identity = (header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let version = sink.version().filter(|version| version.url == url);
    let etag = version.and_then(|version| HeaderValue::from_str(&version.etag).ok());
    let Some((version, etag)) = version.zip(etag) else {
        return match kept.and_then(Kept::etag) {
            Some(etag) => (Asked::Change, vec![identity, (header::IF_NONE_MATCH, etag.clone())]),
            None => (Asked::Whole, vec![identity]),
        };
    };
    if version.size == Some(sink.len()) {
        return (Asked::Confirmation, vec![identity, (header::IF_NONE_MATCH, etag)]);
    }
    if sink.is_empty() {
        return (Asked::Whole, vec![identity]);
    }
    let range = HeaderValue::from_str(&format!("bytes={}-", sink.len())).expect("digits");
    (Asked::Rest, vec![identity, (header::RANGE, range), (header::IF_RANGE, etag)])
}

/// Decides what a response means, and readies the partial download for its body.
async fn understand(
    connection: &mut Connection,
    response: Response<Incoming>,
    asked: Asked,
    url: &str,
    kept: Option<&Kept>,
    sink: &mut dyn Sink,
) -> Result<Answer, Error> {
    let headers = response.headers();
    let (modified, etag) = (modified(headers), etag(headers));
    match response.status() {
        StatusCode::OK => whole(connection, response, url, kept, sink),
        StatusCode::PARTIAL_CONTENT if asked == Asked::Rest => {
            let range = text_field(headers, header::CONTENT_RANGE).and_then(ContentRange::parse);
            let Some((version, range)) = sink.version().zip(range) else { return Ok(Answer::Again) };
            let is_next = range.first == sink.len()
                && is_version(etag.as_ref(), version)
                && (version.size.is_none() || range.total.is_none() || version.size == range.total)
                && body_length(&response).is_none_or(|length| length == range.end - range.first);
            if !is_next {
                return Ok(Answer::Again);
            }
            let total = version.size.or(range.total);
            sink.resume()?;
            Ok(Answer::Body(Body { response, modified, end: Some(range.end), total, is_part: true }))
        }
        StatusCode::NOT_MODIFIED if asked == Asked::Confirmation => {
            let is_current = sink.version().is_some_and(|version| is_version(etag.as_ref(), version));
            if !is_current {
                return Ok(Answer::Again);
            }
            sink.resume()?;
            Ok(Answer::Whole { modified })
        }
        StatusCode::NOT_MODIFIED if asked == Asked::Change => {
            let is_kept = etag.is_none_or(|etag| kept.and_then(Kept::etag).is_some_and(|kept| *kept == etag));
            Ok(if is_kept { Answer::Same } else { Answer::Again })
        }
        StatusCode::RANGE_NOT_SATISFIABLE if asked == Asked::Rest => {
            // After a body without a length, all bytes may be here and only its end be missing.
            let total =
                text_field(headers, header::CONTENT_RANGE).and_then(|field| field.trim().strip_prefix("bytes */"));
            if total.and_then(|total| total.parse().ok()) != Some(sink.len()) {
                return Ok(Answer::Again);
            }
            sink.all_are_here();
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
        status if status.is_redirection() && is_to_directory(headers, url) => {
            connection.close();
            Err(Error::Unexpected("it is a directory; add --recursive to fetch all that is in it".to_owned()))
        }
        _ => Err(connection.refused(response).await),
    }
}

/// Understands a 200: the whole file is to come, unless it is what is here already.
fn whole(
    connection: &mut Connection,
    response: Response<Incoming>,
    url: &str,
    kept: Option<&Kept>,
    sink: &mut dyn Sink,
) -> Result<Answer, Error> {
    let headers = response.headers();
    let (modified, etag) = (modified(headers), etag(headers));
    let size = body_length(&response);
    if size.is_none() && !is_chunked(headers) {
        connection.close();
        return Err(Error::Unexpected("the server did not say how long it is".to_owned()));
    }
    if sink.is_empty() && kept.is_some_and(|kept| kept.is_like(size, modified)) {
        connection.close();
        return Ok(Answer::Same);
    }
    let version = etag.map(|etag| Version { url: url.to_owned(), etag, size });
    sink.restart(version)?;
    Ok(Answer::Body(Body { response, modified, end: size, total: size, is_part: false }))
}

/// The time of an answer's file.
fn modified(headers: &HeaderMap) -> Option<SystemTime> {
    text_field(headers, header::LAST_MODIFIED).and_then(|date| httpdate::parse_http_date(date).ok())
}

/// The strong entity tag of an answer's file.
fn etag(headers: &HeaderMap) -> Option<String> {
    text_field(headers, header::ETAG).filter(|tag| tag.starts_with('"')).map(str::to_owned)
}

/// Whether a redirect only adds the slash that makes a name a directory's.
fn is_to_directory(headers: &HeaderMap, url: &str) -> bool {
    let to = text_field(headers, header::LOCATION).and_then(|to| to.strip_suffix('/'));
    to.is_some_and(|to| to.starts_with('/') && url.strip_suffix(to).is_some_and(|host| !host.ends_with('/')))
}

/// Whether an answer is about this version; one that does not say has been asked for it.
fn is_version(etag: Option<&String>, version: &Version) -> bool {
    etag.is_none_or(|etag| *etag == version.etag)
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
