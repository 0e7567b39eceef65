//! The server: where a request comes in, and which plane serves it.
//!
//! * [`listen`]: the sockets.
//! * [`data`]: the data plane, event loops that serve files.
//! * [`control`]: the control plane, which does everything else.
//! * [`shared`]: what all threads share.

pub mod access_log;
pub mod alarm;
pub mod auth;
mod cgroup;
pub mod control;
pub mod data;
pub mod fetcher;
mod follow;
pub mod hosts;
pub mod listen;
pub mod logging;
#[cfg(all(test, feature = "shuttle"))]
mod models;
mod notices;
pub mod readiness;
pub mod shared;
pub mod site;
pub mod systemd;

use crate::arena::heap;
use crate::cache::Cache;
use crate::config::{ServeOptions, Transmit};
use crate::exchange::fallback::Fallback;
use crate::limits;
use crate::metrics::Metrics;
use crate::origin::remote::Passing;
use crate::ring::kernel::{Kind, Token};
use crate::ring::preflight;
use crate::ring::system::System;
use access_log::AccessLog;
use alarm::Alarms;
use anyhow::Context;
use auth::Guard;
use data::worker::Worker;
use readiness::Readiness;
use shared::{Admission, Admitted, Mail, Shared};
use signal_hook::iterator::Signals;
use site::Site;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// A connection that leaves the data plane for good.
pub struct Handoff {
    /// Does not block.
    pub socket: OwnedFd,
    /// What was received and not answered: at least one whole request head.
    pub received: Vec<u8>,
    /// Its place in the count of connections.
    pub admitted: Option<Admitted>,
    /// The origin's answer to the first request, if there is one already.
    pub passing: Option<Arc<Passing>>,
}

/// Serves until a signal says to stop.
///
/// # Errors
/// What keeps the server from starting, or made it stop.
pub fn serve(mut options: ServeOptions) -> anyhow::Result<()> {
    // First of all: it changes the environment, which only a single thread may.
    let inherited = systemd::inherited()?;
    // A write beyond the limit on file sizes then fails with EFBIG, and costs a log line or an upload, not the server.
    heap::keep_no_large_blocks();
    heap::restore();
    signal_hook::flag::register(libc::SIGXFSZ, Arc::default())?;
    let offer = preflight::check()?;
    if options.transmit == Transmit::Zerocopy && !offer.zerocopy {
        eprintln!("forebay: this kernel has no SEND_ZC: --transmit zerocopy sends by copy");
        options.transmit = Transmit::Copy;
    }
    logging::start(options.log);
    fit_memory(&mut options)?;
    let descriptors = raise_descriptor_limit(options.max_connections);
    let (shared, fetches) = open(options, descriptors)?;
    let mut signals = Signals::new([libc::SIGINT, libc::SIGTERM, libc::SIGHUP])?;
    let listening = match inherited.is_empty() {
        true => listen::bind(&shared.options.listen, shared.options.workers)?,
        false => listen::adopt(inherited, &shared.options)?,
    };
    report_connections(&shared);
    eprintln!("forebay: {}", shared.cache.arena().folios().describe());
    sweep(&shared);
    if let Some(remote) = shared.origin.remote() {
        fetcher::spawn(shared.clone(), remote.clone(), fetches)
            .context("cannot start the thread that asks the origin")?;
    }
    let control = control::spawn(shared.clone()).context("cannot start the control plane")?;
    let listen::Listening { sockets, bound, files } = listening;
    let mut workers = Vec::new();
    for (number, sockets) in sockets.into_iter().enumerate() {
        workers.push(spawn_worker(number, shared.clone(), sockets, control.sender())?);
    }
    for address in &bound {
        eprintln!("forebay: serving {} on {address}", shared.options.origin);
    }
    notices::started(&shared, &bound);
    let listening = listen::Listening { sockets: Vec::new(), bound, files };
    let follower = follow::spawn(shared.clone()).context("cannot start the thread that looks at the root")?;
    systemd::notify(systemd::State::Ready);
    while let Some(libc::SIGHUP) = signals.forever().next() {
        shared.access_log.reopen();
        reload_site(&shared);
        notices::reloaded(&shared, shared.guard.reload());
    }
    systemd::notify(systemd::State::Stopping);
    shared.readiness.stop();
    end_at_the_second_signal(signals, listening.files.clone());
    serve_as_lame_duck(&shared);
    let deadline = Instant::now() + shared.options.drain;
    notices::draining(&shared);
    control.shutdown(shared.options.drain);
    for number in 0..workers.len() {
        shared.mail.send(number, Token::new(Kind::Shutdown, 0, 0));
    }
    for worker in workers {
        let _ = worker.join();
    }
    control.join();
    shared.access_log.finish(deadline);
    notices::stopped(&shared);
    drop(follower);
    listen::remove(&listening.files);
    Ok(())
}

