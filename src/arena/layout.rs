//! Where objects lie in the arena's virtual range, and what they cost of its physical budget. Pure accounting: no
//! system calls, no memory.
//!
//! ```text
//! offset 0                                                                                    virtual_bytes
//! | extents of 16 KiB | extents of 32 KiB | ... | extents of 64 MiB | slabs of 4 KiB | .. | slabs of 32 KiB |
//! | 2 x capacity each: cannot run out before the budget does        | 1 x capacity each                     |
//!
//! an extent (object above `packed_max`)          a slab (objects up to `packed_max`), always of one class
//! |####################|.......................|  |#slot#|#slot#|......|#slot#|...|#slot#|
//! |<- charged, pages ->|<- never touched ----->|  |<------- charged whole, when carved ---->|
//! |<- slot: a power of two ------------------->|
//! ```
//!
//! Extents are given back whole, page for page, and their pages stay charged until [`Layout::reclaim`] says that the
//! kernel has them; those that no socket can refer to stay resident and idle instead ([`Layout::retain`]). Slots of a
//! slab are reused in place; a slab whose last slot is given back stays resident as an *idle* one, serves any class of
//! its slab size, and is given up (see [`Shortage`]) when the budget runs short.
//!
//! What the cache keeps of an object beside its bytes (the *books*: its entry, its name, its places in index and
//! policy) is charged, too, as far as all of it exceeds [`limits::INDEX_BYTES`]: many small objects cost more there
//! than in their slots.
//!
//! External fragmentation does not exist for extents: the pages are what costs, and the MMU puts them side by side. For
//! slabs it is the free slots of slabs in use, kept low by small slabs and by filling the fullest slab first.

use crate::limits;
use std::collections::{BTreeMap, BTreeSet};

/// The unit of the budget, bytes.
pub const PAGE: u64 = 4 << 10;
/// The folio size that the arena populates large extents with; slots at least this large are aligned to it.
pub const FOLIO: u64 = 64 << 10;
/// Every class's range begins at a multiple of this, so that huge pages of any size can be used inside it.
const REGION_ALIGN: u64 = 2 << 20;
/// The slab sizes, bytes. A class uses the one that its slots fill best, the smallest of equals: small slabs leave
/// fewer free slots behind (measured beside slabs from 16 KiB on, with 16 MiB of small files: 1.3 % more of the budget
/// is live).
const SLAB_SIZES: [u64; 8] = [4 << 10, 8 << 10, 12 << 10, 16 << 10, 20 << 10, 24 << 10, 28 << 10, 32 << 10];
/// The smallest slot, bytes: a cache line.
const SLOT_MIN: u64 = 64;
/// Slots begin at multiples of this, bytes.
pub(super) const SLOT_ALIGN: u64 = 16;
/// What one slab's map of used slots can hold.
const SLAB_SLOTS_MAX: u64 = 256;
/// `packed_max` may not exceed this, so that two slots fit the largest slab.
pub const PACKED_MAX_LIMIT: u64 = 16 << 10;

/// The largest object, whatever the capacity: what a [`Compact`](super::compact::Compact) can say.
const OBJECT_MAX: u64 = u32::MAX as u64 * SLOT_ALIGN - PAGE;

const _: () = assert!(SLAB_SIZES[0] / SLOT_MIN <= SLAB_SLOTS_MAX);
const _: () = assert!(PACKED_MAX_LIMIT * 2 <= SLAB_SIZES[7]);
const _: () = assert!(REGION_ALIGN.is_multiple_of(FOLIO) && FOLIO.is_multiple_of(PAGE));

/// Where one object lies in the arena's virtual range, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Byte offset in the arena.
    pub offset: u64,
    /// The object's bytes.
    pub size: u64,
    /// Bytes of budget it is accounted for: its whole pages, or its slot of a slab.
    pub charged: u64,
    /// Bytes that the cache keeps of it elsewhere.
    pub books: u16,
    pub place: Place,
}

/// Which part of the arena a slot belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A slot of a slab: shares pages with others, and is reused in place.
    Packed { class: u8, slab: u32, index: u16 },
    /// Pages of its own: replaced by fresh ones after use.
    Extent { class: u8, index: u32 },
}

