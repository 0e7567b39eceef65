//! GET and HEAD.
//!
//! Stores that were met in the field have ignored conditions. So each is asked of the store, which saves its bytes, and
//! compared once more with what the store answers, which is what counts.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use futures_core::Stream;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use object_store::path::Path;
use object_store::{Attribute, Attributes, Error, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta};

use super::super::{Answer, Fault};
use super::answer::{CONDITION_FAILED, bare, of_error, text};
use super::transport::{Operation, fault_in};
use super::{Kind, Store};
use crate::http::conditional::{Comparison, names, seconds};
use crate::http::media;

/// What S3 says of an object that was stored without a type.
const NO_TYPE: &str = "binary/octet-stream";

/// A coding of uploads that some stores keep as if it were the object's.
const UPLOAD_CODING: &str = "aws-chunked";

/// The fields that an object carries.
const CARRIED: &[(Attribute, HeaderName)] = &[
    (Attribute::ContentDisposition, header::CONTENT_DISPOSITION),
    (Attribute::ContentLanguage, header::CONTENT_LANGUAGE),
    (Attribute::CacheControl, header::CACHE_CONTROL),
];

/// The conditions of a request, as it has them.
#[derive(Debug, Default)]
struct Wanted<'a> {
    if_match: Option<&'a str>,
    if_none_match: Option<&'a str>,
    if_modified_since: Option<&'a str>,
    if_unmodified_since: Option<&'a str>,
    if_range: Option<&'a str>,
    range: Option<GetRange>,
}

