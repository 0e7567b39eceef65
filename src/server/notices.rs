//! What `--log info` promises: the server's start, reload, drain and end, and limits that requests run into.

use std::time::{Duration, Instant};

use super::shared::Shared;
use crate::limits::NOTICE_CALM;
use crate::metrics::Metrics;
use crate::metrics::counter::{Label, Read};
use crate::metrics::labels::{Class, Connection};
use crate::net::address::Address;
use crate::text;

/// Connections are taken from now on.
pub(super) fn started(shared: &Shared, bound: &[Address]) {
    let root = &shared.options.origin;
    let arena = text::bytes(shared.options.arena_bytes);
    let workers = shared.options.workers;
    for address in bound {
        let url = url(address);
        tracing::info!("started: {root} at {url}/, dashboard at {url}/.forebay/; {workers} workers, arena of {arena}");
    }
}

/// The address as a client on this machine writes it.
fn url(address: &Address) -> String {
    match address {
        Address::Unix(_) => address.to_string(),
        Address::Tcp { host, port } => {
            let host = match host.as_str() {
                "0.0.0.0" => "127.0.0.1",
                "::" => "::1",
                host => host,
            };
            format!("http://{}", Address::Tcp { host: host.to_owned(), port: *port })
        }
    }
}

/// SIGHUP was handled; `token` is what became of the token.
pub(super) fn reloaded(shared: &Shared, token: Result<(), impl std::fmt::Display>) {
    let log = if shared.access_log.is_on() { "; the access log is opened again" } else { "" };
    match token {
        Ok(()) if shared.options.token_file.is_some() => tracing::info!("SIGHUP: the token was read again{log}"),
        Ok(()) => tracing::info!("SIGHUP: there is no token to read{log}"),
        Err(error) => tracing::error!("SIGHUP: {error}; the token stays what it was{log}"),
    }
}

/// Requests are answered for a while yet, and balancers are told to send no more.
pub(super) fn lame(shared: &Shared) {
    let time = shared.options.lame_duck;
    tracing::info!("stopping in {time:?}: /.forebay/ready answers 503 from now on, and requests are answered as ever");
}

/// No more connections are taken.
pub(super) fn draining(shared: &Shared) {
    let (open, drain) = (shared.metrics.connections_open(), shared.options.drain);
    tracing::info!("stopping: no more connections are taken; {open} are open, and have {drain:?} to end");
}

/// Everything has ended.
pub(super) fn stopped(shared: &Shared) {
    let metrics = &shared.metrics;
    let requests: u64 = Class::ALL.iter().map(|&class| metrics.sum(|thread| thread.requests[class].get())).sum();
    let bytes = text::bytes(metrics.sum(|thread| thread.bytes_sent.get()));
    let time = Duration::from_secs(metrics.started.elapsed().unwrap_or_default().as_secs());
    tracing::info!("stopped after {time:?}: {requests} requests answered, {bytes} sent by the data plane");
}

/// Says once that a limit was reached, and once that it has not been for a while. It looks at counters from time to
/// time, so that those who run into the limit have nothing to say.
#[derive(Debug, Default)]
pub(super) struct LimitWatch {
    refused: u64,
    since: Option<Reached>,
}

#[derive(Debug)]
struct Reached {
    before: u64,
    last: Instant,
}

impl LimitWatch {
    /// Looks at the counters at `now`; returns what is to be said, if anything.
    pub fn look(&mut self, metrics: &Metrics, limit: usize, now: Instant) -> Option<String> {
        let refused = metrics.sum(|thread| thread.connections[Connection::Refused].get());
        let before = std::mem::replace(&mut self.refused, refused);
        if refused > before {
            if let Some(reached) = &mut self.since {
                reached.last = now;
                return None;
            }
            self.since = Some(Reached { before, last: now });
            return Some(format!(
                "all {limit} connections are in use: more are answered 503, \
                 and counted in forebay_connections_total"
            ));
        }
        let is_over = |reached: &mut Reached| now.saturating_duration_since(reached.last) >= NOTICE_CALM;
        let reached = self.since.take_if(is_over)?;
        let count = refused - reached.before;
        Some(format!("no connection was turned away for {NOTICE_CALM:?}; {count} were before"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_said_once_and_its_end_once() {
        let metrics = Metrics::new(1);
        let mut watch = LimitWatch::default();
        let begun = Instant::now();
        assert_eq!(watch.look(&metrics, 5, begun), None);
        let refused = &metrics.workers[0].connections[Connection::Refused];
        refused.add(3);
        let said = watch.look(&metrics, 5, begun).expect("the limit was reached");
        assert!(said.contains("all 5 connections"), "{said}");
        refused.one();
        assert_eq!(watch.look(&metrics, 5, begun + NOTICE_CALM), None, "it still is");
        assert_eq!(watch.look(&metrics, 5, begun + NOTICE_CALM + NOTICE_CALM / 2), None);
        let said = watch.look(&metrics, 5, begun + 2 * NOTICE_CALM).expect("it is over");
        assert!(said.contains("4 were before"), "{said}");
        assert_eq!(watch.look(&metrics, 5, begun + 3 * NOTICE_CALM), None);
    }

    #[test]
    fn a_url_leads_to_the_server() {
        for (address, expected) in [
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:81", "http://[::1]:81"),
            ("example.org:82", "http://example.org:82"),
            ("unix:/run/x", "unix:/run/x"),
        ] {
            assert_eq!(url(&address.parse().unwrap()), expected);
        }
    }
}
