//! What one run does, as its seed says; and how a run that fails is made smaller.

use crate::cache::eviction::Eviction;
use crate::config::{ServeOptions, Source, Transmit};
use crate::ring::world::disk::Stamps;
use crate::ring::world::{Dice, Fault, Faults};
use std::fmt;
use std::time::Duration;

/// What one run does.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub seed: u64,
    pub workers: usize,
    pub transmit: Transmit,
    pub eviction: Eviction,
    pub arena_bytes: u64,
    pub read_chunk_bytes: usize,
    pub revalidate: Duration,
    pub settled: Duration,
    pub max_connections: usize,
    pub stamps: Stamps,
    pub foreign_clock: bool,
    pub sizes: Vec<u64>,
    /// Connections in all, and at the same time.
    pub clients: usize,
    pub at_once: usize,
    /// Requests of one connection at most.
    pub requests: usize,
    /// Servers that run one after the other over the same files.
    pub servers: usize,
    pub faults: Faults,
    pub load: Load,
}

/// What clients and writers do beyond reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Files are replaced, deleted, and made again.
    pub replaces: bool,
    /// Files are written to in place.
    pub in_place: bool,
    /// Each write shows in the file's times at once.
    pub is_honest: bool,
    /// Steps between two writes, as a rule.
    pub pause: usize,
    /// Clients that stop reading or sending.
    pub stalls: bool,
    /// Requests that belong to the control plane, uploads among them.
    pub control: bool,
    /// Requests that are none.
    pub malformed: bool,
    /// The server is told to finish while clients are busy.
    pub drains: bool,
}

/// Sizes around every boundary there is, and one that exceeds the arena; most of what is asked for is small.
const SIZES: [u64; 20] = [
    0, 1, 100, 700, 1500, 3000, 4096, 5000, 8000, 12_288, 12_289, 16_384, 32_768, 65_535, 65_536, 70_000, 140_000,
    200_000, 600_000, 1_500_000,
];

impl Scenario {
    pub fn of(seed: u64) -> Scenario {
        let dice = &mut Dice::new(seed ^ 0x5CE0_A210);
        let mut faults = Faults::default();
        // Few at a time: each hides what others would show.
        if !dice.one_in(8) {
            for _ in 0..1 + dice.below(6) {
                faults = faults.with(Fault::ALL[dice.below(Fault::ALL.len())]);
            }
        }
        let largest = if dice.one_in(4) { SIZES.len() } else { SIZES.len() - 1 - dice.below(9) };
        let stamps = [Stamps::Nanoseconds, Stamps::Nanoseconds, Stamps::Ticks, Stamps::Seconds, Stamps::TwoSeconds];
        let load = Load {
            replaces: !dice.one_in(3),
            in_place: dice.one_in(3),
            is_honest: false,
            pause: [4, 20, 60, 200][dice.below(4)],
            stalls: dice.one_in(3),
            control: dice.one_in(2),
            malformed: dice.one_in(4),
            drains: dice.one_in(3),
        };
        let requests = if dice.one_in(4) { 200 } else { 16 };
        let mut scenario = Scenario {
            seed,
            workers: 1 + dice.below(4),
            transmit: [Transmit::Auto, Transmit::Auto, Transmit::Copy, Transmit::Splice, Transmit::Zerocopy]
                [dice.below(5)],
            eviction: Eviction::ALL[dice.below(Eviction::ALL.len())],
            arena_bytes: [256 << 10, 512 << 10, 1 << 20, 2 << 20][dice.below(4)],
            read_chunk_bytes: [4 << 10, 16 << 10, 64 << 10][dice.below(3)],
            revalidate: Duration::from_millis([0, 5, 20, 100, 1000][dice.below(5)]),
            settled: Duration::from_millis([0, 0, 100, 5000][dice.below(4)]),
            max_connections: if dice.one_in(6) { 1 + dice.below(8) } else { 1000 },
            // A clock that is set back and coarse times together make files that nobody can tell apart.
            stamps: if faults.has(Fault::WallSet) { Stamps::Nanoseconds } else { stamps[dice.below(stamps.len())] },
            foreign_clock: dice.one_in(6),
            sizes: SIZES[..largest].to_vec(),
            clients: 60 + dice.below(200),
            at_once: 2 + dice.below(40),
            requests: 1 + dice.below(requests),
            servers: 1 + usize::from(dice.one_in(6)),
            faults,
            load,
        };
        scenario.concentrate(dice);
        scenario
    }

