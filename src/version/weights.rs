//! Lists of a request in which each member may have a weight (RFC 9110, 12.4.2).

/// Weights are counted in thousandths.
pub const WHOLE: u16 = 1000;

/// Whether the order of members of the same weight says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Many servers take the first one (RFC 9110, 12.5.4).
    Counts,
    IsNothing,
}

/// What a list of names with weights says, written in one way only: names in lower case, the most wanted first, weights
/// without what goes without saying. `None` where a member is no such name, or has other parameters.
pub fn normalise(value: &[u8], order: Order) -> Option<Vec<u8>> {
    let mut members = Vec::new();
    for member in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
        let (name, weight) = split_weight(member);
        let parameters = member.iter().filter(|&&byte| byte == b';').count();
        if parameters > 1 || (parameters == 1 && !says_weight(member)) || name.is_empty() {
            return None;
        }
        members.push((weight?, name.to_ascii_lowercase()));
    }
    // Stable: what is wanted alike stays in its order.
    members.sort_by_key(|&(weight, _)| WHOLE - weight);
    if order == Order::IsNothing {
        members.sort_by(|(weight, name), (other, next)| other.cmp(weight).then_with(|| name.cmp(next)));
    }
    let mut out = Vec::with_capacity(value.len());
    for (weight, name) in members {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(&name);
        if weight < WHOLE {
            out.extend_from_slice(format!(";q={weight}").as_bytes());
        }
    }
    Some(out)
}

fn says_weight(member: &[u8]) -> bool {
    let parameter = member.split(|&byte| byte == b';').nth(1).unwrap_or_default().trim_ascii_start();
    parameter.first().is_some_and(|first| first.eq_ignore_ascii_case(&b'q'))
        && parameter[1..].trim_ascii_start().starts_with(b"=")
}

/// The name of an item of Accept-Encoding or Accept, and its weight; `None` where the weight is none.
pub fn split_weight(item: &[u8]) -> (&[u8], Option<u16>) {
    let mut parts = item.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().unwrap_or_default();
    let is_weight = |part: &&[u8]| {
        let (name, _) = part.split_at(part.iter().position(|&byte| byte == b'=').unwrap_or(part.len()));
        name.trim_ascii_end().eq_ignore_ascii_case(b"q")
    };
    let Some(part) = parts.find(is_weight) else { return (name, Some(WHOLE)) };
    let value = part[1..].trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii_start);
    (name, value.and_then(thousandths))
}

/// A qvalue (RFC 9110, 12.4.2): 0 to 1, with three decimals at most.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut thousandths = u16::from(whole - b'0') * WHOLE;
    for (&digit, unit) in decimals.iter().zip([100, 10, 1]) {
        thousandths += u16::from(digit.is_ascii_digit().then(|| digit - b'0')?) * unit;
    }
    (thousandths <= WHOLE).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_is_written_alike() {
        let said = |value: &str, order| normalise(value.as_bytes(), order).map(|said| String::from_utf8(said).unwrap());
        for (value, expected) in [
            ("en, de", Some("en,de")),
            (" eN ,,\tDe;q=1.000", Some("en,de")),
            ("de;q=0.5, en", Some("en,de;q=500")),
            ("de ; Q=0.50 ,en;q=1", Some("en,de;q=500")),
            ("*;q=0", Some("*;q=0")),
            ("", Some("")),
            ("en;q=2", None),
            ("en;level=1", None),
            ("en;q=0.5;level=1", None),
            (";q=1", None),
        ] {
            assert_eq!(said(value, Order::Counts).as_deref(), expected, "{value:?}");
        }
        assert_eq!(said("de, en", Order::Counts).unwrap(), "de,en", "who is named first may be served first");
        assert_eq!(said("gzip;q=0.5, br, deflate", Order::IsNothing).unwrap(), "br,deflate,gzip;q=500");
        assert_eq!(said("deflate, gzip;q=0.500,br", Order::IsNothing).unwrap(), "br,deflate,gzip;q=500");
    }
}
