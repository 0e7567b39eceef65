//! What a request that may change something makes stale (RFC 9111, 4.4).

use hyper::header::{self, HeaderName};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, StatusCode, Uri};

/// Whether a method changes nothing, as far as is known (RFC 9110, 9.2.1).
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// The targets (path and query) whose stored responses are stale once `answer` was given to a request for `target`: the
/// target, and what Location and Content-Location name, if that is at the same place: at one of `authorities`.
/// An answer that says that the request failed makes nothing stale, and neither does a safe method.
pub fn invalidated(
    method: &Method,
    target: &Uri,
    status: StatusCode,
    answer: &HeaderMap,
    authorities: &[&str],
) -> Vec<String> {
    if is_safe(method) || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let own = target.path_and_query().map_or("/", PathAndQuery::as_str);
    let named = [header::LOCATION, header::CONTENT_LOCATION];
    let mut targets = vec![own.to_owned()];
    targets.extend(named.iter().filter_map(|name| resolve(answer, name, target.path(), authorities)));
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// The target that a field's reference leads to from `base`; `None` if it leads elsewhere, or nowhere.
fn resolve(answer: &HeaderMap, name: &HeaderName, base: &str, authorities: &[&str]) -> Option<String> {
    let reference = answer.get(name)?.to_str().ok()?.trim();
    let reference = reference.split('#').next().unwrap_or_default();
    let after_scheme = match reference.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            Some(rest)
        }
        // A colon before any slash ends a scheme.
        Some((scheme, _)) if !scheme.contains(['/', '?']) => return None,
        _ => reference.strip_prefix("//"),
    };
    let path = match after_scheme {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            if !authorities.iter().any(|own| own.eq_ignore_ascii_case(authority)) {
                return None;
            }
            if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
        }
        None if reference.starts_with('/') => reference.to_owned(),
        None if reference.is_empty() || reference.starts_with('?') => format!("{base}{reference}"),
        None => format!("{}{reference}", &base[..=base.rfind('/')?]),
    };
    Some(without_dots(&path))
}

/// The path without `.` and `..` (RFC 3986, 5.2.4); a query stays as it is.
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut parts: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    parts.pop();
                }
                if is_last {
                    parts.push("");
                }
            }
            _ => parts.push(segment),
        }
    }
    format!("/{}{query}", parts.join("/"))
}
