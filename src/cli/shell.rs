//! `forebay shell`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::output::OutputClosed;
use super::{Outcome, remote::RemoteArgs};
use crate::client::shell::Shell;

/// The arguments of `forebay shell`.
#[derive(Debug, Clone, Args)]
pub struct ShellArgs {
    #[command(flatten)]
    pub remote: RemoteArgs,

    /// Directory that fetched files go to
    #[arg(short, long, env = "FOREBAY_OUTPUT", value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
}

/// Runs `forebay shell`.
pub fn run(args: ShellArgs) -> anyhow::Result<Outcome> {
    let shell = Shell::new(args.remote.resolve()?, args.output).context("cannot start the client's runtime")?;
    match shell.run() {
        Ok(true) => Ok(Outcome::Done),
        Ok(false) => Ok(Outcome::Failed),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("shell")),
    }
}
