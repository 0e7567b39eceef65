//! The same closed loop for key-value stores: connections that each have so many requests for one value on their way.
//!
//! The stores speak protocols of their own, which the load generator does not. The loop runs as a process of its own
//! (`bench key-value-load`), on the cores of the load, so that it is measured and placed as the other loads are.

use super::{
    http,
    job::{Job, Limit, Target},
};
use crate::{
    measure::cpu,
    peers::{Peer, Role},
    plan::FILES,
    results::{Latency, Outcome},
};
use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use std::{
    collections::VecDeque,
    env, fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// The largest value that is stored; memcached takes no items above 1 MiB by default.
const VALUE_MAX: u64 = 64 << 10;

/// Whether a peer's answer is looked at again when nothing has come for this long.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// How long the last answers may take.
const DRAIN: Duration = Duration::from_secs(10);

/// The options of `bench key-value-load`.
#[derive(Debug, Clone, clap::Args)]
pub struct KeyValueOptions {
    /// memcached or redis
    #[arg(long)]
    pub peer: String,
    #[arg(long)]
    pub port: u16,
    /// The value that is asked for
    #[arg(long)]
    pub key: String,
    /// The file that the value must be
    #[arg(long)]
    pub file: std::path::PathBuf,
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub pipeline: u32,
    #[arg(long)]
    pub seconds: f64,
}

/// Runs the load as a process of its own.
pub fn run(job: &Job, peer: Peer, port: u16) -> Result<Outcome> {
    let (Target::File(file), Limit::Seconds(seconds)) = (&job.target, job.limit) else {
        bail!("key-value stores are asked for one value for some seconds");
    };
    let mut command = Command::new(env::current_exe().context("cannot tell where this program is")?);
    command.args(["key-value-load", "--peer", peer.name(), "--port", &port.to_string(), "--key", file.name, "--file"]);
    command.arg(job.root.join(file.name));
    command.args(["--connections", &job.connections.to_string(), "--pipeline", &job.pipeline.to_string()]);
    command.args(["--seconds", &seconds.to_string()]);
    let text = job.execute(&mut command)?;
    serde_json::from_str(&text).with_context(|| format!("not a report of the key-value load: {text}"))
}

/// How a store is asked for `key`.
fn request(peer: Peer, key: &str) -> String {
    match peer {
        Peer::Redis => format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()),
        _ => format!("get {key}\r\n"),
    }
}

/// The whole answer with `value`.
fn answer(peer: Peer, key: &str, value: &[u8]) -> Vec<u8> {
    match peer {
        Peer::Redis => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
        _ => [format!("VALUE {key} 0 {}\r\n", value.len()).as_bytes(), value, b"\r\nEND\r\n"].concat(),
    }
}

/// Stores the small files under their names, and reads each back.
///
/// # Errors
/// The store does not answer, or with other bytes.
pub fn store_all(peer: Peer, port: u16, root: &Path) -> Result<()> {
    ensure!(peer.role() == Role::KeyValue, "{} is not a key-value store", peer.name());
    let mut stream = http::connect(port)?;
    for (name, _) in FILES.into_iter().filter(|&(_, size)| size <= VALUE_MAX) {
        let value = fs::read(root.join(name)).with_context(|| format!("cannot read the file {name}"))?;
        let (command, stored) = match peer {
            Peer::Redis => {
                (format!("*3\r\n$3\r\nSET\r\n${}\r\n{name}\r\n${}\r\n", name.len(), value.len()), &b"+OK\r\n"[..])
            }
            _ => (format!("set {name} 0 0 {}\r\n", value.len()), &b"STORED\r\n"[..]),
        };
        stream.write_all(&[command.as_bytes(), &value, b"\r\n"].concat())?;
        expect(&mut stream, stored)?;
        stream.write_all(request(peer, name).as_bytes())?;
        expect(&mut stream, &answer(peer, name, &value))?;
    }
    Ok(())
}

fn expect(stream: &mut TcpStream, wanted: &[u8]) -> Result<()> {
    let mut got = vec![0; wanted.len()];
    stream.read_exact(&mut got)?;
    ensure!(got == wanted, "the store answered {:?}", String::from_utf8_lossy(&got[..got.len().min(80)]));
    Ok(())
}

/// A connection and the times at which its unanswered requests were sent.
struct Connection {
    stream: TcpStream,
    sent: VecDeque<Instant>,
    /// Bytes of the answer that is arriving.
    arrived: usize,
}

