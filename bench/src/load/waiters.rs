//! Many clients that want one object while it comes slowly.

use super::http;
use crate::{measure::cores, results::Outcome};
use anyhow::{Context, Result, ensure};
use loadgen::corpus::body::Body;
use std::{
    net::TcpStream,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// What each client but the first reads and compares of the object. All of it, for all of them, would measure how fast
/// this machine copies 32 GiB.
const COMPARED: u64 = 16 << 10;

/// The object that is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    pub path: &'a str,
    pub size: u64,
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Waited {
    pub outcome: Outcome,
    /// From the first byte that anybody got to the first byte of the last one.
    pub lag: Duration,
}

/// Connects `clients` to `port`, has them all ask at once, and has the first one read the object to its end.
///
/// # Errors
/// A connection cannot be made; nobody got anything.
pub fn run(port: u16, clients: u32, object: Object, placement: &[usize]) -> Result<Waited> {
    let streams = (0..clients).map(|number| http::connect(port).with_context(|| format!("connection {number}")));
    let streams: Vec<TcpStream> = streams.collect::<Result<_>>()?;
    let (start, end) = (&Barrier::new(streams.len()), &Barrier::new(streams.len()));
    let started = Instant::now();
    let results: Vec<Result<Instant>> = thread::scope(|scope| {
        let client = |(number, mut stream): (usize, TcpStream)| {
            let run = move || {
                cores::stay_on(placement)?;
                start.wait();
                let result = wait(&mut stream, object, if number == 0 { object.size } else { COMPARED });
                // Nobody goes away before the first one has everything.
                end.wait();
                result
            };
            thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, run)
        };
        let running: Vec<_> = streams.into_iter().enumerate().map(client).collect();
        let result = |run: std::io::Result<thread::ScopedJoinHandle<'_, Result<Instant>>>| {
            run?.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
        };
        running.into_iter().map(result).collect()
    });
    let firsts: Vec<Instant> = results.iter().filter_map(|result| result.as_ref().ok().copied()).collect();
    let failed = results.iter().filter_map(|result| result.as_ref().err());
    failed.clone().take(1).for_each(|error| eprintln!("bench: a waiting client: {error:#}"));
    let (Some(least), Some(most)) = (firsts.iter().min(), firsts.iter().max()) else {
        anyhow::bail!("no client got anything");
    };
    let outcome = Outcome {
        requests: firsts.len() as u64,
        failures: failed.count() as u64,
        bytes: object.size + COMPARED * firsts.len().saturating_sub(1) as u64,
        seconds: started.elapsed().as_secs_f64(),
        ..Outcome::default()
    };
    Ok(Waited { outcome, lag: *most - *least })
}

/// When the first byte of the object arrived. Compares the first `compared` bytes.
fn wait(stream: &mut TcpStream, object: Object, compared: u64) -> Result<Instant> {
    let body = Body::of(object.path.as_bytes(), object.seed);
    let (mut first, mut at) = (None, 0);
    http::watch(stream, object.path, |bytes| {
        first.get_or_insert_with(Instant::now);
        ensure!(body.matches(at, bytes), "the bytes after {at} are not the object's");
        at += bytes.len() as u64;
        Ok(at < compared)
    })?;
    ensure!(at >= compared, "it ended after {at} bytes");
    first.context("it had no body")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::counting;

    #[test]
    fn every_client_is_compared_and_the_last_one_counts() {
        let port = counting::tests_serving(&[("77", 400_000)]);
        let cores = cores::available();
        let object = |size, seed| Object { path: "77", size, seed };
        let waited = run(port, 5, object(400_000, counting::SEED), &cores).expect("answers");
        assert_eq!((waited.outcome.requests, waited.outcome.failures), (5, 0));
        assert!(waited.lag < Duration::from_secs(10));
        let short = run(port, 3, object(400_001, counting::SEED), &cores).expect("others have enough");
        assert_eq!((short.outcome.requests, short.outcome.failures), (2, 1), "the object is shorter than it should be");
        assert!(run(port, 2, object(400_000, counting::SEED + 1), &cores).is_err(), "other bytes");
    }
}
