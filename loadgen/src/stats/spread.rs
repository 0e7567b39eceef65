//! Whether two runs differ by more than they scatter, from the samples inside each run.
//!
//! Neighbouring samples are alike, so they are not independent observations. The classic remedy is batch means (Law and
//! Kelton, "Simulation Modeling and Analysis"): average runs of consecutive samples, treat the averages as independent,
//! and compare them by Welch's t-test, which does not assume that both runs scatter alike.

/// Averages that a run is divided into, at most.
const BATCHES_MAX: usize = 20;

/// Averages below which nothing is said.
const BATCHES_MIN: usize = 5;

/// The difference of two series of samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    pub before: f64,
    pub after: f64,
    /// The 95 % confidence interval of `after - before`.
    pub low: f64,
    pub high: f64,
}

impl Difference {
    /// Of the means of two series; `None` if either has too few samples to tell.
    pub fn of(before: &[f64], after: &[f64]) -> Option<Difference> {
        let (a, b) = (Moments::of(&batch_means(before))?, Moments::of(&batch_means(after))?);
        let (va, vb) = (a.variance / a.count, b.variance / b.count);
        let error = (va + vb).sqrt();
        let margin = if error > 0.0 {
            // Welch and Satterthwaite's degrees of freedom.
            let freedom = (va + vb).powi(2) / (va * va / (a.count - 1.0) + vb * vb / (b.count - 1.0));
            error * student_t(freedom)
        } else {
            0.0
        };
        let difference = b.mean - a.mean;
        Some(Difference { before: a.mean, after: b.mean, low: difference - margin, high: difference + margin })
    }

    /// Whether the difference is more than the runs' own spread explains.
    pub fn exceeds_spread(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }

    /// A difference in parts of the value before.
    pub fn relative(&self, difference: f64) -> f64 {
        if self.before == 0.0 { 0.0 } else { difference / self.before }
    }
}

/// Averages of consecutive samples.
fn batch_means(samples: &[f64]) -> Vec<f64> {
    let batches = samples.len().min(BATCHES_MAX);
    let bounds = |index: usize| index * samples.len() / batches;
    let batch = |index| &samples[bounds(index)..bounds(index + 1)];
    (0..batches).map(|index| batch(index).iter().sum::<f64>() / batch(index).len() as f64).collect()
}

struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of(values: &[f64]) -> Option<Moments> {
        if values.len() < BATCHES_MIN {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Some(Moments { count, mean, variance })
    }
}

/// The 97.5 % quantile of Student's t, by the expansion around the normal quantile (Abramowitz and Stegun 26.7.5);
/// within half a percent from 4 degrees of freedom on.
fn student_t(freedom: f64) -> f64 {
    let (n, z) = (freedom.max(1.0), 1.959_964_f64);
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * n)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * n * n)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * n.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{Distribution, StandardNormal};
    use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};

    #[test]
    fn t_quantiles_are_those_of_the_tables() {
        for (freedom, quantile) in [(4.0, 2.776), (9.0, 2.262), (19.0, 2.093), (38.0, 2.024), (1e9, 1.960)] {
            assert!((student_t(freedom) / quantile - 1.0).abs() < 0.005, "{freedom}: {}", student_t(freedom));
        }
    }

    #[test]
    fn equal_runs_differ_in_five_of_a_hundred_cases() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(4);
        let mut series = |mean: f64, deviation: f64| -> Vec<f64> {
            (0..60)
                .map(|_| mean + deviation * <StandardNormal as Distribution<f64>>::sample(&StandardNormal, &mut random))
                .collect()
        };
        let (mut false_alarms, mut found) = (0, 0);
        for _ in 0..1000 {
            let before = series(100.0, 5.0);
            let (same, other) = (series(100.0, 10.0), series(110.0, 10.0));
            false_alarms += usize::from(Difference::of(&before, &same).unwrap().exceeds_spread());
            found += usize::from(Difference::of(&before, &other).unwrap().exceeds_spread());
        }
        assert!((25..80).contains(&false_alarms), "{false_alarms}");
        assert!(found > 990, "{found}");
    }

    #[test]
    fn too_few_samples_tell_nothing() {
        assert_eq!(Difference::of(&[1.0; 4], &[2.0; 100]), None);
        let constant = Difference::of(&[1.0; 5], &[2.0; 5]).unwrap();
        assert!(constant.exceeds_spread());
        assert_eq!(constant.relative(constant.low), 1.0);
    }
}
