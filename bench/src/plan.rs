//! What is measured, as data: the files, every case with its load, and the figure that is compared.

use serde::{Deserialize, Serialize};

/// Single files, by the names and sizes that the bare loop has too.
pub const FILES: [(&str, u64); 7] = [
    ("1k", 1 << 10),
    ("4k", 4 << 10),
    ("16k", 16 << 10),
    ("64k", 64 << 10),
    ("256k", 256 << 10),
    ("1m", 1 << 20),
    ("16m", 16 << 20),
];

/// The file that is larger than the arena.
pub const HUGE: &str = "huge";

/// Many files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corpus {
    /// 10,000 files of log-normal sizes (median 8 KiB, mean 25 KiB): about 4 times the arena.
    Mix,
    /// Files of one size, together 8 times the arena.
    Of16k,
    Of64k,
    Of1m,
    /// The 20 files of an ordinary site, and the variants of 15 of them.
    Static20,
}

impl Corpus {
    pub const ALL: [Corpus; 5] = [Corpus::Mix, Corpus::Of16k, Corpus::Of64k, Corpus::Of1m, Corpus::Static20];

    /// The name of its directory below the root.
    pub fn directory(self) -> &'static str {
        match self {
            Corpus::Mix => "mix",
            Corpus::Of16k => "of16k",
            Corpus::Of64k => "of64k",
            Corpus::Of1m => "of1m",
            Corpus::Static20 => "static20",
        }
    }

    /// The size of its files, or their median.
    pub fn files_size(self) -> u64 {
        match self {
            Corpus::Mix => 8 << 10,
            Corpus::Of16k => 16 << 10,
            Corpus::Of64k => 64 << 10,
            Corpus::Of1m => 1 << 20,
            Corpus::Static20 => 32 << 10,
        }
    }

    fn files_size_name(self) -> &'static str {
        self.directory().trim_start_matches("of")
    }
}

/// How much is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amounts {
    pub mix_files: u64,
    /// Of each corpus of one size.
    pub corpus_bytes: u64,
    pub huge_bytes: u64,
}

/// Who sends the requests to file servers. Key-value stores have a sender of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    Loadgen,
    /// An independent check.
    Wrk,
}

/// A single file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Single {
    pub name: &'static str,
    pub size: u64,
}

impl Single {
    /// The file of this name; one of [`FILES`], or [`HUGE`].
    fn of(name: &str, amounts: &Amounts) -> Single {
        let known = FILES.into_iter().find(|(known, _)| *known == name);
        let (name, size) = known.unwrap_or((HUGE, amounts.huge_bytes));
        Single { name, size }
    }
}

/// One case. Each server taking part in it is started anew, warmed, and run in turns with the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// In options and results.
    pub name: String,
    pub title: String,
    /// Worker threads or processes of each server.
    pub workers: usize,
    /// What is compared.
    pub metric: Metric,
    pub procedure: Procedure,
    /// What every server of the case is a cache in front of; none where they serve files.
    pub behind: Option<OriginKind>,
}

/// An HTTP server that the servers of a case stand in front of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginKind {
    /// nginx with files in memory: what a fast origin is.
    Nginx,
    /// The bench's own, which makes bodies from their names, counts what it is asked for, and can be slow.
    Counting,
}

/// How a case is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Procedure {
    /// Closed loop: as fast as the server answers.
    Load(Load),
    /// Open loop, at a share of what nginx answers at most for the same file.
    OpenLoop { file: Single, connections: u32, share: f64 },
    /// Files that were dropped from the page cache just before, each asked for once.
    Cold { corpus: Corpus, connections: u32 },
    /// Memory with idle connections, after the cache has been filled.
    Idle { connections: u32 },
    /// From the start of the process to the first byte of a response.
    Startup,
    /// A recorded trace, in order, by one client: what the origin is asked for.
    Trace,
    /// Many clients that want one object while it comes slowly: when each gets its first byte.
    Waiters { clients: u32 },
}

/// A closed loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    pub what: What,
    pub connections: u32,
    pub pipeline: u32,
    pub loader: Loader,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum What {
    /// One file, a hit wherever there is a cache that may hold it.
    File(Single),
    /// The mix, some files much more often than others.
    Mix,
    /// All files of a corpus in turn, so that no cache of 64 MiB has the next one. All are in the page cache.
    Misses(Corpus),
    /// Files of a corpus under names that nobody has asked for before: a query that is new each time.
    New(Corpus),
    /// The files of a site in turn, with or without their precompressed variants.
    Site { variants: bool },
}

/// What a client that takes variants says.
pub const ACCEPT_ENCODING: &str = "br;q=1, gzip;q=0.8";

