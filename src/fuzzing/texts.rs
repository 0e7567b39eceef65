//! Listings, traces, logs and rules.

use super::stepped;
use crate::client::listing::{self, Elements, Named};
use crate::client::name::RemoteName;
use crate::config::AccessLogFormat;
use crate::limits;
use crate::net::peer::Peer;
use crate::rules::Rules;
use crate::server::access_log::line::Line;
use crate::server::access_log::{Asked, Request};
use crate::trace::{self, Format, Name, Record};
use serde_json::Value;
use std::io::BufReader;

/// The elements of a listing, and whether it ended well.
fn elements(bytes: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut elements, mut found) = (Elements::default(), Vec::new());
    let mut take = |element: &[u8]| {
        found.push(element.to_vec());
        Ok(())
    };
    let is_well = bytes.chunks(step).all(|piece| elements.push(piece, &mut take).is_ok()) && elements.end().is_ok();
    (found, is_well)
}

/// A listing in JSON.
pub fn listing(bytes: &[u8]) {
    let Some((step, json)) = stepped(bytes) else { return };
    let (found, is_well) = elements(json, json.len().max(1));
    assert_eq!(elements(json, step), (found.clone(), is_well), "in pieces of {step}");
    let parsed: Option<Vec<Value>> = found.iter().map(|element| listing::parse(element).ok()).collect();
    let whole: Option<Vec<Value>> = serde_json::from_slice(json).ok();
    let is_objects = |values: &Vec<Value>| values.iter().all(Value::is_object);
    // serde_json counts the brackets around, too, and what is too long is refused.
    let is_plain =
        json.iter().filter(|byte| b"[{".contains(byte)).count() < 100 && json.len() < limits::LISTED_ENTRY_BYTES;
    if is_plain {
        assert_eq!(parsed.filter(|_| is_well), whole.filter(is_objects));
    }
    for element in &found {
        let Some(component) = listing::parse::<Named>(element).ok().and_then(|named| named.component()) else {
            continue;
        };
        let name = RemoteName::root().child(&component).expect("a component is a name");
        assert_eq!(name.as_bytes(), component, "and stays in its directory");
        assert_eq!(name.components().count(), 1);
    }
}

/// What a trace says, by its records.
fn records(bytes: &[u8], format: Option<Format>, step: usize) -> (Vec<String>, bool) {
    let mut records = Vec::new();
    let read = trace::read(BufReader::with_capacity(step, bytes), format, |record| {
        records.push(format!("{record:?}"));
        Ok(())
    });
    (records, read.is_ok())
}

/// A trace, in each format.
pub fn trace(bytes: &[u8]) {
    let Some((step, trace)) = stepped(bytes) else { return };
    for format in [Format::OracleGeneral, Format::Csv, Format::AccessLog] {
        let whole = records(trace, Some(format), 64 << 10);
        // What it is compressed with is told from its first bytes.
        assert_eq!(records(trace, Some(format), step.max(8)), whole, "{format:?} in pieces of {step}");
    }
    let (_, _) = records(trace, None, 64 << 10);
}

