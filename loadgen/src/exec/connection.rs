//! One connection: the requests on their way, and the response that is arriving.
//!
//! ```text
//! Closed ──connect──▶ Connecting ──established──▶ Open ──close, error, time-out──▶ Closed
//!    ▲                     │ refused, time-out
//!    └─────────────────────┘
//! ```

use crate::{
    requests::Requests,
    stats::{Class, Failure},
};
use forebay::http::reader::{Ending, Event, Head, Reader};
use std::collections::VecDeque;

/// A request that waits for its response, or for its turn to be sent again.
#[derive(Debug, Clone, Copy)]
pub struct Flight {
    pub item: u32,
    /// When it was meant to start, in an open loop.
    pub intended_ns: Option<u64>,
    pub sent_ns: u64,
    /// 0 until the first byte has arrived.
    pub first_byte_ns: u64,
    /// Started after the warm-up.
    pub measured: bool,
    /// How often it was sent before, on connections that the server closed without beginning to answer it.
    pub repeats: u8,
}

/// How often a request is sent again at most.
const REPEATS_MAX: u8 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// To be connected at this time.
    Closed {
        retry_ns: u64,
    },
    Connecting {
        since_ns: u64,
    },
    Open,
}

/// A response whose head has arrived.
#[derive(Debug, Clone, Copy)]
struct Arriving {
    head: Head,
    class: Class,
    body_bytes: u64,
    wrong: bool,
}

/// What came of a request.
#[derive(Debug, Clone, Copy)]
pub enum Finished {
    Success {
        flight: Flight,
        class: Class,
        body_bytes: u64,
    },
    /// `status` is that of the response, where it is what failed the request.
    Failure {
        flight: Flight,
        class: Class,
        kind: Failure,
        status: Option<u16>,
    },
}

/// Why a connection ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The server closed it, or said that its last response was the last one: it has not looked at what follows.
    Closed,
    /// An error of the socket.
    Error,
    /// What arrived is not HTTP.
    Malformed,
    /// Requests sent at or before this time have had their time.
    Timeout { sent_before_ns: u64 },
}

/// Whether a connection can go on after what it received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    GoesOn,
    /// The last response was announced as the last one, or something arrived that was not asked for.
    Ends,
    Malformed,
}

#[derive(Debug)]
pub struct Connection {
    pub phase: Phase,
    /// Sent requests in order, and behind them `unsent` ones.
    pub flights: VecDeque<Flight>,
    pub unsent: usize,
    /// Failed attempts to connect, or connections without a response, in a row.
    pub failures: u32,
    /// Responses received on this connection.
    responses: u64,
    reader: Reader,
    arriving: Option<Arriving>,
}

impl Connection {
    /// Not connected yet, for the `requests` of a run.
    pub fn new(requests: &Requests) -> Connection {
        Connection {
            phase: Phase::Closed { retry_ns: 0 },
            flights: VecDeque::new(),
            unsent: 0,
            failures: 0,
            responses: 0,
            reader: Reader::new(requests.bodiless()),
            arriving: None,
        }
    }

    /// Takes received bytes, and says what came of which request.
    #[inline]
    pub fn receive(
        &mut self,
        mut input: &[u8],
        now_ns: u64,
        requests: &Requests,
        finished: &mut impl FnMut(Finished),
    ) -> After {
        loop {
            match self.flights.front_mut() {
                Some(flight) if flight.first_byte_ns == 0 && !input.is_empty() => flight.first_byte_ns = now_ns,
                Some(_) => {}
                // Nothing was asked for: a farewell (408, or garbage), after which the server closes.
                None if input.is_empty() => return After::GoesOn,
                None => return After::Ends,
            }
            let mut class = Class::Unclassified;
            let mut field = |name: &str, value: &[u8]| requests.rule().note(name, value, &mut class);
            match self.reader.step(&mut input, &mut field) {
                Event::More => return After::GoesOn,
                Event::Head(head) => self.arriving = Some(Arriving { head, class, body_bytes: 0, wrong: false }),
                Event::Body(bytes) => {
                    let (Some(arriving), Some(flight)) = (&mut self.arriving, self.flights.front()) else {
                        return After::Malformed;
                    };
                    if let Some(body) = requests.body(flight.item)
                        && arriving.head.status == 200
                    {
                        arriving.wrong |= !body.matches(arriving.body_bytes, bytes);
                    }
                    arriving.body_bytes += bytes.len() as u64;
                }
                Event::End => {
                    let closes = requests.single_use() || self.arriving.is_some_and(|arriving| arriving.head.close);
                    self.complete(requests, finished);
                    if closes {
                        return After::Ends;
                    }
                }
                Event::Malformed => return After::Malformed,
            }
        }
    }

    /// How many bytes of the body that is arriving are still to come; 0 where that is not known.
    pub fn body_left(&self) -> u64 {
        self.reader.body_left().unwrap_or(0)
    }

    /// Counts bytes of the body as arrived that nobody looked at; at most [`Connection::body_left`].
    pub fn skip_body(&mut self, bytes: u64) {
        self.reader.skip_body(bytes);
        if let Some(arriving) = &mut self.arriving {
            arriving.body_bytes += bytes;
        }
    }

