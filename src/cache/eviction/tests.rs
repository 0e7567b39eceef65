//! Every policy against a slow, obvious model of itself, through a small cache with a budget.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

/// A request for the file `name`, whose size is fixed by its name; what else may happen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Get(u64),
    Remove(u64),
}

/// Requests for few names, so that there are hits.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = prop_oneof![0..12u64, 0..60u64];
    let step = prop_oneof![20 => name.clone().prop_map(Step::Get), 1 => name.prop_map(Step::Remove)];
    prop::collection::vec(step, 1..500)
}

/// Sizes from 1 to 300 bytes, by name.
pub(super) fn size_of(name: u64) -> u64 {
    name.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 & 0xff | 1
}

/// Drives a policy as the cache does: evicts until there is room, or refuses.
pub(super) struct Driver {
    policy: Box<dyn Policy>,
    touch: Touch,
    capacity: u64,
    used: u64,
    cached: Vec<Arc<Tag>>,
    pub(super) leased: HashSet<u64>,
}

/// What one request did, for comparison with a model.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) hit: bool,
    pub(super) evicted: Vec<u64>,
    pub(super) cached: bool,
}

impl Driver {
    pub(super) fn new(eviction: Eviction, capacity: u64) -> Driver {
        let policy = eviction.build(capacity, 64);
        Driver { touch: policy.touch(), policy, capacity, used: 0, cached: Vec::new(), leased: HashSet::new() }
    }

    pub(super) fn get(&mut self, name: u64) -> Outcome {
        self.get_sized(name, size_of(name))
    }

    pub(super) fn get_sized(&mut self, name: u64, size: u64) -> Outcome {
        if let Some(tag) = self.cached.iter().find(|tag| tag.key == name) {
            self.touch.hit(tag);
            return Outcome { hit: true, cached: true, ..Outcome::default() };
        }
        let wanted = Candidate { key: name, size, charged: size };
        self.policy.miss(&wanted);
        let mut outcome = Outcome::default();
        while self.used + size > self.capacity {
            let leased = |tag: &Tag| self.leased.contains(&tag.key);
            match self.policy.victim(&wanted, &leased) {
                Victim::Evict(tag) => {
                    assert!(!leased(&tag), "evicted a leased entry");
                    let known = self.cached.iter().position(|cached| Arc::ptr_eq(cached, &tag)).expect("was cached");
                    self.cached.swap_remove(known);
                    self.used -= tag.charged;
                    outcome.evicted.push(tag.key);
                }
                Victim::Refuse | Victim::None => return outcome,
            }
        }
        let tag = Arc::new(Tag::new(name, size, size, name as u32));
        self.policy.insert(tag.clone());
        self.cached.push(tag);
        self.used += size;
        Outcome { cached: true, ..outcome }
    }

    pub(super) fn remove(&mut self, name: u64) {
        if let Some(index) = self.cached.iter().position(|tag| tag.key == name) {
            let tag = self.cached.swap_remove(index);
            self.policy.remove(&tag);
            self.policy.remove(&tag);
            self.used -= tag.charged;
        }
    }
}

const ALL: &[Eviction] = &[Eviction::LargerFirst, Eviction::Lru];
const CAPACITY: u64 = 2000;

/// Least recently used, to the inserts between two uses: (last use in inserts, name), looked at one by one.
#[derive(Default)]
struct LastUse {
    inserts: u64,
    uses: Vec<(u64, u64)>,
}

impl LastUse {
    fn hit(&mut self, name: u64) -> bool {
        let found = self.uses.iter_mut().find(|(_, cached)| *cached == name);
        found.map(|(last, _)| *last = self.inserts).is_some()
    }

    fn insert(&mut self, name: u64) {
        self.inserts += 1;
        self.uses.push((self.inserts, name));
    }

    fn last(&self, name: u64) -> u64 {
        self.uses.iter().find(|(_, cached)| *cached == name).expect("cached").0
    }

    fn used(&self) -> u64 {
        self.uses.iter().map(|(_, name)| size_of(*name)).sum()
    }
}

proptest! {
    #[test]
    fn lru_evicts_the_least_recently_used(steps in steps()) {
        let mut driver = Driver::new(Eviction::Lru, CAPACITY);
        let mut model = LastUse::default();
        for step in steps {
            match step {
                Step::Get(name) => {
                    let outcome = driver.get(name);
                    prop_assert_eq!(outcome.hit, model.hit(name));
                    for victim in outcome.evicted {
                        prop_assert!(model.used() + size_of(name) > CAPACITY, "evicted without need");
                        let least = model.uses.iter().map(|(last, _)| *last).min();
                        prop_assert_eq!(Some(model.last(victim)), least);
                        model.uses.retain(|(_, cached)| *cached != victim);
                    }
                    if !outcome.hit {
                        model.insert(name);
                    }
                }
                Step::Remove(name) => {
                    driver.remove(name);
                    model.uses.retain(|(_, cached)| *cached != name);
                }
            }
        }
    }

    #[test]
    fn larger_first_evicts_a_larger_one_while_there_is_one(steps in steps()) {
        let mut driver = Driver::new(Eviction::LargerFirst, CAPACITY);
        let mut model = LastUse::default();
        for step in steps {
            match step {
                Step::Get(name) => {
                    let outcome = driver.get(name);
                    prop_assert_eq!(outcome.hit, model.hit(name));
                    let size = size_of(name);
                    for &victim in &outcome.evicted {
                        prop_assert!(model.used() + size > CAPACITY, "evicted without need");
                        if model.uses.iter().any(|(_, cached)| size_of(*cached) > size) {
                            prop_assert!(size_of(victim) > size, "a larger one was there");
                            prop_assert_eq!(outcome.evicted.len(), 1, "one larger file is enough");
                        } else {
                            let least = model.uses.iter().map(|(last, _)| *last).min();
                            prop_assert_eq!(Some(model.last(victim)), least);
                        }
                        model.uses.retain(|(_, cached)| *cached != victim);
                    }
                    if !outcome.hit {
                        model.insert(name);
                    }
                }
                Step::Remove(name) => {
                    driver.remove(name);
                    model.uses.retain(|(_, cached)| *cached != name);
                }
            }
        }
    }

    #[test]
    fn no_policy_evicts_what_is_leased(steps in steps(), leases in prop::collection::hash_set(0..60u64, 0..30)) {
        for &eviction in ALL {
            let mut driver = Driver::new(eviction, CAPACITY);
            for (number, step) in steps.iter().enumerate() {
                match *step {
                    Step::Get(name) => {
                        driver.get(name);
                    }
                    Step::Remove(name) => driver.remove(name),
                }
                // Leases begin and end in between.
                driver.leased = if number % 100 < 60 { leases.clone() } else { HashSet::new() };
            }
        }
    }
}

#[test]
fn every_policy_gives_everything_up_and_then_says_so() {
    for &eviction in ALL {
        let mut driver = Driver::new(eviction, CAPACITY);
        (0..10).for_each(|name| assert!(driver.get_sized(name, 100).cached));
        driver.leased = (0..10).collect();
        // Asked again and again, so that no admission filter has a reason to refuse.
        let outcomes: Vec<Outcome> = (0..20).map(|_| driver.get_sized(99, 1900)).collect();
        assert!(outcomes.iter().all(|outcome| !outcome.cached && outcome.evicted.is_empty()), "{eviction:?}");
        driver.leased.clear();
        let evicted: usize = (0..20).map(|_| driver.get_sized(99, 1900).evicted.len()).sum();
        assert_eq!(evicted, 9, "{eviction:?}");
        assert!(driver.get_sized(99, 1900).hit);
    }
}
