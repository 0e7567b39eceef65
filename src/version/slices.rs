//! Slices: pieces of one size of an object that is too large to be cached as a whole.
//!
//! The object has an entry without bytes, which describes it ([`Stored::slice`]). Each slice has an entry of its own,
//! whose key names the object's version: slices of two versions never meet, and those of an earlier one are evicted
//! like all that nobody asks for.

use super::stored::Stored;
use std::ops::Range;

/// The keys of all other entries begin with a slash.
const MARK: u8 = 0;

/// One slice of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    pub number: u64,
    /// Its bytes of the object; fewer than others have at the object's end.
    pub range: Range<u64>,
}

impl Slice {
    /// The slice that has byte `at` of an object of `size` bytes.
    pub fn at(at: u64, bytes: u64, size: u64) -> Slice {
        let number = at / bytes.max(1);
        let from = number.saturating_mul(bytes);
        Slice { number, range: from..from.saturating_add(bytes).min(size).max(from) }
    }

    pub fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Its key: for the object that is cached under `name`.
    pub fn key(&self, name: &[u8], stored: &Stored) -> Vec<u8> {
        let etag = stored.etag.as_deref().unwrap_or_default();
        // Of known lengths but for the name, so that no two keys look alike.
        let length = etag.len() as u32;
        [&[MARK], &self.number.to_le_bytes()[..], &length.to_le_bytes(), etag, name].concat()
    }
}

impl Stored {
    /// The slice that has byte `at` of the body; `None` if it is cached as a whole.
    pub fn slice_of(&self, at: u64) -> Option<Slice> {
        self.slice.map(|bytes| Slice::at(at, bytes, self.size))
    }

    /// Bytes that its entry has.
    pub fn kept_bytes(&self) -> u64 {
        if self.slice.is_some() { 0 } else { self.size }
    }
}

/// A key as people read it: of a slice, the name of its object and its number.
pub fn readable(key: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let parts = || {
        let rest = key.strip_prefix(&[MARK])?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let name = rest.get(u32::from_le_bytes(*length) as usize..)?;
        Some((name, u64::from_le_bytes(*number)))
    };
    match parts() {
        Some((name, number)) => [name, format!(" (slice {number})").as_bytes()].concat().into(),
        None => key.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_an_object_once() {
        for (size, bytes) in [(1, 4), (4, 4), (5, 4), (8, 4), (10, 3), (0, 4)] {
            let mut at = 0;
            let mut number = 0;
            while at < size {
                let slice = Slice::at(at, bytes, size);
                assert_eq!((slice.number, slice.range.start), (number, at));
                assert_eq!(Slice::at(slice.range.end - 1, bytes, size), slice, "its last byte is in it, too");
                (at, number) = (slice.range.end, number + 1);
            }
            assert_eq!(at, size);
        }
        assert_eq!(Slice::at(u64::MAX, 1 << 20, u64::MAX).range.end, u64::MAX);
    }

    #[test]
    fn keys_are_read_by_people_and_by_nobody_else() {
        let key = [&[0u8][..], &7u64.to_le_bytes(), &3u32.to_le_bytes(), b"\"e\"", b"/a"].concat();
        assert_eq!(&*readable(&key), b"/a (slice 7)");
        for other in [&b"/a"[..], b"", b"\0", b"\0abc", &key[..13]] {
            assert_eq!(&*readable(other), other);
        }
    }
}