/// Removes what earlier uploads have left behind.
fn sweep(shared: &Shared) {
    if let Some(directory) = shared.origin.directory()
        && shared.options.allow_writes
    {
        let swept = directory.sweep();
        tracing::info!("looked for leftovers of earlier uploads: {swept}");
    }
}

/// Goes on as ever for `--lame-duck`, so that balancers notice that the server is not ready any more.
fn serve_as_lame_duck(shared: &Shared) {
    if !shared.options.lame_duck.is_zero() {
        notices::lame(shared);
        std::thread::sleep(shared.options.lame_duck);
    }
}

/// Opens all that the threads share, and the queue of what the fetcher is asked for.
///
/// # Errors
/// What cannot be opened.
fn open(options: ServeOptions, descriptors: usize) -> anyhow::Result<(Arc<Shared>, fetcher::queue::Fetches)> {
    let guard = Guard::open(options.token_file.as_deref(), options.token_reads)?.answering_to(&options.hosts);
    let site = Site::open(&options)?;
    let origin = follow::open(&options).with_context(|| format!("cannot serve {}", options.origin))?;
    let metrics = Metrics::new(options.workers);
    let packed_max = if options.transmit == Transmit::Splice { 0 } else { limits::PACKED_MAX };
    let mail = Arc::new(Mail::new(options.workers)?);
    let cache = Cache::new(
        options.arena_bytes,
        packed_max,
        options.eviction,
        options.miss_cost_bytes,
        limits::OPEN_TIME.min(options.revalidate),
        metrics.shared.clone(),
        mail.clone(),
    )
    .context("cannot make the arena")?;
    let access_log = match &options.access_log {
        None => AccessLog::off(),
        Some(log) => AccessLog::open(log.target.clone(), log.format, metrics.shared.clone())
            .with_context(|| format!("cannot open the access log {}", log.target))?,
    };
    let connections = Admission::new(options.max_connections.min(shared::connections_for(descriptors)));
    let fallback = options.fallback.as_deref().map(Fallback::new);
    let (fetcher, fetches) = fetcher::queue::channel();
    let fetcher = origin.remote().is_some().then_some(fetcher);
    let shared = Arc::new(Shared {
        options,
        origin,
        cache,
        metrics,
        connections,
        mail,
        guard,
        site,
        fallback,
        access_log,
        descriptors,
        alarms: Alarms::default(),
        readiness: Readiness::default(),
        fetcher,
    });
    Ok((shared, fetches))
}

/// Says that the limit on open files allows fewer connections than were wanted.
fn report_connections(shared: &Shared) {
    let Shared { options, descriptors, .. } = shared;
    let connections = options.max_connections.min(shared::connections_for(*descriptors));
    if connections < options.max_connections {
        eprintln!(
            "forebay: {connections} connections at most, not {}: the limit on open files is {descriptors} \
             (ulimit -n, LimitNOFILE=)",
            options.max_connections
        );
    }
}

