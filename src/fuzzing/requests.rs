//! A stream of requests: both planes cut it alike, however it arrives, and hyper reads what it is given as it was cut.

use super::bodies::{decoded, is_plain};
use super::stepped;
use super::streams::{Feed, finished};
use crate::http::framing::Framing;
use crate::http::host::{self, Authority};
use crate::http::request::{self, HeadLimits, Parsed};
use crate::http::response::Problem;
use crate::http::target::{Malformed, Target};
use crate::server::control::inbound::{HEAD_GROWTH, Inbound};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;

const LIMITS: HeadLimits = HeadLimits { bytes: 512, fields: 16 };

/// A part of a stream of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Head(Vec<u8>),
    /// Bytes of a body, which may have no end yet.
    Body(Vec<u8>),
    /// The status of a refusal, after which nothing is read.
    Refused(u16),
}

/// What a stream is to the data plane's parser, with bodies ended by the reference for the chunked coding. A body that
/// is not in that coding to the letter is the last part, and `false` says so.
fn cut(stream: &[u8]) -> (Vec<Part>, bool) {
    let (mut parts, mut rest) = (Vec::new(), stream);
    loop {
        while let [b'\r' | b'\n', after @ ..] = rest {
            rest = after;
        }
        let request = match request::parse(rest, LIMITS) {
            Parsed::Partial => return (parts, true),
            Parsed::Bad(why) => {
                parts.push(Part::Refused(Problem::of_bad_request(why, LIMITS.bytes, LIMITS.fields).status));
                return (parts, true);
            }
            Parsed::Whole(request) => request,
        };
        parts.push(Part::Head(request.head.to_vec()));
        rest = &rest[request.len..];
        let body = match request.framing {
            Framing::None => 0,
            Framing::Length(length) => rest.len().min(usize::try_from(length).unwrap_or(usize::MAX)),
            Framing::Chunked => match decoded(rest) {
                Some((_, len)) => len,
                None => {
                    parts.push(Part::Body(rest.to_vec()));
                    return (parts, false);
                }
            },
        };
        if body > 0 {
            parts.push(Part::Body(rest[..body].to_vec()));
        }
        rest = &rest[body..];
    }
}

/// What the control plane passes on of a stream that arrives in pieces of `step`.
fn passed(stream: &[u8], step: usize) -> Vec<Part> {
    let mut inbound = Inbound::new(LIMITS, Vec::new());
    let mut parts = Vec::new();
    for piece in stream.chunks(step) {
        match inbound.body_room() {
            Some(room) => {
                let belongs = inbound.received_body(piece);
                assert!(belongs <= room, "more than there was room for");
                add(&mut parts, &piece[..belongs]);
            }
            None => inbound.receive(piece),
        }
        loop {
            if let Some(piece) = inbound.take_body(step) {
                add(&mut parts, &piece);
            } else if let Some((head, refused)) = inbound.next_head() {
                parts.push(match refused {
                    Some(problem) => Part::Refused(problem.status),
                    None => Part::Head(head.to_vec()),
                });
            } else {
                break;
            }
        }
        if inbound.is_over() {
            break;
        }
    }
    parts
}

fn add(parts: &mut Vec<Part>, bytes: &[u8]) {
    match parts.last_mut() {
        Some(Part::Body(body)) => body.extend_from_slice(bytes),
        _ if bytes.is_empty() => {}
        _ => parts.push(Part::Body(bytes.to_vec())),
    }
}

/// A request stream.
pub fn requests(bytes: &[u8]) {
    let Some((step, stream)) = stepped(bytes) else { return };
    let parts = passed(stream, stream.len().max(1));
    assert_eq!(parts, passed(stream, step), "in pieces of {step}");
    let (expected, is_exact) = cut(stream);
    for (at, own) in parts.iter().enumerate() {
        let is_last = at + 1 == expected.len();
        match (&expected[at], own) {
            (Part::Head(sent), Part::Head(passed)) => assert_same_head(sent, passed),
            (Part::Head(sent), Part::Refused(414)) => assert!(sent.len() * 3 > HEAD_GROWTH * LIMITS.bytes),
            (Part::Head(sent), Part::Refused(400)) => assert!(is_no_url(sent), "a target that is refused later"),
            (Part::Body(_), Part::Body(_)) if is_last && !is_exact => break,
            (expected, own) => assert_eq!(expected, own, "part {at}"),
        }
        if matches!(own, Part::Refused(_)) {
            assert_eq!(parts.len(), at + 1, "after a refusal");
        }
    }
    let is_refused = matches!(parts.last(), Some(Part::Refused(_)));
    assert!(!is_exact || is_refused || parts.len() == expected.len(), "{parts:?} instead of {expected:?}");
    assert_hyper_agrees(&parts);
}

