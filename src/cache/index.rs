//! The index: from a name to what is cached under it. Sharded, so that workers seldom meet; a lookup takes one shard's lock
//! shared and for as long as a comparison of names takes.

use super::entry::Entry;
use super::flight::Flight;
use super::open_files::Kept;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;
use parking_lot::RwLock;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Shards; a power of two. Enough that even 64 workers, each in the index for less than a tenth of its time, rarely wait.
const SHARDS: usize = 256;

/// What the index holds of a name.
#[derive(Clone)]
pub(super) enum State {
    Ready(Arc<Entry>),
    Filling(Arc<Flight>),
    /// It is not cached any more, and its file is open.
    Open(Arc<Kept>),
}

/// What a name was found to be when a fill was to be begun.
pub(super) enum Begun {
    Ready(Arc<Entry>),
    Filling(Arc<Flight>),
    New(Arc<Flight>),
}

impl State {
    fn name(&self) -> &[u8] {
        match self {
            State::Ready(entry) => entry.name(),
            State::Filling(fill) => fill.name(),
            State::Open(kept) => kept.shared_name(),
        }
    }

    fn shared_name(&self) -> Arc<[u8]> {
        match self {
            State::Ready(entry) => entry.shared_name().clone(),
            State::Filling(fill) => fill.shared_name().clone(),
            State::Open(kept) => kept.shared_name().clone(),
        }
    }

    fn hash(&self) -> u64 {
        match self {
            State::Ready(entry) => entry.hash(),
            State::Filling(fill) => fill.hash(),
            State::Open(kept) => kept.hash(),
        }
    }

    fn is_entry(&self, entry: &Arc<Entry>) -> bool {
        matches!(self, State::Ready(own) if Arc::ptr_eq(own, entry))
    }

    fn is_kept(&self, kept: &Arc<Kept>) -> bool {
        matches!(self, State::Open(own) if Arc::ptr_eq(own, kept))
    }

    fn is_fill(&self, fill: &Arc<Flight>) -> bool {
        matches!(self, State::Filling(own) if Arc::ptr_eq(own, fill))
    }
}

/// On cache lines of its own: two shards never fight over one.
#[repr(align(128))]
struct Shard(RwLock<HashTable<State>>);

pub(super) struct Index {
    shards: Box<[Shard]>,
    hasher: RandomState,
}

impl Index {
    pub fn new() -> Index {
        let shards = (0..SHARDS).map(|_| Shard(RwLock::new(HashTable::new()))).collect();
        Index { shards, hasher: RandomState::default() }
    }

    /// The hash of a name; seeded, so that no client can choose names that collide.
    pub fn hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<State>> {
        // hashbrown takes the lowest bits for the bucket and the highest seven for its tags.
        &self.shards[(hash >> 40) as usize % SHARDS].0
    }

    pub fn get(&self, hash: u64, name: &[u8]) -> Option<State> {
        self.shard(hash).read().find(hash, |state| state.name() == name).cloned()
    }

    /// What is known of the name; if nothing is, or no more than its file, a new fill.
    pub fn begin(&self, hash: u64, name: &[u8]) -> Begun {
        let mut shard = self.shard(hash).write();
        match shard.entry(hash, |state| state.name() == name, State::hash) {
            Place::Occupied(mut place) => {
                let fill = match place.get() {
                    State::Ready(entry) => return Begun::Ready(entry.clone()),
                    State::Filling(fill) => return Begun::Filling(fill.clone()),
                    State::Open(kept) => Arc::new(Flight::begun(kept.shared_name().clone(), hash, kept.take())),
                };
                *place.get_mut() = State::Filling(fill.clone());
                Begun::New(fill)
            }
            Place::Vacant(place) => {
                let fill = Arc::new(Flight::begun(name.into(), hash, None));
                place.insert(State::Filling(fill.clone()));
                Begun::New(fill)
            }
        }
    }

    /// Puts the open file in the place of its entry.
    pub fn keep(&self, entry: &Arc<Entry>, kept: &Arc<Kept>) {
        let mut shard = self.shard(entry.hash()).write();
        if let Some(state) = shard.find_mut(entry.hash(), |state| state.is_entry(entry)) {
            *state = State::Open(kept.clone());
        }
    }

    pub fn remove_kept(&self, kept: &Arc<Kept>) {
        self.remove_if(kept.hash(), |state| state.is_kept(kept));
    }

    /// Puts the entry in the place of its fill; false if that is no longer there.
    pub fn replace(&self, fill: &Arc<Flight>, entry: &Arc<Entry>) -> bool {
        let mut shard = self.shard(fill.hash()).write();
        let place = shard.find_mut(fill.hash(), |state| state.is_fill(fill));
        place.map(|state| *state = State::Ready(entry.clone())).is_some()
    }

    pub fn remove(&self, hash: u64, name: &[u8]) -> Option<State> {
        self.remove_if(hash, |state| state.name() == name)
    }

    /// Removes this very entry; false if it is no longer there.
    pub fn remove_entry(&self, entry: &Arc<Entry>) -> bool {
        self.remove_if(entry.hash(), |state| state.is_entry(entry)).is_some()
    }

    pub fn remove_fill(&self, fill: &Arc<Flight>) {
        self.remove_if(fill.hash(), |state| state.is_fill(fill));
    }

    fn remove_if(&self, hash: u64, is: impl Fn(&State) -> bool) -> Option<State> {
        let mut shard = self.shard(hash).write();
        let removed = shard.find_entry(hash, is).ok().map(|place| place.remove().0);
        // A shard that had many names once gives their room back.
        if shard.capacity() > 64 && shard.len() < shard.capacity() / 8 {
            shard.shrink_to(0, State::hash);
        }
        removed
    }

    /// All names of which anything is known.
    pub fn names(&self) -> Vec<Arc<[u8]>> {
        self.shards.iter().flat_map(|shard| shard.0.read().iter().map(State::shared_name).collect::<Vec<_>>()).collect()
    }

    /// Calls `each` for every cached entry.
    pub fn for_each(&self, mut each: impl FnMut(&Arc<Entry>)) {
        for shard in &self.shards {
            for state in shard.0.read().iter() {
                if let State::Ready(entry) = state {
                    each(entry);
                }
            }
        }
    }
}
