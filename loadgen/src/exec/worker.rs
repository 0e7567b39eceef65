//! One thread's event loop: hand out work, send, wait, take what arrived; one io_uring_enter a turn.

use super::{
    connection::{After, Connection, Finished, Flight, Loss, Phase},
    plan::{Intervals, Plan},
    schedule::Schedule,
    shared::{Interval, Shared},
    wire::{self, Event, Wire},
};
use crate::{
    requests::{Chooser, Requests},
    stats::{Class, Failure, Tally, tally::Success},
};
use anyhow::Result;
use std::{collections::VecDeque, io, time::Duration};

/// When the next slot is nearer than this, the worker looks for it again and again instead of sleeping: waking up takes
/// tens of microseconds.
const SPIN_NS: u64 = 120_000;

/// The longest sleep: how soon an interruption is noticed.
const SLEEP_NS_MAX: u64 = 50_000_000;

/// A request to be sent.
enum Work {
    New(Flight),
    /// One that a closed connection has not answered.
    Again(Flight),
}

pub struct Worker<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    requests: &'static Requests,
    wire: Wire,
    connections: Vec<Connection>,
    /// Places for one more request each, the longest unused first: the connection, and which of its lives.
    free: VecDeque<(u32, u32)>,
    /// Counts the lives of each connection, so that places of a closed one are known.
    lives: Vec<u32>,
    /// Connections with requests to be sent in this turn.
    dirty: Vec<u32>,
    again: VecDeque<Flight>,
    chooser: Chooser,
    schedule: Option<Schedule>,
    times: Times,
    /// Measured requests that may still be started.
    budget: u64,
    exhausted: bool,
    /// The last time at which no place was free: slots of an earlier time have waited for the server.
    starved_until_ns: u64,
    on_their_way: usize,
    tally: Tally,
    interval: u64,
    intervals: Intervals,
    thread: u32,
    cpu_before: Option<Duration>,
}

/// Points in time, in nanoseconds on the run's clock.
#[derive(Debug, Clone, Copy)]
struct Times {
    start: u64,
    /// The end of the warm-up.
    measure: u64,
    /// The end of new requests.
    deadline: u64,
    timeout: u64,
    next_sweep: u64,
}

