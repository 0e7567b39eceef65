//! The `forebay` program: hands the command line to the library, and turns the outcome into an exit status.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use forebay::cli::{Cli, Command};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell when standard error itself is gone.
            let _ = writeln!(std::io::stderr(), "forebay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => {
            let options = args.resolve().unwrap_or_else(|error| error.exit());
            forebay::server::serve(options)
        }
    }
}
