//! The bytes of every request, written once before the run.

use super::{Form, Item};
use crate::{classify::Rule, corpus::body::Body, endpoint::Endpoint};
use anyhow::{Result, ensure};

/// All requests of a run together: they stand in memory, contents included.
const BYTES_MAX: usize = 4 << 30;

/// Every request of a run, ready to be sent.
#[derive(Debug)]
pub struct Requests {
    bytes: Vec<u8>,
    /// Where each request ends in `bytes`; it begins where the one before ends.
    ends: Vec<usize>,
    sizes: Vec<Option<u64>>,
    /// The body of each name; empty when bodies are not verified.
    bodies: Vec<Body>,
    rule: Rule,
    bodiless: bool,
    single_use: bool,
    may_repeat: bool,
}

impl Requests {
    /// Writes a request of this `form` for every item. `verify` is the seed of the corpus where bodies are checked.
    ///
    /// # Errors
    /// More than fits the memory that is meant for it.
    pub fn prepare(endpoint: &Endpoint, items: &[Item], form: &Form, verify: Option<u64>) -> Result<Requests> {
        let (method, rest) = (format!("{} ", form.method.as_str()), form.rest(endpoint));
        let names: usize = items.iter().map(|item| method.len() + endpoint.base().len() + item.target.len()).sum();
        let bytes = rest.len().saturating_mul(items.len()).saturating_add(names);
        ensure!(
            bytes <= BYTES_MAX,
            "the requests for {} names have {bytes} bytes, and {BYTES_MAX} are possible: fewer names, or a smaller \
            body",
            items.len()
        );
        let mut requests = Requests {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(items.len()),
            sizes: Vec::with_capacity(items.len()),
            bodies: Vec::new(),
            rule: form.rule.clone(),
            bodiless: form.method.is_head(),
            single_use: form.single_use,
            may_repeat: form.method.is_idempotent(),
        };
        for item in items {
            for part in [method.as_bytes(), endpoint.base().as_bytes(), item.target.as_bytes(), &rest] {
                requests.bytes.extend_from_slice(part);
            }
            requests.ends.push(requests.bytes.len());
            requests.sizes.push(item.size);
            requests.bodies.extend(verify.map(|seed| Body::of(&item.name(), seed)));
        }
        Ok(requests)
    }

    /// What tells hits from misses.
    #[inline]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Whether responses have no bodies, whatever their heads say.
    pub fn bodiless(&self) -> bool {
        self.bodiless
    }

    /// Whether each request has a connection of its own.
    #[inline]
    pub fn single_use(&self) -> bool {
        self.single_use
    }

    /// Whether what a closed connection left unanswered may be sent again.
    pub fn may_repeat(&self) -> bool {
        self.may_repeat
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
    use crate::requests::Fields;

    #[test]
    fn requests_are_whole_and_apart() {
        let endpoint = Endpoint::parse("http://127.0.0.1:80/base/").unwrap();
        let item = |target: &str, size| Item { target: target.into(), size };
        let items = [item("a", Some(5)), item("b%20c?d", None)];
        let form = Form { fields: Fields::parse(&["X: y".into()]).unwrap(), ..Form::default() };
        let requests = Requests::prepare(&endpoint, &items, &form, Some(3)).unwrap();
        assert_eq!(requests.bytes(0), b"GET /base/a HTTP/1.1\r\nHost: 127.0.0.1:80\r\nX: y\r\n\r\n");
        assert_eq!(requests.bytes(1), b"GET /base/b%20c?d HTTP/1.1\r\nHost: 127.0.0.1:80\r\nX: y\r\n\r\n");
        assert_eq!((requests.size(0), requests.size(1), requests.len()), (Some(5), None, 2));
        assert_eq!(requests.body(1), Some(Body::of(b"b c", 3)));
        let form = Form { method: "PUT".parse().unwrap(), content: Some(vec![b'x'; 1 << 20]), ..Form::default() };
        let requests = Requests::prepare(&endpoint, &items, &form, None).unwrap();
        assert!(requests.bytes(1).starts_with(b"PUT /base/b%20c?d HTTP/1.1\r\n") && requests.bytes(1).ends_with(b"xx"));
        let many = vec![items[0].clone(); 5000];
        let error = Requests::prepare(&endpoint, &many, &form, None).unwrap_err().to_string();
        assert!(error.contains("5000 names"), "{error}");
    }
}
