//! The figures that Forebay has to reach, and whether it does.

use super::ratios::{self, Ratio};
use crate::{
    plan::Metric,
    results::{CaseResult, Results},
};
use serde::{Deserialize, Serialize};

/// The names of what is compared.
pub const OWN: &str = "forebay";
pub const SMALL_PAGES: &str = "forebay-4k-pages";
pub const NGINX: &str = "nginx";
pub const NGINX_CACHE: &str = "nginx-cache";
pub const FLOOR: &str = "floor";

/// What a figure is measured against.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    /// Ratios to nginx and to the best peer.
    Peers { must: (f64, f64), aim: (f64, f64) },
    /// The figure itself.
    Value { must: f64, aim: f64 },
    /// The ratio to one server.
    Beside { peer: &'static str, must: f64, aim: f64 },
    /// Another figure than the case's own.
    Other { metric: Metric, must: f64, aim: f64 },
}

struct Requirement {
    title: &'static str,
    cases: &'static [&'static str],
    bound: Bound,
}

const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        title: "hits 1–4 KiB",
        cases: &["hits-1k", "hits-4k"],
        bound: Bound::Peers { must: (0.72, 0.92), aim: (0.65, 0.85) },
    },
    Requirement {
        title: "hits 16–256 KiB",
        cases: &["hits-16k", "hits-64k", "hits-256k"],
        bound: Bound::Peers { must: (0.60, 0.75), aim: (0.50, 0.65) },
    },
    Requirement {
        title: "hits 1–16 MiB",
        cases: &["hits-1m", "hits-16m"],
        bound: Bound::Peers { must: (0.95, 0.95), aim: (0.80, 0.80) },
    },
    Requirement {
        title: "pipelined ×16, 4 KiB, requests per second",
        cases: &["pipelined-4k"],
        bound: Bound::Peers { must: (2.0, 1.5), aim: (3.5, 2.5) },
    },
    Requirement {
        title: "open loop at 70 % of nginx's peak, p99",
        cases: &["open-4k", "open-64k"],
        bound: Bound::Peers { must: (0.7, 0.9), aim: (0.4, 0.6) },
    },
    Requirement {
        title: "misses, page cache warm",
        cases: &["miss-warm-16k", "miss-warm-64k", "miss-warm-1m"],
        bound: Bound::Peers { must: (1.3, 1.4), aim: (0.9, 1.0) },
    },
    Requirement {
        title: "misses, page cache cold, p50 latency",
        cases: &["miss-cold-64k", "miss-cold-1m"],
        bound: Bound::Peers { must: (1.1, 1.1), aim: (0.9, 1.0) },
    },
    Requirement {
        title: "200 MiB file, page cache warm",
        cases: &["huge"],
        bound: Bound::Peers { must: (1.1, 1.1), aim: (0.9, 0.9) },
    },
    Requirement {
        title: "20 files of a site with variants, 256 connections",
        cases: &["static-20"],
        bound: Bound::Peers { must: (0.70, 0.80), aim: (0.55, 0.65) },
    },
    Requirement {
        title: "20 files of a site with variants, 4,096 connections",
        cases: &["static-20-4096"],
        bound: Bound::Beside { peer: NGINX, must: 0.70, aim: 0.55 },
    },
    Requirement {
        title: "20 files of a site without variants",
        cases: &["static-20-plain"],
        bound: Bound::Beside { peer: NGINX, must: 0.75, aim: 0.65 },
    },
    Requirement {
        title: "memory with 4,096 connections busy, MiB",
        cases: &["static-20-4096"],
        bound: Bound::Other { metric: Metric::Memory, must: 64.0 + 32.0, aim: 64.0 + 16.0 },
    },
    Requirement {
        title: "memory with idle connections and a full cache, MiB",
        cases: &["idle"],
        bound: Bound::Value { must: 64.0 + 40.0, aim: 64.0 + 16.0 },
    },
    Requirement {
        title: "start to first byte, ms",
        cases: &["startup"],
        bound: Bound::Value { must: 100.0, aim: 20.0 },
    },
    Requirement {
        title: "distance to the bare loop",
        cases: &["hits-4k", "hits-64k"],
        bound: Bound::Beside { peer: FLOOR, must: 1.20, aim: 1.05 },
    },
    Requirement {
        title: "hits in front of an HTTP server, 4 KiB",
        cases: &["origins-hit-4k"],
        bound: Bound::Beside { peer: "forebay-directory", must: 1.05, aim: 1.00 },
    },
    Requirement {
        title: "hits in front of an HTTP server, 4 KiB",
        cases: &["origins-hit-4k"],
        bound: Bound::Beside { peer: NGINX_CACHE, must: 0.40, aim: 0.33 },
    },
    Requirement {
        title: "hits in front of an HTTP server, 4 KiB",
        cases: &["origins-hit-4k"],
        bound: Bound::Beside { peer: "varnish", must: 0.38, aim: 0.32 },
    },
    Requirement {
        title: "hits in front of an HTTP server, 4 KiB",
        cases: &["origins-hit-4k"],
        bound: Bound::Beside { peer: "squid", must: 0.30, aim: 0.25 },
    },
    Requirement {
        title: "hits in front of an HTTP server, 64 KiB",
        cases: &["origins-hit-64k"],
        bound: Bound::Beside { peer: "forebay-directory", must: 1.05, aim: 1.00 },
    },
    Requirement {
        title: "hits in front of an HTTP server, 64 KiB",
        cases: &["origins-hit-64k"],
        bound: Bound::Beside { peer: NGINX_CACHE, must: 0.65, aim: 0.57 },
    },
    Requirement {
        title: "hits in front of an HTTP server, 64 KiB",
        cases: &["origins-hit-64k"],
        bound: Bound::Beside { peer: "varnish", must: 0.50, aim: 0.45 },
    },
    Requirement {
        title: "hits in front of an HTTP server, 64 KiB",
        cases: &["origins-hit-64k"],
        bound: Bound::Beside { peer: "squid", must: 0.12, aim: 0.10 },
    },
    Requirement {
        title: "misses in front of an HTTP server, 64 KiB",
        cases: &["origins-miss-64k"],
        bound: Bound::Beside { peer: NGINX_CACHE, must: 1.0, aim: 0.7 },
    },
    Requirement {
        title: "misses in front of an HTTP server, 64 KiB",
        cases: &["origins-miss-64k"],
        bound: Bound::Beside { peer: "varnish", must: 1.0, aim: 0.7 },
    },
    Requirement {
        title: "requests to the origin, trace `adaptsize`",
        cases: &["origins-trace"],
        bound: Bound::Value { must: 38_000.0, aim: 37_700.0 },
    },
    Requirement {
        title: "MiB from the origin, trace `adaptsize`",
        cases: &["origins-trace"],
        bound: Bound::Other { metric: Metric::OriginMebibytes, must: 285.0, aim: 283.0 },
    },
    Requirement {
        title: "memory after the trace, MiB",
        cases: &["origins-trace"],
        bound: Bound::Other { metric: Metric::Memory, must: 112.0, aim: 90.0 },
    },
    Requirement {
        title: "memory with 1,000 clients in front of an HTTP server, MiB",
        cases: &["origins-memory"],
        bound: Bound::Value { must: 64.0 + 48.0, aim: 64.0 + 24.0 },
    },
    Requirement {
        title: "the last waiter's first byte after the first's, ms",
        cases: &["origins-waiters"],
        bound: Bound::Value { must: 100.0, aim: 20.0 },
    },
];

