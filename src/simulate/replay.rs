//! Replays a trace through the policy and the arena's accounting that the server uses: no sockets, no file bytes.

use super::trace::Trace;
use crate::arena::layout::{Layout, Slot};
use crate::cache::entry;
use crate::cache::eviction::{Candidate, Eviction, Measured, Policy, Touch, Victim};
use std::collections::VecDeque;
use std::sync::Arc;

/// What to replay a trace through.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub eviction: Eviction,
    /// Bytes of budget.
    pub arena: u64,
    /// What a miss costs, in bytes, for cost-aware policies.
    pub miss_cost: u64,
    /// Objects up to this many bytes are packed.
    pub packed_max: u64,
    /// Every object costs its own bytes and nothing is ever fragmented.
    pub ideal: bool,
    /// Entries held by slow readers at any time, at most.
    pub leases: usize,
}

/// What a replay counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    pub requests: u64,
    pub misses: u64,
    pub bytes: u64,
    pub missed_bytes: u64,
    /// Objects that were cached after a miss.
    pub admissions: u64,
    pub evictions: u64,
    /// Misses that the policy refused to make room for.
    pub rejections: u64,
    /// Misses that could not be cached: larger than the arena, or everything that could go was leased.
    pub uncacheable: u64,
    /// Live bytes / budget once the arena is full: the average over the misses that found too little budget left, or at
    /// the end if none did.
    pub utilisation: f64,
}

impl Outcome {
    /// Misses / requests; 0 for an empty trace.
    pub fn request_miss_ratio(&self) -> f64 {
        self.misses as f64 / self.requests.max(1) as f64
    }

    /// Missed bytes / requested bytes; 0 for an empty trace.
    pub fn byte_miss_ratio(&self) -> f64 {
        self.missed_bytes as f64 / self.bytes.max(1) as f64
    }
}

/// What became of one object.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Account {
    pub requests: u32,
    pub misses: u32,
    pub evictions: u32,
    /// Misses that the policy refused to make room for.
    pub rejections: u32,
    /// Misses that could not be cached.
    pub uncacheable: u32,
    /// Whether it is cached at the end.
    pub is_cached: bool,
}

impl Account {
    pub fn hits(&self) -> u32 {
        self.requests - self.misses
    }
}

/// Of the requests for cached objects, one in this many is a slow reader's, who holds a lease until as many slow
/// readers as may be at a time have come after. With 512 leases this is a reader who takes as long as 4096 requests.
const SLOW_EVERY: u64 = 8;

/// Traces have no names, which count with what the cache keeps of a file.
const TYPICAL_NAME: &[u8] = b"directory/subdirectory/file.html";

/// Bytes accounted for by the arena, or by none.
enum Store {
    Arena(Box<Layout>),
    Ideal { capacity: u64, used: u64 },
}

enum Cached {
    No,
    /// An empty object takes no slot.
    Empty,
    Yes {
        object: Arc<Measured>,
        slot: Option<Slot>,
    },
}

/// Replays `trace`, calling `progress` with the number of requests done since the last call.
pub fn replay(trace: &Trace, setup: &Setup, progress: &mut dyn FnMut(u64)) -> Outcome {
    let mut replay = Replay::new(trace, setup);
    replay.all(progress);
    replay.finish()
}

/// The same, and what became of each object.
pub fn replay_with_accounts(trace: &Trace, setup: &Setup, progress: &mut dyn FnMut(u64)) -> (Outcome, Vec<Account>) {
    let mut replay = Replay::new(trace, setup);
    replay.accounts = vec![Account::default(); trace.sizes.len()];
    replay.all(progress);
    let mut accounts = std::mem::take(&mut replay.accounts);
    for (account, cached) in accounts.iter_mut().zip(&replay.cached) {
        account.is_cached = matches!(cached, Cached::Yes { .. });
    }
    (replay.finish(), accounts)
}

struct Replay<'a> {
    trace: &'a Trace,
    store: Store,
    policy: Box<dyn Policy<Arc<Measured>>>,
    touch: Touch,
    cached: Vec<Cached>,
    outcome: Outcome,
    /// By object; empty unless asked for.
    accounts: Vec<Account>,
    leases: Leases,
    /// Live bytes, of the misses that found the budget used up.
    live_sum: f64,
    live_samples: u64,
}

