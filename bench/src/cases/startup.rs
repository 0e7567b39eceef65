//! From the start of a server's process to the first byte of a response.

use super::Case;
use crate::{
    peers::Server,
    report::{CaseResult, Sample},
    run::Bench,
};
use anyhow::Result;

pub fn run(case: &Case, bench: &Bench, result: &mut CaseResult) -> Result<()> {
    for round in 1..=bench.scale.rounds {
        for peer in bench.taking_part(case) {
            bench.folios.set(peer.large_folios());
            let started = Server::start(peer, &bench.site, case.workers, &result.placement.server);
            let run = started.map(|server| {
                let first_byte_ms = Some(server.first_byte.as_secs_f64() * 1e3);
                Sample { peer: peer.name().into(), round, first_byte_ms, ..Sample::default() }
            });
            bench.record(case, peer, run, result);
        }
    }
    Ok(())
}
