//! The two servers that are used: in front of a directory with writes, and in front of an HTTP server.

use crate::{load::http, measure::cores, origin::counting, processes::Process};
use anyhow::{Context, Result, ensure};
use loadgen::corpus::body::Body;
use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Files that fit the cache, files that do not, and their sizes: number `n` has `n % 64 + 1` KiB.
pub const HOT: u32 = 64;
pub const COLD: u32 = 1000;

/// A file that is read slowly, and by pieces.
pub const LARGE: &str = "large";
pub const LARGE_BYTES: u64 = 4 << 20;

/// Small, so that it is always full and something always has to go.
const ARENA: &str = "16MiB";

/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A server that runs.
#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    pub port: u16,
    process: Process,
}

impl Target {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// All that is started for a run; it ends when this is dropped.
#[derive(Debug)]
pub struct Servers {
    pub directory: Target,
    pub remote: Target,
    origin: Target,
}

/// The name of a file and its size.
pub fn file(set: &str, number: u32) -> (String, u64) {
    (format!("{set}/{number:04}"), u64::from(number % 64 + 1) << 10)
}

impl Servers {
    /// Makes the files beneath `state`, and starts everything. `bench`: this program.
    ///
    /// # Errors
    /// What does not start.
    pub fn start(forebay: &Path, state: &Path, bench: PathBuf) -> Result<Servers> {
        let root = state.join("root");
        make_files(&root).context("the files to serve")?;
        let list = state.join("objects.csv");
        let lines: String = (0..COLD)
            .map(|number| {
                let (name, size) = file("cold", number);
                format!("{number},{name},{size}\n")
            })
            .collect();
        fs::write(&list, lines).with_context(|| format!("cannot write {}", list.display()))?;
        let mut origin = Command::new(bench);
        origin.arg("http-origin").arg("--trace").arg(list).arg("--port");
        let origin = launch("origin", origin, state, "1k")?;
        let serve = |origin: &str, options: &[&str]| {
            let mut command = Command::new(forebay);
            command.args(["serve", origin, "--arena", ARENA, "--workers", "2", "--drain", "0s"]);
            command.args(options).arg("--listen");
            command
        };
        let directory = serve(&root.display().to_string(), &["--allow-writes"]);
        let directory = launch("directory", directory, state, &file("hot", 0).0)?;
        let url = format!("http://127.0.0.1:{}/", origin.port);
        let remote = launch("remote", serve(&url, &[]), state, "1k")?;
        Ok(Servers { directory, remote, origin })
    }

    /// Those that are sampled.
    pub fn both(&self) -> [&Target; 2] {
        [&self.directory, &self.remote]
    }

    /// Whether all still run.
    ///
    /// # Errors
    /// Names who ended.
    pub fn check(&mut self) -> Result<()> {
        for target in [&mut self.directory, &mut self.remote, &mut self.origin] {
            let ended = target.process.ended();
            ensure!(ended.is_none(), "the server `{}` has ended", target.name);
        }
        Ok(())
    }
}

fn make_files(root: &Path) -> Result<()> {
    let numbered = |set: &'static str, count: u32| (0..count).map(move |number| file(set, number));
    let large = std::iter::once((LARGE.to_owned(), LARGE_BYTES));
    for directory in ["hot", "cold", "uploads"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for (name, size) in numbered("hot", HOT).chain(numbered("cold", COLD)).chain(large) {
        let mut bytes = vec![0; size as usize];
        Body::of(name.as_bytes(), counting::SEED).fill(0, &mut bytes);
        fs::write(root.join(&name), bytes)?;
    }
    Ok(())
}

/// Starts a program whose last argument is to be where it listens, and waits until it answers for `path`.
fn launch(name: &'static str, mut command: Command, state: &Path, path: &str) -> Result<Target> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    match name {
        "origin" => command.arg(port.to_string()),
        _ => command.arg(format!("127.0.0.1:{port}")),
    };
    let log = state.join(format!("{name}.log"));
    let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let mut process = Process::start(&cores::available(), &mut command)?;
    let started = Instant::now();
    while let Err(error) = http::first_byte(port, path) {
        let said = || fs::read_to_string(&log).unwrap_or_default();
        ensure!(process.ended().is_none(), "`{name}` ended at once: {}", said());
        ensure!(started.elapsed() < START_LIMIT, "`{name}` does not answer: {error:#}; {}", said());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Target { name, port, process })
}
