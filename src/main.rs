//! The `forebay` program: hands the command line to the library, and turns the outcome into an exit status.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use forebay::cli::output::OutputClosed;
use forebay::cli::{self, Cli, Command, Outcome, completions, fetch, list, put, shell, simulate};
use forebay::text;

/// Finds memory for what was begun when the system has no more.
#[global_allocator]
static HEAP: forebay::arena::heap::Heap = forebay::arena::heap::Heap;

fn main() -> ExitCode {
    match run(Cli::try_parse().unwrap_or_else(|error| cli::refuse(&error)).command) {
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

fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Serve(args) => {
            let options = args.resolve().unwrap_or_else(|error| cli::refuse(&error));
            forebay::server::serve(options).map(|()| Outcome::Done)
        }
        Command::Fetch(args) => fetch::run(args),
        Command::List(args) => list::run(args),
        Command::Put(args) => put::run(args),
        Command::Shell(args) => shell::run(args),
        Command::Completions(args) => completions::completions(args),
        Command::Man(args) => completions::man(args),
        Command::Simulate(args) => simulate::run(args),
    }
}
