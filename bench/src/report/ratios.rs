//! Medians, and ratios between servers that ran right after each other.
//!
//! A noisy machine is noisy for neighbours alike: the ratio of two runs of one round is steadier than the ratio of two
//! medians over all rounds.

use crate::{
    peers::{Peer, Role},
    plan::Metric,
    results::{CaseResult, median},
};
use serde::{Deserialize, Serialize};

/// A ratio over all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    /// Rounds in which both ran.
    pub pairs: usize,
}

/// The values of `peer` over those of `base`, round by round.
pub fn ratio(case: &CaseResult, metric: Metric, peer: &str, base: &str) -> Option<Ratio> {
    let bases = case.values(base, metric);
    let of_round =
        |round: u32| bases.iter().find(|(other, value)| *other == round && *value > 0.0).map(|(_, value)| *value);
    let ratios: Vec<f64> =
        case.values(peer, metric).into_iter().filter_map(|(round, value)| Some(value / of_round(round)?)).collect();
    Some(Ratio {
        median: median(&ratios)?,
        least: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        most: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        pairs: ratios.len(),
    })
}

/// The file server against which Forebay looks worst, and the ratio to it.
pub fn against_best<'a>(case: &'a CaseResult, metric: Metric, own: &str) -> Option<(&'a str, Ratio)> {
    let servers = case
        .peers()
        .into_iter()
        .filter(|name| Peer::from_name(name).is_some_and(|peer| peer.role() == Role::FileServer));
    let ratios = servers.filter_map(|name| Some((name, ratio(case, metric, own, name)?)));
    let order = |a: &(&str, Ratio), b: &(&str, Ratio)| a.1.median.total_cmp(&b.1.median);
    if metric.lower_is_better() { ratios.max_by(order) } else { ratios.min_by(order) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::example;

    #[test]
    fn ratios_are_taken_within_rounds() {
        // The machine became three times as slow: the medians' ratio would still be right, each value's would not.
        let case = example::case(
            "hits-4k",
            Metric::CpuPerRequest,
            &[("forebay", &[1.0, 3.0, 3.0, 9.0]), ("nginx", &[2.0, 6.0, 4.0])],
        );
        let ratio = ratio(&case, Metric::CpuPerRequest, "forebay", "nginx").expect("a ratio");
        assert_eq!((ratio.median, ratio.least, ratio.most, ratio.pairs), (0.5, 0.5, 0.75, 3));
        assert_eq!(super::ratio(&case, Metric::CpuPerRequest, "forebay", "caddy"), None);
    }

    #[test]
    fn a_value_of_zero_gives_no_ratio() {
        let case = example::case("hits-4k", Metric::CpuPerRequest, &[("forebay", &[1.0, 3.0]), ("nginx", &[0.0, 6.0])]);
        let ratio = ratio(&case, Metric::CpuPerRequest, "forebay", "nginx").expect("a ratio");
        assert_eq!((ratio.median, ratio.pairs), (0.5, 1));
    }

    #[test]
    fn the_best_peer_is_a_file_server() {
        let case = example::case(
            "hits-4k",
            Metric::CpuPerRequest,
            &[("forebay", &[4.0]), ("nginx", &[8.0]), ("lighttpd", &[5.0]), ("memcached", &[2.0]), ("floor", &[3.0])],
        );
        let best = |metric| against_best(&case, metric, "forebay").map(|(name, ratio)| (name, ratio.median));
        assert_eq!(best(Metric::CpuPerRequest), Some(("lighttpd", 0.8)));
        // More requests per second are better: the best is the one with the smallest ratio.
        assert_eq!(best(Metric::RequestsPerSecond), Some(("lighttpd", 1.25)));
    }
}
