//! The event loop on a simulated kernel: whatever happens in whatever order, every client gets the bytes of one version
//! of what it asked for, in the order in which it asked, or an end that it cannot take for a whole answer; and nothing
//! is left behind.

mod exchanged_root;

use super::worker::Worker;
use crate::cache::Cache;
use crate::config::{ServeOptions, Source, Transmit};
use crate::limits;
use crate::metrics::Metrics;
use crate::metrics::counter::Read;
use crate::metrics::labels::{Fill as Step, Timeout};
use crate::origin::{Directory, Origin, Policy};
use crate::ring::kernel::{Kind, Token};
use crate::ring::simulated::{Dice, Simulated, World};
use crate::server::access_log::AccessLog;
use crate::server::alarm::Alarms;
use crate::server::auth::Guard;
use crate::server::readiness::Readiness;
use crate::server::shared::{Admission, Mail, Shared};
use crate::server::site::Site;
use crate::units;
use crate::wake::Waiter;
use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

thread_local! {
    /// What the origin takes for the time. A test that exchanges the root sets it to that of its world.
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// With files that are sent from the page cache as soon as they are written, or not.
fn options(root: &Path, transmit: Transmit, arena_bytes: u64, settled: &str) -> ServeOptions {
    let settled = units::duration(Duration::ZERO, Duration::MAX)(settled).unwrap();
    let (workers, read_chunk_bytes) = (1, 16 << 10);
    ServeOptions {
        origin: Source::Directory(root.into()),
        workers,
        arena_bytes,
        transmit,
        read_chunk_bytes,
        settled,
        ..ServeOptions::default()
    }
}

/// Sizes around every boundary there is, and one that exceeds the arena.
const SIZES: [usize; 14] =
    [0, 1, 100, 4096, 8000, 12_288, 12_289, 16_384, 65_535, 65_536, 70_000, 200_000, 600_000, 1_500_000];

/// The content of a file's version: every eight bytes say which file, which version, and where.
fn content(file: usize, version: u8) -> Vec<u8> {
    let word = |at: usize| ((file as u64) << 56 | u64::from(version) << 48 | at as u64).to_be_bytes();
    (0..SIZES[file].div_ceil(8)).flat_map(word).take(SIZES[file]).collect()
}

fn write_version(root: &Path, file: usize, version: u8) {
    let staged = root.join("staged");
    std::fs::write(&staged, content(file, version)).unwrap();
    std::fs::rename(staged, root.join(format!("f{file}"))).unwrap();
}

/// One request that a client sent, to check its answer by.
#[derive(Clone, Copy)]
struct Asked {
    file: Option<usize>,
    head: bool,
    range: Option<(usize, usize)>,
}

struct Client {
    fd: RawFd,
    asked: Vec<Asked>,
    /// It ends its own connection without waiting.
    impatient: bool,
}

impl Client {
    fn connect(world: &Rc<RefCell<World>>, dice: &mut Dice) -> Client {
        let mut world = world.borrow_mut();
        let fd = world.connect();
        let mut asked = Vec::new();
        for _ in 0..1 + dice.below(12) {
            let file = (!dice.one_in(10)).then(|| dice.below(SIZES.len()));
            let head = dice.one_in(8);
            let range = file.filter(|&file| !head && dice.one_in(5) && SIZES[file] > 0).map(|file| {
                let from = dice.below(SIZES[file]);
                (from, from + 1 + dice.below(SIZES[file] - from))
            });
            let method = if head { "HEAD" } else { "GET" };
            let name = file.map_or("nope".into(), |file| format!("f{file}"));
            let mut text = format!("{method} /{name} HTTP/1.1\r\nHost: s\r\n");
            if let Some((from, to)) = range {
                text += &format!("Range: bytes={from}-{}\r\n", to - 1);
            }
            text += "\r\n";
            world.sockets.get_mut(&fd).unwrap().to_server.extend(text.into_bytes());
            asked.push(Asked { file, head, range });
        }
        Client { fd, asked, impatient: dice.one_in(6) }
    }

    /// How many answers are whole, by their lengths alone.
    fn count_whole(&self, mut bytes: &[u8]) -> usize {
        for (number, asked) in self.asked.iter().enumerate() {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return number };
            let head = std::str::from_utf8(&bytes[..end]).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            let length: usize = if asked.head { 0 } else { length.parse().unwrap() };
            match bytes.get(end + 4 + length..) {
                Some(rest) => bytes = rest,
                None => return number,
            }
        }
        self.asked.len()
    }

    /// Checks what was read against what was asked; returns how many answers were whole.
    fn check(&self, mut bytes: &[u8], versions: u8) -> usize {
        for (number, asked) in self.asked.iter().enumerate() {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return number };
            let head = std::str::from_utf8(&bytes[..end]).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            let length: usize = if asked.head { 0 } else { length.parse().unwrap() };
            bytes = &bytes[end + 4..];
            let body = &bytes[..length.min(bytes.len())];
            match (asked.file, asked.range) {
                (None, _) => assert!(head.starts_with("HTTP/1.1 404 "), "{head}"),
                (Some(file), range) => {
                    let status = if range.is_some() { "206" } else { "200" };
                    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
                    let (from, to) = range.unwrap_or((0, SIZES[file]));
                    assert!(asked.head || length == to - from, "{head}");
                    let is_version = |version| content(file, version)[from..].starts_with(body);
                    assert!((0..versions).any(is_version), "f{file} {from}..{to}: bytes of no one version\n{head}");
                }
            }
            if body.len() < length {
                return number;
            }
            bytes = &bytes[length..];
        }
        assert!(bytes.is_empty(), "more was sent than was asked for");
        self.asked.len()
    }
}

