//! Names that are put together for a look-up.

/// A name that was put together. Names of usual length are without allocating.
pub struct Joined {
    short: [u8; SHORT],
    len: usize,
    /// The name, if it is longer than that.
    long: Vec<u8>,
}

/// Bytes of a usual name, with what is added to it.
const SHORT: usize = 256;

impl Joined {
    /// The parts, one after the other.
    pub fn new(parts: &[&[u8]]) -> Joined {
        let len = parts.iter().map(|part| part.len()).sum();
        if len > SHORT {
            return Joined { short: [0; SHORT], len, long: parts.concat() };
        }
        let (mut short, mut at) = ([0; SHORT], 0);
        for part in parts {
            short[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Joined { short, len, long: Vec::new() }
    }

    pub fn bytes(&self) -> &[u8] {
        if self.len > SHORT { &self.long } else { &self.short[..self.len] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_are_put_together() {
        for len in [0, 1, SHORT - 4, SHORT - 3, SHORT - 2, 4000] {
            let name = vec![b'n'; len];
            assert_eq!(Joined::new(&[&name, b".br"]).bytes(), [&name[..], b".br"].concat());
        }
        assert_eq!(Joined::new(&[b"a", b"/", b"index.html"]).bytes(), b"a/index.html");
        assert_eq!(Joined::new(&[]).bytes(), b"");
    }
}
