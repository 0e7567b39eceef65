//! A worker: one thread, one ring, one event loop.
//!
//! A turn takes all completions there are and handles each to its end; whatever that gives rise to is submitted by the next
//! turn's one io_uring_enter. The modules beside this one are its parts: `receive` (bytes in), `answer` (requests to
//! responses), `send` (bytes out), `fetches` (storage).

use super::checks::Check;
use super::connection::{Connection, Ending, InFlight, Patience, Receiving, Wait};
use super::deliver::batch::Batch;
use super::deliver::buffer::Buffer;
use super::deliver::zero::ZeroSend;
use super::fetches::{Deferred, FetchTrials, FillTask};
use super::ledger::Ledger;
use super::overload::{Overload, open_reserve};
use crate::arena::heap;
use crate::cache::eviction::Touch;
use crate::http::date::Date;
use crate::limits;
use crate::metrics::WorkerMetrics;
use crate::metrics::labels::{Connection as Step, Timeout};
use crate::planted::{self, Defect};
use crate::ring::Completion;
use crate::ring::kernel::{Kernel, Kind, Op, Token};
use crate::ring::lent::Lent;
use crate::server::shared::Shared;
use crate::wake::Waiter;
use slab::Slab;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// What a connection that leaves for the control plane takes along.
pub type HandOver = Box<dyn Fn(crate::server::Handoff) + Send>;

/// One event loop and all that belongs to it.
pub struct Worker<K: Kernel> {
    pub(super) number: usize,
    pub(super) kernel: K,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) touch: Touch,
    pub(super) hand_over: HandOver,
    pub(super) listeners: Vec<Listener>,
    /// Given up for a moment when there is no other descriptor, to answer a connection with.
    pub(super) reserve: Option<File>,
    pub(super) connections: Slab<Connection>,
    generations: u32,
    refused: usize,
    pub(super) fills: Slab<FillTask>,
    pub(super) fetching: FetchTrials,
    /// The oldest first.
    pub(super) deferred: VecDeque<Deferred>,
    pub(super) checks: Slab<Check>,
    pub(super) zero_sends: Slab<Lent<ZeroSend>>,
    /// Messages to other workers that are not known to be delivered.
    messages: Slab<Message>,
    /// Those of them that the kernel had no memory for: the next tick tries again.
    undelivered: Vec<usize>,
    /// Connections that go on without a completion of their own, with their generation.
    pub(super) ready: Vec<(u32, u32)>,
    pub(super) spares: Spares,
    pub(super) date: Date,
    /// The time at which this turn's completions were taken: monotonic nanoseconds.
    pub(super) now: u64,
    /// Hits answered in this turn.
    pub(super) hits: u64,

    draining: Option<u64>,
}

/// A message to another worker: to whose ring, and what it says.
struct Message {
    ring: RawFd,
    token: Token,
}

pub(super) struct Listener {
    pub socket: OwnedFd,
    /// Its multishot accept is armed.
    armed: bool,
}

