//! `fetch`: files from the server into a directory, whole or not at all, or to standard output.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::StatusCode;

use super::connection::Connection;
use super::kept::Kept;
use super::name::RemoteName;
use super::partial::{Finished, Partial};
use super::report::{Done, Report};
use super::sink::{Output, Sink};
use super::transfer::{self, Outcome};
use super::{Error, Settings, jobs};
use crate::text;

/// One file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its name on the server.
    pub name: RemoteName,
    /// Where it goes.
    pub place: Place,
    /// What else it could have been, to be told if it is not found.
    pub hint: Option<String>,
}

/// Where a file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Beneath the output directory, under its own name.
    Own,
    /// The same, for a name that the server gave: no link in the output directory is followed for it.
    Listed,
    /// To this path.
    At(PathBuf),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// What becomes of the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Files beneath this directory, with their names from `base` on. Unless they are to be replaced, those that are
    /// there are left alone.
    Directory { path: PathBuf, base: RemoteName, replace: bool },
    /// Standard output, one file after the other.
    Output,
}

/// Fetches the files over up to `jobs` connections at a time.
pub async fn fetch(settings: Arc<Settings>, orders: Vec<Order>, target: Target, jobs: usize, report: Arc<Report>) {
    let jobs = if target == Target::Output { 1 } else { jobs };
    let reporter = report.clone();
    let work = async move |connection: &mut Connection, order: &Order| {
        let fetched = match &target {
            Target::Output => to_output(connection, order, &reporter).await,
            Target::Directory { path, base, replace } => {
                to_file(connection, order, &place(order, path, base)?, *replace, &reporter).await
            }
        };
        fetched.map_err(|error| match (&order.hint, error) {
            (Some(hint), error @ Error::Refused { status: StatusCode::NOT_FOUND, .. }) => {
                Error::Unexpected(format!("{error}; {hint}"))
            }
            (_, error) => error,
        })
    };
    jobs::run("fetch", settings, orders, jobs, &report, work).await;
}

/// The path of an order's file. The error is that a link lies on the way of a name that a server gave.
fn place(order: &Order, output: &Path, base: &RemoteName) -> Result<PathBuf, Error> {
    let name = order.name.path();
    let path = name.strip_prefix(base.path()).unwrap_or(name);
    match &order.place {
        Place::At(path) => return Ok(path.clone()),
        Place::Own => return Ok(output.join(path)),
        Place::Listed => {}
    }
    let mut directory = output.to_owned();
    for component in path.parent().into_iter().flat_map(Path::components) {
        directory.push(component);
        if directory.is_symlink() {
            return Err(Error::Local(format!(
                "{} is a link, which is not followed for a name from a listing",
                text::path(&directory)
            )));
        }
    }
    Ok(output.join(path))
}

async fn to_output(connection: &mut Connection, order: &Order, report: &Report) -> Result<Done, Error> {
    let mut output = Output::new()?;
    transfer::transfer(connection, &order.name, None, &mut output, report).await?;
    Ok(Done::with("fetched", output.len()))
}

/// Fetches a file to its destination, whole or not at all.
async fn to_file(
    connection: &mut Connection,
    order: &Order,
    destination: &Path,
    replace: bool,
    report: &Report,
) -> Result<Done, Error> {
    let left_alone = || Done { what: "kept", bytes: None, note: Some("it is here already".to_owned()) };
    if !replace && destination.symlink_metadata().is_ok() {
        return Ok(left_alone());
    }
    let mut partial = Partial::find(destination)?;
    let kept = Kept::of(destination, &transfer::url(connection, &order.name));
    let size = kept.as_ref().map(|kept| kept.size);
    let outcome = match transfer::transfer(connection, &order.name, kept, &mut partial, report).await {
        Ok(outcome) => outcome,
        Err(error) => {
            partial.discard_unless_resumable();
            return Err(error);
        }
    };
    let (modified, resumed_at) = match outcome {
        Outcome::Whole { modified, resumed_at } => (modified, resumed_at),
        Outcome::Same => {
            partial.discard_unless_resumable();
            return Ok(Done { what: "unchanged", bytes: size, note: None });
        }
    };
    let bytes = partial.len();
    let finished = tokio::task::spawn_blocking(move || partial.finish(modified, replace))
        .await
        .map_err(|error| Error::Local(format!("writing ended unexpectedly: {error}")))??;
    let note = (resumed_at > 0).then(|| format!("resumed at {}", text::bytes(resumed_at)));
    Ok(match finished {
        Finished::InPlace => Done { note, ..Done::with("fetched", bytes) },
        Finished::LeftAlone => left_alone(),
    })
}
