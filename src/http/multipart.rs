//! Several ranges in one body: `multipart/byteranges` (RFC 9110, 14.6).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::OnceLock;

/// A body of several parts, each a range of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multipart {
    ranges: Vec<Range<u64>>,
    boundary: String,
    /// Bytes of the file.
    size: u64,
    /// The media type of the file.
    content_type: String,
}

impl Multipart {
    /// The body with these ranges of a file of so many bytes, in the version with this tag.
    pub fn new(ranges: Vec<Range<u64>>, size: u64, etag: &[u8], content_type: &str) -> Multipart {
        // Keyed at random, and another one for each version, so that no file can hold it on purpose.
        static KEY: OnceLock<RandomState> = OnceLock::new();
        let key = KEY.get_or_init(RandomState::new);
        let word = |salt: u8| key.hash_one((salt, etag, &ranges));
        let boundary = format!("forebay-{:016x}{:016x}", word(0), word(1));
        Multipart { ranges, boundary, size, content_type: content_type.into() }
    }

    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// The value of the response's Content-Type.
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// What stands before the bytes of a range.
    pub fn head(&self, range: &Range<u64>) -> String {
        let Multipart { boundary, content_type, size, .. } = self;
        let (first, last) = (range.start, range.end - 1);
        format!(
            "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n"
        )
    }

    /// What stands at the end.
    pub fn tail(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }

    /// Bytes of the whole body.
    pub fn length(&self) -> u64 {
        let part = |range: &Range<u64>| self.head(range).len() as u64 + (range.end - range.start);
        self.ranges.iter().map(part).sum::<u64>() + self.tail().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_length_that_it_says() {
        let file: Vec<u8> = (0..100).collect();
        let body = Multipart::new(vec![0..1, 90..100], 100, b"\"1\"", "text/plain; charset=utf-8");
        let mut bytes = Vec::new();
        for range in body.ranges() {
            bytes.extend_from_slice(body.head(range).as_bytes());
            bytes.extend_from_slice(&file[range.start as usize..range.end as usize]);
        }
        bytes.extend_from_slice(body.tail().as_bytes());
        assert_eq!(bytes.len() as u64, body.length());
        let text = String::from_utf8_lossy(&bytes);
        let boundary = body.content_type().split_once("boundary=").unwrap().1.to_owned();
        assert_eq!(text.matches(&format!("\r\n--{boundary}")).count(), 3);
        assert!(text.contains("\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes 90-99/100\r\n\r\n"));
        assert!(text.ends_with(&format!("--{boundary}--\r\n")));
        let other = Multipart::new(vec![0..1, 90..100], 100, b"\"2\"", "text/plain; charset=utf-8");
        assert_ne!(body.content_type(), other.content_type());
    }
}
