//! What all cases of a run share: the files, the servers that were found, and what is said meanwhile.

mod server;

pub use server::Server;

use crate::{
    data::Data,
    measure::folios::Folios,
    peers::{Peer, launch::Site},
    plan::{Case, Scale},
    results::{CaseResult, Sample},
};
use anyhow::Result;
use std::path::PathBuf;

/// What every case needs.
#[derive(Debug)]
pub struct Session {
    pub site: Site,
    pub data: Data,
    pub scale: Scale,
    pub folios: Folios,
    /// The trace to replay, if one was given.
    pub trace: Option<PathBuf>,
    /// Those that were found.
    pub peers: Vec<Peer>,
}

impl Session {
    /// The servers that take part in a case, in the order in which they run.
    pub fn taking_part(&self, case: &Case) -> Vec<Peer> {
        self.peers.iter().copied().filter(|peer| peer.takes_part(case)).collect()
    }

    /// Records a run of a server, or that it failed; whether there is a sample.
    pub fn record(&self, case: &Case, peer: Peer, run: Result<Sample>, result: &mut CaseResult) -> bool {
        match run {
            Ok(sample) => {
                self.tell(case, &sample);
                result.samples.push(sample);
                true
            }
            Err(error) => {
                result.fail(peer.name(), &error);
                false
            }
        }
    }

    /// A line of progress.
    fn tell(&self, case: &Case, sample: &Sample) {
        let value = sample.value(case.metric).map(|value| format!("{value:.2} {}", case.metric.unit()));
        let value = match value {
            Some(value) => value,
            None if sample.is_too_short(case.metric) => "too short a run for a figure".into(),
            None => "no figure".into(),
        };
        eprintln!("{:<20} {:>3}/{} {:<17} {value}", case.name, sample.round, self.scale.rounds, sample.peer);
    }
}
