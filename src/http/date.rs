//! The Date field, formatted once a second.

use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of an IMF-fixdate.
pub const LEN: usize = 29;

/// The current date as an IMF-fixdate, kept for a second.
pub struct Date {
    text: [u8; LEN],
    second: u64,
}

impl Date {
    pub fn now() -> Date {
        let mut date = Date { text: [b' '; LEN], second: u64::MAX };
        date.refresh();
        date
    }

    /// Looks at the clock; to be called a few times a second.
    pub fn refresh(&mut self) {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.second {
            self.second = second;
            self.text.copy_from_slice(httpdate::fmt_http_date(now).as_bytes());
        }
    }

    /// Looks at the clock if it must have moved on: something was modified at this time, in seconds since 1970.
    #[inline]
    pub fn reach(&mut self, seconds: i64) {
        if u64::try_from(seconds).is_ok_and(|seconds| seconds > self.second) {
            self.refresh();
        }
    }

    pub fn text(&self) -> &[u8; LEN] {
        &self.text
    }
}

/// Appends a time as an IMF-fixdate, in seconds since 1970 and not after the year 9999.
pub fn write(out: &mut Vec<u8>, seconds: u64) {
    const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: [&[u8; 3]; 12] =
        [b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec", b"Jan", b"Feb"];
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, so that the leap day is a year's last; 400 of them have 146,097 days.
    let since = days + 719_468;
    let (era, day) = (since / 146_097, since % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month >= 10);
    let two = |number: u64| [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    text[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    text[5..7].copy_from_slice(&two(day));
    text[8..11].copy_from_slice(MONTHS[month as usize]);
    text[12..14].copy_from_slice(&two(year / 100));
    text[14..16].copy_from_slice(&two(year));
    text[17..19].copy_from_slice(&two(time / 3_600));
    text[20..22].copy_from_slice(&two(time / 60 % 60));
    text[23..25].copy_from_slice(&two(time % 60));
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn dates_are_those_of_the_calendar(seconds in 0..253_402_300_800u64) {
            let mut text = Vec::new();
            write(&mut text, seconds);
            let expected = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            prop_assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }
}
