//! Ranges of bytes (RFC 9110, 14).

/// What part of a body of known length is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// All of it: no range was asked for, or none that must be understood.
    Whole,
    /// Bytes `from..to`, with `from < to <= length`.
    Part { from: u64, to: u64 },
    /// A range that lies outside (416).
    Unsatisfiable,
}

/// Reads a Range field. Several ranges, other units and bad syntax are answered with the whole (14.2 allows it).
pub fn select(value: &[u8], length: u64) -> Selection {
    parse(value, length).unwrap_or(Selection::Whole)
}

fn parse(value: &[u8], length: u64) -> Option<Selection> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let (unit, set) = text.split_once('=')?;
    if !unit.trim_end().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number beyond u64 lies beyond any file.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (from, to) = match (first, last) {
        ("", last) => {
            let count = number(last)?;
            if count == 0 {
                return Some(Selection::Unsatisfiable);
            }
            (length.saturating_sub(count), length)
        }
        (first, "") => (number(first)?, length),
        (first, last) => {
            let (from, to) = (number(first)?, number(last)?);
            if to < from {
                return None;
            }
            (from, to.saturating_add(1).min(length))
        }
    };
    Some(if from < to { Selection::Part { from, to } } else { Selection::Unsatisfiable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_ranges() {
        let part = |from, to| Selection::Part { from, to };
        for (value, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=2-4", part(2, 5)),
            ("bytes=2-", part(2, 10)),
            ("bytes=2-99", part(2, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-99", part(0, 10)),
            ("Bytes = 9-9", part(9, 10)),
            ("bytes=10-", Selection::Unsatisfiable),
            ("bytes=10-12", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("bytes=0-99999999999999999999999", part(0, 10)),
            ("bytes=0-1,3-4", Selection::Whole),
            ("bytes=4-2", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("lines=1-2", Selection::Whole),
            ("", Selection::Whole),
        ] {
            assert_eq!(select(value.as_bytes(), 10), expected, "{value}");
        }
        assert_eq!(select(b"bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(select(b"bytes=-1", 0), Selection::Unsatisfiable);
    }
}
