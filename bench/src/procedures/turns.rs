//! Runs under load: every server is started and warmed, and then they are run in turns, A B C A B C …

use super::failures;
use crate::{
    data::Files,
    load::{
        self, http,
        job::{Job, Limit, Target},
    },
    measure::{cpu, pagecache},
    origin::Origin,
    peers::{Peer, Role},
    plan::{ACCEPT_ENCODING, Case, HUGE, Load, Loader, Procedure, Setup, Single, What},
    results::{CaseResult, Sample, median},
    session::{Server, Session},
    statics,
};
use anyhow::{Context, Result};
use std::{path::PathBuf, thread, time::Duration};

/// Runs of nginx that tell its peak, for the open loop.
const PEAK_RUNS: u32 = 3;

/// Files of a corpus that the harness compares with the server's answers itself.
const COMPARED: usize = 3;

/// How often each file is compared: as a miss, while it may be on its way into a cache, and as a hit.
const COMPARISONS: usize = 3;

/// Of the files that warm misses ask for in turn: too many for a cache of 64 MiB to have the next one, and few enough
/// (9,216 of 16 KiB) for servers that keep descriptors open to keep all of them under a limit of 20,000.
const WARM_BYTES: u64 = 144 << 20;

/// From so many connections on, memory is looked at in the middle of a run.
const MANY_CONNECTIONS: u32 = 500;

/// Names that are new in each run; more than are asked for in one.
const NEW_NAMES: usize = 100_000;

/// Names asked for more often than others, in proportion to 1/k.
const ZIPF: &str = "zipf:1";

pub fn run(case: &Case, session: &Session, result: &mut CaseResult) -> Result<()> {
    if let (Procedure::Load(load), Some(package)) = (case.procedure, load::wrk_missing())
        && load.loader == Loader::Wrk
    {
        result.skipped = Some(format!("wrk is not installed (Debian package {package})"));
        return Ok(());
    }
    let origin = Origin::of(case, session, &result.placement)?;
    let setup = case.setup(origin.as_ref().map(|origin| origin.port));
    let turns = Turns { case, session, setup, files: files(case, session)? };
    turns.fill_page_cache()?;
    let mut servers = Vec::new();
    for peer in session.taking_part(case) {
        match turns.prepare(peer, result) {
            Ok(server) => servers.push(server),
            Err(error) => result.fail(peer.name(), &error),
        }
    }
    let rate = match case.procedure {
        Procedure::OpenLoop { share, .. } => match turns.peak(&servers, result)? {
            Some(peak) => Some(peak * share),
            None => {
                result.skipped = Some("the rate is a share of nginx's peak, and nginx did not run".into());
                return Ok(());
            }
        },
        _ => None,
    };
    result.rate = rate;
    for round in 1..=session.scale.rounds {
        servers.retain_mut(|server| {
            let run = turns.turn(server, round, rate, result);
            session.record(case, server.peer, run, result)
        });
    }
    Ok(())
}

/// The corpus of a case, if it asks for many files.
fn files(case: &Case, session: &Session) -> Result<Option<Files>> {
    let Some(corpus) = case.corpus() else { return Ok(None) };
    let warm = matches!(case.procedure, Procedure::Load(Load { what: What::Misses(_), .. }));
    let bytes = if warm { WARM_BYTES } else { u64::MAX };
    Ok(Some(session.data.files(corpus)?.first(bytes)))
}

/// A case in progress.
struct Turns<'a> {
    case: &'a Case,
    session: &'a Session,
    setup: Setup,
    files: Option<Files>,
}

