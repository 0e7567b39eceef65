//! Where an object lies, in as few bytes as say it: each cached file keeps them.

use super::layout::{Place, SLOT_ALIGN, Slot};
use std::sync::atomic::AtomicBool;

/// A [`Slot`].
#[derive(Debug)]
pub(super) struct Compact {
    pub offset: u64,
    /// In units of [`SLOT_ALIGN`].
    charged: u32,
    /// The slab, or the extent of its class.
    range: u32,
    /// What the object leaves of what is charged.
    rest: u16,
    books: u16,
    index: u16,
    /// The class, and whether it is [`PACKED`].
    class: u8,
    /// For its owner to note something of it.
    pub mark: AtomicBool,
}

/// The bit of a class whose slots are in slabs.
const PACKED: u8 = 1 << 7;

impl Compact {
    pub fn charged(&self) -> u64 {
        u64::from(self.charged) * SLOT_ALIGN
    }

    pub fn size(&self) -> u64 {
        self.charged() - u64::from(self.rest)
    }

    pub fn is_extent(&self) -> bool {
        self.class & PACKED == 0
    }
}

impl From<Slot> for Compact {
    fn from(slot: Slot) -> Compact {
        let (class, range, index) = match slot.place {
            Place::Packed { class, slab, index } => (class | PACKED, slab, index),
            Place::Extent { class, index } => (class, index, 0),
        };
        let (charged, rest) = ((slot.charged / SLOT_ALIGN) as u32, (slot.charged - slot.size) as u16);
        Compact {
            offset: slot.offset,
            charged,
            range,
            rest,
            books: slot.books,
            index,
            class,
            mark: AtomicBool::new(false),
        }
    }
}

impl From<&Compact> for Slot {
    fn from(compact: &Compact) -> Slot {
        let class = compact.class & !PACKED;
        let place = match compact.is_extent() {
            true => Place::Extent { class, index: compact.range },
            false => Place::Packed { class, slab: compact.range, index: compact.index },
        };
        let (size, charged) = (compact.size(), compact.charged());
        Slot { offset: compact.offset, size, charged, books: compact.books, place }
    }
}
