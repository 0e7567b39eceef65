//! The index: from a name to what is cached under it. Sharded, so that workers seldom meet; a lookup takes one shard's
//! lock shared and for as long as a comparison of names takes.

use super::entry::Shared;
use super::flight::Flight;
use super::open_files::Kept;
use crate::sync::{self, Race, RwLock};
/// The same in every run, so that a seed gives the same run again.
#[cfg(any(test, feature = "simulation"))]
use foldhash::fast::FixedState as Hasher;
/// Seeded anew by every server, so that no client can choose names that collide.
#[cfg(not(any(test, feature = "simulation")))]
use foldhash::fast::RandomState as Hasher;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Bucket;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Shards; a power of two. Enough that even 64 workers, each in the index for less than a tenth of its time, rarely
/// wait.
const SHARDS: usize = 256;

/// What the index holds of a name.
pub(super) enum State {
    Ready(Shared),
    Filling(Arc<Flight>),
    /// It is not cached any more, and its file is open.
    Open(Arc<Kept>),
}

/// What a name was found to be when a fill was to be begun.
pub(super) enum Begun {
    Ready(Shared),
    Filling(Arc<Flight>),
    New(Arc<Flight>),
}

/// What the index holds of a name that is not cached.
enum Uncached {
    Filling(Arc<Flight>),
    Open(Arc<Kept>),
}

impl Uncached {
    fn name(&self) -> &[u8] {
        match self {
            Uncached::Filling(fill) => fill.name(),
            Uncached::Open(kept) => kept.shared_name(),
        }
    }

    fn hash(&self) -> u64 {
        match self {
            Uncached::Filling(fill) => fill.hash(),
            Uncached::Open(kept) => kept.hash(),
        }
    }

    fn is_kept(&self, kept: &Arc<Kept>) -> bool {
        matches!(self, Uncached::Open(own) if Arc::ptr_eq(own, kept))
    }

    fn is_fill(&self, fill: &Arc<Flight>) -> bool {
        matches!(self, Uncached::Filling(own) if Arc::ptr_eq(own, fill))
    }
}

impl From<Uncached> for State {
    fn from(uncached: Uncached) -> State {
        match uncached {
            Uncached::Filling(fill) => State::Filling(fill),
            Uncached::Open(kept) => State::Open(kept),
        }
    }
}

/// Some of the names. A name is in one of both tables. Those that are cached are many, and take one word each.
#[derive(Default)]
struct Names {
    cached: HashTable<Shared>,
    uncached: HashTable<Uncached>,
}

/// On cache lines of its own: two shards never fight over one.
#[repr(align(128))]
#[derive(Default)]
struct Shard(RwLock<Names>);

pub(super) struct Index {
    shards: Box<[Shard]>,
    hasher: Hasher,
}

impl Names {
    fn get(&self, hash: u64, name: &[u8]) -> Option<State> {
        if let Some(entry) = self.cached.find(hash, |entry| entry.name() == name) {
            return Some(State::Ready(entry.clone()));
        }
        match self.uncached.find(hash, |uncached| uncached.name() == name)? {
            Uncached::Filling(fill) => Some(State::Filling(fill.clone())),
            Uncached::Open(kept) => Some(State::Open(kept.clone())),
        }
    }

    fn insert(&mut self, entry: &Shared) {
        self.cached.insert_unique(entry.hash(), entry.clone(), |entry| entry.hash());
    }

    fn remove_entry(&mut self, hash: u64, is: impl Fn(&Shared) -> bool) -> Option<Shared> {
        let removed = self.cached.find_entry(hash, is).ok()?.remove().0;
        shrink(&mut self.cached, |entry| entry.hash());
        Some(removed)
    }

    fn remove_uncached(&mut self, hash: u64, is: impl Fn(&Uncached) -> bool) -> Option<Uncached> {
        let removed = self.uncached.find_entry(hash, is).ok()?.remove().0;
        shrink(&mut self.uncached, Uncached::hash);
        Some(removed)
    }
}

/// A table that had many names once gives their room back.
fn shrink<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    if table.capacity() > 64 && table.len() < table.capacity() / 8 {
        table.shrink_to(0, hash);
    }
}

impl Index {
    pub fn new() -> Index {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Index { shards, hasher: Hasher::default() }
    }

    /// The hash of a name; seeded, so that no client can choose names that collide.
    pub fn hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    fn shard(&self, hash: u64) -> &RwLock<Names> {
        // hashbrown takes the lowest bits for the bucket and the highest seven for its tags.
        &self.shards[(hash >> 40) as usize % SHARDS].0
    }