/// A request that is logged, its parts on lines: what the log says of it is one line, and the trace reader reads what
/// was written.
pub fn access_log(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |&byte| byte == b'\n');
    let (Some(target), Some(referer), Some(user_agent)) = (parts.next(), parts.next(), parts.next()) else { return };
    // As a head may have it.
    if target.is_empty() || target.contains(&b' ') {
        return;
    }
    let request = Request {
        method: "GET",
        target,
        protocol: "HTTP/1.1",
        referer: (!referer.is_empty()).then_some(referer),
        user_agent: Some(user_agent),
    };
    let mut line = Line::new(&Asked { peer: Peer::Unix, request: Some(request) });
    line.status = Some(200);
    line.body_bytes = 17;
    let mut combined = Vec::new();
    line.write(AccessLogFormat::Combined, &mut combined);
    let (last, before) = combined.split_last().expect("a line");
    assert!(*last == b'\n' && before.iter().all(|byte| matches!(byte, b' '..=b'~')), "one line, and printable");
    assert_eq!(unescaped(&combined), (target.to_vec(), user_agent.to_vec()));
    let path = escaped(target).split(|byte| b"?#".contains(byte)).next().unwrap_or_default().to_vec();
    let read = trace::read(&combined[..], Some(Format::AccessLog), |record| {
        match record {
            Record::Request(request) => {
                assert_eq!((request.name, request.size, request.seconds), (Name::Text(&path), 17, Some(0.0)))
            }
            Record::Other => assert!(path.is_empty()),
            Record::Broken(why) => panic!("{why}"),
        }
        Ok(())
    });
    assert!(read.is_ok());
    let mut object = Vec::new();
    line.write(AccessLogFormat::Json, &mut object);
    assert_eq!(object.iter().filter(|&&byte| byte == b'\n').count(), 1);
    let object: Value = serde_json::from_slice(&object).expect("a JSON document");
    assert_eq!(object["target"], *String::from_utf8_lossy(target));
    assert_eq!(object["user_agent"], *String::from_utf8_lossy(user_agent));
    assert_eq!(object["referer"].is_null(), referer.is_empty());
}

fn escaped(text: &[u8]) -> Vec<u8> {
    let one = |&byte: &u8| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02X}"),
    };
    text.iter().map(one).collect::<String>().into_bytes()
}

/// The target and the user agent of a line, as they were before they were escaped.
fn unescaped(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut fields, mut at) = (vec![Vec::new()], 0);
    while at < line.len() {
        let last = fields.len() - 1;
        match line[at] {
            b'\\' if line[at + 1] == b'x' => {
                let digits = std::str::from_utf8(&line[at + 2..at + 4]).expect("two digits");
                fields[last].push(u8::from_str_radix(digits, 16).expect("two digits"));
                at += 3;
            }
            b'\\' => {
                at += 1;
                fields[last].push(line[at]);
            }
            b'"' => fields.push(Vec::new()),
            byte => fields[last].push(byte),
        }
        at += 1;
    }
    let request = &fields[1];
    (request[4..request.len() - " HTTP/1.1".len()].to_vec(), fields[5].clone())
}

/// The rules of a file, a name that they are asked about, and an origin, with NULs between them.
pub fn rules(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |&byte| byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (name, origin) = (parts.next().unwrap_or(b"a/b.css"), parts.next());
    if let Ok(rules) = Rules::parse("", &[text.lines().next().unwrap_or_default().to_owned()]) {
        assert_are_fields(&rules.describe(name).fields);
    }
    let rules = match Rules::parse(&text, &[]) {
        Ok(rules) => rules,
        Err(error) => {
            let said = error.to_string();
            let line = said.strip_prefix("line ").and_then(|said| said.split(':').next()?.parse::<usize>().ok());
            assert!(line.is_none_or(|line| (1..=text.split('\n').count() + 1).contains(&line)), "{said}");
            return;
        }
    };
    let described = rules.describe(name);
    assert_are_fields(&described.fields);
    assert_are_fields(&described.content_fields);
    assert!(rules.preflight(name, origin).is_none_or(|lines| {
        assert_are_fields(&lines);
        true
    }));
    if let Some(moved) = rules.moved(name) {
        assert!(moved.location.bytes().all(|byte| byte.is_ascii_graphic()), "{moved:?}");
        assert!((301..=308).contains(&moved.status));
    }
    let mut fields = Vec::new();
    rules.always(name, origin).iter().for_each(|edit| edit.apply(&mut fields));
    fields.iter().for_each(|(name, value)| assert_are_fields(&format!("{name}: {value}\r\n")));
}

/// Lines that a response may have: as many fields as there are lines, for any reader.
fn assert_are_fields(lines: &str) {
    let text = format!("{lines}\r\n");
    let mut fields = vec![httparse::EMPTY_HEADER; lines.len() / 4 + 1];
    let Ok(httparse::Status::Complete((len, fields))) = httparse::parse_headers(text.as_bytes(), &mut fields) else {
        panic!("no fields: {lines:?}");
    };
    assert_eq!((len, fields.len()), (text.len(), lines.matches("\r\n").count()), "{lines:?}");
}
