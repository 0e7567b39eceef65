//! A worker: one thread, one ring, one event loop.
//!
//! A turn takes all completions there are and handles each to its end; whatever that gives rise to is submitted by the
//! next turn's one io_uring_enter. Each completion belongs to one of the worker's tables: its connections, its fetches,
//! its checks, or its mailbox.

use super::checks::Checks;
use super::connection::{Connection, Fate, Wait};
use super::connections::Connections;
use super::fetches::Fetches;
use super::id::ConnectionId;
use super::io::Io;
use super::listeners::Listeners;
use super::overload::Overload;
use super::serving::Serving;
use crate::exchange::revalidate::Checked;
use crate::limits;
use crate::metrics::labels::{Connection as Life, Timeout, Zerocopy};
use crate::planted::{self, Defect};
use crate::ring::Completion;
use crate::ring::kernel::{Kernel, Kind, Op, Token};
use crate::server::Handoff;
use crate::server::shared::Shared;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// IORING_NOTIF_USAGE_ZC_COPIED: the notification's result says that the kernel copied after all.
const ZC_COPIED: i32 = 1 << 31;

/// What a connection that leaves for the control plane takes along.
pub type HandOver = Box<dyn Fn(Handoff) + Send>;

/// One event loop and all that belongs to it.
pub struct Worker<K: Kernel> {
    pub(super) io: Io<K>,
    listeners: Listeners,
    pub(super) connections: Connections,
    pub(super) fetches: Fetches,
    pub(super) checks: Checks,
    pub(super) hand_over: HandOver,
}

impl<K: Kernel> Worker<K> {
    /// A worker that accepts from `listeners`, whose metrics are those of its number.
    pub fn new(
        number: usize,
        kernel: K,
        shared: Arc<Shared>,
        listeners: Vec<OwnedFd>,
        hand_over: HandOver,
    ) -> Worker<K> {
        Worker {
            io: Io::new(number, kernel, shared),
            listeners: Listeners::new(listeners),
            connections: Connections::default(),
            fetches: Fetches::default(),
            checks: Checks::default(),
            hand_over,
        }
    }

    /// Runs until it is told to finish and all connections have ended.
    ///
    /// # Errors
    /// Those of io_uring_enter that say that the ring cannot be used any more.
    pub fn run(&mut self) -> io::Result<()> {
        self.start()?;
        let mut completions = Vec::with_capacity(limits::COMPLETION_ENTRIES as usize);
        while !self.is_finished() {
            self.turn(&mut completions)?;
        }
        Ok(())
    }