/// How a server is set up for a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Worker threads or processes.
    pub workers: usize,
    /// Precompressed variants are served.
    pub variants: bool,
    pub stands: Stands,
}

/// Where a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// It serves files to the load.
    Alone,
    /// It serves files to caches, and says how long they hold.
    Behind,
    /// It is a cache in front of the HTTP server on this port.
    Before(u16),
}

impl Case {
    /// How every server is set up for it; `origin` is the port of what they stand in front of.
    pub fn setup(&self, origin: Option<u16>) -> Setup {
        let stands = origin.map_or(Stands::Alone, Stands::Before);
        Setup { workers: self.workers, variants: self.wants_variants(), stands }
    }

    /// The corpus that it asks for, if it asks for many files.
    pub fn corpus(&self) -> Option<Corpus> {
        match self.procedure {
            Procedure::Load(load) => match load.what {
                What::File(_) => None,
                What::Mix => Some(Corpus::Mix),
                What::Misses(corpus) | What::New(corpus) => Some(corpus),
                What::Site { .. } => Some(Corpus::Static20),
            },
            Procedure::Cold { corpus, .. } => Some(corpus),
            Procedure::OpenLoop { .. }
            | Procedure::Idle { .. }
            | Procedure::Startup
            | Procedure::Trace
            | Procedure::Waiters { .. } => None,
        }
    }

    /// Whether it is about precompressed variants.
    pub fn wants_variants(&self) -> bool {
        matches!(self.procedure, Procedure::Load(Load { what: What::Site { variants: true }, .. }))
    }

    /// Whether it asks for the files of a site.
    pub fn is_site(&self) -> bool {
        matches!(self.procedure, Procedure::Load(Load { what: What::Site { .. }, .. }))
    }
}

/// The figure of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Processor time of the server's processes, in microseconds for each request.
    CpuPerRequest,
    RequestsPerSecond,
    /// Median latency in microseconds.
    P50,
    /// 99th percentile of the latency in microseconds.
    P99,
    /// MiB.
    Memory,
    /// Milliseconds.
    FirstByte,
    /// Requests that an origin got.
    OriginRequests,
    /// MiB of bodies that an origin sent.
    OriginMebibytes,
    /// Milliseconds by which the last of many waiting clients gets its first byte after the first client.
    WaiterLag,
}

impl Metric {
    pub fn label(self) -> &'static str {
        match self {
            Metric::CpuPerRequest => "server CPU per request",
            Metric::RequestsPerSecond => "requests per second",
            Metric::P50 => "median latency",
            Metric::P99 => "99th percentile of latency",
            Metric::Memory => "memory",
            Metric::FirstByte => "start to first byte",
            Metric::OriginRequests => "requests to the origin",
            Metric::OriginMebibytes => "body bytes from the origin",
            Metric::WaiterLag => "first byte of the last waiter after that of the first",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Metric::CpuPerRequest | Metric::P50 | Metric::P99 => "µs",
            Metric::RequestsPerSecond => "/s",
            Metric::Memory => "MiB",
            Metric::FirstByte | Metric::WaiterLag => "ms",
            Metric::OriginRequests => "",
            Metric::OriginMebibytes => "MiB",
        }
    }

    pub fn lower_is_better(self) -> bool {
        self != Metric::RequestsPerSecond
    }
}

/// How much of everything is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Runs of each server in each case.
    pub rounds: u32,
    pub seconds: f64,
    pub warmup_seconds: f64,
    pub idle_connections: u32,
    pub amounts: Amounts,
    /// Every body of a corpus is checked while caches are warmed.
    pub quick: bool,
}

impl Scale {
    /// For figures that mean something.
    pub fn full() -> Scale {
        Scale {
            rounds: 7,
            seconds: 2.0,
            warmup_seconds: 0.5,
            idle_connections: 10_000,
            amounts: Amounts { mix_files: 10_000, corpus_bytes: 512 << 20, huge_bytes: 200 << 20 },
            quick: false,
        }
    }

    /// To see that everything runs.
    pub fn quick() -> Scale {
        Scale {
            rounds: 1,
            seconds: 0.2,
            warmup_seconds: 0.1,
            idle_connections: 500,
            amounts: Amounts { mix_files: 2_000, corpus_bytes: 96 << 20, huge_bytes: 80 << 20 },
            quick: true,
        }
    }
}

/// Connections of the closed loops.
const CONNECTIONS: u32 = 32;

/// Connections of the open loop: more than are ever needed at once while the server keeps up.
const OPEN_CONNECTIONS: u32 = 64;

