//! Conditions that make a run a failure: `errors>0.1%`, `p99>5ms`, `hit.p99>1ms`, `rate<10000`.

use super::json::{ClassReport, Run, Verdict};
use crate::{
    stats::{Class, Percentiles},
    units::{show_count, show_ns},
};
use forebay::units;
use std::{fmt, str::FromStr, time::Duration};

/// A condition under which a run counts as failed.
#[derive(Debug, Clone)]
pub struct Threshold {
    measure: Measure,
    above: bool,
    limit: f64,
    /// As it was written.
    text: String,
}

/// What is compared.
#[derive(Debug, Clone, Copy)]
enum Measure {
    /// Failed requests: how many, or which share of all that were sent or could not be.
    Errors { share: bool },
    /// Slots of an open loop that were never sent: how many, or which share of all.
    Dropped { share: bool },
    /// Misses among the classified responses.
    Misses,
    /// Successful responses a second.
    Rate,
    /// A latency of one class, or of all; nanoseconds.
    Latency { class: Option<Class>, of: fn(&Percentiles) -> f64 },
}

/// What holds where nothing else was asked for: a run that lost more than one request of a hundred measured something
/// else.
const DEFAULTS: [&str; 2] = ["errors>1%", "dropped>1%"];

const EXAMPLES: &str = "errors>0.1%, dropped>100, p99>5ms, hit.p99.9>1ms, miss.mean>20ms, misses>10% or rate<5000";

/// The conditions asked for, and those that hold unless another condition on the same measure was given.
pub fn with_defaults(given: &[Threshold]) -> Vec<Threshold> {
    let defaults = DEFAULTS.iter().filter_map(|text| text.parse::<Threshold>().ok());
    let replaced = |one: &Threshold| given.iter().any(|other| other.measure.name() == one.measure.name());
    given.iter().cloned().chain(defaults.filter(|one| !replaced(one))).collect()
}

/// Judges a run.
pub fn judge(run: &Run, thresholds: &[Threshold]) -> Vec<Verdict> {
    thresholds.iter().map(|threshold| threshold.judge(run)).collect()
}

impl Threshold {
    fn judge(&self, run: &Run) -> Verdict {
        let value = self.measure.of(run);
        let broken = value.is_some_and(|value| if self.above { value > self.limit } else { value < self.limit });
        let shown = value.map_or("nothing was measured".into(), |value| self.measure.show(value));
        Verdict { condition: self.text.clone(), value, broken, shown }
    }
}

impl Measure {
    fn parse(name: &str, share: bool) -> Option<Measure> {
        Some(match name {
            "errors" => Measure::Errors { share },
            "dropped" => Measure::Dropped { share },
            "misses" if share => Measure::Misses,
            "rate" if !share => Measure::Rate,
            _ if share => return None,
            _ => {
                let class = Class::ALL
                    .into_iter()
                    .find(|class| name.strip_prefix(class.as_str()).is_some_and(|rest| rest.starts_with('.')));
                let of = class.map_or(name, |class| &name[class.as_str().len() + 1..]);
                Measure::Latency { class, of: latency(of)? }
            }
        })
    }

    /// Conditions on the same of these replace each other.
    fn name(self) -> &'static str {
        match self {
            Measure::Errors { .. } => "errors",
            Measure::Dropped { .. } => "dropped",
            Measure::Misses => "misses",
            Measure::Rate => "rate",
            Measure::Latency { .. } => "latency",
        }
    }

    fn of(self, run: &Run) -> Option<f64> {
        let total = &run.classes.total;
        let part = |count: u64, whole: u64, share: bool| match share {
            false => Some(count as f64),
            true => (whole > 0).then(|| count as f64 / whole as f64),
        };
        match self {
            Measure::Errors { share } => part(total.errors.sum(), total.errors.sum() + total.requests, share),
            Measure::Dropped { share } => part(run.schedule.dropped, run.schedule.intended, share),
            Measure::Misses => run.miss_share(),
            Measure::Rate => Some(run.requests_per_second),
            Measure::Latency { class, of } => {
                let latency = &of_class(run, class).latency_ns;
                (latency.count > 0).then(|| of(latency))
            }
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Measure::Errors { share: true } | Measure::Dropped { share: true } | Measure::Misses => {
                format!("{:.2} %", value * 100.0)
            }
            Measure::Errors { .. } | Measure::Dropped { .. } | Measure::Rate => show_count(value as u64),
            Measure::Latency { .. } => show_ns(value),
        }
    }
}

fn of_class(run: &Run, class: Option<Class>) -> &ClassReport {
    match class {
        None => &run.classes.total,
        Some(Class::Hit) => &run.classes.hit,
        Some(Class::Miss) => &run.classes.miss,
        Some(Class::Unclassified) => &run.classes.unclassified,
    }
}

