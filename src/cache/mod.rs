//! The cache: what is kept in the arena, and what has to go when it is full.
//!
//! The life of a cached file, and which call moves it on:
//!
//! | phase | what the index says | moved on by |
//! |---|---|---|
//! | unknown | nothing | [`Cache::find`] of the first request: to *opening* |
//! | opening | `Filling`, no memory | [`FillPermit::reserve`]: to *filling*; [`FillPermit::pass`]: served uncached |
//! | fetching | `Filling`, with memory | [`FillPermit::fetched`] step by step; [`FillPermit::defer`]: to *deferred* |
//! | filling | `Filling`, with memory | [`FillPermit::advance`] chunk by chunk; [`FillPermit::publish`]: to *cached* |
//! | deferred | `Ready`, in the policy | [`Cache::resume`]: read at last; an eviction: to *leaving* |
//! | cached | `Ready`, in the policy | an eviction or [`Cache::remove`]: to *leaving* |
//! | validated | `Filling`, in the policy | [`FillPermit::confirm`]: to *cached*; [`FillPermit::publish`]: *leaving* |
//! | leaving | nothing: only leases know it | the last lease: its memory goes back to the arena |
//! | failed | nothing | [`FillPermit::fail`], from opening or filling |
//!
//! Locks, in the order in which they are taken: the keeper (the policy), an entry's residency, a shard of the
//! index, a fill's state, the arena's layout. A hit takes one shard's lock shared, and nothing else.

pub mod entry;
pub mod eviction;
pub mod flight;
pub mod index;
#[cfg(all(test, feature = "shuttle"))]
pub(crate) mod models;
pub mod open_files;
pub mod passes;
pub mod permit;
pub mod residency;
pub mod stats;
#[cfg(test)]
pub mod testing;

use crate::arena::{Allocation, Arena, Usage};
use crate::limits;
use crate::origin::remote::Passing;
use crate::planted::{self, Defect};
use crate::sync::Mutex;
use crate::version::stored::Stored;
use crate::wake::{Waiter, Wake};
use entry::{Lease, Shared};
use eviction::{Candidate, Eviction, Object, Policy, Touch, Victim};
use flight::{Bypass, Failure, Flight, OpenFile, Progress};
use index::{Begun, Index, State};
use open_files::{Kept, Quota};
use passes::{Asker, Passes};
use permit::FillPermit;
use stats::{Departure, Stats};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What is kept in the arena, shared by all threads.
pub struct Cache {
    arena: Arc<Arena>,
    index: Index,
    keeper: Mutex<Keeper>,
    touch: Touch,
    /// References to a cached entry that are no leases: the index's and the policy's.
    own_references: usize,
    open_files: Arc<Quota>,
    passes: Passes,
    /// How long a file stays open that is not cached any more.
    open_time: Duration,
    stats: Arc<dyn Stats>,
    wake: Arc<dyn Wake>,
}

/// What only misses, evictions and removals need.
struct Keeper {
    /// It has every cached entry.
    policy: Box<dyn Policy<Shared>>,
    /// Files that are open without being cached, the oldest first; and some that are so no more.
    kept: VecDeque<Arc<Kept>>,
}

/// What is known of a name.
pub enum Lookup {
    /// It is cached, though perhaps [without its bytes](residency).
    Hit(Lease),
    /// Another request has begun to read it.
    Join(Arc<Flight>),
    /// Nobody has: the caller reads it.
    Lead(FillPermit),
}

