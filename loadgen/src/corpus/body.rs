//! Bodies derived from names: any byte of any file can be computed from the file's name and the seed alone, so that
//! every received byte can be checked without keeping a copy.
//!
//! A body is the output of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA
//! 2014) from a state that is a hash of seed and name, as little-endian words. The generator's state is a counter, so
//! the stream can be entered anywhere.

/// The increment of SplitMix64's state.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The body of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    key: u64,
}

impl Body {
    /// The body of the file `name` (its path below the corpus directory, without a leading slash).
    pub fn of(name: &[u8], seed: u64) -> Body {
        // FNV-1a over the name, then the generator's own mixing with the seed.
        let hash = name
            .iter()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Body { key: mix(hash ^ mix(seed.wrapping_add(GOLDEN_GAMMA))) }
    }

    /// Writes the bytes from `offset` on into `into`.
    pub fn fill(self, offset: u64, into: &mut [u8]) {
        let mut index = offset / 8;
        let skip = (offset % 8) as usize;
        let head = if skip == 0 { 0 } else { into.len().min(8 - skip) };
        let (first, rest) = into.split_at_mut(head);
        if head > 0 {
            first.copy_from_slice(&self.word(index)[skip..skip + head]);
            index += 1;
        }
        let (words, tail) = rest.as_chunks_mut::<8>();
        for word in words {
            *word = self.word(index);
            index += 1;
        }
        let length = tail.len();
        tail.copy_from_slice(&self.word(index)[..length]);
    }

    /// Whether `bytes` are those from `offset` on.
    pub fn matches(self, offset: u64, bytes: &[u8]) -> bool {
        let mut index = offset / 8;
        let skip = (offset % 8) as usize;
        let head = if skip == 0 { 0 } else { bytes.len().min(8 - skip) };
        let (first, rest) = bytes.split_at(head);
        if head > 0 {
            if *first != self.word(index)[skip..skip + head] {
                return false;
            }
            index += 1;
        }
        let (words, tail) = rest.as_chunks::<8>();
        for word in words {
            if *word != self.word(index) {
                return false;
            }
            index += 1;
        }
        *tail == self.word(index)[..tail.len()]
    }

    fn word(self, index: u64) -> [u8; 8] {
        mix(self.key.wrapping_add(GOLDEN_GAMMA.wrapping_mul(index.wrapping_add(1)))).to_le_bytes()
    }
}

/// SplitMix64's output function; also used to derive seeds from seeds.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_stream_is_splitmix64() {
        // The first outputs for the seed 1234567, as published for the reference implementation.
        let body = Body { key: 1_234_567 };
        let words: Vec<u64> = (0..3).map(|index| u64::from_le_bytes(body.word(index))).collect();
        assert_eq!(words, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    proptest! {
        #[test]
        fn any_part_equals_that_part_of_the_whole(
            name in "[a-z/]{1,20}", seed: u64, offset in 0..300usize, length in 0..300usize,
        ) {
            let body = Body::of(name.as_bytes(), seed);
            let (mut whole, mut part) = (vec![0; 600], vec![0; length]);
            body.fill(0, &mut whole);
            body.fill(offset as u64, &mut part);
            prop_assert_eq!(&part[..], &whole[offset..offset + length]);
            prop_assert!(body.matches(offset as u64, &part));
        }

        #[test]
        fn one_wrong_byte_is_found(seed: u64, offset in 0..50u64, at in 0..200usize, flip in 1..=255u8) {
            let body = Body::of(b"a", seed);
            let mut part = vec![0; 200];
            body.fill(offset, &mut part);
            part[at] ^= flip;
            prop_assert!(!body.matches(offset, &part));
        }

        #[test]
        fn names_seeds_and_offsets_tell_bodies_apart(
            name in "[a-z]{1,9}", other in "[a-z]{1,9}", seed in 0..99u64, shift in 1..4096u64,
        ) {
            let body = Body::of(name.as_bytes(), seed);
            let mut bytes = [0; 16];
            body.fill(0, &mut bytes);
            prop_assert!(!body.matches(shift, &bytes));
            prop_assert!(!Body::of(name.as_bytes(), seed + 1).matches(0, &bytes));
            prop_assert!(name == other || !Body::of(other.as_bytes(), seed).matches(0, &bytes));
        }
    }
}
