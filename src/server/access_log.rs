//! The access log: a line for each request, written by a thread of its own.
//!
//! A request costs its thread one allocation and one place in a bounded queue. When the writer does not keep up (a slow or
//! full disk) lines are dropped and counted; requests never wait. The writer sleeps a little after each batch, so that a busy
//! server wakes it a hundred times a second and not at every request.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Stdout, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::config::{AccessLogFormat, AccessLogTarget};
use crate::http::cache_status::CacheStatus;
use crate::limits::{ACCESS_LOG_PAUSE, ACCESS_LOG_QUEUE};
use crate::metrics::SharedMetrics;
use crate::net::peer::Peer;

/// What is logged of a request once it is answered.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    pub peer: Peer,
    pub method: &'a str,
    /// As it was sent.
    pub target: &'a [u8],
    /// The protocol, such as HTTP/1.1.
    pub protocol: &'static str,
    pub status: u16,
    /// Bytes of the body that were sent.
    pub body_bytes: u64,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    pub cache_status: Option<CacheStatus>,
    /// From the request's head to the last byte of the response.
    pub elapsed: Duration,
}

/// The access log, on or off.
#[derive(Debug)]
pub struct AccessLog(Option<Queue>);

#[derive(Debug)]
struct Queue {
    sender: SyncSender<Message>,
    metrics: Arc<SharedMetrics>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Line(Line),
    Reopen,
    End,
}

/// A [`Served`] on its way to the writer.
struct Line {
    time: SystemTime,
    peer: Peer,
    /// Method, target, referer and user agent, one after the other.
    text: Box<[u8]>,
    method: u16,
    target: u32,
    /// None: not sent.
    referer: Option<u32>,
    user_agent: Option<u32>,
    protocol: &'static str,
    status: u16,
    body_bytes: u64,
    cache_status: Option<CacheStatus>,
    elapsed: Duration,
}

