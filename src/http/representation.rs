//! What a response says of what it sends: the version of a file, or a response that a remote origin gave.

use super::date;
use crate::text::write_number;
use crate::version::stored::Stored;
use crate::version::{Described, Etag, Label, Version};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What every response about one version says. Written anew for each, which costs less than keeping the text.
#[derive(Debug, Clone, Copy)]
pub enum Representation<'a> {
    /// A file of the directory that is served.
    File(&'a Described),
    /// A response of a remote origin, which is so many seconds old.
    Response { stored: &'a Stored, age: u64 },
}

/// An entity tag, without allocating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag<'a> {
    /// A file's, which is strong.
    Own(Etag),
    /// One that a remote origin gave.
    Origins(&'a [u8]),
}

impl std::ops::Deref for Tag<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Tag::Own(etag) => etag,
            Tag::Origins(etag) => etag,
        }
    }
}

impl<'a> Representation<'a> {
    /// Bytes of the body.
    pub fn size(self) -> u64 {
        match self {
            Representation::File(described) => described.version.size,
            Representation::Response { stored, .. } => stored.size,
        }
    }

    /// The entity tag, with its quotes; strong, unless it begins with `W/`.
    pub fn etag(self) -> Option<Tag<'a>> {
        match self {
            Representation::File(described) => Some(Tag::Own(described.etag())),
            Representation::Response { stored, .. } => stored.etag.as_deref().map(Tag::Origins),
        }
    }

    /// What Last-Modified says, in seconds since 1970.
    pub fn modified_seconds(self) -> Option<i64> {
        match self {
            Representation::File(described) => Some(described.modified_seconds()),
            Representation::Response { stored, .. } => stored.modified,
        }
    }

    /// When the origin sent it, if it is stored; in seconds since 1970.
    pub fn sent_seconds(self) -> Option<i64> {
        match self {
            Representation::File(_) => None,
            Representation::Response { stored, .. } => stored.sent,
        }
    }

    /// The media type, with its character set.
    pub fn content_type(self) -> Option<&'a str> {
        match self {
            Representation::File(described) => Some(described.content_type()),
            Representation::Response { stored, .. } => stored.content_type.as_deref(),
        }
    }

    /// The status of a response with all of it.
    pub fn status(self) -> u16 {
        match self {
            Representation::File(_) => 200,
            Representation::Response { stored, .. } => stored.status,
        }
    }

    /// Whether a response says itself when it was made.
    pub fn has_date(self) -> bool {
        matches!(self, Representation::Response { .. })
    }

    /// Appends the fields that describe this version, each line with its CRLF.
    pub fn write_fields(self, out: &mut Vec<u8>) {
        match self {
            Representation::File(described) => described.write_fields(out),
            Representation::Response { stored, age } => {
                out.extend_from_slice(&stored.fields);
                out.extend_from_slice(b"Age: ");
                write_number(out, age);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Appends the fields that describe its body, likewise.
    pub fn write_content_fields(self, out: &mut Vec<u8>) {
        match self {
            Representation::File(described) => described.write_content_fields(out),
            Representation::Response { stored, .. } => {
                if let Some(media) = &stored.content_type {
                    out.extend_from_slice(b"Content-Type: ");
                    out.extend_from_slice(media.as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(&stored.content_fields);
            }
        }
    }
}

impl Described {
    /// The representation of a file in this version.
    pub fn new(version: Version, label: Arc<Label>) -> Described {
        // Never later than the Date of a response (RFC 9110, 8.8.2.1).
        let modified = version.last_modified().min(SystemTime::now());
        let modified = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Described { version, label, modified }
    }

    /// This version, described as a coding of another one.
    pub fn encoding(&self, original: &Described) -> Described {
        Described { label: original.label.clone(), version: self.version, modified: self.modified }
    }

    /// The strong entity tag, with its quotes.
    pub fn etag(&self) -> Etag {
        self.version.etag()
    }

    /// Appends the fields that describe this version, each line with its CRLF.
    pub fn write_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"ETag: ");
        out.extend_from_slice(&self.etag());
        out.extend_from_slice(b"\r\nLast-Modified: ");
        date::write(out, self.modified);
        out.extend_from_slice(b"\r\nAccept-Ranges: bytes\r\n");
        out.extend_from_slice(self.label.fields.as_bytes());
    }

    /// The number of the origin that asks among those that the label names.
    pub fn allowed(&self, origin: Option<&[u8]>) -> Option<u16> {
        let origins = &self.label.origins;
        // Nearly all have none.
        let origin = origin.filter(|_| !origins.is_empty())?;
        origins.iter().position(|own| own.as_bytes() == origin).and_then(|number| u16::try_from(number).ok())
    }

    /// Appends the field that allows pages of this origin to read it, of those that the label names.
    pub fn write_origin(&self, out: &mut Vec<u8>, origin: u16) {
        let Some(origin) = self.label.origins.get(usize::from(origin)) else { return };
        out.extend_from_slice(b"Access-Control-Allow-Origin: ");
        out.extend_from_slice(origin.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the fields that describe its body, likewise.
    pub fn write_content_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(self.label.content_type.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.label.content_fields.as_bytes());
    }

    /// The media type, with its character set.
    pub fn content_type(&self) -> &str {
        &self.label.content_type
    }

    /// What Last-Modified says, in seconds since 1970.
    pub fn modified_seconds(&self) -> i64 {
        self.modified as i64
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A representation for other modules' tests.
    pub(crate) fn sample(size: u64, modified_seconds: i64) -> Described {
        let mtime_ns = modified_seconds * 1_000_000_000 + 5;
        let version = Version { dev: 1, ino: 2, size, mtime_ns, ctime_ns: mtime_ns, links: 1 };
        let label = Label {
            content_type: "text/plain; charset=utf-8".into(),
            fields: "X-A: 1\r\n".into(),
            content_fields: "Content-Language: en\r\n".into(),
            origins: Vec::new(),
        };
        Described::new(version, label.into())
    }

    #[test]
    fn fields_describe_the_version() {
        let representation = sample(10, 784_111_777);
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let text = written(&|out| representation.write_fields(out));
        assert!(text.contains("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{text}");
        assert!(!text.contains("Content-Type"), "{text}");
        let content = written(&|out| representation.write_content_fields(out));
        assert!(text.ends_with("X-A: 1\r\n"), "{text}");
        assert_eq!(content, "Content-Type: text/plain; charset=utf-8\r\nContent-Language: en\r\n");
        assert_eq!(representation.content_type(), "text/plain; charset=utf-8");
        assert!(representation.etag().starts_with(b"\"") && representation.etag().ends_with(b"\""));
        assert_ne!(sample(10, 784_111_777).etag(), sample(11, 784_111_777).etag());
        assert_ne!(sample(10, 784_111_777).etag(), sample(10, 784_111_778).etag());
    }

    #[test]
    fn nothing_was_modified_later_than_now() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let said = sample(10, now + 1_000_000).modified_seconds();
        assert!((now - 2..=now).contains(&said), "{said} at {now}");
    }
}
