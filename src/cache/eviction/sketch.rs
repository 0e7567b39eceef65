//! A count-min sketch: how often a name was seen, a little over at most, in a few tens of kilobytes.
//!
//! Source: Cormode and Muthukrishnan, *An improved data stream summary: the count-min sketch and its applications*,
//! 2005, with small counters, halved from time to time, as in Einziger, Friedman and Manes, *TinyLFU*, 2017.

/// Rows, each with its own hash: an estimate is the least of as many counters.
const ROWS: usize = 4;
/// Where counters stop.
const COUNT_MAX: u8 = 15;

#[derive(Debug)]
pub(super) struct Sketch {
    /// By column. A byte each, of which four bits are used: packing them would save less than it costs to read.
    counters: Vec<[u8; ROWS]>,
    /// Occurrences until all counters are halved.
    until_halved: u64,
    period: u64,
}

impl Sketch {
    /// `columns`: counters in a row, a power of two. `period`: occurrences between halvings, at least 1.
    pub(super) fn new(columns: usize, period: u64) -> Sketch {
        assert!(columns.is_power_of_two());
        Sketch { counters: vec![[0; ROWS]; columns], until_halved: period, period }
    }

    /// Counts one occurrence. Only the least counters rise (conservative update): the others are over already.
    pub(super) fn add(&mut self, key: u64) {
        let count = (self.estimate(key) + 1).min(COUNT_MAX);
        for row in 0..ROWS {
            let column = self.column(key, row);
            let counter = &mut self.counters[column][row];
            *counter = (*counter).max(count);
        }
        self.until_halved -= 1;
        if self.until_halved == 0 {
            self.halve();
        }
    }

    /// How often the key was counted: never less, unless counters were halved or stopped at 15 since.
    pub(super) fn estimate(&self, key: u64) -> u8 {
        (0..ROWS).map(|row| self.counters[self.column(key, row)][row]).min().unwrap_or(0)
    }

    fn halve(&mut self) {
        self.counters.iter_mut().flatten().for_each(|counter| *counter /= 2);
        self.until_halved = self.period;
    }

    fn column(&self, key: u64, row: usize) -> usize {
        // Keys are hashes already: a different multiplier makes a different hash of each.
        const MULTIPLIERS: [u64; ROWS] =
            [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0xd6e8_feb8_6659_fd93];
        (key.wrapping_mul(MULTIPLIERS[row]) >> 40) as usize & (self.counters.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Against exact counts: never under, and exact while there is room.
        #[test]
        fn estimates_are_never_under(names in prop::collection::vec(0..40u64, 0..400)) {
            let mut crowded = Sketch::new(8, 1 << 20);
            let mut roomy = Sketch::new(1 << 12, 1 << 20);
            let mut exact: HashMap<u64, u8> = HashMap::new();
            for name in names {
                let key = name.wrapping_mul(0xa076_1d64_78bd_642f);
                crowded.add(key);
                roomy.add(key);
                let count = exact.entry(key).or_default();
                *count = (*count + 1).min(COUNT_MAX);
            }
            for (&key, &count) in &exact {
                prop_assert!(crowded.estimate(key) >= count);
                prop_assert_eq!(roomy.estimate(key), count);
            }
        }
    }

    #[test]
    fn counters_stop_and_are_halved() {
        let mut sketch = Sketch::new(64, 40);
        (0..20).for_each(|_| sketch.add(1));
        assert_eq!(sketch.estimate(1), 15);
        (0..19).for_each(|_| sketch.add(2));
        assert_eq!((sketch.estimate(1), sketch.estimate(2)), (15, 15));
        sketch.add(3);
        assert_eq!((sketch.estimate(1), sketch.estimate(2), sketch.estimate(3)), (7, 7, 0));
        (0..39).for_each(|_| sketch.add(1));
        assert_eq!(sketch.estimate(1), 15, "the next halving is a whole period away");
        sketch.add(1);
        assert_eq!(sketch.estimate(1), 7);
    }
}
