//! Whether a cached version may be served: how long ago it was compared with the origin, and what a comparison means.

use crate::cache::Cache;
use crate::cache::entry::Lease;
use crate::metrics::labels::Eviction as Departure;
use crate::origin::{Found, RootAbsent};
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

/// Says so for what was compared at `checked`, if it may be served for `interval` after that. What was compared when or before the
/// origin's root was last `exchanged` may have been compared with another one.
pub fn due(checked: u64, interval: Duration, exchanged: u64, now: u64) -> Due {
    let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    let age = now.saturating_sub(checked);
    if interval == 0 || age > interval || checked <= exchanged {
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
    /// There is nothing to compare with: the root is absent at present.
    RootAbsent,
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
        // The file may be what it was when the root is back.
        Err(error) if RootAbsent::caused(&error) => {
            lease.end_check(began, false);
            return Checked::RootAbsent;
        }
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
