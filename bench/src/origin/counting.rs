//! The bench's own HTTP server: makes the bodies of a trace's objects from their names (so that the load generator can
//! verify them), counts what it is asked for, and has one object that comes slowly.

use anyhow::{Context, Result};
use forebay::http::date::Date;
use loadgen::{
    corpus::body::Body,
    trace::{self, Format},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Where it says what it was asked for.
pub const COUNTS: &str = "/counts-of-the-origin";

/// The object that comes slowly, its size, and how many bytes of such objects leave in a second.
pub const SLOW: &str = "slow";
pub const SLOW_BYTES: u64 = 64 << 20;
const SLOW_RATE: u64 = 32 << 20;

/// What `loadgen run --verify` takes for granted.
pub const SEED: u64 = 1;

/// Connections at once; one more is closed. Caches keep far fewer.
const CONNECTIONS: u64 = 2048;

/// The longest head of a request.
const HEAD_MAX: u64 = 16 << 10;

/// Bytes made and sent at a time.
const CHUNK: usize = 64 << 10;

#[derive(Debug, Clone, clap::Args)]
pub struct OriginOptions {
    #[arg(long)]
    port: u16,
    /// Serve the objects of this trace, beside the few that are always there
    #[arg(long)]
    trace: Option<PathBuf>,
}

/// What an origin was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub requests: u64,
    /// Of bodies.
    pub bytes: u64,
}

impl Counts {
    /// What came after `before`.
    pub fn since(self, before: Counts) -> Counts {
        Counts {
            requests: self.requests.saturating_sub(before.requests),
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }
}

#[derive(Debug)]
struct Shared {
    sizes: HashMap<String, u64>,
    requests: AtomicU64,
    bytes: AtomicU64,
    connections: AtomicU64,
    /// When the link that slow objects leave through is free again.
    free: Mutex<Instant>,
}

/// The program that serves as one: this one.
///
/// # Errors
/// It cannot say where it is.
pub fn program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot tell where this program is")
}

/// Serves until the process ends.
///
/// # Errors
/// A trace that cannot be read, a port that is taken.
pub fn run(options: &OriginOptions) -> Result<()> {
    let mut sizes = HashMap::from([("1k".to_owned(), 1 << 10), (SLOW.to_owned(), SLOW_BYTES)]);
    if let Some(file) = &options.trace {
        sizes.extend(trace::load(file, Format::Auto)?.objects.into_iter().map(|object| (object.target, object.size)));
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
        .with_context(|| format!("cannot listen on port {}", options.port))?;
    serve(&listener, sizes)
}

fn serve(listener: &TcpListener, sizes: HashMap<String, u64>) -> Result<()> {
    let shared = Arc::new(Shared {
        sizes,
        requests: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        connections: AtomicU64::new(0),
        free: Mutex::new(Instant::now()),
    });
    loop {
        let (stream, _) = listener.accept().context("cannot accept")?;
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let shared = shared.clone();
        thread::Builder::new().stack_size(256 << 10).spawn(move || {
            // Who goes away in the middle is nobody's mistake.
            let _ = converse(&shared, stream);
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        })?;
    }
}

/// One request, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    head_only: bool,
    path: String,
    range: Option<String>,
    if_none_match: Option<String>,
    close: bool,
}

/// Answers the requests of one connection until it ends.
fn converse(shared: &Shared, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    let mut output = stream;
    while let Some(request) = receive(&mut input)? {
        if request.path == COUNTS {
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let counts = Counts { requests: load(&shared.requests), bytes: load(&shared.bytes) };
            let text = serde_json::to_string(&counts)?;
            write!(output, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())?;
        } else {
            shared.requests.fetch_add(1, Ordering::Relaxed);
            answer(shared, &request, &mut output)?;
        }
        if request.close {
            break;
        }
    }
    Ok(())
}

/// The next request; none when the connection ends, or sends what is no request.
fn receive(input: &mut impl BufRead) -> Result<Option<Request>> {
    let mut input = input.take(HEAD_MAX);
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let mut request = Request { head_only: method == "HEAD", path: target.to_owned(), ..Request::default() };
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.split_once(':') else { return Ok(line.trim().is_empty().then_some(request)) };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "if-none-match" => request.if_none_match = Some(value.to_owned()),
            "connection" => request.close = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
}