/// The directory to serve.
fn simulated_origin(options: &ServeOptions) -> Origin {
    let Source::Directory(root) = &options.origin else { panic!("a directory is simulated") };
    Origin::Directory(Directory::open(root, Policy::default(), || NOW.get()).unwrap())
}

/// The first of two workers, on a simulated kernel, and the world around it.
fn simulate(seed: u64, options: ServeOptions) -> (Worker<Simulated>, Rc<RefCell<World>>) {
    let metrics = Metrics::new(2);
    let packed_max = if options.transmit == Transmit::Splice { 0 } else { limits::PACKED_MAX };
    let evictions = metrics.shared.clone();
    let (bytes, cost) = (options.arena_bytes, options.miss_cost_bytes);
    let mail = Arc::new(Mail::new(2).unwrap());
    let cache =
        Cache::new(bytes, packed_max, options.eviction, cost, options.revalidate, evictions, mail.clone()).unwrap();
    let origin = simulated_origin(&options);
    let connections = Admission::new(options.max_connections);
    let guard = Guard::open(None, false).unwrap();
    let access_log = AccessLog::off();
    let descriptors = limits::OWN_DESCRIPTORS * 4 / 3 + 8;
    let shared = Arc::new(Shared {
        options,
        origin,
        cache,
        metrics,
        connections,
        mail,
        guard,
        site: Site::default(),
        fallback: None,
        access_log,
        descriptors,
        alarms: Alarms::default(),
        readiness: Readiness::default(),
        fetcher: None,
    });
    let world = World::new(seed);
    let kernel = Simulated(world.clone());
    let listener = std::fs::File::open("/dev/null").unwrap().into();
    (Worker::new(0, kernel, shared, vec![listener], Box::new(|_| panic!("no control plane here"))), world)
}

/// A simulated worker with one connection, whose completions come when the test says.
struct Directed {
    worker: Worker<Simulated>,
    world: Rc<RefCell<World>>,
    fd: RawFd,
    /// What was received of connections that were handed over.
    handed_over: std::sync::mpsc::Receiver<Vec<u8>>,
    root: tempfile::TempDir,
}

impl Directed {
    fn new() -> Directed {
        let root = tempfile::tempdir().unwrap();
        let (mut worker, world) = simulate(1, options(root.path(), Transmit::Auto, 1 << 20, "5s"));
        let (sender, handed_over) = std::sync::mpsc::channel();
        worker.hand_over = Box::new(move |handoff| sender.send(handoff.received).unwrap());
        worker.start().unwrap();
        worker.turn(&mut Vec::new()).unwrap();
        let fd = world.borrow_mut().connect();
        let accepted = world.borrow_mut().accepted();
        worker.complete(&accepted).unwrap();
        Directed { worker, world, fd, handed_over, root }
    }

    fn receive(&mut self, bytes: &str) {
        let received = self.world.borrow_mut().received(self.fd, bytes.as_bytes());
        self.worker.complete(&received).unwrap();
    }

    fn tick(&mut self) {
        let ticked = self.world.borrow_mut().ticked();
        self.worker.complete(&ticked).unwrap();
    }

    fn pass(&mut self, time: Duration) {
        self.worker.io.now += time.as_nanos() as u64;
        self.world.borrow_mut().clock = self.worker.io.now;
    }

    /// Lets everything happen that is under way. Returns what the client has read, and what was received of the
    /// connection if it was handed over.
    fn settle(mut self) -> (String, Option<Vec<u8>>) {
        let mut completions = Vec::new();
        for _ in 0..1000 {
            self.worker.turn(&mut completions).unwrap();
        }
        let world = self.world.borrow();
        (String::from_utf8(world.sockets[&self.fd].read.clone()).unwrap(), self.handed_over.try_recv().ok())
    }
}