impl Cache {
    /// An empty cache of `capacity` bytes. Objects of up to `packed_max` bytes are packed; see [`Arena::new`]. A file
    /// that is not cached any more stays open for `open_time` after it was found under its name; see
    /// [`Cache::tend_open_files`].
    ///
    /// # Errors
    /// Those of [`Arena::new`].
    pub fn new(
        capacity: u64,
        packed_max: u64,
        eviction: Eviction,
        miss_cost: u64,
        open_time: Duration,
        stats: Arc<dyn Stats>,
        wake: Arc<dyn Wake>,
    ) -> io::Result<Arc<Cache>> {
        let policy = eviction.build(capacity, miss_cost);
        Ok(Arc::new(Cache {
            arena: Arena::new(capacity, packed_max)?,
            index: Index::new(),
            touch: policy.touch(),
            own_references: 1 + policy.handles(),
            keeper: Mutex::new(Keeper { policy, kept: VecDeque::new() }),
            open_files: Quota::new(),
            passes: Passes::new(),
            open_time,
            stats,
            wake,
        }))
    }

    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// What a hit does, for each worker to have its own.
    pub fn touch(&self) -> Touch {
        self.touch.clone()
    }

    /// A lease of a cached file; does not count as a hit until the caller says so with [`Touch::hit`].
    pub fn get(&self, name: &[u8]) -> Option<Lease> {
        match self.index.get(self.index.hash(name), name) {
            Some(State::Ready(entry)) => Some(Lease::new(entry)),
            _ => None,
        }
    }

    /// What is known of `name`. If nothing is, a fill is begun.
    pub fn find(self: &Arc<Self>, name: &[u8]) -> Lookup {
        let hash = self.index.hash(name);
        match self.index.get(hash, name) {
            Some(State::Ready(entry)) => Lookup::Hit(Lease::new(entry)),
            Some(State::Filling(fill)) => Lookup::Join(fill),
            Some(State::Open(_)) | None => match self.index.begin(hash, name) {
                Begun::New(fill) => Lookup::Lead(FillPermit::new(self, fill)),
                Begun::Filling(fill) => Lookup::Join(fill),
                Begun::Ready(entry) => Lookup::Hit(Lease::new(entry)),
            },
        }
    }

    /// A stale response is to be validated: by the caller, if nobody does it already. Others find its fill in its
    /// place.
    pub fn validate(self: &Arc<Self>, stale: &Lease) -> Lookup {
        let fill = Arc::new(Flight::validating(stale));
        match self.index.begin_validating(stale.shared(), &fill) {
            Ok(()) => Lookup::Lead(FillPermit::new(self, fill)),
            Err(Some(State::Ready(entry))) => Lookup::Hit(Lease::new(entry)),
            Err(Some(State::Filling(fill))) => Lookup::Join(fill),
            Err(Some(State::Open(_)) | None) => self.find(stale.name()),
        }
    }

    /// A fill that no other request joins and that will not be cached.
    pub fn aside(self: &Arc<Self>, name: &[u8], bypass: Bypass) -> FillPermit {
        FillPermit::new(self, Arc::new(Flight::set_aside(name, self.index.hash(name), bypass)))
    }

    /// Whether the last answer under this name was for one request alone, so that no other request waits for the next
    /// one.
    pub fn is_passed(&self, fill: &Flight, asker: Asker, now: u64) -> bool {
        self.passes.is_marked(fill.hash(), asker, now)
    }

    /// The file is open, and was found under its name at `checked`: memory is reserved for it, evicting what the policy
    /// gives up.
    ///
    /// # Errors
    /// Why the file is served uncached.
    fn reserve(&self, fill: &Arc<Flight>, file: &OpenFile, checked: u64, now: u64) -> Result<Lease, Bypass> {
        if let Some(reason) = fill.aside() {
            return Err(reason);
        }
        let size = file.described.version.size;
        self.take_room(fill, size, 0, |allocation| Shared::new(fill, file, allocation, checked, now))
    }

    /// Memory is reserved for a response.
    fn reserve_response(&self, fill: &Arc<Flight>, stored: Arc<Stored>, now: u64) -> Result<Lease, Bypass> {
        if let Some(reason) = fill.aside() {
            return Err(reason);
        }
        let (size, further) = (stored.kept_bytes(), stored.heap_bytes());
        if further > limits::STORED_HEAD_BYTES {
            return Err(Bypass::TooLarge);
        }
        self.take_room(fill, size, further, |allocation| Shared::of_response(fill, stored.clone(), allocation, now))
    }