impl<'a> Wanted<'a> {
    fn of(head: &'a Parts) -> Wanted<'a> {
        let field = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
        let range = (head.method == Method::GET).then(|| field(header::RANGE)).flatten();
        Wanted {
            if_match: field(header::IF_MATCH),
            if_none_match: field(header::IF_NONE_MATCH),
            if_modified_since: field(header::IF_MODIFIED_SINCE),
            if_unmodified_since: field(header::IF_UNMODIFIED_SINCE),
            if_range: field(header::IF_RANGE),
            range: range.and_then(range_of),
        }
    }

    /// What the store is asked. A condition on a date counts only where there is none on a tag.
    fn options(&self) -> GetOptions {
        // Azure refuses `*`, which is decided by what it answers.
        let tags = |tags: Option<&str>| tags.filter(|tags| tags.trim() != "*").map(str::to_owned);
        let time = |date: Option<&str>| date.and_then(|date| httpdate::parse_http_date(date).ok());
        GetOptions {
            if_match: tags(self.if_match),
            if_none_match: tags(self.if_none_match),
            if_modified_since: time(self.if_modified_since).filter(|_| self.if_none_match.is_none()).map(Into::into),
            if_unmodified_since: time(self.if_unmodified_since).filter(|_| self.if_match.is_none()).map(Into::into),
            range: self.range.clone(),
            ..GetOptions::default()
        }
    }

    /// What becomes of an answer of 200 or 206 that describes `object`: 412 or 304 where the store should have said so.
    fn verdict(&self, object: &Described) -> Option<StatusCode> {
        let tag = object.tag.as_ref().map(HeaderValue::as_bytes);
        let modified = object.modified_seconds();
        let matches = match (self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => tag.is_some_and(|tag| names(tags.as_bytes(), tag, Comparison::Strong)),
            (None, Some(date)) => seconds(date.as_bytes()).is_none_or(|since| modified <= since),
            (None, None) => true,
        };
        if !matches {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
        let is_known = match (self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => tag.is_some_and(|tag| names(tags.as_bytes(), tag, Comparison::Weak)),
            (None, Some(date)) => seconds(date.as_bytes()).is_some_and(|since| modified <= since),
            (None, None) => false,
        };
        is_known.then_some(StatusCode::NOT_MODIFIED)
    }

    /// Azure does not say which version has not been modified. If one was asked about, it is that.
    fn name_version(&self, answer: &mut Answer) {
        let tags = self.if_none_match.map_or("", str::trim);
        if !answer.headers().contains_key(header::ETAG)
            && tags != "*"
            && let Some(tag) = entity_tag(tags.strip_prefix("W/").unwrap_or(tags))
        {
            answer.headers_mut().insert(header::ETAG, tag);
        }
    }

    /// Whether a part of the object is of use to who asks (RFC 9110, 13.1.5).
    fn range_applies(&self, object: &Described) -> bool {
        let tag = object.tag.as_ref().map(HeaderValue::as_bytes);
        match self.if_range.map(str::trim) {
            None => true,
            Some(value) if value.starts_with('"') => {
                tag.is_some_and(|tag| names(value.as_bytes(), tag, Comparison::Strong))
            }
            Some(value) if value.starts_with("W/") => false,
            Some(date) => seconds(date.as_bytes()) == Some(object.modified_seconds()),
        }
    }
}

/// One range of bytes; several are answered with the whole, as RFC 9110 (14.2) allows.
fn range_of(field: &str) -> Option<GetRange> {
    let (unit, range) = field.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    unit.trim().eq_ignore_ascii_case("bytes").then_some(())?;
    match (first, last) {
        ("", last) => Some(GetRange::Suffix(number(last)?)),
        (first, "") => Some(GetRange::Offset(number(first)?)),
        (first, last) => {
            let (first, end) = (number(first)?, number(last)?.checked_add(1)?);
            (first < end).then_some(GetRange::Bounded(first..end))
        }
    }
}

/// What a store says of an object, in fields.
struct Described {
    tag: Option<HeaderValue>,
    modified: SystemTime,
    fields: HeaderMap,
}

impl Described {
    fn of(meta: &ObjectMeta, attributes: &Attributes) -> Described {
        let mut fields = HeaderMap::new();
        let tag = meta.e_tag.as_deref().and_then(entity_tag);
        let modified = SystemTime::from(meta.last_modified);
        if let Some(tag) = &tag {
            fields.insert(header::ETAG, tag.clone());
        }
        if modified > SystemTime::UNIX_EPOCH {
            let date = httpdate::fmt_http_date(modified);
            fields.extend(HeaderValue::try_from(date).ok().map(|date| (header::LAST_MODIFIED, date)));
        }
        fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let said = |attribute: &Attribute| attributes.get(attribute).map(|value| value.as_ref().trim());
        let content_type = match said(&Attribute::ContentType).filter(|said| !said.is_empty() && *said != NO_TYPE) {
            Some(content_type) => content_type.to_owned(),
            None => media::of(meta.location.as_ref().as_bytes()).content_type(b""),
        };
        let coding = said(&Attribute::ContentEncoding).map(object_coding).filter(|coding| !coding.is_empty());
        let carried = CARRIED.iter().map(|(attribute, name)| (name, said(attribute).map(str::to_owned)));
        let all = carried.chain([(&header::CONTENT_TYPE, Some(content_type)), (&header::CONTENT_ENCODING, coding)]);
        for (name, value) in all {
            if let Some(value) = value.filter(|value| !value.is_empty())
                && let Ok(value) = HeaderValue::try_from(value)
            {
                fields.insert(name, value);
            }
        }
        Described { tag, modified, fields }
    }

    fn modified_seconds(&self) -> i64 {
        let since = self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }
}

/// A store's tag as HTTP has it. Some stores leave out the quotes.
pub(super) fn entity_tag(tag: &str) -> Option<HeaderValue> {
    let opaque = tag.strip_prefix("W/").unwrap_or(tag);
    let quoted = opaque.strip_prefix('"').and_then(|opaque| opaque.strip_suffix('"'));
    match quoted {
        Some(inner) if inner.contains('"') => None,
        Some(_) => HeaderValue::from_str(tag).ok(),
        None if opaque.is_empty() || opaque.contains('"') => None,
        None => HeaderValue::try_from(format!("\"{opaque}\"")).ok(),
    }
}

/// The codings of an object without that of its upload.
fn object_coding(codings: &str) -> String {
    let codings = codings.split(',').map(str::trim).filter(|coding| !coding.eq_ignore_ascii_case(UPLOAD_CODING));
    codings.collect::<Vec<_>>().join(", ")
}

impl Store {
    pub(super) async fn read(&self, head: &Parts) -> Result<Answer, Fault> {
        let Some(key) = self.key(head) else { return Ok(text(StatusCode::NOT_FOUND, "no object can have this name")) };
        let wanted = Wanted::of(head);
        let mut options = GetOptions { head: head.method == Method::HEAD, ..wanted.options() };
        // Azure does not serve the last bytes to those who do not know how many there are.
        if let Some(GetRange::Suffix(length)) = options.range
            && self.kind == Kind::Azure
        {
            match self.look(&key).await? {
                Ok(object) => options.range = Some(GetRange::Offset(object.size.saturating_sub(length))),
                Err(answer) => return Ok(answer),
            }
        }
        let (operation, result) = self.get(&key, options.clone()).await;
        let heard = operation.heard().map(|heard| heard.status);
        match result {
            Ok(result) => {
                let object = Described::of(&result.meta, &result.attributes);
                let verdict = wanted.verdict(&object);
                if verdict.is_some() || options.range.is_none() || wanted.range_applies(&object) {
                    return Ok(answered(result, object, Part::of(&options), verdict));
                }
            }
            Err(error @ Error::NotModified { .. }) => {
                let mut answer = of_error(&error, &operation)?;
                wanted.name_version(&mut answer);
                return Ok(answer);
            }
            Err(error @ Error::NotFound { .. }) => {
                let answer = of_error(&error, &operation)?;
                let is_directory = answer.status() == StatusCode::NOT_FOUND && self.has_beneath(&key).await;
                return Ok(if is_directory { to_directory(head.uri.path()) } else { answer });
            }
            Err(error) if options.range.is_none() || fault_in(&error).is_some() || !may_be_outside(heard) => {
                return of_error(&error, &operation);
            }
            // The store knows no ranges: all of it is an answer, too.
            Err(_) if heard == Some(StatusCode::OK) => {}
            // Outside of the object, perhaps; azurite answers that with an odd part.
            Err(error) => match self.look(&key).await? {
                // An object without bytes has none that could be left out.
                Ok(object) if object.size == 0 => {}
                Ok(object) if options.range.as_ref().is_some_and(|range| range.as_range(object.size).is_err()) => {
                    return Ok(unsatisfiable(object.size));
                }
                Ok(_) => return of_error(&error, &operation),
                Err(answer) => return Ok(answer),
            },
        }
        let (operation, result) = self.get(&key, GetOptions { range: None, ..options }).await;
        match result {
            Ok(result) => {
                let object = Described::of(&result.meta, &result.attributes);
                let verdict = wanted.verdict(&object);
                Ok(answered(result, object, Part::Whole, verdict))
            }
            Err(error) => of_error(&error, &operation),
        }
    }

    /// Asks for what is known of an object. The inner error is an answer instead.
    pub(super) async fn look(&self, key: &Path) -> Result<Result<ObjectMeta, Answer>, Fault> {
        let (operation, result) = self.get(key, GetOptions { head: true, ..GetOptions::default() }).await;
        match result {
            Ok(result) => Ok(Ok(result.meta)),
            Err(error) => of_error(&error, &operation).map(Err),
        }
    }

    async fn get(&self, key: &Path, options: GetOptions) -> (Operation, object_store::Result<GetResult>) {
        let operation = Operation::for_object();
        let result = operation.scope(self.objects.get_opts(key, options)).await;
        (operation, result)
    }
}

/// Whether the range of a request that failed with this status may lie outside of the object, or not be known to the
/// store.
fn may_be_outside(heard: Option<StatusCode>) -> bool {
    matches!(heard, Some(StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE))
}

/// How much of an object was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Whole,
    Range,
}

impl Part {
    fn of(options: &GetOptions) -> Part {
        match (options.head, &options.range) {
            (true, _) => Part::Head,
            (false, None) => Part::Whole,
            (false, Some(_)) => Part::Range,
        }
    }
}

/// The answer to a read that the store answered with an object.
fn answered(result: GetResult, object: Described, part: Part, verdict: Option<StatusCode>) -> Answer {
    if let Some(status @ StatusCode::PRECONDITION_FAILED) = verdict {
        return text(status, CONDITION_FAILED);
    }
    let (size, range) = (result.meta.size, result.range);
    let GetResultPayload::Stream(bytes) = result.payload;
    let mut answer =
        bare(verdict.unwrap_or(if part == Part::Range { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK }));
    *answer.headers_mut() = object.fields;
    if verdict.is_some() {
        return answer;
    }
    let length = range.end - range.start;
    let fields = answer.headers_mut();
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if part == Part::Range {
        let place = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
        fields.extend(HeaderValue::try_from(place).ok().map(|place| (header::CONTENT_RANGE, place)));
    }
    if part != Part::Head {
        *answer.body_mut() = Streamed { bytes, left: length }.boxed_unsync();
    }
    answer
}

/// The name is that of a directory, and lacks the slash at its end. Not stored: an object of the name is served once
/// there is one.
fn to_directory(path: &str) -> Answer {
    let mut answer = text(StatusCode::PERMANENT_REDIRECT, "this is a directory; its name ends with a slash");
    answer.headers_mut().extend(HeaderValue::try_from(format!("{path}/")).ok().map(|path| (header::LOCATION, path)));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// 416, with the length that ranges must lie in.
fn unsatisfiable(size: u64) -> Answer {
    let mut answer = bare(StatusCode::RANGE_NOT_SATISFIABLE);
    let range = HeaderValue::try_from(format!("bytes */{size}"));
    answer.headers_mut().extend(range.ok().map(|range| (header::CONTENT_RANGE, range)));
    answer
}

/// Bytes of an object: as many as its answer promises, or an error.
struct Streamed<S: ?Sized> {
    bytes: Pin<Box<S>>,
    left: u64,
}

impl<S: Stream<Item = object_store::Result<Bytes>> + ?Sized> Body for Streamed<S> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let frame = match ready!(self.bytes.as_mut().poll_next(context)) {
            Some(Ok(bytes)) if bytes.len() as u64 <= self.left => {
                self.left -= bytes.len() as u64;
                Some(Ok(Frame::data(bytes)))
            }
            Some(Ok(_)) => Some(Err(Fault::Broken("it is longer than it was said to be".to_owned()))),
            Some(Err(error)) => Some(Err(fault_in(&error).unwrap_or_else(|| Fault::Broken(error.to_string())))),
            None if self.left > 0 => Some(Err(Fault::Broken(format!("{} bytes are missing at its end", self.left)))),
            None => None,
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
