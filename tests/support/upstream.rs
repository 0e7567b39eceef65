//! A small HTTP server that answers as a test's script says, also as no good server would, and a way to run the client
//! against it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// Field names in lower case.
    pub fields: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// The fields after a chunked body.
    pub trailers: BTreeMap<String, String>,
    /// The number of the connection it came over, from 0.
    pub connection: usize,
}

impl Request {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

/// What happens to the connection after a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    KeepAlive,
    Close,
    /// Nothing more is sent or read, and the connection stays open.
    Stall,
}

/// Raw bytes to send.
#[derive(Debug, Clone)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub then: Then,
    /// After so many bytes, the rest waits until the gate is open.
    gate: Option<(usize, Gate)>,
}

/// What a test holds a server's answers back with. It opens by itself in the end, so that a test that fails ends.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let is_open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(is_open, super::PATIENCE, |is_open| !*is_open).unwrap());
    }
}

impl Reply {
    /// A response with this status line's rest, these fields, and a body of its true length.
    pub fn new(status: &str, fields: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut head = format!("HTTP/1.1 {status}\r\n");
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !status.starts_with("204") && !status.starts_with("304") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        Reply::raw([head.as_bytes(), body].concat())
    }

    /// These bytes, whatever they mean.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Reply {
        Reply { bytes: bytes.into(), then: Then::KeepAlive, gate: None }
    }

    /// Holds all but the first `bytes` bytes after the head back until the gate is open.
    pub fn hold(mut self, bytes: usize, gate: &Gate) -> Reply {
        self.gate = Some((self.head_len() + bytes, gate.clone()));
        self
    }

    /// Holds all but the first `bytes` bytes back until the gate is open.
    pub fn hold_from(mut self, bytes: usize, gate: &Gate) -> Reply {
        self.gate = Some((bytes, gate.clone()));
        self
    }

    fn head_len(&self) -> usize {
        self.bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4
    }

    pub fn text(status: &str, body: &str) -> Reply {
        Reply::new(status, &[("Content-Type", "text/plain; charset=utf-8")], body.as_bytes())
    }

    pub fn json(body: &str) -> Reply {
        Reply::new("200 OK", &[("Content-Type", "application/json")], body.as_bytes())
    }

    /// Sends only the first `bytes` bytes after the head, then closes.
    pub fn cut(mut self, bytes: usize) -> Reply {
        self.bytes.truncate(self.head_len() + bytes);
        self.then = Then::Close;
        self
    }

    pub fn then(mut self, then: Then) -> Reply {
        self.then = then;
        self
    }
}

/// The server; it ends when dropped.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    is_stopping: Arc<AtomicBool>,
}

