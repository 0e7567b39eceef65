//! The load generator: glue between the command line and the library.

use clap::Parser;
use loadgen::{
    cli::{Cli, Command},
    commands::{self, Failed},
    find,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => commands::run(&options),
        Command::Find(options) => find::find(&options),
        Command::Corpus(options) => commands::corpus(&options).map(|()| true),
        Command::Report(options) => commands::report(&options).map(|()| true),
        Command::Compare(options) => commands::compare(&options).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Failed::Operation(error)) => {
            eprintln!("loadgen: {error:#}");
            ExitCode::from(1)
        }
        Err(Failed::Usage(error)) => {
            eprintln!("loadgen: {error:#}");
            ExitCode::from(2)
        }
    }
}
