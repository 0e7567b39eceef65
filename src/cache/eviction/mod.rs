//! What has to go when the arena is full: one policy per file, behind one trait.
//!
//! A policy has two halves. The *locked* half ([`Policy`]) learns of misses, inserts and removals and chooses victims;
//! it is called on misses only, by one worker at a time. The *lock-free* half ([`Touch`]) is what a hit does: a few
//! relaxed loads and at most two relaxed stores to the object's own [`Tag`], never a shared counter, a lock or a list.
//! Orders that a list move would keep exact are kept exact by re-keying lazily, when a victim is sought: see [`heap`].

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

mod gdc;
mod heap;
mod larger_first;
mod lru;
mod parking;
mod queue;
mod s3_fifo;
mod sieve;
mod sketch;

use gdc::Level;
use lru::Clock;

/// What a policy keeps of a cached object. It lies within the object, and a hit touches it without a lock.
#[derive(Debug)]
pub struct Tag {
    /// What the policy orders by; only ever rises.
    rank: AtomicU64,
    /// How often it was hit, as far as the policy counts.
    hits: AtomicU32,
    /// Where it stands in the policy's structure. Changes under the policy's lock only.
    place: AtomicU32,
}

impl Default for Tag {
    fn default() -> Tag {
        Tag { rank: AtomicU64::new(0), hits: AtomicU32::new(0), place: AtomicU32::new(NOWHERE) }
    }
}

impl Tag {
    /// Whether the policy knows its object. It may give it up at any time, unless the caller holds the policy's lock.
    pub fn is_held(&self) -> bool {
        self.place.load(Relaxed) != NOWHERE
    }
}

/// A cached object, as policies know it: a handle that they share with the cache.
pub trait Object: Clone + Send {
    /// Hash of the name: the same when the name comes back after an eviction.
    fn key(&self) -> u64;
    /// The object's bytes.
    fn size(&self) -> u64;
    /// Bytes of budget it is accounted for.
    fn charged(&self) -> u64;
    fn tag(&self) -> &Tag;
    /// Tells objects apart that are alike in all else.
    fn address(&self) -> usize;
}

/// An object without bytes: what the simulator replays.
#[derive(Debug)]
pub struct Measured {
    pub key: u64,
    pub size: u64,
    pub charged: u64,
    /// The owner's number for it.
    pub number: u32,
    tag: Tag,
}

impl Measured {
    /// `size` and `charged` in bytes.
    pub fn new(key: u64, size: u64, charged: u64, number: u32) -> Measured {
        Measured { key, size, charged, number, tag: Tag::default() }
    }
}

impl Object for Arc<Measured> {
    fn key(&self) -> u64 {
        self.key
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn charged(&self) -> u64 {
        self.charged
    }

    fn tag(&self) -> &Tag {
        &self.tag
    }

    fn address(&self) -> usize {
        Arc::as_ptr(self).addr()
    }
}

/// The place of a tag that no structure holds.
const NOWHERE: u32 = u32::MAX;

/// The lock-free half of a policy: what a hit does. Every worker has its own clone.
#[derive(Debug, Clone)]
pub enum Touch {
    /// Hits, and a priority from them: see [`gdc`].
    Priority(Arc<Level>),
    /// Recency, in misses: see [`lru`].
    Recency(Arc<Clock>),
    /// Hits since the policy last looked, up to `most`.
    Count { most: u32 },
}

impl Touch {
    /// A cached object was asked for.
    #[inline]
    pub fn hit<T: Object>(&self, object: &T) {
        let tag = object.tag();
        match self {
            Touch::Priority(level) => level.touch(tag, object.charged()),
            Touch::Recency(clock) => clock.touch(tag),
            Touch::Count { most } => {
                // A load and a store, not an atomic increment: a hit lost to a race is one that came at the same time.
                let hits = tag.hits.load(Relaxed);
                if hits < *most {
                    tag.hits.store(hits + 1, Relaxed);
                }
            }
        }
    }
}

/// A name that was asked for and is not cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Hash of the name, as in [`Object::key`].
    pub key: u64,
    /// The object's bytes.
    pub size: u64,
    /// Bytes of budget it would be accounted for.
    pub charged: u64,
}

/// What to do so that there is room.
#[derive(Debug)]
pub enum Victim<T> {
    /// This one goes. The policy has already forgotten it.
    Evict(T),
    /// The candidate is worth less than what would have to go: serve it without caching it.
    Refuse,
    /// Nothing can go: there is nothing, or everything is leased.
    None,
}

/// The locked half of a policy.
pub trait Policy<T>: Send {
    /// The lock-free half.
    fn touch(&self) -> Touch;

    /// How many handles it keeps of each object.
    fn handles(&self) -> usize {
        1
    }

    /// A name was asked for and was not cached.
    fn miss(&mut self, candidate: &Candidate);

    /// The object is cached now.
    fn insert(&mut self, object: T);

    /// The object is not cached any more, for a reason other than eviction. Harmless for one that was chosen as a
    /// victim.
    fn remove(&mut self, object: &T);

    /// The next victim to make room for `wanted`. Objects for which `leased` says true are passed over, and stay.
    fn victim(&mut self, wanted: &Candidate, leased: &dyn Fn(&T) -> bool) -> Victim<T>;
}

/// Appends to a list that may become long. It grows by an eighth at a time, so that little of its memory is unused.
fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 16);
    }
    list.push(item);
}

/// The policies by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Eviction {
    /// What saves the least for its bytes: hits, size and the cost of a miss (the default).
    #[default]
    Gdc,
    /// One file larger than the one asked for; if there is none, the least recently used until there is room.
    LargerFirst,
    /// The least recently used.
    Lru,
    /// Two queues: what is not asked for again soon does not get far (SOSP 2023).
    S3Fifo,
    /// One queue and a hand that passes over what was hit (NSDI 2024).
    Sieve,
}

impl Eviction {
    /// Every policy.
    pub const ALL: [Eviction; 5] =
        [Eviction::Gdc, Eviction::LargerFirst, Eviction::Lru, Eviction::S3Fifo, Eviction::Sieve];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Eviction::Gdc => "gdc",
            Eviction::LargerFirst => "larger-first",
            Eviction::Lru => "lru",
            Eviction::S3Fifo => "s3-fifo",
            Eviction::Sieve => "sieve",
        }
    }

    /// The policy's state for an empty arena of `capacity` bytes. `s0`: what one miss costs, expressed in bytes
    /// (latency x bandwidth of the origin); only cost-aware policies use it.
    pub fn build<T: Object + 'static>(self, capacity: u64, s0: u64) -> Box<dyn Policy<T>> {
        match self {
            Eviction::Gdc => Box::new(gdc::Gdc::new(capacity, s0)),
            Eviction::LargerFirst => Box::new(larger_first::LargerFirst::new()),
            Eviction::Lru => Box::new(lru::Lru::new()),
            Eviction::S3Fifo => Box::new(s3_fifo::S3Fifo::new(capacity)),
            Eviction::Sieve => Box::new(sieve::Sieve::new()),
        }
    }
}

#[cfg(test)]
mod tests;
