//! Whole servers in a simulated machine: workers, clients, writers and a stand-in for the control plane, in one thread
//! and from one seed. Whatever happens in whatever order, every client gets the bytes of one version of what it asked
//! for, in the order in which it asked, or an end that it cannot take for a whole answer; nobody waits for nothing; and
//! nothing is left behind.
//!
//! A finding is a panic: of the server, or of those who judge it.

mod client;
mod control;
mod judge;
#[cfg(feature = "simulation")]
pub mod program;
mod request;
pub mod scenario;
mod writer;

use super::worker::Worker;
use crate::cache::Cache;
use crate::config::{ServeOptions, Source};
use crate::limits;
use crate::metrics::Metrics;
use crate::origin::{Directory, Origin, Policy};
use crate::ring::kernel::{Kind, Token};
use crate::ring::notifier::Notifier;
use crate::ring::world::disk::Disk;
use crate::ring::world::{Dice, Fault, Port, World};
use crate::server::Handoff;
use crate::server::access_log::AccessLog;
use crate::server::alarm::Alarms;
use crate::server::auth::Guard;
use crate::server::readiness::Readiness;
use crate::server::shared::{Admission, Mail, Shared};
use crate::server::site::Site;
use client::Client;
use control::Control;
use judge::Judge;
use parking_lot::Mutex;
use scenario::Scenario;
use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use writer::Writers;

/// What a run was like.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub completions: u64,
    pub answers: u64,
    pub connections: u64,
}

/// Messages of threads without a ring that are on their way.
#[derive(Default)]
struct Outbox {
    messages: Vec<(RawFd, Token)>,
    refuses: bool,
}

/// A server, and what is around it.
struct Simulation<'a> {
    scenario: &'a Scenario,
    world: Rc<RefCell<World>>,
    dice: Dice,
    shared: Arc<Shared>,
    workers: Vec<Worker<Port>>,
    outbox: Arc<Mutex<Outbox>>,
    handed_over: Receiver<Handoff>,
    control: Control,
    writers: Writers,
    clients: Vec<Client>,
    connected: usize,
    is_draining: bool,
    /// Until when the server may be behind for reasons of its own machine.
    excused_until: u64,
    turns: u64,
    tally: Tally,
    batch: Vec<crate::ring::Completion>,
}

const SECOND: u64 = 1_000_000_000;

/// How long a client that behaves waits at most for anything: several slow reads of the storage, one after the other.
const PATIENCE: u64 = 8 * SECOND;

/// How long a connection lasts that nothing happens on: the longest deadline, twice.
const LIFETIME: u64 = 12 * SECOND;

/// How long the connection of a client that has gone lasts at most, once that was noticed: less than the deadlines of
/// those that idle.
const AFTERLIFE: u64 = 4 * SECOND;

/// Steps of one server at most: no run needs a tenth of that.
const TURNS_MAX: u64 = 2_000_000;

