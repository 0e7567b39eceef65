//! Where a request goes, by its target alone: the same on both planes.

use super::refusal::Refusal;
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
}
