//! Text from elsewhere (names, a server's words) made safe for a terminal: nothing in it can move the cursor, recolour the screen, or
//! read in another order than it is written.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Escapes control characters (C0, DEL, C1), characters that change the direction of text, and bytes that are not UTF-8.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || is_directional(c) { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// A path, escaped.
pub fn path(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// Unicode's explicit directional formatting characters and line and paragraph separators (UAX #9, table 2).
fn is_directional(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number of bytes for people: `812 B`, `12.34 MiB`.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_is_dangerous_is_escaped() {
        assert_eq!(escape("plain ünï name.txt".as_bytes()), "plain ünï name.txt");
        assert_eq!(escape(b"a\x1b[31mred\nline"), "a\\u{1b}[31mred\\nline");
        assert_eq!(escape("x\u{9b}31m\u{202e}txt.exe".as_bytes()), "x\\u{9b}31m\\u{202e}txt.exe");
        assert_eq!(escape(b"caf\xe9"), "caf\\xe9");
    }

    proptest! {
        #[test]
        fn nothing_escaped_controls_a_terminal(bytes: Vec<u8>) {
            prop_assert!(!escape(&bytes).chars().any(|c| c.is_control() || is_directional(c)));
        }
    }
}
