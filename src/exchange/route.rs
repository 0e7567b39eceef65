//! Where a request goes, by its target alone: the same on both planes.

use super::refusal::Refusal;
use crate::http::cache_status::Forward;
use crate::http::target::Target;
use crate::origin::staging;

/// Step 1 of a read: the normalised target, or why there is nothing under it for anybody.
///
/// # Errors
/// [`Refusal::Malformed`] for what names nothing; [`Refusal::NotFound`] for names that are the server's own.
pub fn read(raw: &[u8]) -> Result<Target<'_>, Refusal> {
    match Target::parse(raw).map_err(Refusal::Malformed)? {
        Target::File(name) if staging::is_hidden(&name) => {
            Err(Refusal::NotFound { name: name.into(), forward: Forward::UriMiss })
        }
        target => Ok(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_under_way_are_not_to_be_had() {
        assert!(matches!(read(b"/a/.forebay-upload-0123456789abcdef.tmp"), Err(Refusal::NotFound { .. })));
        assert!(matches!(read(b"/a/b"), Ok(Target::File(_))));
        assert!(matches!(read(b"/a/"), Ok(Target::Directory(_))));
        assert!(matches!(read(b"/.."), Err(Refusal::Malformed(_))));
    }
}
