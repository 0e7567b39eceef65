//! What the cache keeps beside the arena is bounded, however small the files are: it is charged to the arena's budget.
//! All memory that this program allocates is counted.

// An allocator that counts is unsafe by its trait.
#![allow(unsafe_code)]

use forebay::cache::eviction::Eviction;
use forebay::cache::flight::OpenFile;
use forebay::cache::{Cache, Lookup};
use forebay::limits;
use forebay::metrics::Metrics;
use forebay::server::site::{Said, Site};
use forebay::version::{Described, Version};
use forebay::wake::{Waiter, Wake};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const ARENA: u64 = 16 << 20;

/// Nobody waits here.
struct Nobody;

impl Wake for Nobody {
    fn wake(&self, _: Vec<Waiter>) {}
}

/// Caches a file of this name and size, if the cache takes it.
fn store(cache: &Arc<Cache>, said: &Said, name: &str, size: u64, ino: u64) {
    let Lookup::Lead(permit) = cache.find(name.as_bytes()) else { panic!("{name} is new") };
    let version = Version { dev: 1, ino, size, mtime_ns: 1, ctime_ns: 1, links: 1 };
    let label = said.label(said.rules.describe(permit.name()), b"");
    let representation = Described::new(version, label);
    let fd = std::fs::File::open("/dev/null").unwrap().into();
    let file = Arc::new(OpenFile::new(fd, permit.shared_name().clone(), representation, None, Duration::ZERO, 0));
    match permit.reserve(&file, 0, 0) {
        Ok(entry) => {
            permit.start(&entry, file);
            permit.advance(&entry, size);
            permit.publish(entry);
        }
        Err(bypass) => drop(permit.pass(file, bypass)),
    }
}

/// What was measured while tiny files came and went.
struct Measured {
    /// The highest that arena and heap together reached, bytes.
    highest: u64,
    /// Files that are cached in the end.
    entries: u64,
    /// Bytes of heap for each of them.
    each: u64,
}

fn measure(eviction: Eviction, size: u64) -> Measured {
    let before = ALLOCATED.load(Relaxed);
    let metrics = Metrics::new(1);
    let packed_max = limits::PACKED_MAX;
    let stats = metrics.shared.clone();
    let cache = Cache::new(ARENA, packed_max, eviction, 64 << 10, Duration::ZERO, stats, Arc::new(Nobody)).unwrap();
    let said = Site::default().said();
    let mut highest = 0;
    for number in 0..90_000 {
        // A directory that many share, and a name of their own.
        store(&cache, &said, &format!("assets/{number:08}.json"), size, number);
        if number % 100 == 0 {
            let heap = (ALLOCATED.load(Relaxed) - before) as u64;
            highest = highest.max(heap + cache.arena().usage().resident_bytes);
        }
    }
    let heap = (ALLOCATED.load(Relaxed) - before) as u64;
    let entries = cache.snapshot(0).entries.len() as u64;
    Measured { highest, entries, each: heap / entries }
}

#[test]
fn arena_and_index_stay_within_the_budget() {
    for eviction in [Eviction::Gdc, Eviction::Lru, Eviction::S3Fifo, Eviction::Sieve, Eviction::LargerFirst] {
        for size in [1, 300] {
            let Measured { highest, entries, each } = measure(eviction, size);
            println!("{eviction:?}, {size} bytes: {highest} bytes at most, {entries} entries of {each} bytes each");
            // The promise is twice that beside the arena: the rest is for what the memory allocator makes of it.
            assert!(highest <= ARENA + limits::INDEX_BYTES + (2 << 20), "{eviction:?}, {size} bytes: {highest} bytes");
            assert!(entries > 35_000, "{eviction:?}, {size} bytes: only {entries} entries");
            assert!(eviction != Eviction::Gdc || each <= 250, "{each} bytes for each entry");
        }
    }
}
