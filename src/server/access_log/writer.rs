//! The thread that writes the access log.
//!
//! It sleeps a little after each batch, so that a busy server wakes it a hundred times a second and not at every
//! request. A line that was begun is finished before any other, so that a disk that was full leaves no torn lines. What
//! is wrong is said when it begins and when it is over, not for every line.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use super::line::Line;
use super::sink::Sink;
use super::{Message, Queue};
use crate::config::{AccessLogFormat, AccessLogTarget};
use crate::limits::{ACCESS_LOG_CALM, ACCESS_LOG_LOOK, ACCESS_LOG_PATIENCE, ACCESS_LOG_PAUSE, ACCESS_LOG_WRITE_BYTES};
use crate::metrics::counter::Read;

pub(super) struct Writer {
    queue: Arc<Queue>,
    target: AccessLogTarget,
    format: AccessLogFormat,
    sink: Sink,
    /// Lines that are not written yet.
    buffer: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// The first of them is the rest of a line that stands in the log without its end.
    is_torn: bool,
    trouble: Trouble,
}

/// Whether lines are being lost.
struct Trouble {
    /// How many lines had been lost at the last look.
    lost: u64,
    /// Set from the first loss until the log has been calm for a while.
    since: Option<Losses>,
}

struct Losses {
    /// How many lines had been lost before.
    before: u64,
    last: Instant,
}

impl Writer {
    pub fn new(queue: Arc<Queue>, target: AccessLogTarget, format: AccessLogFormat, sink: Sink) -> Writer {
        let trouble = Trouble { lost: 0, since: None };
        Writer { queue, target, format, sink, buffer: Vec::new(), ends: Vec::new(), is_torn: false, trouble }
    }

    /// Writes lines until the log ends.
    pub fn run(&mut self, messages: &Receiver<Message>) {
        while self.turn(messages).is_continue() {
            self.look_for_losses();
            thread::sleep(ACCESS_LOG_PAUSE);
        }
    }

    /// Waits for a first message, then takes all there are, and does what the flags say that were set before. Breaks
    /// when the log has ended.
    pub fn turn(&mut self, messages: &Receiver<Message>) -> ControlFlow<()> {
        let first = messages.recv_timeout(self.patience());
        // Before the lines are taken: those that were queued before a rotation are in the old file.
        let reopens = self.queue.reopens.swap(false, Ordering::AcqRel);
        let ends = self.queue.ends.get().is_some();
        let mut next = match first {
            Ok(message) => Ok(message),
            Err(RecvTimeoutError::Timeout) => Err(TryRecvError::Empty),
            Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
        };
        while let Ok(message) = next {
            if let Message::Line(pending) = message {
                self.take(&pending.line);
            }
            next = messages.try_recv();
        }
        self.flush();
        if ends {
            // The rest of a line that was begun has no further chance.
            self.queue.dropped(self.ends.len() as u64);
            return ControlFlow::Break(());
        }
        if reopens {
            self.reopen();
        }
        ControlFlow::Continue(())
    }

    /// How long to wait for a first message: not at all when a flag is set, because the message that tells of it may
    /// have been taken with the lines before.
    pub fn patience(&self) -> Duration {
        let is_told = self.queue.reopens.load(Ordering::Acquire) || self.queue.ends.get().is_some();
        if is_told { Duration::ZERO } else { ACCESS_LOG_CALM }
    }

    fn take(&mut self, line: &Line) {
        if self.is_over() {
            return self.queue.dropped(1);
        }
        line.write(self.format, &mut self.buffer);
        self.ends.push(self.buffer.len());
        if self.buffer.len() >= ACCESS_LOG_WRITE_BYTES {
            self.flush();
        }
    }