impl<'a> Replay<'a> {
    fn new(trace: &'a Trace, setup: &Setup) -> Replay<'a> {
        let policy = setup.eviction.build(setup.arena, setup.miss_cost);
        let store = match setup.ideal {
            true => Store::Ideal { capacity: setup.arena, used: 0 },
            false => Store::Arena(Box::new(Layout::new(setup.arena, setup.packed_max))),
        };
        Replay {
            trace,
            store,
            touch: policy.touch(),
            policy,
            cached: trace.sizes.iter().map(|_| Cached::No).collect(),
            outcome: Outcome::default(),
            accounts: Vec::new(),
            leases: Leases::new(setup.leases, trace.sizes.len()),
            live_sum: 0.0,
            live_samples: 0,
        }
    }

    fn all(&mut self, progress: &mut dyn FnMut(u64)) {
        for chunk in self.trace.requests.chunks(1 << 14) {
            chunk.iter().for_each(|&object| self.request(object));
            progress(chunk.len() as u64);
        }
    }

    /// Notes something of an object, where accounts are kept.
    fn note(&mut self, object: u32, what: fn(&mut Account) -> &mut u32) {
        if let Some(account) = self.accounts.get_mut(object as usize) {
            *what(account) += 1;
        }
    }

    fn request(&mut self, object: u32) {
        self.note(object, |account| &mut account.requests);
        let size = self.trace.sizes[object as usize];
        self.outcome.requests += 1;
        self.outcome.bytes += size;
        match &self.cached[object as usize] {
            Cached::Yes { object, .. } => self.touch.hit(object),
            Cached::Empty => {}
            Cached::No => {
                self.outcome.misses += 1;
                self.outcome.missed_bytes += size;
                self.note(object, |account| &mut account.misses);
                self.miss(object, size);
            }
        }
        if matches!(self.cached[object as usize], Cached::Yes { .. }) {
            self.leases.served(object);
        }
    }

    fn miss(&mut self, object: u32, size: u64) {
        if size == 0 {
            self.cached[object as usize] = Cached::Empty;
            return;
        }
        let Some(charged) = self.store.charged(size) else {
            self.outcome.uncacheable += 1;
            self.note(object, |account| &mut account.uncacheable);
            return;
        };
        let wanted = Candidate { key: key_of(object), size, charged };
        self.policy.miss(&wanted);
        if let Some(slot) = self.make_room(object, &wanted) {
            let measured = Arc::new(Measured::new(wanted.key, size, charged, object));
            self.policy.insert(measured.clone());
            self.cached[object as usize] = Cached::Yes { object: measured, slot };
            self.outcome.admissions += 1;
        }
    }

    /// Evicts until there is a slot, as the server does: as many victims as the shortage asks for, then asks again.
    fn make_room(&mut self, object: u32, wanted: &Candidate) -> Option<Option<Slot>> {
        let mut sampled = false;
        loop {
            let shortage = match self.store.take(wanted.size) {
                Ok(slot) => return Some(slot),
                Err(shortage) => shortage,
            };
            if !sampled {
                sampled = true;
                self.live_sum += self.store.live() as f64;
                self.live_samples += 1;
            }
            let mut covered = 0;
            while covered < shortage {
                let leased = |object: &Arc<Measured>| self.leases.holds(object.number);
                match self.policy.victim(wanted, &leased) {
                    Victim::Evict(victim) => {
                        covered += victim.charged;
                        self.outcome.evictions += 1;
                        self.note(victim.number, |account| &mut account.evictions);
                        let gone = std::mem::replace(&mut self.cached[victim.number as usize], Cached::No);
                        if let Cached::Yes { slot, .. } = gone {
                            self.store.release(slot, victim.size);
                        }
                    }
                    Victim::Refuse => {
                        self.outcome.rejections += 1;
                        self.note(object, |account| &mut account.rejections);
                        return None;
                    }
                    Victim::None => {
                        self.outcome.uncacheable += 1;
                        self.note(object, |account| &mut account.uncacheable);
                        return None;
                    }
                }
            }
        }
    }

    fn finish(self) -> Outcome {
        let capacity = self.store.capacity().max(1) as f64;
        let live = match self.live_samples {
            0 => self.store.live() as f64,
            samples => self.live_sum / samples as f64,
        };
        Outcome { utilisation: live / capacity, ..self.outcome }
    }
}

impl Store {
    fn capacity(&self) -> u64 {
        match self {
            Store::Arena(layout) => layout.capacity(),
            Store::Ideal { capacity, .. } => *capacity,
        }
    }

    fn live(&self) -> u64 {
        match self {
            Store::Arena(layout) => layout.live(),
            Store::Ideal { used, .. } => *used,
        }
    }

    fn charged(&self, size: u64) -> Option<u64> {
        match self {
            Store::Arena(layout) => layout.charged(size),
            Store::Ideal { capacity, .. } => (size <= *capacity).then_some(size),
        }
    }

    /// A slot, or the charged bytes that have to be evicted before asking again.
    fn take(&mut self, size: u64) -> Result<Option<Slot>, u64> {
        match self {
            Store::Arena(layout) => match layout.take(size, entry::books(TYPICAL_NAME, 0)) {
                Ok(slot) => Ok(Some(slot)),
                Err(shortage) => {
                    shortage.punches.into_iter().for_each(|punch| layout.reclaim(punch));
                    Err(shortage.bytes)
                }
            },
            Store::Ideal { capacity, used } if *used + size <= *capacity => {
                *used += size;
                Ok(None)
            }
            Store::Ideal { capacity, used } => Err(*used + size - *capacity),
        }
    }

    fn release(&mut self, slot: Option<Slot>, size: u64) {
        match (self, slot) {
            (Store::Arena(layout), Some(slot)) => {
                if let Some(punch) = layout.release(slot) {
                    layout.reclaim(punch);
                }
            }
            (Store::Ideal { used, .. }, _) => *used -= size,
            (Store::Arena(_), None) => {}
        }
    }
}

/// Slow readers, who keep what they read from being evicted.
struct Leases {
    most: usize,
    served: u64,
    held: VecDeque<u32>,
    /// By object: how many hold it.
    count: Vec<u32>,
}

impl Leases {
    fn new(most: usize, objects: usize) -> Leases {
        let objects = if most == 0 { 0 } else { objects };
        Leases { most, served: 0, held: VecDeque::new(), count: vec![0; objects] }
    }

    fn served(&mut self, object: u32) {
        self.served += 1;
        if self.most > 0 && self.served.is_multiple_of(SLOW_EVERY) {
            if self.held.len() == self.most
                && let Some(done) = self.held.pop_front()
            {
                self.count[done as usize] -= 1;
            }
            self.held.push_back(object);
            self.count[object as usize] += 1;
        }
    }

    fn holds(&self, object: u32) -> bool {
        self.most > 0 && self.count[object as usize] > 0
    }
}

/// A well-mixed hash of the object's number, in place of the hash of a name (the finaliser of SplitMix64).
fn key_of(object: u32) -> u64 {
    let mut x = u64::from(object).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
