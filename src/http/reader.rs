//! Responses taken apart as their bytes arrive, in any pieces, without copying bodies: the client's side.

use super::chunked::{Chunked, Step};
use std::mem::MaybeUninit;

/// The longest response head that is accepted.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most header fields a response head may have.
const HEADERS_MAX: usize = 96;

/// What matters of a response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// The server closes the connection after this response.
    pub close: bool,
    /// The length of the body, where the head says it.
    pub length: Option<u64>,
    framing: Framing,
}

/// How the end of the body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum State {
    Head,
    Length { left: u64 },
    Chunked(Chunked),
    UntilClose,
}

/// What a step found.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The input is used up.
    More,
    /// A whole head of a final response.
    Head(Head),
    /// Bytes of the body.
    Body(&'a [u8]),
    /// The response is complete.
    End,
    /// Not an HTTP/1.1 response.
    Malformed,
}

/// How a response stands when its connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// No byte of a response had arrived.
    Between,
    /// The body was delimited by the end of the connection: the response is complete.
    Complete,
    /// Inside the head.
    InHead,
    /// Inside the body.
    InBody,
}

/// Takes the responses of one connection apart.
#[derive(Debug)]
pub struct Reader {
    state: State,
    /// The responses have no bodies, whatever their heads say: they answer HEAD.
    bodiless: bool,
    /// The beginning of a head whose end has not arrived.
    partial: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Reader::new(false)
    }
}

impl Reader {
    /// For a new connection; `bodiless` if its requests are HEAD.
    pub fn new(bodiless: bool) -> Reader {
        Reader { state: State::Head, bodiless, partial: Vec::new() }
    }

    /// Takes bytes off the front of `input` up to the next thing to say. `field` is shown every field of a final head,
    /// by name and value, right before [`Event::Head`].
    #[inline]
    pub fn step<'a>(&mut self, input: &mut &'a [u8], field: &mut impl FnMut(&str, &[u8])) -> Event<'a> {
        match &mut self.state {
            State::Head => self.head(input, field),
            State::Length { left: 0 } => self.end(),
            _ if input.is_empty() => Event::More,
            State::Length { left } => {
                let take = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= take as u64;
                let (body, rest) = input.split_at(take);
                *input = rest;
                Event::Body(body)
            }
            State::Chunked(chunked) => match chunked.step(input) {
                Step::More => Event::More,
                Step::Data(data) => Event::Body(data),
                Step::End => self.end(),
                Step::Malformed => Event::Malformed,
            },
            State::UntilClose => Event::Body(std::mem::take(input)),
        }
    }

    /// How many bytes of the body are still to come, where that is known.
    pub fn body_left(&self) -> Option<u64> {
        match self.state {
            State::Length { left } => Some(left),
            _ => None,
        }
    }

    /// Counts `bytes` of the body as arrived that nobody looked at; at most [`Reader::body_left`].
    pub fn skip_body(&mut self, bytes: u64) {
        if let State::Length { left } = &mut self.state {
            *left = left.saturating_sub(bytes);
        }
    }

    /// The connection ended. The reader is ready for the next one.
    pub fn finish(&mut self) -> Ending {
        let ending = match self.state {
            State::Head if self.partial.is_empty() => Ending::Between,
            State::Head => Ending::InHead,
            State::UntilClose => Ending::Complete,
            State::Length { .. } | State::Chunked(_) => Ending::InBody,
        };
        self.state = State::Head;
        self.partial.clear();
        ending
    }

    fn end<'a>(&mut self) -> Event<'a> {
        self.state = State::Head;
        Event::End
    }

    fn head<'a>(&mut self, input: &mut &'a [u8], field: &mut impl FnMut(&str, &[u8])) -> Event<'a> {
        loop {
            if input.is_empty() {
                return Event::More;
            }
            let (used, head) = if self.partial.is_empty() {
                match parse(input, field) {
                    Parsed::Head(used, head) => (used, head),
                    Parsed::Malformed => return Event::Malformed,
                    Parsed::Partial => {
                        self.partial.extend_from_slice(input);
                        *input = &[];
                        return Event::More;
                    }
                }
            } else {
                let before = self.partial.len();
                self.partial.extend_from_slice(&input[..input.len().min(HEAD_BYTES_MAX)]);
                match parse(&self.partial, field) {
                    Parsed::Head(used, head) => {
                        self.partial.clear();
                        (used.saturating_sub(before), head)
                    }
                    Parsed::Partial if self.partial.len() <= HEAD_BYTES_MAX => {
                        *input = &[];
                        return Event::More;
                    }
                    Parsed::Partial | Parsed::Malformed => return Event::Malformed,
                }
            };
            *input = &input[used..];
            // Interim responses (100, 103) precede the one that was asked for.
            if is_interim(head.status) {
                continue;
            }
            self.state = match head.framing {
                _ if self.bodiless => State::Length { left: 0 },
                Framing::Length(left) => State::Length { left },
                Framing::Chunked => State::Chunked(Chunked::default()),
                Framing::UntilClose => State::UntilClose,
            };
            return Event::Head(head);
        }
    }
}

enum Parsed {
    /// The head and the bytes it took.
    Head(usize, Head),
    Partial,
    Malformed,
}

fn parse(bytes: &[u8], field: &mut impl FnMut(&str, &[u8])) -> Parsed {
    let mut headers = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
    let used = match parsed {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Malformed,
    };
    match interpret(&response, field) {
        Some(head) => Parsed::Head(used, head),
        None => Parsed::Malformed,
    }
}

