//! The clients: a few threads of each kind, each in a loop until told to end, each verifying what it gets.

use super::servers::{COLD, HOT, LARGE, LARGE_BYTES, Servers, file};
use crate::{load::http, origin::counting};
use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use loadgen::corpus::body::{Body, mix};
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use serde::Serialize;
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Errors whose words are kept, of each kind.
const ERRORS_SHOWN: usize = 5;

/// A connection is given up after so many requests at most.
const REQUESTS_EACH: u64 = 200;

/// What a slow reader takes at a time, how long it rests, and how often.
const SIP: usize = 16 << 10;
const REST: Duration = Duration::from_millis(20);
const SIPS: u32 = 50;

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hits,
    Misses,
    Ranges,
    Listings,
    Uploads,
    SlowReaders,
    Resets,
    Remote,
    RemoteRanges,
}

/// Each kind, its name in results, and how many threads do it.
const KINDS: [(Kind, &str, u64); 9] = [
    (Kind::Hits, "hits", 2),
    (Kind::Misses, "misses", 2),
    (Kind::Ranges, "ranges", 2),
    (Kind::Listings, "listings", 1),
    (Kind::Uploads, "uploads and deletes", 3),
    (Kind::SlowReaders, "slow readers", 8),
    (Kind::Resets, "resets", 2),
    (Kind::Remote, "remote origin", 2),
    (Kind::RemoteRanges, "ranges of a remote origin", 2),
];

/// What came of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct Tally {
    pub name: &'static str,
    pub requests: u64,
    pub errors: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    /// The first of the errors.
    pub said: Vec<String>,
}

#[derive(Debug)]
struct Count {
    errors: u64,
    said: Vec<String>,
    latency_us: Histogram<u64>,
}

/// All clients; they end when told, or when this is dropped.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    counts: Vec<Arc<Mutex<Count>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Starts them.
    ///
    /// # Errors
    /// No more threads can be had.
    pub fn start(servers: &Servers) -> Result<Crowd> {
        let mut crowd = Crowd { stop: Arc::default(), counts: Vec::new(), threads: Vec::new() };
        for (kind, name, threads) in KINDS {
            let latency_us = Histogram::new_with_bounds(1, 600_000_000, 3).context("a histogram")?;
            let count = Arc::new(Mutex::new(Count { errors: 0, said: Vec::new(), latency_us }));
            crowd.counts.push(count.clone());
            let port = match kind {
                Kind::Remote | Kind::RemoteRanges => servers.remote.port,
                _ => servers.directory.port,
            };
            for number in 0..threads {
                let client =
                    Client { kind, number, port, random: mix(number ^ mix(kind as u64)), connection: None, left: 0 };
                let (stop, count) = (crowd.stop.clone(), count.clone());
                let thread = thread::Builder::new().name(name.into()).stack_size(256 << 10);
                crowd.threads.push(thread.spawn(move || client.run(&stop, &count))?);
            }
        }
        Ok(crowd)
    }

    /// What came of each kind so far.
    pub fn tallies(&self) -> Vec<Tally> {
        let tally = |(count, (_, name, _)): (&Arc<Mutex<Count>>, &(Kind, &'static str, u64))| {
            let count = count.lock().unwrap_or_else(PoisonError::into_inner);
            Tally {
                name,
                requests: count.latency_us.len(),
                errors: count.errors,
                p50_us: count.latency_us.value_at_quantile(0.5),
                p99_us: count.latency_us.value_at_quantile(0.99),
                max_us: count.latency_us.max(),
                said: count.said.clone(),
            }
        };
        self.counts.iter().zip(&KINDS).map(tally).collect()
    }

    /// Has them all end, and says what came of it.
    pub fn end(mut self) -> Vec<Tally> {
        self.join();
        self.tallies()
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                let mut count = self.counts[0].lock().unwrap_or_else(PoisonError::into_inner);
                count.errors += 1;
                count.said.push("a client panicked".into());
            }
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.join();
    }
}

