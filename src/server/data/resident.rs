//! Bytes out of the arena, in each mode.

use super::deliver::Mode;
use super::send::{Sender, Sent};
use crate::cache::entry::Lease;
use crate::cache::flight::Flight;
use crate::limits;
use crate::planted::{self, Defect};
use crate::ring::kernel::Kernel;
use std::io;
use std::sync::Arc;

/// A body that is sent from the arena: bytes `at` to `end` of the file are left.
pub(super) struct Resident {
    pub lease: Lease,
    pub at: u64,
    pub end: u64,
    /// Set while the file is still being read.
    pub fill: Option<Arc<Flight>>,
    pub mode: Mode,
}

impl Resident {
    /// Sends the next bytes.
    pub fn step<K: Kernel>(&mut self, sender: &mut Sender<'_, K>) -> io::Result<Sent> {
        if self.at == self.end {
            return Ok(Sent::Done);
        }
        if self.lease.filled() <= self.at {
            return self.wait(sender);
        }
        let filled = self.lease.filled().min(self.end);
        if filled == self.end {
            self.fill = None;
        }
        if self.mode == Mode::Copy {
            return self.copy(sender, filled);
        }
        match sender.flush(true)? {
            Sent::Done => {}
            sent => return Ok(sent),
        }
        if self.mode == Mode::ZeroCopy && sender.out.zerocopy_works {
            return sender.send_zero(&self.lease, self.at, (filled - self.at).min(1 << 30) as u32);
        }
        match self.lease.reference() {
            Some(memfd) if self.mode == Mode::Reference => {
                let len = (filled - self.at).min(limits::TURN_BYTES) as usize;
                if !planted::is(Defect::ReferencedMemoryReused) {
                    self.lease.allocation().mark_referenced();
                }
                let whole = self.at + len as u64;
                let sent = sender.refer(memfd, self.lease.offset() + self.at, len, &mut self.at)?;
                if sent == Sent::Moved && planted::is(Defect::ShortSendWhole) {
                    self.at = whole;
                }
                Ok(sent)
            }
            _ => {
                self.mode = Mode::Copy;
                Ok(Sent::Moved)
            }
        }
    }

    /// What is there of the head goes out while the storage is waited for.
    fn wait<K: Kernel>(&mut self, sender: &mut Sender<'_, K>) -> io::Result<Sent> {
        match (sender.flush(true)?, &mut self.fill) {
            (Sent::Done, Some(fill)) => sender.wait_for_bytes(fill, self.at),
            (Sent::Done, None) => Ok(Sent::Broken),
            (sent, _) => Ok(sent),
        }
    }

    fn copy<K: Kernel>(&mut self, sender: &mut Sender<'_, K>, filled: u64) -> io::Result<Sent> {
        let to = filled.min(self.at + limits::COPY_BYTES as u64);
        let batch = sender.out.batch(sender.pool);
        batch.push_body(self.lease.clone(), self.at as usize..to as usize);
        self.at = to;
        // The last piece may still be joined by the next response.
        if to == self.end { Ok(Sent::Done) } else { sender.flush(true) }
    }

    /// What became of a zero-copy send of its next bytes; false if the connection must end.
    pub fn sent_zero(&mut self, result: i32) -> bool {
        match result {
            sent @ 1.. => self.at += sent as u64,
            // Not for this kind of socket, or beyond the memory that may be pinned: by copy then.
            error if [-libc::EOPNOTSUPP, -libc::ENOBUFS, -libc::ENOMEM, -libc::EINVAL].contains(&error) => {
                self.mode = Mode::Copy;
            }
            _ => return false,
        }
        true
    }
}
