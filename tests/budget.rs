//! The arena's size is physical: what the memfd's blocks hold never exceeds it, at any instant that can be looked at.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use support::{Client, Server, TRANSMIT, assert_same, bytes, mix, request};

const ARENA: u64 = 4 << 20;

/// Sizes on both sides of every boundary, up to a third of the arena.
const SIZES: [usize; 16] = [
    1,
    100,
    700,
    2000,
    4096,
    5000,
    9000,
    12 << 10,
    13_000,
    30_000,
    65_536,
    70_000,
    200_000,
    500_000,
    1_000_000,
    1_400_000,
];

fn make_files(root: &Path) -> Vec<Vec<u8>> {
    let files: Vec<Vec<u8>> = (0..160).map(|number| bytes(number as u64, SIZES[number % SIZES.len()])).collect();
    for (number, file) in files.iter().enumerate() {
        std::fs::write(root.join(number.to_string()), file).unwrap();
    }
    files
}

/// Looks at the arena all the time while `work` runs; returns the most that was there.
fn highest_during(server: &Server, work: impl FnOnce()) -> u64 {
    let (done, highest, arena) = (AtomicBool::new(false), AtomicU64::new(0), server.arena());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                highest.fetch_max(arena.physical_bytes(), Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    highest.into_inner()
}

/// Fast readers all over the files, and slow ones that hold what they read.
fn churn(server: &Server, files: &[Vec<u8>]) {
    let large: Vec<usize> = (0..files.len()).filter(|number| files[*number].len() > 150_000).collect();
    let mut slow: Vec<(Client, usize)> = Vec::new();
    for number in &large[..12] {
        let mut client = Client::narrow(server.address(), 4096);
        client.send(request("GET", &format!("/{number}"), &[]));
        assert_eq!(client.head().status, 200);
        slow.push((client, *number));
    }
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            scope.spawn(move || {
                let mut client = server.connect();
                for round in 0..200 {
                    let number = (mix(thread << 32 | round) % files.len() as u64) as usize;
                    let response = client.get(&format!("/{number}"));
                    assert_same(&response.body, &files[number], &number.to_string());
                }
            });
        }
    });
    for (client, number) in &mut slow {
        assert_same(&client.body(files[*number].len()), &files[*number], "a slow reader's");
    }
}

fn holds_in(mode: &str, eviction: &str) {
    let root = tempfile::tempdir().unwrap();
    let files = make_files(root.path());
    let args = ["--arena", "4MiB", "--workers", "2", "--transmit", mode, "--eviction", eviction, "--settled", "0s"];
    let server = Server::start(root.path(), &args);
    let highest = highest_during(&server, || churn(&server, &files));
    assert!(highest <= ARENA, "{mode}, {eviction}: {highest} bytes were resident");
    assert!(highest > ARENA / 2, "{mode}, {eviction}: only {highest} bytes were ever used, so nothing was tried");
}

#[test]
fn holds_with_copy() {
    holds_in("copy", "lru");
}

#[test]
fn holds_with_splice() {
    holds_in("splice", "lru");
}

#[test]
fn holds_with_zerocopy() {
    holds_in("zerocopy", "larger-first");
}

#[test]
fn holds_with_auto() {
    holds_in("auto", "larger-first");
}

/// Memory comes back whole: after everything was evicted many times over, there is still room for a file as large as
/// the arena.
#[test]
fn nothing_of_the_budget_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let files = make_files(root.path());
    let whole = bytes(999, ARENA as usize - (256 << 10));
    std::fs::write(root.path().join("whole"), &whole).unwrap();
    for mode in TRANSMIT {
        let args = ["--arena", "4MiB", "--workers", "2", "--transmit", mode, "--settled", "0s"];
        let server = Server::start(root.path(), &args);
        churn(&server, &files);
        let mut client = server.connect();
        support::until("the large file has its room", || {
            let response = client.get("/whole");
            assert_same(&response.body, &whole, "whole");
            response.is_hit()
        });
    }
}

/// 64 KiB folios are a setting of the whole machine: the test touches it only when told to (FOREBAY_TEST_FOLIOS=1, as
/// root).
#[test]
fn holds_with_large_folios() {
    const KNOB: &str = "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/shmem_enabled";
    if std::env::var_os("FOREBAY_TEST_FOLIOS").is_none() {
        return;
    }
    struct Restore(String);
    impl Drop for Restore {
        fn drop(&mut self) {
            std::fs::write(KNOB, &self.0).unwrap();
        }
    }
    let before = std::fs::read_to_string(KNOB).expect("this kernel has 64 KiB folios");
    let chosen = before.split_once('[').and_then(|(_, rest)| rest.split_once(']')).expect("one value is chosen").0;
    let _restore = Restore(chosen.to_owned());
    std::fs::write(KNOB, "advise").expect("the test runs as root");
    for mode in TRANSMIT {
        let root = tempfile::tempdir().unwrap();
        let files = make_files(root.path());
        let args = ["--arena", "4MiB", "--workers", "2", "--transmit", mode, "--settled", "0s"];
        let server = Server::start(root.path(), &args);
        assert!(server.stderr().contains("64 KiB folios for large objects"), "{}", server.stderr());
        let highest = highest_during(&server, || churn(&server, &files));
        assert!(highest <= ARENA && highest > ARENA / 2, "{mode}: {highest} bytes were resident");
    }
}
