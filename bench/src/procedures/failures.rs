//! Which failed requests end a server's part in a case.

use crate::{
    peers::{Peer, Role},
    results::{CaseResult, Outcome},
};
use anyhow::{Error, Result, anyhow, ensure};

/// How many requests failed, as an error.
pub fn error(outcome: &Outcome, which: &str) -> Error {
    anyhow!("{} of {} requests {which} failed", outcome.failures, outcome.failures + outcome.requests)
}

/// Whether a server goes on after requests have failed while it was warmed up. One of the others may refuse a few,
/// which is recorded: some do under memory pressure that they are built to meet that way. Forebay refuses none, and
/// nobody sends wrong bytes.
///
/// # Errors
/// It does not go on.
pub fn check(peer: Peer, outcome: &Outcome, when: &str, result: &mut CaseResult) -> Result<()> {
    if outcome.failures == 0 {
        return Ok(());
    }
    let error = error(outcome, when);
    ensure!(outcome.wrong_bytes == 0, "the bytes of {} responses were wrong; {error}", outcome.wrong_bytes);
    if peer.role() == Role::Own || outcome.is_spoilt() {
        return Err(error);
    }
    result.fail(peer.name(), &error);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::Metric, results::example};

    fn checked(peer: Peer, failures: u64, wrong_bytes: u64) -> (bool, usize) {
        let mut result = example::case("mix", Metric::CpuPerRequest, &[]);
        let outcome = Outcome { requests: 1000 - failures, failures, wrong_bytes, ..Outcome::default() };
        let goes_on = check(peer, &outcome, "while it was warmed up", &mut result).is_ok();
        (goes_on, result.failures.len())
    }

    #[test]
    fn others_may_refuse_a_few_requests_and_that_is_recorded() {
        assert_eq!(checked(Peer::Varnish, 0, 0), (true, 0));
        assert_eq!(checked(Peer::Varnish, 10, 0), (true, 1));
        assert!(!checked(Peer::Varnish, 11, 0).0, "too many for the rest to tell anything");
        assert!(!checked(Peer::Varnish, 1, 1).0, "wrong bytes");
        assert!(!checked(Peer::Forebay, 1, 0).0);
        assert!(!checked(Peer::ForebaySmallPages, 1, 0).0);
    }
}
