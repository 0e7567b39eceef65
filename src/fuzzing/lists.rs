//! Fields that are lists: what a client accepts, what caches are told, and what chooses among responses.

use crate::http::accept::Accept;
use crate::http::caching::directives::{self, CDN_CACHE_CONTROL, Directives, Response};
use crate::http::caching::{self, Times};
use crate::http::encoding::{Coding, Preferred};
use crate::version::stored::Vary;
use arbitrary::{Result, Unstructured};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};
use std::borrow::Cow;
use std::time::{Duration, SystemTime};

const SPACES: &[&str] = &["", " ", "\t ", "  "];

/// What a client accepts.
pub fn accept_encoding(bytes: &[u8]) {
    let preferred = Preferred::of(Some(bytes));
    let mut seen = preferred.codings().to_vec();
    seen.dedup();
    assert_eq!(seen, preferred.codings(), "each at most once");
    // A range that is named exactly, and is not refused, is one that is taken.
    let more = [b"text/html,", bytes].concat();
    assert!(Accept(Some(&more)).rank("text", "html").is_some(), "what is named first");
    let _ = weighted(&mut Unstructured::new(bytes));
}

fn weighted(input: &mut Unstructured<'_>) -> Result<()> {
    const NAMES: &[&str] = &["br", "zstd", "gzip", "identity", "*", "X-GZIP", "deflate", "Br"];
    let (mut value, mut said) = (String::new(), Vec::new());
    for _ in 0..input.int_in_range(0..=5)? {
        let name = *input.choose(NAMES)?;
        let weight: Option<u16> = if input.arbitrary()? { Some(input.int_in_range(0..=1000)?) } else { None };
        value.push_str(input.choose(SPACES)?);
        value.push_str(name);
        if let Some(weight) = weight {
            let q = format!("{}.{:03}", weight / 1000, weight % 1000);
            let shown = if input.arbitrary()? { q.trim_end_matches('0') } else { &q };
            value.push_str(&format!("{0};{0}q={shown}", input.choose(SPACES)?));
        }
        value.push_str(input.choose(SPACES)?);
        value.push(',');
        said.push((name.to_ascii_lowercase().replace("x-gzip", "gzip"), weight.unwrap_or(1000)));
    }
    let of = |name: &str| said.iter().rev().find(|(own, _)| own == name).map(|(_, weight)| *weight);
    let weight = |coding: Coding| of(coding.token()).or(of("*")).unwrap_or(0);
    let least = of("identity").unwrap_or(0).max(1);
    let mut expected: Vec<Coding> = Coding::ALL.into_iter().filter(|&coding| weight(coding) >= least).collect();
    // The more wanted first; among equals, as they stand.
    expected.sort_by_key(|&coding| std::cmp::Reverse(weight(coding)));
    assert_eq!(Preferred::of(Some(value.as_bytes())).codings(), expected, "{value:?}");
    Ok(())
}

fn of_lines(lines: &[(header::HeaderName, &[u8])]) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some(fields)
}

/// Cache-Control, CDN-Cache-Control and Pragma.
pub fn cache_control(bytes: &[u8]) {
    let _ = directed(&mut Unstructured::new(bytes));
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').take(3).collect();
    let names = [header::CACHE_CONTROL, header::CACHE_CONTROL, CDN_CACHE_CONTROL];
    let Some(fields) = of_lines(&names.into_iter().zip(lines).collect::<Vec<_>>()) else { return };
    let said = Response::of(&fields);
    let wanted = Directives::of(&fields);
    if let Some(value) = fields.get(header::CACHE_CONTROL).filter(|_| fields.len() == 1) {
        let wish = directives::wish(Some(value.as_bytes()), None);
        assert_eq!(wish.max_age, wanted.max_age.map(|time| time.as_secs()));
        assert_eq!((wish.no_cache, wish.no_store), (wanted.no_cache, wanted.no_store));
    }
    // One more line never makes anything fresher, and no mistake undoes it. A quote that is not closed ends with its
    // line.
    let mut more = fields.clone();
    more.append(header::CACHE_CONTROL, HeaderValue::from_static("no-store, max-age=0"));
    more.remove(CDN_CACHE_CONTROL);
    let then = Response::of(&more);
    assert!(then.no_store && then.max_age == Some(Duration::ZERO));
    assert!(then.no_cache == said.no_cache && then.private == said.private && then.s_maxage == said.s_maxage);
    let times = Times { received: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30), delay: Duration::ZERO };
    let storable =
        |answer: &HeaderMap| caching::storable(&Method::GET, &HeaderMap::new(), StatusCode::OK, answer, times);
    assert_eq!(storable(&more), None);
    if let Some(kept) = storable(&fields) {
        let most = Response::of_cdn(&fields).unwrap_or(said);
        assert!(!most.no_store && !most.private);
        assert!(most.s_maxage.or(most.max_age).is_none_or(|most| kept.lifetime <= most), "{kept:?}");
    }
}