    /// The front request has its whole response.
    #[inline]
    fn complete(&mut self, requests: &Requests, finished: &mut impl FnMut(Finished)) {
        let (Some(Arriving { head, class, body_bytes, wrong }), Some(flight)) =
            (self.arriving.take(), self.flights.pop_front())
        else {
            return;
        };
        self.responses += 1;
        self.failures = 0;
        let verified = requests.body(flight.item).is_some() && !requests.bodiless();
        let size = requests.size(flight.item).filter(|_| verified);
        let kind = match head.status {
            200..300 if wrong => Some(Failure::WrongBytes),
            200 if size.is_some_and(|size| body_bytes < size) => Some(Failure::ShortBody),
            200 if size.is_some_and(|size| body_bytes > size) => Some(Failure::WrongBytes),
            200..300 => None,
            _ => Some(Failure::Status),
        };
        finished(match kind {
            None => Finished::Success { flight, class, body_bytes },
            Some(kind) => {
                let status = (kind == Failure::Status).then_some(head.status);
                Finished::Failure { flight, class, kind, status }
            }
        });
    }

    /// The connection is lost, or ends as announced: fails what was cut off, and hands back in `again` what the server
    /// never began to answer (RFC 9112, section 9.3.1: a client may retry idempotent
    /// requests on a connection that was closed). Resets the connection for its successor.
    pub fn lose(
        &mut self,
        loss: Loss,
        requests: &Requests,
        again: &mut VecDeque<Flight>,
        finished: &mut impl FnMut(Finished),
    ) {
        let ending = self.reader.finish();
        if ending == Ending::Complete && loss == Loss::Closed {
            self.complete(requests, finished);
        }
        let class = self.arriving.take().map_or(Class::Unclassified, |arriving| arriving.class);
        let begun = matches!(ending, Ending::InHead | Ending::InBody) || loss == Loss::Malformed;
        let unsent_from = self.flights.len() - self.unsent.min(self.flights.len());
        for (index, mut flight) in std::mem::take(&mut self.flights).into_iter().enumerate() {
            let cut_off = index == 0 && begun;
            // A server that answers nothing at all on a connection does not mean "send it again". One that answered
            // others on it may have closed it while it was idle, or after them; and so it may with the next connection
            // that the request is sent on, as long as that has answered others too.
            let healthy = self.responses > 0 && flight.repeats < REPEATS_MAX && requests.may_repeat();
            let may_repeat = healthy || index >= unsent_from;
            let kind = match loss {
                Loss::Timeout { sent_before_ns } if flight.sent_ns <= sent_before_ns => Failure::Timeout,
                Loss::Malformed if cut_off => Failure::Malformed,
                Loss::Closed if cut_off && ending == Ending::InBody => Failure::ShortBody,
                _ if cut_off || !may_repeat => Failure::Reset,
                _ => {
                    flight.repeats += u8::from(index < unsent_from);
                    flight.first_byte_ns = 0;
                    again.push_back(flight);
                    continue;
                }
            };
            let class = if index == 0 { class } else { Class::Unclassified };
            finished(Finished::Failure { flight, class, kind, status: None });
        }
        if self.responses == 0 {
            self.failures += 1;
        }
        self.responses = 0;
        self.unsent = 0;
    }

    /// When the oldest request on its way was sent.
    pub fn waiting_since(&self) -> Option<u64> {
        self.flights.front().map(|flight| flight.sent_ns)
    }

