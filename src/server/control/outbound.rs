//! What of each response a client's socket has taken: bodies are counted, and lines of the access log end, as the bytes leave.
//!
//! hyper takes a body long before it is sent. So the bytes that it hands to the socket are followed here: a head up to its blank
//! line, then the body as it is delimited.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::http::framing::ChunkScan;
use crate::metrics::WorkerMetrics;
use crate::metrics::labels::Class;
use crate::ring::system::monotonic;
use crate::server::access_log::Record;

/// Where the body of a response ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunks,
    /// With the connection.
    Close,
}

/// What one connection sends: where in it the next byte is, and the responses that have not left, the oldest first. One that never
/// does is dropped with this, and logged as aborted.
#[derive(Default)]
pub(super) struct Outbound(RefCell<Sending>);

#[derive(Default)]
struct Sending {
    place: Place,
    owed: VecDeque<Owed>,
}

struct Owed {
    end: End,
    class: Class,
    record: Record,
}

#[derive(Debug)]
enum Place {
    /// In a head: so many of its bytes were passed, and so many of the line that they end in.
    Head {
        len: usize,
        line: usize,
        /// It is that of an interim response: another one follows.
        is_interim: bool,
    },
    /// In a body of which so much is to come.
    Body(u64),
    Chunks(ChunkScan),
}

impl Default for Place {
    fn default() -> Place {
        Place::Head { len: 0, line: 0, is_interim: false }
    }
}

impl Outbound {
    /// hyper is given a response.
    pub fn begin(&self, end: End, class: Class, record: Record) {
        self.0.borrow_mut().owed.push_back(Owed { end, class, record });
    }

    /// The socket took these bytes.
    pub fn sent(&self, mut bytes: &[u8], metrics: &WorkerMetrics) {
        metrics.bytes_sent.add(bytes.len() as u64);
        let Sending { place, owed } = &mut *self.0.borrow_mut();
        while !bytes.is_empty() {
            // What nobody asked for has no body: a refusal of hyper's own.
            let end = owed.front().map_or(End::Length(0), |first| first.end);
            let (passed, content) = place.pass(bytes, end);
            bytes = &bytes[passed..];
            if content > 0
                && let Some(first) = owed.front_mut()
            {
                metrics.body_bytes[first.class].add(content);
                first.record.sent(content);
            }
            if place.is_over() {
                *place = Place::default();
                if let Some(Owed { record, .. }) = owed.pop_front() {
                    record.end(monotonic());
                }
            }
        }
    }

    /// The server ends its side, and all it had to send has left.
    pub fn close(&self) {
        let Sending { place, owed } = &mut *self.0.borrow_mut();
        let is_in_body = matches!(place, Place::Body(_));
        if let Some(Owed { record, .. }) = owed.pop_front_if(|first| is_in_body && first.end == End::Close) {
            record.end(monotonic());
        }
    }
}

impl Place {
    /// Passes the next bytes; says how many, and how many of those are content.
    fn pass(&mut self, bytes: &[u8], end: End) -> (usize, u64) {
        match self {
            Place::Head { .. } => {
                let mut passed = 0;
                while passed < bytes.len() && matches!(self, Place::Head { .. }) {
                    self.pass_head(bytes[passed], end);
                    passed += 1;
                }
                (passed, 0)
            }
            Place::Body(left) => {
                let some = (bytes.len() as u64).min(*left);
                *left -= some;
                (some as usize, some)
            }
            Place::Chunks(scan) => scan.scan(bytes),
        }
    }

    /// Whether the response is over.
    fn is_over(&self) -> bool {
        match self {
            Place::Head { .. } => false,
            Place::Body(left) => *left == 0,
            Place::Chunks(scan) => scan.is_over(),
        }
    }

    /// One more byte of a head.
    fn pass_head(&mut self, byte: u8, end: End) {
        let Place::Head { len, line, is_interim } = self else { return };
        // HTTP/1.1 1xx
        *is_interim |= *len == b"HTTP/1.1 ".len() && byte == b'1';
        *len += 1;
        match byte {
            b'\r' => {}
            b'\n' if *line == 0 => {
                *self = match (*is_interim, end) {
                    (true, _) => Place::default(),
                    (false, End::Length(length)) => Place::Body(length),
                    (false, End::Chunks) => Place::Chunks(ChunkScan::default()),
                    (false, End::Close) => Place::Body(u64::MAX),
                };
            }
            b'\n' => *line = 0,
            _ => *line += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::metrics::counter::Read;

    #[test]
    fn content_is_counted_as_it_leaves() {
        let sent = "inue\r\n\r\nHTTP/1.1 200 OK\r\nA: 1\r\n\r\nhelloHTTP/1.1 204 No Content\r\n\r\n\
                    HTTP/1.1 200 OK\r\nA: chunked\r\n\r\n3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n\
                    HTTP/1.0 200 OK\r\n\r\nto the end\n\n";
        for step in 1..=sent.len() {
            let metrics = Metrics::new(1).workers[0].clone();
            let counted = |class: Class| metrics.body_bytes[class].get();
            let outbound = Outbound::default();
            // Before its response is there.
            outbound.sent(b"HTTP/1.1 100 Cont", &metrics);
            outbound.begin(End::Length(5), Class::Hit, Record::default());
            outbound.begin(End::Length(0), Class::Other, Record::default());
            outbound.begin(End::Chunks, Class::Other, Record::default());
            outbound.begin(End::Close, Class::MissStored, Record::default());
            for piece in sent.as_bytes().chunks(step) {
                outbound.sent(piece, &metrics);
            }
            assert_eq!((counted(Class::Hit), counted(Class::Other), counted(Class::MissStored)), (5, 19, 12), "{step}");
            assert_eq!(outbound.0.borrow().owed.len(), 1, "its end is not there yet");
            outbound.close();
            assert!(outbound.0.borrow().owed.is_empty());
            assert_eq!(metrics.bytes_sent.get(), 17 + sent.len() as u64);
        }
    }
}
