//! A buffer of a stream: what is read from a file that is not in the page cache, on its way to the socket.

use crate::ring::lent::{Lent, Loan};

/// Bytes read from a file, and how many of them were sent.
pub struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
    sent: usize,
    message: libc::msghdr,
    iovec: libc::iovec,
}

impl Buffer {
    pub fn new(capacity: usize) -> Lent<Buffer> {
        Lent::new(Buffer {
            bytes: vec![0; capacity].into(),
            filled: 0,
            sent: 0,
            // SAFETY: a message header of null pointers and zero lengths is valid: an empty message.
            message: unsafe { std::mem::zeroed() },
            iovec: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
        })
    }

    /// Lends all of it to a read.
    pub fn lend_for_read(buffer: &mut Lent<Buffer>) -> Loan<u8> {
        buffer.lend(|buffer| {
            (buffer.filled, buffer.sent) = (0, 0);
            buffer.bytes.as_mut_ptr()
        })
    }

    /// The read brought `filled` bytes.
    pub fn set_filled(&mut self, filled: usize) {
        self.filled = filled.min(self.bytes.len());
    }

    /// What the read brought.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Lends what is not sent yet to a send.
    pub fn lend_for_send(buffer: &mut Lent<Buffer>) -> Loan<libc::msghdr> {
        buffer.lend(|buffer| {
            let bytes = &mut buffer.bytes[buffer.sent..buffer.filled];
            buffer.iovec = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
            buffer.message.msg_iov = &raw mut buffer.iovec;
            buffer.message.msg_iovlen = 1;
            &raw mut buffer.message
        })
    }

    pub fn add_sent(&mut self, sent: usize) {
        self.sent = (self.sent + sent).min(self.filled);
    }

    /// Bytes that are read and not sent yet.
    pub fn unsent(&self) -> usize {
        self.filled - self.sent
    }
}
