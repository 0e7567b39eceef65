//! The command line: one file per command, each with its arguments as typed and, where they differ, as meant.
//!
//! Every option can also be given as an environment variable, `FOREBAY_` and its name. Exit status: 0 done, 1 the
//! operation failed, 2 wrong usage.

mod choices;
pub mod completions;
pub mod delete;
pub mod fetch;
pub mod list;
pub mod output;
pub mod put;
pub mod remote;
mod remote_origin;
pub mod run;
pub mod serve;
pub mod shell;
pub mod simulate;

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::client::name::RemoteName;
use crate::client::report::Report;
use crate::text;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, about = "A file server with a fixed memory-mapped cache, and its client", long_about = None)]
#[command(arg_required_else_help = true, subcommand_required = true, max_term_width = 110)]
#[command(after_help = "Every option is also an environment variable, as its help says. \
                        Exit status: 0 done, 1 the operation failed, 2 wrong usage.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the files of a directory over HTTP
    Serve(Box<serve::ServeArgs>),
    /// Fetch files and directories from a server, resuming what an earlier transfer left
    Fetch(fetch::FetchArgs),
    /// List what a server holds, or what is in its cache
    List(list::ListArgs),
    /// Put files on a server that allows writes
    Put(put::PutArgs),
    /// Delete files on a server that allows writes
    Delete(delete::DeleteArgs),
    /// List, fetch, put and delete in an interactive session
    Shell(shell::ShellArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Make the man pages
    Man(completions::ManArgs),
    /// Replay a trace or an access log through eviction policies and sizes of the cache
    Simulate(simulate::SimulateArgs),
}

/// Says what is wrong with the command line, as clap does, but with nothing of it that a terminal would obey; exits
/// with status 2, or 0 after help.
pub fn refuse(error: &clap::Error) -> ! {
    let shown = error.render().to_string();
    if shown.lines().all(text::is_plain) {
        error.exit();
    }
    // Nothing is left to tell when standard error itself is gone.
    let _ = write!(std::io::stderr(), "{}", text::lines(&shown));
    std::process::exit(error.exit_code());
}

/// How a command ended that could do its work at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was done.
    Done,
    /// Some of it failed, and was reported.
    Failed,
}

/// The runtime of the client commands: one thread, and helpers for what blocks.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the client's runtime")
}

/// Says that the command line contradicts itself; exits with status 2.
fn refuse_usage(message: &str) -> ! {
    refuse(&Cli::command().error(ErrorKind::ArgumentConflict, message));
}

/// What a finished report means for the command.
fn outcome(report: Arc<Report>) -> anyhow::Result<Outcome> {
    match report.finish().context("cannot write to standard output")? {
        0 => Ok(Outcome::Done),
        _ => Ok(Outcome::Failed),
    }
}

/// A clap value parser for names on the server, which need not be UTF-8.
fn remote_name() -> impl TypedValueParser<Value = RemoteName> {
    OsStringValueParser::new().try_map(RemoteName::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_for_measuring_stand_in_the_long_help_only() {
        let mut cli = Cli::command();
        let serve = cli.find_subcommand_mut("serve").unwrap();
        let (short, long) = (serve.render_help().to_string(), serve.render_long_help().to_string());
        for option in ["--read-chunk", "--miss-cost", "--max-headers", "--transmit"] {
            assert!(!short.contains(option) && long.contains(option), "{option}");
        }
        assert!(short.contains("--arena") && short.contains("--max-head "), "{short}");
    }

    #[test]
    fn every_option_is_an_environment_variable_named_after_it() {
        for command in Cli::command().get_subcommands() {
            for option in command.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())) {
                let Some(long) = option.get_long() else { continue };
                let expected = format!("FOREBAY_{}", long.replace('-', "_").to_uppercase());
                let found = option.get_env().and_then(|name| name.to_str());
                assert_eq!(found, Some(expected.as_str()), "{} --{long}", command.get_name());
            }
        }
    }
}
