//! A cached file, and leases of it.

use super::eviction::Tag;
use super::flight::{Flight, OpenFile};
use super::residency::Residency;
use crate::arena::Allocation;
use crate::version::{Change, Described, Trust, Version};
use parking_lot::Mutex;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// One version of one file, in the arena as far as it is filled.
pub struct Entry {
    name: Arc<[u8]>,
    hash: u64,
    described: Described,
    allocation: Allocation,
    /// Bytes that are there; written by the filler only.
    filled: AtomicU64,
    /// Where they all are.
    pub(super) residency: Mutex<Residency>,
    /// What the policy knows it by; set when it is published.
    tag: OnceLock<Arc<Tag>>,
    pub(super) hits: AtomicU64,
    /// When it was last found to be what the disk holds: coarse monotonic nanoseconds.
    checked: AtomicU64,
    /// A check is under way.
    checking: AtomicBool,
    /// Which files beside it are missing: a bit for each of three, in the place of the last bits of the time for which that holds.
    missing: AtomicU64,
    born: u64,
    /// How far the times of the version could be trusted when it was read: a [`Trust`].
    trust: AtomicU8,
}

/// The bits of [`Entry::is_missing`].
const MISSING: u64 = 0b111;

/// Bytes of a place in the index, one among the residents and two with the policy, in tables that are half empty.
const PLACES_BYTES: usize = 160;

/// Bytes that the memory allocator takes for so many.
const fn allocated(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16)
}

/// Bytes that are kept of an entry beside those of its file: itself, its name, what the policy knows of it, and its places.
pub fn books(name: &[u8]) -> u32 {
    const REFERENCES: usize = 2 * size_of::<usize>();
    let own = allocated(REFERENCES + size_of::<Entry>()) + allocated(REFERENCES + size_of::<Tag>()) + PLACES_BYTES;
    (own + allocated(REFERENCES + name.len())) as u32
}

