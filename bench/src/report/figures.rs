//! Numbers as the table and the console show them.

use super::ratios::Ratio;

/// The median, and the range where there is one.
pub fn show_ratio(ratio: Ratio) -> String {
    match ratio.pairs {
        1 => format!("{:.2}", ratio.median),
        _ => format!("{:.2} [{:.2}–{:.2}]", ratio.median, ratio.least, ratio.most),
    }
}

/// Three digits that matter, and thousands apart.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at).is_multiple_of(3) && !text.ends_with('-') {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let shown: Vec<String> = [0.0, 4.567, 45.67, 456.7, 4567.8, 1234567.0, -1234.0].map(number).into();
        assert_eq!(shown, ["0.00", "4.57", "45.7", "457", "4,568", "1,234,567", "-1,234"]);
    }
}
