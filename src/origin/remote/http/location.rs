//! Where an HTTP server is: the URL that a user types.

use hyper::Uri;
use hyper::http::uri::PathAndQuery;
use std::fmt;
use std::str::FromStr;

/// The URL of an HTTP server, `http(s)://host[:port][/prefix]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub tls: bool,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// Host and port as the Host field has them.
    pub authority: String,
    /// What stands before every path: empty, or begins with a slash and does not end in one.
    pub prefix: String,
}

/// Why a text is no such URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no URL of an HTTP server: {reason} (it reads http://host:port/prefix)")]
pub struct LocationError {
    text: String,
    reason: &'static str,
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Location, LocationError> {
        let wrong = |reason| LocationError { text: text.to_owned(), reason };
        if text.contains(['?', '#']) {
            return Err(wrong("a query or a fragment is the client's affair"));
        }
        if !text.is_ascii() {
            return Err(wrong("a letter in it is not of ASCII; write it as %XX"));
        }
        let uri: Uri = text.parse().map_err(|_| wrong("it cannot be read"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it begins with neither http:// nor https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a password in it would be logged; send it with --origin-header"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        let port = match authority.port() {
            None if authority.as_str().ends_with(':') => return Err(wrong("its port is empty")),
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => port.as_u16(),
        };
        if port == 0 || (authority.port().is_none() && authority.as_str().len() > authority.host().len()) {
            return Err(wrong("its port is none"));
        }
        let prefix = uri.path().trim_end_matches('/').to_owned();
        if has_dot_segment(&prefix) {
            return Err(wrong("a part of its path is . or .."));
        }
        Ok(Location { tls, host, port, authority: authority.as_str().to_owned(), prefix })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.prefix)
    }
}

impl Location {
    /// The target at the origin of what a client asked for.
    ///
    /// # Errors
    /// The path would lead out of the prefix, or is no path.
    pub fn target(&self, asked: &Uri) -> Result<Uri, &'static str> {
        let asked = asked.path_and_query().map_or("/", PathAndQuery::as_str);
        if self.prefix.is_empty() {
            return asked.parse().map_err(|_| "the target is no path");
        }
        if !asked.starts_with('/') {
            return Err("the target is no path");
        }
        if has_dot_segment(asked.split('?').next().unwrap_or_default()) {
            return Err("a part of the path is . or .., which may lead out of what is served");
        }
        format!("{}{asked}", self.prefix).parse().map_err(|_| "the target is no path")
    }

    /// What the origin's own name for one of its pages, in a Location field, is for clients of this server: a path.
    /// `None` if it leads elsewhere, or needs no change. `host` is what the origin was asked as.
    pub fn outward(&self, reference: &str, host: &str) -> Option<String> {
        let own = if self.tls { "https" } else { "http" };
        let path = match reference.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(own) => {
                let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                let is_own = [self.authority.as_str(), host].iter().any(|own| own.eq_ignore_ascii_case(authority));
                Some(path).filter(|_| is_own)?
            }
            // Without a prefix a path is the same on both sides.
            _ if reference.starts_with('/') && !reference.starts_with("//") && !self.prefix.is_empty() => reference,
            _ => return None,
        };
        let path = path.strip_prefix(&self.prefix)?;
        match path.chars().next() {
            Some('/') => Some(path.to_owned()),
            None | Some('?' | '#') => Some(format!("/{path}")),
            // Another name that begins like the prefix.
            Some(_) => None,
        }
    }
}

