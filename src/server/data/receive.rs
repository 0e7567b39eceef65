//! Bytes in: receives, and what becomes of them.

use super::connection::{Connection, Ending, Patience, Receiving, Wait};
use super::pool::Pool;
use super::serving::Serving;
use crate::limits;
use crate::planted::{self, Defect};
use crate::ring::Completion;
use crate::ring::kernel::{Kernel, Kind, Op};
use std::io;

impl<K: Kernel> Serving<'_, K> {
    pub fn arm_receive(&mut self) -> io::Result<()> {
        self.connection.receiving = Receiving::Armed;
        self.io.kernel.submit(Op::Receive { socket: self.connection.out.socket }, self.id.token(Kind::Receive))
    }

    pub fn cancel_receive(&mut self) -> io::Result<()> {
        self.connection.receiving = Receiving::Cancelling;
        self.io.cancel(self.id.token(Kind::Receive))
    }

    pub fn received(&mut self, completion: &Completion) -> io::Result<()> {
        let connection = &mut *self.connection;
        let mut arrived = 0;
        if let Some(buffer) = completion.buffer() {
            if connection.received.capacity() == 0 {
                connection.received = self.pool.received();
            }
            arrived = completion.result.max(0) as usize;
            self.io.kernel.take_received(buffer, arrived, &mut connection.received);
        }
        if !completion.more() {
            connection.receiving = match completion.result {
                1.. => Receiving::Off,
                0 => Receiving::Ended,
                error if error == -libc::ENOBUFS && !planted::is(Defect::NoBuffersEnds) => {
                    self.io.metrics.ring_recv_enobufs.one();
                    Receiving::Off
                }
                error if error == -libc::ECANCELED => Receiving::Off,
                _ if planted::is(Defect::ResetKept) => Receiving::Cancelling,
                // The peer is gone: a reset, or what the network says.
                _ => {
                    connection.receiving = Receiving::Ended;
                    return self.close();
                }
            };
        }
        match connection.ending {
            Ending::Open | Ending::AfterResponses { .. } => self.pump(),
            // Nobody reads it any more.
            Ending::Lingering { until, left } => {
                connection.received.clear();
                self.linger(until, left, arrived as u64)
            }
            Ending::Closing => {
                connection.received.clear();
                Ok(())
            }
        }
    }

    /// More of what nobody reads has arrived: who sends all of a request before reading the answer is given time for
    /// it.
    fn linger(&mut self, until: u64, left: u64, arrived: u64) -> io::Result<()> {
        let Some(left) = left.checked_sub(arrived) else { return self.close() };
        let connection = &mut *self.connection;
        connection.ending = Ending::Lingering { until, left };
        if connection.patience == Patience::Linger && arrived > 0 {
            connection.deadline = self.io.now.saturating_add(limits::LINGER.as_nanos() as u64).min(until);
        }
        self.settle()
    }

    /// After all that could be done was done: receives on or not, keeps time, and gives idle memory back.
    pub fn settle(&mut self) -> io::Result<()> {
        if self.connection.ending == Ending::Closing {
            return Ok(());
        }
        let ahead_max = limits::RECEIVED_AHEAD_BYTES.max(self.io.shared.options.max_head_bytes);
        self.connection.forget_parsed(self.pool);
        self.renew_deadline();
        let busy = !self.connection.is_idle();
        let ahead = self.connection.unparsed().len();
        let leaves = matches!(self.connection.wait, Wait::Handoff(_));
        match self.connection.receiving {
            // It leaves when nothing of it is outstanding.
            Receiving::Off | Receiving::Ended if leaves => Ok(()),
            Receiving::Armed if leaves => self.cancel_receive(),
            // The peer sends and sends, and does not read.
            Receiving::Armed if busy && ahead > ahead_max => self.cancel_receive(),
            Receiving::Off if !busy || ahead <= ahead_max / 2 => self.arm_receive(),
            // Whoever ends their side while nothing is owed to them has left.
            Receiving::Ended if !busy => self.close(),
            Receiving::Off | Receiving::Armed | Receiving::Cancelling | Receiving::Ended => Ok(()),
        }
    }
}

impl Connection {
    /// Drops the bytes that are done with; an idle connection holds no receive memory.
    fn forget_parsed(&mut self, pool: &mut Pool) {
        if self.parsed == self.received.len() {
            self.received.clear();
            pool.keep_received(std::mem::take(&mut self.received));
        } else if self.parsed > 0 {
            self.received.drain(..self.parsed);
        }
        self.parsed = 0;
        let owes_nothing = self.is_idle() && self.ending == Ending::Open;
        debug_assert!(!owes_nothing || self.out.ledger.is_empty(), "an idle connection owes nothing");
        if self.out.ledger.is_spare() && self.is_idle() {
            pool.keep_ledger(std::mem::take(&mut self.out.ledger));
        }
    }
}
