//! The Common and the Combined Log Format:
//! `host ident user [10/Oct/2000:13:55:36 -0700] "GET /path HTTP/1.1" 200 2326 …`.

use super::{Name, Record, Request, TraceError, Visit, number};
use std::io::BufRead;

/// Whether this is a line of an access log.
pub(super) fn is_line(line: &[u8]) -> bool {
    LogLine::parse(line).is_ok()
}

pub(super) fn read(mut input: impl BufRead, visit: &mut impl Visit) -> Result<(), TraceError> {
    let mut line = Vec::new();
    for record in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let said = match LogLine::parse(&line) {
            Ok(parsed) => match parsed.file() {
                // A 304 has no body: the size is known from another answer, or taken as nothing.
                Some(path) => Record::Request(Request {
                    name: Name::Text(path),
                    size: parsed.bytes.unwrap_or(0),
                    seconds: parsed.seconds,
                }),
                None => Record::Other,
            },
            Err(message) => {
                let shown: String = String::from_utf8_lossy(&line).trim().chars().take(80).collect();
                Record::Broken(format!("{message}, in \"{}\"", shown.escape_debug()))
            }
        };
        visit(record, said)?;
    }
    Ok(())
}

/// What a line of an access log says.
#[derive(Debug)]
struct LogLine<'a> {
    seconds: Option<f64>,
    method: &'a [u8],
    target: &'a [u8],
    status: u16,
    /// Of the body; none for `-`.
    bytes: Option<u64>,
}

impl<'a> LogLine<'a> {
    /// `host ident user [time] "METHOD target VERSION" status bytes`, and whatever follows.
    fn parse(line: &'a [u8]) -> Result<LogLine<'a>, &'static str> {
        let opened = line.iter().position(|byte| *byte == b'"').ok_or("no request in quotes")?;
        let rest = &line[opened + 1..];
        let closed = closing_quote(rest).ok_or("the request's closing quote is missing")?;
        let (request, rest) = (&rest[..closed], &rest[closed + 1..]);
        let seconds = bracketed(&line[..opened]).and_then(unix_seconds).map(|seconds| seconds as f64);
        let mut fields = rest.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let status = fields.next().and_then(number).ok_or("no status after the request")?;
        let status = u16::try_from(status).ok().filter(|status| (100..600).contains(status)).ok_or("no such status")?;
        let bytes = match fields.next().ok_or("no size after the status")? {
            b"-" => None,
            bytes => Some(number(bytes).ok_or("the size is not a number of bytes")?),
        };
        let mut words = request.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Ok(LogLine { seconds, method, target, status, bytes })
    }

    /// The file asked for, if this is a request that a cache of files would have answered.
    fn file(&self) -> Option<&'a [u8]> {
        let answered = matches!(self.status, 200 | 206 | 304);
        let path = self.target.split(|byte| matches!(byte, b'?' | b'#')).next().filter(|path| !path.is_empty())?;
        (self.method == b"GET" && answered).then_some(path)
    }
}

/// The first quote that no backslash escapes.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    })
}

/// What stands in the last brackets.
fn bracketed(text: &[u8]) -> Option<&str> {
    let from = text.iter().rposition(|byte| *byte == b'[')? + 1;
    let to = from + text[from..].iter().position(|byte| *byte == b']')?;
    std::str::from_utf8(&text[from..to]).ok()
}

/// Reads `10/Oct/2000:13:55:36 -0700`.
fn unix_seconds(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (date, zone) = text.split_once(' ')?;
    let mut fields = date.split(['/', ':']);
    let day: i64 = fields.next()?.parse().ok()?;
    let name = fields.next()?;
    let month = MONTHS.iter().position(|&month| month == name)? as i64 + 1;
    let year: i64 = fields.next()?.parse().ok()?;
    let mut number = || fields.next()?.parse::<i64>().ok();
    let (hour, minute, second) = (number()?, number()?, number()?);
    let offset: i64 = zone.parse().ok()?;
    let of_day = [(hour, 23), (minute, 59), (second, 60)];
    let is_clock = of_day.iter().all(|(value, most)| (0..=*most).contains(value));
    if !is_clock || !(1..=31).contains(&day) || !(1..=9999).contains(&year) || !(-2400..=2400).contains(&offset) {
        return None;
    }
    // Days from the civil calendar: years begin in March, so that leap days come last.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second - (offset / 100 * 3_600 + offset % 100 * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_unix_seconds() {
        assert_eq!(unix_seconds("01/Jan/1970:00:00:00 +0000"), Some(0));
        assert_eq!(unix_seconds("10/Oct/2000:13:55:36 -0700"), Some(971_211_336));
        assert_eq!(unix_seconds("29/Feb/2024:23:59:59 +0530"), Some(1_709_231_399));
        let huge = i64::MAX;
        let (clock, zone) = (format!("1/Oct/2000:{huge}:55:36 +0000"), format!("1/Oct/2000:13:55:36 {}", i64::MIN));
        for text in ["", &clock, &zone, "10/Oct/2000", "10/October/2000:13:55:36 -0700", "x/Oct/2000:13:55:36 -0700"] {
            assert_eq!(unix_seconds(text), None, "{text}");
        }
    }
}