impl Entry {
    pub(super) fn new(fill: &Flight, file: &OpenFile, allocation: Allocation, checked: u64, now: u64) -> Entry {
        Entry {
            name: fill.shared_name().clone(),
            hash: fill.hash(),
            described: file.described.clone(),
            allocation,
            filled: AtomicU64::new(0),
            residency: Mutex::new(Residency::Resident),
            tag: OnceLock::new(),
            hits: AtomicU64::new(0),
            checked: AtomicU64::new(checked),
            checking: AtomicBool::new(false),
            missing: AtomicU64::new(0),
            born: now,
            trust: AtomicU8::new(file.trust(now) as u8),
        }
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    pub(super) fn shared_name(&self) -> &Arc<[u8]> {
        &self.name
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn described(&self) -> &Described {
        &self.described
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.described.version.size
    }

    /// Bytes of budget that it costs.
    pub fn charged(&self) -> u64 {
        self.allocation.charged()
    }

    /// Where it begins in the arena's memfd.
    pub fn offset(&self) -> u64 {
        self.allocation.offset()
    }

    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// When it was read: coarse monotonic nanoseconds.
    pub fn born(&self) -> u64 {
        self.born
    }

    /// Bytes that are there so far.
    pub fn filled(&self) -> u64 {
        self.filled.load(Ordering::Acquire)
    }

    /// All bytes are there: of a cached file they are, unless they were [deferred](super::residency).
    pub fn is_whole(&self) -> bool {
        self.filled() == self.size()
    }

    pub(super) fn set_filled(&self, filled: u64) {
        self.filled.store(filled, Ordering::Release);
    }

    /// The bytes that are there so far.
    pub fn bytes(&self) -> &[u8] {
        self.allocation.filled(self.filled())
    }

    pub fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// The memfd, for sending by reference; `None` when its pages are shared with other files.
    pub fn reference(&self) -> Option<RawFd> {
        self.allocation.is_extent().then(|| self.allocation.arena().as_raw_fd())
    }

    pub(super) fn tag(&self) -> Option<&Arc<Tag>> {
        self.tag.get()
    }

    /// It is cached, or was.
    pub(super) fn was_admitted(&self) -> bool {
        self.tag.get().is_some()
    }

    pub(super) fn make_tag(&self, resident: u32) -> Arc<Tag> {
        self.tag.get_or_init(|| Arc::new(Tag::new(self.hash, self.size(), self.charged(), resident))).clone()
    }

    /// When it was last found to be what the disk holds.
    pub fn checked(&self) -> u64 {
        self.checked.load(Ordering::Relaxed)
    }

    /// Whether the file beside it of this number, below 3, was found missing since this entry was last found current.
    pub fn is_missing(&self, number: usize) -> bool {
        let missing = self.missing.load(Ordering::Relaxed);
        missing & !MISSING == self.checked() & !MISSING && missing & (1 << number) != 0
    }

    /// The file beside it of this number, below 3, was found missing after this entry was found current at `checked`.
    pub fn note_missing(&self, number: usize, checked: u64) {
        debug_assert!(1 << number <= MISSING);
        let now = checked & !MISSING;
        let note = |missing: u64| {
            let known = if missing & !MISSING == now { missing } else { now };
            (missing & !MISSING <= now).then_some(known | 1 << number)
        };
        let _ = self.missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, note);
    }

    /// Claims the check of this entry; false if another one is under way.
    pub fn begin_check(&self) -> bool {
        !self.checking.load(Ordering::Relaxed) && !self.checking.swap(true, Ordering::Relaxed)
    }

    /// A check that began at `began` is over; `current` if it found the same version.
    pub fn end_check(&self, began: u64, current: bool) {
        if current {
            self.checked.fetch_max(began, Ordering::Relaxed);
        }
        self.checking.store(false, Ordering::Relaxed);
    }

    /// The file is read `now`, later than its entry was made.
    pub(super) fn read_at(&self, file: &OpenFile, now: u64) {
        self.trust.store(file.trust(now) as u8, Ordering::Relaxed);
    }

    /// Whether its bytes are to be compared with those of the file, too: it was read so shortly after a change that a further one may
    /// have left the same times, and by now that would show.
    pub fn needs_second_look(&self, now: u64) -> bool {
        let trust = self.trust.load(Ordering::Relaxed);
        let is_due =
            trust == Trust::Fresh as u8 || trust == Trust::Unsettled as u8 && self.trust_after(now) == Trust::Settled;
        is_due && self.is_whole()
    }

    /// A second look that began `now` found its bytes to be those of the file.
    pub fn confirm(&self, now: u64) {
        self.trust.store(self.trust_after(now) as u8, Ordering::Relaxed);
    }

    /// How far its times can be trusted if its bytes are those that the file has `now`.
    fn trust_after(&self, now: u64) -> Trust {
        Trust::after(Some(Duration::from_nanos(now.saturating_sub(self.born))))
    }

    /// Whether `found` on the disk is the version that is cached, as far as times can tell.
    pub fn is_current(&self, found: &Version) -> bool {
        self.described.version.compare(found, || true) == Change::Same
    }
}

/// The right to read an entry's bytes: as long as there is one, its memory is not given to another file.
#[derive(Clone)]
pub struct Lease(Arc<Entry>);

impl Lease {
    pub(super) fn new(entry: Arc<Entry>) -> Lease {
        Lease(entry)
    }

    /// The entry without the right to it.
    pub fn downgrade(&self) -> Weak<Entry> {
        Arc::downgrade(&self.0)
    }

    /// A lease, if the entry still has its memory.
    pub fn upgrade(entry: &Weak<Entry>) -> Option<Lease> {
        entry.upgrade().map(Lease)
    }

    pub(super) fn shared(&self) -> &Arc<Entry> {
        &self.0
    }

    /// Whether both are leases of the same version in the same memory.
    pub fn is(&self, other: &Lease) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Lease {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.0
    }
}

/// The bytes that are there so far: all, for a file that is cached.
impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}
