//! The command line: one file per command, each with its arguments as typed and, where they differ, as meant.
//!
//! Every option can also be given as an environment variable, `FOREBAY_` and its name. Exit status: 0 done, 1 the operation
//! failed, 2 wrong usage.

pub mod serve;
pub mod units;

use clap::{Parser, Subcommand};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, about = "A file server with a fixed memory-mapped cache, and its client", long_about = None)]
#[command(arg_required_else_help = true, subcommand_required = true, max_term_width = 110)]
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
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
