//! The arena: the cache's memory, a virtual range with a physical budget.
//!
//! * [`layout`]: which range an object gets and what it costs (pure accounting).
//! * [`heap`]: the process's own memory, and its reserve.
//! * [`memory`]: the memfd behind it, its mappings and folios.
//! * [`Allocation`]: a range that is owned. Dropping it gives the memory back: to be rewritten in place, unless it was
//!   ever sent by reference; then sockets may still refer to its pages, and they are punched out, to be replaced by
//!   fresh ones.
//!
//! The budget holds at every instant: it is charged before pages become resident, and returned after they are gone.

// It maps memory, and gives out parts of it that are written and read at the same time.
#![allow(unsafe_code)]

mod compact;
pub mod heap;
pub mod layout;
pub mod memory;

use crate::planted::{self, Defect};
use crate::ring::lent::{Lent, Loan};
use compact::Compact;
use layout::{ClassUse, Layout, Punch, Slot};
use memory::{Folios, Memory};
use parking_lot::Mutex;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The cache's memory.
pub struct Arena {
    memory: Memory,
    layout: Mutex<Layout>,
    capacity: u64,
}

/// Bytes of the arena in use, for the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The budget.
    pub capacity_bytes: u64,
    /// Budget in use: never less than what is physically resident.
    pub resident_bytes: u64,
    /// Bytes of objects.
    pub live_bytes: u64,
    /// By class of slot.
    pub classes: Vec<ClassUse>,
}

impl Arena {
    /// An arena that never holds more than `capacity` resident bytes and packs objects of up to `packed_max` bytes.
    ///
    /// # Errors
    /// Those of [`Memory::new`].
    pub fn new(capacity: u64, packed_max: u64) -> io::Result<Arc<Arena>> {
        let layout = Layout::new(capacity, packed_max);
        let memory = Memory::new(layout.virtual_bytes())?;
        Ok(Arc::new(Arena { memory, layout: Mutex::new(layout), capacity }))
    }

    /// What large objects are made of.
    pub fn folios(&self) -> Folios {
        self.memory.folios()
    }

    /// What an object of `size` bytes costs; `None` when it can never fit.
    pub fn charged(&self, size: u64) -> Option<u64> {
        self.layout.lock().charged(size.max(1))
    }

    /// Takes memory for an object of `size` bytes, of which `books` bytes are kept elsewhere. An empty object takes the
    /// room of one byte.
    ///
    /// # Errors
    /// How many charged bytes must come back before it is worth asking again.
    pub fn take(self: &Arc<Self>, size: u64, books: u16) -> Result<Allocation, u64> {
        loop {
            let taken = self.layout.lock().take(size.max(1), books);
            match taken {
                Ok(slot) => return Ok(Allocation { arena: self.clone(), slot: slot.into() }),
                Err(shortage) if shortage.punches.is_empty() => return Err(shortage.bytes),
                Err(shortage) => shortage.punches.into_iter().for_each(|punch| self.reclaim(punch)),
            }
        }
    }

    /// Gives the pages of a range back to the kernel, then its budget.
    fn reclaim(&self, punch: Punch) {
        if planted::is(Defect::BudgetBeforeMemory) {
            return self.layout.lock().reclaim(punch);
        }
        match self.memory.punch(punch.offset, punch.len) {
            Ok(()) => self.layout.lock().reclaim(punch),
            // The pages are still there, so the budget stays charged: the arena shrinks rather than grow.
            Err(error) => {
                eprintln!("forebay: {} bytes of the arena could not be given back: {error}", punch.len);
            }
        }
    }

    pub fn usage(&self) -> Usage {
        let layout = self.layout.lock();
        Usage {
            capacity_bytes: self.capacity,
            resident_bytes: layout.resident(),
            live_bytes: layout.live(),
            classes: layout.classes(),
        }
    }

    /// Whether objects take up three quarters of it or more: it is never much fuller than nine tenths.
    pub fn is_nearly_full(&self) -> bool {
        self.layout.lock().live() >= self.capacity / 4 * 3
    }

