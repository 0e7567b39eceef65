//! `forebay list`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use clap::builder::{BoolishValueParser, OsStringValueParser, TypedValueParser};

use super::{Outcome, output, remote::RemoteArgs};
use crate::client::list;
use crate::client::name::{NameError, RemoteName};
use crate::text;

/// The arguments of `forebay list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub remote: RemoteArgs,

    /// A directory, or the beginning of names
    #[arg(default_value = "", value_parser = OsStringValueParser::new().try_map(prefix))]
    pub prefix: OsString,

    /// List what is in the cache now, not what the origin holds
    #[arg(long, env = "FOREBAY_CACHED", value_parser = BoolishValueParser::new())]
    pub cached: bool,

    /// Print names only, one a line, as other commands take them; directories end in a slash
    #[arg(long, env = "FOREBAY_NAMES", value_parser = BoolishValueParser::new(), conflicts_with_all = ["json", "cached"])]
    pub names: bool,

    /// Print JSON
    #[arg(long, env = "FOREBAY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// Runs `forebay list`.
pub fn run(args: ListArgs) -> anyhow::Result<Outcome> {
    let settings = args.remote.resolve()?;
    let runtime = super::runtime()?;
    let prefix = args.prefix.as_bytes();
    let context = |error| anyhow::Error::new(error).context("list");
    let text = if args.cached {
        let cached = runtime.block_on(list::cached(settings, prefix)).map_err(context)?;
        if args.json { json(&cached)? } else { list::cached_table(&cached) }
    } else {
        let entries = runtime.block_on(list::origin(settings, prefix)).map_err(context)?;
        match (args.json, args.names) {
            (true, _) => json(&entries)?,
            (false, true) => list::names(&entries),
            (false, false) => list::table(&entries),
        }
    };
    output::print(&text)?;
    Ok(Outcome::Done)
}

/// What names may begin with.
fn prefix(typed: OsString) -> Result<OsString, NameError> {
    RemoteName::directory(typed.as_bytes()).map(|_| typed)
}

/// A JSON document on one line, with nothing in it that a terminal would obey.
fn json(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let document = serde_json::to_string(value)? + "\n";
    Ok(text::json(&document).into_owned())
}
