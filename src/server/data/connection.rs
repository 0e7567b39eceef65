//! One connection of the data plane: what is known of it between completions.
//!
//! At most one send is in flight at a time (order), and one receive is armed as long as the connection is read from. A
//! connection is given up only when no operation of it is outstanding.

use super::deliver::Mode;
use super::deliver::batch::Batch;
use super::deliver::buffer::Buffer;
use super::ledger::Ledger;
use crate::cache::entry::Lease;
use crate::cache::flight::{Flight, OpenFile};
use crate::exchange::Exchange;
use crate::exchange::vouch::{SecondReading, Vouch};
use crate::origin::remote::Passing;
use crate::planted::{self, Defect};
use crate::ring::lent::Lent;
use crate::server::access_log::Record;
use crate::server::shared::Admitted;
use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::Arc;

/// A client's connection.
pub(super) struct Connection {
    pub socket: RawFd,
    /// Tells it from earlier ones of the same index.
    pub generation: u32,
    /// Bytes received; those before `parsed` are done with.
    pub received: Vec<u8>,
    pub parsed: usize,
    pub receiving: Receiving,
    /// Responses being gathered or sent.
    pub batch: Option<Lent<Batch>>,
    pub in_flight: Option<InFlight>,
    /// What the oldest request waits for.
    pub wait: Wait,
    /// The body being sent, of the oldest response.
    pub body: Option<Body>,
    /// What follows it, each a part of an entry.
    pub then: VecDeque<(Lease, Range<u64>)>,
    /// What is owed of the responses that were begun.
    pub ledger: Ledger,
    /// The oldest request's, while it waits for something.
    pub record: Option<Record>,
    pub ending: Ending,
    /// Completions that are still to come, counting a multishot operation once.
    pub operations: u32,
    /// When the patience with what is waited for ends: monotonic nanoseconds.
    pub deadline: u64,
    /// What the deadline was set for. It times out nothing else: see [`Connection::waits_for`].
    pub patience: Patience,
    /// What the peer had taken when the deadline was set.
    pub progress: u64,
    /// When the oldest request that is not a hit was received: monotonic nanoseconds.
    pub started: u64,
    /// The kernel has not refused SEND_ZC on this socket.
    pub zerocopy_works: bool,
    /// Its place in the count of connections; `None` when it is one too many.
    pub admitted: Option<Admitted>,
}

/// The state of the multishot receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiving {
    Off,
    Armed,
    /// Being cancelled: what arrives meanwhile is kept.
    Cancelling,
    /// The peer has ended its side.
    Ended,
}

/// What the send in flight sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InFlight {
    Batch,
    /// The stream's buffer.
    Buffer,
    /// The leased body, by SEND_ZC.
    Zero,
    /// Nothing: the socket is full, and says when it is not.
    Full,
    /// Nothing: the stream's buffer is being filled.
    Reading,
}

/// What the oldest request, parsed but not consumed, waits for.
pub(super) enum Wait {
    None,
    /// A check or a fill.
    Exchange(Exchange),
    /// The end of the receive: then the connection leaves for the control plane, with the origin's answer to the request, if that
    /// is to be passed on there.
    Handoff(Option<Arc<Passing>>),
}

/// A body that does not leave with its head.
pub(super) enum Body {
    /// From the arena.
    Arena {
        lease: Lease,
        at: u64,
        end: u64,
        /// Set while the file is still being read.
        fill: Option<Arc<Flight>>,
        mode: Mode,
    },
    /// From a file that is not cached, or not yet.
    File(Stream),
}

/// A file on its way past the cache.
pub(super) struct Stream {
    pub file: Arc<OpenFile>,
    /// Set when the file is being read into the arena meanwhile: what is not in the page cache is sent from there.
    pub fill: Option<(Lease, Arc<Flight>)>,
    /// The first byte of the body.
    pub begin: u64,
    /// The next byte to hand to the socket or to read.
    pub at: u64,
    pub end: u64,
    /// Says whether all that is sent is of one version.
    pub vouch: Vouch,
    /// Bytes were handed over by reference: whoever writes to the file reaches them.
    pub is_referred: bool,
    /// The last bytes have waited for all others to leave.
    pub has_waited: bool,
    /// What was sent is being read once more.
    pub second: Option<Box<Second>>,
    /// Up to here the file was found to be in the page cache, and when: monotonic nanoseconds.
    pub warm: (u64, u64),
    /// Up to here the file is read through the buffer: its pages are not in memory.
    pub cold_until: u64,
    pub buffer: Option<Lent<Buffer>>,
}

