//! The access log: a line for each request, written by a thread of its own when the response has ended.
//!
//! A request that is logged has a [`Record`] from its head to the last byte of its response. Its thread pays for one
//! allocation or two and a place in the queue; requests never wait for the log. All lines in memory, of responses in
//! progress and of those that wait for the writer, share one budget of bytes: beyond it lines are dropped and counted,
//! and the writer says so once.
//!
//! * `line`: what a line says, and its two forms
//! * `sink`: where they go
//! * `writer`: the thread that writes them

pub(crate) mod line;
mod sink;
mod writer;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::config::{AccessLogFormat, AccessLogTarget};
use crate::http::cache_status::CacheStatus;
use crate::limits::{ACCESS_LOG_BYTES, ACCESS_LOG_GRACE, ACCESS_LOG_QUEUE};
use crate::metrics::SharedMetrics;
use crate::net::peer::Peer;
use crate::ring::system::monotonic;
use line::Line;
use sink::Sink;
use writer::Writer;

/// What is logged of a request.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Who asked.
    pub peer: Peer,
    /// What was asked; `None` when no request could be read: the head was malformed or late, or the connection was one
    /// too many.
    pub request: Option<Request<'a>>,
}

/// The parts of a request's head that are logged.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// As it was sent.
    pub target: &'a [u8],
    /// The protocol, such as HTTP/1.1.
    pub protocol: &'static str,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
}

/// The access log, on or off.
#[derive(Debug)]
pub struct AccessLog(Option<Running>);

/// A log that is on.
#[derive(Debug)]
struct Running {
    queue: Arc<Queue>,
    writer: Mutex<Option<WriterThread>>,
}

#[derive(Debug)]
struct WriterThread {
    thread: JoinHandle<()>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// What requests and the writer share.
#[derive(Debug)]
struct Queue {
    sender: SyncSender<Message>,
    /// Bytes of all lines in memory.
    held: AtomicUsize,
    /// Lines that were begun, and neither written nor dropped yet.
    unwritten: AtomicU64,
    /// The file is to be opened again.
    reopens: AtomicBool,
    /// Set when the log ends: the time at which the writer gives up what it has not written.
    ends: OnceLock<Instant>,
    metrics: Arc<SharedMetrics>,
}

enum Message {
    Line(Box<Pending>),
    /// A flag of the queue has changed.
    Look,
}

/// A line on its way, with its share of the budget.
#[derive(Debug)]
struct Pending {
    line: Line,
    /// When the request was received: monotonic nanoseconds.
    started: u64,
    charge: usize,
    queue: Arc<Queue>,
}

/// A request whose response is on its way. Its line is written when this ends: by [`Record::end`] when the last byte of
/// the response was handed over, or by being dropped before that, and then the line says that the response was aborted.
#[derive(Debug, Default)]
#[must_use = "a record that is dropped logs an aborted response"]
pub struct Record(Option<Box<Pending>>);

impl AccessLog {
    /// An access log that is off.
    pub fn off() -> AccessLog {
        AccessLog(None)
    }

    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or the thread cannot be started.
    pub fn open(
        target: AccessLogTarget,
        format: AccessLogFormat,
        metrics: Arc<SharedMetrics>,
    ) -> io::Result<AccessLog> {
        let sink = Sink::open(&target)?;
        let (queue, messages) = Queue::new(metrics);
        let (end, ended) = sync_channel(0);
        let mut writer = Writer::new(queue.clone(), target, format, sink);
        let body = move || {
            let _end: SyncSender<()> = end;
            writer.run(&messages);
        };
        let thread = thread::Builder::new().name("access-log".into()).spawn(body)?;
        Ok(AccessLog(Some(Running { queue, writer: Mutex::new(Some(WriterThread { thread, ended })) })))
    }

    /// Whether lines go anywhere; what only a line needs can be left undone otherwise.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the record of a request received at `now` (monotonic nanoseconds). When the log is off, nothing is asked,
    /// allocated or written.
    #[inline]
    pub fn begin<'a>(&self, now: u64, asked: impl FnOnce() -> Asked<'a>) -> Record {
        match &self.0 {
            None => Record(None),
            Some(running) => Record(Queue::begin(&running.queue, now, &asked())),
        }
    }

    /// Opens the file again by its name: after it was moved away by a log rotation.
    pub fn reopen(&self) {
        if let Some(Running { queue, .. }) = &self.0 {
            queue.reopens.store(true, Ordering::Release);
            queue.wake_writer();
        }
    }

