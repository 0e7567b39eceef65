//! Which fields of a response are kept, and which of them a later answer replaces.

use crate::http::hop;
use hyper::HeaderMap;
use hyper::header::{self, HeaderName};

/// Fields for this server only that are not hop-by-hop by name (RFC 9111, 3.1).
const FOR_PROXIES: [HeaderName; 1] = [HeaderName::from_static("proxy-authentication-info")];

/// Fields that describe the bytes that are kept: a 304 has none, so what it says of them is not about it (RFC 9111,
/// 3.2).
const OF_THE_BYTES: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_RANGE, header::TRANSFER_ENCODING];

/// Whether a field is kept with the response that it came with. `Age` is not: it is counted on.
pub fn is_stored(name: &HeaderName) -> bool {
    !hop::is_hop_by_hop(name) && !FOR_PROXIES.contains(name) && *name != header::AGE
}

/// The fields that were kept after the origin has said with a 304 that they still hold: those that the 304 has, too,
/// are as it says, but for those that describe the bytes.
pub fn update(stored: &mut HeaderMap, not_modified: &HeaderMap) {
    for name in not_modified.keys().filter(|name| is_stored(name) && !OF_THE_BYTES.contains(name)) {
        let mut values = not_modified.get_all(name).iter();
        if let Some(first) = values.next() {
            stored.insert(name, first.clone());
        }
        for value in values {
            stored.append(name, value.clone());
        }
    }
}

/// Removes the fields that are not kept.
pub fn retain_stored(fields: &mut HeaderMap, left_out: &[HeaderName]) {
    let unwanted: Vec<HeaderName> =
        fields.keys().filter(|name| !is_stored(name) || left_out.contains(name)).cloned().collect();
    for name in unwanted {
        fields.remove(name);
    }
}
