//! Whether a cached version may be served: how long ago it was compared with the origin, and what a comparison means.

use crate::cache::Cache;
use crate::cache::entry::Lease;
use crate::cache::flight::Failure;
use crate::cache::stats::Departure;
use crate::origin::Found;
use crate::planted::{self, Defect};
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

/// Says so for what was compared at `checked`, if it may be served for `interval` after that. What was compared when or
/// before the origin's root was last `exchanged` may have been compared with another one.
pub fn due(checked: u64, interval: Duration, exchanged: u64, now: u64) -> Due {
    let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    let age = now.saturating_sub(checked) / if planted::is(Defect::StaleForLonger) { 2 } else { 1 };
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
    /// It may not be looked at any more.
    Denied,
    /// The origin could not say: no descriptor or no memory was to be had, or the storage failed. That says nothing
    /// against what is cached, which is served on; the next request asks again.
    Failed,
    /// There is nothing to compare with: the root is absent at present.
    RootAbsent,
}

impl Checked {
    /// Whether the cached version may be served.
    pub fn may_be_served(self) -> bool {
        matches!(self, Checked::Unchanged | Checked::Failed)
    }
}

/// Ends a check of `lease` that began at `began` and found this: what no longer is the origin's leaves the cache.
/// `same_bytes` says how the second look at its bytes turned out, if it was
/// [due](crate::cache::entry::Entry::needs_second_look).
pub fn conclude(
    cache: &Cache,
    lease: &Lease,
    began: u64,
    found: io::Result<Found>,
    same_bytes: Option<bool>,
) -> Checked {
    if same_bytes == Some(true) {
        lease.confirm(began);
    }
    let checked = match found {
        Ok(Found::File(version)) if lease.is_current(&version) && same_bytes != Some(false) => Checked::Unchanged,
        Ok(_) => Checked::Changed,
        Err(error) => match Failure::of(&error) {
            Failure::NotFound => Checked::Gone,
            Failure::Forbidden | Failure::IsDirectory => Checked::Denied,
            Failure::Changed | Failure::Io(_) | Failure::Remote(_) => Checked::Failed,
            // The file may be what it was when the root is back.
            Failure::RootAbsent => Checked::RootAbsent,
        },
    };
    let confirms = planted::is(Defect::FailedCheckConfirms) && checked == Checked::Failed;
    lease.end_check(began, checked == Checked::Unchanged || confirms);
    match checked {
        Checked::Unchanged | Checked::Failed | Checked::RootAbsent => {}
        Checked::Changed | Checked::Denied => cache.remove_entry(lease, Departure::Invalidated),
        Checked::Gone => cache.remove_entry(lease, Departure::Deleted),
    }
    checked
}