/// What all threads of a server share, over this mail.
pub fn share(options: ServeOptions, mail: Mail, clock: fn() -> u64, packed_max: u64) -> Arc<Shared> {
    let metrics = Metrics::new(options.workers);
    let mail = Arc::new(mail);
    let (bytes, cost, stats) = (options.arena_bytes, options.miss_cost_bytes, metrics.shared.clone());
    let cache = Cache::new(bytes, packed_max, options.eviction, cost, options.revalidate, stats, mail.clone());
    let cache = cache.expect("an arena");
    let Source::Directory(root) = &options.origin else { panic!("a directory is simulated") };
    let origin = Origin::Directory(Directory::open(root, Policy::default(), clock).expect("a root"));
    Arc::new(Shared {
        connections: Admission::new(options.max_connections),
        guard: Guard::open(None, false).expect("no token is asked for"),
        origin,
        cache,
        metrics,
        mail,
        options,
        site: Site::default(),
        fallback: None,
        fetcher: None,
        access_log: AccessLog::off(),
        descriptors: limits::OWN_DESCRIPTORS * 4 / 3 + 8,
        alarms: Alarms::default(),
        readiness: Readiness::default(),
    })
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario, world: Rc<RefCell<World>>, seed: u64) -> Simulation<'a> {
        let outbox = Arc::<Mutex<Outbox>>::default();
        let sent = outbox.clone();
        let notifier = Notifier::simulated(Box::new(move |ring, token| {
            let mut outbox = sent.lock();
            if outbox.refuses {
                return Err(io::Error::from_raw_os_error(libc::ENOMEM));
            }
            outbox.messages.push((ring, token));
            Ok(())
        }));
        let mail = Mail::over(notifier, scenario.workers);
        let options = scenario.options(std::path::Path::new("/"));
        let packed_max = if seed.is_multiple_of(3) { 0 } else { limits::PACKED_MAX };
        let shared = share(options, mail, || 0, packed_max);
        let (sender, handed_over) = channel();
        let workers = (0..scenario.workers).map(|number| {
            shared.mail.register(number, World::ring_of(number));
            let listener = std::fs::File::open("/dev/null").expect("/dev/null opens").into();
            let sender = sender.clone();
            let hand_over = Box::new(move |handoff| drop(sender.send(handoff)));
            Worker::new(number, Port::new(world.clone(), number), shared.clone(), vec![listener], hand_over)
        });
        let workers: Vec<Worker<Port>> = workers.collect();
        Simulation {
            scenario,
            world,
            dice: Dice::new(seed ^ 0xABCD),
            control: Control::new(shared.clone()),
            shared,
            workers,
            outbox,
            handed_over,
            writers: Writers::default(),
            clients: Vec::new(),
            connected: 0,
            is_draining: false,
            excused_until: 0,
            turns: 0,
            tally: Tally::default(),
            batch: Vec::new(),
        }
    }

    fn run(&mut self) {
        for worker in &mut self.workers {
            worker.start().expect("it starts");
        }
        let drains_at = self.dice.below(self.scenario.clients);
        let mut quiet = 0;
        while self.connected < self.scenario.clients || !self.clients.is_empty() {
            let moved = self.step();
            if self.scenario.load.drains && self.connected >= drains_at {
                break;
            }
            quiet = if moved { 0 } else { quiet + 1 };
            if quiet > 2 * self.workers.len() {
                self.skip();
            }
        }
        if self.clients.is_empty() {
            self.let_deadlines_pass();
        }
        self.drain();
        self.check_end();
    }

    /// One of all things that may happen; whether anything did.
    fn step(&mut self) -> bool {
        self.turns += 1;
        assert!(
            self.turns < TURNS_MAX,
            "the run does not end: {} clients, {} connections",
            self.clients.len(),
            self.shared.connections.open()
        );
        let mut moved = false;
        if self.connected < self.scenario.clients
            && self.clients.len() < self.scenario.at_once
            && !self.is_draining
            && self.dice.one_in(3)
        {
            let client = Client::connect(&mut self.world.borrow_mut(), self.scenario, &mut self.dice);
            self.clients.push(client);
            self.connected += 1;
            moved = true;
        }
        moved |= self.turn_of_a_worker();
        self.writers.step(&mut self.world.borrow_mut(), self.scenario);
        moved |= self.act();
        moved |= self.serve_control();
        self.deliver_mail();
        let time = self.dice.below(60_000) as u64;
        self.world.borrow_mut().pass(time);
        if self.turns.is_multiple_of(64) {
            self.check_waits();
        }
        moved
    }

    fn turn_of_a_worker(&mut self) -> bool {
        let number = self.dice.below(self.workers.len());
        {
            let world = &mut *self.world.borrow_mut();
            if world.is_stopped(number) {
                world.go_on_without(number);
                return false;
            }
            if world.faults.has(Fault::Stops) && self.dice.one_in(400) {
                let most = if self.dice.one_in(5) { 4_000_000_000 } else { 50_000_000 };
                let time = self.dice.below(most) as u64;
                world.stop(number, time);
                self.excused_until = self.excused_until.max(world.clock + time);
                return false;
            }
        }
        let worker = &mut self.workers[number];
        if worker.is_finished() {
            self.world.borrow_mut().end(number);
            return false;
        }
        worker.turn(&mut self.batch).expect("the ring works");
        if self.turns.is_multiple_of(8) {
            let resident = self.shared.cache.arena().physical_bytes().expect("fstat");
            assert!(resident <= self.scenario.arena_bytes, "{resident} bytes are resident");
        }
        !self.batch.is_empty()
    }

    fn act(&mut self) -> bool {
        if self.clients.is_empty() {
            return false;
        }
        let judge = Judge { scenario: self.scenario, is_draining: self.is_draining };
        let mut moved = false;
        for _ in 0..2 {
            let at = self.dice.below(self.clients.len());
            let client = &mut self.clients[at];
            let before = client.answered;
            moved |= client.act(&mut self.world.borrow_mut(), &judge);
            self.tally.answers += (client.answered - before) as u64;
            if client.is_done {
                self.clients.swap_remove(at);
                self.tally.connections += 1;
                moved = true;
                break;
            }
        }
        moved
    }

    fn serve_control(&mut self) -> bool {
        let mut moved = false;
        while let Ok(handoff) = self.handed_over.try_recv() {
            self.control.take(handoff, &self.world.borrow());
            moved = true;
        }
        moved | self.control.step(&mut self.world.borrow_mut())
    }

    fn deliver_mail(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let mut outbox = self.outbox.lock();
        outbox.refuses = world.faults.has(Fault::LostWakeUps) && self.dice.one_in(2);
        for (ring, token) in outbox.messages.drain(..) {
            world.tell((ring - World::ring_of(0)) as usize, token);
        }
    }

    /// Nothing is ready: the time of the next event comes.
    fn skip(&mut self) {
        self.check_resets();
        let world = &mut *self.world.borrow_mut();
        let is_quiet = (0..self.workers.len()).all(|number| world.is_quiet(number));
        let next = world.next_tick().max(world.clock + 1000);
        let time = if is_quiet { next - world.clock } else { 1_000_000 };
        world.pass(time);
    }

    /// Nobody waits for what nobody brings, and no connection outlives its deadlines.
    fn check_waits(&mut self) {
        let world = self.world.borrow();
        for client in &self.clients {
            let socket = &world.sockets[client.socket as usize];
            let since = world.clock.saturating_sub(socket.progress.max(self.excused_until));
            if client.waits(socket) && !client.is_gone(socket) {
                assert!(
                    since < PATIENCE,
                    "a client waits for what nobody brings: {:?}",
                    client.asked.get(client.answered)
                );
            }
            let is_control = socket.is_handed_over;
            let was_accepted = socket.received > 0;
            if was_accepted && !is_control && !socket.closed && !client.is_gone(socket) {
                assert!(
                    since < LIFETIME,
                    "a connection outlives its deadlines: {:?}",
                    client.asked.get(client.answered)
                );
            }
        }
    }

    /// Whoever has gone leaves nothing behind for the deadlines.
    fn check_resets(&self) {
        let world = self.world.borrow();
        for socket in world.sockets.iter().filter(|socket| !socket.closed && !socket.is_handed_over) {
            if let Some(noticed) = socket.noticed_reset {
                let since = world.clock.saturating_sub(noticed.max(self.excused_until));
                assert!(since < AFTERLIFE, "the connection of a client that has gone is kept");
            }
        }
    }

    /// All clients have gone or stand still: each connection ends by itself.
    fn let_deadlines_pass(&mut self) {
        let until = self.world.borrow().clock + 2 * LIFETIME;
        while self.world.borrow().clock < until && self.shared.connections.open() > self.control.open() {
            if !self.step() {
                self.skip();
            }
        }
        let open = self.shared.connections.open() - self.control.open();
        assert_eq!(open, 0, "connections are left after all deadlines");
    }

    fn drain(&mut self) {
        self.is_draining = true;
        let began = {
            let world = &mut *self.world.borrow_mut();
            (0..self.workers.len()).for_each(|worker| world.tell(worker, Token::new(Kind::Shutdown, 0, 0)));
            world.clock
        };
        let limit = self.scenario.options("/".as_ref()).drain.as_nanos() as u64 + 2 * SECOND;
        while !self.workers.iter().all(Worker::is_finished) {
            if !self.step() {
                self.skip();
            }
            let clock = self.world.borrow().clock;
            assert!(clock < began.max(self.excused_until) + limit, "a worker does not end");
        }
        self.control.end(&mut self.world.borrow_mut(), true);
        while let Ok(handoff) = self.handed_over.try_recv() {
            drop(handoff);
        }
    }

    /// Nothing is left behind.
    fn check_end(&mut self) {
        // What was under way in the storage when time ran out comes back.
        for _ in 0..2000 {
            if self.workers.iter().all(Worker::holds_nothing) && self.world.borrow().accesses() == 0 {
                break;
            }
            self.world.borrow_mut().pass(20_000_000);
            for worker in &mut self.workers {
                worker.turn(&mut self.batch).expect("the ring works");
            }
            self.deliver_mail();
        }
        for worker in &self.workers {
            assert!(worker.holds_nothing(), "a fill, a check or a send is left");
        }
        assert_eq!(self.shared.connections.open(), 0, "a place among the connections is not given back");
        drop(self.shared.mail.take_delegated());
        let snapshot = self.shared.cache.snapshot(0);
        assert_eq!(snapshot.leased_bytes, 0, "a lease is left");
        let handed: u64 = self.world.borrow().sockets.iter().map(|socket| socket.handed_by_workers()).sum();
        let counted: u64 = self.shared.metrics.sum(|thread| crate::metrics::counter::Read::get(&thread.bytes_sent));
        assert_eq!(counted, handed, "what was sent is counted");
    }
}

