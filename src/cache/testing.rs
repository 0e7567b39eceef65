//! What tests fill a cache with, here and in the modules that stand on it: files that are zeros, as fresh memory is.

use super::entry::Lease;
use super::eviction::Eviction;
use super::flight::OpenFile;
use super::permit::FillPermit;
use super::stats::{Departure, Stats};
use super::{Cache, Lookup};
use crate::version::{Described, Version};
use crate::wake::{Waiter, Wake};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Nobody wants to know what leaves the cache.
pub struct Nobody;

impl Stats for Nobody {
    fn left(&self, _: Departure) {}

    fn refused(&self) {}
}

/// Counts who was woken.
#[derive(Default)]
pub struct Woken(pub Mutex<usize>);

impl Wake for Woken {
    fn wake(&self, waiters: Vec<Waiter>) {
        *self.0.lock() += waiters.len();
    }
}

/// An empty cache of 1 MiB that may keep files open.
pub fn cache() -> (Arc<Cache>, Arc<Woken>) {
    let woken = Arc::<Woken>::default();
    let (stats, wake) = (Arc::new(Nobody), woken.clone());
    let cache = Cache::new(1 << 20, 4096, Eviction::Lru, 1, Duration::from_secs(1), stats, wake).unwrap();
    cache.tend_open_files(100, 0);
    (cache, woken)
}

/// The permit to read a file of which nothing is known.
pub fn lead(cache: &Arc<Cache>, name: &[u8]) -> FillPermit {
    match cache.find(name) {
        Lookup::Lead(permit) => permit,
        Lookup::Hit(_) | Lookup::Join(_) => panic!("it is known"),
    }
}

/// A new file of `size` zeros under the name of the fill.
pub fn open(directory: &Path, permit: &FillPermit, size: u64) -> Arc<OpenFile> {
    let path = directory.join(String::from_utf8_lossy(permit.name()).as_ref());
    std::fs::write(&path, vec![0; size as usize]).unwrap();
    let fd = std::fs::File::open(path).unwrap();
    let version = Version::of(&fd).unwrap().unwrap();
    let described = Described { version, label: Arc::default(), modified: 0 };
    Arc::new(OpenFile::new(fd.into(), permit.shared_name().clone(), described, None, Duration::ZERO, 1))
}

/// A file of `size` zeros that is cached, and was found current at time 1.
pub fn cached(cache: &Arc<Cache>, directory: &Path, name: &[u8], size: u64) -> Lease {
    let permit = lead(cache, name);
    let file = open(directory, &permit, size);
    let entry = permit.reserve(&file, 1, 1).unwrap();
    permit.start(&entry, file);
    permit.advance(&entry, size);
    permit.publish(entry.clone());
    entry
}

/// A file of `size` zeros that is cached without its bytes.
pub fn deferred(cache: &Arc<Cache>, directory: &Path, name: &[u8], size: u64) -> Lease {
    let permit = lead(cache, name);
    let file = open(directory, &permit, size);
    let entry = permit.reserve(&file, 1, 1).unwrap();
    assert!(permit.defer(&entry, &file).is_ok(), "there is a place for its file");
    entry
}
