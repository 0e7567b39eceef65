//! The load: who sends requests, which, and what came of them.

pub mod http;
pub mod job;
pub mod keyvalue;
mod loadgen;
pub mod waiters;
mod wrk;

use crate::{
    peers::{Peer, Role},
    plan::Loader,
    programs,
    results::Outcome,
};
use anyhow::{Result, ensure};
use job::Job;

/// Runs a load against `peer` on `port`.
///
/// # Errors
/// The load could not be run; nothing was answered.
pub fn run(job: &Job, peer: Peer, port: u16) -> Result<Outcome> {
    let outcome = match (peer.role(), job.loader) {
        (Role::KeyValue, _) => keyvalue::run(job, peer, port)?,
        (_, Loader::Loadgen) => loadgen::run(job, port)?,
        (_, Loader::Wrk) => wrk::run(job, port)?,
    };
    ensure!(outcome.requests > 0, "{} answered no request ({} failed)", peer.name(), outcome.failures);
    Ok(outcome)
}

/// Whether wrk is there for the independent check, and the Debian package that it comes in.
pub fn wrk_missing() -> Option<&'static str> {
    programs::find("wrk").is_none().then_some("wrk")
}
