//! Every policy against a slow, obvious model of itself, through a small cache with a budget.

use super::*;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

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
    policy: Box<dyn Policy<Arc<Measured>>>,
    touch: Touch,
    capacity: u64,
    used: u64,
    cached: Vec<Arc<Measured>>,
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
            let leased = |tag: &Arc<Measured>| self.leased.contains(&tag.key);
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
        let tag = Arc::new(Measured::new(name, size, size, name as u32));
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

/// `gdc` as its formula reads: every priority is kept as a number, and everything is looked at every time.
#[derive(Default)]
struct Priorities {
    level: u64,
    misses: HashMap<u64, u64>,
    refused: u64,
    /// (name, hits, priority)
    cached: Vec<(u64, u64, u64)>,
}

impl Priorities {
    const S0: u64 = 64;

    fn priority(&self, name: u64, hits: u64) -> u64 {
        self.level + hits * ((1 << 40) / size_of(name) + (1 << 40) / Self::S0)
    }

    fn used(&self) -> u64 {
        self.cached.iter().map(|(name, ..)| size_of(*name)).sum()
    }

    fn hit(&mut self, name: u64) -> bool {
        let Some(index) = self.cached.iter().position(|(cached, ..)| *cached == name) else { return false };
        let hits = (self.cached[index].1 + 1).min(15);
        self.cached[index] = (name, hits, self.cached[index].2.max(self.priority(name, hits)));
        true
    }

    /// Whether the candidate is let in where there is no room.
    fn admits(&mut self, name: u64) -> bool {
        let worth = self.priority(name, self.misses[&name].min(15));
        let (cheaper, dearer): (Vec<_>, Vec<_>) =
            self.cached.iter().copied().partition(|cached: &(u64, u64, u64)| cached.2 <= worth);
        let room: u64 = cheaper.iter().map(|cached| size_of(cached.0)).sum();
        if room >= size_of(name) || dearer.is_empty() {
            return true;
        }
        self.refused += size_of(name);
        let enough = self.refused >= 16 * CAPACITY;
        if enough {
            self.refused = 0;
        }
        enough
    }

    /// The victim must be of the least priority, which becomes the level.
    fn evict(&mut self, victim: u64) -> Result<(), TestCaseError> {
        let least = self.cached.iter().map(|(.., priority)| *priority).min();
        let index = self.cached.iter().position(|(name, ..)| *name == victim).expect("was cached");
        prop_assert_eq!(Some(self.cached[index].2), least);
        self.level = self.level.max(self.cached.swap_remove(index).2);
        Ok(())
    }

    fn insert(&mut self, name: u64) {
        let hits = self.misses[&name].min(15);
        self.cached.push((name, hits, self.priority(name, hits)));
    }
}

/// S3-FIFO and SIEVE as their papers draw them, with vectors; the newest is last.
#[derive(Default)]
struct Queues {
    /// (name, hits)
    small: Vec<(u64, u32)>,
    main: Vec<(u64, u32)>,
    ghost: Vec<u64>,
    hand: usize,
}

fn bytes<'a>(names: impl IntoIterator<Item = &'a u64>) -> u64 {
    names.into_iter().map(|name| size_of(*name)).sum()
}

impl Queues {
    fn used(&self) -> u64 {
        bytes(self.small.iter().chain(&self.main).map(|(name, _)| name))
    }

    fn hit(&mut self, name: u64, most: u32) -> bool {
        let found = self.small.iter_mut().chain(&mut self.main).find(|(cached, _)| *cached == name);
        found.map(|(_, hits)| *hits = (*hits + 1).min(most)).is_some()
    }

    fn forget(&mut self, name: u64) {
        if let Some(index) = self.main.iter().position(|(cached, _)| *cached == name) {
            self.main.remove(index);
            self.hand -= usize::from(index < self.hand);
            // Past the newest, it begins again with the oldest, also when newer ones come.
            self.hand = if self.hand < self.main.len() { self.hand } else { 0 };
        }
        self.small.retain(|(cached, _)| *cached != name);
    }

    fn s3_fifo_victim(&mut self) -> u64 {
        let main_full = bytes(self.main.iter().map(|(name, _)| name)) > CAPACITY - CAPACITY / 10;
        loop {
            if self.small.is_empty() || main_full && !self.main.is_empty() {
                let (name, hits) = self.main.remove(0);
                if hits == 0 {
                    return name;
                }
                self.main.push((name, hits - 1));
            } else {
                let (name, hits) = self.small.remove(0);
                let fits = size_of(name) < CAPACITY / 10;
                if fits && hits >= 2 {
                    self.main.push((name, 0));
                    continue;
                }
                if fits && !self.ghost.contains(&name) {
                    self.ghost.push(name);
                    while bytes(&self.ghost) > CAPACITY * 9 / 10 {
                        self.ghost.remove(0);
                    }
                }
                return name;
            }
        }
    }

    fn s3_fifo_insert(&mut self, name: u64) {
        let remembered = self.ghost.iter().position(|ghost| *ghost == name);
        if size_of(name) >= CAPACITY / 10 {
            self.small.insert(0, (name, 0));
        } else if let Some(index) = remembered {
            self.ghost.remove(index);
            self.main.push((name, 0));
        } else {
            self.small.push((name, 0));
        }
    }

