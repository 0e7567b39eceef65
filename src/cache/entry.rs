//! A cached file, and leases of it. There can be very many, so what is kept of each is small.

use super::eviction::{Object, Tag};
use super::flight::{Flight, OpenFile};
use super::residency::Residency;
use crate::arena::Allocation;
use crate::planted::{self, Defect};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use crate::sync::{self, Mutex, Race, RwLock};
use crate::version::stored::Stored;
use crate::version::{Change, Described, Trust, Version};
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use triomphe::ThinArc;

/// One version of one file, in the arena as far as it is filled.
pub struct Entry {
    hash: u64,
    content: Content,
    allocation: Allocation,
    /// Bytes that are there; written by the filler only.
    filled: AtomicU64,
    /// Where they all are.
    pub(super) residency: Mutex<Residency>,
    tag: Tag,
    /// When it was last found to be what the disk holds: coarse monotonic nanoseconds. In the first three bits: which
    /// files beside it were found missing since.
    checked: AtomicU64,
    born: u64,
    hits: AtomicU32,
    /// The policy knows it, or did.
    is_admitted: AtomicBool,
    /// A check is under way.
    checking: AtomicBool,
    /// How far the times of the version could be trusted when it was read: a [`Trust`].
    trust: AtomicU8,
}

/// What an entry is of.
enum Content {
    /// A file of the directory that is served.
    File(Described),
    /// A response of a remote origin, whose body has `size` bytes. What is known of it changes when it is validated.
    Response { size: u64, stored: RwLock<Arc<Stored>> },
}

/// The bits of the time in [`Entry::checked`]: 73 years.
const TIME: u64 = u64::MAX >> 3;

/// Bytes of a place in the index, in tables that are half empty, and of those with the policy.
const PLACES_BYTES: usize = 64;

/// Bytes that the memory allocator takes for so many.
const fn allocated(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16)
}

/// Bytes that are kept of an entry beside those of its file: itself with its name, and its places; and `further` ones.
pub fn books(name: &[u8], further: usize) -> u16 {
    const COUNT_AND_LENGTH: usize = 2 * size_of::<usize>();
    let bytes = allocated(COUNT_AND_LENGTH + size_of::<Entry>() + name.len()) + PLACES_BYTES + further;
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// A reference to an entry that is no lease: what the index and the policy keep.
#[derive(Clone)]
pub struct Shared(ThinArc<Entry, u8>);

impl Shared {
    /// An entry for a file.
    pub(super) fn new(fill: &Flight, file: &OpenFile, allocation: Allocation, checked: u64, now: u64) -> Shared {
        let content = Content::File(file.described.clone());
        Shared::of(content, fill, allocation, checked, (now, file.trust(now)))
    }

    /// An entry for a response.
    pub(super) fn of_response(fill: &Flight, stored: Arc<Stored>, allocation: Allocation, now: u64) -> Shared {
        let content = Content::Response { size: stored.kept_bytes(), stored: RwLock::new(stored) };
        Shared::of(content, fill, allocation, now, (now, Trust::Settled))
    }

    fn of(content: Content, fill: &Flight, allocation: Allocation, checked: u64, (now, trust): (u64, Trust)) -> Shared {
        let entry = Entry {
            hash: fill.hash(),
            content,
            allocation,
            filled: AtomicU64::new(0),
            residency: Mutex::new(None),
            tag: Tag::default(),
            checked: AtomicU64::new(checked & TIME),
            born: now,
            hits: AtomicU32::new(0),
            is_admitted: AtomicBool::new(false),
            checking: AtomicBool::new(false),
            trust: AtomicU8::new(trust as u8),
        };
        Shared(ThinArc::from_header_and_slice(entry, fill.name()))
    }

    pub fn name(&self) -> &[u8] {
        &self.0.slice
    }

    /// Whether both are the same version in the same memory.
    pub(super) fn is(&self, other: &Shared) -> bool {
        self.0.as_ptr() == other.0.as_ptr()
    }

    /// How many references and leases there are.
    pub(super) fn count(&self) -> usize {
        ThinArc::strong_count(&self.0)
    }
}

impl Deref for Shared {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.0.header.header
    }
}

impl Object for Shared {
    fn key(&self) -> u64 {
        self.hash
    }

    fn size(&self) -> u64 {
        Entry::size(self)
    }

    fn charged(&self) -> u64 {
        Entry::charged(self)
    }

    fn tag(&self) -> &Tag {
        &self.tag
    }

