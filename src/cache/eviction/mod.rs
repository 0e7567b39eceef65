//! What has to go when the arena is full: one policy per file, behind one trait.
//!
//! A policy has two halves. The *locked* half ([`Policy`]) learns of misses, inserts and removals and chooses victims; it is
//! called on misses only, by one worker at a time. The *lock-free* half ([`Touch`]) is what a hit does: a few relaxed loads
//! and at most two relaxed stores to the entry's own [`Tag`], never a shared counter, a lock or a list. Orders that a list
//! move would keep exact are kept exact by re-keying lazily, when a victim is sought: see [`heap`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

mod heap;
mod larger_first;
mod lru;

use lru::Clock;

/// What a policy knows of a cached object; shared by the index entry, which touches it without a lock on a hit, and the
/// policy's structures.
#[derive(Debug)]
pub struct Tag {
    /// Hash of the name: the same when the name comes back after an eviction.
    pub key: u64,
    /// The object's bytes.
    pub size: u64,
    /// Bytes of budget it is accounted for.
    pub charged: u64,
    /// The cache's own number for the entry.
    pub resident: u32,
    /// What the policy orders by; only ever rises.
    rank: AtomicU64,
    /// Where it stands in the policy's structure. Changes under the policy's lock only.
    place: AtomicU32,
}

impl Tag {
    /// `size` and `charged` in bytes.
    pub fn new(key: u64, size: u64, charged: u64, resident: u32) -> Tag {
        Tag { key, size, charged, resident, rank: AtomicU64::new(0), place: AtomicU32::new(NOWHERE) }
    }
}

/// The place of a tag that no structure holds.
const NOWHERE: u32 = u32::MAX;

/// The lock-free half of a policy: what a hit does. Every worker has its own clone.
#[derive(Debug, Clone)]
pub enum Touch {
    /// Recency, in misses: see [`lru`].
    Recency(Arc<Clock>),
}

impl Touch {
    /// A cached object was asked for.
    #[inline]
    pub fn hit(&self, tag: &Tag) {
        match self {
            Touch::Recency(clock) => clock.touch(tag),
        }
    }
}

/// A name that was asked for and is not cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Hash of the name, as in [`Tag::key`].
    pub key: u64,
    /// The object's bytes.
    pub size: u64,
    /// Bytes of budget it would be accounted for.
    pub charged: u64,
}

/// What to do so that there is room.
#[derive(Debug)]
pub enum Victim {
    /// This one goes. The policy has already forgotten it.
    Evict(Arc<Tag>),
    /// The candidate is worth less than what would have to go: serve it without caching it.
    Refuse,
    /// Nothing can go: there is nothing, or everything is leased.
    None,
}

/// The locked half of a policy.
pub trait Policy: Send {
    /// The lock-free half.
    fn touch(&self) -> Touch;

    /// A name was asked for and was not cached.
    fn miss(&mut self, candidate: &Candidate);

    /// The object is cached now.
    fn insert(&mut self, tag: Arc<Tag>);

    /// The object is not cached any more, for a reason other than eviction. Harmless for a tag that was chosen as a victim.
    fn remove(&mut self, tag: &Arc<Tag>);

    /// The next victim to make room for `wanted`. Entries for which `leased` says true are passed over, and stay.
    fn victim(&mut self, wanted: &Candidate, leased: &dyn Fn(&Tag) -> bool) -> Victim;
}

/// The policies by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Eviction {
    /// One file larger than the one asked for; if there is none, the least recently used until there is room.
    LargerFirst,
    /// The least recently used.
    Lru,
}

impl Eviction {
    /// The policy's state for an empty arena of `capacity` bytes. `s0`: what one miss costs, expressed in bytes (latency x
    /// bandwidth of the origin); only cost-aware policies use it.
    pub fn build(self, capacity: u64, s0: u64) -> Box<dyn Policy> {
        let _ = (capacity, s0);
        match self {
            Eviction::LargerFirst => Box::new(larger_first::LargerFirst::new()),
            Eviction::Lru => Box::new(lru::Lru::new()),
        }
    }
}

#[cfg(test)]
mod tests;
