use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Takes a slot, punching and reclaiming the idle slabs that are offered. Err: bytes that have to be evicted.
fn take(layout: &mut Layout, size: u64) -> Result<Slot, u64> {
    loop {
        match layout.take(size, 0) {
            Ok(slot) => return Ok(slot),
            Err(shortage) if shortage.punches.is_empty() => return Err(shortage.bytes),
            Err(shortage) => shortage.punches.into_iter().for_each(|punch| layout.reclaim(punch)),
        }
    }
}

fn give_back(layout: &mut Layout, slot: Slot) {
    if let Some(punch) = layout.release(slot) {
        layout.reclaim(punch);
    }
}

#[test]
fn packed_classes_cover_every_size_closely() {
    for packed_max in [1, 4 * KIB, 8 * KIB, 12 * KIB, 16 * KIB] {
        let classes = packed_classes(packed_max);
        assert!(classes.windows(2).all(|pair| pair[0].slot_bytes < pair[1].slot_bytes));
        assert!(classes.last().unwrap().slot_bytes >= packed_max);
        for class in &classes {
            let slab = SLAB_SIZES[class.region as usize];
            let filled = class.slot_bytes * u64::from(class.slots);
            assert!(
                filled <= slab && slab - filled < slab / 20,
                "slots of {} leave a slab of {slab} unused",
                class.slot_bytes
            );
            assert!(class.slots >= 1);
        }
        for pair in classes.windows(2).filter(|pair| pair[0].slot_bytes >= 512) {
            let step = pair[1].slot_bytes as f64 / pair[0].slot_bytes as f64;
            assert!(step < 1.21, "{} to {}: {step}", pair[0].slot_bytes, pair[1].slot_bytes);
        }
    }
}

#[test]
fn large_objects_cost_their_pages_and_lie_on_folio_boundaries() {
    let mut layout = Layout::new(64 * MIB, 12 * KIB);
    let slot = layout.take(70 * KIB, 0).unwrap();
    assert_eq!((slot.charged, slot.offset % FOLIO), (72 * KIB, 0));
    assert_eq!((layout.resident(), layout.live()), (72 * KIB, 70 * KIB));
    let punch = layout.release(slot).unwrap();
    assert_eq!((punch.offset, punch.len), (slot.offset, 72 * KIB));
    assert_eq!((layout.resident(), layout.live()), (72 * KIB, 0), "charged until the kernel has the pages");
    layout.reclaim(punch);
    assert_eq!(layout.resident(), 0);
    assert_eq!(layout.take(70 * KIB, 0).unwrap().offset, slot.offset);
}

#[test]
fn the_whole_budget_fits_one_object_and_not_a_byte_more() {
    for capacity in [PAGE, 5 * PAGE, MIB, 100 * MIB, 64 * MIB] {
        let mut layout = Layout::new(capacity + 17, 12 * KIB);
        assert_eq!(layout.charged(capacity), Some(capacity));
        assert_eq!(layout.charged(capacity + 1), None);
        let slot = layout.take(capacity, 0).unwrap();
        assert!(slot.offset + slot.charged <= layout.virtual_bytes());
        let shortage = layout.take(100 * KIB, 0).unwrap_err();
        assert_eq!((shortage.bytes, shortage.punches.len()), (100 * KIB, 0));
    }
}

#[test]
fn no_class_runs_out_before_the_budget() {
    for size in [1, 100, 5 * KIB, 12 * KIB, 12 * KIB + 1, 32 * KIB + 1, MIB + 1, 9 * MIB] {
        let mut layout = Layout::new(10 * MIB, 12 * KIB);
        let mut slots = Vec::new();
        while let Ok(slot) = layout.take(size, 0) {
            assert!(slot.offset + slot.charged <= layout.virtual_bytes());
            slots.push(slot);
        }
        assert!(layout.capacity() - layout.resident() < slots[0].charged.max(32 * KIB), "objects of {size} stop early");
        for slot in slots {
            give_back(&mut layout, slot);
        }
        assert_eq!((layout.resident() - layout.idle(), layout.live()), (0, 0));
    }
}