/// A range whose pages must go back to the kernel. It stays charged until it is handed to [`Layout::reclaim`]; it can
/// be neither copied nor made elsewhere, so no range is reclaimed twice.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the range stays charged until it is punched and reclaimed"]
pub struct Punch {
    /// Byte offset in the arena.
    pub offset: u64,
    /// Length in bytes, a multiple of [`PAGE`].
    pub len: u64,
    range: Range,
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Slab { region: u8, slab: u32 },
    Extent { class: u8, index: u32 },
}

/// Why [`Layout::take`] could not give a slot.
#[derive(Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Charged bytes that evicted objects have to bring back before it is worth asking again, beyond what `punches`
    /// bring back. For a packed object this is one slot, not one slab: a slot of its class may be all that is needed.
    pub bytes: u64,
    /// Idle slabs and extents given up for this request: to be punched and reclaimed before asking again.
    pub punches: Vec<Punch>,
}

/// The use of one class, for a picture of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassUse {
    /// The largest object that fits, bytes.
    pub slot_bytes: u64,
    /// Whether its slots are packed in slabs.
    pub packed: bool,
    /// Slots carved, live or not. For extents this is the live ones and those that wait for reclaim.
    pub slots: u64,
    /// Slots that hold an object.
    pub live: u64,
    /// Bytes of budget the class holds.
    pub resident_bytes: u64,
}

/// Slots of one power of two.
#[derive(Debug, Default)]
struct ExtentClass {
    base: u64,
    slot_bytes: u64,
    /// Slots at and above this have never been used.
    fresh: u32,
    free: Vec<u32>,
    /// Slots whose pages are still there and may be rewritten, by the bytes they are charged.
    idle: BTreeMap<u64, Vec<u32>>,
    live: u64,
    resident: u64,
}

/// Slots of one size in slabs of one size.
#[derive(Debug)]
struct PackedClass {
    slot_bytes: u64,
    /// Slots in one slab.
    slots: u16,
    region: u8,
    /// Slabs with free slots, the fullest first: (free slots, slab).
    partial: BTreeSet<(u16, u32)>,
    slabs: u64,
    live: u64,
}

/// All slabs of one size.
#[derive(Debug)]
struct SlabRegion {
    base: u64,
    slab_bytes: u64,
    slabs: Vec<Slab>,
    /// Slabs without pages.
    vacant: Vec<u32>,
    /// Resident slabs without objects.
    idle: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Slab {
    class: u8,
    live: u16,
    used: [u64; (SLAB_SLOTS_MAX / 64) as usize],
}

/// The accounting of one arena.
#[derive(Debug)]
pub struct Layout {
    capacity: u64,
    packed_max: u64,
    resident: u64,
    live: u64,
    /// Bytes of the books of all objects, and how many of them are not charged.
    books: u64,
    books_free: u64,
    virtual_bytes: u64,
    packed: Vec<PackedClass>,
    regions: Vec<SlabRegion>,
    extents: Vec<ExtentClass>,
    /// log2 of the first extent class's slot size.
    extents_first: u32,
}

impl Layout {
    /// `capacity`: bytes of physical budget, used in whole pages. `packed_max`: objects up to this many bytes are
    /// packed in slabs (and sent by copy); 0: none are. It is held to [`PACKED_MAX_LIMIT`], and to 0 when not even one
    /// slab fits.
    pub fn new(capacity: u64, packed_max: u64) -> Layout {
        let capacity = capacity / PAGE * PAGE;
        let smallest_possible = capacity >= SLAB_SIZES[SLAB_SIZES.len() - 1];
        let packed_max = if smallest_possible { packed_max.min(PACKED_MAX_LIMIT) } else { 0 };

        let mut end = 0;
        let extents_first = (packed_max + 1).next_multiple_of(PAGE).next_power_of_two().trailing_zeros();
        let extents_last = capacity.max(PAGE).next_power_of_two().trailing_zeros();
        let extents = (extents_first..=extents_last.max(extents_first))
            .map(|bits| {
                let slot_bytes = 1u64 << bits;
                let base = end;
                // An extent is charged more than half of its slot, so twice the capacity holds all there can be.
                let slots = ((capacity * 2) >> bits).max(1);
                end = (base + slots * slot_bytes).next_multiple_of(REGION_ALIGN);
                ExtentClass { base, slot_bytes, ..ExtentClass::default() }
            })
            .collect();
        let packed = if packed_max == 0 { Vec::new() } else { packed_classes(packed_max) };
        let regions = SLAB_SIZES
            .iter()
            .map(|&slab_bytes| {
                let base = end;
                if packed_max > 0 {
                    end = (base + capacity / slab_bytes * slab_bytes).next_multiple_of(REGION_ALIGN);
                }
                SlabRegion { base, slab_bytes, slabs: Vec::new(), vacant: Vec::new(), idle: Vec::new() }
            })
            .collect();
        Layout {
            capacity,
            packed_max,
            resident: 0,
            live: 0,
            books: 0,
            books_free: limits::INDEX_BYTES,
            virtual_bytes: end,
            packed,
            regions,
            extents,
            extents_first,
        }
    }