/// Whoever joins a fill on slow storage is told of a failure only if its name was looked up lately enough: there may be
/// a file by now.
#[test]
fn a_failure_from_before_the_request_is_not_told() {
    const GET: &str = "GET /new HTTP/1.1\r\nHost: a\r\n\r\n";
    for errno in [libc::ENOENT, libc::EACCES, libc::EIO, libc::ENOTDIR] {
        for is_late in [false, true] {
            let mut directed = Directed::new();
            directed.receive(GET);
            let revalidate = directed.worker.io.shared.options.revalidate;
            directed.pass(revalidate);
            if is_late {
                directed.pass(Duration::from_nanos(1));
            }
            std::fs::write(directed.root.path().join("new"), "new").unwrap();
            let second = directed.world.borrow_mut().connect();
            let accepted = directed.world.borrow_mut().accepted();
            directed.worker.complete(&accepted).unwrap();
            let received = directed.world.borrow_mut().received(second, GET.as_bytes());
            directed.worker.complete(&received).unwrap();
            let failed = directed.world.borrow_mut().not_opened(errno);
            directed.worker.complete(&failed).unwrap();
            let world = directed.world.clone();
            let (first, _) = directed.settle();
            let second = String::from_utf8(world.borrow().sockets[&second].read.clone()).unwrap();
            assert!(!first.contains(" 200 "), "{first}");
            assert_eq!(second.contains(" 200 "), is_late, "errno {errno}: {second}");
        }
    }
}

const PUT: &str = "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

/// The deadline of a head does not outlive it: one that is completed at the tick that would time it out is answered
/// once.
#[test]
fn a_head_that_is_whole_is_not_timed_out() {
    // The connection leaves for the control plane; before that, a response of another request is on its way or not.
    for before in ["", "GET /.. HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut directed = Directed::new();
        let requests = format!("{before}{PUT}");
        let (begin, rest) = requests.split_at(2);
        directed.receive(begin);
        directed.pass(directed.worker.io.shared.options.header_timeout);
        directed.receive(rest);
        directed.tick();
        let (read, handed_over) = directed.settle();
        assert_eq!(read.matches("HTTP/1.1 ").count(), before.matches("GET").count(), "{read}");
        assert!(!read.contains("408"), "{read}");
        assert_eq!(handed_over.as_deref(), Some(PUT.as_bytes()));
    }
}

/// A client that always has half a head outstanding, and completes it in time, is never timed out.
#[test]
fn each_head_has_its_own_time() {
    let mut directed = Directed::new();
    directed.receive("GE");
    for _ in 0..10 {
        directed.pass(directed.worker.io.shared.options.header_timeout / 2);
        directed.receive("T /.. HTTP/1.1\r\nHost: a\r\n\r\nGE");
        // The response leaves.
        (0..4).for_each(|_| directed.worker.turn(&mut Vec::new()).unwrap());
        directed.tick();
    }
    assert_eq!(directed.worker.io.metrics.timeouts[Timeout::Head].get(), 0);
    directed.pass(directed.worker.io.shared.options.header_timeout);
    directed.tick();
    assert_eq!(directed.worker.io.metrics.timeouts[Timeout::Head].get(), 1);
}

/// Tells the worker to end, and has it come to its end with nothing left.
fn end(worker: &mut Worker<Simulated>, world: &Rc<RefCell<World>>, what: &str) {
    let mut completions = Vec::new();
    world.borrow_mut().tell(Kind::Shutdown);
    for _ in 0..10_000 {
        if worker.is_finished() {
            break;
        }
        worker.turn(&mut completions).unwrap();
    }
    assert!(worker.is_finished(), "{what}: connections are left");
    assert_eq!(worker.io.shared.connections.open(), 0);
    for _ in 0..1000 {
        worker.turn(&mut completions).unwrap();
    }
    assert!(worker.fetches.is_empty() && worker.checks.is_empty() && worker.connections.pool.has_all_back(), "{what}");
}