/// The texts of a line.
struct Parts<'a> {
    method: &'a [u8],
    target: &'a [u8],
    referer: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
}

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
        let output = Output::open(&target)?;
        let (sender, receiver) = sync_channel(ACCESS_LOG_QUEUE);
        let counters = metrics.clone();
        let write = move || Writer { target, format, output, metrics: counters, failing: false }.run(&receiver);
        let writer = thread::Builder::new().name("access-log".into()).spawn(write)?;
        Ok(AccessLog(Some(Queue { sender, metrics, writer: Mutex::new(Some(writer)) })))
    }

    /// Whether lines go anywhere; what only a line needs can be left undone otherwise.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Logs a request. Never blocks; does nothing when the log is off.
    #[inline]
    pub fn record(&self, served: &Served<'_>) {
        if let Some(queue) = &self.0
            && queue.sender.try_send(Message::Line(Line::new(served))).is_err()
        {
            queue.metrics.access_log_dropped.one();
        }
    }

    /// Opens the file again by its name: after it was moved away by a log rotation.
    pub fn reopen(&self) {
        if let Some(queue) = &self.0 {
            // In a thread of its own, since a full queue makes it wait for the writer, and who calls this has signals to
            // handle. An ended writer needs no telling.
            let sender = queue.sender.clone();
            thread::spawn(move || drop(sender.send(Message::Reopen)));
        }
    }

    /// Writes what is queued and ends the writer. What is recorded afterwards is dropped.
    pub fn finish(&self) {
        if let Some(queue) = &self.0
            && let Some(writer) = queue.writer.lock().take()
        {
            let _ = queue.sender.send(Message::End);
            let _ = writer.join();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Line {
    fn new(served: &Served<'_>) -> Line {
        let referer = served.referer.unwrap_or_default();
        let user_agent = served.user_agent.unwrap_or_default();
        let text = [served.method.as_bytes(), served.target, referer, user_agent].concat();
        Line {
            time: SystemTime::now(),
            peer: served.peer,
            text: text.into(),
            method: served.method.len() as u16,
            target: served.target.len() as u32,
            referer: served.referer.map(|text| text.len() as u32),
            user_agent: served.user_agent.map(|text| text.len() as u32),
            protocol: served.protocol,
            status: served.status,
            body_bytes: served.body_bytes,
            cache_status: served.cache_status,
            elapsed: served.elapsed,
        }
    }

    fn parts(&self) -> Parts<'_> {
        let (method, rest) = self.text.split_at(usize::from(self.method));
        let (target, rest) = rest.split_at(self.target as usize);
        let (referer, rest) = rest.split_at(self.referer.unwrap_or(0) as usize);
        Parts { method, target, referer: self.referer.map(|_| referer), user_agent: self.user_agent.map(|_| rest) }
    }

    fn write(&self, format: AccessLogFormat, out: &mut impl Write) -> io::Result<()> {
        match format {
            AccessLogFormat::Combined => self.write_combined(out),
            AccessLogFormat::Json => self.write_json(out),
        }
    }

    /// The combined log format of the Apache and nginx documentation; times are UTC.
    fn write_combined(&self, out: &mut impl Write) -> io::Result<()> {
        let Parts { method, target, referer, user_agent } = self.parts();
        match self.peer {
            Peer::Tcp(address) => write!(out, "{}", address.ip())?,
            Peer::Unix => out.write_all(b"unix:")?,
        }
        // An HTTP date has the same parts in another order: "Sun, 06 Nov 1994 08:49:37 GMT".
        let date = httpdate::fmt_http_date(self.time);
        write!(out, " - - [{}/{}/{}:{} +0000] \"", &date[5..7], &date[8..11], &date[12..16], &date[17..25])?;
        write_escaped(method, out)?;
        out.write_all(b" ")?;
        write_escaped(target, out)?;
        write!(out, " {}\" {} {} \"", self.protocol, self.status, self.body_bytes)?;
        write_escaped(referer.unwrap_or(b"-"), out)?;
        out.write_all(b"\" \"")?;
        write_escaped(user_agent.unwrap_or(b"-"), out)?;
        out.write_all(b"\"\n")
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let Parts { method, target, referer, user_agent } = self.parts();
        let text = String::from_utf8_lossy;
        let object = serde_json::json!({
            "time": humantime::format_rfc3339_micros(self.time).to_string(),
            "peer": self.peer.to_string(),
            "method": text(method),
            "target": text(target),
            "protocol": self.protocol,
            "status": self.status,
            "bytes": self.body_bytes,
            "referer": referer.map(text),
            "user_agent": user_agent.map(text),
            "cache_status": self.cache_status.map(CacheStatus::as_str),
            "seconds": self.elapsed.as_secs_f64(),
        });
        serde_json::to_writer(&mut *out, &object)?;
        out.write_all(b"\n")
    }
}

/// Writes what stands in quotes: a client cannot end the field or the line.
fn write_escaped(text: &[u8], out: &mut impl Write) -> io::Result<()> {
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.write_all(&[b'\\', byte])?,
            b' '..=b'~' => out.write_all(&[byte])?,
            _ => write!(out, "\\x{byte:02X}")?,
        }
    }
    Ok(())
}

/// Where lines go. A closed enum and not a trait object: standard output is never opened again.
enum Output {
    Stdout(BufWriter<Stdout>),
    File(BufWriter<File>),
}

impl Output {
    fn open(target: &AccessLogTarget) -> io::Result<Output> {
        Ok(match target {
            AccessLogTarget::Stdout => Output::Stdout(BufWriter::new(io::stdout())),
            AccessLogTarget::File(path) => {
                Output::File(BufWriter::new(OpenOptions::new().append(true).create(true).open(path)?))
            }
        })
    }

    fn write(&mut self, line: &Line, format: AccessLogFormat) -> io::Result<()> {
        match self {
            Output::Stdout(out) => line.write(format, out),
            Output::File(out) => line.write(format, out),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Stdout(out) => out.flush(),
            Output::File(out) => out.flush(),
        }
    }
}

