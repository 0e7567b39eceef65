//! Memory with many idle keep-alive connections, after the cache has been filled.

use super::Case;
use crate::{
    data::{Corpus, FILES},
    load::{Job, Limit, Loader, Target, http},
    measure::memory,
    peers::{Peer, Server},
    report::{CaseResult, Sample},
    run::Bench,
};
use anyhow::{Context, Result, ensure};
use std::net::TcpStream;

/// Connections of the load that fills the cache.
const FILLING: u32 = 8;

/// Every how many connections one is asked whether it still lives.
const ASKED: usize = 97;

pub fn run(case: &Case, connections: u32, bench: &Bench, result: &mut CaseResult) -> Result<()> {
    for peer in bench.taking_part(case) {
        let run = measure(case, peer, connections, bench, result);
        bench.record(case, peer, run, result);
    }
    Ok(())
}

fn measure(case: &Case, peer: Peer, connections: u32, bench: &Bench, result: &mut CaseResult) -> Result<Sample> {
    bench.folios.set(peer.large_folios());
    let mut server = Server::start(peer, &bench.site, case.workers, &result.placement.server)?;
    let files = bench.data.files(Corpus::Mix)?;
    let list = bench.site.state.join("names");
    files.write_list(&list)?;
    let job = Job {
        target: Target::List { directory: files.directory, list, popularity: "sequential" },
        connections: FILLING,
        pipeline: 1,
        limit: Limit::Requests(files.items.len() as u64),
        rate: None,
        loader: Loader::Loadgen,
        verify: true,
        loadgen: &bench.site.own.loadgen,
        root: &bench.data.root,
        placement: &result.placement,
        state: &bench.site.state,
    };
    let outcome = job.run(peer, server.port).context("while its cache was filled")?;
    ensure!(outcome.failures == 0, "{} requests failed while its cache was filled", outcome.failures);
    result.verified.push(peer.name().into());
    let name = FILES[0].0;
    let mut open: Vec<TcpStream> = Vec::new();
    for number in 0..connections {
        let connection = || -> Result<TcpStream> {
            let mut stream = http::connect(server.port)?;
            http::get_and_keep(&mut stream, name)?;
            Ok(stream)
        };
        open.push(connection().with_context(|| format!("connection {number} of {connections}"))?);
    }
    server.check()?;
    let held = memory::memory(&server.roots()).context("its memory cannot be read")?;
    for (number, stream) in open.iter_mut().enumerate().step_by(ASKED) {
        http::get_and_keep(stream, name).with_context(|| format!("connection {number} did not stay open"))?;
    }
    Ok(Sample { peer: peer.name().into(), round: 1, memory: Some(held), ..Sample::default() })
}
