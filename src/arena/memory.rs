//! The arena's memory: one memfd, larger than its budget, of which only the pages in use are resident.
//!
//! ```text
//! memfd      0 ─────────────────────────────────────────────── virtual_bytes     (sparse: holes cost nothing)
//! folios   ▕ the memfd, mapped 2 MiB-aligned, MADV_HUGEPAGE   ▏ whole 64 KiB chunks of large objects come from here
//! pages    ▕ the memfd again, mapped with MADV_NOHUGEPAGE     ▏ slabs, and the tails of large objects
//! ```
//!
//! A page becomes resident when it is first written through one of the two mappings, which decides its folio's size. It
//! stops being so when its range is punched. Sockets that still reference punched pages keep them until they are sent;
//! they are no longer the arena's, and are never written again.

use crate::limits::{FOLIO, PAGE};
use crate::machine;
use memmap2::{MmapMut, MmapOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Mappings get large folios only where their address is congruent to the file's offset; huge pages set the scale.
const ALIGN: usize = 2 << 20;

/// What the system gives for a large object's whole 64 KiB chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folios {
    /// Single folios of 64 KiB.
    Large,
    /// Pages of 4 KiB.
    Small,
}

impl Folios {
    /// What was found, and how to have more, in one line.
    pub fn describe(self) -> &'static str {
        match self {
            Folios::Large => "64 KiB folios for large objects",
            Folios::Small => {
                "4 KiB pages for all objects (large ones are sent with less CPU after: \
                 echo advise > /sys/kernel/mm/transparent_hugepage/hugepages-64kB/shmem_enabled)"
            }
        }
    }
}

/// The memfd and its mappings.
pub struct Memory {
    memfd: OwnedFd,
    pages: Mapping,
    /// `None` where folios are not to be had, or not of the right size.
    folios: Option<Mapping>,
}