/// Whether the target of a head is neither a path nor an URL of a host.
fn is_no_url(head: &[u8]) -> bool {
    let Parsed::Whole(request) = request::parse(head, LIMITS) else { return false };
    let is_host = host::effective(request.target, None).is_none_or(|host| Authority::parse(host).is_some());
    Target::parse(request.target) == Err(Malformed::Form) || !is_host
}

/// A head for hyper says the same as the one that was sent.
fn assert_same_head(sent: &[u8], passed: &[u8]) {
    let longer = HeadLimits { bytes: HEAD_GROWTH * LIMITS.bytes + 1, ..LIMITS };
    let (Parsed::Whole(sent), Parsed::Whole(passed)) = (request::parse(sent, LIMITS), request::parse(passed, longer))
    else {
        panic!("a head that was passed on is none");
    };
    assert_eq!((sent.method, sent.is_11, sent.keep_alive), (passed.method, passed.is_11, passed.keep_alive));
    assert_eq!((sent.framing, sent.host, sent.authorization), (passed.framing, passed.host, passed.authorization));
    assert_eq!(sent.conditions.range, passed.conditions.range);
    assert_eq!(Target::parse(sent.target), Target::parse(passed.target));
    assert_eq!(passed.len, passed.head.len());
}

/// What a server made of a request: its body, if it was whole.
type Served = (String, Option<Vec<u8>>);

/// hyper finds the same requests in what is passed on, with the same bodies. It may see fewer of them: what is
/// malformed ends its connection, and so does what it does not keep alive.
fn assert_hyper_agrees(parts: &[Part]) {
    let (mut expected, mut feed): (Vec<(bool, Served)>, VecDeque<Vec<u8>>) = (Vec::new(), VecDeque::new());
    for part in parts {
        match part {
            Part::Head(head) => {
                let longer = HeadLimits { bytes: HEAD_GROWTH * LIMITS.bytes + 1, ..LIMITS };
                let Parsed::Whole(request) = request::parse(head, longer) else { panic!("a head that is none") };
                let method = head.split(|&byte| byte == b' ').next().unwrap_or_default();
                // A tunnel is none of what follows.
                let goes_on = request.keep_alive && method != b"CONNECT";
                let body = matches!(request.framing, Framing::None | Framing::Length(0)).then(Vec::new);
                expected.push((goes_on, (String::from_utf8_lossy(method).into_owned(), body)));
                feed.push_back(head.clone());
            }
            Part::Body(body) => {
                feed.push_back(body.clone());
                let framing = feed.len().checked_sub(2).map(|at| request::parse(&feed[at], LIMITS));
                let content = match framing {
                    Some(Parsed::Whole(request)) if request.framing == Framing::Length(body.len() as u64) => {
                        Some(body.clone())
                    }
                    Some(Parsed::Whole(request)) if request.framing == Framing::Chunked => {
                        // What stands in extensions and trailers is passed over by all but hyper, which may refuse it.
                        decoded(body).filter(|_| is_plain(body)).map(|(content, _)| content)
                    }
                    _ => None,
                };
                if let Some((_, served)) = expected.last_mut() {
                    served.1 = content;
                }
            }
            Part::Refused(_) => {}
        }
    }
    let (served, is_sound) = serve(feed);
    assert!(served.len() <= expected.len(), "{served:?} instead of {expected:?}");
    for (own, (_, wanted)) in served.iter().zip(&expected) {
        assert_eq!(own.0, wanted.0, "{served:?} instead of {expected:?}");
        // Whether a body that is malformed can be read is hyper's to say.
        assert!(wanted.1.is_none() || own.1 == wanted.1, "{served:?} instead of {expected:?}");
    }
    let until = expected.iter().position(|(goes_on, (_, body))| !goes_on || body.is_none());
    let least = until.map_or(expected.len(), |at| at + usize::from(expected[at].1.1.is_some()));
    assert!(served.len() >= least, "{served:?} (sound: {is_sound}) instead of {expected:?}");
}

/// The requests that hyper's server finds in these bytes, and whether it ends well.
fn serve(feed: VecDeque<Vec<u8>>) -> (Vec<Served>, bool) {
    let served = RefCell::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| {
        let served = &served;
        async move {
            let method = request.method().to_string();
            let body = request.into_body().collect().await.ok().map(|body| body.to_bytes().to_vec());
            served.borrow_mut().push((method, body));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(LIMITS.fields)
        .max_buf_size(16 << 10)
        .half_close(true)
        .serve_connection(TokioIo::new(Feed(feed)), service);
    let is_sound = finished(connection).is_ok();
    (served.take(), is_sound)
}