    /// Memory for an object of `size` bytes of which `further` bytes are kept elsewhere; `entry` makes it the fill's.
    fn take_room(
        &self,
        fill: &Flight,
        size: u64,
        further: usize,
        entry: impl Fn(Allocation) -> Shared,
    ) -> Result<Lease, Bypass> {
        let charged = self.arena.charged(size).ok_or(Bypass::TooLarge)?;
        let candidate = Candidate { key: fill.hash(), size, charged };
        self.keeper.lock().policy.miss(&candidate);
        // Others may take what was freed for this one; then more is freed, but not for ever.
        for _ in 0..limits::RESERVE_ATTEMPTS {
            let leaving = {
                let mut keeper = self.keeper.lock();
                let shortage = match self.arena.take(size, entry::books(fill.name(), further)) {
                    Ok(allocation) => return Ok(Lease::new(entry(allocation))),
                    Err(shortage) => shortage,
                };
                self.make_room(&mut keeper, &candidate, shortage)?
            };
            // Outside the keeper's lock: punching takes its time.
            drop(leaving);
        }
        Err(Bypass::NoRoom)
    }

    /// Takes victims out of the cache until their charge covers `shortage`.
    fn make_room(&self, keeper: &mut Keeper, wanted: &Candidate, shortage: u64) -> Result<Vec<Shared>, Bypass> {
        let Keeper { policy, kept } = keeper;
        let mut leaving = Vec::new();
        let mut freed = 0;
        while freed < shortage {
            match policy.victim(wanted, &|entry| self.is_leased(entry)) {
                Victim::Evict(entry) => {
                    freed += entry.charged();
                    if let Some(open) = self.evict(&entry) {
                        // Those that were needed again are closed, as far as this queue is concerned.
                        while kept.pop_front_if(|oldest| oldest.is_taken()).is_some() {}
                        kept.push_back(open);
                    }
                    self.stats.left(Departure::Room);
                    leaving.push(entry);
                }
                Victim::Refuse if leaving.is_empty() => {
                    self.stats.refused();
                    return Err(Bypass::NotAdmitted);
                }
                Victim::None if leaving.is_empty() => return Err(Bypass::NoRoom),
                Victim::Refuse | Victim::None => break,
            }
        }
        Ok(leaving)
    }

    /// Whether anybody holds a lease of this cached entry.
    fn is_leased(&self, entry: &Shared) -> bool {
        entry.count() > self.own_references
    }

    /// The file is being read into `entry`: those who wait can have what there is.
    fn start(&self, fill: &Flight, entry: &Lease, file: Arc<OpenFile>) -> Vec<Waiter> {
        fill.move_on(Progress::Filling(entry.clone(), file))
    }

    /// The file is being read into the page cache: those who wait can have it from there as far as it is.
    fn fetch(&self, fill: &Flight, entry: &Lease, file: Arc<OpenFile>) -> Vec<Waiter> {
        file.set_fetched(Some(0));
        fill.move_on(Progress::Fetching(entry.clone(), file))
    }

    /// It is there up to byte `to` now.
    fn fetched(&self, fill: &Flight, file: &OpenFile, to: u64) -> Vec<Waiter> {
        fill.fetched(file, to)
    }

    /// `filled` bytes are there now.
    fn advance(&self, fill: &Flight, entry: &Lease, filled: u64) -> Vec<Waiter> {
        fill.advance(entry, filled)
    }

    /// The origin says that what the fill validates is current, and that this is known of it now.
    fn confirm(&self, fill: &Arc<Flight>, stored: Arc<Stored>) -> Vec<Waiter> {
        let Some(entry) = fill.stale() else { return self.fail(fill, Failure::Remote(502)) };
        entry.restore(stored);
        self.put_back(fill);
        fill.move_on(Progress::Validated(entry.clone()))
    }