/// Returns how many files were cached without being read.
fn run(seed: u64, transmit: Transmit) -> u64 {
    let root = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(seed ^ 0xABCD);
    (0..SIZES.len()).for_each(|file| write_version(root.path(), file, 0));
    let settled = if dice.one_in(2) { "0s" } else { "1h" };
    let arena = if dice.one_in(2) { 1 << 20 } else { 256 << 10 };
    let (mut worker, world) = simulate(seed, options(root.path(), transmit, arena, settled));
    let shared = worker.io.shared.clone();
    worker.start().unwrap();

    let mut clients: Vec<Client> = Vec::new();
    let mut versions = 1;
    let mut completions = Vec::new();
    for _ in 0..2_000_000 {
        if clients.len() < 8 && dice.one_in(4) {
            clients.push(Client::connect(&world, &mut dice));
        }
        if versions < 4 && dice.one_in(150) {
            let file = dice.below(SIZES.len());
            write_version(root.path(), file, versions);
            versions += 1;
        }
        worker.turn(&mut completions).unwrap();
        let resident = shared.cache.arena().physical_bytes().unwrap();
        assert!(resident <= shared.options.arena_bytes, "{resident} bytes are resident");
        let mut all_over = clients.len() == 8;
        for client in &mut clients {
            let mut world = world.borrow_mut();
            let give_up = client.impatient && world.dice.one_in(60);
            let socket = world.sockets.get_mut(&client.fd).unwrap();
            if give_up && !socket.client_done {
                socket.reset = seed.is_multiple_of(2);
                socket.client_done = true;
            }
            let answered = client.count_whole(&socket.read) == client.asked.len();
            if answered {
                socket.client_done = true;
            }
            all_over &= answered || socket.reset || socket.is_over();
        }
        if all_over {
            break;
        }
    }
    for client in &clients {
        let world = world.borrow();
        let socket = &world.sockets[&client.fd];
        let whole = client.check(&socket.read, versions);
        // Whoever stays gets all answers, unless a file that was being streamed changed under it (none does here).
        assert!(
            client.impatient || whole == client.asked.len(),
            "seed {seed}: {whole} of {} answers",
            client.asked.len()
        );
    }
    end(&mut worker, &world, &format!("seed {seed}"));
    let taken: usize = world.borrow().sockets.values().map(|socket| socket.read.len() + socket.in_transit.len()).sum();
    let counted = shared.metrics.sum(|thread| thread.bytes_sent.get());
    assert_eq!(counted, taken as u64, "seed {seed}: what was sent is counted");
    let snapshot = shared.cache.snapshot(0);
    assert_eq!(snapshot.leased_bytes, 0, "seed {seed}: a lease is left");
    shared.metrics.sum(|thread| thread.fills[Step::Deferred].get())
}

#[test]
fn every_order_of_events_gives_every_client_its_bytes() {
    let modes = [Transmit::Auto, Transmit::Copy, Transmit::Splice, Transmit::Zerocopy];
    let deferred: u64 = (0..40).map(|seed| run(seed, modes[seed as usize % modes.len()])).sum();
    assert!(deferred > 0, "no file was cached without being read");
}

/// Those of another worker that wait for a fill of this one are woken, also if the kernel is short of memory at first,
/// and if this is the last that this worker does.
#[test]
fn messages_to_other_workers_are_delivered_before_the_end() {
    let root = tempfile::tempdir().unwrap();
    for seed in 0..8 {
        let (mut worker, world) = simulate(seed, options(root.path(), Transmit::Auto, 1 << 20, "5s"));
        worker.io.shared.mail.register(1, 77);
        worker.start().unwrap();
        let tokens: Vec<Token> = (0..10).map(|index| Token::new(Kind::Wake, 1, index)).collect();
        let mut completions = Vec::new();
        world.borrow_mut().tell(Kind::Shutdown);
        while !worker.io.is_draining() {
            worker.turn(&mut completions).unwrap();
        }
        assert!(worker.is_finished());
        let waiter = |token: &Token| Waiter::Ring { worker: 1, message: token.pack() };
        worker.io.wake(tokens.iter().map(waiter).collect()).unwrap();
        for _ in 0..100_000 {
            if worker.is_finished() {
                break;
            }
            worker.turn(&mut completions).unwrap();
        }
        let mut delivered = world.borrow().delivered.clone();
        delivered.sort_by_key(|(_, token)| token.index);
        assert_eq!(delivered, tokens.iter().map(|&token| (77, token)).collect::<Vec<_>>(), "seed {seed}");
    }
}

/// A message that the kernel would not deliver is found by the next tick: here the one that ends the worker.
#[test]
fn a_message_that_was_missed_is_found_by_the_next_tick() {
    let root = tempfile::tempdir().unwrap();
    let (mut worker, _world) = simulate(1, options(root.path(), Transmit::Auto, 1 << 20, "5s"));
    let no_ring = std::fs::File::open("/dev/null").unwrap();
    worker.io.shared.mail.register(0, std::os::fd::AsRawFd::as_raw_fd(&no_ring));
    worker.start().unwrap();
    worker.io.shared.mail.send(0, Token::new(Kind::Shutdown, 0, 0));
    let mut completions = Vec::new();
    for _ in 0..100_000 {
        if worker.is_finished() {
            return;
        }
        worker.turn(&mut completions).unwrap();
    }
    panic!("the worker does not end");
}
