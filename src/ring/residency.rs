//! Whether a range of a file can be sent without waiting for its storage.
//!
//! sendfile(2) reads what is missing while the caller waits, so a loop that must not block asks first. cachestat(2)
//! (Linux 6.5) counts the range's pages in the page cache; as a page may be there while its read is still under way,
//! the last byte is read as well, without waiting. Where a call is missing the answer is no, and the file is read
//! through the ring.

use std::os::fd::RawFd;

/// cachestat's number on every architecture.
const SYS_CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct Range {
    offset: u64,
    len: u64,
}

/// `struct cachestat`, in pages.
#[repr(C)]
#[derive(Default)]
struct Counts {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Whether all of `len` bytes from `offset` are in the page cache, as far as can be told.
pub fn is_resident(file: RawFd, offset: u64, len: u64) -> bool {
    if len == 0 {
        return true;
    }
    let page = crate::limits::PAGE;
    let (range, mut counts) = (Range { offset, len }, Counts::default());
    // SAFETY: the kernel reads one range and writes one set of counts.
    let done = unsafe { libc::syscall(SYS_CACHESTAT, file, &raw const range, &raw mut counts, 0) };
    let pages = (offset + len).div_ceil(page) - offset / page;
    done == 0 && counts.cached >= pages && reads_at_once(file, offset + len - 1)
}

fn reads_at_once(file: RawFd, offset: u64) -> bool {
    let mut byte = 0u8;
    let into = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: the kernel writes at most one byte, into `byte`, during the call.
    unsafe { libc::preadv2(file, &into, 1, offset as libc::off_t, libc::RWF_NOWAIT) == 1 }
}