struct Writer {
    target: AccessLogTarget,
    format: AccessLogFormat,
    output: Output,
    metrics: Arc<SharedMetrics>,
    /// Whether the last batch could not be written, so that a full disk is told once and not for every line.
    failing: bool,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Message>) {
        // Each turn waits for a first message, then takes all there are.
        while let Ok(first) = queue.recv() {
            let mut next = Ok(first);
            let mut lines = 0;
            let mut result = Ok(());
            let ends = loop {
                match next {
                    Ok(Message::Line(line)) => {
                        lines += 1;
                        result = result.and_then(|()| self.output.write(&line, self.format));
                    }
                    Ok(Message::Reopen) => {
                        result = result.and_then(|()| self.output.flush());
                        self.reopen();
                    }
                    Ok(Message::End) | Err(TryRecvError::Disconnected) => break true,
                    Err(TryRecvError::Empty) => break false,
                }
                next = queue.try_recv();
            };
            let result = result.and_then(|()| self.output.flush());
            self.account(lines, result);
            if ends {
                return;
            }
            thread::sleep(ACCESS_LOG_PAUSE);
        }
    }

    fn account(&mut self, lines: u64, result: io::Result<()>) {
        match result {
            Ok(()) => {
                self.metrics.access_log_lines.add(lines);
                self.failing = false;
            }
            Err(error) => {
                self.metrics.access_log_dropped.add(lines);
                if !self.failing {
                    tracing::warn!("the access log cannot be written, lines are lost: {error}");
                }
                self.failing = true;
                // What could not be written would be tried again for ever, before every new line.
                self.reopen();
            }
        }
    }

    fn reopen(&mut self) {
        match Output::open(&self.target) {
            Ok(output) => {
                // The rest of a failed write goes with the old output, unwritten.
                if let Output::File(old) = std::mem::replace(&mut self.output, output) {
                    let _ = old.into_parts();
                }
            }
            Err(error) if !self.failing => tracing::warn!("the access log cannot be opened again: {error}"),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::counter::Read;
    use std::fs;

    fn served(target: &[u8]) -> Served<'_> {
        Served {
            peer: Peer::Tcp("192.0.2.7:5555".parse().unwrap()),
            method: "GET",
            target,
            protocol: "HTTP/1.1",
            status: 206,
            body_bytes: 77,
            referer: None,
            user_agent: Some(b"curl/8 \"x\"\n\xff"),
            cache_status: Some(CacheStatus::Hit),
            elapsed: Duration::from_micros(1500),
        }
    }

    #[test]
    fn combined_lines_have_the_fields_everybody_parses() {
        let mut out = Vec::new();
        let mut line = Line::new(&served(b"/a%20b\\"));
        line.time = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        line.write(AccessLogFormat::Combined, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a%20b\\\\ HTTP/1.1\" 206 77 \"-\" \
             \"curl/8 \\\"x\\\"\\x0A\\xFF\"\n"
        );
    }

    #[test]
    fn json_lines_are_objects() {
        let mut out = Vec::new();
        Line::new(&served(b"/\xff\"")).write(AccessLogFormat::Json, &mut out).unwrap();
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(object["peer"], "192.0.2.7:5555");
        assert_eq!(object["target"], "/\u{fffd}\"");
        assert_eq!(object["referer"], serde_json::Value::Null);
        assert_eq!(object["cache_status"], "forebay; hit");
        assert_eq!(object["seconds"], 0.0015);
    }

    #[test]
    fn all_lines_reach_the_file_also_across_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let metrics = Arc::<SharedMetrics>::default();
        let target = AccessLogTarget::File(path.clone());
        let log = AccessLog::open(target, AccessLogFormat::Combined, metrics.clone()).unwrap();
        log.record(&served(b"/before"));
        fs::rename(&path, &moved).unwrap();
        log.reopen();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !path.exists() {
            assert!(std::time::Instant::now() < deadline, "the log was not opened again");
            thread::yield_now();
        }
        log.record(&served(b"/after"));
        log.finish();
        assert!(fs::read_to_string(&moved).unwrap().contains("/before"));
        assert!(fs::read_to_string(&path).unwrap().contains("/after"));
        assert_eq!((metrics.access_log_lines.get(), metrics.access_log_dropped.get()), (2, 0));
        log.record(&served(b"/late"));
        assert_eq!(metrics.access_log_dropped.get(), 1);
    }

    #[test]
    fn a_full_disk_costs_lines_not_requests() {
        let metrics = Arc::<SharedMetrics>::default();
        let target = AccessLogTarget::File("/dev/full".into());
        let log = AccessLog::open(target, AccessLogFormat::Json, metrics.clone()).unwrap();
        let count = ACCESS_LOG_QUEUE as u64 * 2;
        for _ in 0..count {
            log.record(&served(b"/"));
        }
        log.finish();
        assert_eq!(metrics.access_log_dropped.get(), count);
        assert_eq!(metrics.access_log_lines.get(), 0);
    }
}
