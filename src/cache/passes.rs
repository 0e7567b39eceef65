//! Names whose answers proved to be uncacheable: Varnish calls such a mark hit-for-miss.
//!
//! Whoever asks for such a name while another request's fill is under way does not wait for that fill, since its answer
//! is probably for that request alone. A mark forbids nothing: the answer to whoever asks first is stored if it may be,
//! and the mark then goes.

use crate::limits;
use crate::sync::Mutex;

/// What is known of the names whose hashes share a place: of the one that was marked last.
#[derive(Debug, Default)]
struct Slot {
    hash: u64,
    /// Monotonic nanoseconds; over by then.
    until: u64,
}

/// Whose answers a mark is about: an answer may be stored for those who prove nothing and not for those who do (RFC
/// 9111, 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    Anybody,
    Authorized,
}

impl Asker {
    /// Whoever sends an `Authorization` field proves who they are.
    pub fn of(has_authorization: bool) -> Asker {
        if has_authorization { Asker::Authorized } else { Asker::Anybody }
    }

    /// It, and whoever may have what it may have.
    fn and_wider(self) -> &'static [Asker] {
        match self {
            Asker::Anybody => &[Asker::Anybody],
            Asker::Authorized => &[Asker::Authorized, Asker::Anybody],
        }
    }
}

pub(super) struct Passes(Box<[Mutex<Slot>]>);

impl Passes {
    pub fn new() -> Passes {
        Passes((0..limits::PASSES).map(|_| Mutex::default()).collect())
    }

    /// The answer of the name with this hash was for one request alone.
    pub fn mark(&self, hash: u64, asker: Asker, now: u64) {
        let (hash, slot) = self.slot(hash, asker);
        *slot.lock() = Slot { hash, until: now.saturating_add(limits::PASS_TIME.as_nanos() as u64) };
    }

    /// An answer of the name may be stored: also for anybody, if for those who prove who they are.
    pub fn clear(&self, hash: u64, asker: Asker) {
        for &asker in asker.and_wider() {
            let (hash, slot) = self.slot(hash, asker);
            let mut slot = slot.lock();
            if slot.hash == hash {
                slot.until = 0;
            }
        }
    }

    /// Whether it is marked for such an asker, or for anybody.
    pub fn is_marked(&self, hash: u64, asker: Asker, now: u64) -> bool {
        asker.and_wider().iter().any(|&asker| {
            let (hash, slot) = self.slot(hash, asker);
            let slot = slot.lock();
            slot.hash == hash && now < slot.until
        })
    }

    fn slot(&self, hash: u64, asker: Asker) -> (u64, &Mutex<Slot>) {
        let hash = if asker == Asker::Authorized { !hash } else { hash };
        (hash, &self.0[hash as usize % self.0.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_for_one_name_and_asker_and_for_a_while() {
        let passes = Passes::new();
        let time = limits::PASS_TIME.as_nanos() as u64;
        assert!(!passes.is_marked(0, Asker::Anybody, 1), "nothing is marked at first");
        passes.mark(7, Asker::Authorized, 5);
        assert!(passes.is_marked(7, Asker::Authorized, 5) && !passes.is_marked(7, Asker::Anybody, 5));
        passes.clear(7, Asker::Anybody);
        assert!(passes.is_marked(7, Asker::Authorized, 5));
        passes.clear(7, Asker::Authorized);
        passes.mark(7, Asker::Anybody, 5);
        assert!(passes.is_marked(7, Asker::Anybody, 4 + time) && !passes.is_marked(7, Asker::Anybody, 5 + time));
        assert!(passes.is_marked(7, Asker::Authorized, 5), "what is for nobody else is not for those either");
        // Another name in the same place neither takes the mark for its own nor clears it.
        let other = 7 + limits::PASSES as u64;
        assert!(!passes.is_marked(other, Asker::Anybody, 5));
        passes.clear(other, Asker::Anybody);
        assert!(passes.is_marked(7, Asker::Anybody, 5));
        passes.clear(7, Asker::Anybody);
        assert!(!passes.is_marked(7, Asker::Anybody, 5));
        // However many are marked, those marked last have the places.
        (0..3 * limits::PASSES as u64).for_each(|hash| passes.mark(hash, Asker::Anybody, 5));
        assert!(!passes.is_marked(7, Asker::Anybody, 5));
        assert!(passes.is_marked(7 + 2 * limits::PASSES as u64, Asker::Anybody, 5));
    }
}
