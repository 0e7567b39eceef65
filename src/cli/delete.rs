//! `forebay delete`.

use std::sync::Arc;

use clap::Args;
use hyper::header::HeaderValue;

use super::{Outcome, remote::RemoteArgs};
use crate::client::delete;
use crate::client::name::RemoteName;
use crate::client::report::Report;

/// The arguments of `forebay delete`.
#[derive(Debug, Clone, Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    pub remote: RemoteArgs,

    /// Files to delete
    #[arg(required = true, value_name = "NAME", value_parser = super::remote_name())]
    pub names: Vec<RemoteName>,

    /// Delete only what has this entity tag, as the server's ETag shows it, with its quotes; "*" is any
    #[arg(long, env = "FOREBAY_IF_MATCH", value_name = "ETAG", value_parser = entity_tags)]
    pub if_match: Option<HeaderValue>,
}

/// Runs `forebay delete`.
pub fn run(args: DeleteArgs) -> anyhow::Result<Outcome> {
    let settings = args.remote.resolve()?;
    let report = Arc::new(Report::new());
    super::runtime()?.block_on(delete::delete(settings, args.names, args.if_match, report.clone()));
    super::outcome(report)
}

/// What `If-Match` carries: `*`, or entity tags with their quotes.
fn entity_tags(typed: &str) -> Result<HeaderValue, String> {
    let is_tag = |tag: &str| tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"');
    if typed != "*" && !typed.split(',').all(|tag| is_tag(tag.trim())) {
        return Err("an entity tag has quotes of its own: --if-match '\"5f3a-10\"'".to_owned());
    }
    HeaderValue::from_str(typed).map_err(|_| "an entity tag has no control characters".to_owned())
}
