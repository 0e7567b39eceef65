//! Models of what threads share in the cache: the real index, entries, leases, fills, policies and quota on shuttle's
//! scheduler, which tries many orders of their steps. What has to hold, holds in all of them; and each model fails with
//! a race planted.

use super::entry::Lease;
use super::eviction::Eviction;
use super::flight::{Bypass, Progress};
use super::open_files::Quota;
use super::permit::FillPermit;
use super::stats::Departure;
use super::testing::Nobody;
use super::{Cache, Lookup};
use crate::sync::{self, Race};
use crate::version::freshness::{Freshness, Reuse};
use crate::version::stored::Stored;
use crate::wake::{Waiter, Wake};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Condvar, Mutex};
use shuttle::{Runner, thread};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Orders that are tried of each model, by each of both schedulers.
const ORDERS: usize = 300;

/// Runs a model in many orders: those of steps taken by chance, and those with few changes of priority (PCT), which
/// find what needs one thread to stand still for long.
pub(crate) fn holds(model: fn()) {
    sync::plant(None);
    Runner::new(RandomScheduler::new_from_seed(8064, ORDERS), Default::default()).run(model);
    Runner::new(PctScheduler::new_from_seed(8064, 3, ORDERS), Default::default()).run(model);
}

/// That the model fails, with this race planted.
pub(crate) fn finds(race: Race, model: fn()) {
    let run = || {
        sync::plant(Some(race));
        Runner::new(RandomScheduler::new_from_seed(8064, 10 * ORDERS), Default::default()).run(model);
    };
    let outcome = catch_unwind(AssertUnwindSafe(run));
    sync::plant(None);
    assert!(outcome.is_err(), "{race:?} is not found");
}

/// Those who were told, by number.
#[derive(Default)]
struct Told(Mutex<HashSet<u64>>, Condvar);

impl Told {
    /// Waits until somebody tells this one.
    fn wait(&self, number: u64) {
        let mut told = self.0.lock().unwrap();
        while !told.remove(&number) {
            told = self.1.wait(told).unwrap();
        }
    }
}

impl Wake for Told {
    fn wake(&self, waiters: Vec<Waiter>) {
        let mut told = self.0.lock().unwrap();
        for waiter in waiters {
            if let Waiter::Ring { message, .. } = waiter {
                told.insert(message);
            }
        }
        self.1.notify_all();
    }
}

/// An empty cache of 1 MiB.
fn cache(eviction: Eviction) -> (Arc<Cache>, Arc<Told>) {
    let told = Arc::<Told>::default();
    let cache = Cache::new(1 << 20, 4096, eviction, 1, Duration::from_secs(1), Arc::new(Nobody), told.clone());
    (cache.unwrap(), told)
}

fn stored(size: u64) -> Arc<Stored> {
    let freshness = Freshness {
        received: 0,
        initial_age: 0,
        lifetime: 0,
        stale_while_revalidate: 0,
        stale_if_error: None,
        reuse: Reuse::Lenient,
    };
    Arc::new(Stored::bare(200, size, freshness))
}

/// Fills an object with `size` bytes that are all `byte`, in two steps, and tells those who wait.
fn fill(permit: FillPermit, told: &Told, size: usize, byte: u8) -> Result<Lease, Bypass> {
    let entry = permit.reserve_response(stored(size as u64), 1)?;
    told.wake(permit.arrive(&entry));
    let half = vec![byte; size / 2];
    told.wake(permit.append(&entry, &half));
    told.wake(permit.append(&entry, &vec![byte; size - size / 2]));
    told.wake(permit.publish(entry.clone()));
    Ok(entry)
}

/// Waits for the end of a fill that another one does.
fn joined(told: &Told, fill: &super::flight::Flight, number: u64) -> Option<Lease> {
    let mut seen = None;
    loop {
        match fill.poll(seen, || Waiter::Ring { worker: 0, message: number }) {
            None => told.wait(number),
            Some(Progress::Arriving(entry)) => {
                let filled = entry.filled();
                assert!(entry.bytes().len() as u64 >= filled && seen.is_none_or(|seen| seen < filled));
                seen = Some(filled);
            }
            Some(Progress::Ready(entry)) => return Some(entry),
            Some(_) => return None,
        }
    }
}

/// Three ask for what nobody has: one of them reads it, the others wait for that one and get the same.
fn one_reads_for_all() {
    let (cache, told) = cache(Eviction::Lru);
    let reads = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (0..3)
        .map(|number| {
            let (cache, told, reads) = (cache.clone(), told.clone(), reads.clone());
            thread::spawn(move || match cache.find(b"a") {
                Lookup::Hit(entry) => entry,
                Lookup::Join(fill) => joined(&told, &fill, number).expect("it does not fail"),
                Lookup::Lead(permit) => {
                    *reads.lock().unwrap() += 1;
                    fill(permit, &told, 10, 7).expect("there is room")
                }
            })
        })
        .collect();
    let entries: Vec<Lease> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(*reads.lock().unwrap(), 1);
    assert!(entries.iter().all(|entry| entry.is(&entries[0]) && entry.bytes() == [7; 10]));
}