    pub fn get(&self, hash: u64, name: &[u8]) -> Option<State> {
        self.shard(hash).read().get(hash, name)
    }

    /// What is known of the name; if nothing is, or no more than its file, a new fill.
    pub fn begin(&self, hash: u64, name: &[u8]) -> Begun {
        let mut names = self.shard(hash).write();
        if sync::is_planted(Race::FillsBegunTwice) {
            let fill = Arc::new(Flight::begun(name.into(), hash, None));
            names.uncached.insert_unique(hash, Uncached::Filling(fill.clone()), Uncached::hash);
            return Begun::New(fill);
        }
        if let Some(entry) = names.cached.find(hash, |entry| entry.name() == name) {
            return Begun::Ready(entry.clone());
        }
        match names.uncached.entry(hash, |uncached| uncached.name() == name, Uncached::hash) {
            Bucket::Occupied(mut bucket) => {
                let fill = match bucket.get() {
                    Uncached::Filling(fill) => return Begun::Filling(fill.clone()),
                    Uncached::Open(kept) => Arc::new(Flight::begun(kept.shared_name().clone(), hash, kept.take())),
                };
                *bucket.get_mut() = Uncached::Filling(fill.clone());
                Begun::New(fill)
            }
            Bucket::Vacant(bucket) => {
                let fill = Arc::new(Flight::begun(name.into(), hash, None));
                bucket.insert(Uncached::Filling(fill.clone()));
                Begun::New(fill)
            }
        }
    }

    /// Puts the fill in the place of the entry that it validates; else what is there instead.
    pub fn begin_validating(&self, entry: &Shared, fill: &Arc<Flight>) -> Result<(), Option<State>> {
        let mut names = self.shard(entry.hash()).write();
        if names.remove_entry(entry.hash(), |own| own.is(entry)).is_none() {
            return Err(names.get(entry.hash(), entry.name()));
        }
        names.uncached.insert_unique(fill.hash(), Uncached::Filling(fill.clone()), Uncached::hash);
        Ok(())
    }

    /// Puts the open file in the place of its entry.
    pub fn keep(&self, entry: &Shared, kept: &Arc<Kept>) {
        let mut names = self.shard(entry.hash()).write();
        if names.remove_entry(entry.hash(), |own| own.is(entry)).is_some() {
            names.uncached.insert_unique(kept.hash(), Uncached::Open(kept.clone()), Uncached::hash);
        }
    }

    pub fn remove_kept(&self, kept: &Arc<Kept>) {
        self.shard(kept.hash()).write().remove_uncached(kept.hash(), |uncached| uncached.is_kept(kept));
    }

    /// Puts the entry in the place of its fill; false if that is no longer there.
    pub fn replace(&self, fill: &Arc<Flight>, entry: &Shared) -> bool {
        let mut names = self.shard(fill.hash()).write();
        let was_there = names.remove_uncached(fill.hash(), |uncached| uncached.is_fill(fill)).is_some();
        let is_there = was_there || sync::is_planted(Race::RemovedPublished);
        if is_there {
            names.insert(entry);
        }
        is_there
    }

    pub fn remove(&self, hash: u64, name: &[u8]) -> Option<State> {
        let mut names = self.shard(hash).write();
        match names.remove_entry(hash, |entry| entry.name() == name) {
            Some(entry) => Some(State::Ready(entry)),
            None => names.remove_uncached(hash, |uncached| uncached.name() == name).map(State::from),
        }
    }

    /// Removes this very entry; false if it is no longer there.
    pub fn remove_entry(&self, entry: &Shared) -> bool {
        self.shard(entry.hash()).write().remove_entry(entry.hash(), |own| own.is(entry)).is_some()
    }

    pub fn remove_fill(&self, fill: &Arc<Flight>) {
        self.shard(fill.hash()).write().remove_uncached(fill.hash(), |uncached| uncached.is_fill(fill));
    }

    /// All names of which anything is known.
    pub fn names(&self) -> Vec<Box<[u8]>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let names = shard.0.read();
            all.extend(names.cached.iter().map(|entry| Box::from(entry.name())));
            all.extend(names.uncached.iter().map(|uncached| Box::from(uncached.name())));
        }
        all
    }

    /// Calls `each` for every cached entry.
    pub fn for_each(&self, mut each: impl FnMut(&Shared)) {
        self.shards.iter().for_each(|shard| shard.0.read().cached.iter().for_each(&mut each));
    }
}