impl Turns<'_> {
    /// Reads what is asked for, so that no server has the advantage of being the second.
    fn fill_page_cache(&self) -> Result<()> {
        let mut buffer = vec![0; 1 << 20];
        match (&self.files, self.single()) {
            _ if matches!(self.case.procedure, Procedure::Cold { .. }) => Ok(()),
            (Some(files), _) => files
                .items
                .iter()
                .try_for_each(|item| pagecache::read_file(&self.session.data.path(files, item), &mut buffer)),
            (None, Some(file)) => pagecache::read_file(&self.session.data.root.join(file.name), &mut buffer),
            (None, None) => Ok(()),
        }
    }

    fn single(&self) -> Option<Single> {
        match self.case.procedure {
            Procedure::Load(load) => match load.what {
                What::File(file) => Some(file),
                What::Mix | What::Misses(_) | What::New(_) | What::Site { .. } => None,
            },
            Procedure::OpenLoop { file, .. } => Some(file),
            Procedure::Cold { .. }
            | Procedure::Idle { .. }
            | Procedure::Startup
            | Procedure::Trace
            | Procedure::Waiters { .. } => None,
        }
    }

    /// Starts a server, compares its bytes with the files, and warms it up.
    fn prepare(&self, peer: Peer, result: &mut CaseResult) -> Result<Server> {
        self.session.folios.set(peer.large_folios());
        let server = Server::start(peer, &self.session.site, self.setup, &result.placement.server)?;
        if !result.commands.contains(&server.command) {
            result.commands.push(server.command.clone());
        }
        if self.verify(&server)? {
            result.verified.push(peer.name().into());
        }
        if !matches!(self.case.procedure, Procedure::Cold { .. }) {
            let outcome =
                load::run(&self.job(0, None, result)?, peer, server.port).context("while it was warmed up")?;
            failures::check(peer, &outcome, "while it was warmed up", result)?;
        }
        Ok(server)
    }

    /// Whether there were bytes to compare; an error if they differ.
    fn verify(&self, server: &Server) -> Result<bool> {
        // Key-value stores were read back when they were filled; the bare loop has bodies of its own.
        if server.peer.role() == Role::KeyValue {
            return Ok(true);
        }
        if server.peer == Peer::Floor {
            return Ok(false);
        }
        let named: Vec<(String, PathBuf)> = match (&self.files, self.single()) {
            (Some(files), _) => {
                // From the end: what the load asks for last.
                let compared = if self.case.is_site() { files.items.len() } else { COMPARED };
                let some = files.items.iter().rev().take(compared);
                some.map(|item| (format!("{}/{}", files.directory, item.name), self.session.data.path(files, item)))
                    .collect()
            }
            (None, Some(file)) => vec![(file.name.to_owned(), self.session.data.root.join(file.name))],
            (None, None) => Vec::new(),
        };
        let times = if self.single().is_some_and(|file| file.name == HUGE) { 1 } else { COMPARISONS };
        for (path, file) in named.iter().flat_map(|pair| std::iter::repeat_n(pair, times)) {
            match self.case.wants_variants() && statics::is_text(path) {
                true => http::verify_variant(server.port, path, file)?,
                false => http::verify(server.port, path, file)?,
            }
        }
        Ok(!named.is_empty())
    }

    /// What nginx answers at most.
    fn peak(&self, servers: &[Server], result: &CaseResult) -> Result<Option<f64>> {
        let Some(nginx) = servers.iter().find(|server| server.peer == Peer::Nginx) else { return Ok(None) };
        let mut rates = Vec::new();
        for _ in 0..PEAK_RUNS.min(self.session.scale.rounds) {
            let outcome = load::run(&self.job(0, None, result)?, nginx.peer, nginx.port)?;
            rates.push(outcome.requests as f64 / outcome.seconds);
        }
        Ok(median(&rates))
    }

    /// One run of one server.
    fn turn(&self, server: &mut Server, round: u32, rate: Option<f64>, result: &mut CaseResult) -> Result<Sample> {
        server.check()?;
        self.session.folios.set(server.peer.large_folios());
        let job = self.job(round, rate, result)?;
        if let (Procedure::Cold { .. }, Some(files)) = (self.case.procedure, &self.files) {
            for item in &files.slice(round).items {
                pagecache::drop_file(&self.session.data.path(files, item))?;
            }
        }
        let cores = &result.placement.server;
        let roots = server.roots();
        let before = (cpu::usage(&roots), cpu::busy(cores));
        // Of many connections it is the memory while they are at work that counts.
        let busy =
            (job.connections >= MANY_CONNECTIONS).then(|| Duration::from_secs_f64(self.session.scale.seconds / 2.0));
        let (outcome, held) = thread::scope(|scope| {
            let glance = busy.map(|half| {
                let server = &*server;
                scope.spawn(move || {
                    thread::sleep(half);
                    server.memory()
                })
            });
            let outcome = load::run(&job, server.peer, server.port);
            (outcome, glance.and_then(|glance| glance.join().ok()?))
        });
        let outcome = outcome?;
        let after = (cpu::usage(&roots), cpu::busy(cores));
        server.check()?;
        if outcome.failures > 0 {
            result.fail(server.peer.name(), &failures::error(&outcome, &format!("of round {round}")));
        }
        Ok(Sample {
            peer: server.peer.name().into(),
            round,
            outcome: Some(outcome),
            server_cpu_seconds: Some(after.0.cpu_seconds - before.0.cpu_seconds),
            server_cores_busy_seconds: Some(after.1.busy_seconds - before.1.busy_seconds),
            steal_seconds: Some(after.1.steal_seconds - before.1.steal_seconds),
            storage_read_bytes: Some(after.0.storage_read_bytes.saturating_sub(before.0.storage_read_bytes)),
            memory: held.or_else(|| server.memory()),
            ..Sample::default()
        })
    }

    /// The load of one round; round 0 warms up, and has every byte of a corpus checked.
    fn job<'b>(&'b self, round: u32, rate: Option<f64>, result: &'b CaseResult) -> Result<Job<'b>> {
        let scale = &self.session.scale;
        let seconds = if round == 0 { scale.warmup_seconds } else { scale.seconds };
        let mut limit = Limit::Seconds(seconds);
        let (mut pipeline, mut loader, mut new) = (1, Loader::Loadgen, false);
        let (target, connections) = match self.case.procedure {
            Procedure::Load(load) => {
                (pipeline, loader) = (load.pipeline, load.loader);
                let target = match load.what {
                    What::File(file) => Target::File(file),
                    What::Site { .. } => self.list(|files| files.clone(), "sequential")?,
                    What::Mix => self.list(|files| files.clone(), ZIPF)?,
                    What::New(_) => {
                        new = true;
                        self.list(|files| files.asked_anew(round, NEW_NAMES), "sequential")?
                    }
                    What::Misses(_) => self.list(|files| files.rotated(round, scale.rounds + 1), "sequential")?,
                };
                (target, load.connections)
            }
            Procedure::OpenLoop { file, connections, .. } => (Target::File(file), connections),
            Procedure::Cold { connections, .. } => {
                let slice = |files: &Files| files.slice(round);
                limit = Limit::Requests(self.files.as_ref().map_or(1, |files| slice(files).items.len() as u64));
                (self.list(slice, "sequential")?, connections)
            }
            Procedure::Idle { .. } | Procedure::Startup | Procedure::Trace | Procedure::Waiters { .. } => {
                anyhow::bail!("{} has no load", self.case.name)
            }
        };
        Ok(Job {
            target,
            connections,
            pipeline,
            limit,
            rate,
            loader,
            accept_encoding: self.case.wants_variants().then_some(ACCEPT_ENCODING),
            // The load generator knows the bytes of what it made itself, by their names; those of a site are compared
            // before, and so are some of those that have a query.
            verify: round == 0 && !new && !self.case.is_site(),
            loadgen: &self.session.site.own.loadgen,
            root: &self.session.data.root,
            placement: &result.placement,
            state: &self.session.site.state,
        })
    }

    /// Some files of the corpus as a list.
    fn list(&self, choose: impl Fn(&Files) -> Files, popularity: &'static str) -> Result<Target> {
        let files = self.files.as_ref().context("a list of no corpus")?;
        let list = self.session.site.state.join("names");
        choose(files).write_list(&list)?;
        Ok(Target::List { directory: files.directory, list, popularity })
    }
}
