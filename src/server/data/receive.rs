//! Bytes in: receives, and what becomes of them.

use super::connection::{Connection, Ending, Patience, Receiving, Wait};
use super::worker::Worker;
use crate::limits;
use crate::planted::{self, Defect};
use crate::ring::Completion;
use crate::ring::kernel::{Kernel, Kind, Op, Token};
use crate::server::Handoff;
use std::io;

impl<K: Kernel> Worker<K> {
    pub(super) fn arm_receive(&mut self, index: u32) -> io::Result<()> {
        let connection = &mut self.connections[index as usize];
        connection.receiving = Receiving::Armed;
        connection.operations += 1;
        self.kernel.submit(Op::Receive { socket: connection.socket }, Token::new(Kind::Receive, 0, index))
    }

    pub(super) fn received(&mut self, index: u32, completion: &Completion) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(index as usize) else { return Ok(()) };
        let mut arrived = 0;
        if let Some(buffer) = completion.buffer() {
            if connection.received.capacity() == 0 {
                connection.received = self.spares.received.pop().unwrap_or_default();
            }
            arrived = completion.result.max(0) as usize;
            self.kernel.take_received(buffer, arrived, &mut connection.received);
        }
        if !completion.more() {
            connection.operations -= 1;
            connection.receiving = match completion.result {
                1.. => Receiving::Off,
                0 => Receiving::Ended,
                error if error == -libc::ENOBUFS && !planted::is(Defect::NoBuffersEnds) => {
                    self.metrics.ring_recv_enobufs.one();
                    Receiving::Off
                }
                error if error == -libc::ECANCELED => Receiving::Off,
                _ if planted::is(Defect::ResetKept) => Receiving::Cancelling,
                // The peer is gone: a reset, or what the network says.
                _ => return self.close(index),
            };
        }
        match connection.ending {
            // Nobody reads it any more.
            Ending::Lingering { .. } | Ending::Closing => connection.received.clear(),
            Ending::Open | Ending::AfterResponses { .. } => {}
        }
        match connection.ending {
            Ending::Closing => {
                self.remove_if_over(index);
                Ok(())
            }
            Ending::Lingering { until, left } => self.linger(index, until, left, arrived as u64),
            Ending::Open | Ending::AfterResponses { .. } => self.pump(index),
        }
    }

    /// More of what nobody reads has arrived: who sends all of a request before reading the answer is given time for it.
    fn linger(&mut self, index: u32, until: u64, left: u64, arrived: u64) -> io::Result<()> {
        let Some(left) = left.checked_sub(arrived) else { return self.close(index) };
        let connection = &mut self.connections[index as usize];
        connection.ending = Ending::Lingering { until, left };
        if connection.patience == Patience::Linger && arrived > 0 {
            connection.deadline = self.now.saturating_add(limits::LINGER.as_nanos() as u64).min(until);
        }
        self.settle(index)
    }

    /// After all that could be done was done: receives on or not, keeps time, and gives idle memory back.
    pub(super) fn settle(&mut self, index: u32) -> io::Result<()> {
        let ahead_max = limits::RECEIVED_AHEAD_BYTES.max(self.shared.options.max_head_bytes);
        let Some(connection) = self.connections.get_mut(index as usize) else { return Ok(()) };
        connection.forget_parsed(&mut self.spares);
        self.renew_deadline(index);
        let Some(connection) = self.connections.get_mut(index as usize) else { return Ok(()) };
        let busy = !connection.is_idle();
        let leaves = matches!(connection.wait, Wait::Handoff(_));
        match connection.receiving {
            Receiving::Off | Receiving::Ended if leaves && connection.operations == 0 => return self.leave(index),
            // What was asked before is still being sent.
            Receiving::Off | Receiving::Ended if leaves => {}
            Receiving::Armed if leaves => return self.cancel_receive(index),
            // The peer sends and sends, and does not read.
            Receiving::Armed if busy && connection.unparsed().len() > ahead_max => return self.cancel_receive(index),
            Receiving::Off if !busy || connection.unparsed().len() <= ahead_max / 2 => self.arm_receive(index)?,
            // Whoever ends their side while nothing is owed to them has left.
            Receiving::Ended if !busy => return self.close(index),
            Receiving::Off | Receiving::Armed | Receiving::Cancelling | Receiving::Ended => {}
        }
        Ok(())
    }

    fn cancel_receive(&mut self, index: u32) -> io::Result<()> {
        self.connections[index as usize].receiving = Receiving::Cancelling;
        let token = Token::new(Kind::Receive, 0, index);
        self.kernel.submit(Op::Cancel { token }, Token::new(Kind::Ignored, 0, 0))
    }

    /// The connection goes to the control plane, with what was received of it.
    fn leave(&mut self, index: u32) -> io::Result<()> {
        let connection = self.connections.remove(index as usize);
        debug_assert_eq!(connection.operations, 0, "nothing of it is outstanding");
        self.metrics.handoffs.one();
        tracing::debug!("worker {}: connection {index} goes to the control plane", self.number);
        let mut received = connection.unparsed().to_vec();
        if planted::is(Defect::HandOffLosesBytes) {
            received.truncate(connection.received.len().min(limits::RECEIVE_BUFFER_BYTES));
        }
        let socket = self.kernel.adopt(connection.socket);
        self.spares.keep(connection.batch, connection.received);
        let passing = match connection.wait {
            Wait::Handoff(passing) => passing,
            Wait::None | Wait::Exchange(_) => None,
        };
        let mut admitted = connection.admitted;
        if planted::is(Defect::PlaceKept) {
            std::mem::forget(admitted.take());
        }
        (self.hand_over)(Handoff { socket, received, admitted, passing });
        Ok(())
    }
}

impl Connection {
    /// Drops the bytes that are done with; an idle connection holds no receive memory.
    fn forget_parsed(&mut self, spares: &mut super::worker::Spares) {
        if self.parsed == self.received.len() {
            self.received.clear();
            spares.keep_received(std::mem::take(&mut self.received));
        } else if self.parsed > 0 {
            self.received.drain(..self.parsed);
        }
        self.parsed = 0;
        let owes_nothing = self.is_idle() && self.ending == Ending::Open;
        debug_assert!(!owes_nothing || self.ledger.is_empty(), "an idle connection owes nothing");
        if self.ledger.is_spare() && self.is_idle() {
            spares.keep_ledger(std::mem::take(&mut self.ledger));
        }
    }
}
