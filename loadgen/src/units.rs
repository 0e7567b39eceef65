//! Sizes, durations and counts as people write and read them.

use std::time::Duration;

/// Reads `4096`, `4KiB`, `64MiB`, `1.5GiB` (powers of 1024) or `4kB`, `64MB` (powers of 1000).
///
/// # Errors
/// Says which text is not a size.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "" | "B" => 1u64,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(format!("`{text}` is not a size: write for example 4096, 16KiB, 64MiB or 1GB")),
    };
    match number.parse::<f64>() {
        Ok(value) if value >= 0.0 && value * (factor as f64) < u64::MAX as f64 => Ok((value * factor as f64) as u64),
        _ => Err(format!("`{text}` is not a size: write for example 4096, 16KiB, 64MiB or 1GB")),
    }
}

/// Reads `500ms`, `10s`, `1.5m`, `2h`, `50us`, `100ns`; a bare number counts seconds.
///
/// # Errors
/// Says which text is not a duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{text}` is not a duration: write for example 10s, 500ms or 2m")),
    };
    match number.parse::<f64>() {
        Ok(value) if value >= 0.0 && value * seconds < 1e9 => Ok(Duration::from_secs_f64(value * seconds)),
        _ => Err(format!("`{text}` is not a duration: write for example 10s, 500ms or 2m")),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..at], text[at..].trim())
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

    #[test]
    fn sizes_and_durations_read_as_written() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1.5K"), Ok(1536));
        assert_eq!(size("2 MB"), Ok(2_000_000));
        assert_eq!(size("0"), Ok(0));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for text in ["", "MiB", "-1", "1..2", "12 parsecs", "99999999999999999999999TiB"] {
            assert!(size(text).is_err() && duration(text).is_err(), "{text}");
        }
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
}
