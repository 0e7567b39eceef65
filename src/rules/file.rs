//! Rules as they are written: the TOML of `--rules`, and the lines of `--header`.

use super::glob::{Glob, GlobError};
use super::{Cors, Edit, Redirect, Rule};
use crate::http::media::Charset;
use crate::limits;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;

/// What is wrong with the rules, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("line {line}: {what}")]
    Line { line: usize, what: String },
    #[error("--header {text:?}: {what}")]
    Header { text: String, what: String },
    #[error("the rules say more than {max} bytes of header fields together", max = limits::RULE_FIELDS_BYTES)]
    TooMuch,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    r#match: Spanned<OneOrMore>,
    #[serde(default)]
    set: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    append: BTreeMap<String, Spanned<OneOrMore>>,
    #[serde(default)]
    remove: Vec<Spanned<String>>,
    #[serde(default)]
    always: bool,
    content_type: Option<Spanned<String>>,
    charset: Option<Spanned<String>>,
    cache_control: Option<Spanned<String>>,
    cors: Option<Spanned<WrittenCors>>,
    redirect: Option<Spanned<WrittenRedirect>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(&self) -> &[String] {
        match self {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(more) => more,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenCors {
    origin: OneOrMore,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    headers: Vec<String>,
    max_age: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRedirect {
    to: String,
    status: Option<u16>,
}

/// Fields that say how a message is framed or what was sent, and one that would let a script speak for the server's own
/// pages: the server's own.
const OWN: [&str; 15] = [
    "accept-ranges",
    "cache-status",
    "connection",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "keep-alive",
    "last-modified",
    "service-worker-allowed",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The rules of a file.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>, RuleError> {
    let at = |span: Range<usize>, what: String| RuleError::Line { line: line(text, span.start), what };
    let file: File = toml::from_str(text)
        .map_err(|error| at(error.span().unwrap_or_default(), error.message().replace('\n', " ").to_string()))?;
    file.rule.into_iter().map(|written| rule(&written).map_err(|(span, what)| at(span, what))).collect()
}

fn line(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
}

type Wrong = (Range<usize>, String);

fn rule(written: &Written) -> Result<Rule, Wrong> {
    let mut rule = Rule { always: written.always, ..Rule::default() };
    let patterns = &written.r#match;
    for pattern in patterns.get_ref().all() {
        let glob =
            Glob::parse(pattern).map_err(|error: GlobError| (patterns.span(), format!("{pattern:?}: {error}")))?;
        rule.globs.push(glob);
    }
    if rule.globs.is_empty() {
        return Err((patterns.span(), "a rule needs a pattern to match".into()));
    }
    let checked = |name: &str, value: &str, span: Range<usize>| check(name, value).map_err(|what| (span, what));
    if let Some(value) = &written.cache_control {
        checked("Cache-Control", value.get_ref(), value.span())?;
        rule.edits.push(Edit::Set("Cache-Control".into(), value.get_ref().clone()));
    }
    for name in &written.remove {
        checked(name.get_ref(), "", name.span())?;
        rule.edits.push(Edit::Remove(name.get_ref().clone()));
    }
    for (name, value) in &written.set {
        checked(name, value.get_ref(), value.span())?;
        rule.edits.push(Edit::Set(name.clone(), value.get_ref().clone()));
    }
    for (name, values) in &written.append {
        for value in values.get_ref().all() {
            checked(name, value, values.span())?;
            rule.edits.push(Edit::Append(name.clone(), value.clone()));
        }
    }
    if let Some(value) = &written.content_type {
        media_type(value.get_ref()).map_err(|what| (value.span(), what))?;
        rule.content_type = Some(value.get_ref().clone());
    }
    if let Some(value) = &written.charset {
        rule.charset = Some(charset(value.get_ref()).map_err(|what| (value.span(), what))?);
    }
    if let Some(cors) = &written.cors {
        rule.cors = Some(self::cors(cors.get_ref()).map_err(|what| (cors.span(), what))?);
    }
    if let Some(redirect) = &written.redirect {
        rule.redirect = Some(self::redirect(redirect.get_ref(), &rule.globs).map_err(|what| (redirect.span(), what))?);
    }
    Ok(rule)
}

/// Whether a field may be set so.
fn check(name: &str, value: &str) -> Result<(), String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no name of a header field"))?;
    if OWN.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Err(match name.eq_ignore_ascii_case("content-type") {
            true => "Content-Type is set by content-type = \"…\"".to_owned(),
            false => format!("{name} is the server's own to say"),
        });
    }
    let is_value = HeaderValue::from_str(value).is_ok_and(|_| value.trim() == value);
    if is_value { Ok(()) } else { Err(format!("{value:?} is no value of a header field: printable ASCII on one line")) }
}

fn media_type(value: &str) -> Result<(), String> {
    let essence = value.split(';').next().unwrap_or_default().trim();
    let is_token = |text: &str| !text.is_empty() && HeaderName::from_bytes(text.as_bytes()).is_ok();
    let is_type = essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    match is_type && HeaderValue::from_str(value).is_ok() {
        true => Ok(()),
        false => Err(format!("{value:?} is no media type, such as text/plain; charset=utf-8")),
    }
}

fn charset(value: &str) -> Result<Charset, String> {
    match value {
        "none" => Ok(Charset::None),
        name if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:+".contains(&b)) => {
            Ok(Charset::Named(name.to_owned()))
        }
        name => Err(format!("{name:?} is no charset, such as utf-8, iso-8859-1 or none")),
    }
}

fn cors(written: &WrittenCors) -> Result<Cors, String> {
    let origins = written.origin.all();
    for origin in origins {
        // As browsers write it, since that is what it is compared with (RFC 6454, 6.2).
        let is_written_so = origin.contains("://") && !origin.ends_with('/') && *origin == origin.to_ascii_lowercase();
        let is_origin = if origin == "*" { origins.len() == 1 } else { is_written_so };
        if !is_origin || HeaderValue::from_str(origin).is_err() {
            return Err(format!("{origin:?} is no origin, such as https://app.example, and not * alone"));
        }
    }
    if origins.is_empty() {
        return Err("cors needs an origin, or *".into());
    }
    for name in written.methods.iter().chain(&written.headers) {
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no method or header field"))?;
    }
    let methods = if written.methods.is_empty() { "GET, HEAD".to_owned() } else { written.methods.join(", ") };
    let max_age = written.max_age.unwrap_or(600);
    Ok(Cors { origins: origins.to_vec(), methods, headers: written.headers.join(", "), max_age })
}

fn redirect(written: &WrittenRedirect, globs: &[Glob]) -> Result<Redirect, String> {
    let WrittenRedirect { to, status } = written;
    let status = status.unwrap_or(301);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Err(format!("{status} is no redirect: 301, 302, 303, 307 or 308"));
    }
    let is_place = to.starts_with('/') || to.starts_with("http://") || to.starts_with("https://");
    if !is_place || !to.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{to:?} is no place: write /path or https://host/path, percent-encoded"));
    }
    if to.contains("$1") && !globs.iter().all(Glob::has_rest) {
        return Err("$1 needs a pattern that ends in * or ** and has no other star".into());
    }
    Ok(Redirect { to: to.clone(), status })
}