    /// Writes what was gathered. What cannot be written is dropped and counted, but for the rest of a line that was
    /// begun.
    fn flush(&mut self) {
        if self.ends.is_empty() {
            return;
        }
        let (sent, outcome) = self.write();
        let whole = self.ends.partition_point(|&end| end <= sent);
        self.queue.written(whole as u64);
        let Err(error) = outcome else {
            self.buffer.shrink_to(2 * ACCESS_LOG_WRITE_BYTES);
            return self.clear();
        };
        let begun = whole.checked_sub(1).map_or(0, |last| self.ends[last]);
        self.is_torn = sent > begun || (self.is_torn && whole == 0);
        let rest = self.ends.get(whole).filter(|_| self.is_torn).map(|&end| self.buffer[sent..end].to_vec());
        let lost = self.ends.len() - whole - usize::from(rest.is_some());
        self.queue.dropped(lost as u64);
        self.say(&error.to_string());
        self.buffer = rest.unwrap_or_default();
        self.ends.clear();
        self.ends.extend(self.is_torn.then_some(self.buffer.len()));
        // It may have been moved or replaced since.
        self.reopen();
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.ends.clear();
        self.is_torn = false;
    }

    /// Whether the log's time has ended.
    fn is_over(&self) -> bool {
        self.queue.ends.get().is_some_and(|&ends| Instant::now() >= ends)
    }

    /// How much of the buffer was written, and what kept the rest from it.
    fn write(&mut self) -> (usize, io::Result<()>) {
        if self.sink.is_deleted() {
            self.reopen();
            if self.sink.is_deleted() {
                return (0, Err(io::Error::other("its file was deleted")));
            }
        }
        let mut sent = 0;
        while sent < self.buffer.len() {
            match self.sink.write(&self.buffer[sent..]) {
                Ok(0) => return (sent, Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => sent += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = self.wait_for_the_reader() {
                        return (sent, Err(error));
                    }
                }
                Err(error) => return (sent, Err(error)),
            }
        }
        (sent, Ok(()))
    }

    /// Waits as long as it takes, unless the log is to be opened again or to end. Requests go on meanwhile, and fill
    /// the queue.
    fn wait_for_the_reader(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        while !self.sink.is_ready(ACCESS_LOG_LOOK)? {
            if self.is_over() || self.queue.reopens.load(Ordering::Acquire) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "its reader takes nothing"));
            }
            if begun.elapsed() >= ACCESS_LOG_PATIENCE {
                self.say("its reader takes nothing");
            }
        }
        Ok(())
    }

    fn reopen(&mut self) {
        self.queue.reopens.store(false, Ordering::Release);
        match Sink::open(&self.target) {
            Ok(sink) => {
                if !sink.is_same(&self.sink) {
                    self.drop_torn();
                }
                self.sink = sink;
            }
            Err(error) => self.say(&format!("it cannot be opened again: {error}")),
        }
    }

    /// The rest of a line belongs to the log in which it was begun.
    fn drop_torn(&mut self) {
        if std::mem::take(&mut self.is_torn) {
            let end = self.ends.remove(0);
            self.buffer.drain(..end);
            self.ends.iter_mut().for_each(|other| *other -= end);
            self.queue.dropped(1);
        }
    }

    /// Says once what is wrong.
    fn say(&mut self, what: &str) {
        let lost = self.queue.metrics.access_log_dropped.get();
        let now = Instant::now();
        match &mut self.trouble.since {
            Some(losses) => losses.last = now,
            None => {
                tracing::warn!("the access log loses lines, counted in forebay_access_log_dropped_total: {what}");
                self.trouble.since = Some(Losses { before: self.trouble.lost, last: now });
            }
        }
        self.trouble.lost = lost;
    }

    /// Says when lines begin to be lost for want of room, and when that, or what was wrong, has been over for a while.
    fn look_for_losses(&mut self) {
        let lost = self.queue.metrics.access_log_dropped.get();
        if lost > self.trouble.lost {
            return self.say("it is not written as fast as requests come, or too many long ones are under way");
        }
        if let Some(losses) = self.trouble.since.take_if(|losses| losses.last.elapsed() >= ACCESS_LOG_CALM) {
            let count = lost - losses.before;
            tracing::info!("the access log has lost no line for {ACCESS_LOG_CALM:?}; {count} were lost before");
        }
    }
}
