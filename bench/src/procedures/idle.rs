//! Memory with many idle keep-alive connections, after the cache has been filled.

use super::failures;
use crate::{
    load::{
        self, http,
        job::{Job, Limit, Target},
    },
    measure::memory,
    peers::Peer,
    plan::{Case, Corpus, FILES, Loader},
    results::{CaseResult, Sample},
    session::{Server, Session},
};
use anyhow::{Context, Result};
use std::net::TcpStream;

/// Connections of the load that fills the cache.
const FILLING: u32 = 8;

/// Every how many connections one is asked whether it still lives.
const ASKED: usize = 97;

pub fn run(case: &Case, connections: u32, session: &Session, result: &mut CaseResult) -> Result<()> {
    for peer in session.taking_part(case) {
        let run = measure(case, peer, connections, session, result);
        session.record(case, peer, run, result);
    }
    Ok(())
}

fn measure(case: &Case, peer: Peer, connections: u32, session: &Session, result: &mut CaseResult) -> Result<Sample> {
    session.folios.set(peer.large_folios());
    let mut server = Server::start(peer, &session.site, case.setup(None), &result.placement.server)?;
    let files = session.data.files(Corpus::Mix)?;
    let list = session.site.state.join("names");
    files.write_list(&list)?;
    let job = Job {
        target: Target::List { directory: files.directory, list, popularity: "sequential" },
        connections: FILLING,
        pipeline: 1,
        limit: Limit::Requests(files.items.len() as u64),
        rate: None,
        loader: Loader::Loadgen,
        accept_encoding: None,
        verify: true,
        loadgen: &session.site.own.loadgen,
        root: &session.data.root,
        placement: &result.placement,
        state: &session.site.state,
    };
    let outcome = load::run(&job, peer, server.port).context("while its cache was filled")?;
    failures::check(peer, &outcome, "while its cache was filled", result)?;
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
