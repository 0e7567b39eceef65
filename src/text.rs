//! Text from elsewhere (names, a server's or a client's words) made safe for a terminal: nothing in it can move the
//! cursor, recolour the screen, read in another order than it is written, or stand there unseen.

use std::borrow::Cow;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Escapes characters that are not [plain](is_plain), and bytes that are not UTF-8. What is escaped already stays as it
/// is.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_unsafe(c) { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail, here and below.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// A path, escaped.
pub fn path(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// A text of several lines, escaped but for the ends of its lines.
pub fn lines(text: &str) -> String {
    text.split('\n').map(|line| escape(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

/// A JSON document with everything in its strings that is not [plain](is_plain) written as `\uXXXX`. It means the same
/// to whoever reads it as JSON. Between strings JSON allows no such characters but ends of lines and tabs, which stay.
pub fn json(document: &str) -> Cow<'_, str> {
    let is_unsafe = |c: char| is_unsafe(c) && !matches!(c, '\n' | '\r' | '\t');
    if !document.contains(is_unsafe) {
        return Cow::Borrowed(document);
    }
    let mut out = String::with_capacity(document.len() + 16);
    for c in document.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Whether a text can be shown on a terminal as it is.
pub fn is_plain(text: &str) -> bool {
    !text.contains(is_unsafe)
}

/// Control characters (C0, DEL, C1); what changes the direction of text and separates lines (UAX #9, table 2); and
/// format characters that cannot be seen, save for the joiners, which scripts and emoji need.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A number of bytes for people: `812 B`, `12.34 MiB`.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// Appends a number in decimal.
pub fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_is_dangerous_is_escaped() {
        assert_eq!(escape("plain ünï name 👩\u{200d}🚀.txt".as_bytes()), "plain ünï name 👩\u{200d}🚀.txt");
        assert_eq!(escape(b"a\x1b[31mred\nline"), "a\\u{1b}[31mred\\nline");
        assert_eq!(escape("x\u{9b}31m\u{202e}txt.exe".as_bytes()), "x\\u{9b}31m\\u{202e}txt.exe");
        assert_eq!(escape("a\u{200b}b\u{feff}c\u{ad}".as_bytes()), "a\\u{200b}b\\u{feff}c\\u{ad}");
        assert_eq!(escape(b"caf\xe9"), "caf\\xe9");
        assert_eq!(lines("a\u{9b}\nb\r\n"), "a\\u{9b}\nb\\r\n");
        assert_eq!(path(Path::new("/a\u{7f}")), "/a\\u{7f}");
    }

    #[test]
    fn json_is_escaped_within_its_strings_only() {
        assert_eq!(
            json("{\n\t\"a\u{9b}\u{e0041}\": \"\u{7f}é\"\r\n}"),
            "{\n\t\"a\\u009b\\udb40\\udc41\": \"\\u007fé\"\r\n}"
        );
        assert!(matches!(json("[\"plain\"]\n"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn nothing_escaped_controls_a_terminal(bytes: Vec<u8>) {
            let escaped = escape(&bytes);
            prop_assert!(is_plain(&escaped));
            prop_assert_eq!(escape(escaped.as_bytes()), escaped);
        }

        #[test]
        fn json_means_the_same_escaped(text: String) {
            let document = serde_json::to_string(&text).unwrap();
            prop_assert!(is_plain(&json(&document)));
            prop_assert_eq!(serde_json::from_str::<String>(&json(&document)).unwrap(), text);
        }
    }
}