    /// Writes what is queued and ends the writer, by `deadline`, or in a moment if that is over already. What was not
    /// written then is dropped, counted, and said. What is recorded afterwards is dropped too.
    pub fn finish(&self, deadline: Instant) {
        let Some(Running { queue, writer }) = &self.0 else { return };
        let Some(WriterThread { thread, ended }) = writer.lock().take() else { return };
        let now = Instant::now();
        let time = deadline.saturating_duration_since(now).max(2 * ACCESS_LOG_GRACE);
        let _ = queue.ends.set(now + time - ACCESS_LOG_GRACE);
        queue.wake_writer();
        match ended.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => {
                // It hangs in the kernel, and ends with the process.
                let lost = queue.unwritten.load(Ordering::Relaxed);
                queue.metrics.access_log_dropped.add(lost);
                tracing::warn!("the access log took no lines in time: {lost} are lost");
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => drop(thread.join()),
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.finish(Instant::now());
    }
}

impl Queue {
    /// An empty queue, and what its writer receives.
    fn new(metrics: Arc<SharedMetrics>) -> (Arc<Queue>, Receiver<Message>) {
        let (sender, messages) = sync_channel(ACCESS_LOG_QUEUE);
        let queue = Arc::new(Queue {
            sender,
            held: AtomicUsize::new(0),
            unwritten: AtomicU64::new(0),
            reopens: AtomicBool::new(false),
            ends: OnceLock::new(),
            metrics,
        });
        (queue, messages)
    }

    fn begin(queue: &Arc<Queue>, now: u64, asked: &Asked<'_>) -> Option<Box<Pending>> {
        let charge = Line::bytes_of(asked) + size_of::<Pending>();
        if queue.held.fetch_add(charge, Ordering::Relaxed) + charge > ACCESS_LOG_BYTES {
            queue.held.fetch_sub(charge, Ordering::Relaxed);
            queue.metrics.access_log_dropped.one();
            return None;
        }
        queue.unwritten.fetch_add(1, Ordering::Relaxed);
        Some(Box::new(Pending { line: Line::new(asked), started: now, charge, queue: queue.clone() }))
    }

    /// Never blocks; a writer that has lines to write looks at its flags by itself.
    fn wake_writer(&self) {
        let _ = self.sender.try_send(Message::Look);
    }

    /// So many lines that were begun have been written.
    fn written(&self, lines: u64) {
        self.unwritten.fetch_sub(lines, Ordering::Relaxed);
        self.metrics.access_log_lines.add(lines);
    }

    /// So many lines that were begun will not be written.
    fn dropped(&self, lines: u64) {
        self.unwritten.fetch_sub(lines, Ordering::Relaxed);
        self.metrics.access_log_dropped.add(lines);
    }
}

impl Record {
    /// The request was answered.
    pub fn answered(&mut self, status: u16, cache_status: Option<CacheStatus>) {
        if let Some(pending) = &mut self.0 {
            pending.line.status = Some(status);
            pending.line.cache_status = cache_status;
        }
    }

    /// So many more bytes of the body were handed over.
    #[inline]
    pub fn sent(&mut self, body_bytes: u64) {
        if let Some(pending) = &mut self.0 {
            pending.line.body_bytes += body_bytes;
        }
    }

    /// There is nothing to log here: the request is answered elsewhere.
    pub fn cancel(mut self) {
        self.0 = None;
    }

    /// The whole response has been handed over, at `now` (monotonic nanoseconds). Never blocks.
    #[inline]
    pub fn end(mut self, now: u64) {
        if let Some(pending) = self.0.take() {
            pending.send(now, false);
        }
    }
}

impl Drop for Record {
    #[inline]
    fn drop(&mut self) {
        if let Some(pending) = self.0.take() {
            pending.send(monotonic(), true);
        }
    }
}

impl Pending {
    fn send(mut self: Box<Self>, now: u64, aborted: bool) {
        self.line.time = SystemTime::now();
        self.line.elapsed = Duration::from_nanos(now.saturating_sub(self.started));
        self.line.aborted = aborted;
        let queue = self.queue.clone();
        if queue.sender.try_send(Message::Line(self)).is_err() {
            queue.dropped(1);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.queue.held.fetch_sub(self.charge, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
