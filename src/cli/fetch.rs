//! `forebay fetch`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::{BoolishValueParser, OsStringValueParser, TypedValueParser};

use super::{Outcome, remote::RemoteArgs};
use crate::client::fetch::{self, Target};
use crate::client::name::RemoteName;
use crate::client::plan::{self, Wanted};
use crate::client::report::Report;

/// The arguments of `forebay fetch`.
#[derive(Debug, Clone, Args)]
pub struct FetchArgs {
    #[command(flatten)]
    pub remote: RemoteArgs,

    /// Files to fetch, or patterns such as '*.txt' and 'docs/**'; directories in a name are made beneath the output
    /// directory
    #[arg(required = true, value_name = "NAME", value_parser = OsStringValueParser::new().try_map(Wanted::parse))]
    pub names: Vec<Wanted>,

    /// Directory that the files go to; "-" is standard output, which gets their bytes one after the other
    #[arg(short, long, env = "FOREBAY_OUTPUT", value_name = "DIR", default_value = ".")]
    pub output: PathBuf,

    /// Fetch directories with all that is in them; "/" is everything
    #[arg(short, long, env = "FOREBAY_RECURSIVE", value_parser = BoolishValueParser::new())]
    pub recursive: bool,

    /// Leave files alone that are there already; without it, those that differ from the server's are replaced
    #[arg(long, env = "FOREBAY_NO_CLOBBER", value_parser = BoolishValueParser::new())]
    pub no_clobber: bool,

    /// Connections at a time
    #[arg(short, long, env = "FOREBAY_JOBS", value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
}

/// Runs `forebay fetch`.
pub fn run(args: FetchArgs) -> anyhow::Result<Outcome> {
    if !args.recursive && args.names.iter().any(Wanted::is_directory) {
        super::refuse_usage(
            "a name that ends with a slash means a directory; add --recursive to fetch all that is in it",
        );
    }
    let settings = args.remote.resolve()?;
    let (target, report) = match args.output == Path::new("-") {
        true => (Target::Output, Report::without_lines()),
        false => {
            let (path, base, replace) = (args.output, RemoteName::root(), !args.no_clobber);
            (Target::Directory { path, base, replace }, Report::new())
        }
    };
    let report = Arc::new(report);
    super::runtime()?.block_on(async {
        match plan::plan(settings.clone(), &args.names, args.recursive, &report).await {
            Ok(orders) => fetch::fetch(settings, orders, target, usize::from(args.jobs), report.clone()).await,
            Err(error) => report.failure(&format!("fetch: {error}")),
        }
    });
    if args.recursive || args.names.iter().any(Wanted::is_pattern) {
        report.summary();
    }
    super::outcome(report)
}