    /// Bytes that are physically resident now.
    ///
    /// # Errors
    /// Those of fstat.
    pub fn physical_bytes(&self) -> io::Result<u64> {
        self.memory.resident()
    }
}

/// The memfd, as the source of bytes sent by reference.
impl AsRawFd for Arena {
    fn as_raw_fd(&self) -> RawFd {
        self.memory.as_raw_fd()
    }
}

/// A range of the arena, owned. Its bytes are written once, by the one who fills it, and read as far as they are
/// filled.
pub struct Allocation {
    arena: Arc<Arena>,
    /// Marked when sockets may refer to its pages, nobody knows for how long.
    slot: Compact,
}

impl Allocation {
    /// Its pages are handed to a socket: from now on they are replaced, not rewritten.
    pub fn mark_referenced(&self) {
        if !self.slot.mark.load(Relaxed) {
            self.slot.mark.store(true, Relaxed);
        }
    }

    /// Bytes of budget that this costs.
    pub fn charged(&self) -> u64 {
        self.slot.charged()
    }

    /// Where it begins in the memfd.
    pub fn offset(&self) -> u64 {
        self.slot.offset
    }

    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Whether its pages are its own, so that they may be sent by reference.
    pub fn is_extent(&self) -> bool {
        self.slot.is_extent()
    }

    /// Where byte `at` of an object of `size` bytes is to be written, and how many bytes may be written from there.
    fn fill_target(&self, size: u64, at: u64) -> (*mut u8, u64) {
        match self.is_extent() {
            true => self.arena.memory.fill_target(self.slot.offset, size, at),
            false => (self.arena.memory.address(self.slot.offset + at, false).cast_mut(), size - at),
        }
    }

    /// Lends the memory for bytes from `at` of an object of `size` bytes to a read, as many as lie together, `len` at
    /// most. `owner` keeps the allocation alive. Nobody reads these bytes before they are filled.
    pub fn lend_for_fill<T>(
        owner: &mut Lent<T>,
        size: u64,
        at: u64,
        len: u64,
        of: impl Fn(&T) -> &Allocation,
    ) -> (Loan<u8>, u32) {
        let (target, room) = of(owner).fill_target(size, at);
        (owner.lend(|_| target), len.min(room).min(1 << 30) as u32)
    }

    /// Writes bytes from `at` of an object of `size` bytes on, as many as fit, and returns how many. The caller is the
    /// one who fills it, and nobody reads these bytes before it says that they are there.
    pub fn append(&self, size: u64, at: u64, bytes: &[u8]) -> u64 {
        let mut written = 0;
        while written < bytes.len() && at + (written as u64) < size {
            let (target, room) = self.fill_target(size, at + written as u64);
            let piece = &bytes[written..bytes.len().min(written + room as usize)];
            // SAFETY: `room` bytes at `target` belong to this allocation; nobody reads them yet, and nobody else writes
            // them.
            unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), target, piece.len()) };
            written += piece.len();
        }
        written as u64
    }

    /// The first `filled` bytes. What is filled is not written again while the allocation lives.
    pub fn filled(&self, filled: u64) -> &[u8] {
        debug_assert!(filled <= self.slot.size());
        let chunked = self.is_extent() && self.slot.size() >= crate::limits::FOLIO;
        let address = self.arena.memory.address(self.slot.offset, chunked);
        // SAFETY: the range belongs to this allocation, its first `filled` bytes were written by the filler before it
        // said so (release and acquire on the entry's count), and are written by nobody until the allocation is
        // dropped.
        unsafe { std::slice::from_raw_parts(address, filled as usize) }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let mut layout = self.arena.layout.lock();
        let slot = Slot::from(&self.slot);
        if !*self.slot.mark.get_mut() {
            layout.retain(slot);
            return;
        }
        let punch = layout.release(slot);
        drop(layout);
        if let Some(punch) = punch {
            self.arena.reclaim(punch);
        }
    }
}
