//! `forebay serve`: its options as typed ([`ServeArgs`]) and as meant ([`ServeOptions`]).

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory};

use super::remote_origin::{self, RemoteArgs};
use crate::cache::eviction::Eviction;
use crate::config::{AccessLog, AccessLogFormat, AccessLogTarget, LogLevel, ServeOptions, Transmit, WORKERS_MAX};
use crate::http::host::{Authority, Kind};
use crate::net::address::Address;
use crate::origin::{Policy, Symlinks};
use crate::units::{self, Size};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// No timeout is longer than a day: what is meant then is no timeout, and none is not offered.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const TICK: Duration = Duration::from_millis(1);

/// The options of `forebay serve`, as typed.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// What to serve: a directory, or the URL of an origin on another machine: http://host/prefix, https://host,
    /// s3://bucket/prefix, gs://bucket, az://container
    #[arg(env = "FOREBAY_ROOT", value_name = "ORIGIN", default_value = ".")]
    pub origin: PathBuf,

    /// Where to listen: HOST:PORT or unix:/path; repeatable, or a list with commas
    #[arg(long, env = "FOREBAY_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8064", value_delimiter = ',')]
    pub listen: Vec<Address>,

    /// Worker threads, each with its own ring and listener [default: one per available core]
    #[arg(long, env = "FOREBAY_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// Size of the cache; it never holds more resident bytes than this
    #[arg(long, env = "FOREBAY_ARENA", value_name = "SIZE", default_value = "64MiB",
          value_parser = units::size(MIB, 256 * GIB, 64 * KIB))]
    pub arena: Size,

    /// What to evict when the cache is full
    #[arg(long, env = "FOREBAY_EVICTION", value_name = "POLICY", value_enum, default_value_t = Eviction::default())]
    pub eviction: Eviction,

    /// What a miss costs beyond its bytes, counted in bytes, for the policies that weigh it
    #[arg(long, env = "FOREBAY_MISS_COST", value_name = "SIZE", default_value = "64KiB",
          value_parser = units::size(0, GIB, 1), hide_short_help = true)]
    pub miss_cost: Size,

    /// How cached bytes are sent
    #[arg(long, env = "FOREBAY_TRANSMIT", value_name = "MODE", value_enum, default_value_t = Transmit::Auto,
          hide_short_help = true)]
    pub transmit: Transmit,

    /// Bytes read from storage at a time
    #[arg(long, env = "FOREBAY_READ_CHUNK", value_name = "SIZE", default_value = "256KiB",
          value_parser = units::size(4 * KIB, 64 * MIB, 4 * KIB), hide_short_help = true)]
    pub read_chunk: Size,

    /// How long a cached file is served without a look at the disk
    #[arg(long, env = "FOREBAY_REVALIDATE", value_name = "DURATION", default_value = "1s",
          value_parser = units::duration(Duration::ZERO, DAY))]
    pub revalidate: Duration,

    /// Send a file that is not cached by reference, from the page cache, only when it was left alone for this long:
    /// whoever writes to it in place would change what is on its way
    #[arg(long, env = "FOREBAY_SETTLED", value_name = "DURATION", default_value = "5s",
          value_parser = units::duration(Duration::ZERO, DAY))]
    pub settled: Duration,

    /// Close a connection that has been idle between requests for this long
    #[arg(long, env = "FOREBAY_IDLE_TIMEOUT", value_name = "DURATION", default_value = "60s",
          value_parser = units::duration(TICK, DAY))]
    pub idle_timeout: Duration,

    /// Time a client has to send a whole request head
    #[arg(long, env = "FOREBAY_HEADER_TIMEOUT", value_name = "DURATION", default_value = "10s",
          value_parser = units::duration(TICK, DAY))]
    pub header_timeout: Duration,

    /// Close a connection that takes no bytes of its response for this long
    #[arg(long, env = "FOREBAY_SEND_TIMEOUT", value_name = "DURATION", default_value = "60s",
          value_parser = units::duration(TICK, DAY))]
    pub send_timeout: Duration,

    /// Largest request head
    #[arg(long, env = "FOREBAY_MAX_HEAD", value_name = "SIZE", default_value = "16KiB",
          value_parser = units::size(KIB, MIB, 1))]
    pub max_head: Size,

    /// Most header fields in a request
    #[arg(long, env = "FOREBAY_MAX_HEADERS", value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=128), hide_short_help = true)]
    pub max_headers: u16,

    /// Most connections at once; the next one is answered with 503 and closed
    #[arg(long, env = "FOREBAY_MAX_CONNECTIONS", value_name = "N", default_value_t = 20_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// Time between SIGTERM and the beginning of the end: requests are answered as ever, but /.forebay/ready says 503
    #[arg(long, env = "FOREBAY_LAME_DUCK", value_name = "DURATION", default_value = "0s",
          value_parser = units::duration(Duration::ZERO, DAY))]
    pub lame_duck: Duration,

    /// Time that responses in progress have to end when the server is told to stop
    #[arg(long, env = "FOREBAY_DRAIN", value_name = "DURATION", default_value = "10s",
          value_parser = units::duration(Duration::ZERO, DAY))]
    pub drain: Duration,

    /// Name of the file that stands for its directory; with '' every directory is listed
    #[arg(long, env = "FOREBAY_INDEX", value_name = "FILE", default_value = "index.html", value_parser = file_name)]
    pub index: String,

    /// Answer 403 instead of listing a directory that has no such file
    #[arg(long, env = "FOREBAY_NO_LISTING", value_parser = BoolishValueParser::new())]
    pub no_listing: bool,

    /// Send files as they are, and never NAME.br, NAME.zst or NAME.gz in place of NAME
    #[arg(long, env = "FOREBAY_NO_PRECOMPRESSED", value_parser = BoolishValueParser::new())]
    pub no_precompressed: bool,

    /// Serve names with a part that begins with a dot, too (.well-known always is)
    #[arg(long, env = "FOREBAY_HIDDEN", value_parser = BoolishValueParser::new())]
    pub hidden: bool,

    /// Which symbolic links are followed
    #[arg(long, env = "FOREBAY_SYMLINKS", value_name = "WHICH", value_enum, default_value_t = Symlinks::default())]
    pub symlinks: Symlinks,

    /// Rules of the site in TOML: header fields, media types, CORS and redirects by patterns of names; read again on
    /// SIGHUP
    #[arg(long, env = "FOREBAY_RULES", value_name = "FILE")]
    pub rules: Option<PathBuf>,

    /// Set a header field of the files that match, such as '*.css: Cache-Control: max-age=60'; repeatable
    #[arg(long = "header", env = "FOREBAY_HEADER", value_name = "PATTERN: NAME: VALUE", value_delimiter = '\n')]
    pub headers: Vec<String>,

    /// Send this file instead of the text of an error, such as 404=/srv/404.html; repeatable; read again on SIGHUP
    #[arg(long = "error-page", env = "FOREBAY_ERROR_PAGE", value_name = "STATUS=FILE", value_delimiter = '\n',
          value_parser = error_page)]
    pub error_pages: Vec<(u16, PathBuf)>,

    /// Serve this file of the root, with status 200, where there is no file of the name asked for
    #[arg(long, env = "FOREBAY_FALLBACK", value_name = "NAME", value_parser = served_name)]
    pub fallback: Option<String>,

    /// Answer only requests for this host name, besides addresses and localhost; repeatable, or a list with commas. A
    /// write without a token needs a Host that is one of these in any case
    #[arg(long = "host", env = "FOREBAY_HOST", value_name = "NAME", value_delimiter = ',', value_parser = host_name)]
    pub hosts: Vec<String>,

    /// Allow PUT and DELETE; needs --token-file when listening beyond loopback
    #[arg(long, env = "FOREBAY_ALLOW_WRITES", value_parser = BoolishValueParser::new())]
    pub allow_writes: bool,

    /// Largest upload
    #[arg(long, env = "FOREBAY_MAX_UPLOAD", value_name = "SIZE", default_value = "16GiB",
          value_parser = units::size(0, u64::MAX, 1))]
    pub max_upload: Size,

    /// File with the bearer token that writes need; read again on SIGHUP
    #[arg(long, env = "FOREBAY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Ask for the token on reads too
    #[arg(long, env = "FOREBAY_TOKEN_READS", value_parser = BoolishValueParser::new())]
    pub token_reads: bool,

    /// Write an access log to FILE, or to standard output with "-"; opened again on SIGHUP
    #[arg(long, env = "FOREBAY_ACCESS_LOG", value_name = "FILE|-", allow_hyphen_values = true)]
    pub access_log: Option<PathBuf>,

    /// Form of the access log's lines
    #[arg(long, env = "FOREBAY_ACCESS_LOG_FORMAT", value_name = "FORMAT", value_enum,
          default_value_t = AccessLogFormat::Combined)]
    pub access_log_format: AccessLogFormat,

    /// What the server says about itself on standard error
    #[arg(long, env = "FOREBAY_LOG", value_name = "LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub log: LogLevel,

    #[command(flatten)]
    pub remote: RemoteArgs,
}

