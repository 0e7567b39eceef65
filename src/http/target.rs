//! Request targets: from the bytes of a request line to the name of a file beneath the root.
//!
//! Names are bytes, as Linux has them. A name is relative, without a leading slash, percent-decoded, and normalised
//! (RFC 3986, 5.2.4): each file has one name, so that what is stored under it is found under it. That no name leaves
//! the root is the kernel's promise (RESOLVE_BENEATH, see `origin`); what is refused here is refused for its form.

use crate::limits;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use std::borrow::Cow;

/// The first segment of all names that are the server's own.
pub const RESERVED: &[u8] = b".forebay";

/// What is encoded in a path: everything but RFC 3986's unreserved characters and the slash.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A name as it stands in a URL's path.
pub fn encode(name: &[u8]) -> String {
    percent_encode(name, ENCODED).to_string()
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A file's name.
    File(Cow<'a, [u8]>),
    /// A directory's name without its final slash; empty for the root.
    Directory(Cow<'a, [u8]>),
    /// One of the server's own pages: what follows `/.forebay/` (empty for the page itself).
    Reserved(Cow<'a, [u8]>),
}

/// Why a target names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the request target must be a path, or an http or https URL")]
    Form,
    #[error("the request target has a % that is not followed by two hexadecimal digits")]
    Percent,
    #[error("the request target has a NUL byte")]
    Nul,
    #[error("the request target leaves the root")]
    LeavesRoot,
    #[error("the request target is longer than a path may be (4095 bytes)")]
    TooLong,
}

impl<'a> Target<'a> {
    /// Parses a request target in origin form (`/a/b?query`) or absolute form (`http://host/a/b`, or `https://`). The
    /// query is not part of a file's name and is passed over.
    ///
    /// # Errors
    /// [`Malformed`], with what is wrong.
    pub fn parse(raw: &'a [u8]) -> Result<Target<'a>, Malformed> {
        let path = path_of(raw)?;
        let decoded = decode(path)?;
        if decoded.contains(&0) {
            return Err(Malformed::Nul);
        }
        let (name, is_directory) = normalise(decoded)?;
        if name.len() > limits::NAME_BYTES {
            return Err(Malformed::TooLong);
        }
        Ok(match name.strip_prefix(RESERVED) {
            Some(b"") => Target::Reserved(Cow::Borrowed(b"")),
            Some(rest) if rest[0] == b'/' => Target::Reserved(Cow::Owned(rest[1..].to_vec())),
            _ if is_directory => Target::Directory(name),
            _ => Target::File(name),
        })
    }
}

/// A request target as a remote origin is asked for it: path and query as they were sent, without scheme, authority and
/// fragment.
///
/// # Errors
/// [`Malformed::Form`].
pub fn origin_form(raw: &[u8]) -> Result<&[u8], Malformed> {
    let path = after_authority(raw)?;
    let end = path.iter().position(|&byte| byte == b'#').unwrap_or(path.len());
    Ok(&path[..end])
}

/// The path of a target, without scheme, authority, query and fragment; starts with a slash.
fn path_of(raw: &[u8]) -> Result<&[u8], Malformed> {
    let path = after_authority(raw)?;
    let end = path.iter().position(|&byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
    Ok(&path[..end])
}

/// What follows scheme and authority; starts with a slash. The query of a URL without a path is left out.
fn after_authority(raw: &[u8]) -> Result<&[u8], Malformed> {
    if raw.first() == Some(&b'/') {
        return Ok(raw);
    }
    // Whoever speaks TLS in front of the server may leave the target as it was.
    let has_scheme = |scheme: &&str| raw.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme.as_bytes()));
    let scheme = ["http://", "https://"].into_iter().find(has_scheme).ok_or(Malformed::Form)?;
    let rest = &raw[scheme.len()..];
    match rest.iter().position(|&byte| matches!(byte, b'/' | b'?' | b'#')) {
        Some(0) => Err(Malformed::Form), // no authority
        Some(at) if rest[at] == b'/' => Ok(&rest[at..]),
        _ if rest.is_empty() => Err(Malformed::Form),
        _ => Ok(b"/"),
    }
}

fn decode(path: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    if !path.contains(&b'%') {
        return Ok(Cow::Borrowed(path));
    }
    let hexadecimal = |at: usize| path.get(at).is_some_and(u8::is_ascii_hexdigit);
    let broken = |(at, byte): (usize, &u8)| *byte == b'%' && !(hexadecimal(at + 1) && hexadecimal(at + 2));
    if path.iter().enumerate().any(broken) {
        return Err(Malformed::Percent);
    }
    Ok(percent_encoding::percent_decode(path).into())
}

/// Removes empty and dot segments; also says whether the path ends in a slash (or would, with its last dots resolved).
fn normalise(path: Cow<'_, [u8]>) -> Result<(Cow<'_, [u8]>, bool), Malformed> {
    let plain = |segment: &[u8]| !matches!(segment, b"" | b"." | b"..");
    let is_directory = path.last() == Some(&b'/');
    let inner = &path[1..path.len() - usize::from(is_directory && path.len() > 1)];
    if inner.is_empty() {
        return Ok((Cow::Borrowed(b""), true));
    }
    if inner.split(|&byte| byte == b'/').all(plain) {
        let range = 1..1 + inner.len();
        return Ok((
            match path {
                Cow::Borrowed(path) => Cow::Borrowed(&path[range]),
                Cow::Owned(path) => Cow::Owned(path[range].to_vec()),
            },
            is_directory,
        ));
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in inner.split(|&byte| byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => {
                segments.pop().ok_or(Malformed::LeavesRoot)?;
            }
            segment => segments.push(segment),
        }
    }
    let last = inner.rsplit(|&byte| byte == b'/').next().unwrap_or(b"");
    Ok((Cow::Owned(segments.join(&b'/')), is_directory || !plain(last) || segments.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(raw: &str) -> Vec<u8> {
        match Target::parse(raw.as_bytes()) {
            Ok(Target::File(name)) => name.into_owned(),
            other => panic!("{raw}: {other:?}"),
        }
    }

    fn directory(raw: &str) -> Vec<u8> {
        match Target::parse(raw.as_bytes()) {
            Ok(Target::Directory(name)) => name.into_owned(),
            other => panic!("{raw}: {other:?}"),
        }
    }

    #[test]
    fn one_file_has_one_name() {
        for raw in [
            "/a/b",
            "/a//b",
            "//a/b",
            "/./a/b",
            "/a/./b",
            "/a/c/../b",
            "/%61/b",
            "/a/b?x=/../y",
            "http://h:1/a/b",
            "HTTP://h/a/b#f",
            "https://h/a/b?q",
            "HttpS://h:443/a/b",
        ] {
            assert_eq!(file(raw), b"a/b", "{raw}");
        }
        assert_eq!(file("/a%20b%ff"), b"a b\xff");
        assert_eq!(file("/..."), b"...");
        assert_eq!(file("/a/..b"), b"a/..b");
    }

    #[test]
    fn directories_end_in_a_slash_or_in_dots() {
        for raw in ["/", "//", "/.", "/a/..", "/a/../", "http://h", "http://h?q", "/?q"] {
            assert_eq!(directory(raw), b"", "{raw}");
        }
        for raw in ["/a/", "/a//", "/a/.", "/a/b/..", "/a/b/../"] {
            assert_eq!(directory(raw), b"a", "{raw}");
        }
    }

    #[test]
    fn malformed_targets_say_why() {
        for (raw, why) in [
            ("*", Malformed::Form),
            ("host:443", Malformed::Form),
            ("", Malformed::Form),
            ("http://", Malformed::Form),
            ("https://", Malformed::Form),
            ("ftp://h/a", Malformed::Form),
            ("http:///a", Malformed::Form),
            ("/%", Malformed::Percent),
            ("/%4", Malformed::Percent),
            ("/%zz", Malformed::Percent),
            ("/a%00b", Malformed::Nul),
            ("/..", Malformed::LeavesRoot),
            ("/../etc/passwd", Malformed::LeavesRoot),
            ("/%2e%2e/etc/passwd", Malformed::LeavesRoot),
            ("/a/%2E%2e/../b", Malformed::LeavesRoot),
            ("/..%2fetc", Malformed::LeavesRoot),
        ] {
            assert_eq!(Target::parse(raw.as_bytes()), Err(why), "{raw}");
        }
        assert_eq!(Target::parse(format!("/{}", "a".repeat(4096)).as_bytes()), Err(Malformed::TooLong));
    }

    #[test]
    fn the_server_keeps_its_own_names() {
        assert_eq!(Target::parse(b"/.forebay/cache"), Ok(Target::Reserved(Cow::Borrowed(b"cache"))));
        assert_eq!(Target::parse(b"/.forebay"), Ok(Target::Reserved(Cow::Borrowed(b""))));
        assert_eq!(Target::parse(b"/x/../.forebay/"), Ok(Target::Reserved(Cow::Borrowed(b""))));
        assert_eq!(file("/.forebayx"), b".forebayx");
        assert_eq!(file("/a/.forebay"), b"a/.forebay");
    }

    proptest::proptest! {
        #[test]
        fn no_name_has_a_segment_that_moves(raw in proptest::collection::vec(proptest::sample::select(b"/.%2eEfa?#\0".to_vec()), 0..40)) {
            if let Ok(Target::File(name) | Target::Directory(name)) = Target::parse(&raw) {
                proptest::prop_assert!(name.is_empty() || name.split(|&byte| byte == b'/').all(|segment| !matches!(segment, b"" | b"." | b"..")));
            }
        }
    }
}
