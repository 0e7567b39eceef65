//! `forebay put`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::{BoolishValueParser, OsStringValueParser, TypedValueParser};

use super::{Outcome, remote::RemoteArgs};
use crate::client::name::RemoteName;
use crate::client::put::{self, Target};
use crate::client::report::Report;

/// The arguments of `forebay put`.
#[derive(Debug, Clone, Args)]
pub struct PutArgs {
    #[command(flatten)]
    pub remote: RemoteArgs,

    /// Files to put; "-" is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Name on the server; with a slash at its end, a directory there [default: the file's own name]
    #[arg(long = "as", env = "FOREBAY_AS", value_name = "NAME", value_parser = OsStringValueParser::new().try_map(Target::parse))]
    pub target: Option<Target>,

    /// Put directories with all that is in them
    #[arg(short, long, env = "FOREBAY_RECURSIVE", value_parser = BoolishValueParser::new())]
    pub recursive: bool,

    /// Connections at a time; with more than one, files arrive in no particular order
    #[arg(short, long, env = "FOREBAY_JOBS", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
}

/// Runs `forebay put`.
pub fn run(args: PutArgs) -> anyhow::Result<Outcome> {
    let has_input = args.files.iter().any(|file| file == Path::new("-"));
    if has_input && !matches!(args.target, Some(Target::File(_))) {
        super::refuse_usage("standard input has no name of its own; give it one with --as NAME");
    }
    if args.files.len() > 1 && matches!(args.target, Some(Target::File(_))) {
        super::refuse_usage("several files cannot have one name; give --as a directory, with a slash at its end");
    }
    let settings = args.remote.resolve()?;
    let target = args.target.unwrap_or(Target::Directory(RemoteName::root()));
    let report = Arc::new(Report::new());
    let mut orders = Vec::new();
    for file in &args.files {
        match put::orders(file, &target, args.recursive, &report) {
            Ok(found) => orders.extend(found),
            Err(error) => report.failure(&format!("put: {error}")),
        }
    }
    let orders = put::without_clashes(orders, &report);
    super::runtime()?.block_on(put::put(settings, orders, usize::from(args.jobs), report.clone()));
    if args.recursive {
        report.summary();
    }
    super::outcome(report)
}