/// How far a figure gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Aim,
    Must,
    Missed,
    /// Something that it is compared with was not there.
    NotMeasured,
    /// The runs were shorter than the clock can tell.
    TooShort,
}

impl Verdict {
    pub fn shown(self) -> &'static str {
        match self {
            Verdict::Aim => "**aim**",
            Verdict::Must => "must",
            Verdict::Missed => "missed",
            Verdict::NotMeasured => "not measured",
            Verdict::TooShort => "too short to tell",
        }
    }
}

/// A figure beside the one that it is compared with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What it is compared with; nothing where the figure itself counts.
    pub with: Option<String>,
    /// `None`: not measured.
    pub ratio: Option<Ratio>,
    pub must: f64,
    pub aim: f64,
}

/// One requirement in one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    pub title: String,
    pub case: String,
    pub metric: Metric,
    /// Forebay's median.
    pub value: Option<f64>,
    pub comparisons: Vec<Comparison>,
    /// With 4 KiB pages, the ratio to nginx.
    pub small_pages: Option<Ratio>,
    pub verdict: Verdict,
}

/// Every requirement in every case that was run.
pub fn check(results: &Results) -> Vec<Line> {
    let of = |requirement: &'static Requirement| {
        let cases = requirement.cases.iter().filter_map(|name| results.case(name));
        cases.map(|case| line(requirement, case))
    };
    REQUIREMENTS.iter().flat_map(of).collect()
}

