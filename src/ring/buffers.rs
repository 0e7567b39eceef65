//! A provided-buffer ring: memory that multishot receives pick from when data arrives, so that an idle connection holds
//! no receive buffer.
//!
//! ```text
//! memory:   buffer 0 | buffer 1 | … | buffer n-1        (n buffers of `size` bytes, one anonymous mapping)
//! entries:  16 bytes each: address, length, id          (shared with the kernel; the tail lies in entry 0's padding)
//! ```

use io_uring::types::BufRingEntry;
use memmap2::MmapMut;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// Buffers that the kernel picks from when a multishot receive gets data.
pub struct BufferRing {
    entries: MmapMut,
    memory: MmapMut,
    size: usize,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    /// Maps `count` buffers (a power of two, at most 32768) of `size` bytes and registers them as `group` with `ring`.
    ///
    /// # Errors
    /// Those of mmap and of IORING_REGISTER_PBUF_RING.
    pub fn register(ring: &super::Ring, group: u16, count: u16, size: usize) -> io::Result<BufferRing> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "the kernel takes powers of two up to 32768");
        let entries = MmapMut::map_anon(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = MmapMut::map_anon(usize::from(count) * size)?;
        // SAFETY: the entries are page-aligned, of the registered length, and live until the ring is gone: an owner of
        // both drops the ring first (see `System`), and anonymous mappings do not move.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, group, 0)? };
        let mut buffers = BufferRing { entries, memory, size, mask: count - 1, tail: 0 };
        (0..count).for_each(|id| buffers.recycle(id));
        buffers.publish();
        Ok(buffers)
    }

    /// The first `len` bytes of buffer `id`, as a completion named them.
    pub fn bytes(&self, id: u16, len: usize) -> &[u8] {
        let from = usize::from(id) * self.size;
        &self.memory[from..from + len.min(self.size)]
    }

    /// Takes buffer `id` back. The kernel sees it after [`BufferRing::publish`].
    pub fn recycle(&mut self, id: u16) {
        let address = self.memory[usize::from(id) * self.size..].as_ptr() as u64;
        let at = usize::from(self.tail & self.mask);
        // SAFETY: `at` is below the number of entries that the mapping was made for; entries have no invalid bit
        // patterns; the kernel does not read an entry at or beyond the published tail.
        let entry = unsafe { &mut *self.entries.as_mut_ptr().cast::<BufRingEntry>().add(at) };
        entry.set_addr(address);
        entry.set_len(self.size as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see all recycled buffers.
    pub fn publish(&mut self) {
        // SAFETY: the tail is an aligned u16 inside the first entry, written by this thread only and read by the kernel
        // with acquire semantics, as the kernel's interface asks.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr().cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}
