//! The real server on a directory of its own, and a client that reads HTTP/1.1 to the letter.
//!
//! Every wait has a deadline, so that a server that hangs fails a test and does not hang it.
#![allow(dead_code, unused_imports)] // each test program uses its part

pub mod client;
pub mod stores;
pub mod tools;
pub mod upstream;

pub use client::{Client, Head, Response, request, request_with_body};

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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

    /// What a server says that ends instead of serving `root`.
    pub fn refusal(root: &Path, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.arg("serve").arg(root).args(["--listen", "127.0.0.1:0"]).args(args);
        let output = command.output().expect("the server's program is there");
        assert!(!output.status.success(), "it served");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The first TCP address.
    pub fn address(&self) -> SocketAddr {
        let tcp = |place: &Place| if let Place::Tcp(address) = place { Some(*address) } else { None };
        self.places.iter().find_map(tcp).expect("it listens on TCP")
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.places[0])
    }

    /// A connection that has moved to the control plane.
    pub fn control_plane(&self) -> Client {
        let mut client = self.connect();
        client.get("/.forebay/health").expect(200);
        client
    }

    /// A connection of each plane, with the plane's name.
    pub fn planes(&self) -> [(&'static str, Client); 2] {
        [("data", self.connect()), ("control", self.control_plane())]
    }

    /// One GET on a connection of its own.
    pub fn get(&self, target: &str) -> Response {
        self.connect().get(target)
    }

    /// One request on a connection of its own, as [`Client::ask`].
    pub fn ask(&self, head: &str, body: &[u8]) -> Response {
        self.connect().ask(head, body)
    }

    pub fn put(&self, target: &str, body: &[u8]) -> Response {
        self.ask(&format!("PUT {target}"), body)
    }

    pub fn delete(&self, target: &str) -> Response {
        self.ask(&format!("DELETE {target}"), b"")
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
