//! The sockets from which a worker accepts.

use super::io::Io;
use super::overload::Overload;
use crate::limits;
use crate::planted::{self, Defect};
use crate::ring::kernel::{Kernel, Kind, Op, Token};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// A worker's listening sockets.
pub(super) struct Listeners {
    sockets: Vec<Listener>,
    /// Given up for a moment when there is no other descriptor, to answer a connection with.
    reserve: Option<File>,
}

struct Listener {
    socket: OwnedFd,
    /// Its multishot accept is armed.
    armed: bool,
}

impl Listeners {
    pub fn new(sockets: Vec<OwnedFd>) -> Listeners {
        let sockets = sockets.into_iter().map(|socket| Listener { socket, armed: false }).collect();
        Listeners { sockets, reserve: open_reserve() }
    }

    /// Accepts from all of them.
    pub fn arm<K: Kernel>(&mut self, io: &mut Io<K>) -> io::Result<()> {
        for (index, listener) in self.sockets.iter_mut().enumerate() {
            if !std::mem::replace(&mut listener.armed, true) {
                let op = Op::Accept { listener: listener.socket.as_raw_fd() };
                io.kernel.submit(op, Token::new(Kind::Accept, 0, index as u32))?;
            }
        }
        Ok(())
    }

    /// The accept of this one has ended. What ended it (no descriptors, no memory) may not pass at once: it is armed
    /// again by the next tick.
    pub fn disarmed(&mut self, index: u32) {
        if let Some(listener) = self.sockets.get_mut(index as usize) {
            listener.armed = planted::is(Defect::AcceptNotRearmed);
        }
    }

    /// Accepts no more.
    pub fn close<K: Kernel>(&mut self, io: &mut Io<K>) -> io::Result<()> {
        let mut armed = self.sockets.drain(..).enumerate().filter(|(_, listener)| listener.armed);
        armed.try_for_each(|(index, _)| io.cancel(Token::new(Kind::Accept, 0, index as u32)))
    }

    /// No connection could be accepted. Without a descriptor for it, those that wait are answered nevertheless, one by
    /// one, with the reserve; the listener is armed again by the next tick.
    pub fn not_accepted<K: Kernel>(&mut self, io: &mut Io<K>, index: u32, errno: i32) {
        let is_exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS].contains(&errno);
        let Some(listener) = self.sockets.get(index as usize).filter(|_| is_exhausted) else { return };
        let listener = listener.socket.as_raw_fd();
        io.raise(Overload::Descriptors);
        drop(self.reserve.take());
        for _ in 0..limits::REFUSED_AT_ONCE {
            let Ok(socket) = io.kernel.accept_now(listener) else { break };
            io.dismiss(socket, Overload::Descriptors);
        }
        self.reserve = open_reserve();
    }
}

/// A descriptor that is of no other use.
fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}
