//! One connection being served: it goes on as far as it can, until something has to be waited for.

use super::body::Body;
use super::checks::Checks;
use super::connection::{Connection, Ending, Receiving, Wait};
use super::fetches::Fetches;
use super::id::ConnectionId;
use super::io::Io;
use super::pool::Pool;
use super::send::{InFlight, Sender, Sent};
use crate::limits;
use crate::metrics::labels::Zerocopy;
use crate::planted::{self, Defect};
use crate::ring::kernel::Kernel;
use std::io;
use std::net::Shutdown;

/// A connection, and what serving it takes.
pub(super) struct Serving<'a, K: Kernel> {
    pub id: ConnectionId,
    pub connection: &'a mut Connection,
    pub pool: &'a mut Pool,
    pub io: &'a mut Io<K>,
    pub fetches: &'a mut Fetches,
    pub checks: &'a mut Checks,
}

impl<K: Kernel> Serving<'_, K> {
    /// Goes on as far as possible: sends what is ready, answers what was asked.
    pub fn pump(&mut self) -> io::Result<()> {
        loop {
            match self.connection.ending {
                Ending::Closing | Ending::Lingering { .. } => return Ok(()),
                Ending::Open | Ending::AfterResponses { .. } => {}
            }
            if self.connection.out.in_flight.is_some() && !planted::is(Defect::ResponsesOvertake) {
                break;
            }
            if self.connection.body.is_some() {
                if self.send_body()? {
                    continue;
                }
                break;
            }
            // An ending that was decided by a response comes after it; one decided by the drain, after those under way.
            let waits = !matches!(self.connection.wait, Wait::None);
            if let Ending::AfterResponses { linger } = self.connection.ending
                && !waits
            {
                if self.flush()? {
                    return self.end(linger);
                }
                break;
            }
            if self.connection.out.batch.as_ref().is_some_and(|batch| batch.is_full()) {
                self.flush()?;
                break;
            }
            if !self.answer_next()? {
                self.flush()?;
                break;
            }
        }
        self.settle()
    }

    /// The connection's body, and the way out of it.
    fn sender(&mut self) -> (&mut Option<Body>, Sender<'_, K>) {
        let Connection { out, body, .. } = &mut *self.connection;
        let (pool, io, fetches) = (&mut *self.pool, &mut *self.io, &mut *self.fetches);
        (body, Sender { id: self.id, out, pool, io, fetches, handed_over: 0 })
    }

    /// Sends what was gathered; true if nothing is left to send.
    fn flush(&mut self) -> io::Result<bool> {
        let (_, mut sender) = self.sender();
        match sender.flush(false)? {
            Sent::Broken => self.close().map(|()| false),
            sent => Ok(sent == Sent::Done),
        }
    }

    /// Goes on with the body; true when nothing of it is left.
    fn send_body(&mut self) -> io::Result<bool> {
        let mut handed_over = 0;
        loop {
            let (body, mut sender) = self.sender();
            sender.handed_over = handed_over;
            let Some(body) = body else { return Ok(true) };
            let sent = body.step(&mut sender)?;
            handed_over = sender.handed_over;
            match sent {
                Sent::Moved if handed_over < limits::TURN_BYTES => {}
                Sent::Moved => {
                    // Others get their turn first.
                    self.io.mailbox.push_ready(self.id);
                    return Ok(false);
                }
                Sent::Waits => return Ok(false),
                Sent::Done => {
                    self.connection.body = None;
                    if !self.go_on_with_body() {
                        return Ok(true);
                    }
                }
                Sent::Broken => return self.close().map(|()| false),
            }
        }
    }

    /// Goes on with the next part of the body; false if none is left. (A small one leaves with the batch at once.)
    fn go_on_with_body(&mut self) -> bool {
        while self.connection.body.is_none() {
            let Some((lease, part)) = self.connection.then.pop_front() else { return false };
            self.answer_from_arena(part, lease, None);
        }
        true
    }

    /// All responses are handed over: the connection ends from this side.
    fn end(&mut self, linger: bool) -> io::Result<()> {
        if !linger && self.connection.unparsed().is_empty() {
            return self.close();
        }
        let until = self.io.now.saturating_add(limits::LINGER_MAX.as_nanos() as u64);
        self.connection.ending = Ending::Lingering { until, left: limits::LINGER_BYTES };
        self.connection.received = Vec::new();
        self.connection.parsed = 0;
        self.io.kernel.shutdown(self.connection.out.socket, Shutdown::Write);
        self.settle()
    }

    /// Ends the connection at once: what is in flight completes, and nothing more is sent.
    pub fn close(&mut self) -> io::Result<()> {
        let connection = &mut *self.connection;
        if connection.ending == Ending::Closing {
            return Ok(());
        }
        connection.ending = Ending::Closing;
        connection.wait = Wait::None;
        // A buffer in flight comes back with its completion.
        if !matches!(connection.out.in_flight, Some(InFlight::Buffer | InFlight::Reading)) {
            connection.body = None;
            connection.then.clear();
        }
        if connection.is_in_use() {
            self.io.kernel.shutdown(connection.out.socket, Shutdown::Both);
        }
        match connection.receiving {
            Receiving::Armed => self.cancel_receive(),
            Receiving::Off | Receiving::Cancelling | Receiving::Ended => Ok(()),
        }
    }

    /// The worker finishes: the connection ends when it owes nothing.
    pub fn drain(&mut self) -> io::Result<()> {
        match self.connection.ending {
            Ending::Open if self.connection.is_idle() => return self.close(),
            Ending::Open if planted::is(Defect::DrainForgetsBusy) => {}
            Ending::Open => self.connection.ending = Ending::AfterResponses { linger: false },
            Ending::AfterResponses { .. } | Ending::Lingering { .. } | Ending::Closing => {}
        }
        Ok(())
    }

    /// A copying send is over.
    pub fn sent(&mut self, result: i32) -> io::Result<()> {
        let sent = result.max(0) as usize;
        let Connection { out, body, .. } = &mut *self.connection;
        let whole = match out.in_flight.take() {
            Some(InFlight::Batch) => out.batch.as_mut().is_some_and(|batch| {
                batch.returned();
                let whole = batch.len() == sent;
                batch.get_mut().clear();
                whole
            }),
            Some(InFlight::Buffer) => match body {
                Some(Body::File(stream)) => stream.sent(sent),
                Some(Body::Arena(_)) | None => false,
            },
            Some(InFlight::Zero | InFlight::Full | InFlight::Reading) | None => false,
        };
        out.ledger.sent(sent as u64, &self.io.metrics, || self.io.kernel.now());
        if whole { self.pump() } else { self.close() }
    }

    /// A zero-copy send has handed its bytes over, or has failed.
    pub fn sent_zero(&mut self, result: i32) -> io::Result<()> {
        let Connection { out, body, .. } = &mut *self.connection;
        out.in_flight = None;
        match result {
            sent @ 1.. => out.ledger.sent(sent as u64, &self.io.metrics, || self.io.kernel.now()),
            _ => {
                self.io.metrics.zerocopy[Zerocopy::Failed].one();
                out.zerocopy_works = false;
            }
        }
        let goes_on = match body {
            Some(Body::Arena(resident)) => resident.sent_zero(result),
            Some(Body::File(_)) | None => false,
        };
        if goes_on { self.pump() } else { self.close() }
    }

    /// The socket takes bytes again.
    pub fn writable(&mut self) -> io::Result<()> {
        self.connection.out.in_flight.take_if(|in_flight| *in_flight == InFlight::Full);
        self.pump()
    }

    /// A read of the file that is streamed is over.
    pub fn stream_read(&mut self, result: i32) -> io::Result<()> {
        let (body, mut sender) = self.sender();
        sender.out.in_flight = None;
        match body.as_mut().map(|body| body.read(&mut sender, result)) {
            Some(Sent::Moved | Sent::Waits | Sent::Done) => self.pump(),
            Some(Sent::Broken) | None => self.close(),
        }
    }
}
