//! The options of `forebay serve` that are about an origin on another machine.

use crate::config::Source;
use crate::origin::remote::RemoteOptions;
use crate::units::{self, Size};
use clap::Args;
use clap::builder::BoolishValueParser;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The forms of an origin on another machine.
const SCHEMES: [&str; 5] = ["http", "https", "s3", "gs", "az"];

/// How a remote origin is asked, as typed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "An origin on another machine")]
pub struct RemoteArgs {
    /// Ask an HTTP origin for this host, instead of the one in its URL
    #[arg(long, env = "FOREBAY_ORIGIN_HOST", value_name = "HOST")]
    pub origin_host: Option<String>,

    /// Add a field to each request to the origin, such as 'Authorization: Bearer …'; repeatable
    #[arg(long = "origin-header", env = "FOREBAY_ORIGIN_HEADER", value_name = "NAME: VALUE", value_delimiter = '\n',
          value_parser = field)]
    pub origin_headers: Vec<(String, String)>,

    /// Trust the certificates in this PEM file instead of the system's
    #[arg(long, env = "FOREBAY_ORIGIN_CA", value_name = "FILE")]
    pub origin_ca: Option<PathBuf>,

    /// Where a store that speaks S3 is, if it is not Amazon's
    #[arg(long, env = "FOREBAY_S3_ENDPOINT", value_name = "URL")]
    pub s3_endpoint: Option<String>,

    /// Connections to the origin at most
    #[arg(long, env = "FOREBAY_ORIGIN_CONNECTIONS", value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub origin_connections: u16,

    /// Requests that wait for one of them at most; more are answered 503
    #[arg(long, env = "FOREBAY_ORIGIN_QUEUE", value_name = "N", default_value_t = 1024,
          value_parser = clap::value_parser!(u16).range(0..=32768), hide_short_help = true)]
    pub origin_queue: u16,

    /// Time to connect to the origin
    #[arg(long, env = "FOREBAY_ORIGIN_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "5s",
          value_parser = units::duration(TICK, DAY), hide_short_help = true)]
    pub origin_connect_timeout: Duration,

    /// Time that the origin has to begin its answer
    #[arg(long, env = "FOREBAY_ORIGIN_TIMEOUT", value_name = "DURATION", default_value = "30s",
          value_parser = units::duration(TICK, DAY))]
    pub origin_timeout: Duration,

    /// Longest time in which nothing comes of an answer that has begun
    #[arg(long, env = "FOREBAY_ORIGIN_IDLE_TIMEOUT", value_name = "DURATION", default_value = "30s",
          value_parser = units::duration(TICK, DAY), hide_short_help = true)]
    pub origin_idle_timeout: Duration,

    /// For how long what is stale is served when the origin fails, unless its response says so itself
    #[arg(long, env = "FOREBAY_STALE_IF_ERROR", value_name = "DURATION", default_value = "1h",
          value_parser = units::duration(Duration::ZERO, YEAR))]
    pub stale_if_error: Duration,

    /// For how long it is remembered that there is nothing under a name, unless the origin says so itself
    #[arg(long, env = "FOREBAY_NEGATIVE", value_name = "DURATION", default_value = "1s",
          value_parser = units::duration(Duration::ZERO, DAY))]
    pub negative: Duration,

    /// Cache objects of more bytes than this in slices, where the origin has ranges
    #[arg(long, env = "FOREBAY_WHOLE_MAX", value_name = "SIZE", default_value = "8MiB",
          value_parser = units::size(0, 1 << 30, 1))]
    pub whole_max: Size,

    /// Bytes of such a slice
    #[arg(long, env = "FOREBAY_SLICE", value_name = "SIZE", default_value = "1MiB",
          value_parser = units::size(64 << 10, 64 << 20, 64 << 10), hide_short_help = true)]
    pub slice: Size,

    /// Refuse methods that are neither GET, HEAD nor OPTIONS instead of forwarding them
    #[arg(long, env = "FOREBAY_READ_ONLY", value_parser = BoolishValueParser::new())]
    pub read_only: bool,
}

const TICK: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl RemoteArgs {
    /// What the first argument means: a directory, or the URL of an origin, which is asked as these options say.
    ///
    /// # Errors
    /// A URL with a scheme of which nothing is known.
    pub fn resolve(self, origin: PathBuf) -> Result<Source, String> {
        match scheme(&origin) {
            None => Ok(Source::Directory(origin)),
            Some((scheme, url)) if SCHEMES.contains(&&*scheme.to_ascii_lowercase()) => {
                Ok(Source::Remote(Box::new(self.options(url.to_owned()))))
            }
            Some((scheme, url)) => Err(format!(
                "{url} cannot be served: {scheme} is not one of {}; a directory of this name is served as ./{url}",
                SCHEMES.join(", ")
            )),
        }
    }

    fn options(self, url: String) -> RemoteOptions {
        RemoteOptions {
            url,
            host: self.origin_host,
            fields: self.origin_headers,
            ca: self.origin_ca,
            s3_endpoint: self.s3_endpoint,
            connections: usize::from(self.origin_connections),
            queue: usize::from(self.origin_queue),
            connect_timeout: self.origin_connect_timeout,
            answer_timeout: self.origin_timeout,
            idle_timeout: self.origin_idle_timeout,
            stale_if_error: self.stale_if_error,
            negative: self.negative,
            whole_max: self.whole_max.0,
            slice: self.slice.0,
            read_only: self.read_only,
        }
    }
}

/// Whether an origin is an HTTP server, which is passed what changes something without further ado.
pub fn is_http(origin: &Path) -> bool {
    scheme(origin).is_some_and(|(scheme, _)| ["http", "https"].iter().any(|own| own.eq_ignore_ascii_case(scheme)))
}

/// The scheme of what looks like a URL, and all of it.
fn scheme(origin: &Path) -> Option<(&str, &str)> {
    let url = origin.to_str()?;
    let (scheme, _) = url.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_scheme.then_some((scheme, url))
}

/// A header field: a name and a value.
fn field(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
    match parts {
        Some((name, value))
            if hyper::header::HeaderName::from_bytes(name.as_bytes()).is_ok()
                && hyper::header::HeaderValue::from_str(value).is_ok() =>
        {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("it must be a field, such as 'Authorization: Bearer abc'".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Parsed {
        #[command(flatten)]
        args: RemoteArgs,
    }

    fn resolve(origin: &str) -> Result<Source, String> {
        Parsed::parse_from(["serve"]).args.resolve(origin.into())
    }

    #[test]
    fn a_url_is_an_origin_and_all_else_a_directory() {
        for directory in [".", "/srv/files", "http:", "a/b", "http//x"] {
            assert_eq!(resolve(directory), Ok(Source::Directory(directory.into())));
        }
        for url in ["http://127.0.0.1:1/a", "HTTPS://example.org", "s3://bucket/prefix", "gs://b", "az://c"] {
            assert_eq!(resolve(url), Ok(Source::Remote(Box::new(RemoteOptions::new(url.into())))), "{url}");
        }
        assert!(resolve("ftp://x/y").unwrap_err().contains("ftp is not one of http, https"));
    }

    #[test]
    fn fields_are_checked_before_anybody_is_asked() {
        assert_eq!(field("X-Key:  a b "), Ok(("X-Key".into(), "a b".into())));
        for wrong in ["no colon", ": value", "a b: c", "a: b\nc: d"] {
            assert!(field(wrong).is_err(), "{wrong}");
        }
    }
}
