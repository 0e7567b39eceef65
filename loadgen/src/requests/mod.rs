//! What is asked for: the names, in which order, and the bytes of each request.

pub mod fields;
pub mod form;
pub mod listing;
pub mod order;
pub mod paths;
pub mod prepared;

pub use fields::Fields;
pub use form::{Form, Method};
pub use order::{Chooser, Order, Popularity};
pub use prepared::Requests;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, percent_encode, utf8_percent_encode};

/// One name that requests ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The path below the base of the URL, without a leading slash, as it stands in the request line.
    pub target: String,
    /// The size of the file in bytes, where the source of the name knows it.
    pub size: Option<u64>,
}

impl Item {
    /// The name of the file: the target decoded, without its query.
    pub fn name(&self) -> Vec<u8> {
        percent_decode_str(self.target.split('?').next().unwrap_or_default()).collect()
    }
}

/// What cannot stand in a request line at all.
const NEVER: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// What has a meaning of its own in a path, or cannot stand in one.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Writes the name of a file as a path in a request line.
pub fn encode_name(name: &[u8]) -> String {
    percent_encode(name, RESERVED).to_string()
}

/// Encodes what cannot stand in a request line and leaves the rest of a target as it is.
pub fn encode_target(target: &str) -> String {
    utf8_percent_encode(target, NEVER).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_targets_are_each_others_inverse() {
        for name in ["a/b.txt", "with space?and%25#more", "ünïcode", "a+b&c"] {
            let target = encode_name(name.as_bytes());
            assert_eq!(encode_target(&target), target, "{name} is encoded whole");
            assert_eq!(Item { target, size: None }.name(), name.as_bytes());
        }
        assert_eq!(encode_target("a b%20c?d=é\r\n"), "a%20b%20c?d=%C3%A9%0D%0A");
    }
}
