//! `forebay fetch`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{Outcome, remote::RemoteArgs};
use crate::client::fetch;
use crate::client::name::RemoteName;
use crate::client::report::Report;

/// The arguments of `forebay fetch`.
#[derive(Debug, Clone, Args)]
pub struct FetchArgs {
    #[command(flatten)]
    pub remote: RemoteArgs,

    /// Files to fetch; directories in a name are made beneath the output directory
    #[arg(required = true, value_name = "NAME", value_parser = super::remote_name())]
    pub names: Vec<RemoteName>,

    /// Directory that the files go to
    #[arg(short, long, env = "FOREBAY_OUTPUT", value_name = "DIR", default_value = ".")]
    pub output: PathBuf,

    /// Connections at a time
    #[arg(short, long, env = "FOREBAY_JOBS", value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
}

/// Runs `forebay fetch`.
pub fn run(args: FetchArgs) -> anyhow::Result<Outcome> {
    let settings = args.remote.resolve()?;
    let report = Arc::new(Report::new());
    let orders = fetch::orders(&args.names, &args.output);
    super::runtime()?.block_on(fetch::fetch(settings, orders, usize::from(args.jobs), report.clone()));
    super::outcome(report)
}
