//! The duty that comes with a fill: whoever begins one brings it to an end.

use super::Cache;
use super::entry::Lease;
use super::flight::{Bypass, Failure, Flight, OpenFile};
use super::passes::Asker;
use crate::origin::remote::Passing;
use crate::version::stored::Stored;
use crate::wake::Waiter;
use std::ops::Deref;
use std::sync::Arc;

/// The right to read a file for all who wait for it. One that is dropped before its fill has ended fails the fill, so
/// that nobody waits for ever.
///
/// Whatever moves the fill on returns those who wait for it, to be told by the caller.
pub struct FillPermit {
    cache: Arc<Cache>,
    fill: Arc<Flight>,
    is_over: bool,
}

impl FillPermit {
    pub(super) fn new(cache: &Arc<Cache>, fill: Arc<Flight>) -> FillPermit {
        FillPermit { cache: cache.clone(), fill, is_over: false }
    }

    /// What others join.
    pub fn fill(&self) -> &Arc<Flight> {
        &self.fill
    }

    /// The file is open, and was found under its name at `checked`: memory is reserved for it, evicting what the policy
    /// gives up.
    ///
    /// # Errors
    /// Why the file is served uncached.
    pub fn reserve(&self, file: &OpenFile, checked: u64, now: u64) -> Result<Lease, Bypass> {
        self.cache.reserve(&self.fill, file, checked, now)
    }

    /// The file is being read into `entry`: those who wait can have what there is.
    pub fn start(&self, entry: &Lease, file: Arc<OpenFile>) -> Vec<Waiter> {
        self.cache.start(&self.fill, entry, file)
    }

    /// `filled` bytes are there now.
    pub fn advance(&self, entry: &Lease, filled: u64) -> Vec<Waiter> {
        self.cache.advance(&self.fill, entry, filled)
    }

    /// The file is being read into the page cache: those who wait can have it from there as far as it is.
    pub fn fetch(&self, entry: &Lease, file: Arc<OpenFile>) -> Vec<Waiter> {
        self.cache.fetch(&self.fill, entry, file)
    }

    /// It is there up to byte `to` now.
    pub fn fetched(&self, file: &OpenFile, to: u64) -> Vec<Waiter> {
        self.cache.fetched(&self.fill, file, to)
    }

    /// The file is still being read for those who wait, but nobody joins them, and it will not be cached.
    pub fn detach(&self) {
        self.cache.withdraw(&self.fill);
    }

    /// The file is whole: it is cached from now on, unless its name was removed or the fill detached meanwhile.
    pub fn publish(mut self, entry: Lease) -> Vec<Waiter> {
        self.is_over = true;
        self.cache.publish(&self.fill, entry)
    }

    /// The file is not cached: those who wait serve it from the open file.
    pub fn pass(mut self, file: Arc<OpenFile>, bypass: Bypass) -> Vec<Waiter> {
        self.is_over = true;
        self.cache.pass(&self.fill, file, bypass)
    }

    /// Caches the file without its bytes. The one who waits for the fill sends it from the open file.
    ///
    /// # Errors
    /// Not possible (any more): it is to be read now.
    pub fn defer(mut self, entry: &Lease, file: &Arc<OpenFile>) -> Result<Vec<Waiter>, FillPermit> {
        match self.cache.defer(&self.fill, entry, file) {
            Some(waiters) => {
                self.is_over = true;
                Ok(waiters)
            }
            None => Err(self),
        }
    }

    /// Memory is reserved for a response, evicting what the policy gives up.
    ///
    /// # Errors
    /// Why it is passed on uncached.
    pub fn reserve_response(&self, stored: Arc<Stored>, now: u64) -> Result<Lease, Bypass> {
        self.cache.reserve_response(&self.fill, stored, now)
    }

    /// The body of a response is coming into `entry`: those who wait can have what there is.
    pub fn arrive(&self, entry: &Lease) -> Vec<Waiter> {
        self.cache.arrive(&self.fill, entry)
    }