    /// The origin fails, and what the fill was to validate is served all the same.
    fn excuse(&self, fill: &Arc<Flight>) -> Vec<Waiter> {
        let Some(entry) = fill.stale() else { return self.fail(fill, Failure::Remote(502)) };
        self.put_back(fill);
        fill.move_on(Progress::Stale(entry.clone()))
    }

    /// Puts what a fill was to validate in its place again, unless the policy has given it up meanwhile or the name was
    /// removed.
    fn put_back(&self, fill: &Arc<Flight>) {
        // Under the keeper's lock, so that the policy does not give it up meanwhile.
        let _keeper = self.keeper.lock();
        match fill.stale() {
            Some(entry) if entry.shared().tag().is_held() => drop(self.index.replace(fill, entry.shared())),
            Some(_) | None => self.index.remove_fill(fill),
        }
    }

    /// The origin's answer is for whoever asked for it alone. Nothing is cached under the name now.
    fn pass_on(&self, fill: &Arc<Flight>, passing: Arc<Passing>) -> Vec<Waiter> {
        self.withdraw(fill);
        fill.move_on(Progress::Passing(passing))
    }

    /// The body of a response is coming: those who wait can have what there is.
    fn arrive(&self, fill: &Flight, entry: &Lease) -> Vec<Waiter> {
        fill.move_on(Progress::Arriving(entry.clone()))
    }

    /// The file is whole: it is cached from now on, unless its name was removed or the fill detached meanwhile.
    fn publish(&self, fill: &Arc<Flight>, entry: Lease) -> Vec<Waiter> {
        if !entry.was_admitted() {
            self.admit(fill, &entry);
        }
        entry.end_reading();
        fill.move_on(Progress::Ready(entry))
    }

    /// Puts the entry in the place of its fill, and has the policy know it; false if the name was removed or the fill
    /// detached.
    fn admit(&self, fill: &Arc<Flight>, entry: &Lease) -> bool {
        let mut keeper = self.keeper.lock();
        if !self.index.replace(fill, entry.shared()) {
            return false;
        }
        entry.set_admitted();
        keeper.policy.insert(entry.shared().clone());
        if let Some(replaced) = fill.stale() {
            keeper.forget(replaced.shared());
        }
        true
    }

    /// Nobody finds what this fill reads any more.
    fn withdraw(&self, fill: &Arc<Flight>) {
        if let Some(replaced) = fill.stale() {
            let mut keeper = self.keeper.lock();
            self.index.remove_fill(fill);
            keeper.forget(replaced.shared());
            return;
        }
        self.index.remove_fill(fill);
        if let Some((entry, _)) = fill.reading().filter(|(entry, _)| entry.was_admitted()) {
            self.remove_entry(&entry, Departure::Invalidated);
        }
    }

    /// The file is still being read for those who wait, but nobody joins them, and it will not be cached.
    pub fn detach(&self, fill: &Arc<Flight>) {
        self.withdraw(fill);
    }

    /// The file is not cached: those who wait serve it from the open file.
    fn pass(&self, fill: &Arc<Flight>, file: Arc<OpenFile>, reason: Bypass) -> Vec<Waiter> {
        self.index.remove_fill(fill);
        fill.move_on(Progress::Uncached(file, reason))
    }

    /// The file cannot be had: those who wait are told why.
    fn fail(&self, fill: &Arc<Flight>, failure: Failure) -> Vec<Waiter> {
        match fill.stale() {
            // What could not be validated is no worse than it was.
            Some(_) => self.put_back(fill),
            None if planted::is(Defect::FailedFillStays) => {}
            None => self.withdraw(fill),
        }
        if let Some((entry, _)) = fill.reading() {
            entry.end_reading();
        }
        fill.move_on(Progress::Failed(failure))
    }