    /// Arms the listeners and the clock.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.listeners.arm(&mut self.io)?;
        self.io.tend_for_all();
        self.io.kernel.submit(Op::Tick, Token::new(Kind::Tick, 0, 0))
    }

    /// Told to finish, and nothing is owed to anyone: neither to a connection of its own, nor to those of other workers
    /// that wait for what it reads (as long as there is time).
    pub(super) fn is_finished(&self) -> bool {
        let all_read = |until| (self.fetches.is_empty() && self.io.mailbox.is_delivered()) || self.io.now >= until;
        self.io.draining.is_some_and(|until| self.connections.is_empty() && all_read(until))
    }

    /// Nothing that it has begun is under way.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn holds_nothing(&self) -> bool {
        let is_empty = self.fetches.is_empty() && self.checks.is_empty() && self.connections.pool.has_all_back();
        is_empty && self.io.mailbox.is_delivered() && self.connections.is_empty()
    }

    /// Submits, waits, and handles what has completed.
    pub(super) fn turn(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.clear();
        self.io.turn(completions)?;
        for completion in completions.iter() {
            self.complete(completion)?;
        }
        for id in self.io.mailbox.take_ready() {
            self.serve(id, |serving| serving.pump())?;
        }
        self.io.count_hits();
        Ok(())
    }

    /// Handles one completion.
    pub(super) fn complete(&mut self, completion: &Completion) -> io::Result<()> {
        let Some(token) = Token::unpack(completion.token) else { return Ok(()) };
        let (id, key, result) = (ConnectionId::of(token), token.index, completion.result);
        match token.kind {
            Kind::Accept => self.accepted(key, completion),
            Kind::Receive => self.serve(id, |serving| serving.received(completion)),
            Kind::Send => self.serve(id, |serving| serving.sent(result)),
            Kind::SendZero => self.sent_zero(key, completion),
            Kind::Writable => self.serve(id, |serving| serving.writable()),
            Kind::Stream => self.serve(id, |serving| serving.stream_read(result)),
            Kind::FillOpen => self.fetches.opened(&mut self.io, key, result),
            Kind::FillRead => self.fetches.read(&mut self.io, key, result),
            Kind::Check => {
                let answer = self.checks.complete(&mut self.io, key, result)?;
                answer.map_or(Ok(()), |(id, checked)| self.checked(id, checked))
            }
            Kind::Tick => self.tick(),
            Kind::Wake => self.serve(id, |serving| serving.pump()),
            Kind::Delegated => self.fetches.begin_delegated(&mut self.io),
            Kind::Shutdown => self.drain(),
            Kind::Message => {
                self.io.mailbox.complete(key, result);
                Ok(())
            }
            Kind::Ignored | Kind::Look => Ok(()),
        }
    }

    /// Something happens to a connection, if it has not gone, and it goes on. What becomes of it by that is done here
    /// alone.
    fn serve(&mut self, id: ConnectionId, event: impl FnOnce(&mut Serving<'_, K>) -> io::Result<()>) -> io::Result<()> {
        let Worker { io, connections, fetches, checks, .. } = self;
        let Some((connection, pool)) = connections.get(id) else { return Ok(()) };
        let mut serving = Serving { id, connection, pool, io, fetches, checks };
        event(&mut serving)?;
        match serving.connection.fate() {
            Fate::Stays => {}
            Fate::Over => self.forget(id),
            Fate::Leaves => self.leave(id),
        }
        Ok(())
    }

    /// The connection has ended.
    fn forget(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(id) else { return };
        self.io.kernel.close(connection.out.socket);
        tracing::debug!("worker {}: connection {id} is closed", self.io.number);
        if !connection.is_refused() {
            self.io.metrics.connections[Life::Closed].one();
        }
        self.connections.pool.keep_batch(connection.out.batch);
        self.connections.pool.keep_received(connection.received);
    }

    /// The connection goes to the control plane, with what was received of it.
    fn leave(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(id) else { return };
        self.io.metrics.handoffs.one();
        tracing::debug!("worker {}: connection {id} goes to the control plane", self.io.number);
        let mut received = connection.unparsed().to_vec();
        if planted::is(Defect::HandOffLosesBytes) {
            received.truncate(connection.received.len().min(limits::RECEIVE_BUFFER_BYTES));
        }
        let socket = self.io.kernel.adopt(connection.out.socket);
        self.connections.pool.keep_batch(connection.out.batch);
        self.connections.pool.keep_received(connection.received);
        let passing = match connection.wait {
            Wait::Handoff(passing) => passing,
            Wait::None | Wait::Exchange(_) => None,
        };
        let mut admitted = connection.admitted;
        if planted::is(Defect::PlaceKept) {
            std::mem::forget(admitted.take());
        }
        (self.hand_over)(Handoff { socket, received, admitted, passing });
    }

    /// Tells the connection what the check that it waits for has found.
    fn checked(&mut self, id: ConnectionId, checked: Checked) -> io::Result<()> {
        self.serve(id, |serving| {
            serving.checked(checked);
            Ok(())
        })
    }

    fn accepted(&mut self, listener: u32, completion: &Completion) -> io::Result<()> {
        if !completion.more() {
            self.listeners.disarmed(listener);
        }
        if completion.result < 0 {
            self.listeners.not_accepted(&mut self.io, listener, -completion.result);
            return Ok(());
        }
        let socket = completion.result;
        if self.io.is_draining() {
            self.io.kernel.close(socket);
            return Ok(());
        }
        if !completion.more() {
            self.listeners.arm(&mut self.io)?;
        }
        let overload = self.io.overload();
        let admitted = if overload.is_none() { self.io.shared.connections.admit() } else { None };
        if admitted.is_some() {
            self.io.metrics.connections[Life::Accepted].one();
            let id = self.connections.insert(Connection::new(socket, admitted));
            tracing::debug!("worker {}: connection {id} from {}", self.io.number, self.io.kernel.peer(socket));
            return self.serve(id, |serving| serving.begin());
        }
        let overload = overload.unwrap_or(Overload::Connections);
        if self.connections.refused() >= self.io.shared.refused_at_once() {
            self.io.dismiss(socket, overload);
            return Ok(());
        }
        self.io.metrics.connections[Life::Refused].one();
        let id = self.connections.insert(Connection::new(socket, None));
        self.serve(id, |serving| serving.refuse(overload))
    }

    /// A zero-copy send's completion, or its notification, which may come when its connection has gone.
    fn sent_zero(&mut self, key: u32, completion: &Completion) -> io::Result<()> {
        // Errors bring a notification too: only the flag says whether one follows.
        let is_over = !completion.more() || planted::is(Defect::ZeroCopyReturnedEarly);
        let Some(id) = self.connections.pool.zero_send(key, is_over) else { return Ok(()) };
        if completion.is_notification() {
            let copied = completion.result & ZC_COPIED != 0;
            self.io.metrics.zerocopy[if copied { Zerocopy::Copied } else { Zerocopy::Sent }].one();
            return Ok(());
        }
        self.serve(id, |serving| serving.sent_zero(completion.result))
    }

    fn tick(&mut self) -> io::Result<()> {
        self.io.kernel.submit(Op::Tick, Token::new(Kind::Tick, 0, 0))?;
        self.io.date.refresh();
        self.io.repeat_messages()?;
        let are_read = !planted::is(Defect::MissedMailUnread);
        let missed = if are_read { self.io.shared.mail.take_missed(self.io.number) } else { Vec::new() };
        for token in missed {
            self.complete(&Completion { token: token.pack(), result: 0, flags: 0 })?;
        }
        match self.io.draining {
            None => {
                self.listeners.arm(&mut self.io)?;
                self.fetches.resume_due(&mut self.io)?;
                self.io.tend_for_all();
            }
            Some(until) if self.io.now >= until => {
                for id in self.connections.filter(|_| true) {
                    self.io.metrics.timeouts[Timeout::Drain].one();
                    self.serve(id, |serving| serving.close())?;
                }
                return Ok(());
            }
            Some(_) => {}
        }
        let now = self.io.now;
        for id in self.connections.filter(|connection| connection.deadline <= now) {
            self.serve(id, |serving| serving.out_of_patience())?;
        }
        Ok(())
    }

    /// Stops accepting, and ends each connection when it owes nothing.
    fn drain(&mut self) -> io::Result<()> {
        if self.io.is_draining() {
            return Ok(());
        }
        self.io.draining = Some(self.io.now.saturating_add(self.io.shared.options.drain.as_nanos() as u64));
        self.listeners.close(&mut self.io)?;
        for id in self.connections.filter(|_| true) {
            self.serve(id, |serving| serving.drain())?;
        }
        Ok(())
    }
}