#[test]
fn an_emptied_slab_serves_other_classes_and_is_given_up_when_pages_run_short() {
    let mut layout = Layout::new(MIB, 12 * KIB);
    let slots: Vec<Slot> = std::iter::from_fn(|| layout.take(4 * KIB, 0).ok()).collect();
    let full = layout.resident();
    for slot in slots {
        assert_eq!(layout.release(slot), None, "packed slots are reused in place");
    }
    assert_eq!((layout.resident(), layout.idle()), (full, full));
    let region_of = |size| layout.packed[layout.packed_class(size).unwrap()].region;
    let other = (100..4000).find(|&size| region_of(size) == region_of(4 * KIB)).unwrap();
    let slot = layout.take(other, 0).unwrap();
    assert!(slot.charged < 4 * KIB && layout.idle() < full && layout.resident() == full);
    give_back(&mut layout, slot);
    let shortage = layout.take(200 * KIB, 0).unwrap_err();
    assert_eq!(shortage.bytes, 0);
    assert!(shortage.punches.iter().map(|punch| punch.len).sum::<u64>() < 200 * KIB + 32 * KIB);
    assert!(layout.resident() >= full, "given up is not yet given back");
    shortage.punches.into_iter().for_each(|punch| layout.reclaim(punch));
    layout.take(200 * KIB, 0).unwrap();
}

#[test]
fn the_fullest_slab_is_filled_first() {
    let mut layout = Layout::new(MIB, 12 * KIB);
    let in_a_slab = usize::from(layout.packed[layout.packed_class(600).unwrap()].slots);
    assert!(in_a_slab > 3);
    let slots: Vec<Slot> = (0..2 * in_a_slab).map(|_| layout.take(600, 0).unwrap()).collect();
    let (sparse, nearly_full) = slots.split_at(in_a_slab);
    sparse[1..].iter().for_each(|slot| give_back(&mut layout, *slot));
    give_back(&mut layout, nearly_full[2]);
    assert_eq!(layout.take(600, 0).unwrap(), nearly_full[2]);
    assert_eq!(layout.take(600, 0).unwrap(), sparse[1]);
}

#[test]
fn a_packed_shortage_asks_for_one_slot() {
    let mut layout = Layout::new(MIB, 12 * KIB);
    let slots: Vec<Slot> = std::iter::from_fn(|| layout.take(1000, 0).ok()).collect();
    let shortage = layout.take(1000, 0).unwrap_err();
    assert_eq!(shortage.bytes, slots[0].charged);
    assert_eq!(layout.release(slots[7]), None);
    assert_eq!(layout.take(1000, 0).unwrap(), slots[7]);
}

#[test]
fn nothing_is_packed_when_packing_is_off_or_no_slab_fits() {
    for mut layout in [Layout::new(MIB, 0), Layout::new(16 * KIB, 12 * KIB)] {
        let slot = layout.take(0, 0).unwrap();
        assert_eq!(slot.charged, PAGE);
        assert!(matches!(slot.place, Place::Extent { .. }));
    }
}

#[test]
fn pages_that_nobody_refers_to_serve_the_next_object_of_as_many() {
    let mut layout = Layout::new(MIB, 12 * KIB);
    let first = layout.take(50_000, 0).unwrap();
    layout.retain(first);
    assert_eq!((layout.resident(), layout.idle(), layout.live()), (first.charged, first.charged, 0));
    let other = layout.take(100_000, 0).unwrap();
    let again = layout.take(50_500, 0).unwrap();
    assert_eq!((again.offset, again.charged), (first.offset, first.charged));
    layout.retain(again);
    layout.retain(other);
    // The whole budget: both are given up, and nothing has to be evicted.
    let shortage = layout.take(MIB, 0).unwrap_err();
    assert_eq!((shortage.bytes, shortage.punches.len()), (0, 2));
    shortage.punches.into_iter().for_each(|punch| layout.reclaim(punch));
    assert_eq!((layout.resident(), layout.idle()), (0, 0));
    assert!(layout.take(MIB, 0).is_ok());
}

#[test]
fn books_are_charged_beyond_their_allowance() {
    const BOOKS: u16 = 300;
    let mut layout = Layout { books_free: 100 * KIB, ..Layout::new(MIB, 12 * KIB) };
    let mut slots: Vec<Slot> = std::iter::from_fn(|| layout.take(40, BOOKS).ok()).collect();
    let books = slots.len() as u64 * u64::from(BOOKS);
    let charged = layout.resident() + books - 100 * KIB;
    assert!(charged <= MIB && charged > MIB - 8 * KIB, "{charged} bytes");
    // One entry makes room for another of its kind, and all of them for anything.
    let shortage = layout.take(40, BOOKS).unwrap_err();
    assert!(shortage.bytes > 0 && shortage.bytes <= slots[0].charged);
    give_back(&mut layout, slots.pop().unwrap());
    slots.push(layout.take(40, BOOKS).unwrap());
    assert!(layout.take(300 * KIB, BOOKS).is_err());
    slots.into_iter().for_each(|slot| give_back(&mut layout, slot));
    assert_eq!((layout.books, layout.live()), (0, 0));
    assert!(take(&mut layout, MIB).is_ok());
}