impl ServeArgs {
    /// What was typed, resolved: defaults that depend on the machine are filled in, and options that contradict each
    /// other are a usage error (exit status 2).
    pub fn resolve(self) -> Result<ServeOptions, clap::Error> {
        if self.token_reads && self.token_file.is_none() {
            return Err(usage("--token-reads needs --token-file FILE: there is no token to ask for"));
        }
        let has_writes = self.allow_writes || remote_origin::is_http(&self.origin) && !self.remote.read_only;
        if self.token_file.is_some() && !self.token_reads && !has_writes {
            return Err(usage(
                "--token-file guards nothing: add --allow-writes to have writes that need the token, or --token-reads to ask \
                 for it on reads",
            ));
        }
        let exposed = self.listen.iter().find(|address| !address.is_local());
        if let (true, None, Some(address)) = (self.allow_writes, &self.token_file, exposed) {
            return Err(usage(&format!(
                "--allow-writes on {address} would let anyone who reaches it write; add --token-file FILE, or listen on loopback only"
            )));
        }
        let workers = match self.workers {
            Some(workers) => usize::from(workers),
            None => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS_MAX)),
        };
        let origin = self.remote.resolve(self.origin).map_err(|error| usage(&error))?;
        let format = self.access_log_format;
        let access_log = self.access_log.map(|path| {
            let target = if path.as_os_str() == "-" { AccessLogTarget::Stdout } else { AccessLogTarget::File(path) };
            AccessLog { target, format }
        });
        Ok(ServeOptions {
            origin,
            listen: self.listen,
            workers,
            arena_bytes: self.arena.0,
            eviction: self.eviction,
            miss_cost_bytes: self.miss_cost.0,
            transmit: self.transmit,
            read_chunk_bytes: self.read_chunk.0 as usize, // at most 64 MiB
            revalidate: self.revalidate,
            settled: self.settled,
            idle_timeout: self.idle_timeout,
            header_timeout: self.header_timeout,
            send_timeout: self.send_timeout,
            max_head_bytes: self.max_head.0 as usize, // at most 1 MiB
            max_headers: usize::from(self.max_headers),
            max_connections: self.max_connections as usize,
            lame_duck: self.lame_duck,
            drain: self.drain,
            index: (!self.index.is_empty()).then_some(self.index),
            listings: !self.no_listing,
            precompressed: !self.no_precompressed,
            policy: Policy { symlinks: self.symlinks, hidden: self.hidden },
            rules: self.rules,
            headers: self.headers,
            error_pages: self.error_pages,
            fallback: self.fallback,
            hosts: self.hosts,
            allow_writes: self.allow_writes,
            max_upload_bytes: self.max_upload.0,
            token_file: self.token_file,
            token_reads: self.token_reads,
            access_log,
            log: self.log,
        })
    }
}

