//! The bytes of every request, written once before the run.

use super::{Fields, Item};
use crate::{corpus::body::Body, endpoint::Endpoint};

/// Every request of a run, ready to be sent.
#[derive(Debug)]
pub struct Requests {
    bytes: Vec<u8>,
    /// Where each request ends in `bytes`; it begins where the one before ends.
    ends: Vec<usize>,
    sizes: Vec<Option<u64>>,
    /// The body of each name; empty when bodies are not verified.
    bodies: Vec<Body>,
}

impl Requests {
    /// Writes a GET for every item, with `fields`. `verify` is the seed of the corpus where bodies are checked.
    pub fn prepare(endpoint: &Endpoint, items: &[Item], fields: &Fields, verify: Option<u64>) -> Requests {
        let rest = format!(" HTTP/1.1\r\n{}\r\n", fields.text(endpoint));
        let mut requests = Requests { bytes: Vec::new(), ends: Vec::new(), sizes: Vec::new(), bodies: Vec::new() };
        for item in items {
            for part in ["GET ", endpoint.base(), &item.target, &rest] {
                requests.bytes.extend_from_slice(part.as_bytes());
            }
            requests.ends.push(requests.bytes.len());
            requests.sizes.push(item.size);
            requests.bodies.extend(verify.map(|seed| Body::of(&item.name(), seed)));
        }
        requests
    }

    /// The whole request for item `index`.
    #[inline]
    pub fn bytes(&self, index: u32) -> &[u8] {
        let index = index as usize;
        let from = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[from..self.ends[index]]
    }

    /// The size that item `index` is known to have.
    pub fn size(&self, index: u32) -> Option<u64> {
        self.sizes[index as usize]
    }

    /// The body that item `index` must have, if bodies are verified.
    pub fn body(&self, index: u32) -> Option<Body> {
        self.bodies.get(index as usize).copied()
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is nothing to ask for.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The longest request in bytes.
    pub fn longest(&self) -> usize {
        (0..self.len() as u32).map(|index| self.bytes(index).len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_whole_and_apart() {
        let endpoint = Endpoint::parse("http://127.0.0.1:80/base/").unwrap();
        let item = |target: &str, size| Item { target: target.into(), size };
        let items = [item("a", Some(5)), item("b%20c?d", None)];
        let fields = Fields::parse(&["X: y".into()]).unwrap();
        let requests = Requests::prepare(&endpoint, &items, &fields, Some(3));
        assert_eq!(requests.bytes(0), b"GET /base/a HTTP/1.1\r\nHost: 127.0.0.1:80\r\nX: y\r\n\r\n");
        assert_eq!(requests.bytes(1), b"GET /base/b%20c?d HTTP/1.1\r\nHost: 127.0.0.1:80\r\nX: y\r\n\r\n");
        assert_eq!((requests.size(0), requests.size(1), requests.len()), (Some(5), None, 2));
        assert_eq!(requests.body(1), Some(Body::of(b"b c", 3)));
    }
}