    /// Bytes of physical budget.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Objects up to this many bytes are packed in slabs.
    pub fn packed_max(&self) -> u64 {
        self.packed_max
    }

    /// Length of the virtual range, bytes: the size of the memfd.
    pub fn virtual_bytes(&self) -> u64 {
        self.virtual_bytes
    }

    /// Bytes of budget in use, with idle slabs and ranges that wait for reclaim: never less than the physical pages,
    /// never more than the capacity.
    pub fn resident(&self) -> u64 {
        self.resident
    }

    /// Bytes of the objects that hold a slot.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Bytes of budget that an object of `size` bytes would be accounted for; `None` if it can never fit.
    pub fn charged(&self, size: u64) -> Option<u64> {
        if size > self.capacity.min(OBJECT_MAX) {
            return None;
        }
        match self.packed_class(size) {
            Some(class) => Some(self.packed[class].slot_bytes),
            None => Some(size.max(1).next_multiple_of(PAGE)),
        }
    }

    /// Takes a slot for an object of `size` bytes, of which `books` bytes are kept elsewhere, if the budget allows it.
    /// For an object that can never fit (see [`Layout::charged`]) the shortage is what it exceeds the capacity by,
    /// whatever is given back.
    pub fn take(&mut self, size: u64, books: u16) -> Result<Slot, Shortage> {
        let booked = self.charged_books(self.books + u64::from(books)) - self.charged_books(self.books);
        let slot = match self.packed_class(size) {
            Some(class) => self.take_packed(class, size, booked)?,
            None => self.take_extent(size, booked)?,
        };
        self.live += size;
        self.books += u64::from(books);
        Ok(Slot { books, ..slot })
    }

    /// How much of so many bytes of books is charged.
    fn charged_books(&self, books: u64) -> u64 {
        books.saturating_sub(self.books_free)
    }

    /// Bytes of budget that are left.
    fn available(&self) -> u64 {
        (self.capacity - self.resident).saturating_sub(self.charged_books(self.books))
    }

    /// Gives a slot back. If this leaves pages that must go back to the kernel, returns their range: punch it, then
    /// call [`Layout::reclaim`].
    pub fn release(&mut self, slot: Slot) -> Option<Punch> {
        self.live -= slot.size;
        self.books -= u64::from(slot.books);
        match slot.place {
            Place::Extent { class, index } => {
                self.extents[class as usize].live -= 1;
                Some(Punch { offset: slot.offset, len: slot.charged, range: Range::Extent { class, index } })
            }
            Place::Packed { class, slab, index } => {
                self.release_packed(class, slab, index);
                None
            }
        }
    }

    /// Gives a slot back whose pages nobody else refers to: an extent's stay resident, and serve the next object of the
    /// same number of pages, until the budget runs short.
    pub fn retain(&mut self, slot: Slot) {
        match slot.place {
            Place::Extent { class, index } => {
                self.live -= slot.size;
                self.books -= u64::from(slot.books);
                let class = &mut self.extents[class as usize];
                class.live -= 1;
                class.resident -= slot.charged;
                class.idle.entry(slot.charged).or_default().push(index);
            }
            Place::Packed { .. } => {
                let punch = self.release(slot);
                debug_assert!(punch.is_none(), "slabs become idle by themselves");
            }
        }
    }

    /// The range has no pages any more: its budget is free again.
    pub fn reclaim(&mut self, punch: Punch) {
        self.resident -= punch.len;
        match punch.range {
            Range::Slab { region, slab } => self.regions[region as usize].vacant.push(slab),
            Range::Extent { class, index } => {
                let class = &mut self.extents[class as usize];
                class.resident -= punch.len;
                class.free.push(index);
            }
        }
    }