/// A usage error of `forebay serve`, formatted as clap formats its own.
fn usage(message: &str) -> clap::Error {
    super::Cli::command().error(ErrorKind::ArgumentConflict, message)
}

/// A status and a file.
fn error_page(text: &str) -> Result<(u16, PathBuf), String> {
    let parts = text.split_once('=').filter(|(_, file)| !file.is_empty());
    let status = parts.and_then(|(status, file)| Some((status.parse().ok()?, file)));
    match status {
        Some((status @ 400..=599, file)) => Ok((status, file.into())),
        _ => Err("it must be a status from 400 to 599 and a file, such as 404=/srv/404.html".to_owned()),
    }
}

/// The name of a file in the root.
fn served_name(text: &str) -> Result<String, String> {
    let name = text.trim_start_matches('/');
    match name.is_empty() || name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        true => Err("it must be the name of a file in the root, such as index.html".to_owned()),
        false => Ok(name.to_owned()),
    }
}

/// A host name, without a port.
fn host_name(text: &str) -> Result<String, String> {
    match Authority::parse(text.as_bytes()) {
        Some(Authority { port: None, kind: Kind::Name, .. }) if !text.ends_with(':') => Ok(text.to_ascii_lowercase()),
        Some(Authority { kind: Kind::Address, .. }) => Err("addresses are always answered to; name a host".to_owned()),
        _ => Err("it must be a host name without a port, such as files.example.org".to_owned()),
    }
}

