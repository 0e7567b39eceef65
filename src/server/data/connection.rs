//! One connection of the data plane: what is known of it between completions.
//!
//! At most one send is in flight at a time (order), and one receive is armed as long as the connection is read from. A
//! connection is given up only when no operation of it is outstanding.

use super::body::Body;
use super::send::{InFlight, Outgoing};
use crate::cache::entry::Lease;
use crate::exchange::Exchange;
use crate::origin::remote::Passing;
use crate::planted::{self, Defect};
use crate::server::access_log::Record;
use crate::server::shared::Admitted;
use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::Arc;

/// A client's connection.
pub(super) struct Connection {
    /// Bytes received; those before `parsed` are done with.
    pub received: Vec<u8>,
    pub parsed: usize,
    pub receiving: Receiving,
    /// What the oldest request waits for.
    pub wait: Wait,
    /// The oldest request's, while it waits for something.
    pub record: Option<Record>,
    /// When the oldest request that is not a hit was received: monotonic nanoseconds.
    pub started: u64,
    /// The body being sent, of the oldest response.
    pub body: Option<Body>,
    /// What follows it, each a part of an entry.
    pub then: VecDeque<(Lease, Range<u64>)>,
    pub out: Outgoing,
    pub ending: Ending,
    /// When the patience with what is waited for ends: monotonic nanoseconds.
    pub deadline: u64,
    /// What the deadline was set for. It times out nothing else: see [`Connection::waits_for`].
    pub patience: Patience,
    /// What the peer had taken when the deadline was set.
    pub progress: u64,
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

/// What the oldest request, parsed but not consumed, waits for.
pub(super) enum Wait {
    None,
    /// A check or a fill.
    Exchange(Exchange),
    /// The end of the receive: then the connection leaves for the control plane, with the origin's answer to the
    /// request, if that is to be passed on there.
    Handoff(Option<Arc<Passing>>),
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
    /// Answered; the peer is given time to end its side. As long as bytes keep arriving, that is until this time
    /// (monotonic nanoseconds), and for so many bytes.
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

/// What becomes of a connection after something happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    /// It has ended, and nothing of it is outstanding.
    Over,
    /// It goes to the control plane.
    Leaves,
}

impl Connection {
    pub fn new(socket: RawFd, admitted: Option<Admitted>) -> Connection {
        Connection {
            received: Vec::new(),
            parsed: 0,
            receiving: Receiving::Off,
            wait: Wait::None,
            record: None,
            started: 0,
            body: None,
            then: VecDeque::new(),
            out: Outgoing::new(socket),
            ending: Ending::Open,
            deadline: u64::MAX,
            patience: Patience::Endless,
            progress: 0,
            admitted,
        }
    }

    /// It is one too many.
    pub fn is_refused(&self) -> bool {
        self.admitted.is_none()
    }

    /// Bytes received and not done with.
    pub fn unparsed(&self) -> &[u8] {
        &self.received[self.parsed..]
    }

    /// An operation of it is outstanding, whose completion will come.
    pub fn is_in_use(&self) -> bool {
        self.out.in_flight.is_some() || matches!(self.receiving, Receiving::Armed | Receiving::Cancelling)
    }

    /// What becomes of it in the present state.
    pub fn fate(&self) -> Fate {
        match (self.ending, &self.wait) {
            _ if self.is_in_use() => Fate::Stays,
            (Ending::Closing, _) => Fate::Over,
            (Ending::Open | Ending::AfterResponses { .. }, Wait::Handoff(_)) => Fate::Leaves,
            (_, Wait::None | Wait::Exchange(_) | Wait::Handoff(_)) => Fate::Stays,
        }
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

    /// The oldest request, whose head has so many bytes, is answered. The time of the next head begins with its own
    /// first byte.
    pub fn request_over(&mut self, head_bytes: usize) {
        self.parsed += head_bytes;
        if self.patience == Patience::Head && !planted::is(Defect::StaleDeadline) {
            (self.patience, self.deadline) = (Patience::Endless, u64::MAX);
        }
    }

    /// Bytes are waiting for the peer to take them.
    fn is_sending(&self) -> bool {
        match self.out.in_flight {
            Some(InFlight::Batch | InFlight::Buffer | InFlight::Zero | InFlight::Full) => true,
            Some(InFlight::Reading) | None => false,
        }
    }

    /// Nothing is owed to the peer.
    pub fn is_idle(&self) -> bool {
        matches!(self.wait, Wait::None) && self.body.is_none() && self.out.is_idle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::shared::Admission;

    #[test]
    fn a_connection_is_given_up_when_nothing_of_it_is_outstanding() {
        let mut connection = Connection::new(1, Admission::new(1).admit());
        assert_eq!(connection.fate(), Fate::Stays);
        (connection.receiving, connection.wait) = (Receiving::Cancelling, Wait::Handoff(None));
        assert_eq!(connection.fate(), Fate::Stays, "bytes may still arrive");
        connection.receiving = Receiving::Off;
        assert_eq!(connection.fate(), Fate::Leaves);
        connection.out.in_flight = Some(InFlight::Batch);
        assert_eq!(connection.fate(), Fate::Stays, "an earlier response is on its way");
        connection.ending = Ending::Closing;
        assert_eq!(connection.fate(), Fate::Stays);
        connection.out.in_flight = None;
        assert_eq!(connection.fate(), Fate::Over);
    }

    #[test]
    fn what_is_waited_for_follows_from_the_state() {
        let mut connection = Connection::new(1, None);
        assert_eq!(connection.waits_for(), Patience::Idle);
        connection.received.extend_from_slice(b"GET");
        assert_eq!(connection.waits_for(), Patience::Head);
        connection.wait = Wait::Exchange(Exchange::default());
        assert_eq!(connection.waits_for(), Patience::Endless, "the storage takes its time");
        connection.out.in_flight = Some(InFlight::Full);
        assert_eq!(connection.waits_for(), Patience::Send);
        connection.ending = Ending::Lingering { until: 1, left: 1 };
        assert_eq!(connection.waits_for(), Patience::Linger);
    }
}
