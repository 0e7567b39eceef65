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
