//! What a client sends, cut into heads and bodies before hyper sees it.
//!
//! Heads are read by the same parser as on the data plane, so that both planes refuse the same requests in the same
//! words. hyper gets well-formed heads and their bodies. A request that is refused for its head is replaced by a
//! stand-in, whose answer is the refusal and ends the connection.

use bytes::{Buf, Bytes, BytesMut};

use crate::http::framing::{ChunkScan, Framing};
use crate::http::request::{self, BadRequest, HeadLimits, Parsed, Request};
use crate::http::response::Problem;

/// The receiving side of a connection.
#[derive(Debug)]
pub(crate) struct Inbound {
    limits: HeadLimits,
    /// Received, and not part of anything that was passed on.
    received: BytesMut,
    place: Place,
}

/// Where the next byte belongs.
#[derive(Debug)]
enum Place {
    Head,
    /// In a body of which so much is to come.
    Length(u64),
    Chunks(ChunkScan),
    /// After the last request that is read.
    Over,
}

/// How much longer a head may become whose target is encoded for hyper.
pub(crate) const HEAD_GROWTH: usize = 2;

/// What stands in for the head of a request that is refused: hyper answers it, and ends the connection.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";

impl Inbound {
    pub fn new(limits: HeadLimits, received: Vec<u8>) -> Inbound {
        Inbound { limits, received: BytesMut::from(&received[..]), place: Place::Head }
    }

    /// The next head for hyper, if it has arrived; with the refusal, if it is a stand-in.
    pub fn next_head(&mut self) -> Option<(Bytes, Option<Problem>)> {
        if !matches!(self.place, Place::Head) {
            return None;
        }
        // Blank lines before a request are passed over (RFC 9112, 2.2).
        let blank = self.received.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.received.advance(blank);
        match request::parse(&self.received, self.limits) {
            Parsed::Partial => None,
            Parsed::Bad(why) => Some(self.refuse(why)),
            Parsed::Whole(request) => {
                let head = match rewritten(&self.received, &request) {
                    Some(head) if head.len() <= HEAD_GROWTH * self.limits.bytes => head,
                    Some(_) => return Some(self.refuse(BadRequest::LineTooLong)),
                    None => return Some(self.refuse(BadRequest::Target)),
                };
                self.place = match request.framing {
                    Framing::None | Framing::Length(0) => Place::Head,
                    Framing::Length(length) => Place::Length(length),
                    Framing::Chunked => Place::Chunks(ChunkScan::default()),
                };
                let len = request.len;
                self.received.advance(len);
                Some((head, None))
            }
        }
    }

    fn refuse(&mut self, why: BadRequest) -> (Bytes, Option<Problem>) {
        let problem = Problem::of_bad_request(why, self.limits.bytes, self.limits.fields);
        (self.end(), Some(problem))
    }

    /// Nothing more is read; hyper gets a stand-in instead, whose answer is a refusal.
    pub fn end(&mut self) -> Bytes {
        self.place = Place::Over;
        self.received = BytesMut::new();
        Bytes::from_static(STAND_IN)
    }

    /// Adds bytes that were received while a head was waited for.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// Whether a head has begun and is not whole.
    pub fn is_in_head(&self) -> bool {
        matches!(self.place, Place::Head) && !self.received.is_empty()
    }

    /// Whether the next bytes are those of a body, and how many of them may be taken at once.
    pub fn body_room(&self) -> Option<usize> {
        match self.place {
            Place::Head | Place::Over => None,
            Place::Length(left) => Some(usize::try_from(left).unwrap_or(usize::MAX)),
            Place::Chunks(_) => Some(usize::MAX),
        }
    }

    /// Whether nothing more is read.
    pub fn is_over(&self) -> bool {
        matches!(self.place, Place::Over)
    }

    /// Bytes of a body that arrived together with its head, at most `len`.
    pub fn take_body(&mut self, len: usize) -> Option<BytesMut> {
        let len = len.min(self.body_room()?).min(self.received.len());
        if len == 0 {
            return None;
        }
        let belongs = self.pass_body(len);
        Some(self.received.split_to(belongs))
    }

    /// Bytes of a body have been received; says how many belong to it. The others are kept for the next head.
    pub fn received_body(&mut self, bytes: &[u8]) -> usize {
        let belongs = self.pass(bytes);
        self.received.extend_from_slice(&bytes[belongs..]);
        belongs
    }

    fn pass_body(&mut self, len: usize) -> usize {
        let received = std::mem::take(&mut self.received);
        let belongs = self.pass(&received[..len]);
        self.received = received;
        belongs
    }

