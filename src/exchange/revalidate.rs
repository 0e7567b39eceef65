//! Whether a cached version may be served: how long ago it was compared with the origin, and what a comparison means.

use crate::cache::Cache;
use crate::cache::entry::Lease;
use crate::metrics::labels::Eviction as Departure;
use crate::origin::Found;
use std::io;
use std::time::Duration;

/// When a cached version is to be compared with the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Before it is served.
    Now,
    /// While it is served, so that what is asked for often never waits: in the second half of the interval.
    Soon,
    Later,
}

/// Says so for a version that may be served for `interval` after its last comparison.
pub fn due(lease: &Lease, interval: Duration, now: u64) -> Due {
    let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    let age = now.saturating_sub(lease.checked());
    if interval == 0 || age > interval {
        Due::Now
    } else if age > interval / 2 {
        Due::Soon
    } else {
        Due::Later
    }
}

/// What a comparison of a cached version with the origin found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// The same version.
    Unchanged,
    /// Another version, or something that is no file.
    Changed,
    /// Nothing under this name.
    Gone,
    /// The origin could not say.
    Failed,
}

impl Checked {
    /// Whether the cached version may be served.
    pub fn may_be_served(self) -> bool {
        self == Checked::Unchanged
    }
}

/// Ends a check of `lease` that began at `began` and found this: what no longer is the origin's leaves the cache.
pub fn conclude(cache: &Cache, lease: &Lease, began: u64, found: io::Result<Found>) -> Checked {
    let (checked, departure) = match found {
        Ok(Found::File(identity)) if lease.is_current(identity) => (Checked::Unchanged, None),
        Ok(_) => (Checked::Changed, Some(Departure::Invalidated)),
        Err(error) if means_absent(&error) => (Checked::Gone, Some(Departure::Deleted)),
        Err(_) => (Checked::Failed, Some(Departure::Invalidated)),
    };
    lease.end_check(began, departure.is_none());
    if let Some(departure) = departure {
        cache.remove_entry(lease, departure);
    }
    checked
}

fn means_absent(error: &io::Error) -> bool {
    crate::cache::fill::Failure::of(error) == crate::cache::fill::Failure::NotFound
}