impl Memory {
    /// Makes a memfd of `virtual_bytes`, all holes, and maps it.
    ///
    /// # Errors
    /// Those of memfd_create, ftruncate and mmap; and a system that is set to give shared memory pages larger than
    /// 4 KiB without being asked, which no budget in pages could account for.
    pub fn new(virtual_bytes: u64) -> io::Result<Memory> {
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::memfd_create(c"forebay".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just made and that nothing else owns.
        let memfd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: takes no memory.
        if unsafe { libc::ftruncate(fd, virtual_bytes as libc::off_t) } != 0 {
            return Err(too_large(io::Error::last_os_error(), virtual_bytes));
        }
        let pages = Mapping::new(&memfd, virtual_bytes as usize, libc::MADV_NOHUGEPAGE)?;
        let folios = Mapping::new(&memfd, virtual_bytes as usize, libc::MADV_HUGEPAGE)?;
        let mut memory = Memory { memfd, pages, folios: Some(folios) };
        memory.probe()?;
        Ok(memory)
    }

    /// Finds out what a write through each mapping makes resident.
    fn probe(&mut self) -> io::Result<()> {
        let page = self.touch_and_measure(&self.pages, PAGE)?;
        if page != PAGE {
            return Err(io::Error::other(format!(
                "shared memory is given in {page}-byte pages, not {PAGE}: \
                 set /sys/kernel/mm/transparent_hugepage/shmem_enabled to `never` or `advise`"
            )));
        }
        let folio = self.folios.as_ref().map(|folios| self.touch_and_measure(folios, 0)).transpose()?;
        if folio != Some(FOLIO) {
            self.folios = None;
        }
        Ok(())
    }

    /// Writes one byte at `offset`, and returns how many bytes that made resident. Leaves a hole again.
    fn touch_and_measure(&self, mapping: &Mapping, offset: u64) -> io::Result<u64> {
        // SAFETY: `offset` lies inside the mapping, and nothing else uses this memory yet.
        unsafe { mapping.at(offset).write_volatile(1) };
        let resident = self.resident()?;
        self.punch(0, (ALIGN as u64).min(self.len()))?;
        Ok(resident)
    }

    /// What large objects are made of.
    pub fn folios(&self) -> Folios {
        if self.folios.is_some() { Folios::Large } else { Folios::Small }
    }

    fn len(&self) -> u64 {
        self.pages.len as u64
    }

    /// Bytes that are resident now: `st_blocks` of the memfd.
    ///
    /// # Errors
    /// Those of fstat.
    pub fn resident(&self) -> io::Result<u64> {
        // SAFETY: all fields are integers, for which zero is valid.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one stat.
        if unsafe { libc::fstat(self.memfd.as_raw_fd(), &mut stat) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stat.st_blocks as u64 * 512)
    }

    /// Gives the pages of a range back: the next write gets fresh ones, and what sockets still reference stays as it
    /// is.
    ///
    /// # Errors
    /// Those of fallocate.
    pub fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        loop {
            // SAFETY: takes no memory; mappings of the range stay valid and read as holes.
            let done =
                unsafe { libc::fallocate(self.memfd.as_raw_fd(), mode, offset as libc::off_t, len as libc::off_t) };
            if done == 0 {
                machine::punched(offset, len);
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Where to write the bytes of a large object: its whole chunks through the one mapping, its tail through the
    /// other. Returns the address of byte `at` of the object and how many bytes may be written there.
    pub fn fill_target(&self, offset: u64, size: u64, at: u64) -> (*mut u8, u64) {
        let chunks = size / FOLIO * FOLIO;
        match &self.folios {
            Some(folios) if at < chunks => (folios.at(offset + at), chunks - at),
            _ => (self.pages.at(offset + at), size - at),
        }
    }

    /// The address that bytes at `offset` are read from. `chunked`: they were filled in whole chunks first.
    pub fn address(&self, offset: u64, chunked: bool) -> *const u8 {
        match &self.folios {
            Some(folios) if chunked => folios.at(offset),
            _ => self.pages.at(offset),
        }
    }
}

impl AsRawFd for Memory {
    fn as_raw_fd(&self) -> RawFd {
        self.memfd.as_raw_fd()
    }
}

/// Names the limit that an arena exceeds: its file has a size of several times its budget, nearly all of it holes.
fn too_large(error: io::Error, virtual_bytes: u64) -> io::Error {
    if error.raw_os_error() != Some(libc::EFBIG) {
        return error;
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    let limit = limit.map_or("unlimited".into(), |limit| format!("{limit} bytes"));
    io::Error::other(format!(
        "the limit on file sizes is {limit}, and the arena's memory is a file of {virtual_bytes} bytes, most of them \
         holes: raise the limit (ulimit -f, LimitFSIZE=), or lower --arena"
    ))
}

/// The memfd, mapped whole at a 2 MiB-aligned address inside a reservation that unmaps everything when dropped.
struct Mapping {
    _reservation: MmapMut,
    base: *mut u8,
    len: usize,
}

// SAFETY: shared memory without an owner thread; who may read or write which range when is decided by the cache (a
// range is written only by its one filler, and read only as far as it is filled).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(memfd: &OwnedFd, len: usize, advice: libc::c_int) -> io::Result<Mapping> {
        let mut reservation = MmapOptions::new().len(len + ALIGN).no_reserve_swap().map_anon()?;
        let start = reservation.as_mut_ptr();
        // SAFETY: at most ALIGN bytes are skipped of the ALIGN that were reserved beyond `len`.
        let base = unsafe { start.add(start.align_offset(ALIGN)) };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: replaces pages of the reservation, which nothing else uses.
        let mapped = unsafe { libc::mmap(base.cast(), len, protection, flags, memfd.as_raw_fd(), 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: advice about the mapping just made. A kernel without huge pages refuses it, which changes nothing.
        unsafe { libc::madvise(base.cast(), len, advice) };
        // A child process has no use for it, and must not hold its pages.
        // SAFETY: as above.
        unsafe { libc::madvise(base.cast(), len, libc::MADV_DONTFORK) };
        Ok(Mapping { _reservation: reservation, base, len })
    }

    fn at(&self, offset: u64) -> *mut u8 {
        assert!((offset as usize) < self.len, "offset {offset} lies outside the arena");
        // SAFETY: inside the mapping.
        unsafe { self.base.add(offset as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_is_resident() {
        let memory = Memory::new(64 << 20).unwrap();
        assert_eq!(memory.resident().unwrap(), 0);
        let size = 2 * FOLIO + 5000;
        let mut at = 0;
        while at < size {
            let (target, len) = memory.fill_target(FOLIO * 8, size, at);
            // SAFETY: the memory of this test alone.
            unsafe { target.write_bytes(7, len as usize) };
            at += len;
        }
        assert_eq!(memory.resident().unwrap(), 2 * FOLIO + 2 * PAGE);
        // SAFETY: written above.
        let bytes = unsafe { std::slice::from_raw_parts(memory.address(FOLIO * 8, true), size as usize) };
        assert!(bytes.iter().all(|&byte| byte == 7));
        memory.punch(FOLIO * 8, 2 * FOLIO + 2 * PAGE).unwrap();
        assert_eq!(memory.resident().unwrap(), 0);
    }
}