/// Few, so that the latency is that of the storage and the server, not of a queue.
const COLD_CONNECTIONS: u32 = 4;

/// Clients in front of an origin, of which nobody is to take memory beyond measure.
const ORIGIN_CLIENTS: u32 = 1000;

/// Clients that wait for one object.
const WAITERS: u32 = 500;

/// Where a case belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Also in a quick run: one case of each kind.
    Quick,
    Full,
}

/// The name, the title and the procedure of each kind of case.
struct Rows<'a> {
    scale: &'a Scale,
}

type Row = (String, String, Procedure);

fn load(what: What, connections: u32, pipeline: u32, loader: Loader) -> Procedure {
    Procedure::Load(Load { what, connections, pipeline, loader })
}

fn closed(what: What) -> Procedure {
    load(what, CONNECTIONS, 1, Loader::Loadgen)
}

impl Rows<'_> {
    fn file(&self, name: &str) -> (Single, String) {
        let file = Single::of(name, &self.scale.amounts);
        (file, show_size(file.size))
    }

    fn hits(&self, name: &str) -> Row {
        let (file, size) = self.file(name);
        (format!("hits-{name}"), format!("Hits, {size}"), closed(What::File(file)))
    }

    fn by_wrk(&self, name: &str) -> Row {
        let (file, size) = self.file(name);
        let procedure = load(What::File(file), CONNECTIONS, 1, Loader::Wrk);
        (format!("hits-{name}-wrk"), format!("Hits, {size}, load by wrk"), procedure)
    }

    fn on_two(&self, name: &str) -> Row {
        let (file, size) = self.file(name);
        (format!("workers-2-hits-{name}"), format!("Hits, {size}, 2 workers"), closed(What::File(file)))
    }

    fn pipelined(&self, name: &str, depth: u32) -> Row {
        let (file, size) = self.file(name);
        let procedure = load(What::File(file), CONNECTIONS, depth, Loader::Loadgen);
        (format!("pipelined-{name}"), format!("Pipelined ×{depth}, {size}"), procedure)
    }

    fn mix(&self) -> Row {
        ("mix".into(), format!("Zipf mix of {} files", self.scale.amounts.mix_files), closed(What::Mix))
    }

    fn warm(&self, corpus: Corpus) -> Row {
        let (name, size) = (corpus.files_size_name(), show_size(corpus.files_size()));
        (format!("miss-warm-{name}"), format!("Misses, {size}, page cache warm"), closed(What::Misses(corpus)))
    }

    fn cold(&self, corpus: Corpus) -> Row {
        let (name, size) = (corpus.files_size_name(), show_size(corpus.files_size()));
        let procedure = Procedure::Cold { corpus, connections: COLD_CONNECTIONS };
        (format!("miss-cold-{name}"), format!("Misses, {size}, page cache cold"), procedure)
    }

    fn huge(&self) -> Row {
        let (file, size) = self.file(HUGE);
        let title = format!("Larger than the cache: {size}, page cache warm");
        (HUGE.into(), title, load(What::File(file), 4, 1, Loader::Loadgen))
    }

    fn open(&self, name: &str) -> Row {
        let (file, size) = self.file(name);
        let procedure = Procedure::OpenLoop { file, connections: OPEN_CONNECTIONS, share: 0.7 };
        (format!("open-{name}"), format!("Open loop at 70 % of nginx's peak, {size}"), procedure)
    }

    fn site(&self, name: &str, variants: bool, connections: u32) -> Row {
        let with = if variants { "precompressed variants" } else { "no variants" };
        let title = format!("20 files of a site, {with}, {connections} connections");
        (name.into(), title, load(What::Site { variants }, connections, 1, Loader::Loadgen))
    }

    fn idle(&self) -> Row {
        let connections = self.scale.idle_connections;
        let title = format!("{connections} idle connections and a full cache");
        ("idle".into(), title, Procedure::Idle { connections })
    }

    fn origin_hits(&self, name: &str) -> Row {
        let (file, size) = self.file(name);
        (format!("origins-hit-{name}"), format!("Hits in front of an HTTP server, {size}"), closed(What::File(file)))
    }

    fn origin_misses(&self, corpus: Corpus) -> Row {
        let (name, size) = (corpus.files_size_name(), show_size(corpus.files_size()));
        let title = format!("Misses in front of an HTTP server, {size}");
        (format!("origins-miss-{name}"), title, closed(What::New(corpus)))
    }

    fn origin_trace(&self) -> Row {
        ("origins-trace".into(), "A recorded trace, by one client".into(), Procedure::Trace)
    }

    fn origin_memory(&self) -> Row {
        let clients = self.scale.idle_connections.min(ORIGIN_CLIENTS);
        let title = format!("{clients} clients in front of an HTTP server, and a full cache");
        ("origins-memory".into(), title, load(What::Mix, clients, 1, Loader::Loadgen))
    }

    fn origin_waiters(&self) -> Row {
        let title = format!("{WAITERS} clients of one object that takes 2 s to come");
        ("origins-waiters".into(), title, Procedure::Waiters { clients: WAITERS })
    }

    fn startup(&self) -> Row {
        ("startup".into(), "Start to first byte".into(), Procedure::Startup)
    }
}