/// A single path component, or nothing.
fn file_name(text: &str) -> Result<String, String> {
    match text {
        "." | ".." => Err("it must be the name of a file, such as index.html".to_owned()),
        _ if text.contains('/') => Err("it must be a name without a directory, such as index.html".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Serve {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn serve(args: &[&str]) -> Result<ServeOptions, clap::Error> {
        Serve::try_parse_from(["serve"].iter().chain(args))?.args.resolve()
    }

    fn refusal(args: &[&str]) -> String {
        let error = serve(args).expect_err("refused");
        assert_eq!(error.exit_code(), 2, "{args:?}");
        error.to_string()
    }

    #[test]
    fn without_options_the_defaults_hold() {
        assert_eq!(serve(&[]).unwrap(), ServeOptions::default());
    }

    #[test]
    fn options_mean_what_they_say() {
        let options = serve(&[
            "/srv",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "unix:/run/f.sock",
            "--workers",
            "3",
            "--eviction",
            "s3-fifo",
            "--transmit",
            "zerocopy",
            "--revalidate",
            "0",
            "--access-log",
            "-",
            "--access-log-format",
            "json",
        ])
        .unwrap();
        assert_eq!(options.listen.len(), 2);
        assert_eq!((options.workers, options.eviction), (3, Eviction::S3Fifo));
        assert_eq!((options.transmit, options.revalidate), (Transmit::Zerocopy, Duration::ZERO));
        let log = AccessLog { target: AccessLogTarget::Stdout, format: AccessLogFormat::Json };
        assert_eq!(options.access_log, Some(log));
    }

    #[test]
    fn wrong_values_name_the_option_and_the_remedy() {
        for (args, expected) in [
            (&["--arena", "512KiB"][..], "at least 1MiB is needed"),
            (&["--arena", "100000000"], "a multiple of 64KiB, such as 97600KiB"),
            (&["--arena", "64 parsecs"], "is not a unit of size"),
            (&["--workers", "0"], "1..=1024"),
            (&["--listen", "localhost"], "no port"),
            (&["--eviction", "random"], "larger-first"),
            (&["--idle-timeout", "0"], "at least 1ms"),
            (&["--idle-timeout", "10"], "needs a unit"),
            (&["--index", "a/b"], "without a directory"),
            (&["--token-reads"], "needs --token-file"),
        ] {
            let message = refusal(args);
            assert!(message.contains(args[0]) && message.contains(expected), "{args:?}: {message}");
        }
    }

    #[test]
    fn writes_beyond_loopback_need_a_token() {
        assert!(serve(&["--allow-writes"]).is_ok());
        assert!(serve(&["--allow-writes", "--listen", "unix:/x"]).is_ok());
        let message = refusal(&["--allow-writes", "--listen", "127.0.0.1:1", "--listen", "0.0.0.0:8064"]);
        assert!(message.contains("0.0.0.0:8064") && message.contains("--token-file"), "{message}");
        assert!(serve(&["--allow-writes", "--listen", "0.0.0.0:1", "--token-file", "t"]).is_ok());
    }
}
