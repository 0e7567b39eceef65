//! Bodies in chunks, and responses: alike however they arrive, and alike to two readers.

use super::stepped;
use super::streams::{Feed, finished};
use crate::http::chunked::{Chunked, Step};
use crate::http::framing::ChunkScan;
use crate::http::reader::{Ending, Event, Reader};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;

/// The reference for the chunked coding, by lines: the content and the length of a whole body at the start of `bytes`.
pub(super) fn decoded(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut content, mut at) = (Vec::new(), 0);
    loop {
        let line = line(&bytes[at..])?;
        at += line.len() + 2;
        let end = line.iter().position(|byte| b"; \t".contains(byte)).unwrap_or(line.len());
        let digits = std::str::from_utf8(&line[..end]).ok()?;
        if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(digits, 16).ok()?;
        if size == 0 {
            break;
        }
        let data = bytes.get(at..)?.get(..size)?;
        content.extend_from_slice(data);
        at += size;
        if bytes.get(at..)?.get(..2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    loop {
        let line = line(&bytes[at..])?;
        at += line.len() + 2;
        if line.is_empty() {
            return Some((content, at));
        }
    }
}

/// Whether a whole body consists of chunks alone, without extensions and trailers.
pub(super) fn is_plain(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(size) = line(rest) {
        let number = std::str::from_utf8(size).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
        rest = &rest[size.len() + 2..];
        match number {
            Some(0) => return rest == b"\r\n",
            Some(number) => rest = rest.get(number + 2..).unwrap_or_default(),
            None => return false,
        }
    }
    false
}

/// The first line, which ends in CRLF and has neither of them in it.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| b"\r\n".contains(byte))?;
    (bytes.get(end..end + 2)? == b"\r\n").then(|| &bytes[..end])
}

/// The content and the length of a whole body, by the decoder.
fn by_decoder(bytes: &[u8], step: usize) -> Option<(Vec<u8>, usize)> {
    let (mut chunked, mut content) = (Chunked::default(), Vec::new());
    for (number, piece) in bytes.chunks(step).enumerate() {
        let mut input = piece;
        loop {
            match chunked.step(&mut input) {
                Step::More => break,
                Step::Data(data) => content.extend_from_slice(data),
                Step::End => return Some((content, number * step + piece.len() - input.len())),
                Step::Malformed => return None,
            }
        }
    }
    // The end is said at the next step.
    let is_over = chunked.step(&mut &[][..]) == Step::End;
    is_over.then_some((content, bytes.len()))
}

/// The length of the content and of the body, by the scanner.
fn by_scanner(bytes: &[u8], step: usize) -> Option<(u64, usize)> {
    let (mut scan, mut belongs, mut content) = (ChunkScan::default(), 0, 0);
    for piece in bytes.chunks(step) {
        let (passed, some) = scan.scan(piece);
        (belongs, content) = (belongs + passed, content + some);
    }
    scan.is_over().then_some((content, belongs))
}

/// A chunked body.
pub fn chunked(bytes: &[u8]) {
    let Some((step, body)) = stepped(bytes) else { return };
    let expected = decoded(body);
    for step in [step, body.len().max(1)] {
        assert_eq!(by_decoder(body, step), expected, "in pieces of {step}");
    }
    let scanned = by_scanner(body, body.len().max(1));
    assert_eq!(by_scanner(body, step), scanned, "in pieces of {step}");
    if let Some((content, len)) = expected {
        assert_eq!(scanned, Some((content.len() as u64, len)));
    }
}

/// What a reader has found: responses by status and body, whether something was malformed, and how it ended.
type Found = (Vec<(u16, Vec<u8>)>, bool, Ending);

fn read(stream: &[u8], step: usize, is_head: bool) -> Found {
    let (mut reader, mut found) = (Reader::new(is_head), Vec::<(u16, Vec<u8>)>::new());
    for piece in stream.chunks(step) {
        let mut input = piece;
        loop {
            let left = reader.body_left();
            match reader.step(&mut input, &mut |_, _| ()) {
                Event::More => break,
                Event::Head(head) => found.push((head.status, Vec::new())),
                Event::Body(bytes) => {
                    assert!(left.is_none_or(|left| bytes.len() as u64 <= left));
                    found.last_mut().expect("a head before a body").1.extend_from_slice(bytes);
                }
                Event::End => {}
                Event::Malformed => return (found, true, reader.finish()),
            }
        }
    }
    // An end may be due that no further byte announces.
    while matches!(reader.step(&mut &[][..], &mut |_, _| ()), Event::End) {}
    let ending = reader.finish();
    (found, false, ending)
}

/// The status and the whole body of the first response, by hyper.
fn by_hyper(stream: &[u8]) -> Option<(u16, Vec<u8>)> {
    finished(async {
        let feed = Feed(VecDeque::from([stream.to_vec()]));
        let (mut sender, connection) = http1::handshake(TokioIo::new(feed)).await.ok()?;
        let request = Request::get("/").body(Empty::<Bytes>::new()).ok()?;
        let exchange = async {
            let response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes().to_vec();
            Some((status, body))
        };
        let (found, _) = tokio::join!(exchange, connection);
        found
    })
}

/// A stream of responses.
pub fn response(bytes: &[u8]) {
    let Some((step, stream)) = stepped(bytes) else { return };
    let is_head = step > 128;
    let found = read(stream, stream.len().max(1), is_head);
    let pieces = read(stream, step, is_head);
    assert_eq!((&pieces.0, pieces.1), (&found.0, found.1), "in pieces of {step}");
    assert!(found.1 || pieces.2 == found.2, "in pieces of {step}: {:?} instead of {:?}", pieces.2, found.2);
    let (responses, is_malformed, ending) = read(stream, stream.len().max(1), false);
    let is_whole = responses.len() > 1 || (responses.len() == 1 && !is_malformed && ending != Ending::InBody);
    if let (true, Some(first)) = (is_whole, responses.first()) {
        let Some(theirs) = by_hyper(stream) else { return };
        assert_eq!(*first, theirs, "to hyper");
    }
}
