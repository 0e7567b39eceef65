//! What an origin is asked for, and who waits for it: caches in front of the bench's own origin.

use super::failures;
use crate::{
    load::{
        self,
        job::{Job, Limit, Target},
        waiters::{self, Object},
    },
    measure::cpu,
    origin::{Origin, counting},
    peers::{Peer, Role},
    plan::{Case, Loader},
    results::{CaseResult, Sample},
    session::{Server, Session},
};
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// A replay takes a while, and the same trace in the same order says the same.
const REPLAYS: u32 = 3;

/// The trace by one client: what the origin was asked for, and what was broken.
pub fn trace(case: &Case, session: &Session, result: &mut CaseResult) -> Result<()> {
    let Some(file) = &session.trace else {
        result.skipped = Some("no trace was given (--trace FILE)".into());
        return Ok(());
    };
    let origin = Origin::of(case, session, &result.placement)?.context("the case has no origin")?;
    for round in 1..=session.scale.rounds.min(REPLAYS) {
        for peer in session.taking_part(case) {
            let run = replay(case, peer, round, file, &origin, session, result);
            session.record(case, peer, run, result);
        }
    }
    Ok(())
}

fn replay(
    case: &Case,
    peer: Peer,
    round: u32,
    file: &Path,
    origin: &Origin,
    session: &Session,
    result: &mut CaseResult,
) -> Result<Sample> {
    let mut server = start(case, peer, origin, session, result)?;
    let job = Job {
        target: Target::Trace(file.to_owned()),
        connections: 1,
        pipeline: 1,
        limit: Limit::Trace,
        rate: None,
        loader: Loader::Loadgen,
        accept_encoding: None,
        verify: true,
        loadgen: &session.site.own.loadgen,
        root: &session.data.root,
        placement: &result.placement,
        state: &session.site.state,
    };
    let roots = server.roots();
    let before = (origin.counts()?.unwrap_or_default(), cpu::usage(&roots));
    let outcome = load::run(&job, peer, server.port)?;
    let after = (origin.counts()?.unwrap_or_default(), cpu::usage(&roots));
    server.check()?;
    // Of a trace, broken responses are a figure, but for Forebay, which is to break none.
    if outcome.failures > 0 {
        let error = failures::error(&outcome, &format!("of round {round}"));
        ensure!(peer.role() != Role::Own, error);
        result.fail(peer.name(), &error);
    }
    result.verified.push(peer.name().into());
    Ok(Sample {
        peer: peer.name().into(),
        round,
        outcome: Some(outcome),
        server_cpu_seconds: Some(after.1.cpu_seconds - before.1.cpu_seconds),
        memory: server.memory(),
        origin: Some(after.0.since(before.0)),
        ..Sample::default()
    })
}

/// Many clients that ask at once for an object that comes slowly.
pub fn waiters(case: &Case, clients: u32, session: &Session, result: &mut CaseResult) -> Result<()> {
    let origin = Origin::of(case, session, &result.placement)?.context("the case has no origin")?;
    for round in 1..=session.scale.rounds.min(REPLAYS) {
        for peer in session.taking_part(case) {
            let run = wait(case, peer, (round, clients), &origin, session, result);
            session.record(case, peer, run, result);
        }
    }
    Ok(())
}

fn wait(
    case: &Case,
    peer: Peer,
    (round, clients): (u32, u32),
    origin: &Origin,
    session: &Session,
    result: &mut CaseResult,
) -> Result<Sample> {
    let mut server = start(case, peer, origin, session, result)?;
    let object = Object { path: counting::SLOW, size: counting::SLOW_BYTES, seed: counting::SEED };
    let before = origin.counts()?.unwrap_or_default();
    let waited = waiters::run(server.port, clients, object, &result.placement.load)?;
    let after = origin.counts()?.unwrap_or_default();
    server.check()?;
    failures::check(peer, &waited.outcome, &format!("of round {round}"), result)?;
    result.verified.push(peer.name().into());
    Ok(Sample {
        peer: peer.name().into(),
        round,
        outcome: Some(waited.outcome),
        memory: server.memory(),
        origin: Some(after.since(before)),
        waiter_lag_ms: Some(waited.lag.as_secs_f64() * 1e3),
        ..Sample::default()
    })
}

/// A server that has nothing in its cache.
fn start(case: &Case, peer: Peer, origin: &Origin, session: &Session, result: &mut CaseResult) -> Result<Server> {
    session.folios.set(peer.large_folios());
    let server = Server::start(peer, &session.site, case.setup(Some(origin.port)), &result.placement.server)?;
    if !result.commands.contains(&server.command) {
        result.commands.push(server.command.clone());
    }
    Ok(server)
}
