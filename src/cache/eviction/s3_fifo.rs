//! `s3-fifo`: new objects wait in a small queue; those hit twice there move to the main one, the others go, and only
//! their names are remembered for a while. In the main queue, what was hit goes round again.
//!
//! Source: Yang, Zhang, Qiu, Yue, Rashmi, *FIFO queues are all you need for cache eviction*, SOSP 2023, with sizes
//! counted in bytes and the parameters of the authors' simulator: small queue 10 %, ghost 90 % of the capacity, two
//! hits to move.

use super::parking::{INDEX, Parking, RECHECKED, is_parked};
use super::queue::{END, Queue};
use super::{Candidate, NOWHERE, Object, Policy, Touch, Victim};
use crate::sync::atomic::Ordering::Relaxed;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// The small queue's share of the capacity, %.
const SMALL_PERCENT: u64 = 10;
/// The bytes of evicted objects whose names are remembered, % of the capacity.
const GHOST_PERCENT: u64 = 90;
/// Names that are remembered at most, whatever the sizes: at about 100 bytes each, 3 MiB.
const GHOSTS_MAX: usize = 32 << 10;
/// Hits in the small queue that earn a place in the main one.
const HITS_TO_MOVE: u32 = 2;
/// Hits that count at most: a pass of the main queue's end costs one each.
const HITS_MAX: u32 = 3;
/// In `Tag::place`: in the main queue.
const MAIN: u32 = INDEX + 1;

/// A queue with the bytes in it, and its entries that are leased.
#[derive(Debug)]
struct Segment<T> {
    queue: Queue<T>,
    parked: Parking<T>,
    bytes: u64,
    bytes_max: u64,
}

impl<T: Object> Segment<T> {
    fn new(mark: u32, bytes_max: u64) -> Segment<T> {
        Segment { queue: Queue::marked(mark), parked: Parking::marked(mark), bytes: 0, bytes_max }
    }

    fn push(&mut self, object: T) {
        self.bytes += object.charged();
        self.queue.push(object);
    }

    fn push_oldest(&mut self, object: T) {
        self.bytes += object.charged();
        self.queue.push_oldest(object);
    }

    fn take(&mut self, place: u32) -> T {
        let object = if is_parked(place) { self.parked.unpark(place) } else { self.queue.remove(place) };
        self.bytes -= object.charged();
        object
    }

    /// The oldest that is not leased, taken out. Leased ones are put aside, and come back as the newest.
    fn pop(&mut self, leased: &dyn Fn(&T) -> bool) -> Option<T> {
        while self.queue.oldest() != END {
            let object = self.queue.remove(self.queue.oldest());
            if !leased(&object) {
                self.bytes -= object.charged();
                return Some(object);
            }
            self.parked.park(object);
        }
        None
    }

    fn recheck(&mut self, count: usize, leased: &dyn Fn(&T) -> bool) {
        self.parked.recheck(count, leased, |object| self.queue.push(object));
    }
}

#[derive(Debug)]
pub(super) struct S3Fifo<T> {
    small: Segment<T>,
    main: Segment<T>,
    ghost: Ghost,
}

impl<T: Object> S3Fifo<T> {
    pub(super) fn new(capacity: u64) -> S3Fifo<T> {
        let small = capacity * SMALL_PERCENT / 100;
        S3Fifo {
            small: Segment::new(0, small),
            main: Segment::new(MAIN, capacity - small),
            ghost: Ghost::new(capacity * GHOST_PERCENT / 100),
        }
    }

    fn evict_small(&mut self, leased: &dyn Fn(&T) -> bool) -> Option<T> {
        while let Some(object) = self.small.pop(leased) {
            let fits = object.charged() < self.small.bytes_max;
            let hits = &object.tag().hits;
            if fits && hits.load(Relaxed) < HITS_TO_MOVE {
                self.ghost.insert(object.key(), object.charged());
            }
            if !fits || hits.load(Relaxed) < HITS_TO_MOVE {
                return Some(object);
            }
            hits.store(0, Relaxed);
            self.main.push(object);
        }
        None
    }