#[derive(Debug)]
struct Client {
    kind: Kind,
    /// Among those of its kind.
    number: u64,
    port: u16,
    random: u64,
    connection: Option<TcpStream>,
    /// Requests until the connection is given up.
    left: u64,
}

impl Client {
    fn run(mut self, stop: &AtomicBool, count: &Mutex<Count>) {
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let result = self.once();
            let took = started.elapsed().as_micros() as u64;
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            count.latency_us.saturating_record(took.max(1));
            if let Err(error) = result {
                count.errors += 1;
                if count.said.len() < ERRORS_SHOWN {
                    count.said.push(format!("{error:#}"));
                }
                self.connection = None;
                drop(count);
                // Who fails at once is not to do nothing else.
                thread::sleep(REST);
            }
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random) % below
    }

    fn once(&mut self) -> Result<()> {
        match self.kind {
            Kind::Hits => self.whole("hot", HOT),
            Kind::Misses | Kind::Remote => self.whole("cold", COLD),
            Kind::Ranges => self.range(LARGE, LARGE_BYTES),
            Kind::RemoteRanges => self.range(counting::SLOW, counting::SLOW_BYTES),
            Kind::Listings => self.listing(),
            Kind::Uploads => self.upload(),
            Kind::SlowReaders => self.sip(),
            Kind::Resets => self.reset(),
        }
    }

    /// A request on a connection that is kept for a while.
    fn ask(&mut self, head: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        if self.left == 0 {
            self.connection = None;
            self.left = 1 + self.random(REQUESTS_EACH);
        }
        self.left -= 1;
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => http::connect(self.port)?,
        };
        let connection = self.connection.insert(connection);
        http::exchange(connection, head, body)
    }

    fn whole(&mut self, set: &str, count: u32) -> Result<()> {
        let (name, size) = file(set, self.random(u64::from(count)) as u32);
        let (status, body) = self.ask(&format!("GET /{name} HTTP/1.1\r\nHost: localhost\r\n"), b"")?;
        let right = body.len() as u64 == size && Body::of(name.as_bytes(), counting::SEED).matches(0, &body);
        ensure!(status == 200 && right, "/{name}: status {status}, {} of {size} bytes, right: {right}", body.len());
        Ok(())
    }

    fn range(&mut self, name: &str, size: u64) -> Result<()> {
        let from = self.random(size);
        let to = size.min(from + 1 + self.random(100 << 10));
        let head = format!("GET /{name} HTTP/1.1\r\nHost: localhost\r\nRange: bytes={from}-{}\r\n", to - 1);
        let (status, body) = self.ask(&head, b"")?;
        let right = body.len() as u64 == to - from && Body::of(name.as_bytes(), counting::SEED).matches(from, &body);
        ensure!(
            status == 206 && right,
            "/{name} from {from} to {to}: status {status}, {} bytes, right: {right}",
            body.len()
        );
        Ok(())
    }

    fn listing(&mut self) -> Result<()> {
        let (status, body) = self.ask("GET /hot/ HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n", b"")?;
        let entries: Vec<serde_json::Value> = serde_json::from_slice(&body).context("the listing of /hot/")?;
        ensure!(status == 200 && entries.len() == HOT as usize, "/hot/: status {status}, {} entries", entries.len());
        Ok(())
    }

    /// Uploads something new under a name that only this client writes, reads it back, and sometimes deletes it.
    fn upload(&mut self) -> Result<()> {
        let which = self.random(16);
        let name = format!("uploads/{}-{which}", self.number);
        let (seed, size) = (self.random(u64::MAX), self.random(200 << 10));
        let (content, mut body) = (Body::of(name.as_bytes(), seed), vec![0; size as usize]);
        content.fill(0, &mut body);
        let head = format!("PUT /{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n");
        let (status, _) = self.ask(&head, &body)?;
        ensure!([200, 201, 204].contains(&status), "PUT /{name}: status {status}");
        let get = format!("GET /{name} HTTP/1.1\r\nHost: localhost\r\n");
        let (status, read) = self.ask(&get, b"")?;
        ensure!(
            status == 200 && read == body,
            "/{name} after its upload: status {status}, {} of {size} bytes",
            read.len()
        );
        if self.random(4) == 0 {
            let (status, _) = self.ask(&format!("DELETE /{name} HTTP/1.1\r\nHost: localhost\r\n"), b"")?;
            ensure!([200, 204].contains(&status), "DELETE /{name}: status {status}");
            let (status, _) = self.ask(&get, b"")?;
            ensure!(status == 404, "/{name} after it was deleted: status {status}");
        }
        Ok(())
    }

    /// Asks for the large file on a connection of its own, with a small buffer.
    fn begin(&mut self) -> Result<TcpStream> {
        let mut stream = http::connect(self.port)?;
        set_socket_recv_buffer_size(&stream, SIP)?;
        write!(stream, "GET /{LARGE} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        Ok(stream)
    }

    /// Reads slowly for a while, then goes away.
    fn sip(&mut self) -> Result<()> {
        let (mut stream, mut got, mut buffer) = (self.begin()?, Vec::new(), vec![0; SIP]);
        for _ in 0..SIPS {
            let read = stream.read(&mut buffer)?;
            ensure!(read > 0, "/{LARGE} ended early for a slow reader");
            got.extend_from_slice(&buffer[..read]);
            thread::sleep(REST);
        }
        check_start(&got)
    }

    /// Goes away in the middle, by a reset.
    fn reset(&mut self) -> Result<()> {
        let (mut stream, mut buffer) = (self.begin()?, vec![0; 1 + self.random(64 << 10) as usize]);
        let read = stream.read(&mut buffer)?;
        set_socket_linger(&stream, Some(Duration::ZERO))?;
        ensure!(read > 0, "/{LARGE} was not answered");
        Ok(())
    }
}

