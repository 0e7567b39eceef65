//! What an event loop asks of the kernel.
//!
//! Two kinds of requests: operations that complete later, each known by a [`Token`], and calls that never block. The
//! event loop is generic over [`Kernel`], so that in tests it runs on a simulated one: short sends, resets, exhausted
//! buffers, late notifications, completions in any order.

use super::Completion;
use super::lent::Loan;
use crate::net::peer::Peer;
use crate::version::Found;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// What a completion belongs to: kind (8 bits), generation (24 bits), index (32 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    /// Tells the users of one index apart, where a late message could arrive after its addressee has gone.
    pub generation: u32,
    pub index: u32,
}

/// One kind for each sort of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A listener's multishot accept.
    Accept = 1,
    /// A connection's multishot receive.
    Receive,
    /// A connection's copying send.
    Send,
    /// A connection's zero-copy send: a completion and, if that says so, a notification.
    SendZero,
    /// A connection's socket takes more bytes.
    Writable,
    /// A connection's read of a streamed file.
    Stream,
    /// A fill's open.
    FillOpen,
    /// A fill's read.
    FillRead,
    /// The check of a cached file against the disk.
    Check,
    /// The event loop's clock.
    Tick,
    /// A message of another thread to a connection: what it waits for has moved on.
    Wake,
    /// A message of another thread to the event loop: fills were delegated to it.
    Delegated,
    /// A message of another thread to the event loop: finish.
    Shutdown,
    /// A message to another event loop was delivered, or was not.
    Message,
    /// Completions that nobody waits for (cancellations).
    Ignored,
    /// The ring's own look at a file of slow storage: event loops never see it.
    Look,
}

impl Kind {
    const ALL: [Kind; 16] = [
        Kind::Accept,
        Kind::Receive,
        Kind::Send,
        Kind::SendZero,
        Kind::Writable,
        Kind::Stream,
        Kind::FillOpen,
        Kind::FillRead,
        Kind::Check,
        Kind::Tick,
        Kind::Wake,
        Kind::Delegated,
        Kind::Shutdown,
        Kind::Message,
        Kind::Ignored,
        Kind::Look,
    ];
}

impl Token {
    /// Generations wrap at this.
    pub const GENERATIONS: u32 = 1 << 24;

    pub fn new(kind: Kind, generation: u32, index: u32) -> Token {
        Token { kind, generation: generation % Token::GENERATIONS, index }
    }

    pub fn pack(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The token that was packed; None for a number that is none.
    pub fn unpack(packed: u64) -> Option<Token> {
        let kind = *Kind::ALL.get(((packed >> 56) as usize).checked_sub(1)?)?;
        Some(Token { kind, generation: (packed >> 32) as u32 % Token::GENERATIONS, index: packed as u32 })
    }
}

/// An operation that completes later.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    /// Multishot: a completion for every new connection, whose socket does not block.
    Accept { listener: RawFd },
    /// Multishot: a completion with a provided buffer whenever bytes arrive.
    Receive { socket: RawFd },
    /// Sends a whole message by copy (MSG_WAITALL); `more` says that more will follow at once.
    Send { socket: RawFd, message: Loan<libc::msghdr>, more: bool },
    /// Sends bytes by reference; the memory is in use until the notification.
    SendZero { socket: RawFd, bytes: Loan<u8>, len: u32 },
    /// Completes when the socket takes more bytes.
    Writable { socket: RawFd },
    /// Opens `path` beneath the directory `root`.
    Open { root: RawFd, path: Loan<libc::c_char>, how: Loan<io_uring::types::OpenHow> },
    /// Reads from a file at `offset`.
    Read { file: RawFd, into: Loan<u8>, len: u32, offset: u64 },
    /// Posts a completion with `token` to another thread's ring.
    Message { ring: RawFd, token: Token },
    /// Completes after the loop's tick.
    Tick,
    /// Cancels the operation of this token; the operation itself completes then.
    Cancel { token: Token },
}

/// The kernel as one event loop sees it.
pub trait Kernel {
    /// Queues an operation; it is submitted by the next turn at the latest.
    ///
    /// # Errors
    /// Those of io_uring_enter that say that the ring cannot be used.
    fn submit(&mut self, op: Op, token: Token) -> io::Result<()>;

    /// Submits what is queued, waits for a completion if `wait`, and moves all completions to the end of `batch`.
    ///
    /// # Errors
    /// Those of io_uring_enter that say that the ring cannot be used.
    fn turn(&mut self, wait: bool, batch: &mut Vec<Completion>) -> io::Result<()>;

    /// How often completions had to be kept aside, as their queue was full, since the last call.
    fn take_overflows(&mut self) -> u64 {
        0
    }

    /// Appends what was received into buffer `id` to `bytes` and gives the buffer back.
    fn take_received(&mut self, id: u16, len: usize, bytes: &mut Vec<u8>);

    /// Sends what the socket takes right now; `more` says that more will follow at once.
    fn send_now(&mut self, socket: RawFd, bytes: &[u8], more: bool) -> io::Result<usize>;

    /// Hands bytes of a file (or memfd) to the socket by reference, as many as it takes right now.
    fn send_file(&mut self, socket: RawFd, file: RawFd, offset: u64, len: usize) -> io::Result<usize>;

    /// Takes a descriptor that a completion brought.
    fn adopt(&mut self, fd: RawFd) -> OwnedFd;

    /// What an open descriptor is, and which version of which file (fstat). On slow storage it was looked at when the
    /// completion that is handled now came, so that nobody waits.
    ///
    /// # Errors
    /// Those of fstat.
    fn identify(&mut self, file: BorrowedFd<'_>) -> io::Result<Found>;

    /// Whether this range of the file can be sent without waiting for the disk, as far as the kernel can tell.
    fn is_resident(&mut self, file: RawFd, offset: u64, len: u64) -> bool;

    /// Has the kernel begin to read a range of the file into the page cache, without waiting for it.
    fn read_ahead(&mut self, file: RawFd, offset: u64, len: u64);

    /// Bytes that were given to the socket and have not left the machine yet, as far as the kernel tells.
    fn unsent(&mut self, socket: RawFd) -> usize;

    /// Whether the socket takes more bytes only when all others have left.
    fn wait_until_sent(&mut self, socket: RawFd, wait: bool);

    /// A count that grows while the peer takes bytes that were sent to it.
    fn progress(&mut self, socket: RawFd) -> u64;

    /// Who is on the other end, for the access log. One that is gone already cannot be told from one without an
    /// address.
    fn peer(&self, _socket: RawFd) -> Peer {
        Peer::Unix
    }

    /// Accepts a connection that waits.
    ///
    /// # Errors
    /// Those of accept4: none is waiting, or it cannot be accepted.
    fn accept_now(&mut self, listener: RawFd) -> io::Result<RawFd>;

    /// Answers a new connection and closes it, at once.
    fn dismiss(&mut self, socket: RawFd, answer: &[u8]);

    /// Ends one direction or both; receives and sends in flight complete then.
    fn shutdown(&mut self, socket: RawFd, how: std::net::Shutdown);

    /// Closes a descriptor.
    fn close(&mut self, fd: RawFd);

    /// Monotonic time in nanoseconds.
    fn now(&self) -> u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_packing() {
        for kind in Kind::ALL {
            for (generation, index) in [(0, 0), (Token::GENERATIONS - 1, u32::MAX), (7, 9)] {
                let token = Token::new(kind, generation, index);
                assert_eq!(Token::unpack(token.pack()), Some(token));
            }
        }
        assert_eq!(Token::unpack(0), None);
        assert_eq!(Token::unpack(u64::MAX), None);
    }
}