/// A second reading of what was sent of a stream, before more of it is let go.
pub(super) struct Second {
    pub buffer: Lent<Buffer>,
    pub at: u64,
    pub end: u64,
    pub like: Like,
}

/// What it has to be like.
pub(super) enum Like {
    /// The first reading.
    First(SecondReading),
    /// What the arena has of the version that was begun.
    Arena(Lease, Arc<Flight>),
}

impl Stream {
    /// The bytes `body` of the file, of which nothing was sent yet.
    pub fn new(file: Arc<OpenFile>, fill: Option<(Lease, Arc<Flight>)>, body: Range<u64>) -> Stream {
        let vouch = Vouch::of(&file, body.start);
        Stream {
            file,
            fill,
            begin: body.start,
            at: body.start,
            end: body.end,
            vouch,
            is_referred: false,
            has_waited: false,
            second: None,
            warm: (0, 0),
            cold_until: 0,
            buffer: None,
        }
    }
}

/// Whether and how the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Open,
    /// After the responses that are owed.
    AfterResponses {
        /// The peer may still be sending: read on for a while, lest a reset destroys the answer.
        linger: bool,
    },
    /// Answered; the peer is given time to end its side. As long as bytes keep arriving, that is until this time (monotonic
    /// nanoseconds), and for so many bytes.
    Lingering {
        until: u64,
        left: u64,
    },
    /// Shut down; waiting for the operations that are outstanding.
    Closing,
}

/// What the deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// A next request.
    Idle,
    /// The rest of a request head.
    Head,
    /// The peer to take any byte.
    Send,
    /// The peer to end its side.
    Linger,
    /// The storage, which may take as long as it takes.
    Endless,
}

impl Connection {
    pub fn new(socket: RawFd, generation: u32, admitted: Option<Admitted>) -> Connection {
        Connection {
            socket,
            generation,
            received: Vec::new(),
            parsed: 0,
            receiving: Receiving::Off,
            batch: None,
            in_flight: None,
            wait: Wait::None,
            body: None,
            then: VecDeque::new(),
            ledger: Ledger::default(),
            record: None,
            ending: Ending::Open,
            operations: 0,
            deadline: u64::MAX,
            patience: Patience::Endless,
            progress: 0,
            started: 0,
            zerocopy_works: true,
            admitted,
        }
    }

    /// Bytes received and not done with.
    pub fn unparsed(&self) -> &[u8] {
        &self.received[self.parsed..]
    }

    /// What is waited for in the present state.
    pub fn waits_for(&self) -> Patience {
        match self.ending {
            Ending::Lingering { .. } => Patience::Linger,
            Ending::Closing => Patience::Endless,
            _ if self.is_sending() => Patience::Send,
            _ if !self.is_idle() => Patience::Endless,
            _ if self.unparsed().is_empty() => Patience::Idle,
            _ => Patience::Head,
        }
    }

    /// The oldest request, whose head has so many bytes, is answered. The time of the next head begins with its own first byte.
    pub fn request_over(&mut self, head_bytes: usize) {
        self.parsed += head_bytes;
        if self.patience == Patience::Head && !planted::is(Defect::StaleDeadline) {
            (self.patience, self.deadline) = (Patience::Endless, u64::MAX);
        }
    }

    /// Bytes are waiting for the peer to take them.
    fn is_sending(&self) -> bool {
        match self.in_flight {
            Some(InFlight::Batch | InFlight::Buffer | InFlight::Zero | InFlight::Full) => true,
            Some(InFlight::Reading) | None => false,
        }
    }

    /// Nothing is owed to the peer.
    pub fn is_idle(&self) -> bool {
        matches!(self.wait, Wait::None)
            && self.body.is_none()
            && self.in_flight.is_none()
            && self.batch.as_ref().is_none_or(|batch| batch.is_empty())
    }
}
