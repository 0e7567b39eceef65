//! A running server: started on a free port, waited for until it answers, ended when dropped.

use crate::{
    load::{http, keyvalue},
    measure::memory::{self, Memory},
    peers::{
        Peer, Role,
        launch::{self, Site, Start},
    },
    plan::{FILES, Setup},
    processes::Process,
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

/// How long a server may take until it answers; compiling a configuration takes some of them a second.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How often a server that does not answer yet is asked.
const GLANCE: Duration = Duration::from_micros(200);

/// Starts with other ports when one was taken meanwhile.
const ATTEMPTS: u32 = 3;

/// Lines of a failed server's log that are shown.
const LOG_LINES: usize = 5;

/// A server that answers.
#[derive(Debug)]
pub struct Server {
    pub peer: Peer,
    pub port: u16,
    /// How it was started.
    pub command: String,
    /// From the start of its process to the first byte of a response.
    pub first_byte: Duration,
    processes: Vec<Process>,
    /// Where it keeps a cache in files, if it does.
    cache: PathBuf,
}

impl Server {
    /// Starts `peer` on `cores`, set up for a case.
    ///
    /// # Errors
    /// It does not start, or does not answer; with what it logged.
    pub fn start(peer: Peer, site: &Site, setup: Setup, cores: &[usize]) -> Result<Server> {
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            let [port, origin_port] = free_ports()?;
            let state = site.state.join(format!("{}-{port}", peer.name()));
            fs::create_dir_all(&state).with_context(|| format!("cannot create {}", state.display()))?;
            match Server::attempt(peer, &Start { site, setup, port, origin_port, state }, cores) {
                Ok(server) => return Ok(server),
                // It has its port, so that is not what it failed for.
                Err(error) if TcpListener::bind(("127.0.0.1", port)).is_ok() => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| anyhow::anyhow!("it was not started")))
    }

    fn attempt(peer: Peer, start: &Start, cores: &[usize]) -> Result<Server> {
        let log = start.state.join("output.log");
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut processes = Vec::new();
        let mut shown = String::new();
        let mut started = Instant::now();
        for mut command in launch::commands(peer, start)? {
            shown = launch::shown(&command);
            command
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output.try_clone()?)
                .current_dir(&start.state);
            started = Instant::now();
            processes.push(Process::start(cores, &mut command)?);
        }
        let mut server = Server {
            peer,
            port: start.port,
            command: shown,
            first_byte: Duration::ZERO,
            processes,
            cache: start.cache_directory(),
        };
        match server.wait_until_it_answers(start, started) {
            Ok(first_byte) => server.first_byte = first_byte,
            Err(error) => {
                drop(server);
                return Err(error.context(log_tail(&start.state)));
            }
        }
        Ok(server)
    }

    fn wait_until_it_answers(&mut self, start: &Start, started: Instant) -> Result<Duration> {
        loop {
            let answer = match self.peer.role() {
                Role::KeyValue => keyvalue::store_all(self.peer, self.port, &start.site.root),
                _ => http::first_byte(self.port, FILES[0].0),
            };
            match answer {
                Ok(()) => return Ok(started.elapsed()),
                Err(error) if started.elapsed() > START_LIMIT => {
                    return Err(error.context(format!(
                        "{} did not answer within {} s",
                        self.peer.name(),
                        START_LIMIT.as_secs()
                    )));
                }
                Err(_) => std::thread::sleep(GLANCE),
            }
            for process in &mut self.processes {
                if let Some(status) = process.ended() {
                    bail!("{} ended at once ({status})", self.peer.name());
                }
            }
        }
    }

    /// The roots of the process trees that are this server.
    pub fn roots(&self) -> Vec<u32> {
        self.processes.iter().map(Process::pid).collect()
    }

    /// What it holds in memory, the files of its cache included; none when it cannot be read.
    pub fn memory(&self) -> Option<Memory> {
        memory::memory(&self.roots()).map(|held| held.with_files(&self.cache))
    }

    /// Whether all of it still runs.
    ///
    /// # Errors
    /// It ended.
    pub fn check(&mut self) -> Result<()> {
        let name = self.peer.name();
        self.processes.iter_mut().try_for_each(|process| match process.ended() {
            None => Ok(()),
            Some(status) => bail!("{name} ended during the run ({status})"),
        })
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> Result<[u16; 2]> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let ports = [listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()];
    ensure!(ports[0] != ports[1], "the kernel gave the port {} twice", ports[0]);
    Ok(ports)
}

/// The last lines of everything that a server logged.
fn log_tail(state: &Path) -> String {
    let read = |name: &str| fs::read_to_string(state.join(name)).unwrap_or_default();
    let text = read("output.log") + &read("error.log");
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    match lines.len() {
        0 => "it logged nothing".into(),
        count => format!("it logged: {}", lines[count.saturating_sub(LOG_LINES)..].join(" / ")),
    }
}