/// Whether a response to a request for the large file begins as it should.
fn check_start(got: &[u8]) -> Result<()> {
    let end = got.windows(4).position(|window| window == b"\r\n\r\n").context("no whole head")?;
    ensure!(got.starts_with(b"HTTP/1.1 200 "), "/{LARGE}: {}", String::from_utf8_lossy(&got[..end.min(100)]));
    let right = Body::of(LARGE.as_bytes(), counting::SEED).matches(0, &got[end + 4..]);
    ensure!(right, "/{LARGE} differs for a slow reader");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(kind: Kind, port: u16) -> Client {
        Client { kind, number: 0, port, random: 1, connection: None, left: 0 }
    }

    #[test]
    fn what_is_wrong_is_noticed() {
        let right: Vec<(String, u64)> = (0..COLD).map(|number| file("cold", number)).collect();
        let sizes: Vec<(&str, u64)> = right.iter().map(|(name, size)| (name.as_str(), *size)).collect();
        client(Kind::Remote, counting::tests_serving(&sizes)).once().expect("right");
        let wrong: Vec<(&str, u64)> = sizes.iter().map(|(name, size)| (*name, size + 1)).collect();
        let port = counting::tests_serving(&wrong);
        let error = client(Kind::Remote, port).once().expect_err("a byte too many").to_string();
        assert!(error.contains("right: true") || error.contains("right: false"), "{error}");
        assert!(client(Kind::Listings, port).once().is_err(), "no listing there");
        assert!(client(Kind::Uploads, port).once().is_err(), "not stored there");
        assert!(client(Kind::SlowReaders, port).once().is_err(), "not there");
    }

    #[test]
    fn the_start_of_a_slow_response_is_compared() {
        let mut got = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n".to_vec();
        let mut body = vec![0; 1000];
        Body::of(LARGE.as_bytes(), counting::SEED).fill(0, &mut body);
        got.extend_from_slice(&body);
        check_start(&got).expect("right");
        *got.last_mut().expect("a byte") ^= 1;
        assert!(check_start(&got).is_err());
        assert!(check_start(b"HTTP/1.1 503 No\r\n\r\n").is_err());
    }
}
