//! What stands behind the cache on another machine: an HTTP server ([`http`]) or an object store.
//!
//! Both are asked in HTTP's own terms, and answer so: a store's answer is described by the fields that an HTTP server
//! would send. Whoever asks decides what is kept of the answer; nothing here knows the cache.

pub mod http;
pub mod store;
pub mod tls;

use crate::limits;
use crate::ring::system::monotonic;
use crate::version::stored::Stored;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// An origin on another machine, as the options have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteOptions {
    /// `http://host[:port][/prefix]`, `https://…`, `s3://bucket[/prefix]`, `gs://…` or `az://…`.
    pub url: String,
    /// The Host that an HTTP origin is asked for; else that of its URL.
    pub host: Option<String>,
    /// Further fields of each request: name and value.
    pub fields: Vec<(String, String)>,
    /// Certificates that are trusted instead of the system's: a PEM file.
    pub ca: Option<PathBuf>,
    /// Where a store that speaks S3 is, if it is not Amazon's.
    pub s3_endpoint: Option<String>,
    /// Connections to the origin at most.
    pub connections: usize,
    /// Requests that wait for one of them at most.
    pub queue: usize,
    pub connect_timeout: Duration,
    /// Until the head of an answer is there.
    pub answer_timeout: Duration,
    /// Between two pieces of its body.
    pub idle_timeout: Duration,
    /// For how long what is stale is served when the origin fails, unless it says so itself.
    pub stale_if_error: Duration,
    /// For how long it is remembered that there is nothing under a name, unless the origin says so itself.
    pub negative: Duration,
    /// Objects of more bytes are cached in slices.
    pub whole_max: u64,
    /// Bytes of a slice.
    pub slice: u64,
    /// Methods that are neither GET, HEAD nor OPTIONS are refused.
    pub read_only: bool,
}

impl RemoteOptions {
    /// What holds for this origin without further options.
    pub fn new(url: String) -> RemoteOptions {
        RemoteOptions {
            url,
            host: None,
            fields: Vec::new(),
            ca: None,
            s3_endpoint: None,
            connections: 64,
            queue: 1024,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            stale_if_error: Duration::from_secs(3600),
            negative: Duration::from_secs(1),
            whole_max: 8 << 20,
            slice: 1 << 20,
            read_only: false,
        }
    }
}

/// An origin on another machine.
pub struct Remote {
    kind: Kind,
    /// When it gave no answer, if it has given none since: monotonic nanoseconds; 0 if it answered when it was last
    /// asked.
    silent: AtomicU64,
}

enum Kind {
    Http(http::Upstream),
    Store(store::Store),
}

impl Remote {
    /// Gets ready to ask the origin. Nothing is asked yet.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub fn open(options: &RemoteOptions) -> Result<Remote, String> {
        let is_http = options
            .url
            .split("://")
            .next()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"));
        let kind = match is_http {
            true => options.upstream().map(Kind::Http),
            false => options.store().map(Kind::Store),
        };
        Ok(Remote { kind: kind?, silent: AtomicU64::new(0) })
    }

    /// Asks the origin.
    ///
    /// # Errors
    /// Why it gave no answer. What happens to the answer's body later is said by the body.
    pub async fn send(&self, ask: Ask) -> Result<Answer, Fault> {
        let answer = match &self.kind {
            Kind::Http(upstream) => upstream.send(ask).await,
            Kind::Store(store) => store.send(ask).await,
        };
        self.learn(answer.as_ref().err(), monotonic());
        answer
    }

    /// It was asked at `now`: with an answer, or with this fault.
    fn learn(&self, fault: Option<&Fault>, now: u64) {
        match fault {
            None if self.silent.load(Relaxed) > 0 => self.silent.store(0, Relaxed),
            Some(fault) if fault.is_silence() => self.silent.store(now.max(1), Relaxed),
            _ => {}
        }
    }

    /// Whether it gave no answer when it was last asked, and that was not long ago. Whoever wants to know later has
    /// to ask it.
    pub fn is_silent(&self, now: u64) -> bool {
        let since = self.silent.load(Relaxed);
        since > 0 && now.saturating_sub(since) < limits::ORIGIN_SILENCE.as_nanos() as u64
    }

    /// The object store, if it is one.
    pub fn store(&self) -> Option<&store::Store> {
        match &self.kind {
            Kind::Http(_) => None,
            Kind::Store(store) => Some(store),
        }
    }

    /// An object store rather than an HTTP server.
    pub fn is_store(&self) -> bool {
        self.store().is_some()
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_store() { "an object store" } else { "an HTTP server" })
    }
}

impl RemoteOptions {
    fn upstream(&self) -> Result<http::Upstream, String> {
        let mut options = http::UpstreamOptions::new(self.url.parse().map_err(said::<http::LocationError>)?);
        options.host = self.host.as_ref().map(HeaderValue::try_from).transpose().map_err(said)?;
        for (name, value) in &self.fields {
            let name = HeaderName::try_from(name).map_err(said)?;
            options.fields.push((name, HeaderValue::try_from(value).map_err(said)?));
        }
        options.ca = self.ca.clone();
        options.bounds = self.bounds();
        http::Upstream::new(options).map_err(said)
    }