    /// How long to wait before connecting again: at once after a healthy connection, then 10 ms, doubled up to 1 s.
    pub fn backoff_ns(&self) -> u64 {
        match self.failures {
            0 => 0,
            failures => (10_000_000u64 << (failures - 1).min(7)).min(1_000_000_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        corpus::body::Body,
        endpoint::Endpoint,
        requests::{Form, Item},
    };

    fn requests(verify: bool) -> Requests {
        let endpoint = Endpoint::parse("127.0.0.1:1").unwrap();
        let items = [Item { target: "a".into(), size: Some(5) }];
        Requests::prepare(&endpoint, &items, &Form::default(), verify.then_some(1)).unwrap()
    }

    fn flight(sent_ns: u64) -> Flight {
        Flight { item: 0, intended_ns: None, sent_ns, first_byte_ns: 0, measured: true, repeats: 0 }
    }

    fn open(flights: u64) -> Connection {
        let mut connection = Connection::new(&requests(false));
        connection.phase = Phase::Open;
        connection.flights.extend((0..flights).map(|index| flight(index + 1)));
        connection
    }

    /// Outcomes in short: `ok` and the class, or the failure and the class.
    fn short(finished: &mut Vec<String>) -> impl FnMut(Finished) {
        |outcome| {
            finished.push(match outcome {
                Finished::Success { class, body_bytes, .. } => format!("ok {} {body_bytes}", class.as_str()),
                Finished::Failure { class, kind, .. } => format!("{} {}", kind.as_str(), class.as_str()),
            });
        }
    }

    fn lose(connection: &mut Connection, loss: Loss) -> (Vec<String>, usize) {
        let (mut seen, mut again) = (Vec::new(), VecDeque::new());
        connection.lose(loss, &requests(false), &mut again, &mut short(&mut seen));
        (seen, again.len())
    }

    const HIT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nCache-Status: forebay; hit\r\n\r\nhello";

    #[test]
    fn responses_finish_requests_in_order() {
        let mut connection = open(2);
        let mut seen = Vec::new();
        let mut text = HIT.to_vec();
        text.extend_from_slice(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        let after = connection.receive(&text, 7, &requests(false), &mut short(&mut seen));
        assert_eq!((after, seen), (After::GoesOn, vec!["ok hit 5".to_owned(), "status unclassified".to_owned()]));
    }

    #[test]
    fn what_nobody_asked_for_ends_the_connection() {
        let after = open(0).receive(HIT, 7, &requests(false), &mut |_| panic!("nothing was asked for"));
        assert_eq!(after, After::Ends);
        let mut seen = Vec::new();
        let after = open(1).receive(b"garbage\r\n", 7, &requests(false), &mut short(&mut seen));
        assert_eq!(after, After::Malformed);
    }

    #[test]
    fn verifying_finds_wrong_short_and_long_bodies() {
        let mut right = [0; 6];
        Body::of(b"a", 1).fill(0, &mut right);
        let outcome = |body: &[u8]| {
            let mut seen = Vec::new();
            let mut text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            text.extend_from_slice(body);
            open(1).receive(&text, 7, &requests(true), &mut short(&mut seen));
            seen.join(",")
        };
        assert_eq!(outcome(&right[..5]), "ok unclassified 5");
        assert_eq!(outcome(&right[..4]), "short_body unclassified");
        assert_eq!(outcome(&right[..6]), "wrong_bytes unclassified");
        assert_eq!(outcome(b"hello"), "wrong_bytes unclassified");
    }

    #[test]
    fn losses_are_told_apart() {
        assert_eq!(lose(&mut open(1), Loss::Closed), (vec!["reset unclassified".into()], 0));
        assert_eq!(lose(&mut open(1), Loss::Malformed), (vec!["malformed unclassified".into()], 0));
        let timeout = Loss::Timeout { sent_before_ns: 1 };
        assert_eq!(lose(&mut open(1), timeout), (vec!["timeout unclassified".into()], 0));
        let mut cut = open(1);
        cut.receive(&HIT[..HIT.len() - 1], 7, &requests(false), &mut |_| {});
        assert_eq!(lose(&mut cut, Loss::Closed), (vec!["short_body hit".into()], 0));
        let mut cut = open(1);
        cut.receive(&HIT[..9], 7, &requests(false), &mut |_| {});
        assert_eq!(lose(&mut cut, Loss::Closed), (vec!["reset unclassified".into()], 0));
    }

    #[test]
    fn unanswered_requests_are_sent_again_after_a_connection_that_worked() {
        let mut connection = open(4);
        connection.unsent = 1;
        connection.receive(HIT, 7, &requests(false), &mut |_| {});
        let (mut seen, mut again) = (Vec::new(), VecDeque::new());
        connection.lose(Loss::Closed, &requests(false), &mut again, &mut short(&mut seen));
        assert!(seen.is_empty());
        // The one that was never sent does not count as a repetition.
        assert_eq!(again.iter().map(|flight| flight.repeats).collect::<Vec<_>>(), [1, 1, 0]);
        connection.flights = again;
        connection.unsent = 0;
        assert_eq!(lose(&mut connection, Loss::Closed), (vec!["reset unclassified".into(); 3], 0));
        assert_eq!(connection.backoff_ns(), 10_000_000);
    }

    /// Connections that a server closes while they are idle can be as many as there are.
    #[test]
    fn a_request_may_meet_the_end_of_several_connections_that_worked() {
        let mut again = VecDeque::from([flight(1)]);
        for repeats in 0..=REPEATS_MAX {
            let mut connection = open(1);
            connection.receive(HIT, 7, &requests(false), &mut |_| {});
            connection.flights = std::mem::take(&mut again);
            assert_eq!(connection.flights[0].repeats, repeats);
            let mut seen = Vec::new();
            connection.lose(Loss::Closed, &requests(false), &mut again, &mut short(&mut seen));
            assert_eq!(seen.len(), usize::from(repeats == REPEATS_MAX));
            assert_eq!(again.len(), usize::from(repeats < REPEATS_MAX));
        }
    }

    #[test]
    fn a_body_until_the_end_of_the_connection_is_whole() {
        let mut connection = open(1);
        let mut seen = Vec::new();
        connection.receive(b"HTTP/1.0 200 OK\r\n\r\nhello", 7, &requests(false), &mut short(&mut seen));
        connection.lose(Loss::Closed, &requests(false), &mut VecDeque::new(), &mut short(&mut seen));
        assert_eq!(seen, ["ok unclassified 5"]);
    }
}