fn line(requirement: &Requirement, case: &CaseResult) -> Line {
    let metric = match requirement.bound {
        Bound::Other { metric, .. } => metric,
        _ => case.metric,
    };
    let to = |base: &str| ratios::ratio(case, metric, OWN, base);
    let value = case.median(OWN, metric);
    let comparisons = match requirement.bound {
        Bound::Peers { must, aim } => {
            let (name, best) = ratios::against_best(case, metric, OWN).unzip();
            vec![
                Comparison { with: Some(NGINX.into()), ratio: to(NGINX), must: must.0, aim: aim.0 },
                Comparison { with: name.map(str::to_owned), ratio: best, must: must.1, aim: aim.1 },
            ]
        }
        Bound::Beside { peer, must, aim } => {
            vec![Comparison { with: Some(peer.into()), ratio: to(peer), must, aim }]
        }
        Bound::Value { must, aim } | Bound::Other { must, aim, .. } => {
            let itself = |median| Ratio { median, least: median, most: median, pairs: 1 };
            vec![Comparison { with: None, ratio: value.map(itself), must, aim }]
        }
    };
    Line {
        title: requirement.title.into(),
        case: case.name.clone(),
        metric,
        value,
        verdict: match verdict(&comparisons, metric.lower_is_better()) {
            Verdict::NotMeasured if case.peers().iter().any(|peer| case.is_too_short(peer)) => Verdict::TooShort,
            verdict => verdict,
        },
        small_pages: match requirement.bound {
            Bound::Peers { .. } => ratios::ratio(case, metric, SMALL_PAGES, NGINX),
            Bound::Value { .. } | Bound::Beside { .. } | Bound::Other { .. } => None,
        },
        comparisons,
    }
}

