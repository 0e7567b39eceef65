//! Where a request goes, by its target alone: the same on both planes.

use super::joined::Joined;
use super::refusal::Refusal;
use crate::http::accept::Accept;
use crate::http::cache_status::Forward;
use crate::http::target::Target;
use crate::origin::Policy;

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

/// The name of the file that stands for a directory, if `index` is the last part of its name and the client takes pages: whoever
/// asks for JSON or plain text alone wants to know what the directory holds.
pub fn index(directory: &[u8], index: Option<&str>, accept: Accept<'_>) -> Option<Joined> {
    let index = index.filter(|_| accept.rank("text", "html").is_some())?.as_bytes();
    Some(if directory.is_empty() { Joined::new(&[index]) } else { Joined::new(&[directory, b"/", index]) })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            index(directory.as_bytes(), Some("i.html"), accept).map(|name| name.bytes().to_vec())
        };
        assert_eq!(name("", None).as_deref(), Some(&b"i.html"[..]));
        assert_eq!(name("a/b", Some("*/*")).as_deref(), Some(&b"a/b/i.html"[..]));
        assert_eq!(name("a", Some("application/json, text/plain")), None);
        assert!(index(b"a", None, Accept(None)).is_none());
    }
}
