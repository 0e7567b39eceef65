//! The real server on a directory of its own, and a client that reads HTTP/1.1 to the letter.
//!
//! Every wait has a deadline, so that a server that hangs fails a test and does not hang it.
#![allow(dead_code)] // each test program uses its part

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take before it counts as hanging. Generous: it decides only how long a failure takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The transmit modes that a test should hold for.
pub const TRANSMIT: [&str; 4] = ["auto", "copy", "splice", "zerocopy"];

/// Waits until `done` says so.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `len` bytes that differ from those of any other seed, at every offset, in every eight.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 8);
    let mut at = 0u64;
    while out.len() < len {
        out.extend_from_slice(&mix(seed.rotate_left(32) ^ at).to_le_bytes());
        at += 1;
    }
    out.truncate(len);
    out
}

/// A number that depends on all bits of another (the finaliser of splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Says where two byte strings differ, instead of printing megabytes of them.
#[track_caller]
pub fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    if found != expected {
        let at = found.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(found.len().min(expected.len()));
        let (found_len, len) = (found.len(), expected.len());
        panic!("{what}: {found_len} bytes instead of {len}, first difference at {at}");
    }
}

/// The request target of a file's name.
pub fn target(name: impl AsRef<[u8]>) -> String {
    let mut target = String::from("/");
    for &byte in name.as_ref() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => target.push(byte as char),
            _ => target.push_str(&format!("%{byte:02X}")),
        }
    }
    target
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Tcp(SocketAddr),
    Unix(std::path::PathBuf),
}

/// A running `forebay serve`.
pub struct Server {
    child: Child,
    /// In the order of the `--listen` options.
    pub places: Vec<Place>,
    stderr: Arc<Mutex<String>>,
}

impl Server {
    /// Serves `root` on a port of the kernel's choice.
    pub fn start(root: &Path, args: &[&str]) -> Server {
        Server::start_on(root, &["127.0.0.1:0"], args)
    }

    /// Serves `root` on these addresses.
    pub fn start_on(root: &Path, listen: &[&str], args: &[&str]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.arg("serve").arg(root).args(listen.iter().flat_map(|listen| ["--listen", listen])).args(args);
        Server::spawn(command, listen.len())
    }

    /// Serves `root` under limits that the shell's `ulimit` takes, such as `-n 100`.
    pub fn start_limited(root: &Path, limits: &[&str], args: &[&str]) -> Server {
        let mut command = limited(limits);
        command.arg("serve").arg(root).args(["--listen", "127.0.0.1:0"]).args(args);
        Server::spawn(command, 1)
    }

    /// Runs a `forebay serve` that will listen on so many addresses, and waits until it does.
    pub fn spawn(mut command: Command, addresses: usize) -> Server {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FOREBAY_") {
                command.env_remove(name); // the tests' own settings are not the server's
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server's program is there");
        let mut pipe = child.stderr.take().expect("stderr is piped");
        let stderr = Arc::new(Mutex::new(String::new()));
        let said = stderr.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(len @ 1..) = pipe.read(&mut chunk) {
                said.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..len]));
            }
        });
        let mut server = Server { child, places: Vec::new(), stderr };
        until("the server listens", || {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", server.stderr());
            }
            server.places = server.stderr().lines().filter_map(place_of).collect();
            server.places.len() >= addresses
        });
        server
    }

    /// The first TCP address.
    pub fn address(&self) -> SocketAddr {
        let tcp = |place: &Place| if let Place::Tcp(address) = place { Some(*address) } else { None };
        self.places.iter().find_map(tcp).expect("it listens on TCP")
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.places[0])
    }

    /// One GET on a connection of its own.
    pub fn get(&self, target: &str) -> Response {
        self.connect().get(target)
    }

    /// A sample of the metrics page: `name{labels}`, as it stands there.
    pub fn sample(&self, sample: &str) -> u64 {
        let page = self.get("/.forebay/metrics").text();
        let value = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {sample} in {page}")).parse().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Bytes of the arena that are physically there.
    pub fn physical_bytes(&self) -> u64 {
        self.arena().physical_bytes()
    }

    pub fn arena(&self) -> Arena {
        Arena::of(self.pid())
    }

    /// Descriptors that it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the server runs").count()
    }

    /// Bytes of a line of /proc/PID/status, such as `RssAnon`.
    pub fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server runs");
        let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
        let kib: u64 = found.expect(line).trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kib * 1024
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the server runs");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the server ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let said = self.stderr();
        if std::thread::panicking() {
            eprintln!("the server said:\n{said}");
        } else {
            assert!(!said.contains("panicked"), "the server panicked:\n{said}");
        }
    }
}

