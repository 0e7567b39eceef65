//! The real server as a child process, and a client that speaks HTTP/1.1 by the byte.
#![allow(dead_code)] // each test program uses its part

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// What it wrote to standard error so far.
    pub messages: Arc<Mutex<String>>,
}

impl Server {
    /// Starts `forebay serve ROOT` with these further arguments on a port of the kernel's choice.
    pub fn start(root: &Path, args: &[&str]) -> Server {
        Server::spawn(root, args).unwrap_or_else(|messages| panic!("the server did not start: {messages}"))
    }

    /// Starts it; if it ends instead, what it said.
    pub fn spawn(root: &Path, args: &[&str]) -> Result<Server, String> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .arg("serve")
            .arg(root)
            .args(["--listen", "127.0.0.1:0", "--workers", "2"])
            .args(args)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the server's binary runs");
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        let messages = Arc::<Mutex<String>>::default();
        let (found, address) = std::sync::mpsc::channel();
        let kept = messages.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let listening = line.rsplit_once(" on ").and_then(|(_, address)| address.trim().parse().ok());
                kept.lock().unwrap().push_str(&format!("{line}\n"));
                if let Some(address) = listening {
                    let _ = found.send(address);
                }
            }
        });
        match address.recv_timeout(PATIENCE) {
            Ok(address) => Ok(Server { child, address, messages }),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                let messages = messages.lock().unwrap().clone();
                Err(messages)
            }
        }
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub fn request(&self, head: &str, body: &[u8]) -> Response {
        self.connect().request(head, body)
    }

    pub fn get(&self, target: &str) -> Response {
        self.request(&format!("GET {target}"), b"")
    }

    pub fn put(&self, target: &str, body: &[u8]) -> Response {
        self.request(&format!("PUT {target}"), body)
    }

    pub fn delete(&self, target: &str) -> Response {
        self.request(&format!("DELETE {target}"), b"")
    }

    /// The value of a metric's sample, such as `forebay_fills_total{event="started"}`.
    pub fn metric(&self, sample: &str) -> f64 {
        let page = self.get("/.forebay/metrics").text();
        let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no sample {sample}")).parse().expect("a number")
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the server runs");
    }

    /// As `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("it can be waited for");
    }

    /// Waits for it to end by itself.
    pub fn wait(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection.
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, received: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes it");
    }

    /// As `send`, where the server may have good reason to hang up midway.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request whose head begins with `head` (request line without version, then fields), and reads the answer.
    pub fn request(&mut self, head: &str, body: &[u8]) -> Response {
        self.send(&request(head, body));
        self.response(head.starts_with("HEAD "))
    }

    /// Ends the sending side.
    pub fn finish_sending(&self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// The next response; interim ones are passed over.
    pub fn response(&mut self, to_head: bool) -> Response {
        loop {
            let response = self.try_response(to_head).expect("a whole response");
            if response.status >= 200 {
                return response;
            }
        }
    }

    /// The next response, interim or not; an error if the connection ends before it is whole.
    pub fn try_response(&mut self, to_head: bool) -> io::Result<Response> {
        let mut response = loop {
            if let Some((response, length)) = parse_head(&self.received) {
                self.received.drain(..length);
                break response;
            }
            self.receive()?;
        };
        let without_body = to_head || response.status < 200 || response.status == 204 || response.status == 304;
        if without_body {
            return Ok(response);
        }
        if let Some(length) = response.field("content-length") {
            let length: usize = length.parse().expect("a length");
            while self.received.len() < length {
                self.receive()?;
            }
            response.body = self.received.drain(..length).collect();
        } else if response.field("transfer-encoding") == Some("chunked") {
            response.body = self.chunked()?;
        } else {
            while self.receive().is_ok() {}
            response.body = std::mem::take(&mut self.received);
        }
        Ok(response)
    }

    fn chunked(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(at) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                    break at;
                }
                self.receive()?;
            };
            let size = std::str::from_utf8(&self.received[..line_end]).expect("a chunk size");
            let size = usize::from_str_radix(size, 16).expect("a chunk size");
            while self.received.len() < line_end + 2 + size + 2 {
                self.receive()?;
            }
            body.extend_from_slice(&self.received[line_end + 2..line_end + 2 + size]);
            self.received.drain(..line_end + 2 + size + 2);
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// Whether the server has ended the connection and left nothing to read.
    pub fn is_over(&mut self) -> bool {
        self.received.is_empty() && matches!(self.receive(), Err(error) if error.kind() != io::ErrorKind::WouldBlock)
    }
}

/// A whole request; a body gets its Content-Length.
pub fn request(head: &str, body: &[u8]) -> Vec<u8> {
    let (line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut bytes = format!("{line} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    if !fields.is_empty() {
        bytes.extend_from_slice(format!("{}\r\n", fields.trim_end()).as_bytes());
    }
    if !body.is_empty() || line.starts_with("PUT ") {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn parse_head(bytes: &[u8]) -> Option<(Response, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut fields);
    match parsed.parse(bytes).expect("a well-formed response") {
        httparse::Status::Partial => None,
        httparse::Status::Complete(length) => {
            let fields = parsed
                .headers
                .iter()
                .map(|field| (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned()))
                .collect();
            Some((Response { status: parsed.code.unwrap(), fields, body: Vec::new() }, length))
        }
    }
}

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Fails the test, with the whole response, if the status is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{:?} {}", self.fields, self.text());
        self
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Bytes that are like no others: a pattern that `seed` decides.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64 (Marsaglia, 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// All names beneath a directory, relative, sorted; directories end with a slash.
pub fn tree(root: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            names.push(path.strip_prefix(root).unwrap().to_owned());
            if path.is_dir() && !path.is_symlink() {
                pending.push(path);
            }
        }
    }
    names.sort();
    names
}