/// Memory of connections that fell idle, for those that become active.
#[derive(Default)]
pub(super) struct Spares {
    pub batches: Vec<Lent<Batch>>,
    pub received: Vec<Vec<u8>>,
    pub ledgers: Vec<Ledger>,
    pub buffers: Vec<Lent<Buffer>>,
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
            number,
            metrics: shared.metrics.workers[number].clone(),
            touch: shared.cache.touch(),
            now: kernel.now(),
            kernel,
            shared,
            hand_over,
            listeners: listeners.into_iter().map(|socket| Listener { socket, armed: false }).collect(),
            reserve: open_reserve(),
            connections: Slab::new(),
            generations: 0,
            refused: 0,
            fills: Slab::new(),
            fetching: FetchTrials::default(),
            deferred: VecDeque::new(),
            checks: Slab::new(),
            zero_sends: Slab::new(),
            messages: Slab::new(),
            undelivered: Vec::new(),
            ready: Vec::new(),
            spares: Spares::default(),
            date: Date::now(),
            hits: 0,
            draining: None,
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
        self.arm_listeners()?;
        self.tend_open_files();
        self.kernel.submit(Op::Tick, Token::new(Kind::Tick, 0, 0))
    }

    /// Told to finish, and nothing is owed to anyone: neither to a connection of its own, nor to those of other workers that
    /// wait for what it reads (as long as there is time).
    pub(super) fn is_finished(&self) -> bool {
        let all_read = |until| (self.fills.is_empty() && self.messages.is_empty()) || self.now >= until;
        self.draining.is_some_and(|until| self.connections.is_empty() && all_read(until))
    }

    /// Nothing that it has begun is under way.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn holds_nothing(&self) -> bool {
        let is_empty = self.fills.is_empty() && self.checks.is_empty() && self.zero_sends.is_empty();
        is_empty && self.messages.is_empty() && self.connections.is_empty()
    }

    /// Submits, waits, and handles what has completed.
    pub(super) fn turn(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.clear();
        self.kernel.turn(self.ready.is_empty(), completions)?;
        self.now = self.kernel.now();
        self.metrics.ring_enters.one();
        self.metrics.ring_cq_overflows.add(self.kernel.take_overflows());
        self.metrics.ring_completions.add(completions.len() as u64);
        for completion in completions.iter() {
            self.complete(completion)?;
        }
        // What becomes ready from here on waits for the next turn, so that none of them keeps the others waiting.
        for (index, generation) in std::mem::take(&mut self.ready) {
            self.wake(index, generation)?;
        }
        if self.hits > 0 {
            self.metrics.hit_latency.record_many(self.kernel.now() - self.now, self.hits);
            self.hits = 0;
        }
        Ok(())
    }

    /// Handles one completion.
    pub(super) fn complete(&mut self, completion: &Completion) -> io::Result<()> {
        let Some(token) = Token::unpack(completion.token) else { return Ok(()) };
        match token.kind {
            Kind::Accept => self.accepted(token.index, completion),
            Kind::Receive => self.received(token.index, completion),
            Kind::Send => self.sent(token.index, completion),
            Kind::SendZero => self.sent_zero(token.index, completion),
            Kind::Writable => self.writable(token.index),
            Kind::Stream => self.stream_read(token.index, completion),
            Kind::FillOpen => self.fill_opened(token.index, completion),
            Kind::FillRead => self.fill_read(token.index, completion),
            Kind::Check => self.check_completed(token.index, completion),
            Kind::Tick => self.tick(),
            Kind::Wake => self.wake(token.index, token.generation),
            Kind::Delegated => self.begin_delegated(),
            Kind::Shutdown => self.drain(),
            Kind::Message => self.message_over(token.index, completion.result),
            Kind::Ignored => Ok(()),
        }
    }

    /// A completion that a connection waited for; counts it off.
    pub(super) fn operation_over(&mut self, index: u32) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(index as usize)?;
        connection.operations -= 1;
        Some(connection)
    }

    fn wake(&mut self, index: u32, generation: u32) -> io::Result<()> {
        match self.connections.get(index as usize) {
            Some(connection) if connection.generation == generation => self.pump(index),
            _ => Ok(()), // it has gone since
        }
    }

    /// Tells those who wait for a fill, here or on other workers.
    pub(super) fn wake_all(&mut self, waiters: Vec<Waiter>) -> io::Result<()> {
        for waiter in waiters {
            match waiter {
                Waiter::Ring { worker, message } => {
                    let Some(token) = Token::unpack(message) else { continue };
                    if worker == self.number && planted::is(Defect::WaitersUntold) {
                        continue;
                    }
                    if worker == self.number {
                        self.ready.push((token.index, token.generation));
                    } else if let Some(ring) = self.shared.mail.ring(worker) {
                        let key = self.messages.insert(Message { ring, token });
                        self.send_message(key)?;
                    }
                }
                Waiter::Task(waker) => waker.wake(),
            }
        }
        Ok(())
    }

    /// What a thread without a ring wanted to say, and could not.
    fn deliver_missed(&mut self, token: Token) -> io::Result<()> {
        self.complete(&Completion { token: token.pack(), result: 0, flags: 0 })
    }

    fn send_message(&mut self, key: usize) -> io::Result<()> {
        let Message { ring, token } = self.messages[key];
        self.kernel.submit(Op::Message { ring, token }, Token::new(Kind::Message, 0, key as u32))
    }

    /// Who waits for a message that could not be delivered would wait for ever.
    fn message_over(&mut self, key: u32, result: i32) -> io::Result<()> {
        match -result {
            libc::ENOMEM | libc::EAGAIN | libc::EOVERFLOW if !planted::is(Defect::MessageDropped) => {
                self.undelivered.push(key as usize);
            }
            // Delivered; or the addressee has gone, and its connections with it.
            _ => drop(self.messages.remove(key as usize)),
        }
        Ok(())
    }

    fn repeat_messages(&mut self) -> io::Result<()> {
        std::mem::take(&mut self.undelivered).into_iter().try_for_each(|key| self.send_message(key))
    }

    fn arm_listeners(&mut self) -> io::Result<()> {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if !std::mem::replace(&mut listener.armed, true) {
                let op = Op::Accept { listener: listener.socket.as_raw_fd() };
                self.kernel.submit(op, Token::new(Kind::Accept, 0, index as u32))?;
            }
        }
        Ok(())
    }

    fn accepted(&mut self, listener: u32, completion: &Completion) -> io::Result<()> {
        if !completion.more()
            && let Some(listener) = self.listeners.get_mut(listener as usize)
        {
            // Armed again by the next tick: what ended it (no descriptors, no memory) may not pass at once.
            listener.armed = planted::is(Defect::AcceptNotRearmed);
        }
        if completion.result < 0 {
            self.not_accepted(listener, -completion.result);
            return Ok(());
        }
        if !completion.more() && self.draining.is_none() {
            self.arm_listeners()?;
        }
        let socket = completion.result;
        let overload = self.overload();
        let admitted = if overload.is_none() { self.shared.connections.admit() } else { None };
        if self.draining.is_some() {
            self.kernel.close(socket);
            return Ok(());
        }
        if admitted.is_none() && self.refused >= self.shared.refused_at_once() {
            self.dismiss(socket, overload.unwrap_or(Overload::Connections));
            return Ok(());
        }
        self.generations = (self.generations + 1) % Token::GENERATIONS;
        let is_refused = admitted.is_none();
        let index = self.connections.insert(Connection::new(socket, self.generations, admitted)) as u32;
        if is_refused {
            self.refused += 1;
            self.metrics.connections[Step::Refused].one();
            return self.refuse(index, overload.unwrap_or(Overload::Connections));
        }
        self.metrics.connections[Step::Accepted].one();
        tracing::debug!("worker {}: connection {index} from {}", self.number, self.kernel.peer(socket));
        self.arm_receive(index)?;
        self.renew_deadline(index);
        Ok(())
    }

    /// Ends the connection at once: what is in flight completes, and nothing more is sent.
    pub(super) fn close(&mut self, index: u32) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(index as usize) else { return Ok(()) };
        if connection.ending != Ending::Closing {
            connection.ending = Ending::Closing;
            connection.wait = Wait::None;
            // A buffer in flight comes back with its completion.
            if !matches!(connection.in_flight, Some(InFlight::Buffer | InFlight::Reading)) {
                connection.body = None;
            }
            if connection.operations > 0 {
                self.kernel.shutdown(connection.socket, Shutdown::Both);
                if connection.receiving == Receiving::Armed {
                    connection.receiving = Receiving::Cancelling;
                    let token = Token::new(Kind::Receive, 0, index);
                    self.kernel.submit(Op::Cancel { token }, Token::new(Kind::Ignored, 0, 0))?;
                }
            }
        }
        self.remove_if_over(index);
        Ok(())
    }

    /// Removes a closing connection once no operation of it is outstanding.
    pub(super) fn remove_if_over(&mut self, index: u32) {
        let Some(connection) = self.connections.get(index as usize) else { return };
        if connection.ending == Ending::Closing && connection.operations == 0 {
            let connection = self.connections.remove(index as usize);
            self.kernel.close(connection.socket);
            tracing::debug!("worker {}: connection {index} is closed", self.number);
            match connection.admitted {
                Some(_) => self.metrics.connections[Step::Closed].one(),
                None => self.refused -= 1,
            }
            self.spares.keep(connection.batch, connection.received);
        }
    }

    /// Sets the deadline of what is waited for now. A wait that goes on keeps its own: what the peer sends meanwhile buys it
    /// no time.
    pub(super) fn renew_deadline(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        let patience = connection.waits_for();
        let options = &self.shared.options;
        let time = match patience {
            Patience::Head | Patience::Send | Patience::Linger if connection.patience == patience => return,
            Patience::Idle if planted::is(Defect::IdleWithoutEnd) => Duration::MAX,
            Patience::Idle => options.idle_timeout,
            Patience::Head => options.header_timeout,
            Patience::Send => options.send_timeout,
            Patience::Linger => limits::LINGER,
            Patience::Endless => {
                (connection.patience, connection.deadline) = (patience, u64::MAX);
                return;
            }
        };
        connection.patience = patience;
        connection.deadline = self.now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        if patience == Patience::Send {
            connection.progress = u64::MAX;
        }
    }

    fn tick(&mut self) -> io::Result<()> {
        self.kernel.submit(Op::Tick, Token::new(Kind::Tick, 0, 0))?;
        self.date.refresh();
        self.repeat_messages()?;
        let missed =
            if planted::is(Defect::MissedMailUnread) { Vec::new() } else { self.shared.mail.take_missed(self.number) };
        for token in missed {
            self.deliver_missed(token)?;
        }
        match self.draining {
            None => {
                self.arm_listeners()?;
                self.resume_due()?;
                self.tend_open_files();
            }
            Some(until) if self.now >= until => {
                let all: Vec<u32> = self.connections.iter().map(|(index, _)| index as u32).collect();
                for index in all {
                    self.metrics.timeouts[Timeout::Drain].one();
                    self.close(index)?;
                }
                return Ok(());
            }
            Some(_) => {}
        }
        let now = self.now;
        let late = self.connections.iter().filter(|(_, connection)| connection.deadline <= now);
        let late: Vec<u32> = late.map(|(index, _)| index as u32).collect();
        for index in late {
            self.out_of_patience(index)?;
        }
        Ok(())
    }

    /// One worker does this for all.
    fn tend_open_files(&self) {
        if self.number == 0 {
            if heap::is_low() && !heap::restore() {
                self.raise(Overload::Memory);
            }
            self.shared.alarms.calm(self.now);
            self.shared.cache.tend_open_files(self.shared.descriptors_for_cache(), self.now);
        }
    }

    fn out_of_patience(&mut self, index: u32) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(index as usize) else { return Ok(()) };
        if connection.waits_for() != connection.patience && !planted::is(Defect::StaleDeadline) {
            // What the deadline was set for has come to pass meanwhile.
            self.renew_deadline(index);
            return Ok(());
        }
        match connection.patience {
            Patience::Idle => {
                self.metrics.timeouts[Timeout::Idle].one();
                self.close(index)
            }
            Patience::Head => {
                self.metrics.timeouts[Timeout::Head].one();
                self.time_out_head(index)
            }
            Patience::Send => {
                let progress = self.kernel.progress(connection.socket);
                if connection.progress != progress || planted::is(Defect::SendWithoutEnd) {
                    // The peer reads, slowly; or this is the first look.
                    connection.progress = progress;
                    connection.deadline = self.now.saturating_add(self.shared.options.send_timeout.as_nanos() as u64);
                    return Ok(());
                }
                self.metrics.timeouts[Timeout::Send].one();
                self.close(index)
            }
            Patience::Linger => self.close(index),
            Patience::Endless => Ok(()),
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Stops accepting, and ends each connection when it owes nothing.
    fn drain(&mut self) -> io::Result<()> {
        if self.draining.is_some() {
            return Ok(());
        }
        self.draining = Some(self.now.saturating_add(self.shared.options.drain.as_nanos() as u64));
        for (index, listener) in self.listeners.drain(..).enumerate() {
            if listener.armed {
                let token = Token::new(Kind::Accept, 0, index as u32);
                self.kernel.submit(Op::Cancel { token }, Token::new(Kind::Ignored, 0, 0))?;
            }
        }
        let all: Vec<u32> = self.connections.iter().map(|(index, _)| index as u32).collect();
        for index in all {
            let connection = &mut self.connections[index as usize];
            if connection.ending == Ending::Open {
                match connection.is_idle() {
                    true => self.close(index)?,
                    false if planted::is(Defect::DrainForgetsBusy) => {}
                    false => connection.ending = Ending::AfterResponses { linger: false },
                }
            }
        }
        Ok(())
    }

    /// The socket takes bytes again.
    fn writable(&mut self, index: u32) -> io::Result<()> {
        if let Some(connection) = self.operation_over(index) {
            if connection.in_flight == Some(InFlight::Full) {
                connection.in_flight = None;
            }
            return self.pump(index);
        }
        Ok(())
    }
}

impl Spares {
    /// Keeps the memory of a connection, as far as there is use for it.
    pub fn keep(&mut self, batch: Option<Lent<Batch>>, received: Vec<u8>) {
        if let Some(mut batch) = batch
            && !batch.is_lent()
            && self.batches.len() < limits::SPARES
        {
            batch.get_mut().clear();
            self.batches.push(batch);
        }
        self.keep_received(received);
    }

    pub fn keep_ledger(&mut self, ledger: Ledger) {
        if self.ledgers.len() < limits::SPARES {
            self.ledgers.push(ledger);
        }
    }

    pub fn keep_received(&mut self, mut received: Vec<u8>) {
        let useful = (1..=limits::SPARE_TEXT_BYTES).contains(&received.capacity());
        if useful && self.received.len() < limits::SPARES {
            received.clear();
            self.received.push(received);
        }
    }
}