fn answer(shared: &Shared, request: &Request, output: &mut TcpStream) -> Result<()> {
    let name = request.path.trim_start_matches('/');
    let Some(&size) = shared.sizes.get(name) else {
        output.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(());
    };
    let etag = format!("\"{size:x}\"");
    let now = Date::now();
    let date = String::from_utf8_lossy(now.text());
    let fields = format!(
        "Date: {date}\r\nETag: {etag}\r\nCache-Control: max-age=86400\r\nAccept-Ranges: bytes\r\n\
         Last-Modified: Sat, 01 Nov 2025 00:00:00 GMT\r\nContent-Type: application/octet-stream\r\n"
    );
    if request.if_none_match.as_deref() == Some(&etag) {
        write!(output, "HTTP/1.1 304 Not Modified\r\n{fields}\r\n")?;
        return Ok(());
    }
    let part = request.range.as_deref().and_then(|range| range_of(range, size));
    let (from, to) = part.unwrap_or((0, size));
    match part {
        Some(_) => write!(output, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{size}\r\n", to - 1)?,
        None => write!(output, "HTTP/1.1 200 OK\r\n")?,
    }
    write!(output, "{fields}Content-Length: {}\r\n\r\n", to - from)?;
    if request.head_only {
        return Ok(());
    }
    let (body, mut buffer, mut at) = (Body::of(name.as_bytes(), SEED), vec![0; CHUNK], from);
    while at < to {
        let length = (CHUNK as u64).min(to - at) as usize;
        body.fill(at, &mut buffer[..length]);
        if name == SLOW {
            wait_for_the_link(shared, length as u64);
        }
        output.write_all(&buffer[..length])?;
        shared.bytes.fetch_add(length as u64, Ordering::Relaxed);
        at += length as u64;
    }
    Ok(())
}

/// Takes the time that `bytes` take on a link that all slow responses share.
fn wait_for_the_link(shared: &Shared, bytes: u64) {
    let until = {
        let mut free = shared.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = (*free).max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / SLOW_RATE as f64);
        *free
    };
    thread::sleep(until.saturating_duration_since(Instant::now()));
}

/// `bytes=A-B` or `bytes=A-` within a body of `size` bytes, as bytes from and to.
fn range_of(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let from: u64 = first.parse().ok()?;
    let to = if last.is_empty() { size } else { size.min(last.parse::<u64>().ok()?.checked_add(1)?) };
    (from < to).then_some((from, to))
}

/// An origin of its own for a test.
#[cfg(test)]
pub fn tests_serving(sizes: &[(&str, u64)]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let sizes = sizes.iter().map(|&(name, size)| (name.to_owned(), size)).collect();
    thread::spawn(move || serve(&listener, sizes));
    port
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::http;

    #[test]
    fn bodies_are_those_that_are_verified_and_everything_is_counted() {
        let port = tests_serving(&[("77", 100_000)]);
        let body = http::get(port, "77").expect("the object");
        assert!(body.len() == 100_000 && Body::of(b"77", SEED).matches(0, &body));
        assert!(http::get(port, "78").is_err());
        let counts =
            || serde_json::from_slice::<Counts>(&http::get(port, &COUNTS[1..]).expect("counts")).expect("JSON");
        assert_eq!(counts(), Counts { requests: 2, bytes: 100_000 });
        assert_eq!(counts().since(Counts { requests: 1, bytes: 1 }), Counts { requests: 1, bytes: 99_999 });
    }

    #[test]
    fn ranges_and_conditions_are_understood() {
        let port = tests_serving(&[("77", 1000)]);
        let asked = |field: &str| {
            let mut stream = http::connect(port).expect("connected");
            write!(stream, "GET /77 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{field}\r\n\r\n").expect("sent");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("received");
            answer
        };
        let part = asked("Range: bytes=10-19");
        let text = String::from_utf8_lossy(&part).into_owned();
        assert!(text.starts_with("HTTP/1.1 206 ") && text.contains("Content-Range: bytes 10-19/1000\r\n"), "{text}");
        assert!(Body::of(b"77", SEED).matches(10, &part[part.len() - 10..]));
        assert!(asked("If-None-Match: \"3e8\"").starts_with(b"HTTP/1.1 304 "));
        assert_eq!(range_of("bytes=990-5000", 1000), Some((990, 1000)));
        assert_eq!([range_of("bytes=1000-", 1000), range_of("bytes=-5", 1000), range_of("lines=1-2", 9)], [None; 3]);
    }

    #[test]
    fn heads_are_read_whole_or_not_at_all() {
        let read = |text: &str| receive(&mut text.as_bytes()).expect("no failure");
        assert_eq!(read(""), None);
        assert_eq!(read("GET /a HTTP/1.1\r\nHost: x\r\n"), None, "cut off");
        let request = read("HEAD /a HTTP/1.1\r\nConnection: close\r\nRange: bytes=1-\r\n\r\n").expect("a request");
        assert!(request.head_only && request.close && request.range.as_deref() == Some("bytes=1-"), "{request:?}");
    }
}