    /// The use of every class that holds anything, packed ones first, by rising slot size.
    pub fn classes(&self) -> Vec<ClassUse> {
        let packed = self.packed.iter().map(|class| ClassUse {
            slot_bytes: class.slot_bytes,
            packed: true,
            slots: class.slabs * u64::from(class.slots),
            live: class.live,
            resident_bytes: class.slabs * self.regions[class.region as usize].slab_bytes,
        });
        let extents = self.extents.iter().map(|class| ClassUse {
            slot_bytes: class.slot_bytes,
            packed: false,
            slots: u64::from(class.fresh)
                - class.free.len() as u64
                - class.idle.values().map(Vec::len).sum::<usize>() as u64,
            live: class.live,
            resident_bytes: class.resident,
        });
        packed.chain(extents).filter(|class| class.slots > 0).collect()
    }

    /// Resident bytes of slabs and extents that hold no object.
    pub fn idle(&self) -> u64 {
        let slabs = self.regions.iter().map(|region| region.idle.len() as u64 * region.slab_bytes);
        let extents =
            self.extents.iter().flat_map(|class| &class.idle).map(|(charged, idle)| charged * idle.len() as u64);
        slabs.chain(extents).sum()
    }

    fn packed_class(&self, size: u64) -> Option<usize> {
        (size <= self.packed_max && self.packed_max > 0)
            .then(|| self.packed.partition_point(|class| class.slot_bytes < size))
    }

    fn take_extent(&mut self, size: u64, booked: u64) -> Result<Slot, Shortage> {
        let charged = size.max(1).next_multiple_of(PAGE);
        let available = self.available();
        let class = (charged.next_power_of_two().trailing_zeros() - self.extents_first) as usize;
        let may_be_idle = self.extents.get_mut(class).filter(|_| booked <= available);
        if let Some(index) = may_be_idle.and_then(|extents| extents.pop_idle(charged)) {
            self.extents[class].live += 1;
            self.extents[class].resident += charged;
            return Ok(self.extents[class].slot(class, index, size, charged));
        }
        if charged + booked > available {
            return Err(self.shortage(charged + booked - available, u64::MAX));
        }
        let extents = &mut self.extents[class];
        let index = extents.free.pop().unwrap_or_else(|| {
            extents.fresh += 1;
            extents.fresh - 1
        });
        extents.live += 1;
        extents.resident += charged;
        self.resident += charged;
        Ok(extents.slot(class, index, size, charged))
    }

    fn take_packed(&mut self, class: usize, size: u64, booked: u64) -> Result<Slot, Shortage> {
        let (available, slot_bytes) = (self.available(), self.packed[class].slot_bytes);
        if booked > available {
            return Err(self.shortage(booked - available, slot_bytes));
        }
        let slab = match self.packed[class].partial.pop_first() {
            Some((_, slab)) => slab,
            None => self.carve(class, available - booked)?,
        };
        let packed = &mut self.packed[class];
        let region = &mut self.regions[packed.region as usize];
        let carved = &mut region.slabs[slab as usize];
        let index = carved.use_first_free();
        if carved.live < packed.slots {
            packed.partial.insert((packed.slots - carved.live, slab));
        }
        packed.live += 1;
        let offset = region.base + u64::from(slab) * region.slab_bytes + u64::from(index) * slot_bytes;
        let place = Place::Packed { class: class as u8, slab, index };
        Ok(Slot { offset, size, charged: slot_bytes, books: 0, place })
    }

    /// A slab for `class`: an idle one, or a new one if it fits `available` bytes of budget.
    fn carve(&mut self, class: usize, available: u64) -> Result<u32, Shortage> {
        let packed = &mut self.packed[class];
        let region = &mut self.regions[packed.region as usize];
        let slab = match region.idle.pop() {
            Some(idle) => idle,
            None => {
                if region.slab_bytes > available {
                    let (missing, slot) = (region.slab_bytes - available, packed.slot_bytes);
                    return Err(self.shortage(missing, slot));
                }
                self.resident += region.slab_bytes;
                region.vacant.pop().unwrap_or(region.slabs.len() as u32)
            }
        };
        let fresh = Slab { class: class as u8, live: 0, used: Default::default() };
        match region.slabs.get_mut(slab as usize) {
            Some(old) => *old = fresh,
            None => region.slabs.push(fresh),
        }
        packed.slabs += 1;
        Ok(slab)
    }