    /// The only queue is `main` here.
    fn sieve_victim(&mut self) -> u64 {
        loop {
            let (name, hits) = &mut self.main[self.hand];
            if *hits == 0 {
                let victim = *name;
                self.forget(victim);
                return victim;
            }
            *hits = 0;
            self.hand = (self.hand + 1) % self.main.len();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn gdc_evicts_the_least_priority_and_refuses_what_is_not_worth_it(steps in steps()) {
        let mut driver = Driver::new(Eviction::Gdc, CAPACITY);
        let mut model = Priorities::default();
        for step in steps {
            match step {
                Step::Get(name) => {
                    let outcome = driver.get(name);
                    prop_assert_eq!(outcome.hit, model.hit(name));
                    if outcome.hit {
                        continue;
                    }
                    *model.misses.entry(name).or_default() += 1;
                    let room = model.used() + size_of(name) <= CAPACITY;
                    prop_assert_eq!(outcome.cached, room || model.admits(name));
                    for victim in outcome.evicted {
                        prop_assert!(model.used() + size_of(name) > CAPACITY, "evicted without need");
                        model.evict(victim)?;
                    }
                    if outcome.cached {
                        model.insert(name);
                    }
                }
                Step::Remove(name) => {
                    driver.remove(name);
                    model.cached.retain(|(cached, ..)| *cached != name);
                }
            }
        }
    }

    #[test]
    fn s3_fifo_is_as_the_paper_draws_it(steps in steps()) {
        let mut driver = Driver::new(Eviction::S3Fifo, CAPACITY);
        let mut model = Queues::default();
        for step in steps {
            match step {
                Step::Get(name) => {
                    let outcome = driver.get(name);
                    prop_assert_eq!(outcome.hit, model.hit(name, 3));
                    let room = model.used() + size_of(name) <= CAPACITY;
                    prop_assert_eq!(outcome.cached, outcome.hit || room || size_of(name) < CAPACITY / 10);
                    if outcome.cached && !outcome.hit {
                        let mut evicted = Vec::new();
                        while model.used() + size_of(name) > CAPACITY {
                            evicted.push(model.s3_fifo_victim());
                        }
                        prop_assert_eq!(outcome.evicted, evicted);
                        model.s3_fifo_insert(name);
                    }
                }
                Step::Remove(name) => {
                    driver.remove(name);
                    model.forget(name);
                }
            }
        }
    }

    #[test]
    fn sieve_is_as_the_paper_draws_it(steps in steps()) {
        let mut driver = Driver::new(Eviction::Sieve, CAPACITY);
        let mut model = Queues::default();
        for step in steps {
            match step {
                Step::Get(name) => {
                    let outcome = driver.get(name);
                    prop_assert_eq!(outcome.hit, model.hit(name, 1));
                    if !outcome.hit {
                        let mut evicted = Vec::new();
                        while model.used() + size_of(name) > CAPACITY {
                            evicted.push(model.sieve_victim());
                        }
                        prop_assert_eq!(outcome.evicted, evicted);
                        model.main.push((name, 0));
                    }
                }
                Step::Remove(name) => {
                    driver.remove(name);
                    model.forget(name);
                }
            }
        }
    }

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
        for eviction in Eviction::ALL {
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
    for eviction in Eviction::ALL {
        let mut driver = Driver::new(eviction, CAPACITY);
        (0..20).for_each(|name| assert!(driver.get_sized(name, 100).cached));
        driver.leased = (0..20).collect();
        // Asked for again and again, so that no admission filter has a reason to refuse.
        let outcomes: Vec<Outcome> = (0..20).map(|_| driver.get_sized(99, 150)).collect();
        assert!(outcomes.iter().all(|outcome| !outcome.cached && outcome.evicted.is_empty()), "{eviction:?}");
        driver.leased.clear();
        assert_eq!(driver.get_sized(99, 150).evicted.len(), 2, "{eviction:?}");
        let wanted = Candidate { key: 98, size: 100, charged: 100 };
        (0..20).for_each(|_| driver.policy.miss(&wanted));
        let evicted = std::iter::from_fn(|| match driver.policy.victim(&wanted, &|_| false) {
            Victim::Evict(tag) => Some(tag.key),
            Victim::Refuse | Victim::None => None,
        });
        assert_eq!(evicted.collect::<HashSet<u64>>().len(), 19, "{eviction:?}");
        assert!(matches!(driver.policy.victim(&wanted, &|_| false), Victim::None), "{eviction:?}");
    }
}

#[test]
fn hundreds_of_leases_do_not_make_each_choice_walk_over_them() {
    for eviction in Eviction::ALL {
        let mut policy = eviction.build(1 << 20, 64);
        for name in 0..8_000 {
            policy.insert(Arc::new(Measured::new(name, size_of(name), size_of(name), name as u32)));
        }
        let asked = std::cell::Cell::new(0u64);
        let leased = |tag: &Arc<Measured>| {
            asked.set(asked.get() + 1);
            tag.key < 2_500
        };
        let wanted = Candidate { key: 1 << 40, size: 1, charged: 1 };
        (0..15).for_each(|_| policy.miss(&wanted));
        for _ in 0..5_000 {
            assert!(matches!(policy.victim(&wanted, &leased), Victim::Evict(_)), "{eviction:?}");
        }
        assert!(asked.get() < 5_000 * 500, "{eviction:?}: {} questions", asked.get() / 5_000);
    }
}