    fn pass(&mut self, bytes: &[u8]) -> usize {
        let (belongs, is_over) = match &mut self.place {
            Place::Head | Place::Over => return 0,
            Place::Length(left) => {
                let belongs = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= belongs as u64;
                (belongs, *left == 0)
            }
            Place::Chunks(scan) => (scan.scan(bytes).0, scan.is_over()),
        };
        if is_over {
            self.place = Place::Head;
        }
        belongs
    }
}

/// A head for hyper: as it was sent, but for the bytes of its target that hyper refuses and the data plane does not,
/// and without the upgrades that it asks for. There are none here, and hyper may end such a connection before it has
/// answered. `None`: the target is none for hyper, however it is encoded, and hyper would refuse it without a word.
fn rewritten(received: &[u8], request: &Request<'_>) -> Option<Bytes> {
    let head = &received[..request.len];
    let is_upgrade = |line: &&[u8]| line.get(..8).is_some_and(|name| name.eq_ignore_ascii_case(b"upgrade:"));
    let lines = || head.split_inclusive(|&byte| byte == b'\n');
    let stripped = lines()
        .any(|line| is_upgrade(&line))
        .then(|| lines().filter(|line| !is_upgrade(line)).collect::<Vec<_>>().concat());
    let head = stripped.as_deref().unwrap_or(head);
    if hyper::Uri::try_from(request.target).is_ok() {
        return Some(Bytes::copy_from_slice(head));
    }
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'`' | b'^' | b'|' | b'\\');
    let mut target = Vec::with_capacity(request.target.len() + 64);
    for &byte in request.target {
        match is_plain(byte) {
            true => target.push(byte),
            false => target.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    hyper::Uri::try_from(&target[..]).ok()?;
    let start = head.iter().position(|&byte| byte == b' ').map_or(0, |at| at + 1);
    Some([&head[..start], &target, &head[start + request.target.len()..]].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 256, fields: 8 };

    /// Everything that is passed on of `bytes`, received in pieces of `step`: heads, bodies, targets and refusals.
    fn passed(bytes: &[u8], step: usize) -> Vec<String> {
        let mut inbound = Inbound::new(LIMITS, Vec::new());
        let mut out: Vec<String> = Vec::new();
        let mut body = String::new();
        for piece in bytes.chunks(step) {
            match inbound.body_room() {
                Some(_) => {
                    let belongs = inbound.received_body(piece);
                    body.push_str(std::str::from_utf8(&piece[..belongs]).unwrap());
                }
                None => inbound.receive(piece),
            }
            loop {
                if let Some(piece) = inbound.take_body(usize::MAX) {
                    body.push_str(std::str::from_utf8(&piece).unwrap());
                } else if let Some((head, refusal)) = inbound.next_head() {
                    if !body.is_empty() {
                        out.push(std::mem::take(&mut body));
                    }
                    let status = refusal.map_or(0, |problem| problem.status);
                    out.push(format!("{status} {}", String::from_utf8_lossy(&head)));
                } else {
                    break;
                }
            }
        }
        out.extend(Some(body).filter(|body| !body.is_empty()));
        out
    }

    #[test]
    fn requests_are_cut_at_their_ends_however_they_arrive() {
        let sent = "\r\nPUT /a<b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET http://h/c HTTP/1.0\r\n\r\n\
                    POST * HTTP/1.1\r\nHost:\r\nupgrade: h2c\r\nTransfer-Encoding: chunked\r\nUpgrade:\r\n\r\n\
                    3\r\nGET\r\n0\r\nA: b\r\n\r\n\
                    GET /d HTTP/1.1\r\nHost: x\r\n\r\n";
        for step in 1..=sent.len() {
            assert_eq!(
                passed(sent.as_bytes(), step),
                [
                    "0 PUT /a%3Cb HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n",
                    "abc",
                    "0 GET http://h/c HTTP/1.0\r\n\r\n",
                    "0 POST * HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked\r\n\r\n",
                    "3\r\nGET\r\n0\r\nA: b\r\n\r\n",
                    "0 GET /d HTTP/1.1\r\nHost: x\r\n\r\n",
                ],
                "{step}"
            );
        }
    }

    #[test]
    fn what_is_refused_is_the_last_thing_that_is_read() {
        for (sent, status) in [
            ("GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
            ("GET /a HTTP/1.1\r\n\r\n", 400),
            ("PUT http:/a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET http://a:b:c/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /a HTTP/3.0\r\nHost: a\r\n\r\n", 505),
            ("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        ] {
            let followed = format!("{sent}GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
            let stand_in = std::str::from_utf8(STAND_IN).unwrap();
            assert_eq!(passed(followed.as_bytes(), 1000), [format!("{status} {stand_in}")], "{sent}");
        }
    }
}