/// Who reads gives up: those who wait are told, and one of them may read.
fn who_gives_up_leaves_nobody_waiting() {
    let (cache, told) = cache(Eviction::Lru);
    let threads: Vec<_> = (0..2)
        .map(|number| {
            let (cache, told) = (cache.clone(), told.clone());
            thread::spawn(move || match cache.find(b"a") {
                Lookup::Hit(_) => panic!("nobody reads it"),
                Lookup::Join(fill) => assert!(joined(&told, &fill, number).is_none()),
                Lookup::Lead(permit) => drop(permit),
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(matches!(cache.find(b"a"), Lookup::Lead(_)), "nothing is left of it");
}

/// A name is removed while it is read: what was read does not come back.
fn what_is_removed_while_it_is_read_stays_away() {
    let (cache, told) = cache(Eviction::Gdc);
    let Lookup::Lead(permit) = cache.find(b"a") else { panic!("nobody reads it") };
    let reader = thread::spawn({
        let told = told.clone();
        move || fill(permit, &told, 10, 7).is_ok()
    });
    cache.remove(b"a", Departure::Invalidated);
    assert!(cache.get(b"a").is_none(), "it was removed before");
    assert!(reader.join().unwrap());
    assert!(cache.get(b"a").is_none(), "it was removed");
}

/// One reads what is leased while others need its room: its bytes stay what they are, and the budget is kept.
fn what_is_leased_keeps_its_bytes(eviction: Eviction) {
    const SIZE: usize = 300 << 10;
    let (cache, told) = cache(eviction);
    for (name, byte) in [(b"a", 1), (b"b", 2), (b"c", 3)] {
        let Lookup::Lead(permit) = cache.find(name) else { panic!("nobody reads it") };
        drop(fill(permit, &told, SIZE, byte));
    }
    let reader = thread::spawn({
        let cache = cache.clone();
        move || {
            for _ in 0..2 {
                let Some(lease) = cache.get(b"a") else { continue };
                cache.touch().hit(lease.shared());
                assert!(lease.bytes().len() == SIZE && lease.bytes()[SIZE - 1] == 1);
                thread::yield_now();
                assert!(lease.bytes().iter().all(|&byte| byte == 1));
            }
        }
    });
    let fillers: Vec<_> = [(b"d", 4), (b"e", 5)]
        .into_iter()
        .map(|(name, byte)| {
            let (cache, told) = (cache.clone(), told.clone());
            thread::spawn(move || {
                if let Lookup::Lead(permit) = cache.find(name)
                    && let Ok(entry) = fill(permit, &told, SIZE, byte)
                {
                    assert!(entry.bytes().iter().all(|&own| own == byte));
                }
            })
        })
        .collect();
    reader.join().unwrap();
    fillers.into_iter().for_each(|thread| thread.join().unwrap());
    let cached: u64 =
        [b"a", b"b", b"c", b"d", b"e"].iter().filter_map(|name| cache.get(*name)).map(|entry| entry.charged()).sum();
    assert!(cached > 0 && cached <= 1 << 20, "{cached}");
}

/// Two check an entry, and one finds out when it was missed: one at a time, and the time never goes back.
fn checks_are_one_at_a_time() {
    let (cache, told) = cache(Eviction::Sieve);
    let Lookup::Lead(permit) = cache.find(b"a") else { panic!("nobody reads it") };
    let entry = fill(permit, &told, 10, 7).unwrap();
    let checking = Arc::new(Mutex::new(0));
    let threads: Vec<_> = [20, 30]
        .into_iter()
        .map(|began| {
            let (entry, checking) = (entry.clone(), checking.clone());
            thread::spawn(move || {
                if entry.begin_check() {
                    *checking.lock().unwrap() += 1;
                    assert_eq!(*checking.lock().unwrap(), 1, "two check at once");
                    *checking.lock().unwrap() -= 1;
                    let known = entry.checked();
                    entry.end_check(began, true);
                    assert!(entry.checked() >= known.max(began), "it goes back");
                }
                entry.note_missing(1, 20);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(entry.begin_check(), "none is left");
    assert!(!entry.is_missing(1) || entry.checked() == 20, "what was found missing before the last check");
}

/// Files are opened up to the limit.
fn no_more_files_are_open_than_may_be() {
    let quota = Quota::new();
    quota.set_limit(2);
    let open = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (quota, open) = (quota.clone(), open.clone());
            thread::spawn(move || {
                let Some(place) = quota.take() else { return };
                *open.lock().unwrap() += 1;
                assert!(*open.lock().unwrap() <= 2);
                *open.lock().unwrap() -= 1;
                drop(place);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(quota.excess() == 0 && quota.take().is_some(), "all are given back");
}

#[test]
fn fills() {
    holds(one_reads_for_all);
    finds(Race::WaitersTakenEarly, one_reads_for_all);
    finds(Race::FillsBegunTwice, one_reads_for_all);
    holds(who_gives_up_leaves_nobody_waiting);
    finds(Race::WaitersTakenEarly, who_gives_up_leaves_nobody_waiting);
}

#[test]
fn removals() {
    holds(what_is_removed_while_it_is_read_stays_away);
    finds(Race::RemovedPublished, what_is_removed_while_it_is_read_stays_away);
}

#[test]
fn leases() {
    holds(|| what_is_leased_keeps_its_bytes(Eviction::Lru));
    holds(|| what_is_leased_keeps_its_bytes(Eviction::Gdc));
}

#[test]
fn checks() {
    holds(checks_are_one_at_a_time);
    finds(Race::CheckClaimedTwice, checks_are_one_at_a_time);
}

#[test]
fn open_files() {
    holds(no_more_files_are_open_than_may_be);
    finds(Race::PlaceTakenAfterLook, no_more_files_are_open_than_may_be);
}
