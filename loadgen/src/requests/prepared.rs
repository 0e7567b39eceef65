//! The bytes of every request, written once before the run.

use super::Item;
use crate::{corpus::body::Body, endpoint::Endpoint};
use anyhow::{Result, bail};

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
    /// Writes a GET for every item. `headers` are further lines, `verify` the seed of the corpus where bodies are checked.
    ///
    /// # Errors
    /// A header that is not a `Name: value` line.
    pub fn prepare(endpoint: &Endpoint, items: &[Item], headers: &[String], verify: Option<u64>) -> Result<Requests> {
        let mut rest = format!(" HTTP/1.1\r\nHost: {}\r\n", endpoint.host);
        for header in headers {
            match header.split_once(':') {
                Some((name, _)) if !name.is_empty() && !header.contains(['\r', '\n']) => {
                    rest.push_str(header);
                    rest.push_str("\r\n");
                }
                _ => bail!("`{header}` is not a header: write `Name: value`"),
            }
        }
        rest.push_str("\r\n");
        let mut requests = Requests { bytes: Vec::new(), ends: Vec::new(), sizes: Vec::new(), bodies: Vec::new() };
        for item in items {
            for part in ["GET ", endpoint.base(), &item.target, &rest] {
                requests.bytes.extend_from_slice(part.as_bytes());
            }
            requests.ends.push(requests.bytes.len());
            requests.sizes.push(item.size);
            requests.bodies.extend(verify.map(|seed| Body::of(&item.name(), seed)));
        }
        Ok(requests)
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
        let requests = Requests::prepare(&endpoint, &items, &["X: y".into()], Some(3)).unwrap();
        assert_eq!(requests.bytes(0), b"GET /base/a HTTP/1.1\r\nHost: 127.0.0.1:80\r\nX: y\r\n\r\n");
        assert_eq!(requests.bytes(1), b"GET /base/b%20c?d HTTP/1.1\r\nHost: 127.0.0.1:80\r\nX: y\r\n\r\n");
        assert_eq!((requests.size(0), requests.size(1), requests.len()), (Some(5), None, 2));
        assert_eq!(requests.body(1), Some(Body::of(b"b c", 3)));
        for header in ["X", ": y", "X: y\r\nZ: 1"] {
            assert!(Requests::prepare(&endpoint, &items, &[header.into()], None).is_err(), "{header}");
        }
    }
}