/// `bench key-value-load`: what came of it, for the JSON on standard output.
///
/// # Errors
/// The store cannot be reached, or a first answer is not the file.
pub fn load(options: &KeyValueOptions) -> Result<Outcome> {
    let peer = Peer::from_name(&options.peer).filter(|peer| peer.role() == Role::KeyValue);
    let peer = peer.with_context(|| format!("{} is neither memcached nor redis", options.peer))?;
    let value = fs::read(&options.file).with_context(|| format!("cannot read {}", options.file.display()))?;
    let (request, answer) = (request(peer, &options.key), answer(peer, &options.key, &value));
    let mut connections = Vec::new();
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for number in 0..u64::from(options.connections) {
        let mut stream = http::connect(options.port)?;
        // The bytes of one answer on each connection are checked; after that, only its length is.
        stream.write_all(request.as_bytes())?;
        expect(&mut stream, &answer)?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, &stream, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
        connections.push(Connection { stream, sent: VecDeque::new(), arrived: 0 });
    }
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(options.seconds);
    let mut histogram = Histogram::<u64>::new(3)?;
    let mut failures = 0;
    for connection in &mut connections {
        connection.ask(&request, options.pipeline as usize)?;
    }
    let mut buffer = vec![0; 256 << 10];
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&GLANCE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        for event in &events {
            let connection = &mut connections[event.data.u64() as usize];
            match connection.take(&mut buffer, answer.len(), now, &mut histogram) {
                Ok(0) => {}
                Ok(answered) if now < end => connection.ask(&request, answered)?,
                Ok(_) => {}
                Err(error) => return Err(error.context("a connection of the key-value load")),
            }
        }
        if now >= end && connections.iter().all(|connection| connection.sent.is_empty()) {
            break;
        }
        if now >= end + DRAIN {
            failures = connections.iter().map(|connection| connection.sent.len() as u64).sum();
            break;
        }
    }
    let us = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Outcome {
        requests: histogram.len(),
        failures,
        bytes: histogram.len() * value.len() as u64,
        seconds: started.elapsed().as_secs_f64(),
        latency_us: Some(Latency {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p999: Some(us(0.999)),
            max: Some(histogram.max() as f64 / 1e3),
        }),
        client_cpu_seconds: Some(cpu::usage(&[std::process::id()]).cpu_seconds),
        ..Outcome::default()
    })
}

impl Connection {
    /// Sends `count` requests in one write: they are short, and the socket has nothing else to send.
    fn ask(&mut self, request: &str, count: usize) -> Result<()> {
        let now = Instant::now();
        self.stream.write_all(request.repeat(count).as_bytes()).context("cannot send")?;
        self.sent.extend(std::iter::repeat_n(now, count));
        Ok(())
    }

    /// Reads what is there; the number of answers that became whole.
    fn take(&mut self, buffer: &mut [u8], length: usize, now: Instant, times: &mut Histogram<u64>) -> Result<usize> {
        let read = match self.stream.read(buffer) {
            Ok(0) => bail!("the store closed it"),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        self.arrived += read;
        let answered = self.arrived / length;
        self.arrived %= length;
        for _ in 0..answered {
            let sent = self.sent.pop_front().context("the store answered what was not asked")?;
            let ns = u64::try_from(now.saturating_duration_since(sent).as_nanos()).unwrap_or(u64::MAX);
            times.record(ns.max(1)).context("a latency beyond reason")?;
        }
        Ok(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    /// A store that knows one value, speaks Redis, and answers in pieces.
    fn store(value: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let request = request(Peer::Redis, "k").into_bytes();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let length = request.len();
                thread::spawn(move || {
                    let mut request = vec![0; length];
                    while stream.read_exact(&mut request).is_ok() {
                        let answer = answer(Peer::Redis, "k", value);
                        let (first, second) = answer.split_at(3);
                        let _ = stream.write_all(first).and_then(|()| stream.write_all(second));
                    }
                });
            }
        });
        port
    }

    fn options(port: u16, file: &Path) -> KeyValueOptions {
        KeyValueOptions {
            peer: "redis".into(),
            port,
            key: "k".into(),
            file: file.to_owned(),
            connections: 3,
            pipeline: 4,
            seconds: 0.05,
        }
    }

    #[test]
    fn answers_in_pieces_are_counted_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("value");
        fs::write(&file, b"the value").expect("written");
        let outcome = load(&options(store(b"the value"), &file)).expect("loaded");
        assert!(outcome.requests >= 12, "each connection's first batch: {}", outcome.requests);
        assert_eq!((outcome.failures, outcome.bytes), (0, outcome.requests * 9));
    }

    #[test]
    fn another_value_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("value");
        fs::write(&file, b"the value").expect("written");
        let error = load(&options(store(b"the VALUE"), &file)).expect_err("refused").to_string();
        assert!(error.contains("the store answered"), "{error}");
    }

    #[test]
    fn protocols_are_spoken_as_documented() {
        assert_eq!(request(Peer::Redis, "4k"), "*2\r\n$3\r\nGET\r\n$2\r\n4k\r\n");
        assert_eq!(request(Peer::Memcached, "4k"), "get 4k\r\n");
        assert_eq!(answer(Peer::Redis, "4k", b"abc"), b"$3\r\nabc\r\n");
        assert_eq!(answer(Peer::Memcached, "4k", b"abc"), b"VALUE 4k 0 3\r\nabc\r\nEND\r\n");
    }
}
