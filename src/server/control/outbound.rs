//! What of each response a client's socket has taken: bodies are counted, and lines of the access log end, as the bytes
//! leave.
//!
//! hyper takes a body long before it is sent. So the bytes that it hands to the socket are followed here: a head up to
//! its blank line, then the body as it is delimited.

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

/// What one connection sends: where in it the next byte is, and the responses that have not left, the oldest first. One
/// that never does is dropped with this, and logged as aborted.
#[derive(Default)]
pub(super) struct Outbound(RefCell<Sending>);

#[derive(Default)]
struct Sending {
    place: Place,
    owed: VecDeque<Owed>,
    /// Responses that hyper was given.
    begun: u64,
    interim: Interim,
}

/// Interim responses that wait until the responses before them have left.
#[derive(Default)]
struct Interim {
    heads: Vec<u8>,
    /// How many responses come before them.
    after: u64,
    /// The socket has taken a part of them.
    is_on_its_way: bool,
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
        let sending = &mut *self.0.borrow_mut();
        sending.begun += 1;
        sending.owed.push_back(Owed { end, class, record });
    }

    /// An interim response is to go before the response that hyper is given next.
    pub fn inform(&self, head: &[u8]) {
        let Sending { begun, interim, .. } = &mut *self.0.borrow_mut();
        if interim.heads.is_empty() {
            interim.after = *begun;
        }
        interim.heads.extend_from_slice(head);
    }

    /// The interim responses that are to be sent now. What the socket does not take is [put back](Outbound::put_back).
    pub fn take_interim(&self) -> Vec<u8> {
        let Sending { place, owed, begun, interim } = &mut *self.0.borrow_mut();
        let gone = *begun - owed.len() as u64;
        if interim.is_on_its_way || (gone == interim.after && place.is_between()) {
            return std::mem::take(&mut interim.heads);
        }
        if gone > interim.after {
            // Its response was quicker.
            interim.heads.clear();
        }
        Vec::new()
    }

    /// The socket has taken all of the interim responses but these bytes.
    pub fn put_back(&self, heads: Vec<u8>) {
        let Sending { place, interim, .. } = &mut *self.0.borrow_mut();
        interim.is_on_its_way = !heads.is_empty() && !place.is_between();
        interim.heads = heads;
    }

    /// The socket took these bytes.
    pub fn sent(&self, mut bytes: &[u8], metrics: &WorkerMetrics) {
        metrics.bytes_sent.add(bytes.len() as u64);
        let Sending { place, owed, .. } = &mut *self.0.borrow_mut();
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
        let Sending { place, owed, .. } = &mut *self.0.borrow_mut();
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

    /// Whether the next byte is the first of a head.
    fn is_between(&self) -> bool {
        matches!(self, Place::Head { len: 0, .. })
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

    /// Whatever hyper has not written yet, a hint stands between two responses, before the one that it is of, or
    /// nowhere.
    #[test]
    fn an_interim_response_stands_before_its_own_response() {
        let metrics = Metrics::new(1).workers[0].clone();
        let outbound = Outbound::default();
        let begin = || outbound.begin(End::Length(5), Class::Other, Record::default());
        begin();
        outbound.inform(b"HTTP/1.1 103 \r\n\r\n");
        assert!(outbound.take_interim().is_empty(), "the first response has not left");
        outbound.sent(b"HTTP/1.1 200 \r\n\r\nhel", &metrics);
        assert!(outbound.take_interim().is_empty(), "it is in the middle");
        outbound.sent(b"lo", &metrics);
        let heads = outbound.take_interim();
        assert_eq!(heads, b"HTTP/1.1 103 \r\n\r\n");
        // The socket takes a part; another one comes; and the response is there.
        outbound.sent(&heads[..3], &metrics);
        outbound.put_back(heads[3..].to_vec());
        outbound.inform(b"HTTP/1.1 102 \r\n\r\n");
        begin();
        let rest = outbound.take_interim();
        assert_eq!(rest, b"P/1.1 103 \r\n\r\nHTTP/1.1 102 \r\n\r\n");
        outbound.sent(&rest, &metrics);
        outbound.put_back(Vec::new());
        outbound.sent(b"HTTP/1.1 200 \r\n\r\nhello", &metrics);
        // One whose response has left before it is of no use.
        outbound.inform(b"HTTP/1.1 103 \r\n\r\n");
        begin();
        outbound.sent(b"HTTP/1.1 200 \r\n\r\nhello", &metrics);
        assert!(outbound.take_interim().is_empty() && outbound.0.borrow().owed.is_empty());
        outbound.inform(b"HTTP/1.1 102 \r\n\r\n");
        assert_eq!(outbound.take_interim(), b"HTTP/1.1 102 \r\n\r\n", "the late one is gone");
    }

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
