//! One message of several responses: heads and bodies, gathered where they lie and sent in one go.

use crate::cache::entry::Lease;
use crate::limits;
use crate::ring::lent::{Lent, Loan};
use std::ops::Range;

/// Responses on their way, or about to be: text (heads, small bodies) and leased bodies in order.
pub struct Batch {
    text: Vec<u8>,
    bodies: Vec<Body>,
    iovecs: Vec<libc::iovec>,
    message: libc::msghdr,
    body_bytes: usize,
    responses: usize,
}

/// A leased body, sent after the first `after` bytes of the text.
struct Body {
    after: usize,
    lease: Lease,
    range: Range<usize>,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch {
            text: Vec::with_capacity(512),
            bodies: Vec::new(),
            iovecs: Vec::new(),
            // SAFETY: a message header of null pointers and zero lengths is valid: an empty message.
            message: unsafe { std::mem::zeroed() },
            body_bytes: 0,
            responses: 0,
        }
    }
}

impl Batch {
    /// Text is appended here.
    pub fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Appends bytes of a leased file.
    pub fn push_body(&mut self, lease: Lease, range: Range<usize>) {
        self.body_bytes += range.len();
        self.bodies.push(Body { after: self.text.len(), lease, range });
    }

    /// One more response is in it, at least with its head.
    pub fn count_response(&mut self) {
        self.responses += 1;
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.text.len() + self.body_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it has enough for one send.
    pub fn is_full(&self) -> bool {
        self.responses >= limits::BATCH_RESPONSES || self.len() >= limits::BATCH_BYTES
    }

    /// The text, if that is all there is.
    pub fn only_text(&self) -> Option<&[u8]> {
        self.bodies.is_empty().then_some(&self.text)
    }

    /// Drops the first bytes of the text, which were sent already.
    ///
    /// # Panics
    /// If there are bodies.
    pub fn drop_sent_text(&mut self, sent: usize) {
        assert!(self.bodies.is_empty(), "only a batch of text is sent in parts");
        self.text.drain(..sent);
    }

    /// Empties it; the leases end.
    pub fn clear(&mut self) {
        self.text.clear();
        if self.text.capacity() > limits::SPARE_TEXT_BYTES {
            self.text = Vec::new();
        }
        self.bodies.clear();
        self.iovecs.clear();
        self.body_bytes = 0;
        self.responses = 0;
    }

    /// Points the message at what was gathered.
    fn gather(&mut self) -> *mut libc::msghdr {
        self.iovecs.clear();
        let mut from = 0;
        let text = |range: Range<usize>| {
            let bytes = &self.text[range];
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
        };
        for body in &self.bodies {
            if body.after > from {
                self.iovecs.push(text(from..body.after));
                from = body.after;
            }
            let bytes = &body.lease.bytes()[body.range.clone()];
            self.iovecs.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        }
        if self.text.len() > from {
            self.iovecs.push(text(from..self.text.len()));
        }
        self.message.msg_iov = self.iovecs.as_mut_ptr();
        self.message.msg_iovlen = self.iovecs.len() as _;
        &raw mut self.message
    }

    /// Lends the whole batch for one send.
    pub fn lend(batch: &mut Lent<Batch>) -> Loan<libc::msghdr> {
        batch.lend(Batch::gather)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_piece() {
        let mut batch = Batch::default();
        batch.text().extend_from_slice(b"abc");
        batch.text().extend_from_slice(b"def");
        assert_eq!(batch.only_text(), Some(&b"abcdef"[..]));
        batch.drop_sent_text(2);
        batch.gather();
        assert_eq!((batch.iovecs.len(), batch.iovecs[0].iov_len, batch.len()), (1, 4, 4));
        batch.clear();
        assert!(batch.is_empty());
    }
}