/// Reads the fields that matter to the framing, told apart by their length first, and shows all of a final response.
fn interpret(response: &httparse::Response<'_, '_>, field: &mut impl FnMut(&str, &[u8])) -> Option<Head> {
    let status = response.code?;
    let mut head = Head { status, close: response.version == Some(0), length: None, framing: Framing::UntilClose };
    let mut chunked = false;
    for header in &*response.headers {
        if !is_interim(status) {
            field(header.name, header.value);
        }
        match header.name.len() {
            10 if header.name.eq_ignore_ascii_case("connection") => {
                for option in header.value.split(|&byte| byte == b',') {
                    let option = option.trim_ascii();
                    if option.eq_ignore_ascii_case(b"close") {
                        head.close = true;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        head.close = false;
                    }
                }
            }
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let length = decimal(header.value.trim_ascii())?;
                if head.length.is_some_and(|other| other != length) {
                    return None;
                }
                head.length = Some(length);
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                // Only as the last coding does it delimit; then the length, if any, does not count.
                let last = header.value.rsplit(|&byte| byte == b',').next().unwrap_or_default();
                chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
    }
    if matches!(status, 100..200 | 204 | 304) {
        head.framing = Framing::Length(0);
        head.length = Some(0);
    } else if chunked {
        head.framing = Framing::Chunked;
        head.length = None;
    } else if let Some(length) = head.length {
        head.framing = Framing::Length(length);
    } else {
        head.close = true;
    }
    Some(head)
}

fn is_interim(status: u16) -> bool {
    (100..200).contains(&status)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One response as (status, Cache-Status, body); `None` for a malformed one.
    type Seen = Option<(u16, String, Vec<u8>)>;

    fn read(pieces: &[&[u8]]) -> (Vec<Seen>, Ending) {
        let mut reader = Reader::default();
        let mut seen: Vec<Seen> = Vec::new();
        let mut cache = String::new();
        'pieces: for piece in pieces {
            let mut input = *piece;
            loop {
                let mut field = |name: &str, value: &[u8]| {
                    if name.eq_ignore_ascii_case("cache-status") {
                        cache = String::from_utf8_lossy(value).into_owned();
                    }
                };
                match reader.step(&mut input, &mut field) {
                    Event::More => break,
                    Event::Head(head) => seen.push(Some((head.status, std::mem::take(&mut cache), Vec::new()))),
                    Event::Body(bytes) => seen.last_mut().unwrap().as_mut().unwrap().2.extend_from_slice(bytes),
                    Event::End => {}
                    Event::Malformed => {
                        seen.push(None);
                        break 'pieces;
                    }
                }
            }
        }
        (seen, reader.finish())
    }

    const PIPELINED: &[u8] = b"HTTP/1.1 103 Early Hints\r\nCache-Status: of no response\r\n\r\n\
        HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nCache-Status: forebay; hit\r\n\r\nhello\
        HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nCache-Status: forebay; \
        fwd=uri-miss\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\
        HTTP/1.0 404 Not Found\r\n\r\nuntil the end";

    fn pipelined() -> Vec<Seen> {
        vec![
            Some((200, "forebay; hit".into(), b"hello".to_vec())),
            Some((304, String::new(), vec![])),
            Some((200, "forebay; fwd=uri-miss".into(), b"abc".to_vec())),
            Some((200, String::new(), vec![])),
            Some((404, String::new(), b"until the end".to_vec())),
        ]
    }

    #[test]
    fn every_split_reads_alike() {
        for piece in 1..PIPELINED.len() {
            let pieces: Vec<&[u8]> = PIPELINED.chunks(piece).collect();
            assert_eq!(read(&pieces), (pipelined(), Ending::Complete), "in pieces of {piece}");
        }
    }

    #[test]
    fn answers_to_head_have_no_body_whatever_they_say() {
        let mut reader = Reader::new(true);
        let mut input =
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..];
        for length in [Some(5), None] {
            match reader.step(&mut input, &mut |_, _| ()) {
                Event::Head(head) => assert_eq!(head.length, length),
                other => panic!("{other:?}"),
            }
            assert_eq!(reader.step(&mut input, &mut |_, _| ()), Event::End);
        }
        assert_eq!(reader.finish(), Ending::Between);
    }

    #[test]
    fn endings_are_told_apart() {
        for (text, ending) in [
            ("", Ending::Between),
            ("HTTP/1.1 200 O", Ending::InHead),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", Ending::InBody),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Ending::Between),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", Ending::InBody),
            ("HTTP/1.1 200 OK\r\n\r\nhell", Ending::Complete),
        ] {
            assert_eq!(read(&[text.as_bytes()]).1, ending, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_a_response_is_refused() {
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "\0\0\0\0\0\0\0\0",
        ] {
            let (seen, _) = read(&[text.as_bytes()]);
            assert_eq!(seen.last(), Some(&None), "{text:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_refused_at_its_limit() {
        let line = [b'a'; 1000];
        let mut pieces: Vec<&[u8]> = vec![b"HTTP/1.1 200 OK\r\nX: "];
        pieces.extend(std::iter::repeat_n(&line[..], 80));
        assert_eq!(read(&pieces).0, vec![None]);
    }

    proptest! {
        #[test]
        fn no_input_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            read(&pieces);
        }

        #[test]
        fn no_damage_to_real_responses_panics(at in 0..PIPELINED.len(), byte: u8, piece in 1..64usize) {
            let mut text = PIPELINED.to_vec();
            text[at] = byte;
            let pieces: Vec<&[u8]> = text.chunks(piece).collect();
            read(&pieces);
        }
    }
}
