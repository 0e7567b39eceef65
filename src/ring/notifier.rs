//! Messages to event loops from threads that have no ring of their own.

use super::kernel::Token;
use io_uring::{IoUring, opcode, types};
use parking_lot::Mutex;
use std::io;
use std::os::fd::RawFd;

/// A small ring that any thread may use, for messages only.
pub struct Notifier(Way);

enum Way {
    Ring(Box<Mutex<IoUring>>),
    #[cfg(any(test, feature = "simulation"))]
    Simulated(Box<Simulated>),
}

/// Takes a message for a ring, or refuses it.
#[cfg(any(test, feature = "simulation"))]
pub type Simulated = dyn Fn(RawFd, Token) -> io::Result<()> + Send + Sync;

impl Notifier {
    /// # Errors
    /// Those of io_uring_setup.
    pub fn new() -> io::Result<Notifier> {
        Ok(Notifier(Way::Ring(Box::new(Mutex::new(IoUring::builder().dontfork().build(2)?)))))
    }

    /// One whose messages go to a simulated machine.
    #[cfg(any(test, feature = "simulation"))]
    pub fn simulated(send: Box<Simulated>) -> Notifier {
        Notifier(Way::Simulated(send))
    }

    /// Posts a completion with `token` to the ring `to`.
    ///
    /// # Errors
    /// Those of io_uring_enter and of MSG_RING.
    pub fn send(&self, to: RawFd, token: Token) -> io::Result<()> {
        let mut ring = match &self.0 {
            Way::Ring(ring) => ring.lock(),
            #[cfg(any(test, feature = "simulation"))]
            Way::Simulated(send) => return send(to, token),
        };
        let entry = opcode::MsgRingData::new(types::Fd(to), 0, token.pack(), None).build();
        // SAFETY: the entry points to no memory.
        unsafe { ring.submission().push(&entry) }.map_err(|_| io::Error::other("the queue was emptied before"))?;
        let result = loop {
            match ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    if let Some(completion) = ring.completion().next() {
                        break completion.result();
                    }
                }
            }
        };
        if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
    }
}
