//! The chunked transfer coding (RFC 9112, section 7.1), decoded across any split of the input.

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The hexadecimal size; `digits` of it have been read.
    Size {
        size: u64,
        digits: u8,
    },
    /// The rest of a size line: extensions are ignored.
    Extension {
        size: u64,
    },
    /// The LF after the CR of a size line.
    SizeEnd {
        size: u64,
    },
    /// Chunk data, `left` bytes of it.
    Data {
        left: u64,
    },
    /// CR and LF after the data.
    DataCr,
    DataLf,
    /// A line of the trailer section; `empty` while nothing of it was read.
    Trailer {
        empty: bool,
    },
    /// The LF after the CR of a trailer line.
    TrailerEnd {
        empty: bool,
    },
    Done,
}

/// Decodes one chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunked(State);

/// What a step found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The input is used up.
    More,
    /// Body bytes.
    Data(&'a [u8]),
    /// The body is complete; what is left of the input belongs to the next response.
    End,
    /// Not the chunked coding.
    Malformed,
}

impl Default for Chunked {
    fn default() -> Self {
        Chunked(State::Size { size: 0, digits: 0 })
    }
}

impl Chunked {
    /// Takes bytes off the front of `input` up to the next thing to say.
    pub fn step<'a>(&mut self, input: &mut &'a [u8]) -> Step<'a> {
        loop {
            if let State::Data { left } = self.0 {
                if input.is_empty() {
                    return Step::More;
                }
                let take = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let (data, rest) = input.split_at(take);
                *input = rest;
                let left = left - take as u64;
                self.0 = if left == 0 { State::DataCr } else { State::Data { left } };
                return Step::Data(data);
            }
            if self.0 == State::Done {
                return Step::End;
            }
            let Some((&byte, rest)) = input.split_first() else { return Step::More };
            *input = rest;
            match self.0.after(byte) {
                Some(state) => self.0 = state,
                None => return Step::Malformed,
            }
        }
    }
}

impl State {
    /// The state after one byte that is not chunk data; `None` for a byte that cannot stand there.
    fn after(self, byte: u8) -> Option<State> {
        Some(match (self, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                let digit = u64::from((byte as char).to_digit(16)?);
                State::Size { size: size << 4 | digit, digits: digits + 1 }
            }
            (State::Size { size, digits: 1.. }, b'\r') => State::SizeEnd { size },
            (State::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => State::Extension { size },
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { size }, byte) if byte != b'\n' => State::Extension { size },
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailer { empty: true },
            (State::SizeEnd { size }, b'\n') => State::Data { left: size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::Trailer { empty }, b'\r') => State::TrailerEnd { empty },
            (State::Trailer { .. }, byte) if byte != b'\n' => State::Trailer { empty: false },
            (State::TrailerEnd { empty: true }, b'\n') => State::Done,
            (State::TrailerEnd { empty: false }, b'\n') => State::Trailer { empty: true },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The body, whether it is complete, and how many bytes follow it; `None` when malformed.
    fn decode(pieces: &[&[u8]]) -> Option<(Vec<u8>, bool, usize)> {
        let (mut body, mut chunked, mut done) = (Vec::new(), Chunked::default(), false);
        let mut left = 0;
        for piece in pieces {
            let mut input = *piece;
            while !done {
                match chunked.step(&mut input) {
                    Step::More => break,
                    Step::Data(data) => body.extend_from_slice(data),
                    Step::End => done = true,
                    Step::Malformed => return None,
                }
            }
            left += input.len();
        }
        Some((body, done, left))
    }

    #[test]
    fn extensions_and_trailers_are_skipped() {
        let text = b"4;name=\"v\"\r\nWiki\r\n0\r\nExpires: never\r\nA: b\r\n\r\nNEXT";
        assert_eq!(decode(&[text]), Some((b"Wiki".to_vec(), true, 4)));
    }

    #[test]
    fn what_is_not_the_coding_is_refused() {
        for text in ["x\r\n", "\r\n", ";\r\n", "4\n", "4\r\nWikiX", "fffffffffffffffff\r\n", "0\r\n\n"] {
            assert_eq!(decode(&[text.as_bytes()]), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_split_decodes_alike(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            piece in 1..20usize,
        ) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
            let pieces: Vec<&[u8]> = text.chunks(piece).collect();
            prop_assert_eq!(decode(&pieces), Some((chunks.concat(), true, 0)));
        }
    }
}
