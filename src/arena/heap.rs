//! The process's own memory, with a reserve for the time when the system gives no more.
//!
//! An allocation that fails ends a Rust program. Here it is given the reserve instead, and [`is_low`] says so: the
//! server then takes no new connections and no work that needs much memory, finishes what it has begun, and is as
//! before once the reserve is there again. Limits that this is for: RLIMIT_AS (`ulimit -v`) and a system without
//! overcommit. A control group's limit ends processes instead of refusing memory; what can be done about that is done
//! at start.

use crate::limits::HEAP_RESERVE_BYTES;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

/// The allocator of programs that serve: the system's, and the reserve.
pub struct Heap;

/// Memory that nobody uses; null when it was given away, or was never there.
static RESERVE: AtomicPtr<u8> = AtomicPtr::new(null_mut());

/// Whether it was given away.
static LOW: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

const LAYOUT: Layout = match Layout::from_size_align(HEAP_RESERVE_BYTES, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("the reserve has a size"),
};

/// Whether the reserve is in use: the system gave no more memory.
pub fn is_low() -> bool {
    LOW.load(Relaxed)
}

/// From now on large blocks are mapped one by one, and given back when they are freed. By itself, glibc keeps up to 64
/// MiB once it has seen blocks of some ten MiB.
pub fn keep_no_large_blocks() {
    // SAFETY: takes no memory; before this is called or after it, each block is freed as it was allocated.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK);
    }
}

/// Bytes from which on a block is large: glibc's own setting, before it adapts itself.
#[cfg(target_env = "gnu")]
const LARGE_BLOCK: libc::c_int = 128 << 10;

/// Puts the reserve by, if it is not there and can be had; says whether there is enough memory now.
pub fn restore() -> bool {
    if RESERVE.load(Relaxed).is_null() {
        // SAFETY: the layout has a size.
        let reserve = unsafe { System.alloc(LAYOUT) };
        if reserve.is_null() {
            return false;
        }
        let other = RESERVE.swap(reserve, AcqRel);
        free(other);
    }
    LOW.store(false, Relaxed);
    true
}

/// Gives the reserve to whoever needs it now; false if it is gone already.
#[cold]
fn give_away() -> bool {
    LOW.store(true, Relaxed);
    let reserve = RESERVE.swap(null_mut(), AcqRel);
    free(reserve);
    !reserve.is_null()
}

fn free(reserve: *mut u8) {
    if !reserve.is_null() {
        // SAFETY: allocated with this layout, and taken out of its place by this thread alone.
        unsafe { System.dealloc(reserve, LAYOUT) }
    }
}

// SAFETY: all memory is the system allocator's; the reserve is never given out itself.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() && give_away() {
            // SAFETY: as above.
            return unsafe { System.alloc(layout) };
        }
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if memory.is_null() && give_away() {
            // SAFETY: as above.
            return unsafe { System.alloc_zeroed(layout) };
        }
        memory
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let larger = unsafe { System.realloc(memory, layout, size) };
        if larger.is_null() && give_away() {
            // SAFETY: as above; a failed realloc left the memory as it was.
            return unsafe { System.realloc(memory, layout, size) };
        }
        larger
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}