    fn bounds(&self) -> http::Bounds {
        http::Bounds {
            connections: self.connections,
            queue: self.queue,
            connect_timeout: self.connect_timeout,
            first_byte_timeout: self.answer_timeout,
            idle_timeout: self.idle_timeout,
            ..http::Bounds::default()
        }
    }

    fn store(&self) -> Result<store::Store, String> {
        let options = store::StoreOptions {
            endpoint: self.s3_endpoint.clone(),
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            authorities: self.ca.clone(),
            bounds: self.bounds(),
        };
        store::Store::open(&self.url, &options).map_err(said)
    }
}

fn said<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

/// A request to the origin, with the fields of the client that are the origin's affair. Its target is in origin form:
/// path and query as the client sent them.
pub type Ask = Request<Body>;

/// An extension of an [`Ask`] by whoever wants to be told of interim responses while the answer is awaited: of their
/// heads, as they are passed on.
#[derive(Clone)]
pub struct Interim(Arc<dyn Fn(Arc<[u8]>) + Send + Sync>);

impl Interim {
    pub fn new(told: impl Fn(Arc<[u8]>) + Send + Sync + 'static) -> Interim {
        Interim(Arc::new(told))
    }

    pub fn tell(&self, head: Arc<[u8]>) {
        (self.0)(head);
    }
}

/// An answer of the origin. Its body comes as it is asked for, so that whoever takes it slowly slows the origin down.
pub type Answer = Response<Body>;

/// A body that comes piece by piece.
pub type Body = UnsyncBoxBody<Bytes, Fault>;

/// Why the origin gave no answer, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection could be made.
    #[error("the origin cannot be reached: {0}")]
    Unreachable(String),
    /// It took longer than it may.
    #[error("the origin has not {waited_for} within {limit:?}")]
    TimedOut { waited_for: &'static str, limit: Duration },
    /// What came is no HTTP, or ended early.
    #[error("the origin's answer is broken: {0}")]
    Broken(String),
    /// As many requests wait for the origin as may.
    #[error("too many requests wait for the origin")]
    Busy,
    /// The origin does not accept what this server proves itself with.
    #[error("the origin refuses this server's credentials: {0}")]
    Credentials(String),
    /// The request came through this server before.
    #[error("the request has come back to this server: its origin leads to itself")]
    Looped,
    /// What is asked for cannot be asked of the origin.
    #[error("the origin cannot be asked for this: {0}")]
    Target(&'static str),
    /// The client's part of the request is longer than it may be.
    #[error("the request has more than {limit} bytes, which is all that may be sent (--max-upload)")]
    TooLarge { limit: u64 },
    /// The client's part of the request broke off.
    #[error("the request broke off: {0}")]
    Request(String),
}

impl Fault {
    /// Whether the origin itself failed to answer, rather than that the request was at fault, or one too many.
    fn is_silence(&self) -> bool {
        match self {
            Fault::Unreachable(_)
            | Fault::TimedOut { .. }
            | Fault::Broken(_)
            | Fault::Credentials(_)
            | Fault::Looped => true,
            Fault::Busy | Fault::Target(_) | Fault::TooLarge { .. } | Fault::Request(_) => false,
        }
    }

    /// The status by which a client is told (RFC 9110, 15.6).
    pub fn status(&self) -> u16 {
        match self {
            Fault::Unreachable(_) | Fault::Broken(_) | Fault::Credentials(_) => 502,
            Fault::TimedOut { .. } => 504,
            Fault::Busy => 503,
            Fault::Looped => 508,
            Fault::TooLarge { .. } => 413,
            Fault::Request(_) | Fault::Target(_) => 400,
        }
    }
}

/// No body.
pub fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// An answer that is not stored: it is for the request alone that it was asked for.
pub struct Passing {
    /// What is said of it. Its size is that of the body that is there, or 0 if more is coming.
    pub head: Stored,
    /// Bytes of the body, as far as the origin has announced them.
    pub announced: Option<u64>,
    pub body: PassingBody,
}

/// The body of such an answer.
pub enum PassingBody {
    /// All of it.
    Whole(Bytes),
    /// It is coming. Taken by whoever sends it.
    Coming(Mutex<Option<Body>>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_silent_until_it_answers_or_a_while_is_over() {
        let origin = Remote::open(&RemoteOptions::new("http://127.0.0.1:1".into())).unwrap();
        let over = limits::ORIGIN_SILENCE.as_nanos() as u64;
        assert!(!origin.is_silent(0), "nothing is known yet");
        for fault in
            [Fault::Busy, Fault::TooLarge { limit: 1 }, Fault::Request("gone".into()), Fault::Target("no path")]
        {
            origin.learn(Some(&fault), 7);
            assert!(!origin.is_silent(7), "{fault}");
        }
        let fault = Fault::Unreachable("refused".into());
        origin.learn(Some(&fault), 7);
        assert!(origin.is_silent(7) && origin.is_silent(6 + over));
        assert!(!origin.is_silent(7 + over), "it may be back, and nobody would know");
        origin.learn(Some(&fault), 9 + over);
        origin.learn(Some(&Fault::Busy), 9 + over);
        assert!(origin.is_silent(9 + over), "that says nothing of the origin");
        origin.learn(None, 9 + over);
        assert!(!origin.is_silent(9 + over));
    }
}