fn latency(name: &str) -> Option<fn(&Percentiles) -> f64> {
    Some(match name {
        "p50" => |percentiles| percentiles.p50 as f64,
        "p90" => |percentiles| percentiles.p90 as f64,
        "p99" => |percentiles| percentiles.p99 as f64,
        "p99.9" => |percentiles| percentiles.p999 as f64,
        "p99.99" => |percentiles| percentiles.p9999 as f64,
        "max" => |percentiles| percentiles.max as f64,
        "mean" => |percentiles| percentiles.mean,
        _ => return None,
    })
}

/// A duration in nanoseconds.
fn nanoseconds(text: &str) -> Option<f64> {
    units::duration(Duration::ZERO, Duration::MAX)(text).ok().map(|time| time.as_nanos() as f64)
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Threshold, String> {
        let wrong = || format!("`{text}` is not a condition; conditions read {EXAMPLES}");
        let text_without_spaces: String = text.split_whitespace().collect();
        let at = text_without_spaces.find(['>', '<']).ok_or_else(wrong)?;
        let (name, limit) = (&text_without_spaces[..at], &text_without_spaces[at + 1..]);
        let measure = Measure::parse(name, limit.ends_with('%')).ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        let limit = match measure {
            Measure::Latency { .. } => nanoseconds(limit),
            _ => limit.strip_suffix('%').map_or_else(|| number(limit), |limit| Some(number(limit)? / 100.0)),
        };
        let above = text_without_spaces.as_bytes()[at] == b'>';
        Ok(Threshold { measure, above, limit: limit.ok_or_else(wrong)?, text: text_without_spaces.clone() })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exec::{Ended, Outcome},
        stats::{Failure, Tally, tally::Success},
    };

    /// 98 hits of 1 ms, 2 errors, and 5 of 105 slots dropped.
    fn run() -> Run {
        let mut tally = Tally::default();
        let success = Success {
            class: Class::Hit,
            body_bytes: 1,
            intended_ns: None,
            sent_ns: 0,
            first_byte_ns: 500_000,
            last_byte_ns: 1_000_000,
        };
        (0..98).for_each(|_| tally.success(success));
        (0..2).for_each(|_| tally.failure(Class::Hit, Failure::Status, Some(503)));
        (tally.schedule.intended, tally.schedule.sent, tally.schedule.dropped) = (105, 100, 5);
        let second = Duration::from_secs(1);
        let (cpu, samples) = (Duration::ZERO, Vec::new());
        Run::of(&Outcome { ended: Ended::Completed, elapsed: second, cpu, tally, samples }, Default::default(), 0.0)
    }

    fn broken(conditions: &[&str]) -> Vec<String> {
        let given: Vec<Threshold> = conditions.iter().map(|text| text.parse().unwrap()).collect();
        let verdicts = judge(&run(), &with_defaults(&given)).into_iter().filter(|verdict| verdict.broken);
        verdicts.map(|verdict| verdict.to_string()).collect()
    }

    #[test]
    fn each_measure_has_its_side_and_unit() {
        for (condition, is_broken) in [
            ("errors>1%", true),
            ("errors>2%", false),
            ("errors > 1.99 %", true),
            ("errors>1", true),
            ("errors>2", false),
            ("dropped>4", true),
            ("dropped>4.7%", true),
            ("dropped>5%", false),
            ("p99>500us", true),
            ("p99.99>2ms", false),
            ("hit.max>900µs", true),
            ("hit.mean<1s", true),
            ("misses>0%", false),
            ("misses<1%", true),
            ("rate<99", true),
            ("rate<98", false),
            ("rate>97", true),
            // Nothing was measured of it.
            ("miss.p99>0s", false),
        ] {
            let threshold: Threshold = condition.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(threshold.judge(&run()).broken, is_broken, "{condition}");
        }
    }

    #[test]
    fn the_defaults_hold_unless_they_are_replaced() {
        assert_eq!(broken(&[]), ["errors>1%: 2.00 %", "dropped>1%: 4.76 %"]);
        assert_eq!(broken(&["p50>1s"]), ["errors>1%: 2.00 %", "dropped>1%: 4.76 %"]);
        assert_eq!(broken(&["errors>3", "dropped>10%"]), [""; 0]);
        assert_eq!(broken(&["errors>1", "p50>100us"])[..2], ["errors>1: 2", "p50>100us: 1.00 ms"]);
    }

    #[test]
    fn what_is_no_condition_is_answered_with_examples() {
        for text in [
            "",
            "errors",
            "errors>",
            "errors>x%",
            "p99>5",
            "p98>5ms",
            "rate<5%",
            "errors=1%",
            "x.p99>1ms",
            "errors>-1",
            "p99>nan",
            "rate<inf",
        ] {
            let error = text.parse::<Threshold>().unwrap_err();
            assert!(error.contains("p99>5ms"), "{text}: {error}");
        }
    }
}
