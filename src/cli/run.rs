//! From a command line to an exit status.

use std::io::Write;
use std::process::ExitCode;

use super::output::OutputClosed;
use super::{Command, Outcome, completions, delete, fetch, list, put, refuse, shell, simulate};
use crate::text;

/// Carries out a command, and says on standard error why it failed.
pub fn run(command: Command) -> ExitCode {
    match outcome(command) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Err(error) if error.is::<OutputClosed>() => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell when standard error itself is gone.
            let _ = writeln!(std::io::stderr(), "forebay: {}", text::lines(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn outcome(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Serve(args) => {
            let options = args.resolve().unwrap_or_else(|error| refuse(&error));
            crate::server::serve(options).map(|()| Outcome::Done)
        }
        Command::Fetch(args) => fetch::run(args),
        Command::List(args) => list::run(args),
        Command::Put(args) => put::run(args),
        Command::Delete(args) => delete::run(args),
        Command::Shell(args) => shell::run(args),
        Command::Completions(args) => completions::completions(args),
        Command::Man(args) => completions::man(args),
        Command::Simulate(args) => simulate::run(args),
    }
}
