//! The real server, in a process of its own.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long anything may take before it counts as hanging. Generous: it decides only how long a failure takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Set in the process that is to be a server.
const IS_SERVER: &str = "LOADGEN_TEST_IS_SERVER";

/// Waits until `done` says so.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// No test: what [`Server::start`] runs in a process of its own. The server comes from this very program, into which
/// the library is linked, because cargo names no program of another package to a test: the one in the target directory
/// may be missing, or of yesterday.
#[test]
#[ignore = "the process of the server that the tests start"]
fn be_the_server() {
    if std::env::var_os(IS_SERVER).is_some() {
        let forebay::cli::Command::Serve(args) =
            <forebay::cli::Cli as clap::Parser>::parse_from(["forebay", "serve"]).command
        else {
            panic!("`forebay serve` is not the command to serve");
        };
        forebay::server::serve(args.resolve().unwrap()).unwrap();
    }
}

/// A running `forebay serve`.
pub struct Server {
    child: Child,
    /// `host:port`
    pub address: String,
}

/// What the server says that it has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub hits: u64,
    pub misses: u64,
}

impl Server {
    /// Serves `root` on a port of the kernel's choice, with options by the names of their environment variables.
    pub fn start(root: &Path, options: &[(&str, &str)]) -> Server {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "forebay_server::be_the_server", "--ignored", "--nocapture"]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FOREBAY_")) {
            command.env_remove(name); // the tests' own settings are not the server's
        }
        command
            .env(IS_SERVER, "")
            .env("FOREBAY_LISTEN", "127.0.0.1:0")
            .env("FOREBAY_ROOT", root)
            .envs(options.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (said, says) = mpsc::channel();
        // Reads to the end, so that the server never waits for somebody to listen to it.
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(said.send(line))));
        let mut server = Server { child, address: String::new() };
        let mut before = String::new();
        while server.address.is_empty() {
            let line = says.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the server does not listen: {before}"));
            match line.strip_prefix("forebay: serving ").and_then(|rest| rest.rsplit_once(" on ")) {
                Some((_, address)) => server.address = address.to_owned(),
                None => before.push_str(&line),
            }
        }
        server
    }

    /// Requests for files so far, by what the cache said.
    pub fn counts(&self) -> Counts {
        let metrics = self.metrics();
        let sum = |class: &str| {
            let series = format!("forebay_requests_total{{class=\"{class}\"");
            metrics.iter().filter(|(name, _)| name.starts_with(&series)).map(|(_, value)| value).sum()
        };
        Counts { hits: sum("hit"), misses: sum("miss") }
    }

    /// One metric without labels, or the one series of it that is named whole.
    pub fn metric(&self, name: &str) -> u64 {
        *self.metrics().get(name).unwrap_or_else(|| panic!("the server has no metric {name}"))
    }

    fn metrics(&self) -> BTreeMap<String, u64> {
        let text = self.get("/.forebay/metrics").unwrap();
        let series = text.lines().filter_map(|line| line.rsplit_once(' '));
        series.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    fn get(&self, target: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response)
    }
}

impl Drop for Server {
    /// Ends it as a power cut would.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