/// The least of what each comparison reaches.
fn verdict(comparisons: &[Comparison], lower_is_better: bool) -> Verdict {
    let reaches = |value: f64, bound: f64| if lower_is_better { value <= bound } else { value >= bound };
    let all = |bound: fn(&Comparison) -> f64| {
        comparisons.iter().all(|one| one.ratio.is_some_and(|ratio| reaches(ratio.median, bound(one))))
    };
    match () {
        () if comparisons.iter().any(|one| one.ratio.is_none()) => Verdict::NotMeasured,
        () if all(|one| one.aim) => Verdict::Aim,
        () if all(|one| one.must) => Verdict::Must,
        () => Verdict::Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        peers::Peer,
        plan::{Scale, cases},
        results::example,
    };

    #[test]
    fn every_requirement_names_cases_that_exist_with_ordered_bounds() {
        let all = cases(&Scale::full());
        for requirement in REQUIREMENTS {
            for name in requirement.cases {
                let case = all.iter().find(|case| case.name == *name).expect(name);
                let lower = case.metric.lower_is_better();
                let ordered = |must: f64, aim: f64| if lower { aim <= must } else { aim >= must };
                assert!(match requirement.bound {
                    Bound::Peers { must, aim } => ordered(must.0, aim.0) && ordered(must.1, aim.1),
                    Bound::Other { metric, must, aim } => metric.lower_is_better() && aim <= must,
                    Bound::Value { must, aim } => ordered(must, aim),
                    Bound::Beside { peer, must, aim } => {
                        let known = Peer::from_name(peer).is_some_and(|peer| peer.takes_part(case));
                        known && ordered(must, aim)
                    }
                });
            }
        }
    }

    fn verdict_of(case: &str, metric: Metric, peers: &[(&str, &[f64])]) -> Verdict {
        let lines = check(&example::results(vec![example::case(case, metric, peers)]));
        lines[0].verdict
    }

    #[test]
    fn both_peers_have_to_be_reached() {
        let hits = |forebay: f64, lighttpd: f64| {
            let peers: [(&str, &[f64]); 3] = [("forebay", &[forebay]), ("nginx", &[100.0]), ("lighttpd", &[lighttpd])];
            verdict_of("hits-1k", Metric::CpuPerRequest, &peers)
        };
        assert_eq!(hits(65.0, 90.0), Verdict::Aim);
        assert_eq!(hits(65.0, 72.0), Verdict::Must);
        assert_eq!(hits(72.0, 90.0), Verdict::Must);
        assert_eq!(hits(73.0, 90.0), Verdict::Missed);
        assert_eq!(hits(60.0, 61.0), Verdict::Missed);
        assert_eq!(verdict_of("hits-1k", Metric::CpuPerRequest, &[("forebay", &[1.0])]), Verdict::NotMeasured);
    }

    #[test]
    fn more_requests_are_better_and_values_count_by_themselves() {
        // The example's requests per second are a million over the value.
        let pipelined = |forebay: f64| {
            verdict_of("pipelined-4k", Metric::RequestsPerSecond, &[("forebay", &[forebay]), ("nginx", &[10.0])])
        };
        assert_eq!(pipelined(2.5), Verdict::Aim);
        assert_eq!(pipelined(4.0), Verdict::Must);
        assert_eq!(pipelined(6.0), Verdict::Missed);
        let startup = |ms: f64| verdict_of("startup", Metric::FirstByte, &[("forebay", &[ms])]);
        assert_eq!((startup(5.0), startup(50.0), startup(500.0)), (Verdict::Aim, Verdict::Must, Verdict::Missed));
    }

    #[test]
    fn runs_shorter_than_the_clock_tells_are_not_judged() {
        let short = |forebay: f64, nginx: f64| {
            let peers: [(&str, &[f64]); 2] = [("forebay", &[forebay]), ("nginx", &[nginx])];
            verdict_of("hits-1k", Metric::CpuPerRequest, &peers)
        };
        // The example's processor time is the figure in seconds: nothing at all, and one tick.
        assert_eq!(short(0.0, 0.0), Verdict::TooShort);
        assert_eq!(short(0.01, 1.0), Verdict::TooShort);
        assert_eq!(short(1.0, 0.01), Verdict::TooShort);
        assert_eq!(short(0.1, 1.0), Verdict::Aim);
    }

    #[test]
    fn small_pages_are_compared_beside() {
        let case = example::case(
            "hits-64k",
            Metric::CpuPerRequest,
            &[("forebay", &[4.0]), ("forebay-4k-pages", &[6.0]), ("nginx", &[10.0]), ("floor", &[4.0])],
        );
        let lines = check(&example::results(vec![case]));
        assert_eq!(lines[0].small_pages.map(|ratio| ratio.median), Some(0.6));
        assert_eq!((lines[1].title.as_str(), lines[1].verdict), ("distance to the bare loop", Verdict::Aim));
    }
}
