//! The file that is served where there is none of the name asked for.
//!
//! Most requests are for such names where an application of one page has its own. Each would have the disk looked at,
//! so those that were found missing within the revalidation interval are remembered: so many of them, by a keyed hash
//! of their names.

use super::revalidate::{Due, due};
use crate::limits;
use parking_lot::Mutex;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The fallback, and which names were found missing lately.
pub struct Fallback {
    name: Vec<u8>,
    key: RandomState,
    slots: Box<[Mutex<Slot>]>,
}

/// What is known of the names of one hash or another: of the one that was looked for last.
#[derive(Debug, Default)]
struct Slot {
    hash: u64,
    /// When it was looked for, in vain.
    looked: u64,
    /// When one of the slot's names was last written: what was looked for before then is not believed.
    written: u64,
}

impl Fallback {
    pub fn new(name: &str) -> Fallback {
        let slots = (0..limits::MISSING_NAMES).map(|_| Mutex::default()).collect();
        Fallback { name: name.into(), key: RandomState::new(), slots }
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether a name was found missing within `revalidate`, and since the root was exchanged.
    pub fn is_missing(&self, name: &[u8], revalidate: Duration, exchanged: u64, now: u64) -> bool {
        let (hash, slot) = self.slot(name);
        let slot = slot.lock();
        slot.hash == hash && due(slot.looked, revalidate, exchanged, now) != Due::Now
    }

    /// A name was looked for, from then on, and is missing.
    pub fn note_missing(&self, name: &[u8], looked: u64) {
        let (hash, slot) = self.slot(name);
        let mut slot = slot.lock();
        if looked > slot.written {
            (slot.hash, slot.looked) = (hash, looked);
        }
    }

    /// A name was written.
    pub fn note_written(&self, name: &[u8], now: u64) {
        let mut slot = self.slot(name).1.lock();
        *slot = Slot { written: now, ..Slot::default() };
    }

    fn slot(&self, name: &[u8]) -> (u64, &Mutex<Slot>) {
        let hash = self.key.hash_one(name);
        (hash, &self.slots[hash as usize % self.slots.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_known_for_a_while() {
        let fallback = Fallback::new("index.html");
        let second = Duration::from_secs(1);
        let is_missing = |name: &[u8], exchanged, now| fallback.is_missing(name, second, exchanged, now);
        assert!(!is_missing(b"a", 0, 1), "nobody has looked");
        fallback.note_missing(b"a", 1000);
        assert!(is_missing(b"a", 0, 1001) && !is_missing(b"b", 0, 1001));
        assert!(is_missing(b"a", 999, 1001) && !is_missing(b"a", 1000, 1001), "in another root");
        assert!(!is_missing(b"a", 0, 1001 + 1_000_000_000), "too long ago");
        assert!(!fallback.is_missing(b"a", Duration::ZERO, 0, 1001), "always looked at");
        // Who looked before it was written has found what was true then.
        fallback.note_written(b"a", 2000);
        assert!(!is_missing(b"a", 0, 2001));
        fallback.note_missing(b"a", 1999);
        assert!(!is_missing(b"a", 0, 2001));
        fallback.note_missing(b"a", 2001);
        assert!(is_missing(b"a", 0, 2002));
    }
}
