//! Whether something grows: the slope of the second half of a run by Theil and Sen (the median of the slopes between
//! all pairs of samples), which outliers do not move.

use crate::results::median;
use serde::Serialize;

/// Pairs that are looked at; of more samples, every so many are taken.
const SAMPLES_MAX: usize = 500;

/// Fewer samples tell nothing.
const SAMPLES_MIN: usize = 8;

/// A second half that is shorter tells nothing either, in seconds: the first half is the time to warm up, and servers
/// keep files open only once those have stayed the same for some seconds (`--settled`).
const SPAN_MIN: f64 = 20.0;

/// How something changed over the second half of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trend {
    pub server: &'static str,
    pub what: &'static str,
    /// Over all of the second half.
    pub median: f64,
    /// By the slope, over all of the second half.
    pub growth: f64,
    /// What it may grow by and still count as flat.
    pub tolerance: f64,
    pub flat: bool,
}

/// What is added to a value, or its share if that is more, without being called growth.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    pub at_least: f64,
    pub share: f64,
}

/// The trend of values by time in seconds; none of too few, or over too short a time.
pub fn trend(server: &'static str, what: &'static str, values: &[(f64, f64)], tolerance: Tolerance) -> Option<Trend> {
    let late = &values[values.len() / 2..];
    if late.len() < SAMPLES_MIN {
        return None;
    }
    let length = late.last()?.0 - late.first()?.0;
    if length < SPAN_MIN {
        return None;
    }
    let some: Vec<(f64, f64)> = late.iter().copied().step_by(late.len().div_ceil(SAMPLES_MAX)).collect();
    let pairs = some.iter().enumerate().flat_map(|(at, from)| some[at + 1..].iter().map(move |to| (from, to)));
    let slopes: Vec<f64> =
        pairs.filter(|(from, to)| to.0 > from.0).map(|(from, to)| (to.1 - from.1) / (to.0 - from.0)).collect();
    let middle = median(&some.iter().map(|(_, value)| *value).collect::<Vec<_>>())?;
    let growth = median(&slopes)? * length;
    let tolerance = tolerance.at_least.max(middle * tolerance.share);
    Some(Trend { server, what, median: middle, growth, tolerance, flat: growth <= tolerance })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { at_least: 2.0, share: 0.03 };

    fn of(value: impl Fn(u32) -> f64) -> Trend {
        let values: Vec<(f64, f64)> = (0..200).map(|at| (f64::from(at) * 0.5, value(at))).collect();
        trend("x", "memory", &values, TOLERANCE).expect("enough samples")
    }

    #[test]
    fn growth_is_told_from_noise_and_from_a_warm_up() {
        assert!(of(|_| 100.0).flat);
        assert!(of(|at| 100.0 + f64::from(at * 7919 % 21)).flat, "noise");
        assert!(of(|at| f64::from(at.min(90))).flat, "it has filled up");
        assert!(of(|at| if at % 40 == 0 { 500.0 } else { 100.0 }).flat, "peaks");
        let leak = of(|at| 100.0 + 0.1 * f64::from(at) + f64::from(at * 7919 % 3));
        assert!(!leak.flat && (leak.growth - 9.9).abs() < 1.0, "{leak:?}");
        assert!(of(|at| 100.0 - f64::from(at)).flat, "what shrinks is no leak");
    }

    #[test]
    fn too_few_samples_and_too_short_a_time_tell_nothing() {
        let every = |seconds: f64, count: u32| {
            let values: Vec<(f64, f64)> = (0..count).map(|at| (f64::from(at) * seconds, 1.0)).collect();
            trend("x", "y", &values, TOLERANCE)
        };
        assert_eq!(every(10.0, 2 * SAMPLES_MIN as u32 - 2), None);
        assert!(every(10.0, 2 * SAMPLES_MIN as u32).is_some());
        assert_eq!(every(0.2, 100), None, "ten seconds");
        assert!(every(0.2, 210).is_some());
    }
}
