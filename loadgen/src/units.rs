//! Sizes, times and counts as people read them. How they are typed is [`forebay::cli::units`]'s affair.

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
