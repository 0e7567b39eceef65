//! Why a policy keeps what it keeps: the files worth most to it, and those it missed most, each with its reason.

use super::replay::{Account, Setup};
use super::trace::{Names, Trace};
use crate::units::show_size;
use serde::Serialize;
use std::collections::HashSet;
use std::fmt::Write;

/// The files of one policy. The names are a contract with scripts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    pub policy: String,
    pub arena_bytes: u64,
    /// Cached at the end: those first whose hits saved most.
    pub kept: Vec<File>,
    /// Those first that were missed most.
    pub missed: Vec<File>,
}

/// One file and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct File {
    pub name: String,
    pub size_bytes: u64,
    pub requests: u64,
    pub hits: u64,
    pub evictions: u64,
    /// Misses after which the policy made no room for it.
    pub rejections: u64,
    pub why: String,
}

/// The `most` files of each kind. `accounts` are by object.
pub fn explain(trace: &Trace, names: &Names, setup: &Setup, accounts: &[Account], most: usize) -> Explanation {
    let mut objects: Vec<u32> = (0..accounts.len() as u32).collect();
    let account = |object: u32| &accounts[object as usize];
    let bytes = |object: u32| trace.sizes[object as usize];
    // What its hits saved, for each byte that it takes: a miss costs its bytes, and something beyond them.
    let worth = |object: u32| {
        let size = bytes(object).max(1);
        f64::from(account(object).hits()) * (size + setup.miss_cost) as f64 / size as f64
    };
    objects.sort_by(|a, b| worth(*b).total_cmp(&worth(*a)).then(a.cmp(b)));
    let kept: Vec<u32> = objects.iter().copied().filter(|object| account(*object).is_cached).take(most).collect();
    objects.sort_by(|a, b| account(*b).misses.cmp(&account(*a).misses).then(a.cmp(b)));
    // What was asked for once is missed once under every policy.
    let is_missed = |object: &u32| account(*object).misses > 1;
    let missed: Vec<u32> = objects.iter().copied().filter(is_missed).take(most).collect();
    let names = names.of(&kept.iter().chain(&missed).copied().collect::<HashSet<u32>>());
    let file = |object: u32, why: String| {
        let account = account(object);
        File {
            name: names.get(&object).cloned().unwrap_or_else(|| object.to_string()),
            size_bytes: bytes(object),
            requests: account.requests.into(),
            hits: account.hits().into(),
            evictions: account.evictions.into(),
            rejections: account.rejections.into(),
            why,
        }
    };
    let total = trace.requests.len() as u64;
    Explanation {
        policy: setup.eviction.as_str().to_owned(),
        arena_bytes: setup.arena,
        kept: kept.into_iter().map(|object| file(object, why_kept(account(object), bytes(object)))).collect(),
        missed: missed.into_iter().map(|object| file(object, why_missed(account(object), total))).collect(),
    }
}

fn why_kept(account: &Account, bytes: u64) -> String {
    match account.hits() {
        0 => "came in late: nothing had to go for it yet".to_owned(),
        hits => {
            let per_kib = f64::from(hits) / (bytes.max(1) as f64 / 1024.0);
            let digits = if per_kib < 1.0 { 3 } else { 1 };
            format!("{per_kib:.digits$} hits for each KiB that it takes")
        }
    }
}

fn why_missed(account: &Account, total: u64) -> String {
    let gap = total / u64::from(account.requests.max(1));
    match account {
        Account { uncacheable: 1.., .. } => "larger than the cache, or everything else was being sent".to_owned(),
        Account { rejections, evictions, .. } if rejections > evictions => {
            format!("refused {rejections} times: room for it would have cost files worth more")
        }
        Account { evictions: 0, .. } => "not evicted".to_owned(),
        Account { evictions, .. } => {
            format!("evicted {evictions} times: on average {gap} requests lie between two for it")
        }
    }
}

impl Explanation {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let Explanation { policy, arena_bytes, kept, missed } = self;
        let arena = show_size(*arena_bytes);
        for (what, files) in [("keeps at the end, worth most first", kept), ("missed most", missed)] {
            // Writing to a String does not fail.
            let _ = writeln!(text, "\n{policy} at {arena} {what}:");
            if files.is_empty() {
                let _ = writeln!(text, "  nothing");
            }
            for File { name, size_bytes, requests, hits, why, .. } in files {
                let bytes = show_size(*size_bytes);
                let _ = writeln!(text, "  {name}: {bytes}, {hits} hits of {requests} requests; {why}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::replay::replay_with_accounts;
    use super::super::trace::read;
    use super::*;
    use crate::cache::eviction::Eviction;

    #[test]
    fn what_is_kept_and_missed_has_its_reason() {
        // One small file that everybody wants, one too large for the cache, and two that push each other out.
        let mut csv = String::new();
        for round in 0..50 {
            // Recency is counted in inserts: one lies between what is evicted and what stays.
            for file in ["left", "right"] {
                csv.push_str(&format!("{round},/{file},700000\n{round},/{file}-{round},100\n{round},/popular,4096\n"));
            }
            csv.push_str(&format!("{round},/huge,9000000\n"));
        }
        let (trace, names) = read(csv.as_bytes(), None).unwrap();
        let setup = Setup {
            eviction: Eviction::Lru,
            arena: 1 << 20,
            miss_cost: 64 << 10,
            packed_max: 12 << 10,
            ideal: false,
            leases: 0,
        };
        let (outcome, accounts) = replay_with_accounts(&trace, &setup, &mut |_| ());
        let sum = |of: fn(&Account) -> u32| accounts.iter().map(|account| u64::from(of(account))).sum::<u64>();
        assert_eq!(sum(|account| account.misses), outcome.misses);
        assert_eq!(sum(|account| account.evictions), outcome.evictions);
        assert_eq!(sum(|account| account.requests), outcome.requests);
        let explained = explain(&trace, &names, &setup, &accounts, 3);
        assert_eq!((explained.kept[0].name.as_str(), explained.kept[0].hits), ("/popular", 99));
        assert_eq!(explained.kept[0].why, "24.8 hits for each KiB that it takes");
        let missed: Vec<(&str, &str)> =
            explained.missed.iter().map(|file| (file.name.as_str(), file.why.as_str())).collect();
        assert!(missed.contains(&("/huge", "larger than the cache, or everything else was being sent")), "{missed:?}");
        assert!(missed.iter().any(|(name, why)| *name == "/left" && why.starts_with("evicted ")), "{missed:?}");
        let text = explained.table();
        assert!(
            text.contains("lru at 1 MiB keeps at the end") && text.contains("/popular: 4 KiB, 99 hits of 100"),
            "{text}"
        );
    }
}
