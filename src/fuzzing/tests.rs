//! The corpus again, and a bounded number of mutations of it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Mutations of each file of the corpus.
const MUTATIONS: usize = 40;

/// Bytes that files of the corpus have together, at most: it is kept in the repository.
const CORPUS_BYTES: u64 = 600 << 10;

/// A plain generator (splitmix64), so that each run tries the same.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    /// Changes `bytes` a little; `other` is another file of the corpus.
    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        const TELLING: &[u8] = b"\r\n\t \0\"\\,;:=-+*/%.?#[]{}()09aAzZ\x7f\x80\xff";
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] = TELLING[self.below(TELLING.len())],
                1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                2 => bytes.insert(at, TELLING[self.below(TELLING.len())]),
                3 => drop(bytes.drain(at..(at + self.below(8)).min(bytes.len()))),
                4 => bytes.extend_from_within(at..),
                _ => {
                    let from = self.below(other.len() + 1);
                    let to = (from + self.below(32)).min(other.len());
                    drop(bytes.splice(at..at, other[from..to].iter().copied()));
                }
            }
            bytes.truncate(4 << 10);
        }
    }
}

fn files(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

fn replay(target: &str, holds: fn(&[u8])) {
    let files = files(target);
    assert!(!files.is_empty(), "the corpus of {target} is empty");
    let mut random = Random(target.bytes().map(u64::from).sum());
    let attempt = |path: &PathBuf, bytes: &[u8]| {
        let shown = || format!("{}: {:?}", path.display(), String::from_utf8_lossy(bytes));
        assert!(catch_unwind(AssertUnwindSafe(|| holds(bytes))).is_ok(), "{target} does not hold for {}", shown());
    };
    for (path, bytes) in &files {
        attempt(path, bytes);
        for _ in 0..MUTATIONS {
            let mut mutated = bytes.clone();
            let other = random.below(files.len());
            random.mutate(&mut mutated, &files[other].1);
            attempt(path, &mutated);
        }
    }
}

macro_rules! replayed {
    ($($target:ident)*) => {
        const TARGETS: &[&str] = &[$(stringify!($target)),*];

        $(#[test]
        fn $target() {
            replay(stringify!($target), super::$target);
        })*
    };
}

replayed! {
    accept_encoding access_log cache_control chunked conditions content_digest glob host listing range requests response
    rules target trace vary
}

#[test]
fn what_is_fuzzed_is_replayed_and_its_corpus_is_small() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut fuzzed: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    fuzzed.sort();
    assert_eq!(fuzzed, TARGETS);
    let bytes: u64 = TARGETS.iter().flat_map(|target| files(target)).map(|(_, bytes)| bytes.len() as u64).sum();
    assert!(bytes <= CORPUS_BYTES, "the corpus has {bytes} bytes; make it smaller by `cargo fuzz cmin`");
}
