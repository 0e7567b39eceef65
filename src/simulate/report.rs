//! The outcome of a simulation, as a table and as JSON.

use super::explain::Explanation;
use super::replay::{Outcome, Setup};
use super::trace::Trace;
use crate::units::show_size;
use serde::Serialize;
use std::fmt::Write;

/// What one policy did at one size. The names are a contract with scripts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyReport {
    pub policy: String,
    /// Bytes of budget.
    pub arena_bytes: u64,
    pub requests: u64,
    /// Misses / requests.
    pub request_miss_ratio: f64,
    /// Missed bytes / requested bytes.
    pub byte_miss_ratio: f64,
    /// Live bytes / budget once the arena is full: see [`Outcome::utilisation`].
    pub utilisation: f64,
    pub evictions: u64,
    pub admissions: u64,
    pub rejections: u64,
    /// Misses of objects larger than the arena, or while all was leased.
    pub uncacheable: u64,
}

/// A whole simulation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub trace: TraceReport,
    /// At the arena's size, in the order asked for.
    pub policies: Vec<PolicyReport>,
    /// At every size of the curve, by policy and then by size; empty when no curve was asked for.
    pub curve: Vec<PolicyReport>,
    /// Which files each policy keeps, and why; empty unless it was asked for.
    pub explain: Vec<Explanation>,
}

/// What was replayed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceReport {
    pub file: String,
    pub requests: u64,
    pub objects: u64,
    /// The bytes of all objects together.
    pub footprint_bytes: u64,
    /// Records that are no request for a file.
    pub skipped: u64,
}

impl PolicyReport {
    pub fn new(setup: &Setup, outcome: &Outcome) -> PolicyReport {
        PolicyReport {
            policy: setup.eviction.as_str().to_owned(),
            arena_bytes: setup.arena,
            requests: outcome.requests,
            request_miss_ratio: outcome.request_miss_ratio(),
            byte_miss_ratio: outcome.byte_miss_ratio(),
            utilisation: outcome.utilisation,
            evictions: outcome.evictions,
            admissions: outcome.admissions,
            rejections: outcome.rejections,
            uncacheable: outcome.uncacheable,
        }
    }
}

impl TraceReport {
    pub fn new(file: String, trace: &Trace) -> TraceReport {
        TraceReport {
            file,
            requests: trace.requests.len() as u64,
            objects: trace.sizes.len() as u64,
            footprint_bytes: trace.footprint(),
            skipped: trace.skipped,
        }
    }
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let TraceReport { file, requests, objects, footprint_bytes, skipped } = &self.trace;
        let footprint = show_size(*footprint_bytes);
        // Writing to a String does not fail.
        let _ = writeln!(text, "{file}: {requests} requests for {objects} objects of {footprint} in all");
        if *skipped > 0 {
            let _ = writeln!(text, "{skipped} records are no request for a file and were left out");
        }
        let _ = writeln!(
            text,
            "\n{:<13} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>11}",
            "policy", "arena", "missed, %", "bytes, %", "used, %", "admitted", "evicted", "rejected", "uncacheable"
        );
        for row in self.policies.iter().chain(&self.curve) {
            let _ = writeln!(
                text,
                "{:<13} {:>10} {:>10.2} {:>10.2} {:>10.1} {:>10} {:>10} {:>10} {:>11}",
                row.policy,
                show_size(row.arena_bytes),
                row.request_miss_ratio * 100.0,
                row.byte_miss_ratio * 100.0,
                row.utilisation * 100.0,
                row.admissions,
                row.evictions,
                row.rejections,
                row.uncacheable
            );
        }
        self.explain.iter().for_each(|explanation| text.push_str(&explanation.table()));
        text
    }
}