/// All cases, in the order in which they are run.
pub fn cases(scale: &Scale) -> Vec<Case> {
    use Metric::{CpuPerRequest, FirstByte, Memory, OriginRequests, P50, P99, RequestsPerSecond, WaiterLag};
    use Part::{Full, Quick};
    let row = Rows { scale };
    let rows = vec![
        (Quick, 1, CpuPerRequest, row.hits("1k")),
        (Quick, 1, CpuPerRequest, row.hits("4k")),
        (Full, 1, CpuPerRequest, row.hits("16k")),
        (Quick, 1, CpuPerRequest, row.hits("64k")),
        (Full, 1, CpuPerRequest, row.hits("256k")),
        (Quick, 1, CpuPerRequest, row.hits("1m")),
        (Quick, 1, CpuPerRequest, row.hits("16m")),
        (Full, 1, CpuPerRequest, row.by_wrk("4k")),
        (Quick, 1, CpuPerRequest, row.by_wrk("64k")),
        (Full, 1, CpuPerRequest, row.by_wrk("1m")),
        (Quick, 1, RequestsPerSecond, row.pipelined("4k", 16)),
        (Quick, 1, CpuPerRequest, row.mix()),
        (Full, 1, CpuPerRequest, row.warm(Corpus::Of16k)),
        (Quick, 1, CpuPerRequest, row.warm(Corpus::Of64k)),
        (Full, 1, CpuPerRequest, row.warm(Corpus::Of1m)),
        (Quick, 1, P50, row.cold(Corpus::Of64k)),
        (Full, 1, P50, row.cold(Corpus::Of1m)),
        (Quick, 1, CpuPerRequest, row.huge()),
        (Quick, 1, P99, row.open("4k")),
        (Full, 1, P99, row.open("64k")),
        (Quick, 2, CpuPerRequest, row.on_two("4k")),
        (Full, 2, CpuPerRequest, row.on_two("64k")),
        (Full, 1, CpuPerRequest, row.site("static-20", true, 256)),
        (Full, 1, CpuPerRequest, row.site("static-20-4096", true, 4096)),
        (Quick, 1, CpuPerRequest, row.site("static-20-plain", false, 256)),
        (Quick, 1, Memory, row.idle()),
        (Quick, 1, FirstByte, row.startup()),
        (Quick, 1, CpuPerRequest, row.origin_hits("4k")),
        (Quick, 1, CpuPerRequest, row.origin_hits("64k")),
        (Quick, 1, CpuPerRequest, row.origin_misses(Corpus::Of64k)),
        (Quick, 1, OriginRequests, row.origin_trace()),
        (Quick, 1, Memory, row.origin_memory()),
        (Quick, 1, WaiterLag, row.origin_waiters()),
    ];
    rows.into_iter()
        .filter(|(part, ..)| !scale.quick || *part == Quick)
        .map(|(_, workers, metric, (name, title, procedure))| {
            let behind = match procedure {
                Procedure::Trace | Procedure::Waiters { .. } => Some(OriginKind::Counting),
                _ => name.starts_with("origins-").then_some(OriginKind::Nginx),
            };
            Case { name, title, workers, metric, procedure, behind }
        })
        .collect()
}

/// `4 KiB`, `200 MiB`.
pub fn show_size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_a_quick_run_has_every_kind() {
        let (full, quick) = (cases(&Scale::full()), cases(&Scale::quick()));
        let names: BTreeSet<&str> = full.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), full.len());
        assert!(quick.iter().all(|case| names.contains(case.name.as_str())));
        let kinds = |cases: &[Case]| -> BTreeSet<String> {
            cases.iter().map(|case| case.name.split('-').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(kinds(&full), kinds(&quick));
        assert!(quick.len() < full.len());
    }

    #[test]
    fn sizes_are_shown_as_people_say_them() {
        assert_eq!(show_size(4096), "4 KiB");
        assert_eq!(show_size(1 << 20), "1 MiB");
        assert_eq!(show_size(200 << 20), "200 MiB");
    }
}
