//! A hit allocates nothing: what worker threads allocate is counted, while a server in this process serves hits.

// An allocator that counts is unsafe by its trait.
#![allow(unsafe_code)]

mod support;

use clap::Parser;
use forebay::cli::serve::ServeArgs;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use support::{Client, Place, bytes, request, until};

struct Counting;

/// Allocations of worker threads.
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is a worker's, by the name that it gave itself.
fn is_worker() -> bool {
    let ask = |known: &Cell<bool>| {
        if !known.get() {
            let mut name = [0u8; 16];
            // SAFETY: the kernel writes 16 bytes.
            let result = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
            known.set(result == 0 && name.starts_with(b"worker-"));
        }
        known.get()
    };
    IS_WORKER.try_with(ask).unwrap_or(false)
}

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_worker() {
            ALLOCATIONS.fetch_add(1, Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    serve: ServeArgs,
}

const HITS: usize = 50;
const ROUNDS: usize = 200;

#[test]
fn a_hit_allocates_nothing() {
    let root = tempfile::tempdir().unwrap();
    let sizes = [0, 1 << 10, 16 << 10, 64 << 10, 1 << 20];
    for size in sizes {
        fs::write(root.path().join(size.to_string()), bytes(1, size)).unwrap();
    }
    let aside = tempfile::tempdir().unwrap();
    let socket = aside.path().join("socket");
    let listen = format!("unix:{}", socket.display());
    let folder = root.path().to_str().unwrap();
    let line = Line::parse_from(["serve", folder, "--listen", &listen, "--workers", "1", "--revalidate", "1h"]);
    let options = line.serve.resolve().unwrap();
    // It ends with the process.
    std::thread::spawn(|| forebay::server::serve(options));
    until("the server listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let mut client = Client::connect(&Place::Unix(socket));
    for size in sizes {
        let target = format!("/{size}");
        until("it is a hit", || client.get(&target).expect(200).is_hit());
        let tag = client.get(&target).field("etag").unwrap().to_owned();
        let cases: [(&str, &[(&str, &str)]); 5] = [
            ("GET", &[]),
            ("HEAD", &[]),
            ("GET", &[("Range", "bytes=0-99")]),
            ("GET", &[("If-None-Match", &tag)]),
            ("GET", &[("Accept-Encoding", "gzip, br, zstd"), ("User-Agent", "a/1"), ("Accept", "*/*")]),
        ];
        for (method, fields) in cases {
            let once = request(method, &target, fields);
            let mut round = || {
                let before = ALLOCATIONS.load(Relaxed);
                for _ in 0..HITS {
                    client.send(&once);
                    client.response(method);
                }
                ALLOCATIONS.load(Relaxed) - before
            };
            // Once in a while a worker does other things: a round without a clock's tick tells.
            let counts: Vec<usize> = (0..ROUNDS).map(|_| round()).take_while(|count| *count > 0).collect();
            let is_free = counts.len() < ROUNDS;
            assert!(
                is_free,
                "{HITS} times {method} {target} {fields:?}: at least {:?} allocations",
                counts.iter().min()
            );
        }
    }
    assert!(ALLOCATIONS.load(Relaxed) > 0, "what workers allocate is not seen");
}