    fn address(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

/// The bit in [`Entry::checked`] for the file beside it of this number.
fn missing(number: usize) -> u64 {
    debug_assert!(number < 3);
    !TIME & 1 << (61 + number)
}

impl Entry {
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The file, if it is one.
    pub fn described(&self) -> Option<&Described> {
        match &self.content {
            Content::File(described) => Some(described),
            Content::Response { .. } => None,
        }
    }

    /// The response, if it is one, as it is known now.
    pub fn stored(&self) -> Option<Arc<Stored>> {
        match &self.content {
            Content::File(_) => None,
            Content::Response { stored, .. } => Some(stored.read().clone()),
        }
    }

    /// The response was validated, and is known as this from now on. Its body is the same.
    pub(super) fn restore(&self, validated: Arc<Stored>) {
        if let Content::Response { stored, .. } = &self.content {
            *stored.write() = validated;
        }
    }

    /// Bytes of the file, or of the response's body.
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::File(described) => described.version.size,
            Content::Response { size, .. } => *size,
        }
    }

    /// Further bytes of an object that is being written by whoever holds its fill; as many of them as fit. Returns how
    /// many are there now.
    pub(super) fn append(&self, bytes: &[u8]) -> u64 {
        let at = self.filled();
        at + self.allocation.append(self.size(), at, bytes)
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
        u64::from(self.hits.load(Ordering::Relaxed))
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

    /// Counts a hit, for people. Two workers at the same instant may lose one: a locked instruction on every hit is not
    /// worth it.
    pub(super) fn count_hit(&self) {
        self.hits.store(self.hits.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
    }

    /// It is cached, or was.
    pub(super) fn was_admitted(&self) -> bool {
        self.is_admitted.load(Ordering::Relaxed)
    }

    /// It is cached from now on.
    pub(super) fn set_admitted(&self) {
        self.is_admitted.store(true, Ordering::Relaxed);
    }

    /// When it was last found to be what the disk holds.
    pub fn checked(&self) -> u64 {
        self.checked.load(Ordering::Relaxed) & TIME
    }

    /// Whether the file beside it of this number, below 3, was found missing since this entry was last found current.
    pub fn is_missing(&self, number: usize) -> bool {
        self.checked.load(Ordering::Relaxed) & missing(number) != 0
    }

    /// The file beside it of this number, below 3, was found missing after this entry was found current at `checked`.
    pub fn note_missing(&self, number: usize, checked: u64) {
        let note = |known: u64| (known & TIME == checked).then_some(known | missing(number));
        // Otherwise it was found current again, and the other file may have come since.
        let _ = self.checked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, note);
    }

    /// Claims the check of this entry; false if another one is under way.
    pub fn begin_check(&self) -> bool {
        if self.checking.load(Ordering::Relaxed) {
            return false;
        }
        if sync::is_planted(Race::CheckClaimedTwice) {
            self.checking.store(true, Ordering::Relaxed);
            return true;
        }
        !self.checking.swap(true, Ordering::Relaxed)
    }

    /// A check that began at `began` is over; `current` if it found the same version.
    pub fn end_check(&self, began: u64, current: bool) {
        if current {
            let later = |known: u64| (known & TIME < began).then_some(began & TIME);
            let _ = self.checked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        }
        self.checking.store(false, Ordering::Relaxed);
    }

    /// The file is read `now`, later than its entry was made.
    pub(super) fn read_at(&self, file: &OpenFile, now: u64) {
        self.trust.store(file.trust(now) as u8, Ordering::Relaxed);
    }

    /// Whether its bytes are to be compared with those of the file, too: it was read so shortly after a change that a
    /// further one may have left the same times, and by now that would show.
    pub fn needs_second_look(&self, now: u64) -> bool {
        let trust = self.trust.load(Ordering::Relaxed);
        let is_due =
            trust == Trust::Fresh as u8 || trust == Trust::Unsettled as u8 && self.trust_after(now) == Trust::Settled;
        is_due && self.is_whole() && !planted::is(Defect::NoSecondLook)
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
        self.described().is_some_and(|described| described.version.compare(found, || true) == Change::Same)
    }
}

/// The right to read an entry's bytes: as long as there is one, its memory is not given to another file.
#[derive(Clone)]
pub struct Lease(Shared);

impl Lease {
    pub(super) fn new(entry: Shared) -> Lease {
        Lease(entry)
    }

    pub fn name(&self) -> &[u8] {
        self.0.name()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Whether both are leases of the same version in the same memory.
    pub fn is(&self, other: &Lease) -> bool {
        self.0.is(&other.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 160);
        assert_eq!(usize::from(books(b"assets/00000000.json", 0)), 208 + PLACES_BYTES);
    }
}
