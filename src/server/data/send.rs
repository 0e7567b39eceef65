//! Bytes out: what a connection has to send, and the operations that send it.

use super::deliver::Mode;
use super::deliver::batch::Batch;
use super::deliver::zero::ZeroSend;
use super::fetches::Fetches;
use super::id::ConnectionId;
use super::io::Io;
use super::ledger::Ledger;
use super::pool::Pool;
use crate::cache::entry::Lease;
use crate::cache::flight::{Flight, Progress};
use crate::metrics::labels::Transmit;
use crate::ring::kernel::{Kernel, Kind, Op, Token};
use crate::ring::lent::Lent;
use crate::wake::Waiter;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

/// The way out of a connection: its socket, the responses that are being gathered or sent, and what is owed of them.
pub(super) struct Outgoing {
    pub socket: RawFd,
    /// Responses being gathered or sent.
    pub batch: Option<Lent<Batch>>,
    pub in_flight: Option<InFlight>,
    /// What is owed of the responses that were begun.
    pub ledger: Ledger,
    /// The kernel has not refused SEND_ZC on this socket.
    pub zerocopy_works: bool,
}

/// What the operation in flight does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InFlight {
    /// It sends the batch.
    Batch,
    /// It sends the stream's buffer.
    Buffer,
    /// It sends the leased body, by SEND_ZC.
    Zero,
    /// The socket is full, and says when it is not.
    Full,
    /// A buffer of the stream is being filled.
    Reading,
}

/// How far sending came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Bytes were handed over; there may be more to do.
    Moved,
    /// An operation is in flight, or more bytes are waited for.
    Waits,
    /// Nothing is left.
    Done,
    /// It cannot be finished: the connection must end, so that a short body is not taken for a whole one.
    Broken,
}

impl Outgoing {
    pub fn new(socket: RawFd) -> Outgoing {
        Outgoing { socket, batch: None, in_flight: None, ledger: Ledger::default(), zerocopy_works: true }
    }

    /// Nothing is gathered, and nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.batch.as_ref().is_none_or(|batch| batch.is_empty())
    }

    /// Where responses are gathered.
    pub fn batch(&mut self, pool: &mut Pool) -> &mut Batch {
        self.batch.get_or_insert_with(|| pool.batch()).get_mut()
    }
}

/// The way out of one connection, with what sending takes.
pub(super) struct Sender<'a, K: Kernel> {
    pub id: ConnectionId,
    pub out: &'a mut Outgoing,
    pub pool: &'a mut Pool,
    pub io: &'a mut Io<K>,
    pub fetches: &'a mut Fetches,
    /// Bytes that went by reference in this turn.
    pub handed_over: u64,
}

impl<K: Kernel> Sender<'_, K> {
    /// Sends what was gathered; `more` says that a body follows at once. [`Sent::Done`]: nothing is left to send.
    pub fn flush(&mut self, more: bool) -> io::Result<Sent> {
        let Some(batch) = &mut self.out.batch else { return Ok(Sent::Done) };
        if batch.is_empty() {
            self.pool.keep_batch(self.out.batch.take());
            return Ok(Sent::Done);
        }
        // A head before a body that is sent by reference: at once, so that the body can follow in the same turn.
        if more && let Some(text) = batch.only_text() {
            match self.io.kernel.send_now(self.out.socket, text, true) {
                Ok(sent) => {
                    self.out.ledger.sent(sent as u64, &self.io.metrics, || self.io.kernel.now());
                    if sent == text.len() {
                        batch.get_mut().clear();
                        return Ok(Sent::Done);
                    }
                    batch.get_mut().drop_sent_text(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Ok(Sent::Broken),
            }
        }
        let message = Batch::lend(batch);
        self.submit(InFlight::Batch, Kind::Send, |socket| Op::Send { socket, message, more })
    }

    /// Submits the one operation that may be in flight.
    pub fn submit(&mut self, what: InFlight, kind: Kind, op: impl FnOnce(RawFd) -> Op) -> io::Result<Sent> {
        self.out.in_flight = Some(what);
        self.io.kernel.submit(op(self.out.socket), self.id.token(kind))?;
        Ok(Sent::Waits)
    }

    /// Hands bytes of a file to the socket by reference, as many as it takes, and moves `at` past them.
    pub fn refer(&mut self, file: RawFd, offset: u64, len: usize, at: &mut u64) -> io::Result<Sent> {
        match self.io.kernel.send_file(self.out.socket, file, offset, len) {
            Ok(0) => Ok(Sent::Broken), // the file is shorter now
            Ok(sent) => {
                self.out.ledger.sent(sent as u64, &self.io.metrics, || self.io.kernel.now());
                self.handed_over += sent as u64;
                *at += sent as u64;
                Ok(Sent::Moved)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_writable(),
            Err(_) => Ok(Sent::Broken),
        }
    }

    pub fn wait_writable(&mut self) -> io::Result<Sent> {
        self.submit(InFlight::Full, Kind::Writable, |socket| Op::Writable { socket })
    }

    /// Sends bytes of a leased file by SEND_ZC. The lease lives until the kernel has done with them.
    pub fn send_zero(&mut self, lease: &Lease, at: u64, len: u32) -> io::Result<Sent> {
        let mut send = ZeroSend::new(lease.clone());
        let bytes = ZeroSend::lend(&mut send, at, len);
        let key = self.pool.begin_zero_send(self.id, send);
        self.out.in_flight = Some(InFlight::Zero);
        let op = Op::SendZero { socket: self.out.socket, bytes, len };
        self.io.kernel.submit(op, Token::new(Kind::SendZero, 0, key))?;
        Ok(Sent::Waits)
    }

    /// Waits until more than the first `at` bytes of the file are there.
    pub fn wait_for_bytes(&mut self, fill: &mut Arc<Flight>, at: u64) -> io::Result<Sent> {
        let (worker, message) = (self.io.number, self.id.token(Kind::Wake).pack());
        loop {
            return Ok(match fill.poll(Some(at), || Waiter::Ring { worker, message }) {
                None => Sent::Waits,
                Some(Progress::Filling(..) | Progress::Fetching(..) | Progress::Arriving(_) | Progress::Ready(_)) => {
                    Sent::Moved
                }
                Some(Progress::Deferred(_, file)) if file.is_warm(self.io.now) => Sent::Moved,
                Some(Progress::Deferred(lease, _)) => match self.fetches.resume(self.io, &lease)? {
                    Some(resumed) => {
                        *fill = resumed;
                        continue;
                    }
                    None if lease.is_whole() => Sent::Moved,
                    None => Sent::Broken,
                },
                Some(
                    Progress::Opening
                    | Progress::Uncached(..)
                    | Progress::Validated(_)
                    | Progress::Stale(_)
                    | Progress::Passing(_)
                    | Progress::Failed(_),
                ) => Sent::Broken,
            });
        }
    }
}

impl Mode {
    /// The metrics' word for it.
    pub(super) fn label(self) -> Transmit {
        match self {
            Mode::Copy => Transmit::Copy,
            Mode::Reference => Transmit::Reference,
            Mode::ZeroCopy => Transmit::Zerocopy,
        }
    }
}
