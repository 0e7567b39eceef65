//! What a line of the access log says, and its two forms.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{Asked, Request};
use crate::config::AccessLogFormat;
use crate::http::cache_status::CacheStatus;
use crate::net::peer::Peer;
use crate::text;
use std::borrow::Cow;

/// The status that is logged of a request whose client went away before it was answered, as nginx has it.
const CLIENT_CLOSED: u16 = 499;

/// What is known of a request and its response.
#[derive(Debug)]
pub(crate) struct Line {
    /// When the response ended.
    pub time: SystemTime,
    peer: Peer,
    /// Method, target, referer and user agent, one after the other.
    text: Box<[u8]>,
    lengths: Option<Lengths>,
    /// `None` until it is answered.
    pub status: Option<u16>,
    pub body_bytes: u64,
    pub cache_status: Option<CacheStatus>,
    pub elapsed: Duration,
    pub aborted: bool,
}

/// Where the texts of a request lie.
#[derive(Debug)]
struct Lengths {
    method: u32,
    target: u32,
    /// `None`: not sent.
    referer: Option<u32>,
    user_agent: Option<u32>,
    protocol: &'static str,
}

/// A line as JSON. Keys may be added; what they mean stays.
#[derive(Serialize)]
struct Object {
    time: String,
    peer: String,
    method: Option<String>,
    target: Option<String>,
    protocol: Option<&'static str>,
    status: u16,
    bytes: u64,
    referer: Option<String>,
    user_agent: Option<String>,
    cache_status: Option<Cow<'static, str>>,
    seconds: f64,
    aborted: bool,
}

impl Line {
    /// The memory that the texts of a line will take.
    pub fn bytes_of(asked: &Asked<'_>) -> usize {
        asked.request.map_or(0, |request| texts(&request).map(<[u8]>::len).iter().sum())
    }

    pub fn new(asked: &Asked<'_>) -> Line {
        let length = |text: &[u8]| text.len() as u32; // a head has 1 MiB at most
        Line {
            time: SystemTime::UNIX_EPOCH,
            peer: asked.peer,
            text: asked.request.map(|request| texts(&request).concat().into()).unwrap_or_default(),
            lengths: asked.request.map(|request| Lengths {
                method: length(request.method.as_bytes()),
                target: length(request.target),
                referer: request.referer.map(length),
                user_agent: request.user_agent.map(length),
                protocol: request.protocol,
            }),
            status: None,
            body_bytes: 0,
            cache_status: None,
            elapsed: Duration::ZERO,
            aborted: false,
        }
    }

    /// The texts again: method, target, referer and user agent.
    fn texts(&self) -> Option<(&Lengths, [&[u8]; 4])> {
        let lengths = self.lengths.as_ref()?;
        let (method, rest) = self.text.split_at(lengths.method as usize);
        let (target, rest) = rest.split_at(lengths.target as usize);
        let (referer, user_agent) = rest.split_at(lengths.referer.unwrap_or(0) as usize);
        Some((lengths, [method, target, referer, user_agent]))
    }

    pub fn write(&self, format: AccessLogFormat, out: &mut Vec<u8>) {
        // Nothing that is written to memory fails.
        let _ = match format {
            AccessLogFormat::Combined => self.write_combined(out),
            AccessLogFormat::Json => self.write_json(out),
        };
    }

    /// The combined log format of the Apache and nginx documentation; times are UTC. A request that could not be read
    /// is "-".
    fn write_combined(&self, out: &mut Vec<u8>) -> io::Result<()> {
        match self.peer {
            Peer::Tcp(address) => write!(out, "{}", address.ip())?,
            Peer::Unix => out.write_all(b"unix:")?,
        }
        // An HTTP date has the same parts in another order: "Sun, 06 Nov 1994 08:49:37 GMT".
        let date = httpdate::fmt_http_date(self.time);
        write!(out, " - - [{}/{}/{}:{} +0000] \"", &date[5..7], &date[8..11], &date[12..16], &date[17..25])?;
        let (mut referer, mut user_agent) = (&b"-"[..], &b"-"[..]);
        match self.texts() {
            None => out.write_all(b"-")?,
            Some((lengths, texts)) => {
                write_escaped(texts[0], out)?;
                out.write_all(b" ")?;
                write_escaped(texts[1], out)?;
                write!(out, " {}", lengths.protocol)?;
                referer = lengths.referer.map_or(referer, |_| texts[2]);
                user_agent = lengths.user_agent.map_or(user_agent, |_| texts[3]);
            }
        }
        write!(out, "\" {} {} \"", self.status.unwrap_or(CLIENT_CLOSED), self.body_bytes)?;
        write_escaped(referer, out)?;
        out.write_all(b"\" \"")?;
        write_escaped(user_agent, out)?;
        out.write_all(b"\"\n")
    }

