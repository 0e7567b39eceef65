//! The HTTP server that the servers of a case stand in front of: nginx with files in memory, or the bench's own, which
//! counts.

pub mod counting;

use crate::{
    data::Data,
    load::http,
    measure::cores::Placement,
    peers::{Peer, launch::Site},
    plan::{Case, FILES, OriginKind, Setup, Stands},
    processes::{Directory, Process},
    session::{Server, Session},
};
use anyhow::{Context, Result, ensure};
use counting::Counts;
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The file system in memory that every Linux has.
const MEMORY: &str = "/dev/shm";

/// How long the bench's own origin may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// An origin that answers; it ends when this is dropped.
#[derive(Debug)]
pub struct Origin {
    pub port: u16,
    program: Program,
}

#[derive(Debug)]
enum Program {
    /// With the files that it serves.
    Nginx {
        _server: Server,
        _files: Directory,
    },
    Counting {
        _process: Process,
    },
}

/// A directory in memory, or else beneath `otherwise`.
///
/// # Errors
/// Neither can be written.
pub fn memory_directory(otherwise: &Path) -> Result<Directory> {
    let name = format!("forebay-bench-{}", std::process::id());
    Directory::make(Path::new(MEMORY).join(&name)).or_else(|error| {
        eprintln!("bench: {MEMORY} cannot be used ({error:#}), what belongs in memory goes to {}", otherwise.display());
        Directory::make(otherwise.join(name))
    })
}

impl Origin {
    /// Starts the origin of a case, if it has one, on the cores of the load. `trace`: what the counting one knows.
    ///
    /// # Errors
    /// It does not start, or what it serves cannot be put into memory.
    pub fn of(case: &Case, session: &Session, placement: &Placement) -> Result<Option<Origin>> {
        case.behind.map(|kind| Origin::start(kind, case, session, placement)).transpose().context("the origin")
    }

    fn start(kind: OriginKind, case: &Case, session: &Session, placement: &Placement) -> Result<Origin> {
        match kind {
            OriginKind::Nginx => {
                let files = Directory::make(session.site.memory.join("origin"))?;
                copy(case, &session.data, files.path())?;
                let site = Site { root: files.path().to_owned(), ..session.site.clone() };
                let setup = Setup { workers: 1, variants: false, stands: Stands::Behind };
                let server = Server::start(Peer::Nginx, &site, setup, &placement.load)?;
                Ok(Origin { port: server.port, program: Program::Nginx { _server: server, _files: files } })
            }
            OriginKind::Counting => counting(session, placement),
        }
    }

    /// What it was asked for since it was started; only the bench's own counts.
    ///
    /// # Errors
    /// It does not say.
    pub fn counts(&self) -> Result<Option<Counts>> {
        match self.program {
            Program::Nginx { .. } => Ok(None),
            Program::Counting { .. } => {
                let body = http::get(self.port, counting::COUNTS.trim_start_matches('/'))?;
                Ok(Some(serde_json::from_slice(&body).context("the origin's counts")?))
            }
        }
    }
}

fn counting(session: &Session, placement: &Placement) -> Result<Origin> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new(counting::program()?);
    command.arg("http-origin").args(["--port", &port.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(trace) = &session.trace {
        command.arg("--trace").arg(trace);
    }
    let mut process = Process::start(&placement.load, &mut command)?;
    let started = Instant::now();
    while http::first_byte(port, FILES[0].0).is_err() {
        ensure!(process.ended().is_none(), "it ended at once");
        ensure!(started.elapsed() < START_LIMIT, "it did not answer within {} s", START_LIMIT.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Origin { port, program: Program::Counting { _process: process } })
}

/// Puts the single files, and the corpus that a case asks for, into `into`.
fn copy(case: &Case, data: &Data, into: &Path) -> Result<()> {
    let copy = |from: PathBuf, to: PathBuf| -> Result<()> {
        fs::copy(&from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        Ok(())
    };
    for (name, _) in FILES {
        copy(data.root.join(name), into.join(name))?;
    }
    let Some(corpus) = case.corpus() else { return Ok(()) };
    let files = data.files(corpus)?;
    for item in &files.items {
        let to = into.join(files.directory).join(&item.name);
        fs::create_dir_all(to.parent().unwrap_or(into))
            .with_context(|| format!("cannot make room for {}", to.display()))?;
        copy(data.path(&files, item), to)?;
    }
    Ok(())
}
