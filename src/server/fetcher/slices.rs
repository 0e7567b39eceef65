//! Objects that are too large to be cached as a whole: what describes them is stored by itself, and their slices as
//! they are asked for.
//!
//! A request that has a range, for something of which nothing is known, asks the origin for the slice in which the
//! range begins: that tells how large the object is, and moves no more of it. Each further slice is asked for on the
//! condition that the object still is the version that was described, and the version of every answer is compared once
//! more, since origins have ignored conditions.

use super::describe::announced;
use super::queue::Part;
use crate::http::range::ContentRange;
use crate::origin::remote::{Answer, Body, RemoteOptions};
use crate::version::slices::Slice;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::http::response::Parts;
use hyper::{HeaderMap, StatusCode, header};
use std::ops::Range;

/// What the answer to a request for a slice is of use for.
pub(super) enum Slicing {
    /// It is an answer as any other, about all of the object.
    Whole(Answer),
    /// The object is to be stored in slices, and this is one of them; the answer describes all of it.
    Slice(Answer, Slice),
    /// It has to be asked for as a whole.
    AskAgain,
}

/// The part of an object that an answer has, by its Content-Range: which, and the size of all.
fn content_range(parts: &Parts) -> Option<(Range<u64>, u64)> {
    let value = parts.headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let ContentRange { first, end, total } = ContentRange::parse(value)?;
    Some((first..end, total?))
}

/// Whether the version of an object can be told from others by what an answer says.
fn has_strong_tag(headers: &HeaderMap) -> bool {
    headers.get(header::ETAG).is_some_and(|tag| tag.as_bytes().starts_with(b"\""))
}

impl Slicing {
    /// What becomes of the answer to a request for the slice `asked` of something of which nothing was known.
    pub fn of(answer: Answer, asked: &Range<u64>, options: &RemoteOptions) -> Slicing {
        let (mut parts, body) = answer.into_parts();
        if parts.status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Slicing::AskAgain;
        }
        if parts.status != StatusCode::PARTIAL_CONTENT {
            return Slicing::Whole(Answer::from_parts(parts, body));
        }
        let Some((range, size)) = content_range(&parts) else { return Slicing::AskAgain };
        if range.start != asked.start || range.end != asked.end.min(size) {
            return Slicing::AskAgain;
        }
        let is_sliced = size > options.whole_max && has_strong_tag(&parts.headers);
        // From here on it is the answer to a request for the whole.
        parts.status = StatusCode::OK;
        parts.headers.remove(header::CONTENT_RANGE);
        parts.headers.insert(header::CONTENT_LENGTH, size.into());
        let is_whole = range == (0..size);
        let answer = Answer::from_parts(parts, body);
        match (is_sliced, is_whole) {
            (true, _) => Slicing::Slice(answer, Slice::at(range.start, options.slice, size)),
            (false, true) => Slicing::Whole(answer),
            (false, false) => Slicing::AskAgain,
        }
    }
}

/// The first slice of an object, if its answer, whose body is all of it, is to be stored in slices.
pub(super) fn first_slice(parts: &Parts, size: u64, options: &RemoteOptions) -> Option<Slice> {
    let has_ranges = parts.headers.get(header::ACCEPT_RANGES).is_some_and(|ranges| {
        ranges.as_bytes().split(|&byte| byte == b',').any(|unit| unit.trim_ascii().eq_ignore_ascii_case(b"bytes"))
    });
    let is_sliced =
        parts.status == StatusCode::OK && size > options.whole_max && has_ranges && has_strong_tag(&parts.headers);
    is_sliced.then(|| Slice::at(0, options.slice, size))
}

/// A body without its first bytes.
pub(super) fn skipping(body: Body, mut before: u64) -> Body {
    let skip = move |frame: Frame<Bytes>| match frame.into_data() {
        Ok(mut piece) => {
            let skipped = piece.len().min(usize::try_from(before).unwrap_or(usize::MAX));
            before -= skipped as u64;
            Frame::data(piece.split_off(skipped))
        }
        Err(frame) => frame,
    };
    body.map_frame(skip).boxed_unsync()
}

impl Part {
    /// How many bytes come before the slice in the body of an answer; `None` if that is of another version of the
    /// object.
    pub fn is_answered_by(&self, parts: &Parts) -> Option<u64> {
        let tag = parts.headers.get(header::ETAG)?;
        let is_same = self.stored.etag.as_deref() == Some(tag.as_bytes());
        match parts.status {
            StatusCode::PARTIAL_CONTENT if is_same => {
                let (range, size) = content_range(parts)?;
                (range == self.slice.range && size == self.stored.size).then_some(0)
            }
            // The origin ignores ranges, after all.
            StatusCode::OK if is_same && announced(parts) == Some(self.stored.size) => Some(self.slice.range.start),
            _ => None,
        }
    }
}
