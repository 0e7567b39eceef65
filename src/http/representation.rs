//! The representation of a file: its version, and the header fields that describe it.

use crate::version::Version;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What every response about one version of one file says. Formatted once, sent many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Representation {
    pub identity: Version,
    /// `ETag: "…"`, `Last-Modified`, `Accept-Ranges` and `Content-Type`, each line with its CRLF.
    fields: Arc<[u8]>,
    etag_len: u16,
    /// Where the fields begin that describe a body, and go with one only.
    content_at: u16,
    /// What Last-Modified says, in seconds since 1970.
    modified: i64,
}

const ETAG: &str = "ETag: ";
const CONTENT_TYPE: &str = "Content-Type: ";

impl Representation {
    /// The representation of the file `name` in the version `identity`.
    pub fn new(name: &[u8], identity: Version) -> Representation {
        let etag = identity.etag();
        // Never later than the Date of a response (RFC 9110, 8.8.2.1).
        let modified = identity.last_modified().min(SystemTime::now());
        let seconds = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let modified = httpdate::fmt_http_date(modified);
        let mut fields = format!("{ETAG}{etag}\r\nLast-Modified: {modified}\r\nAccept-Ranges: bytes\r\n");
        let content_at = fields.len() as u16;
        fields.push_str(&format!("{CONTENT_TYPE}{}\r\n", content_type(name)));
        let fields = fields.into_bytes().into();
        Representation { identity, fields, etag_len: etag.len() as u16, content_at, modified: seconds }
    }

    /// The strong entity tag, with its quotes.
    pub fn etag(&self) -> &[u8] {
        &self.fields[ETAG.len()..ETAG.len() + usize::from(self.etag_len)]
    }

    /// The fields that describe this version, each line with its CRLF.
    pub fn fields(&self) -> &[u8] {
        &self.fields[..usize::from(self.content_at)]
    }

    /// The fields that describe its body, likewise.
    pub fn content_fields(&self) -> &[u8] {
        &self.fields[usize::from(self.content_at)..]
    }

    /// The media type.
    pub fn content_type(&self) -> &str {
        let line = self.content_fields().split(|&byte| byte == b'\r').next().unwrap_or_default();
        line.get(CONTENT_TYPE.len()..).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }

    /// What Last-Modified says, in seconds since 1970.
    pub fn modified_seconds(&self) -> i64 {
        self.modified
    }

    /// Bytes that this holds beside its own struct.
    pub fn heap_bytes(&self) -> usize {
        self.fields.len()
    }
}

/// The media type of a file by the extension of its name; text is taken to be UTF-8.
pub fn content_type(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let guess = mime_guess::from_path(&*name).first_raw();
    match guess {
        Some(text) if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        Some(other) => other.into(),
        None => "application/octet-stream".into(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A representation for other modules' tests.
    pub(crate) fn sample(size: u64, modified_seconds: i64) -> Representation {
        let mtime_ns = modified_seconds * 1_000_000_000 + 5;
        Representation::new(b"a.txt", Version { dev: 1, ino: 2, size, mtime_ns, ctime_ns: mtime_ns, links: 1 })
    }

    #[test]
    fn fields_describe_the_version() {
        let representation = sample(10, 784_111_777);
        let text = String::from_utf8(representation.fields().to_vec()).unwrap();
        assert!(text.contains("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{text}");
        assert!(!text.contains("Content-Type"), "{text}");
        assert_eq!(representation.content_fields(), b"Content-Type: text/plain; charset=utf-8\r\n");
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

    #[test]
    fn types_go_by_extension() {
        assert_eq!(content_type(b"a/b.PNG"), "image/png");
        assert_eq!(content_type(b"noextension"), "application/octet-stream");
        assert_eq!(content_type(b"\xff.html"), "text/html; charset=utf-8");
    }
}
