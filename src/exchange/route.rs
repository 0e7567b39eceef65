//! Where a request goes, by its target alone: the same on both planes.

use super::Role;
use super::joined::Joined;
use super::refusal::Refusal;
use crate::http::accept::Accept;
use crate::http::cache_status::Forward;
use crate::http::target::{Target, encode, origin_form};
use crate::origin::Policy;
use std::borrow::Cow;

/// Step 1 of a read: the normalised target, or why there is nothing under it for anybody.
///
/// # Errors
/// [`Refusal::Malformed`] for what names nothing; [`Refusal::NotFound`] for names that the policy does not serve.
pub fn read(raw: &[u8], policy: Policy) -> Result<Target<'_>, Refusal> {
    match Target::parse(raw).map_err(Refusal::Malformed)? {
        Target::File(name) | Target::Directory(name) if !policy.serves(&name) => {
            Err(Refusal::NotFound { name: name.into(), forward: Forward::UriMiss })
        }
        target => Ok(target),
    }
}

/// Which file stands for a directory.
#[derive(Debug, Clone, Copy)]
pub struct Indexes<'a> {
    /// The last part of its name; none where none does.
    pub name: Option<&'a str>,
    /// Directories are listed, too.
    pub listings: bool,
}

impl Indexes<'_> {
    /// The name of the file that stands for a directory, and as what it is asked for. None to who takes no pages, where
    /// there are listings: whoever asks for JSON or plain text alone wants to know what the directory holds.
    pub fn of(&self, directory: &[u8], accept: Accept<'_>) -> Option<(Joined, Role)> {
        let or_listing = self.listings;
        let name = self.name.filter(|_| !or_listing || accept.rank("text", "html").is_some())?.as_bytes();
        let name = if directory.is_empty() { Joined::new(&[name]) } else { Joined::new(&[directory, b"/", name]) };
        Some((name, Role::Index { or_listing }))
    }
}

/// Step 1 of a read of a remote origin: what is asked for is known by its target as it was sent, query and all; an
/// object of a store by its name, however that is written.
///
/// # Errors
/// [`Refusal::Malformed`] for what names nothing, or would lead out of the origin's prefix.
pub fn read_remote(raw: &[u8], is_store: bool) -> Result<Remote<'_>, Refusal> {
    match Target::parse(raw).map_err(Refusal::Malformed)? {
        Target::Reserved(page) => Ok(Remote::Reserved(page)),
        Target::Directory(name) if is_store => Ok(Remote::Prefix(name)),
        Target::File(name) if is_store => Ok(Remote::Stored(target_of(raw, &name))),
        Target::File(_) | Target::Directory(_) => {
            origin_form(raw).map(|target| Remote::Stored(target.into())).map_err(Refusal::Malformed)
        }
    }
}

/// The one target of an object, which a request may have written in others of its ways.
fn target_of<'a>(raw: &'a [u8], name: &[u8]) -> Cow<'a, [u8]> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    match raw.strip_prefix(b"/") {
        Some(path) if path == name && path.iter().all(is_plain) => raw.into(),
        _ => object(name).into(),
    }
}

/// The target of the object `name`.
pub fn object(name: &[u8]) -> Vec<u8> {
    format!("/{}", encode(name)).into_bytes()
}

/// What a request to a server with a remote origin asks for.
pub enum Remote<'a> {
    /// What the origin has under this path and query.
    Stored(Cow<'a, [u8]>),
    /// What a store has of objects whose keys begin with this name and a slash.
    Prefix(Cow<'a, [u8]>),
    /// One of the server's own pages.
    Reserved(Cow<'a, [u8]>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_one_target() {
        let target = |raw: &'static str, is_store| match read_remote(raw.as_bytes(), is_store) {
            Ok(Remote::Stored(target)) => String::from_utf8(target.into_owned()).unwrap(),
            Ok(Remote::Prefix(name)) => format!("in {}", String::from_utf8_lossy(&name)),
            Ok(Remote::Reserved(_)) | Err(_) => String::new(),
        };
        for raw in ["/a%20b", "/a%20b?x=1", "/%61%20b#c", "http://h/a%20b"] {
            assert_eq!(target(raw, true), "/a%20b", "{raw}");
        }
        assert_eq!((target("/a/b-c.txt", true), target("/a,b", true)), ("/a/b-c.txt".into(), "/a%2Cb".into()));
        assert_eq!((target("/a/", true), target("/", true)), ("in a".into(), "in ".into()));
        assert_eq!((target("/a%20b?x=1", false), target("/a/", false)), ("/a%20b?x=1".into(), "/a/".into()));
    }

    #[test]
    fn the_policy_decides_what_is_to_be_had() {
        let (plain, hidden) = (Policy::default(), Policy { hidden: true, ..Policy::default() });
        for policy in [plain, hidden] {
            for own in ["/a/.forebay-upload-0123456789abcdef.tmp", "/link/.forebay/x", "/link/.forebay/"] {
                assert!(matches!(read(own.as_bytes(), policy), Err(Refusal::NotFound { .. })), "{own}");
            }
            assert!(matches!(read(b"/a/b", policy), Ok(Target::File(_))));
            assert!(matches!(read(b"/a/", policy), Ok(Target::Directory(_))));
            assert!(matches!(read(b"/.forebay/x", policy), Ok(Target::Reserved(_))));
            assert!(matches!(read(b"/..", policy), Err(Refusal::Malformed(_))));
        }
        for target in [&b"/.git/config"[..], b"/a/.git/"] {
            assert!(read(target, plain).is_err() && read(target, hidden).is_ok());
        }
    }

    #[test]
    fn a_page_stands_for_its_directory_where_pages_are_taken() {
        let name = |directory: &str, accept: Option<&str>| {
            let accept = Accept(accept.map(str::as_bytes));
            let indexes = Indexes { name: Some("i.html"), listings: true };
            indexes.of(directory.as_bytes(), accept).map(|(name, _)| name.bytes().to_vec())
        };
        assert_eq!(name("", None).as_deref(), Some(&b"i.html"[..]));
        assert_eq!(name("a/b", Some("*/*")).as_deref(), Some(&b"a/b/i.html"[..]));
        assert_eq!(name("a", Some("application/json, text/plain")), None);
        assert!(Indexes { name: None, listings: true }.of(b"a", Accept(None)).is_none());
        // Without listings there is nothing else to be had.
        let alone = Indexes { name: Some("i.html"), listings: false };
        let (_, role) = alone.of(b"a", Accept(Some(b"application/json"))).unwrap();
        assert_eq!(role, Role::Index { or_listing: false });
    }
}