    /// Removes a name: no request that begins after this returns is answered from what was cached or is being read now.
    pub fn remove(&self, name: &[u8], why: Departure) {
        let mut keeper = self.keeper.lock();
        let hash = self.index.hash(name);
        let is_filling = matches!(self.index.get(hash, name), Some(State::Filling(_)));
        if is_filling && planted::is(Defect::RemovalMissesFills) {
            return;
        }
        let state = self.index.remove(hash, name);
        match &state {
            Some(State::Ready(entry)) => {
                keeper.forget(entry);
                self.stats.left(why);
            }
            Some(State::Open(kept)) => drop(kept.take()),
            Some(State::Filling(fill)) => {
                if let Some(stale) = fill.stale() {
                    keeper.forget(stale.shared());
                    self.stats.left(why);
                }
            }
            None => {}
        }
        drop(keeper);
    }

    /// Removes all names, as [`Cache::remove`] does.
    pub fn forget_all(&self) {
        self.index.names().iter().for_each(|name| self.remove(name, Departure::Invalidated));
    }

    /// Keeps at most `limit` files open from now on, and closes those that are not cached and have been open for long
    /// enough.
    pub fn tend_open_files(&self, limit: usize, now: u64) {
        self.open_files.set_limit(limit);
        let mut keeper = self.keeper.lock();
        let expired = keeper.kept.iter().take_while(|kept| kept.until() <= now).count();
        let closing = expired.max(self.open_files.excess()).min(keeper.kept.len());
        let closing: Vec<Arc<Kept>> = keeper.kept.drain(..closing).collect();
        drop(keeper);
        closing.iter().for_each(|kept| self.close(kept));
    }

    fn close(&self, kept: &Arc<Kept>) {
        self.index.remove_kept(kept);
        drop(kept.take());
    }

    /// Removes one version of a name, if it still is the one that is cached.
    pub fn remove_entry(&self, entry: &Lease, why: Departure) {
        let mut keeper = self.keeper.lock();
        if self.index.remove_entry(entry.shared()) {
            keeper.forget(entry.shared());
            self.stats.left(why);
        }
    }

    /// What is cached now, for people. Not one instant: shards are read one after the other.
    pub fn snapshot(&self, now: u64) -> Snapshot {
        let mut entries = Vec::new();
        let mut indexed_bytes = 0;
        let mut leased_bytes = 0;
        self.index.for_each(|entry| {
            let size = entry.size();
            indexed_bytes += size.max(1);
            if self.is_leased(entry) {
                leased_bytes += size;
            }
            entries.push(EntrySnapshot {
                name: entry.name().into(),
                size,
                charged: entry.charged(),
                offset: entry.offset(),
                hits: entry.hits(),
                age_seconds: now.saturating_sub(entry.born()) as f64 / 1e9,
            });
        });
        let usage = self.arena.usage();
        // What lives in the arena without being in the index is held by leases: responses of evicted files, and fills.
        leased_bytes += usage.live_bytes.saturating_sub(indexed_bytes);
        Snapshot { usage, leased_bytes, entries }
    }
}

impl Keeper {
    /// The policy forgets an entry that left the index, unless it has given it up itself.
    fn forget(&mut self, entry: &Shared) {
        if entry.was_admitted() {
            self.policy.remove(entry);
        }
    }
}

/// What is cached, for people.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub usage: Usage,
    /// Bytes of files that responses in progress (and fills) hold.
    pub leased_bytes: u64,
    pub entries: Vec<EntrySnapshot>,
}

/// One cached file, for people.
#[derive(Debug, Clone)]
pub struct EntrySnapshot {
    pub name: Box<[u8]>,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of budget.
    pub charged: u64,
    /// Where it lies in the arena's virtual range.
    pub offset: u64,
    pub hits: u64,
    /// Since it was read.
    pub age_seconds: f64,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("usage", &self.arena.usage()).finish_non_exhaustive()
    }
}

/// Counts a hit on an entry: for the policy, and for people.
pub fn count_hit(touch: &Touch, entry: &Lease) {
    entry.count_hit();
    if entry.was_admitted() {
        touch.hit(entry.shared());
    }
}