/// The program, run under limits that the shell's `ulimit` takes.
pub fn limited(limits: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let limits: String = limits.iter().map(|limit| format!("ulimit {limit} && ")).collect();
    command.arg("-c").arg(format!("{limits}exec \"$0\" \"$@\"")).arg(env!("CARGO_BIN_EXE_forebay"));
    command
}

/// What a line says about an address that is listened on.
fn place_of(line: &str) -> Option<Place> {
    let (_, address) = line.strip_prefix("forebay: serving ")?.rsplit_once(" on ")?;
    match address.strip_prefix("unix:") {
        Some(path) => Some(Place::Unix(path.into())),
        None => address.trim_start_matches("http://").parse().ok().map(Place::Tcp),
    }
}

/// The memfd of a server's arena, to look at as often as one likes.
#[derive(Debug, Clone)]
pub struct Arena(std::path::PathBuf);

impl Arena {
    pub fn of(pid: u32) -> Arena {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the server runs");
        let is_arena = |path: &std::path::PathBuf| {
            std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:forebay"))
        };
        let found = descriptors.flatten().map(|entry| entry.path()).find(is_arena);
        Arena(found.expect("the arena is a memfd called forebay"))
    }

    /// Bytes that are physically there: what its blocks hold.
    pub fn physical_bytes(&self) -> u64 {
        use std::os::linux::fs::MetadataExt;
        std::fs::metadata(&self.0).expect("the server runs").st_blocks() * 512
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection to a server.
pub struct Client {
    stream: Stream,
    /// Received and not read yet.
    ahead: Vec<u8>,
}

/// A response's head.
#[derive(Debug, Clone)]
pub struct Head {
    pub version: String,
    pub status: u16,
    /// As sent, in order.
    pub fields: Vec<(String, String)>,
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Response {
    pub head: Head,
    pub body: Vec<u8>,
}

impl std::ops::Deref for Response {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Head {
    /// The value of a field.
    ///
    /// # Panics
    /// If it is there twice.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {:?}", self.fields);
        value
    }

    pub fn cache_status(&self) -> &str {
        self.field("cache-status").unwrap_or("")
    }

    pub fn is_hit(&self) -> bool {
        self.cache_status() == "forebay; hit"
    }

    pub fn length(&self) -> usize {
        self.field("content-length").expect("a length").parse().expect("a number")
    }

    fn has_body(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }
}

impl Client {
    pub fn connect(place: &Place) -> Client {
        match place {
            Place::Tcp(address) => Client::of_tcp(TcpStream::connect(address).expect("connects")),
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).expect("connects");
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                Client { stream: Stream::Unix(stream), ahead: Vec::new() }
            }
        }
    }

    /// A connection whose receive buffer holds about `bytes`, so that a reader that stalls soon stalls the sender.
    pub fn narrow(address: SocketAddr, bytes: usize) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect(&address.into()).expect("connects");
        Client::of_tcp(socket.into())
    }