#[derive(Debug, Clone)]
enum Step {
    Take(u64),
    Release(usize),
    Retain(usize),
    Reclaim(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![0..600u64, 0..20 * KIB, 8 * KIB..200 * KIB, 0..3 * MIB];
    prop_oneof![
        5 => size.prop_map(Step::Take),
        2 => any::<usize>().prop_map(Step::Release),
        2 => any::<usize>().prop_map(Step::Retain),
        2 => any::<usize>().prop_map(Step::Reclaim),
    ]
}

/// What is known without any cleverness: the ranges that hold objects, and those that wait for the kernel.
#[derive(Default)]
struct Model {
    held: Vec<Slot>,
    waiting: Vec<Punch>,
}

impl Model {
    fn check(&self, layout: &Layout) {
        assert!(layout.resident() + layout.charged_books(layout.books) <= layout.capacity());
        assert_eq!(layout.books, self.held.iter().map(|slot| u64::from(slot.books)).sum::<u64>());
        assert_eq!(layout.live(), self.held.iter().map(|slot| slot.size).sum::<u64>());
        let mut ranges = BTreeMap::new();
        let held = self.held.iter().map(|slot| (slot.offset, slot.charged));
        for (offset, len) in held.chain(self.waiting.iter().map(|punch| (punch.offset, punch.len))) {
            assert!(ranges.insert(offset, offset + len).is_none(), "two ranges at {offset}");
        }
        let ends = ranges.iter().zip(ranges.keys().skip(1));
        for ((start, end), next) in ends {
            assert!(end <= next, "{start}..{end} reaches into {next}");
        }
        assert!(ranges.values().all(|&end| end <= layout.virtual_bytes()));
        // Pages that can be physical: every page of a held or waiting range. The budget in use is never less.
        let pages: std::collections::BTreeSet<u64> =
            ranges.iter().flat_map(|(start, end)| start / PAGE..end.div_ceil(PAGE)).collect();
        assert!(pages.len() as u64 * PAGE <= layout.resident());
        let by_class: u64 = layout.classes().iter().map(|class| class.resident_bytes).sum();
        let waiting_slabs = self.waiting.iter().filter(|punch| matches!(punch.range, Range::Slab { .. }));
        let waiting_slabs: u64 = waiting_slabs.map(|punch| punch.len).sum();
        assert_eq!(by_class + layout.idle() + waiting_slabs, layout.resident());
        assert_eq!(layout.classes().iter().map(|class| class.live).sum::<u64>(), self.held.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_sequence_keeps_the_budget_and_never_overlaps(
        capacity in prop_oneof![Just(MIB), Just(2 * MIB + 12 * KIB), Just(48 * KIB)],
        packed_max in prop_oneof![Just(0), Just(8 * KIB), Just(12 * KIB), Just(16 * KIB)],
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let mut layout = Layout { books_free: 10 * KIB, ..Layout::new(capacity, packed_max) };
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Take(size) => match layout.take(size, (size % 7 * 100) as u16) {
                    Ok(slot) => {
                        prop_assert_eq!(layout.charged(size), Some(slot.charged));
                        prop_assert!(slot.charged >= size && slot.size == size);
                        if let Place::Extent { .. } = slot.place {
                            prop_assert_eq!(slot.charged, size.max(1).next_multiple_of(PAGE));
                            let aligned = slot.charged.next_power_of_two().min(FOLIO);
                            prop_assert_eq!(slot.offset % aligned, 0);
                        }
                        prop_assert_eq!(Slot::from(&super::super::compact::Compact::from(slot)), slot);
                        model.held.push(slot);
                    }
                    Err(shortage) => {
                        prop_assert!(shortage.bytes > 0 || !shortage.punches.is_empty(), "short of nothing");
                        model.waiting.extend(shortage.punches);
                    }
                },
                Step::Release(pick) if !model.held.is_empty() => {
                    let slot = model.held.swap_remove(pick % model.held.len());
                    model.waiting.extend(layout.release(slot));
                }
                Step::Retain(pick) if !model.held.is_empty() => {
                    layout.retain(model.held.swap_remove(pick % model.held.len()));
                }
                Step::Reclaim(pick) if !model.waiting.is_empty() => {
                    let punch = model.waiting.swap_remove(pick % model.waiting.len());
                    layout.reclaim(punch);
                }
                Step::Release(_) | Step::Retain(_) | Step::Reclaim(_) => {}
            }
            model.check(&layout);
        }
        for slot in model.held {
            model.waiting.extend(layout.release(slot));
        }
        model.waiting.into_iter().for_each(|punch| layout.reclaim(punch));
        prop_assert_eq!((layout.live(), layout.resident()), (0, layout.idle()));
        let whole = layout.capacity();
        prop_assert!(take(&mut layout, whole).is_ok(), "everything given back, yet not everything is free");
    }
}
