//! What clients ask for, and how they behave.

use super::writer::another_size;
use crate::ring::world::Dice;
use crate::ring::world::disk::Disk;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Get,
    Head,
    Put,
    Delete,
    /// A GET that only the control plane serves.
    GetWithBody,
    /// No request at all.
    Malformed,
}

/// A request of a client.
#[derive(Debug, Clone)]
pub struct Asked {
    pub what: What,
    /// `None`: a name that nothing has.
    pub file: Option<usize>,
    /// The first byte, and the one after the last.
    pub range: Option<(u64, u64)>,
    pub closes: bool,
    /// Where it ends in what the client sends.
    pub end: u64,
}

/// How a client behaves: whether it may be left without an answer, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Polite,
    /// Reads or sends little at a time.
    Slow,
    /// Stops reading, or sending, or both, and stays.
    Stalls,
    /// Goes away.
    Leaves,
    /// Completes a head at about the time that times it out.
    Dawdles,
    /// Completes each head in good time, and always has half of the next one outstanding.
    Halves,
}

impl Asked {
    /// What is sent for it.
    pub fn words(&self, name: &str, disk: &Disk, dice: &mut Dice) -> Vec<u8> {
        let mut fields = String::from("Host: localhost\r\n");
        if let Some((from, to)) = self.range {
            fields += &format!("Range: bytes={from}-{}\r\n", to - 1);
        }
        if self.closes {
            fields += "Connection: close\r\n";
        }
        if dice.one_in(6) {
            fields += &format!("X-Padding: {}\r\n", "x".repeat(dice.below(3000)));
        }
        let (method, body) = match self.what {
            What::Get => ("GET", None),
            What::Head => ("HEAD", None),
            What::Delete => ("DELETE", None),
            What::GetWithBody => ("GET", Some(1 + dice.below(30))),
            What::Put => {
                let size = self.file.and_then(|file| disk.size_of(file)).unwrap_or(1000).min(20_000);
                ("PUT", Some(another_size(dice, size) as usize))
            }
            What::Malformed => {
                return [&b"GET /f1\x01 HTTP/1.1\r\n\r\n"[..], b"GET / HTTP/7.7\r\n\r\n"][dice.below(2)].into();
            }
        };
        if let Some(body) = body {
            fields += &format!("Content-Length: {body}\r\n");
        }
        let mut words = format!("{method} /{name} HTTP/1.1\r\n{fields}\r\n").into_bytes();
        // A body that would be a request, if somebody took it for one.
        words.extend(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".iter().cycle().take(body.unwrap_or(0)));
        words
    }
}