    fn release_packed(&mut self, class: u8, slab: u32, index: u16) {
        let packed = &mut self.packed[class as usize];
        let region = &mut self.regions[packed.region as usize];
        let carved = &mut region.slabs[slab as usize];
        debug_assert_eq!(carved.class, class, "a slot given back to another class than it was taken from");
        packed.live -= 1;
        if carved.live < packed.slots {
            packed.partial.remove(&(packed.slots - carved.live, slab));
        }
        carved.give_back(index);
        if carved.live > 0 {
            packed.partial.insert((packed.slots - carved.live, slab));
        } else {
            packed.slabs -= 1;
            region.idle.push(slab);
        }
    }

    /// Gives up idle slabs and extents towards `missing` bytes of budget. What they do not cover has to come from
    /// evicted objects, of which `at_once` bytes are worth asking again.
    fn shortage(&mut self, missing: u64, at_once: u64) -> Shortage {
        let mut punches = Vec::new();
        let mut covered = 0;
        for (number, region) in self.regions.iter_mut().enumerate() {
            while covered < missing
                && let Some(slab) = region.idle.pop()
            {
                covered += region.slab_bytes;
                punches.push(Punch {
                    offset: region.base + u64::from(slab) * region.slab_bytes,
                    len: region.slab_bytes,
                    range: Range::Slab { region: number as u8, slab },
                });
            }
        }
        for (number, class) in self.extents.iter_mut().enumerate() {
            while covered < missing
                && let Some(largest) = class.idle.last_entry()
            {
                let charged = *largest.key();
                if let Some(index) = class.pop_idle(charged) {
                    covered += charged;
                    class.resident += charged; // until it is reclaimed
                    let offset = class.base + u64::from(index) * class.slot_bytes;
                    punches.push(Punch { offset, len: charged, range: Range::Extent { class: number as u8, index } });
                }
            }
        }
        Shortage { bytes: missing.saturating_sub(covered).min(at_once), punches }
    }
}

impl ExtentClass {
    fn slot(&self, class: usize, index: u32, size: u64, charged: u64) -> Slot {
        let offset = self.base + u64::from(index) * self.slot_bytes;
        Slot { offset, size, charged, books: 0, place: Place::Extent { class: class as u8, index } }
    }

    /// An idle slot of as many pages.
    fn pop_idle(&mut self, charged: u64) -> Option<u32> {
        let idle = self.idle.get_mut(&charged)?;
        let index = idle.pop();
        if idle.is_empty() {
            self.idle.remove(&charged);
        }
        index
    }
}

impl Slab {
    fn use_first_free(&mut self) -> u16 {
        let word = self.used.iter().position(|&word| word != u64::MAX).expect("a slab in `partial` has a free slot");
        let bit = (!self.used[word]).trailing_zeros();
        self.used[word] |= 1 << bit;
        self.live += 1;
        (word as u32 * 64 + bit) as u16
    }

    fn give_back(&mut self, index: u16) {
        let (word, bit) = (index as usize / 64, index % 64);
        debug_assert!(self.used[word] & (1 << bit) != 0, "a slot given back twice");
        self.used[word] &= !(1 << bit);
        self.live -= 1;
    }
}

/// Slot sizes about 1.12 apart, each stretched until its slots fill the slab size that suits it best.
fn packed_classes(packed_max: u64) -> Vec<PackedClass> {
    let mut classes = Vec::new();
    let mut least = SLOT_MIN;
    loop {
        let least_needed = least.min(packed_max.next_multiple_of(SLOT_ALIGN)).max(SLOT_MIN);
        let fits = SLAB_SIZES.iter().enumerate();
        let (slot_bytes, region) = fits
            .filter(|(_, slab)| (1..=SLAB_SLOTS_MAX).contains(&(*slab / least_needed)))
            .map(|(region, slab)| (slab / (slab / least_needed) / SLOT_ALIGN * SLOT_ALIGN, region))
            .min()
            .expect("the largest object fits the largest slab, and the smallest slot the map of the smallest slab");
        let slots = (SLAB_SIZES[region] / slot_bytes) as u16;
        classes.push(PackedClass {
            slot_bytes,
            slots,
            region: region as u8,
            partial: BTreeSet::new(),
            slabs: 0,
            live: 0,
        });
        if slot_bytes >= packed_max {
            return classes;
        }
        least = (slot_bytes * 112 / 100).next_multiple_of(SLOT_ALIGN).max(slot_bytes + SLOT_ALIGN);
    }
}

#[cfg(test)]
mod tests;