    /// Tells whoever waits of an interim response, for as long as the fill is under way.
    pub fn informer(&self) -> impl Fn(Arc<[u8]>) + Send + Sync + 'static {
        let (cache, fill) = (self.cache.clone(), self.fill.clone());
        move |head| cache.wake.wake(fill.inform(head))
    }

    /// The answer may be stored, or is for one request alone: so is probably the next one for such an asker.
    pub fn mark_passed(&self, is_passed: bool, asker: Asker, now: u64) {
        match is_passed {
            true => self.cache.passes.mark(self.fill.hash(), asker, now),
            false => self.cache.passes.clear(self.fill.hash(), asker),
        }
    }

    /// Further bytes have come; beyond the entry's size there is no room for any.
    pub fn append(&self, entry: &Lease, bytes: &[u8]) -> Vec<Waiter> {
        self.cache.advance(&self.fill, entry, entry.append(bytes))
    }

    /// The origin says that what is [validated](Flight::stale) is current, and that this is known of it now.
    pub fn confirm(mut self, stored: Arc<Stored>) -> Vec<Waiter> {
        self.is_over = true;
        self.cache.confirm(&self.fill, stored)
    }

    /// The origin fails, and what was to be validated is served all the same.
    pub fn excuse(mut self) -> Vec<Waiter> {
        self.is_over = true;
        self.cache.excuse(&self.fill)
    }

    /// The origin's answer is for whoever asked for it alone.
    pub fn pass_on(mut self, passing: Arc<Passing>) -> Vec<Waiter> {
        self.is_over = true;
        self.cache.pass_on(&self.fill, passing)
    }

    /// The file cannot be had: those who wait are told why.
    pub fn fail(mut self, failure: Failure) -> Vec<Waiter> {
        self.is_over = true;
        self.cache.fail(&self.fill, failure)
    }
}

impl Deref for FillPermit {
    type Target = Flight;

    fn deref(&self) -> &Flight {
        &self.fill
    }
}

impl Drop for FillPermit {
    fn drop(&mut self) {
        if !self.is_over {
            let waiters = self.cache.fail(&self.fill, Failure::Io(libc::ECANCELED));
            self.cache.wake.wake(waiters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Lookup;
    use super::super::flight::Progress;
    use super::super::testing::{cache, lead, open};
    use super::*;

    #[test]
    fn a_permit_that_is_dropped_fails_its_fill() {
        let (cache, woken) = cache();
        let permit = lead(&cache, b"a");
        let Lookup::Join(fill) = cache.find(b"a") else { panic!("it is being read") };
        let waiter = || Waiter::Ring { worker: 0, message: 1 };
        assert!(fill.poll(None, waiter).is_none() && fill.poll(None, waiter).is_none());
        drop(permit);
        assert_eq!(*woken.0.lock(), 1, "told once");
        assert!(matches!(fill.poll(None, waiter), Some(Progress::Failed(Failure::Io(_)))));
        drop(lead(&cache, b"a"));
    }

    #[test]
    fn one_that_is_dropped_while_it_reads_gives_everything_back() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, _) = cache();
        let permit = lead(&cache, b"a");
        let file = open(directory.path(), &permit, 50_000);
        let entry = permit.reserve(&file, 1, 1).unwrap();
        permit.start(&entry, file);
        drop((permit, entry));
        assert_eq!(cache.snapshot(1).leased_bytes, 0);
        assert_eq!(cache.arena().usage().live_bytes, 0);
        drop(lead(&cache, b"a"));
    }

    /// However a deferred entry leaves, nobody finds it in the index when its file has been taken: whoever looks for it
    /// again finds something to go on with.
    #[test]
    fn a_deferred_entry_leaves_with_its_file() {
        use super::super::residency::Resumed;
        let directory = tempfile::tempdir().unwrap();
        let (cache, _) = cache();
        let permit = lead(&cache, b"a");
        let file = open(directory.path(), &permit, 50_000);
        let entry = permit.reserve(&file, 1, 1).unwrap();
        assert!(permit.defer(&entry, &file).is_ok());
        cache.evict(entry.shared());
        assert!(cache.resume(&entry, 1).is_none() && !entry.is_whole(), "it is gone");
        let again = lead(&cache, b"a");
        assert!(again.take_opened().is_some(), "its file is still open");
        drop(again);
        // One that is wanted first is read, and joined by others.
        let permit = lead(&cache, b"b");
        let file = open(directory.path(), &permit, 50_000);
        let entry = permit.reserve(&file, 1, 1).unwrap();
        assert!(permit.defer(&entry, &file).is_ok());
        let Some(Resumed::Begun(permit)) = cache.resume(&entry, 1) else { panic!("it is deferred") };
        assert!(matches!(cache.resume(&entry, 1), Some(Resumed::Joined(_))));
        permit.advance(&entry, 50_000);
        permit.publish(entry.clone());
        assert!(cache.resume(&entry, 1).is_none() && entry.is_whole());
    }
}
