//! Where the body of a request ends (RFC 9112, 6): one rule for both planes, and no benefit of the doubt. What another
//! server on the way could read differently is refused.

/// How the body of a request is delimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no field about a body, so there is none.
    #[default]
    None,
    /// This many bytes, by Content-Length.
    Length(u64),
    /// In chunks, by Transfer-Encoding.
    Chunked,
}

/// Why the fields about a body are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unframed {
    /// They contradict each other, or are malformed.
    Malformed,
    /// The body has a transfer coding that is not known here.
    Coding,
}

impl Framing {
    /// What the fields say once this Content-Length is added.
    ///
    /// # Errors
    /// [`Unframed::Malformed`]: it is no number, or not the only field about the body.
    pub fn with_length(self, value: &[u8]) -> Result<Framing, Unframed> {
        let value = value.trim_ascii();
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
        match (self, number) {
            // No file can be longer.
            (Framing::None, Some(length @ ..=0x7fff_ffff_ffff_ffff)) => Ok(Framing::Length(length)),
            _ => Err(Unframed::Malformed),
        }
    }

    /// What the fields say once this Transfer-Encoding is added.
    ///
    /// # Errors
    /// [`Unframed`]: it is not the only field about the body, or another coding than `chunked`, or HTTP/1.0 has none.
    pub fn with_coding(self, value: &[u8], is_11: bool) -> Result<Framing, Unframed> {
        let value = value.trim_ascii();
        match self {
            Framing::None if is_11 && value.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            // Its end could be told, its content could not.
            Framing::None if is_11 && ends_in_chunked(value) => Err(Unframed::Coding),
            _ => Err(Unframed::Malformed),
        }
    }
}

fn ends_in_chunked(value: &[u8]) -> bool {
    value.rsplit(|&byte| byte == b',').next().is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// Finds the end of a chunked body in bytes that pass by. What the chunks hold, and whether they are well-formed
/// to the letter, is for the reader of the body to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkScan(Place);

/// Where in a chunked body the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a chunk's size; so much of it is known.
    Size(u64),
    /// After the size, before the end of its line.
    Extension(u64),
    /// In a chunk's data, with so many bytes left of it.
    Data(u64),
    /// In the line end after a chunk's data.
    DataEnd,
    /// At the start of a line after the last chunk.
    TrailerStart,
    /// In a line after the last chunk.
    Trailer,
    /// After the body.
    Over,
    /// This is no chunked body, so it has no end.
    Broken,
}

impl Default for ChunkScan {
    fn default() -> ChunkScan {
        ChunkScan(Place::Size(0))
    }
}

impl ChunkScan {
    /// Goes on through `bytes`; says how many of them belong to the body, and how many of those are content.
    pub fn scan(&mut self, bytes: &[u8]) -> (usize, u64) {
        let (mut at, mut content) = (0, 0);
        while at < bytes.len() && self.0 != Place::Over {
            if let Place::Data(left) = self.0 {
                let some = left.min((bytes.len() - at) as u64);
                at += some as usize;
                content += some;
                self.0 = if some == left { Place::DataEnd } else { Place::Data(left - some) };
            } else {
                self.0 = self.0.after(bytes[at]);
                at += 1;
            }
        }
        (at, content)
    }

    /// Whether the body is over.
    pub fn is_over(&self) -> bool {
        self.0 == Place::Over
    }
}

impl Place {
    /// Where one goes from here, outside of data, with this byte.
    fn after(self, byte: u8) -> Place {
        let digit = (byte as char).to_digit(16).map(u64::from);
        match (self, byte) {
            (Place::Size(size) | Place::Extension(size), b'\n') if size > 0 => Place::Data(size),
            (Place::Size(_) | Place::Extension(_), b'\n') => Place::TrailerStart,
            (Place::Size(size), _) => match digit {
                Some(digit) if size < 1 << 58 => Place::Size(size * 16 + digit),
                Some(_) => Place::Broken,
                None => Place::Extension(size),
            },
            (Place::Extension(size), _) => Place::Extension(size),
            (Place::DataEnd, b'\r') => Place::DataEnd,
            (Place::DataEnd, b'\n') => Place::Size(0),
            (Place::DataEnd, _) => Place::Broken,
            (Place::TrailerStart, b'\r') => Place::TrailerStart,
            (Place::TrailerStart, b'\n') => Place::Over,
            (Place::Trailer, b'\n') => Place::TrailerStart,
            (Place::TrailerStart | Place::Trailer, _) => Place::Trailer,
            (Place::Data(_) | Place::Over | Place::Broken, _) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_delimits_a_body() {
        let length = |value: &[u8]| Framing::None.with_length(value);
        assert_eq!(length(b" 12 "), Ok(Framing::Length(12)));
        for value in ["", "+1", "-1", "0x0", "1, 1", "1 2", "99999999999999999999", "18446744073709551615"] {
            assert_eq!(length(value.as_bytes()), Err(Unframed::Malformed), "{value}");
        }
        let coding = |value: &[u8]| Framing::None.with_coding(value, true);
        assert_eq!(coding(b"Chunked"), Ok(Framing::Chunked));
        assert_eq!(coding(b"gzip, chunked"), Err(Unframed::Coding));
        for value in ["", "identity", "xchunked", "chunked, gzip", "\"chunked\""] {
            assert_eq!(coding(value.as_bytes()), Err(Unframed::Malformed), "{value}");
        }
        assert_eq!(Framing::None.with_coding(b"chunked", false), Err(Unframed::Malformed));
        for first in [Framing::Length(0), Framing::Chunked] {
            assert_eq!(first.with_length(b"0"), Err(Unframed::Malformed));
            assert_eq!(first.with_coding(b"chunked", true), Err(Unframed::Malformed));
        }
    }

    #[test]
    fn the_end_of_chunks_is_found_wherever_the_pieces_end() {
        for (body, content) in [
            ("0\r\n\r\n", 0),
            ("5\r\nhello\r\n0\r\n\r\n", 5),
            ("5;name=\"v\"\r\nhello\r\nA\r\n0123\r\n\r\n89\r\n000\r\nTrailer: 0\r\nB: \r\n\r\n", 15),
            ("1\nx\n0\n\n", 1),
        ] {
            let followed = format!("{body}GET / HTTP/1.1\r\n");
            for cut in 0..body.len() {
                let mut scan = ChunkScan::default();
                let (passed, begun) = scan.scan(&followed.as_bytes()[..cut]);
                assert_eq!(passed, cut);
                assert!(!scan.is_over());
                let (passed, rest) = scan.scan(&followed.as_bytes()[cut..]);
                assert_eq!((cut + passed, begun + rest), (body.len(), content), "{body:?} at {cut}");
                assert!(scan.is_over());
            }
        }
    }

    #[test]
    fn what_is_not_chunked_never_ends() {
        for body in ["5\r\nhelloX0\r\n\r\n", "fffffffffffffffff\r\n0\r\n\r\n"] {
            let mut scan = ChunkScan::default();
            assert_eq!(scan.scan(body.as_bytes()).0, body.len());
            assert!(!scan.is_over(), "{body:?}");
        }
    }
}
