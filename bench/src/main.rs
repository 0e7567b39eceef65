//! `bench`: runs Forebay beside other file servers, on one machine, with the same files and the same load.

mod data;
mod load;
mod measure;
mod origin;
mod peers;
mod plan;
mod procedures;
mod processes;
mod programs;
mod report;
mod results;
mod run;
mod session;
mod soak;
mod statics;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use load::keyvalue::{self, KeyValueOptions};
use origin::counting::{self, OriginOptions};
use std::{path::PathBuf, process::ExitCode};

/// Runs Forebay side by side with other file servers and reports ratios.
#[derive(Debug, Parser)]
#[command(name = "bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start every server, run every case, write results.json, the table and the plots
    Run(run::RunOptions),
    /// Use everything at once for a long time, and see whether memory, descriptors, threads and the arena stay steady
    Soak(soak::SoakOptions),
    /// Make the table and the plots again from a results.json, beside it
    Report { results: PathBuf },
    /// The load for key-value stores; `run` starts it
    #[command(hide = true)]
    KeyValueLoad(KeyValueOptions),
    /// The origin that counts; `run` starts it
    #[command(hide = true)]
    HttpOrigin(OriginOptions),
}

fn main() -> ExitCode {
    match execute(&Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: &Command) -> Result<bool> {
    match command {
        Command::Run(options) => {
            processes::end_on_signals()?;
            run::run(options)
        }
        Command::Soak(options) => {
            processes::end_on_signals()?;
            soak::soak(options)
        }
        Command::Report { results } => {
            let directory = results.parent().context("it has no directory")?;
            let written = report::write_pages(&results::Results::load(results)?, directory)?;
            written.iter().for_each(|file| println!("{}", file.display()));
            Ok(true)
        }
        Command::HttpOrigin(options) => counting::run(options).map(|()| true),
        Command::KeyValueLoad(options) => {
            println!("{}", serde_json::to_string(&keyvalue::load(options)?)?);
            Ok(true)
        }
    }
}