/// Whether a part of the path is `.` or `..`, however it is written.
fn has_dot_segment(path: &str) -> bool {
    path.split(['/', '\\']).any(|part| {
        let part = part.to_ascii_lowercase().replace("%2e", ".");
        // Some servers take an encoded slash for one.
        part.split("%2f").flat_map(|part| part.split("%5c")).any(|part| matches!(part, "." | ".."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_they_are_typed() {
        for (text, tls, host, port, authority, prefix) in [
            ("http://example.com", false, "example.com", 80, "example.com", ""),
            ("https://example.com/", true, "example.com", 443, "example.com", ""),
            ("http://example.com:8080/a/b/", false, "example.com", 8080, "example.com:8080", "/a/b"),
            ("http://[::1]:81/x%20y", false, "::1", 81, "[::1]:81", "/x%20y"),
            ("HTTP://127.0.0.1:9", false, "127.0.0.1", 9, "127.0.0.1:9", ""),
        ] {
            let (host, authority, prefix) = (host.to_owned(), authority.to_owned(), prefix.to_owned());
            assert_eq!(text.parse(), Ok(Location { tls, host, port, authority, prefix }), "{text}");
        }
        let location: Location = "https://a.example:444/b".parse().unwrap();
        assert_eq!(location.to_string(), "https://a.example:444/b");
    }

    #[test]
    fn what_is_no_url_is_refused_with_its_reason() {
        for text in [
            "",
            "/srv",
            "example.com",
            "example.com:80",
            "ftp://example.com",
            "http://",
            "http:///x",
            "http://a:b@c/",
            "http://a@c/",
            "http://a/?q",
            "http://a/#f",
            "http://a:0/",
            "http://a:99999/",
            "http://a:x/",
            "http://a:/",
            "http://a b/",
            "http://a/../b",
            "http://a/%2E%2e/b",
            "http://[::1/",
            "http://a/\u{fc}",
        ] {
            let error = text.parse::<Location>().expect_err(text).to_string();
            assert!(error.starts_with(&format!("{text:?} is no URL of an HTTP server: ")), "{error}");
        }
    }

    #[test]
    fn targets_are_below_the_prefix() {
        let all: Location = "http://a".parse().unwrap();
        let some: Location = "http://a/b/c".parse().unwrap();
        let target =
            |location: &Location, asked: &str| location.target(&asked.parse().unwrap()).map(|uri| uri.to_string());
        for asked in ["/", "/x?y=/../z", "/x//y", "/%20", "/...", "/?"] {
            assert_eq!(target(&all, asked).as_deref(), Ok(asked));
            assert_eq!(target(&some, asked), Ok(format!("/b/c{asked}")));
        }
        for asked in ["/..", "/../x", "/x/../../y", "/./x", "/%2e%2E/x", "/.%2e", "/x%2f..%2fy", "/..%5cx"] {
            assert_eq!(target(&all, asked).as_deref(), Ok(asked), "nothing to climb out of");
            assert!(target(&some, asked).is_err(), "{asked}");
        }
        assert_eq!(target(&all, "*").as_deref(), Ok("*"));
        assert!(target(&some, "*").is_err());
        assert_eq!(target(&some, "http://other/x").as_deref(), Ok("/b/c/x"), "of an absolute target the path counts");
    }

    #[test]
    fn what_the_origin_calls_its_own_is_found_here() {
        let all: Location = "http://o:81".parse().unwrap();
        let some: Location = "https://o/b/c".parse().unwrap();
        for (location, reference, path) in [
            (&all, "http://o:81/x?y#z", Some("/x?y#z")),
            (&all, "HTTP://O:81", Some("/")),
            (&all, "http://o:81?y", Some("/?y")),
            (&all, "http://public/x", Some("/x")),
            (&all, "https://o:81/x", None),
            (&all, "http://o:82/x", None),
            (&all, "http://other/x", None),
            (&all, "//o:81/x", None),
            (&all, "/x", None),
            (&all, "x", None),
            (&all, "", None),
            (&some, "https://o/b/c/x", Some("/x")),
            (&some, "https://o/b/c", Some("/")),
            (&some, "https://o/b/cd", None),
            (&some, "https://o/x", None),
            (&some, "http://o/b/c/x", None),
            (&some, "/b/c/x", Some("/x")),
            (&some, "/b/c?y", Some("/?y")),
            (&some, "/x", None),
            (&some, "../x", None),
        ] {
            assert_eq!(location.outward(reference, "public").as_deref(), path, "{location} {reference:?}");
        }
    }
}
