//! From the start of a server's process to the first byte of a response.

use crate::{
    plan::Case,
    results::{CaseResult, Sample},
    session::{Server, Session},
};
use anyhow::Result;

pub fn run(case: &Case, session: &Session, result: &mut CaseResult) -> Result<()> {
    for round in 1..=session.scale.rounds {
        for peer in session.taking_part(case) {
            session.folios.set(peer.large_folios());
            let started = Server::start(peer, &session.site, case.setup(None), &result.placement.server);
            let run = started.map(|server| {
                let first_byte_ms = Some(server.first_byte.as_secs_f64() * 1e3);
                Sample { peer: peer.name().into(), round, first_byte_ms, ..Sample::default() }
            });
            session.record(case, peer, run, result);
        }
    }
    Ok(())
}