    fn write_json(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let texts = self.texts();
        let owned = |number: usize| texts.map(|(_, texts)| String::from_utf8_lossy(texts[number]).into_owned());
        let lengths = self.lengths.as_ref();
        let object = Object {
            time: humantime::format_rfc3339_micros(self.time).to_string(),
            peer: self.peer.to_string(),
            method: owned(0),
            target: owned(1),
            protocol: lengths.map(|lengths| lengths.protocol),
            status: self.status.unwrap_or(CLIENT_CLOSED),
            bytes: self.body_bytes,
            referer: lengths.and_then(|lengths| lengths.referer).and_then(|_| owned(2)),
            user_agent: lengths.and_then(|lengths| lengths.user_agent).and_then(|_| owned(3)),
            cache_status: self.cache_status.map(CacheStatus::text),
            seconds: self.elapsed.as_secs_f64(),
            aborted: self.aborted,
        };
        // What a client sent may be read on a terminal.
        out.write_all(text::json(&serde_json::to_string(&object)?).as_bytes())?;
        out.write_all(b"\n")
    }
}

fn texts<'a>(request: &Request<'a>) -> [&'a [u8]; 4] {
    let Request { method, target, referer, user_agent, .. } = *request;
    [method.as_bytes(), target, referer.unwrap_or_default(), user_agent.unwrap_or_default()]
}

/// Writes what stands in quotes: a client cannot end the field or the line.
fn write_escaped(text: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.write_all(&[b'\\', byte])?,
            b' '..=b'~' => out.write_all(&[byte])?,
            _ => write!(out, "\\x{byte:02X}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &[u8]) -> Line {
        let request = Request {
            method: "GET",
            target,
            protocol: "HTTP/1.1",
            referer: None,
            user_agent: Some(b"curl/8 \"x\"\n\xff"),
        };
        let asked = Asked { peer: Peer::Tcp("192.0.2.7:5555".parse().unwrap()), request: Some(request) };
        Line {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
            status: Some(206),
            body_bytes: 77,
            cache_status: Some(CacheStatus::Hit),
            elapsed: Duration::from_micros(1500),
            ..Line::new(&asked)
        }
    }

    fn written(line: &Line, format: AccessLogFormat) -> String {
        let mut out = Vec::new();
        line.write(format, &mut out);
        String::from_utf8(out).expect("a line is text")
    }

    fn object(line: &Line) -> serde_json::Value {
        let text = written(line, AccessLogFormat::Json);
        assert_eq!(text.find('\n'), Some(text.len() - 1), "one line: {text}");
        serde_json::from_str(&text).expect("an object")
    }

    #[test]
    fn combined_lines_have_the_fields_everybody_parses() {
        assert_eq!(
            written(&line(b"/a%20b\\"), AccessLogFormat::Combined),
            "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a%20b\\\\ HTTP/1.1\" 206 77 \"-\" \
             \"curl/8 \\\"x\\\"\\x0A\\xFF\"\n"
        );
    }

    #[test]
    fn json_lines_are_objects() {
        let object = object(&line(b"/\xff\""));
        assert_eq!(object["time"], "1994-11-06T08:49:37.000000Z");
        assert_eq!(object["peer"], "192.0.2.7:5555");
        assert_eq!(object["target"], "/\u{fffd}\"");
        assert_eq!(object["referer"], serde_json::Value::Null);
        assert_eq!(object["cache_status"], "forebay; hit");
        assert_eq!(object["seconds"], 0.0015);
        assert_eq!(object["aborted"], false);
    }

    #[test]
    fn nothing_in_a_line_controls_a_terminal() {
        let target = "/\u{9b}31m\u{7f}\u{202e}\u{1b}[0m".as_bytes();
        for format in [AccessLogFormat::Combined, AccessLogFormat::Json] {
            let text = written(&line(target), format);
            assert!(crate::text::is_plain(text.trim_end_matches('\n')), "{text:?}");
        }
        assert_eq!(object(&line(target))["target"], std::str::from_utf8(target).unwrap());
    }

    #[test]
    fn a_request_that_could_not_be_read_has_a_line() {
        let asked = Asked { peer: Peer::Unix, request: None };
        let refused = Line { status: Some(408), ..Line::new(&asked) };
        let combined = written(&refused, AccessLogFormat::Combined);
        assert_eq!(combined, "unix: - - [01/Jan/1970:00:00:00 +0000] \"-\" 408 0 \"-\" \"-\"\n");
        let object = object(&refused);
        assert_eq!((&object["method"], &object["protocol"]), (&serde_json::Value::Null, &serde_json::Value::Null));
        assert_eq!(object["status"], 408);
    }

    #[test]
    fn a_request_that_was_never_answered_has_a_status_all_the_same() {
        let left = Line { status: None, aborted: true, ..line(b"/") };
        assert_eq!((&object(&left)["status"], &object(&left)["aborted"]), (&499.into(), &true.into()));
    }
}
