//! How large the files are.

use forebay::units::Size;
use rand_distr::{Distribution, LogNormal, Pareto};
use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
use std::str::FromStr;

/// A distribution of file sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sizes {
    /// All alike.
    Fixed { bytes: u64 },
    /// Log-normal: half of the files are smaller than `median`; `sigma` is the deviation of the natural logarithm.
    LogNormal { median: u64, sigma: f64 },
    /// Pareto: none smaller than `least`; the smaller `alpha`, the heavier the tail.
    Pareto { least: u64, alpha: f64 },
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let usage = || {
            format!(
                "`{text}` is not a size distribution: write fixed:4KiB, lognormal:16KiB,1.5 (median, sigma) or \
                pareto:1KiB,1.2 (least, alpha)"
            )
        };
        let (kind, parameters) = text.split_once(':').ok_or_else(usage)?;
        let (bytes, shape) = match parameters.split_once(',') {
            Some((bytes, shape)) => (bytes, Some(shape.trim().parse::<f64>().map_err(|_| usage())?)),
            None => (parameters, None),
        };
        let Size(bytes) = bytes.parse().map_err(|error| format!("`{text}`: {error}"))?;
        match (kind, shape) {
            ("fixed", None) => Ok(Sizes::Fixed { bytes }),
            ("lognormal", Some(sigma)) if bytes > 0 && sigma.is_finite() && sigma >= 0.0 => {
                Ok(Sizes::LogNormal { median: bytes, sigma })
            }
            ("pareto", Some(alpha)) if bytes > 0 && alpha.is_finite() && alpha > 0.0 => {
                Ok(Sizes::Pareto { least: bytes, alpha })
            }
            _ => Err(usage()),
        }
    }
}

impl Sizes {
    /// `count` sizes, none above `most`; the same for the same seed.
    pub fn draw(self, count: u64, most: u64, seed: u64) -> Vec<u64> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let sample: Box<dyn Fn(&mut Xoshiro256PlusPlus) -> f64> = match self {
            Sizes::Fixed { bytes } => Box::new(move |_| bytes as f64),
            Sizes::LogNormal { median, sigma } => {
                let sizes = LogNormal::new((median as f64).ln(), sigma).expect("sigma was checked when it was read");
                Box::new(move |random| sizes.sample(random))
            }
            Sizes::Pareto { least, alpha } => {
                let sizes = Pareto::new(least as f64, alpha).expect("both were checked when they were read");
                Box::new(move |random| sizes.sample(random))
            }
        };
        // Converting to an integer saturates, so that the heaviest tail is cut by `most` as well.
        (0..count).map(|_| (sample(&mut random).round() as u64).min(most)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_read_as_written() {
        assert_eq!("fixed:4KiB".parse(), Ok(Sizes::Fixed { bytes: 4096 }));
        assert_eq!("lognormal:16KiB,1.5".parse(), Ok(Sizes::LogNormal { median: 16384, sigma: 1.5 }));
        assert_eq!("pareto:1K, 1.2".parse(), Ok(Sizes::Pareto { least: 1024, alpha: 1.2 }));
        for text in
            ["", "fixed", "fixed:4KiB,1", "lognormal:1K", "lognormal:0,1", "pareto:1K,-1", "pareto:1K,NaN", "x:1"]
        {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }

    #[test]
    fn samples_follow_their_distributions() {
        let below = |sizes: &[u64], limit: u64| sizes.iter().filter(|&&size| size < limit).count() as f64 / 20_000.0;
        let normal = Sizes::LogNormal { median: 10_000, sigma: 1.0 }.draw(20_000, u64::MAX, 7);
        assert!((below(&normal, 10_000) - 0.5).abs() < 0.02);
        // One sigma above the median: Φ(1) = 0.8413.
        assert!((below(&normal, 27_183) - 0.8413).abs() < 0.02);
        let pareto = Sizes::Pareto { least: 1_000, alpha: 1.0 }.draw(20_000, 1 << 20, 7);
        assert!(pareto.iter().all(|&size| (1_000..=1 << 20).contains(&size)));
        // P(X < 2 least) = 1 - 2^-alpha.
        assert!((below(&pareto, 2_000) - 0.5).abs() < 0.02);
        assert_eq!(Sizes::Fixed { bytes: 5 }.draw(3, u64::MAX, 0), [5, 5, 5]);
        assert_eq!(pareto, Sizes::Pareto { least: 1_000, alpha: 1.0 }.draw(20_000, 1 << 20, 7));
    }
}
