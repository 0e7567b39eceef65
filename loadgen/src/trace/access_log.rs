//! The common and combined log formats:
//! `host ident user [10/Oct/2000:13:55:36 -0700] "GET /path HTTP/1.1" 200 2326 …`.

use super::Builder;
use crate::requests::encode_target;
use anyhow::Result;

/// Takes the GET requests that a file answered (200, 206, 304); skips and counts every other line.
pub fn read(bytes: &[u8]) -> Result<Builder> {
    let text = String::from_utf8_lossy(bytes);
    let mut builder = Builder::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match parse(line) {
            Some((seconds, target, size)) => builder.add(seconds, &encode_target(target), size)?,
            None => builder.skipped += 1,
        }
    }
    Ok(builder)
}

fn parse(line: &str) -> Option<(f64, &str, u64)> {
    let (_, rest) = line.split_once('[')?;
    let (time, rest) = rest.split_once(']')?;
    let (_, rest) = rest.split_once('"')?;
    let (request, rest) = rest.split_once('"')?;
    let mut words = request.split(' ');
    let ("GET", target) = (words.next()?, words.next()?) else { return None };
    // The query names no other file.
    let path = target.split(['?', '#']).next()?.strip_prefix('/')?;
    let mut fields = rest.split_ascii_whitespace();
    let status = fields.next()?;
    if !matches!(status, "200" | "206" | "304") {
        return None;
    }
    let size = fields.next()?.parse().unwrap_or(0);
    Some((unix_seconds(time)? as f64, path, size))
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
    if !(1..=31).contains(&day) || !(1..=9999).contains(&year) || offset.abs() > 2400 {
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
        for text in ["", "10/Oct/2000", "10/October/2000:13:55:36 -0700", "x/Oct/2000:13:55:36 -0700"] {
            assert_eq!(unix_seconds(text), None, "{text}");
        }
    }

    #[test]
    fn answered_gets_are_taken_and_the_rest_is_counted() {
        let log = "1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] \"GET /a%20b.gif?x=1 HTTP/1.0\" 200 2326 \"-\" \"curl\"\n\
            1.2.3.4 - - [10/Oct/2000:13:55:35 -0700] \"GET /c HTTP/1.0\" 304 -\n\
            1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] \"POST /d HTTP/1.0\" 200 1\n\
            1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] \"GET /e HTTP/1.0\" 404 1\n\
            nonsense\n";
        let trace = read(log.as_bytes()).unwrap().finish().unwrap();
        assert_eq!(trace.skipped, 3);
        assert_eq!(trace.requests, [1, 0]);
        assert_eq!((trace.objects[0].target.as_str(), trace.objects[0].size), ("a%20b.gif", 2326));
        assert_eq!(trace.objects[1].size, 0);
    }
}