/// Makes the arena small enough for the memory that the control group may take.
fn fit_memory(options: &mut ServeOptions) -> anyhow::Result<()> {
    let Some(limit) = cgroup::memory_max() else { return Ok(()) };
    let (wanted, others, least) = (options.arena_bytes, limits::OWN_MEMORY_BYTES, limits::ARENA_MIN);
    let arena = cgroup::arena_within(limit, wanted, others, least).map_err(anyhow::Error::msg)?;
    if arena < wanted {
        eprintln!(
            "forebay: an arena of {arena} bytes, not {wanted}: the control group may have {limit} bytes of memory (memory.max, \
             MemoryMax=), and {others} are needed beside it"
        );
        options.arena_bytes = arena;
    }
    Ok(())
}

/// The first signal drains; from now on, one more ends the process at once, with status 1.
fn end_at_the_second_signal(mut signals: Signals, files: Vec<listen::SocketFile>) {
    let wait = move || {
        if signals.forever().any(|signal| signal != libc::SIGHUP) {
            eprintln!("forebay: ended by a second signal; what was still being sent is cut off");
            listen::remove(&files);
            std::process::exit(1);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("signals".into()).spawn(wait) {
        tracing::warn!("a second signal will not end the server before --lame-duck and --drain do: {error}");
    }
}

/// Reads rules and pages again; what is cached is described anew.
fn reload_site(shared: &Shared) {
    if !shared.site.has_files() {
        return;
    }
    match shared.site.reload() {
        Ok(()) => {
            shared.cache.forget_all();
            tracing::info!("SIGHUP: rules and error pages were read again");
        }
        Err(error) => tracing::error!("{error}; rules and pages stay what they were"),
    }
}

/// Starts a worker, and waits until it can be sent messages.
fn spawn_worker(
    number: usize,
    shared: Arc<Shared>,
    sockets: Vec<OwnedFd>,
    control: control::Sender,
) -> anyhow::Result<JoinHandle<()>> {
    let (started, starts) = std::sync::mpsc::channel();
    let body = move || {
        let system = match System::new() {
            Ok(system) => system,
            Err(refusal) => return drop(started.send(Err(refusal))),
        };
        shared.mail.register(number, system.as_raw_fd());
        let hand_over = Box::new(move |handoff| control.hand_off(handoff));
        let mut worker = Worker::new(number, system, shared, sockets, hand_over);
        let _ = started.send(Ok(()));
        // Without a worker, the connections that the kernel gives to its listener would wait for ever.
        match std::panic::catch_unwind(AssertUnwindSafe(|| worker.run())) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                eprintln!("forebay: worker {number} cannot go on: {error}");
                std::process::exit(1);
            }
            Err(_) => {
                eprintln!("forebay: worker {number} cannot go on: a defect of the server (above)");
                std::process::exit(1);
            }
        }
    };
    let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(body)?;
    starts.recv().context("a worker ended before it began")??;
    Ok(thread)
}

/// As many descriptors as the connections and the cache may need, as far as the system lets: beyond the hard limit only
/// who has CAP_SYS_RESOURCE. Returns how many there are.
fn raise_descriptor_limit(connections: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // A connection may have a file of its own, past the cache.
    let wanted = (connections * 2 + limits::OPEN_FILES + limits::OWN_DESCRIPTORS) as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raise = |to: u64| {
        let raised = Rlimit { current: Some(to), maximum: maximum.map(|maximum| maximum.max(to)) };
        setrlimit(Resource::Nofile, raised).map(|()| to)
    };
    let within_the_hard_limit = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let reached = match current {
        Some(current) if current < wanted => {
            raise(wanted).or_else(|_| raise(within_the_hard_limit)).unwrap_or_else(|error| {
                eprintln!("forebay: the limit on open files stays at {current}: {error}");
                current
            })
        }
        _ => wanted,
    };
    reached as usize
}
