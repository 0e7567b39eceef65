//! What the server is told to do: every option resolved and checked, whoever typed it. [`ServeOptions::default`] is
//! what `forebay serve` does without any option.

use crate::cache::eviction::Eviction;
use crate::net::address::Address;
use crate::origin::Policy;
use crate::origin::remote::RemoteOptions;
use crate::text;
use std::path::PathBuf;
use std::time::Duration;

/// The most worker threads.
pub const WORKERS_MAX: usize = 1024;

/// What the options of `forebay serve` mean, each checked and all of them together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeOptions {
    /// What to serve, as typed: not opened yet.
    pub origin: Source,
    /// Where to listen; never empty.
    pub listen: Vec<Address>,
    /// Worker threads, 1..=1024.
    pub workers: usize,
    /// Physical budget of the cache in bytes: at least 1 MiB and a multiple of 64 KiB.
    pub arena_bytes: u64,
    /// The eviction policy.
    pub eviction: Eviction,
    /// What a miss costs beyond its bytes, in bytes.
    pub miss_cost_bytes: u64,
    /// How cached bytes are sent.
    pub transmit: Transmit,
    /// Bytes read from storage at a time: a multiple of 4 KiB, at most 64 MiB.
    pub read_chunk_bytes: usize,
    /// How long a cached file is served without a look at the disk; zero means always look.
    pub revalidate: Duration,
    /// How long a file must have been left alone before it is sent by reference from the page cache.
    pub settled: Duration,
    /// Longest idle time between requests.
    pub idle_timeout: Duration,
    /// Longest time for a whole request head.
    pub header_timeout: Duration,
    /// Longest time in which a client takes no bytes of its response.
    pub send_timeout: Duration,
    /// Largest request head in bytes, at most 1 MiB.
    pub max_head_bytes: usize,
    /// Most header fields in a request, at most 128.
    pub max_headers: usize,
    /// Most connections at once.
    pub max_connections: usize,
    /// Time between the word to stop and the beginning of the drain, in which requests are answered as ever.
    pub lame_duck: Duration,
    /// Time that responses in progress have to end at shutdown.
    pub drain: Duration,
    /// A single path component: the file that stands for its directory.
    pub index: Option<String>,
    /// Whether directories without such a file are listed.
    pub listings: bool,
    /// Whether precompressed variants are sent to those who prefer them.
    pub precompressed: bool,
    /// Which names and links are served.
    pub policy: Policy,
    /// Rules of the site, a file of TOML.
    pub rules: Option<PathBuf>,
    /// Further rules, each `PATTERN: Name: value`.
    pub headers: Vec<String>,
    /// Pages that stand for errors, by status.
    pub error_pages: Vec<(u16, PathBuf)>,
    /// The name of the file that is served where there is none.
    pub fallback: Option<String>,
    /// Host names that the server answers to; none: every name for reads.
    pub hosts: Vec<String>,
    /// Whether PUT and DELETE are served.
    pub allow_writes: bool,
    /// Largest upload in bytes.
    pub max_upload_bytes: u64,
    /// Where the bearer token is, not read yet. Present when writes are allowed beyond loopback, and with
    /// `token_reads`.
    pub token_file: Option<PathBuf>,
    /// Whether reads need the token too.
    pub token_reads: bool,
    /// The access log, if any.
    pub access_log: Option<AccessLog>,
    /// What the server says about itself.
    pub log: LogLevel,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions {
            origin: Source::Directory(PathBuf::from(".")),
            listen: vec![Address::Tcp { host: "127.0.0.1".into(), port: 8064 }],
            workers: std::thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS_MAX)),
            arena_bytes: 64 << 20,
            eviction: Eviction::default(),
            miss_cost_bytes: 64 << 10,
            transmit: Transmit::Auto,
            read_chunk_bytes: 256 << 10,
            revalidate: Duration::from_secs(1),
            settled: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(60),
            max_head_bytes: 16 << 10,
            max_headers: 64,
            max_connections: 20_000,
            lame_duck: Duration::ZERO,
            drain: Duration::from_secs(10),
            index: Some("index.html".into()),
            listings: true,
            precompressed: true,
            policy: Policy::default(),
            rules: None,
            headers: Vec::new(),
            error_pages: Vec::new(),
            fallback: None,
            hosts: Vec::new(),
            allow_writes: false,
            max_upload_bytes: 16 << 30,
            token_file: None,
            token_reads: false,
            access_log: None,
            log: LogLevel::Info,
        }
    }
}

/// What is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory of this machine.
    Directory(PathBuf),
    /// An HTTP server or an object store.
    Remote(Box<RemoteOptions>),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Directory(path) => f.write_str(&text::path(path)),
            Source::Remote(remote) => f.write_str(&remote.url),
        }
    }
}

/// Where the access log goes, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// The file or standard output.
    pub target: AccessLogTarget,
    /// The form of its lines.
    pub format: AccessLogFormat,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Standard output, typed as `-`.
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
}

impl std::fmt::Display for AccessLogTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AccessLogTarget::Stdout => f.write_str("on standard output"),
            AccessLogTarget::File(path) => path.display().fmt(f),
        }
    }
}

/// How cached bytes are sent (`--transmit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmit {
    /// By size and peer, as measured
    Auto,
    /// One copying send
    Copy,
    /// The cache's pages by reference, without a copy
    Splice,
    /// SEND_ZC: for real links; it cannot win on loopback
    Zerocopy,
}

/// The form of the access log's lines (`--access-log-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// The combined log format, as Apache and nginx write it
    Combined,
    /// One JSON object a line
    Json,
}

/// The least important message that is still written (`--log`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing
    Off,
    /// What failed
    Error,
    /// What is not as it should be
    Warn,
    /// Start, stop, and what was found at start
    Info,
    /// Connections and decisions
    Debug,
    /// Everything
    Trace,
}
