//! Content codings, and which of them a client prefers (RFC 9110, 8.4.1 and 12.5.3).

use crate::version::weights::{WHOLE, split_weight};

/// A coding that a file may stand in beside itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

impl Coding {
    /// All of them, those that make the shortest bodies first.
    pub const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    /// Its name in Accept-Encoding and Content-Encoding.
    pub fn token(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// What the name of a file in this coding ends in.
    pub fn suffix(self) -> &'static str {
        match self {
            Coding::Brotli => ".br",
            Coding::Zstd => ".zst",
            Coding::Gzip => ".gz",
        }
    }

    /// Its place in [`Coding::ALL`].
    pub fn number(self) -> usize {
        self as usize
    }

    /// The coding of a name in Accept-Encoding; x-gzip is gzip (RFC 9110, 8.4.1.3).
    fn named(name: &[u8]) -> Option<Coding> {
        if name.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Coding::Gzip);
        }
        Coding::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.token().as_bytes()))
    }
}

/// How the content of a response was negotiated.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The coding that the file is sent in.
    pub coding: Option<Coding>,
    /// Another request might get it in another coding.
    pub by_coding: bool,
    /// Another request might get something of another type.
    pub by_type: bool,
    /// The origin that asks, by its number among those that are allowed to.
    pub origin: Option<u16>,
}

impl Negotiated {
    /// Appends the fields that say so, each with its CRLF.
    pub fn write_fields(self, out: &mut Vec<u8>) {
        if let Some(coding) = self.coding {
            out.extend_from_slice(b"Content-Encoding: ");
            out.extend_from_slice(coding.token().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(match (self.by_coding, self.by_type) {
            (false, false) => b"",
            (true, false) => b"Vary: Accept-Encoding\r\n",
            (false, true) => b"Vary: Accept\r\n",
            (true, true) => b"Vary: Accept, Accept-Encoding\r\n",
        });
    }
}

/// The codings that a client takes rather than the file as it is, the most wanted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preferred {
    codings: [Coding; 3],
    count: usize,
}

impl Preferred {
    /// What the value of Accept-Encoding asks for. Without the field, and where it says nothing that can be read, that
    /// is the file as it is: whoever takes a coding says so.
    pub fn of(accept_encoding: Option<&[u8]>) -> Preferred {
        let mut weights = [None; 3];
        let (mut identity, mut others) = (None, None);
        for item in accept_encoding.unwrap_or_default().split(|&byte| byte == b',') {
            let (name, weight) = split_weight(item);
            let Some(weight) = weight else { continue };
            match Coding::named(name) {
                Some(coding) => weights[coding.number()] = Some(weight),
                None if name.eq_ignore_ascii_case(b"identity") => identity = Some(weight),
                None if name == b"*" => others = Some(weight),
                None => {}
            }
        }
        let weight = |coding: Coding| weights[coding.number()].or(others).unwrap_or(0);
        let mut codings = Coding::ALL;
        // Stable: of those that are wanted alike, the shortest goes first.
        codings.sort_by_key(|&coding| WHOLE - weight(coding));
        // What is not named is acceptable, and wanted less than anything that is.
        let least = identity.unwrap_or(0).max(1);
        let count = codings.iter().take_while(|&&coding| weight(coding) >= least).count();
        Preferred { codings, count }
    }

    pub fn codings(&self) -> &[Coding] {
        &self.codings[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_preferred_follows_the_rfc() {
        use Coding::{Brotli, Gzip, Zstd};
        let cases: &[(&str, &[Coding])] = &[
            // RFC 9110, 12.5.3: its examples.
            ("compress, gzip", &[Gzip]),
            ("", &[]),
            ("*", &[Brotli, Zstd, Gzip]),
            ("compress;q=0.5, gzip;q=1.0", &[Gzip]),
            ("gzip;q=1.0, identity; q=0.5, *;q=0", &[Gzip]),
            // Weights order them; equal ones go by size.
            ("gzip, deflate, br, zstd", &[Brotli, Zstd, Gzip]),
            ("br;q=1, gzip;q=0.8", &[Brotli, Gzip]),
            ("br;q=0.8, gzip;q=1", &[Gzip, Brotli]),
            ("gzip;q=0.5, zstd;q=0.5", &[Zstd, Gzip]),
            ("gzip;q=0.001", &[Gzip]),
            ("gzip;q=0.123, br;q=0.124, zstd;q=0.12", &[Brotli, Gzip, Zstd]),
            // Not acceptable.
            ("gzip;q=0", &[]),
            ("gzip;q=0.000, br", &[Brotli]),
            ("*;q=0", &[]),
            ("*;q=0, gzip", &[Gzip]),
            ("*, br;q=0", &[Zstd, Gzip]),
            ("*;q=0.5, gzip;q=0.6", &[Gzip, Brotli, Zstd]),
            // The file as it is, named.
            ("identity", &[]),
            ("identity, gzip", &[Gzip]),
            ("identity;q=1, gzip;q=0.5", &[]),
            ("identity;q=0.5, gzip;q=0.5, br;q=0.4", &[Gzip]),
            ("identity;q=0, gzip;q=0.1", &[Gzip]),
            ("identity;q=0", &[]),
            // Case, blanks, aliases, tabs and empty items.
            ("GZIP", &[Gzip]),
            ("x-gzip", &[Gzip]),
            ("\tBr ; Q=0.5 , , ,gzip", &[Gzip, Brotli]),
            ("gzip ;q= 1", &[Gzip]),
            // What is no weight, or no coding of ours, says nothing.
            ("gzip;q=2", &[]),
            ("gzip;q=1.001", &[]),
            ("gzip;q=0.1234", &[]),
            ("gzip;q=-1", &[]),
            ("gzip;q=", &[]),
            ("gzip;q", &[]),
            ("gzip;q=.5", &[]),
            ("gzip;q=0.5x", &[]),
            ("brotli, gz, deflate", &[]),
            ("gzip;level=9", &[Gzip]),
            ("gzip, gzip;q=0", &[]),
        ];
        for (value, expected) in cases {
            assert_eq!(Preferred::of(Some(value.as_bytes())).codings(), *expected, "{value:?}");
        }
        assert_eq!(Preferred::of(None).codings(), []);
        assert_eq!(Preferred::of(Some(b"\xff, gzip")).codings(), [Gzip]);
    }

    #[test]
    fn a_coding_is_said_and_what_it_depends_on_too() {
        let said = |negotiated: Negotiated| {
            let mut out = Vec::new();
            negotiated.write_fields(&mut out);
            String::from_utf8(out).unwrap()
        };
        let no = Negotiated::default();
        assert_eq!(said(no), "");
        let identity = Negotiated { by_coding: true, ..no };
        assert_eq!(said(identity), "Vary: Accept-Encoding\r\n");
        let coded = Negotiated { coding: Some(Coding::Zstd), ..identity };
        assert_eq!(said(coded), "Content-Encoding: zstd\r\nVary: Accept-Encoding\r\n");
        assert_eq!(said(Negotiated { by_type: true, ..no }), "Vary: Accept\r\n");
        assert_eq!(said(Negotiated { by_type: true, ..identity }), "Vary: Accept, Accept-Encoding\r\n");
    }
}