fn directed(input: &mut Unstructured<'_>) -> Result<()> {
    const FLAGS: &[&str] = &["no-store", "No-Cache", "private", "public", "MUST-revalidate", "x-other=\"a, no-store\""];
    const TIMES: &[&str] = &["max-age", "S-MaxAge", "stale-while-revalidate", "stale-if-error"];
    let (mut line, mut expected) = (String::new(), Response::default());
    for _ in 0..input.int_in_range(0..=5)? {
        line.push_str(input.choose(SPACES)?);
        if input.arbitrary()? {
            let flag = *input.choose(FLAGS)?;
            line.push_str(flag);
            match flag {
                "no-store" => expected.no_store = true,
                "No-Cache" => expected.no_cache = true,
                "private" => expected.private = true,
                "public" => expected.public = true,
                "MUST-revalidate" => expected.must_revalidate = true,
                _ => {}
            }
        } else {
            let (name, seconds) = (*input.choose(TIMES)?, input.int_in_range(0..=9u64)?);
            line.push_str(&if input.arbitrary()? {
                format!("{name}=\"{seconds}\"")
            } else {
                format!("{name}={seconds}")
            });
            let time = match name {
                "max-age" => &mut expected.max_age,
                "S-MaxAge" => &mut expected.s_maxage,
                "stale-while-revalidate" => &mut expected.stale_while_revalidate,
                _ => &mut expected.stale_if_error,
            };
            let seconds = Duration::from_secs(seconds);
            *time = Some(time.map_or(seconds, |other| other.min(seconds)));
        }
        line.push_str(input.choose(SPACES)?);
        line.push(',');
    }
    let fields = of_lines(&[(header::CACHE_CONTROL, line.as_bytes())]).expect("a value");
    assert_eq!(Response::of(&fields), expected, "{line:?}");
    Ok(())
}

/// Two requests that a response with Vary may answer.
pub fn vary(bytes: &[u8]) {
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let [primary, rest @ ..] = &lines[..] else { return };
    let names: Box<[Box<str>]> = ["accept", "accept-language", "x"].map(Into::into).into();
    let half = rest.len().div_ceil(2).min(names.len());
    // An empty line stands for a field that is not there; a line with a full stop for an empty field.
    let value = |values: &[&[u8]], name: &str| -> Option<Vec<u8>> {
        let at = names.iter().position(|own| &**own == name)?;
        let line = *values.get(at)?;
        (!line.is_empty()).then(|| if line == b"." { Vec::new() } else { line.to_vec() })
    };
    let (first, second) = rest.split_at(half.min(rest.len()));
    let of_first = |name: &str| value(first, name).map(Cow::Owned);
    let of_second = |name: &str| value(second, name).map(Cow::Owned);
    let vary = Vary { values: Vary::select(&names, of_first), names: names.clone(), family: 7 };
    assert!(vary.matches(of_first), "a response answers the request that it was made for");
    let plain = |values: &[&[u8]]| -> Vec<Option<Vec<String>>> {
        let members = |value: Vec<u8>| {
            let text: String = value.iter().map(|&byte| char::from(byte)).collect();
            text.split(',').map(|member| member.trim_matches([' ', '\t', '\r', '\n', '\x0c']).to_owned()).collect()
        };
        names.iter().map(|name| value(values, name).map(members)).collect()
    };
    let is_same = plain(first) == plain(second);
    assert_eq!(vary.matches(of_second), is_same);
    assert_eq!(vary.key(primary, of_first) == vary.key(primary, of_second), is_same);
    let other = Vary { family: 8, ..vary.clone() };
    assert_ne!(vary.key(primary, of_first), other.key(primary, of_first));
}
