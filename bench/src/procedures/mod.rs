//! How each kind of case is run.

mod failures;
mod idle;
mod origins;
mod startup;
mod turns;

use crate::{
    plan::{Case, Procedure},
    results::CaseResult,
    session::Session,
};
use anyhow::Result;

/// Runs a case with every server that takes part in it.
///
/// # Errors
/// What no server is to blame for. What a server is to blame for is in the result.
pub fn run(case: &Case, session: &Session, result: &mut CaseResult) -> Result<()> {
    match case.procedure {
        Procedure::Load(_) | Procedure::OpenLoop { .. } | Procedure::Cold { .. } => turns::run(case, session, result),
        Procedure::Idle { connections } => idle::run(case, connections, session, result),
        Procedure::Startup => startup::run(case, session, result),
        Procedure::Trace => origins::trace(case, session, result),
        Procedure::Waiters { clients } => origins::waiters(case, clients, session, result),
    }
}