/// `PATTERN: Name: value`.
pub(super) fn parse_header(text: &str) -> Result<Rule, RuleError> {
    let wrong = |what: String| RuleError::Header { text: text.to_owned(), what };
    let parts = text.split_once(": ").and_then(|(pattern, field)| Some((pattern, field.split_once(':')?)));
    let Some((pattern, (name, value))) = parts else {
        return Err(wrong("write it as PATTERN: Name: value, such as '*.css: Cache-Control: max-age=60'".into()));
    };
    let glob = Glob::parse(pattern.trim()).map_err(|error| wrong(error.to_string()))?;
    let (name, value) = (name.trim(), value.trim());
    if name.eq_ignore_ascii_case("content-type") {
        media_type(value).map_err(wrong)?;
        return Ok(Rule { globs: vec![glob], content_type: Some(value.into()), ..Rule::default() });
    }
    check(name, value).map_err(wrong)?;
    Ok(Rule { globs: vec![glob], edits: vec![Edit::Set(name.into(), value.into())], ..Rule::default() })
}

/// That every file's head stays small, even if all rules match it.
pub(super) fn check_size(rules: &[Rule]) -> Result<(), RuleError> {
    let size = |edit: &Edit| match edit {
        Edit::Set(name, value) | Edit::Append(name, value) => name.len() + value.len() + 4,
        Edit::Remove(_) => 0,
    };
    let of_rule = |rule: &Rule| {
        let cors = rule.cors.iter().flat_map(|cors| &cors.origins).map(|origin| origin.len() + 64).sum::<usize>();
        rule.edits.iter().map(size).sum::<usize>() + cors + rule.content_type.as_ref().map_or(0, String::len)
    };
    let all: usize = rules.iter().map(of_rule).sum();
    if all <= limits::RULE_FIELDS_BYTES { Ok(()) } else { Err(RuleError::TooMuch) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expected_line, expected) in [
            ("[[rule]]\nmatch = 1\n", 2, "match"),
            ("[[rule]]\nmatch = \"a\"\nsett = {}\n", 3, "sett"),
            ("\n[[rule]]\nmatch = \"[a\"\n", 3, "without its end"),
            ("[[rule]]\nmatch = \"a\"\n[rule.set]\nX-A = \"1\"\nContent-Length = \"5\"\n", 5, "server's own"),
            ("[[rule]]\nmatch = \"a\"\n[rule.set]\n\"X A\" = \"1\"\n", 4, "no name"),
            ("[[rule]]\nmatch = \"a\"\n[rule.set]\nX = \"a\\nb\"\n", 4, "no value"),
            ("[[rule]]\nmatch = \"a\"\ncontent-type = \"text\"\n", 3, "media type"),
            ("[[rule]]\nmatch = \"a\"\ncharset = \"u 8\"\n", 3, "charset"),
            ("[[rule]]\nmatch = \"a\"\ncors = { origin = \"app\" }\n", 3, "origin"),
            ("[[rule]]\nmatch = \"a\"\ncors = { origin = [\"*\", \"https://a\"] }\n", 3, "* alone"),
            ("[[rule]]\nmatch = \"a\"\ncors = { origin = \"https://A.example\" }\n", 3, "origin"),
            ("[[rule]]\nmatch = \"a\"\ncors = { origin = [] }\n", 3, "needs an origin"),
            ("[[rule]]\nmatch = \"a\"\nredirect = { to = \"b\" }\n", 3, "no place"),
            ("[[rule]]\nmatch = \"a\"\nredirect = { to = \"/b\", status = 200 }\n", 3, "no redirect"),
            ("[[rule]]\nmatch = \"a\"\nredirect = { to = \"/b/$1\" }\n", 3, "$1"),
            ("[[rule]]\nmatch = []\n", 2, "needs a pattern"),
            ("[[rule\n", 1, ""),
        ] {
            match parse(text) {
                Err(RuleError::Line { line, what }) => {
                    assert_eq!(line, expected_line, "{text}: {what}");
                    assert!(what.contains(expected) && !what.contains('\n'), "{text}: {what}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        let much = format!("[[rule]]\nmatch = \"a\"\nset = {{ X = \"{}\" }}\n", "x".repeat(limits::RULE_FIELDS_BYTES));
        assert_eq!(super::super::Rules::parse(&much, &[]), Err(RuleError::TooMuch));
    }

    #[test]
    fn header_lines_are_rules() {
        for text in ["*.css", "*.css: X", "[: X: 1", "*: Content-Length: 1", "*: A B: 1", "*: Content-Type: x"] {
            let error = parse_header(text).unwrap_err();
            assert!(matches!(&error, RuleError::Header { text: own, .. } if own == text), "{error}");
        }
        assert!(parse_header("/a/**: Cache-Control: max-age=60, immutable").is_ok());
        assert!(parse_header("*.x: Content-Type: text/plain").is_ok());
    }
}
