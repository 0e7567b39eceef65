//! The `forebay` program: hands the command line to the library.

use std::process::ExitCode;

use clap::Parser;
use forebay::cli::{self, Cli};

/// Finds memory for what was begun when the system has no more.
#[global_allocator]
static HEAP: forebay::arena::heap::Heap = forebay::arena::heap::Heap;

fn main() -> ExitCode {
    cli::run::run(Cli::try_parse().unwrap_or_else(|error| cli::refuse(&error)).command)
}