impl Server {
    /// Answers every request with what `script` says. A request with `Expect: 100-continue` is first shown to `script`
    /// without its body; if the reply is a success, the client is told to go on, and `script` is asked again.
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let script = Arc::new(script);
        let (log, stop) = (requests.clone(), is_stopping.clone());
        std::thread::spawn(move || {
            let mut stalled = Vec::new();
            let (keep, kept) = std::sync::mpsc::channel();
            for (connection, stream) in listener.incoming().enumerate() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (script, log, keep) = (script.clone(), log.clone(), keep.clone());
                std::thread::spawn(move || {
                    if let Some(stream) = converse(stream.unwrap(), connection, &*script, &log) {
                        let _ = keep.send(stream);
                    }
                });
                stalled.extend(kept.try_iter());
            }
        });
        Server { address, requests, is_stopping }
    }

    /// Files with entity tags, ranges and `If-Range`, as RFC 9110 has them; `alter` may spoil a reply.
    pub fn files(files: &[(&str, &[u8])], alter: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(name, bytes)| (format!("/{name}"), bytes.to_vec())).collect();
        Server::start(move |request| {
            let reply = match files.get(&request.target) {
                Some(bytes) => file(request, bytes),
                None => Reply::text("404 Not Found", "no such file\n"),
            };
            alter(request, reply)
        })
    }

    /// The URL of its root.
    pub fn url(&self) -> std::path::PathBuf {
        format!("http://{}", self.address).into()
    }

    pub fn addr(&self) -> String {
        self.address.to_string()
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// The time that every scripted file was last modified.
pub const LAST_MODIFIED: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
pub const LAST_MODIFIED_SECONDS: u64 = 1_000_000_000;

/// The entity tag of a file with these bytes.
pub fn etag(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(bytes.len() as u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    format!("\"{sum:x}\"")
}

/// How a good server answers a GET of a file.
pub fn file(request: &Request, bytes: &[u8]) -> Reply {
    let etag = etag(bytes);
    let mut fields = vec![("ETag", etag.as_str()), ("Last-Modified", LAST_MODIFIED), ("Accept-Ranges", "bytes")];
    if request.field("if-none-match") == Some(&etag) {
        return Reply::new("304 Not Modified", &fields, b"");
    }
    let range = request.field("range").filter(|_| request.field("if-range").is_none_or(|tag| tag == etag));
    let Some(first) = range.map(|range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap()) else {
        return Reply::new("200 OK", &fields, bytes);
    };
    let first: usize = first.parse().unwrap();
    if first >= bytes.len() {
        let content_range = format!("bytes */{}", bytes.len());
        fields.push(("Content-Range", &content_range));
        return Reply::new("416 Range Not Satisfiable", &fields, b"");
    }
    let content_range = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
    fields.push(("Content-Range", &content_range));
    Reply::new("206 Partial Content", &fields, &bytes[first..])
}

/// Serves one connection; returns it if it is to stay open, silent.
fn converse(
    stream: TcpStream,
    connection: usize,
    script: &dyn Fn(&Request) -> Reply,
    log: &Mutex<Vec<Request>>,
) -> Option<TcpStream> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut request = head(&mut reader, connection)?;
        if request.field("expect") == Some("100-continue") {
            let reply = script(&request);
            if !reply.bytes.starts_with(b"HTTP/1.1 2") {
                log.lock().unwrap().push(request);
                let _ = writer.write_all(&reply.bytes);
                return None;
            }
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        body(&mut reader, &mut request)?;
        log.lock().unwrap().push(request.clone());
        let reply = script(&request);
        let (first, rest) = reply.bytes.split_at(reply.gate.as_ref().map_or(0, |(bytes, _)| *bytes));
        writer.write_all(first).ok()?;
        if let Some((_, gate)) = &reply.gate {
            gate.wait();
        }
        writer.write_all(rest).ok()?;
        match reply.then {
            Then::KeepAlive => {}
            Then::Close => return None,
            Then::Stall => return Some(writer),
        }
    }
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.strip_suffix("\r\n").map(str::to_owned)
}

fn fields(reader: &mut impl BufRead) -> Option<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            return Some(fields);
        }
        let (name, value) = line.split_once(':')?;
        fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

fn head(reader: &mut impl BufRead, connection: usize) -> Option<Request> {
    let start = line(reader)?;
    let mut words = start.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let fields = fields(reader)?;
    Some(Request { method, target, fields, body: Vec::new(), trailers: BTreeMap::new(), connection })
}

fn body(reader: &mut impl BufRead, request: &mut Request) -> Option<()> {
    if request.field("transfer-encoding") == Some("chunked") {
        loop {
            let size = usize::from_str_radix(&line(reader)?, 16).ok()?;
            if size == 0 {
                request.trailers = fields(reader)?;
                return Some(());
            }
            let mut chunk = vec![0; size];
            reader.read_exact(&mut chunk).ok()?;
            request.body.extend_from_slice(&chunk);
            line(reader)?;
        }
    }
    let length = request.field("content-length").map_or(0, |length| length.parse().unwrap());
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()
}

/// The client, without whatever options the environment holds.
pub fn forebay(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FOREBAY_") {
            command.env_remove(name);
        }
    }
    // Long enough for the slowest machine, short enough that a test ends.
    command.args(args).env("FOREBAY_TIMEOUT", "20s").stdin(Stdio::null());
    command
}

/// What a run of the client printed, and its exit status.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn run(args: &[&str]) -> Ran {
    ran(forebay(args).output().unwrap())
}

/// Runs with `input` as standard input.
pub fn run_with_input(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    ran(output)
}

pub fn ran(output: Output) -> Ran {
    Ran {
        status: output.status.code().expect("not killed by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The names in a directory, hidden ones too, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Bytes that differ everywhere, so that any misplaced part shows.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}