    fn evict_main(&mut self, leased: &dyn Fn(&T) -> bool) -> Option<T> {
        while let Some(object) = self.main.pop(leased) {
            let hits = object.tag().hits.load(Relaxed);
            if hits == 0 {
                return Some(object);
            }
            object.tag().hits.store(hits - 1, Relaxed);
            self.main.push(object);
        }
        None
    }

    fn evict(&mut self, leased: &dyn Fn(&T) -> bool) -> Option<T> {
        if self.main.bytes > self.main.bytes_max {
            self.evict_main(leased).or_else(|| self.evict_small(leased))
        } else {
            self.evict_small(leased).or_else(|| self.evict_main(leased))
        }
    }
}

impl<T: Object> Policy<T> for S3Fifo<T> {
    fn touch(&self) -> Touch {
        Touch::Count { most: HITS_MAX }
    }

    fn miss(&mut self, _: &Candidate) {}

    fn insert(&mut self, object: T) {
        if object.charged() >= self.small.bytes_max {
            self.small.push_oldest(object);
        } else if self.ghost.remove(object.key()) {
            self.main.push(object);
        } else {
            self.small.push(object);
        }
    }

    fn remove(&mut self, object: &T) {
        let place = object.tag().place.load(Relaxed);
        if place != NOWHERE {
            let segment = if place & MAIN != 0 { &mut self.main } else { &mut self.small };
            segment.take(place);
        }
    }

    /// Refuses what does not fit the small queue, as the authors' simulator does.
    fn victim(&mut self, wanted: &Candidate, leased: &dyn Fn(&T) -> bool) -> Victim<T> {
        if wanted.charged >= self.small.bytes_max {
            return Victim::Refuse;
        }
        self.small.recheck(RECHECKED, leased);
        self.main.recheck(RECHECKED, leased);
        let mut found = self.evict(leased);
        if found.is_none() {
            self.small.recheck(self.small.parked.len(), leased);
            self.main.recheck(self.main.parked.len(), leased);
            found = self.evict(leased);
        }
        found.map_or(Victim::None, Victim::Evict)
    }
}

/// The names of the objects last evicted from the small queue, up to a sum of their sizes.
#[derive(Debug)]
struct Ghost {
    bytes: u64,
    bytes_max: u64,
    /// By name: when it came, and its size.
    names: HashMap<u64, (u64, u64), foldhash::fast::FixedState>,
    /// (when it came, name), the oldest first; with remains of names that were removed since.
    order: VecDeque<(u64, u64)>,
    count: u64,
}

impl Ghost {
    fn new(bytes_max: u64) -> Ghost {
        Ghost { bytes: 0, bytes_max, names: HashMap::default(), order: VecDeque::new(), count: 0 }
    }

    fn insert(&mut self, key: u64, bytes: u64) {
        if bytes > self.bytes_max || self.names.contains_key(&key) {
            return;
        }
        while self.bytes + bytes > self.bytes_max || self.names.len() >= GHOSTS_MAX {
            self.drop_oldest();
        }
        self.count += 1;
        self.names.insert(key, (self.count, bytes));
        self.order.push_back((self.count, key));
        self.bytes += bytes;
        if self.order.len() > 2 * self.names.len() + 64 {
            self.order.retain(|(came, key)| self.names.get(key).is_some_and(|(last, _)| last == came));
        }
    }

    /// Says whether the name was remembered.
    fn remove(&mut self, key: u64) -> bool {
        let found = self.names.remove(&key);
        self.bytes -= found.map_or(0, |(_, bytes)| bytes);
        found.is_some()
    }

    fn drop_oldest(&mut self) {
        while let Some((came, key)) = self.order.pop_front() {
            if self.names.get(&key).is_some_and(|(last, _)| *last == came) {
                self.remove(key);
                return;
            }
        }
    }
}