/// Runs a scenario to its end.
///
/// # Panics
/// With what was found.
pub fn run(scenario: &Scenario) -> Tally {
    let disk = Disk::new(&scenario.sizes, scenario.stamps, scenario.foreign_clock);
    let world = World::new(scenario.seed, scenario.workers, scenario.faults, disk);
    crate::machine::simulate(Some(world.borrow().machine()));
    let mut tally = Tally::default();
    for server in 0..scenario.servers {
        world.borrow_mut().restart(scenario.workers);
        let mut simulation = Simulation::new(scenario, world.clone(), scenario.seed.wrapping_add(server as u64 * 77));
        simulation.run();
        tally.answers += simulation.tally.answers;
        tally.connections += simulation.tally.connections;
        drop(simulation);
        let left = world.borrow().disk.borrow().left_open();
        assert_eq!(left, 0, "descriptors are left open");
    }
    tally.completions = world.borrow().completions;
    crate::machine::simulate(None);
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_servers_keep_their_promises() {
        // The last one is of a finding that nothing else showed.
        for seed in (0..12).chain([930]) {
            run(&Scenario::of(seed));
        }
    }

    /// The machinery sees what it is for: one defect of each kind of oracle, by seeds that are known to show it.
    #[test]
    fn planted_defects_are_found() {
        use crate::planted::{Defect, plant};
        use std::panic::{AssertUnwindSafe, catch_unwind};
        let defects = [
            Defect::FillUncompared,
            Defect::WaitersUntold,
            Defect::PlaceKept,
            Defect::ShortReadWhole,
            Defect::CheckLeavesFileOpen,
            Defect::BudgetBeforeMemory,
        ];
        for defect in defects {
            plant(Some(defect));
            let is_found = (0..8).any(|seed| catch_unwind(AssertUnwindSafe(|| run(&Scenario::of(seed)))).is_err());
            plant(None);
            crate::machine::simulate(None);
            assert!(is_found, "{defect:?} is not found");
        }
    }
}