    /// Some runs are about one thing: most of what others do would hide it, or excuse it.
    fn concentrate(&mut self, dice: &mut Dice) {
        let theme = dice.below(8);
        if theme > 1 {
            return;
        }
        self.stamps = Stamps::Nanoseconds;
        self.foreign_clock = false;
        self.settled = Duration::ZERO;
        self.faults = self.faults.without(Fault::WallSet).without(Fault::BadReads).without(Fault::BadOpens);
        self.load = Load { is_honest: true, ..self.load };
        if theme == 0 {
            // Large files are written to in place while they are on their way past the cache.
            for fault in [Fault::SlowStorage, Fault::TornReads, Fault::ColdFiles] {
                self.faults = if dice.one_in(2) { self.faults.with(fault) } else { self.faults };
            }
            self.sizes = SIZES[SIZES.len() - 5..].to_vec();
            self.load = Load { in_place: true, pause: [60, 200, 600][dice.below(3)], ..self.load };
            self.arena_bytes = 256 << 10;
        } else {
            // Names come and go while a slow storage is asked for them.
            self.faults = self.faults.with(Fault::SlowStorage);
            self.faults = if dice.one_in(2) { self.faults.with(Fault::Stops) } else { self.faults };
            self.sizes.truncate(4);
            self.load = Load { replaces: true, in_place: false, pause: [20, 60, 200][dice.below(3)], ..self.load };
            self.revalidate = Duration::from_millis([5, 20, 50][dice.below(3)]);
            self.at_once = 40;
        }
    }

    pub fn options(&self, root: &std::path::Path) -> ServeOptions {
        ServeOptions {
            origin: Source::Directory(root.into()),
            workers: self.workers,
            arena_bytes: self.arena_bytes,
            eviction: self.eviction,
            transmit: self.transmit,
            read_chunk_bytes: self.read_chunk_bytes,
            revalidate: self.revalidate,
            settled: self.settled,
            max_connections: self.max_connections,
            idle_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(2),
            send_timeout: Duration::from_secs(3),
            drain: Duration::from_secs(3),
            precompressed: false,
            allow_writes: true,
            ..ServeOptions::default()
        }
    }

    /// Whether each client that behaves gets all its answers.
    pub fn is_gentle(&self) -> bool {
        let harmless = [
            Fault::ShortSends,
            Fault::ShortReads,
            Fault::NoBuffers,
            Fault::NoMemoryForMessages,
            Fault::LostWakeUps,
            Fault::EndedMultishots,
            Fault::Reordering,
            Fault::Overflows,
            Fault::SlowStorage,
            Fault::ColdFiles,
            Fault::NoZeroCopy,
        ];
        let Load { in_place, drains, malformed, stalls, .. } = self.load;
        let is_calm = !in_place && !drains && !malformed && !stalls;
        is_calm && self.max_connections >= self.clients && self.faults.iter().all(|fault| harmless.contains(&fault))
    }

    /// Smaller runs, which may fail as this one does.
    pub fn smaller(&self) -> Vec<Scenario> {
        let mut all = Vec::new();
        let mut with = |change: &dyn Fn(&mut Scenario)| {
            let mut scenario = self.clone();
            change(&mut scenario);
            if scenario != *self {
                all.push(scenario);
            }
        };
        for divisor in [8, 4, 2] {
            with(&|scenario| scenario.clients = (scenario.clients / divisor).max(1));
        }
        with(&|scenario| scenario.clients = (scenario.clients - scenario.clients / 8).max(1));
        with(&|scenario| scenario.clients = (scenario.clients - 1).max(1));
        with(&|scenario| scenario.servers = 1);
        for fault in self.faults.iter() {
            with(&|scenario| scenario.faults = scenario.faults.without(fault));
        }
        with(&|scenario| scenario.workers = 1);
        with(&|scenario| scenario.workers = 2.min(scenario.workers));
        with(&|scenario| scenario.at_once = (scenario.at_once / 2).max(1));
        with(&|scenario| scenario.requests = (scenario.requests / 2).max(1));
        with(&|scenario| scenario.load.in_place = false);
        with(&|scenario| scenario.load.replaces = false);
        with(&|scenario| scenario.load.stalls = false);
        with(&|scenario| scenario.load.control = false);
        with(&|scenario| scenario.load.malformed = false);
        with(&|scenario| scenario.load.drains = false);
        with(&|scenario| scenario.max_connections = 1000);
        with(&|scenario| scenario.stamps = Stamps::Nanoseconds);
        with(&|scenario| scenario.foreign_clock = false);
        with(&|scenario| scenario.transmit = Transmit::Copy);
        for left in [1, 2, 4, 8] {
            with(&|scenario| {
                let len = scenario.sizes.len();
                scenario.sizes.drain(..len.saturating_sub(left));
            });
            with(&|scenario| scenario.sizes.truncate(left));
        }
        all
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(|fault| format!("{fault:?}")).collect();
        write!(f, "{self:?}\n  faults: {}", if faults.is_empty() { "none".into() } else { faults.join(", ") })
    }
}
