//! What every part of a worker works with: the kernel, the mailbox, the time, and what all threads share.

use super::id::ConnectionId;
use super::mailbox::{Mailbox, Message};
use super::overload::Overload;
use crate::arena::heap;
use crate::cache::eviction::Touch;
use crate::http::date::Date;
use crate::http::response::Persistence;
use crate::metrics::WorkerMetrics;
use crate::metrics::labels::{Class, Connection as Life};
use crate::planted::{self, Defect};
use crate::ring::Completion;
use crate::ring::kernel::{Kernel, Kind, Op, Token};
use crate::server::access_log::Asked;
use crate::server::shared::Shared;
use crate::wake::Waiter;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

/// A worker's means.
pub(super) struct Io<K: Kernel> {
    /// Which worker it is.
    pub number: usize,
    pub kernel: K,
    pub mailbox: Mailbox,
    pub shared: Arc<Shared>,
    pub metrics: Arc<WorkerMetrics>,
    pub touch: Touch,
    pub date: Date,
    /// The time at which this turn's completions were taken: monotonic nanoseconds.
    pub now: u64,
    /// Hits answered in this turn.
    pub hits: u64,
    /// The worker was told to finish: until when it may take its time.
    pub draining: Option<u64>,
}

impl<K: Kernel> Io<K> {
    /// The means of the worker of this number.
    pub fn new(number: usize, kernel: K, shared: Arc<Shared>) -> Io<K> {
        Io {
            number,
            mailbox: Mailbox::default(),
            metrics: shared.metrics.workers[number].clone(),
            touch: shared.cache.touch(),
            date: Date::now(),
            now: kernel.now(),
            hits: 0,
            draining: None,
            kernel,
            shared,
        }
    }

    /// Submits what is queued, waits if nothing else is to be done, and takes what has completed.
    pub fn turn(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.kernel.turn(!self.mailbox.has_ready(), completions)?;
        self.now = self.kernel.now();
        self.metrics.ring_enters.one();
        self.metrics.ring_cq_overflows.add(self.kernel.take_overflows());
        self.metrics.ring_completions.add(completions.len() as u64);
        Ok(())
    }

    /// The turn is over: its hits are counted with the time that it took.
    pub fn count_hits(&mut self) {
        if self.hits > 0 {
            self.metrics.hit_latency.record_many(self.kernel.now() - self.now, self.hits);
            self.hits = 0;
        }
    }

    /// What one worker does for all at every tick.
    pub fn tend_for_all(&self) {
        if self.number == 0 {
            if heap::is_low() && !heap::restore() {
                self.raise(Overload::Memory);
            }
            self.shared.alarms.calm(self.now);
            self.shared.cache.tend_open_files(self.shared.descriptors_for_cache(), self.now);
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Has an operation cancelled; it completes itself then.
    pub fn cancel(&mut self, token: Token) -> io::Result<()> {
        self.kernel.submit(Op::Cancel { token }, Token::new(Kind::Ignored, 0, 0))
    }

    /// Tells those who wait, here or on other workers.
    pub fn wake(&mut self, waiters: Vec<Waiter>) -> io::Result<()> {
        for waiter in waiters {
            match waiter {
                Waiter::Ring { worker, message } => {
                    let Some(token) = Token::unpack(message) else { continue };
                    if worker == self.number && planted::is(Defect::WaitersUntold) {
                        continue;
                    }
                    if worker == self.number {
                        self.mailbox.push_ready(ConnectionId::of(token));
                    } else if let Some(ring) = self.shared.mail.ring(worker) {
                        let key = self.mailbox.post(Message { ring, token });
                        self.send_message(key)?;
                    }
                }
                Waiter::Task(waker) => waker.wake(),
            }
        }
        Ok(())
    }

    /// Sends those messages again that could not be delivered.
    pub fn repeat_messages(&mut self) -> io::Result<()> {
        self.mailbox.take_undelivered().into_iter().try_for_each(|key| self.send_message(key))
    }

    fn send_message(&mut self, key: u32) -> io::Result<()> {
        let Some(Message { ring, token }) = self.mailbox.message(key) else { return Ok(()) };
        self.kernel.submit(Op::Message { ring, token }, Token::new(Kind::Message, 0, key))
    }

    /// What there is too little of for anything new.
    pub fn overload(&self) -> Option<Overload> {
        heap::is_low().then_some(Overload::Memory)
    }

    /// Answers a connection for which there is no place, and closes it at once.
    pub fn dismiss(&mut self, socket: RawFd, overload: Overload) {
        let mut record =
            self.shared.access_log.begin(self.now, || Asked { peer: self.kernel.peer(socket), request: None });
        record.answered(503, None);
        let mut answer = Vec::new();
        let problem = overload.problem(self.shared.connections.limit());
        problem.write(&mut answer, true, &self.date, Persistence::Close);
        self.kernel.dismiss(socket, &answer);
        self.metrics.connections[Life::Refused].one();
        self.metrics.answered(Class::Other, 503);
        self.metrics.bytes_sent.add(answer.len() as u64);
        self.metrics.body_bytes[Class::Other].add(problem.body_bytes() as u64);
        record.sent(problem.body_bytes() as u64);
        record.end(self.now);
    }

    /// Says in the log that there is too little of something, if that is news.
    pub fn raise(&self, overload: Overload) {
        let limit = self.shared.connections.limit();
        let alarms = &self.shared.alarms;
        let alarm = match overload {
            // The count of those that are refused says it: see `notices`.
            Overload::Connections => return,
            Overload::Descriptors => &alarms.descriptors,
            Overload::Memory => &alarms.memory,
        };
        alarm.raise(self.now, || tracing::warn!("{}; new connections are answered 503", overload.describe(limit)));
    }
}