impl<'a> Worker<'a> {
    /// Sets up thread `thread`, with its share of the connections.
    ///
    /// # Errors
    /// Why io_uring cannot be used.
    pub fn new(plan: &'a Plan, shared: &'a Shared, thread: u32) -> Result<Worker<'a>> {
        let share = |thread| plan.share(u64::from(plan.connections), thread);
        let (links, first) = (share(thread) as u32, (0..thread).map(share).sum::<u64>() as usize);
        wire::precise_timeouts();
        let far = u64::MAX;
        let timeout = plan.timeout.as_nanos() as u64;
        Ok(Worker {
            plan,
            shared,
            requests: plan.requests,
            wire: Wire::new(&plan.addresses, first, links, plan.discards_bodies)?,
            connections: (0..links).map(|_| Connection::new(plan.requests)).collect(),
            free: VecDeque::new(),
            lives: vec![0; links as usize],
            dirty: Vec::new(),
            again: VecDeque::new(),
            chooser: plan.order.chooser(thread, plan.threads, links.saturating_mul(plan.pipeline), plan.seed),
            schedule: Schedule::new(&plan.pace, thread, plan.threads, plan.seed),
            times: Times { start: far, measure: far, deadline: far, timeout, next_sweep: 0 },
            budget: plan.requests_max.map_or(u64::MAX, |whole| plan.share(whole, thread)),
            exhausted: false,
            starved_until_ns: 0,
            on_their_way: 0,
            tally: Tally::default(),
            interval: 0,
            intervals: Intervals::new(plan.interval),
            thread,
            cpu_before: None,
        })
    }

    /// Connects everything once, well or badly, before the clock starts.
    ///
    /// # Errors
    /// Those of the ring.
    pub fn connect(&mut self) -> io::Result<()> {
        for link in 0..self.connections.len() as u32 {
            self.dial(link, self.shared.now_ns())?;
        }
        loop {
            let now_ns = self.shared.now_ns();
            let mut waiting = false;
            for link in 0..self.connections.len() as u32 {
                if let Phase::Connecting { since_ns } = self.connections[link as usize].phase {
                    waiting = true;
                    if since_ns + self.times.timeout <= now_ns {
                        self.refused(link, now_ns)?;
                    }
                }
            }
            if !waiting || self.shared.stopped() {
                return Ok(());
            }
            self.take_turn(Some(Duration::from_nanos(SLEEP_NS_MAX)))?;
        }
    }

    /// Nothing could be reached: hands over how that failed.
    pub fn give_up(&mut self) {
        self.hand_over(Some(Duration::ZERO));
    }

    /// The measurement, from `start_ns` on.
    ///
    /// # Errors
    /// Those of the ring.
    pub fn measure(&mut self, start_ns: u64) -> io::Result<()> {
        self.times.start = start_ns;
        self.times.measure = start_ns + self.plan.warmup.as_nanos() as u64;
        if let Some(duration) = self.plan.duration {
            self.times.deadline = self.times.measure.saturating_add(duration.as_nanos() as u64);
        }
        let mut now_ns = self.shared.now_ns();
        loop {
            self.housekeep(now_ns)?;
            self.hand_out(now_ns);
            if self.done(now_ns) {
                break;
            }
            self.send_dirty()?;
            self.take_turn(self.wait_limit(now_ns))?;
            now_ns = self.shared.now_ns();
        }
        let end_ns = now_ns;
        self.count_dropped(end_ns);
        self.rotate(end_ns, true);
        Ok(())
    }

    fn done(&self, now_ns: u64) -> bool {
        if self.shared.stopped() {
            return true;
        }
        let over = now_ns >= self.times.deadline || (self.exhausted && self.again.is_empty());
        let given_up = now_ns >= self.times.deadline.saturating_add(self.times.timeout);
        given_up || (over && self.on_their_way == 0)
    }

    /// How long this turn may sleep; `None`: not at all.
    fn wait_limit(&self, now_ns: u64) -> Option<Duration> {
        let mut until = (now_ns + SLEEP_NS_MAX).min(self.times.next_sweep);
        if now_ns < self.times.deadline {
            until = until.min(self.times.deadline);
        }
        if let Some(slot) = self.next_slot_ns()
            && now_ns < self.times.deadline
            && !self.free.is_empty()
        {
            if slot <= now_ns + SPIN_NS {
                return None;
            }
            until = until.min(slot - SPIN_NS);
        }
        Some(Duration::from_nanos(until.saturating_sub(now_ns).max(1_000)))
    }

    /// The next slot on the run's clock, while slots are handed out.
    fn next_slot_ns(&self) -> Option<u64> {
        let slot = self.schedule.as_ref()?.peek()?.saturating_add(self.times.start);
        (!self.exhausted && slot < self.times.deadline).then_some(slot)
    }

    /// Gives free places work, as long as there is work now.
    fn hand_out(&mut self, now_ns: u64) {
        while let Some((link, life)) = self.free.pop_front() {
            if self.lives[link as usize] != life {
                continue;
            }
            let Some(work) = self.next_work(now_ns) else {
                self.free.push_front((link, life));
                return;
            };
            let mut flight = match work {
                Work::New(flight) => {
                    self.count_sent(&flight, now_ns);
                    flight
                }
                Work::Again(flight) => {
                    self.tally.retried += u64::from(flight.measured && flight.repeats > 0);
                    flight
                }
            };
            flight.sent_ns = now_ns;
            self.on_their_way += 1;
            let connection = &mut self.connections[link as usize];
            connection.flights.push_back(flight);
            connection.unsent += 1;
            if connection.unsent == 1 {
                self.dirty.push(link);
            }
        }
    }

    /// The next request to send, if one is to be sent now.
    #[inline]
    fn next_work(&mut self, now_ns: u64) -> Option<Work> {
        if let Some(flight) = self.again.pop_front() {
            return Some(Work::Again(flight));
        }
        self.exhausted |= self.budget == 0 || self.schedule.as_ref().is_some_and(|schedule| schedule.peek().is_none());
        if self.exhausted {
            return None;
        }
        let intended_ns = match &mut self.schedule {
            None if now_ns >= self.times.deadline => return None,
            None => None,
            Some(schedule) => {
                let slot = schedule.peek()?.saturating_add(self.times.start);
                // At the deadline, slots that still wait for the server stay, to be counted as dropped. Those that only
                // this thread is late for are sent.
                let waits = now_ns >= self.times.deadline && slot < self.starved_until_ns;
                if slot >= self.times.deadline || waits {
                    return None;
                }
                schedule.take_due(now_ns - self.times.start)?;
                Some(slot)
            }
        };
        let measured = intended_ns.unwrap_or(now_ns) >= self.times.measure;
        let Some(item) = self.chooser.next() else {
            self.exhausted = true;
            return None;
        };
        self.budget -= u64::from(measured);
        Some(Work::New(Flight { item, intended_ns, sent_ns: now_ns, first_byte_ns: 0, measured, repeats: 0 }))
    }

    /// Counts a request that is sent for the first time, and how well it keeps the schedule.
    #[inline]
    fn count_sent(&mut self, flight: &Flight, now_ns: u64) {
        if !flight.measured {
            return;
        }
        self.begin_measuring();
        let schedule = &mut self.tally.schedule;
        schedule.intended += 1;
        schedule.sent += 1;
        if let Some(intended_ns) = flight.intended_ns {
            if intended_ns < self.starved_until_ns {
                schedule.late += 1;
            } else {
                schedule.error.record(now_ns.saturating_sub(intended_ns));
            }
        }
    }

    #[inline]
    fn begin_measuring(&mut self) {
        if self.cpu_before.is_none() {
            self.cpu_before = Some(wire::thread_cpu());
        }
    }

    /// Slots whose time came and whose request was never sent.
    fn count_dropped(&mut self, end_ns: u64) {
        let until_ns = end_ns.min(self.times.deadline.saturating_sub(1)).saturating_sub(self.times.start);
        let Some(schedule) = &mut self.schedule else { return };
        while !self.exhausted && self.budget > 0 {
            let Some(slot) = schedule.take_due(until_ns) else { break };
            if slot + self.times.start >= self.times.measure {
                self.budget -= 1;
                self.tally.schedule.intended += 1;
                self.tally.schedule.dropped += 1;
            }
        }
    }

    fn send_dirty(&mut self) -> io::Result<()> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for link in dirty.drain(..) {
            let connection = &mut self.connections[link as usize];
            if connection.phase != Phase::Open || connection.unsent == 0 || self.wire.sending(link) {
                continue;
            }
            let from = connection.flights.len() - connection.unsent;
            connection.unsent = 0;
            if self.plan.pipeline == 1 {
                self.wire.send(link, self.requests.bytes(connection.flights[from].item))?;
                continue;
            }
            let now_ns = self.shared.now_ns();
            connection.flights.range_mut(from..).for_each(|flight| flight.sent_ns = now_ns);
            let requests = self.requests;
            let unsent = self.connections[link as usize].flights.range(from..);
            self.wire.send_all(link, unsent.map(|flight| requests.bytes(flight.item)))?;
        }
        self.dirty = dirty;
        Ok(())
    }

    fn take_turn(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.wire.turn(limit)?;
        let now_ns = self.shared.now_ns();
        while let Some(event) = self.wire.next() {
            match event {
                Event::Received { link, bytes } => self.received(link, Some(bytes), now_ns)?,
                Event::Discarded { link, bytes } => {
                    self.connections[link as usize].skip_body(bytes);
                    self.received(link, None, now_ns)?;
                }
                Event::Connected { link } => self.connected(link, now_ns)?,
                Event::Refused { link } => self.refused(link, now_ns)?,
                Event::Sent { link } => {
                    if self.connections[link as usize].unsent > 0 {
                        self.dirty.push(link);
                    }
                }
                Event::Closed { link } => self.lose(link, Loss::Closed, now_ns)?,
                Event::Broken { link } => self.lose(link, Loss::Error, now_ns)?,
                Event::Nothing => {}
            }
        }
        Ok(())
    }

    /// Takes what arrived: these bytes, or some of a body that were discarded.
    #[inline]
    fn received(&mut self, link: u32, received: Option<wire::Received>, now_ns: u64) -> io::Result<()> {
        let life = self.lives[link as usize];
        if self.free.is_empty() {
            self.starved_until_ns = now_ns;
        }
        let (tally, chooser) = (&mut self.tally, &mut self.chooser);
        let (free, on_their_way) = (&mut self.free, &mut self.on_their_way);
        let after = self.connections[link as usize].receive(
            received.map_or(&[], |received| self.wire.bytes(received)),
            now_ns,
            self.requests,
            &mut |finished| {
                *on_their_way -= 1;
                free.push_back((link, life));
                record(tally, chooser, finished, now_ns);
            },
        );
        if let Some(received) = received {
            self.wire.recycle(received);
        }
        match after {
            After::GoesOn => self.wire.receive(link, self.connections[link as usize].body_left()),
            After::Ends => self.lose(link, Loss::Closed, now_ns),
            After::Malformed => self.lose(link, Loss::Malformed, now_ns),
        }
    }

    fn dial(&mut self, link: u32, now_ns: u64) -> io::Result<()> {
        self.connections[link as usize].phase = Phase::Connecting { since_ns: now_ns };
        match self.wire.connect(link) {
            Ok(()) => Ok(()),
            Err(_) => self.refused(link, now_ns),
        }
    }

    fn connected(&mut self, link: u32, now_ns: u64) -> io::Result<()> {
        if self.free.is_empty() {
            self.starved_until_ns = now_ns;
        }
        self.connections[link as usize].phase = Phase::Open;
        self.shared.count_established();
        self.tally.connections += 1;
        let life = self.lives[link as usize];
        self.free.extend((0..self.plan.pipeline).map(|_| (link, life)));
        self.wire.receive(link, 0)
    }

    /// A connection that cannot be had fails one request, if there is one to be sent.
    fn refused(&mut self, link: u32, now_ns: u64) -> io::Result<()> {
        self.wire.close(link)?;
        let connection = &mut self.connections[link as usize];
        connection.failures += 1;
        connection.phase = Phase::Closed { retry_ns: now_ns + connection.backoff_ns() };
        let failed = match self.times.start {
            // Before the start there is no request to fail, but that there is no connection must be seen.
            u64::MAX => true,
            _ => match self.next_work(now_ns) {
                None => false,
                Some(Work::Again(flight)) => flight.measured,
                Some(Work::New(flight)) => {
                    self.tally.schedule.intended += u64::from(flight.measured);
                    self.tally.schedule.dropped += u64::from(flight.measured);
                    flight.measured
                }
            },
        };
        if failed {
            self.tally.failure(Class::Unclassified, Failure::Connect, None);
        }
        Ok(())
    }

    fn lose(&mut self, link: u32, loss: Loss, now_ns: u64) -> io::Result<()> {
        let connection = &mut self.connections[link as usize];
        let (tally, chooser, on_their_way) = (&mut self.tally, &mut self.chooser, &mut self.on_their_way);
        let (before, mut ended) = (self.again.len(), 0);
        connection.lose(loss, self.requests, &mut self.again, &mut |finished| {
            ended += 1;
            record(tally, chooser, finished, now_ns);
        });
        *on_their_way -= ended + (self.again.len() - before);
        self.lives[link as usize] += 1;
        connection.phase = Phase::Closed { retry_ns: now_ns + connection.backoff_ns() };
        let at_once = connection.backoff_ns() == 0;
        self.wire.close(link)?;
        if at_once { self.dial(link, now_ns) } else { Ok(()) }
    }

    /// What is due now and then: intervals, requests whose time is over, connections to be tried again.
    fn housekeep(&mut self, now_ns: u64) -> io::Result<()> {
        if now_ns < self.times.next_sweep {
            return Ok(());
        }
        self.rotate(now_ns, false);
        let sent_before_ns = now_ns.saturating_sub(self.times.timeout);
        let mut next = now_ns + (self.times.timeout / 16).clamp(1_000_000, 100_000_000);
        for link in 0..self.connections.len() as u32 {
            let connection = &self.connections[link as usize];
            match connection.phase {
                Phase::Open if connection.waiting_since().is_some_and(|since| since <= sent_before_ns) => {
                    self.lose(link, Loss::Timeout { sent_before_ns }, now_ns)?;
                }
                Phase::Connecting { since_ns } if since_ns <= sent_before_ns => self.refused(link, now_ns)?,
                Phase::Closed { retry_ns } if retry_ns <= now_ns => self.dial(link, now_ns)?,
                Phase::Closed { retry_ns } => next = next.min(retry_ns),
                _ => {}
            }
        }
        self.times.next_sweep = next.min(self.interval_end_ns()).max(now_ns + 1);
        Ok(())
    }

    fn interval_end_ns(&self) -> u64 {
        self.times.measure.saturating_add(self.intervals.end_ns(self.interval))
    }

    /// Hands over the tallies of intervals that are over; what comes after the deadline belongs to the last one.
    fn rotate(&mut self, now_ns: u64, last: bool) {
        let over = now_ns.min(self.times.deadline.saturating_sub(1));
        while over >= self.interval_end_ns() {
            self.hand_over(None);
        }
        if last {
            let cpu = self.cpu_before.map(|before| wire::thread_cpu().saturating_sub(before));
            self.hand_over(Some(cpu.unwrap_or_default()));
        }
    }

    fn hand_over(&mut self, last: Option<Duration>) {
        let next = self.shared.spare_tally();
        let tally = std::mem::replace(&mut self.tally, next);
        self.shared.hand_over(Interval { thread: self.thread, index: self.interval, tally, last });
        self.interval += 1;
    }
}

#[inline]
fn record(tally: &mut Tally, chooser: &mut Chooser, finished: Finished, now_ns: u64) {
    if let Finished::Success { class, .. } = finished {
        chooser.observe(class);
    }
    match finished {
        Finished::Success { flight, class, body_bytes } if flight.measured => tally.success(Success {
            class,
            body_bytes,
            intended_ns: flight.intended_ns,
            sent_ns: flight.sent_ns,
            first_byte_ns: flight.first_byte_ns,
            last_byte_ns: now_ns,
        }),
        Finished::Failure { flight, class, kind, status } if flight.measured => {
            tally.failure(class, kind, status);
        }
        _ => {}
    }
}