    fn of_tcp(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream: Stream::Tcp(stream), ahead: Vec::new() }
    }

    /// The socket.
    pub fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(_) => panic!("not a TCP connection"),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).expect("the server takes what is sent");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Ends the sending side.
    pub fn finish(&mut self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        if let Stream::Tcp(stream) = self.stream {
            socket2::Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }

    pub fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[])
    }

    /// A request with these fields beside Host.
    pub fn request(&mut self, method: &str, target: &str, fields: &[(&str, &str)]) -> Response {
        self.send(request(method, target, fields));
        self.response(method)
    }

    /// The next response, to a request of this method.
    pub fn response(&mut self, method: &str) -> Response {
        self.try_response(method).unwrap_or_else(|error| panic!("no whole response: {error}"))
    }

    /// As [`Client::response`]; an error if the connection ends or stalls before the response is whole.
    pub fn try_response(&mut self, method: &str) -> io::Result<Response> {
        let head = self.try_head()?;
        let mut body = vec![0; if method == "HEAD" || !head.has_body() { 0 } else { head.length() }];
        self.read_exact(&mut body)?;
        Ok(Response { head, body })
    }

    /// The head of the next response.
    pub fn head(&mut self) -> Head {
        self.try_head().unwrap_or_else(|error| panic!("no response: {error}"))
    }

    pub fn try_head(&mut self) -> io::Result<Head> {
        let mut searched = 0;
        let end = loop {
            if let Some(at) = self.ahead[searched..].windows(4).position(|four| four == b"\r\n\r\n") {
                break searched + at;
            }
            searched = self.ahead.len().saturating_sub(3);
            assert!(self.ahead.len() < 64 << 10, "this is no head: {:?}", String::from_utf8_lossy(&self.ahead[..200]));
            if self.receive(16 << 10)? == 0 {
                let error = format!("the connection ended after {:?}", String::from_utf8_lossy(&self.ahead));
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
            }
        };
        let text = String::from_utf8(self.ahead[..end].to_vec()).expect("heads are text");
        self.ahead.drain(..end + 4);
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap();
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap().to_owned();
        assert!(version.starts_with("HTTP/1."), "this is no status line: {line:?}");
        let status = words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no status: {line:?}"));
        assert!(words.next().is_some_and(|reason| !reason.is_empty()), "no reason: {line:?}");
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("this is no field: {line:?}"));
            assert!(!name.is_empty() && !name.contains(' '), "this is no field: {line:?}");
            (name.to_owned(), value.to_owned())
        };
        Ok(Head { version, status, fields: lines.map(field).collect() })
    }

    /// Reads this many bytes of a body.
    pub fn body(&mut self, len: usize) -> Vec<u8> {
        let mut body = vec![0; len];
        self.read_exact(&mut body).unwrap_or_else(|error| panic!("no whole body: {error}"));
        body
    }

    pub fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        let ahead = self.ahead.len().min(into.len());
        into[..ahead].copy_from_slice(&self.ahead[..ahead]);
        self.ahead.drain(..ahead);
        match &mut self.stream {
            Stream::Tcp(stream) => stream.read_exact(&mut into[ahead..]),
            Stream::Unix(stream) => stream.read_exact(&mut into[ahead..]),
        }
    }

    /// Everything until the server ends its side. A reset is an end, too.
    pub fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.receive(64 << 10) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("the connection is still open: {error}"),
            }
        }
        std::mem::take(&mut self.ahead)
    }

    /// That the server ends the connection without a further byte.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "instead of the end: {:?}", String::from_utf8_lossy(&rest[..rest.len().min(300)]));
    }

    /// Bytes that have arrived and were not read yet, without waiting.
    pub fn has_arrived(&mut self) -> bool {
        let Stream::Tcp(stream) = &self.stream else { panic!("not a TCP connection") };
        stream.set_nonblocking(true).unwrap();
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        !self.ahead.is_empty() || matches!(peeked, Ok(1))
    }

    fn receive(&mut self, len: usize) -> io::Result<usize> {
        let have = self.ahead.len();
        self.ahead.resize(have + len, 0);
        let read = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut self.ahead[have..]),
            Stream::Unix(stream) => stream.read(&mut self.ahead[have..]),
        };
        self.ahead.truncate(have + *read.as_ref().unwrap_or(&0));
        read
    }
}

/// The bytes of a request without a body.
pub fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}
