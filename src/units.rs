//! Sizes, durations and counts: read as people type them ("64MiB", "10s"), and shown as people read them ("64.0 MiB",
//! "1.30 ms").

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes. Reads `4096`, `64KiB`, `64MiB`, `1GiB`, `2TiB` (powers of 1024), `64k`, `64M`, `1G` (the same),
/// and `64kB`, `64MB` (powers of 1000), whatever the letters' case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// What is wrong with the text of a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error("a size starts with a number, as in 64MiB")]
    NoNumber,
    #[error("a size is a whole number with a unit; write 1536MiB for 1.5GiB")]
    Fraction,
    #[error("\"{0}\" is not a unit of size; the units are B, KiB, MiB, GiB, TiB (and kB, MB, GB, TB)")]
    Unit(String),
    #[error("that is more than fits 64 bits")]
    TooLarge,
}

/// The powers of 1024, largest first, with the names they are printed by.
const BINARY_UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Size, SizeError> {
        let text = text.trim();
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        if digits.is_empty() {
            return Err(SizeError::NoNumber);
        }
        if unit.starts_with(['.', ',']) {
            return Err(SizeError::Fraction);
        }
        let unit_bytes: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(SizeError::Unit(unit.trim_start().to_owned())),
        };
        let number: u64 = digits.parse().map_err(|_| SizeError::TooLarge)?;
        number.checked_mul(unit_bytes).map(Size).ok_or(SizeError::TooLarge)
    }
}

impl fmt::Display for Size {
    /// The shortest exact form: the largest unit that divides the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BINARY_UNITS.iter().find(|(bytes, _)| self.0 >= *bytes && self.0.is_multiple_of(*bytes)) {
            Some((bytes, name)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A clap value parser for sizes from `min` to `max` that are a multiple of `step` bytes.
pub fn size(min: u64, max: u64, step: u64) -> impl Fn(&str) -> Result<Size, String> + Clone + Send + Sync + 'static {
    move |text| {
        let size = text.parse::<Size>().map_err(|error| error.to_string())?;
        if size.0 < min {
            return Err(format!("at least {} is needed", Size(min)));
        }
        if size.0 > max {
            return Err(format!("at most {} is possible", Size(max)));
        }
        if !size.0.is_multiple_of(step) {
            let below = size.0 - size.0 % step;
            let near = if below >= min { below } else { below + step };
            return Err(format!("it must be a multiple of {}, such as {}", Size(step), Size(near)));
        }
        Ok(size)
    }
}

/// A clap value parser for durations (`10s`, `500ms`, `1m 30s`) from `min` to `max`.
pub fn duration(
    min: Duration,
    max: Duration,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let text = text.trim();
        let is_bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if is_bare && text.bytes().any(|b| b != b'0') {
            return Err(format!("a duration needs a unit, as in {text}s or {text}ms"));
        }
        let value = if is_bare {
            Duration::ZERO
        } else {
            humantime::parse_duration(text).map_err(|error| format!("{error} (durations read 10s, 500ms, 2min)"))?
        };
        if value < min {
            return Err(format!("at least {} is needed", humantime::format_duration(min)));
        }
        if value > max {
            return Err(format!("at most {} is possible", humantime::format_duration(max)));
        }
        Ok(value)
    }
}

/// A number of bytes with a unit: `64.0 MiB`.
pub fn show_bytes(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// The same without a fraction of nothing: `64 MiB`, `22.6 MiB`.
pub fn show_size(bytes: u64) -> String {
    show_bytes(bytes as f64).replace(".0 ", " ")
}

/// A time with a unit and three digits: `850 ns`, `41.2 µs`, `1.30 ms`, `12.0 s`.
pub fn show_ns(ns: f64) -> String {
    let (value, unit) = match ns {
        _ if ns < 999.5 => return format!("{ns:.0} ns"),
        _ if ns < 999_500.0 => (ns / 1e3, "µs"),
        _ if ns < 999_500_000.0 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let decimals = match value {
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// A count with its thousands apart: `1,234,567`.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("64KiB", 64 << 10),
            ("64k", 64 << 10),
            ("64 MiB", 64 << 20),
            ("64mib", 64 << 20),
            ("1G", 1 << 30),
            ("2TiB", 2 << 40),
            ("64MB", 64_000_000),
            ("5kB", 5_000),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn wrong_sizes_say_why() {
        let error = |text: &str| text.parse::<Size>().unwrap_err();
        assert_eq!(error(""), SizeError::NoNumber);
        assert_eq!(error("MiB"), SizeError::NoNumber);
        assert_eq!(error("-1"), SizeError::NoNumber);
        assert_eq!(error("1.5GiB"), SizeError::Fraction);
        assert_eq!(error("64 parsecs"), SizeError::Unit("parsecs".into()));
        assert_eq!(error("99999999999999999999"), SizeError::TooLarge);
        assert_eq!(error("17179869184GiB"), SizeError::TooLarge);
    }

    #[test]
    fn a_size_outside_its_bounds_is_told_what_fits() {
        let arena = size(1 << 20, 1 << 30, 64 << 10);
        assert_eq!(arena("64MiB"), Ok(Size(64 << 20)));
        assert_eq!(arena("1"), Err("at least 1MiB is needed".into()));
        assert_eq!(arena("2GiB"), Err("at most 1GiB is possible".into()));
        assert_eq!(arena("1048577"), Err("it must be a multiple of 64KiB, such as 1MiB".into()));
    }

    #[test]
    fn durations_need_a_unit_and_fit_their_bounds() {
        let parse = duration(Duration::from_millis(1), Duration::from_secs(3600));
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("10"), Err("a duration needs a unit, as in 10s or 10ms".into()));
        assert_eq!(parse("0"), Err("at least 1ms is needed".into()));
        assert_eq!(parse("2h"), Err("at most 1h is possible".into()));
        assert!(parse("").unwrap_err().contains("durations read 10s"));
        assert!(parse("ten seconds").unwrap_err().contains("durations read 10s"));
        assert!(parse("99999999999999999999999s").is_err());
        assert_eq!(duration(Duration::ZERO, Duration::MAX)("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn numbers_show_with_units() {
        assert_eq!(show_bytes(512.0), "512 B");
        assert_eq!(show_bytes(64.0 * 1048576.0), "64.0 MiB");
        assert_eq!(show_ns(850.0), "850 ns");
        assert_eq!(show_ns(41_230.0), "41.2 µs");
        assert_eq!(show_ns(999_700.0), "1.00 ms");
        assert_eq!(show_ns(12e9), "12.0 s");
        assert_eq!(show_count(1234567), "1,234,567");
        assert_eq!(show_count(999), "999");
    }

    proptest! {
        #[test]
        fn what_a_size_prints_it_reads(bytes: u64) {
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Size>();
            let _ = size(1, 100, 7)(&text);
            let _ = duration(Duration::ZERO, Duration::MAX)(&text);
        }
    }
}
