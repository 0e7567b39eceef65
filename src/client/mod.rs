//! The client: what `forebay fetch`, `list`, `put`, `delete` and `shell` do, as a library over HTTP/1.1.
//!
//! Requests go over hyper connections on a tokio runtime ([`connection`]); each command is a module that takes
//! [`Settings`], what was asked for, and a [`report::Report`] to tell how it went. What moves files goes one way: names
//! as typed become orders ([`plan`]), a bounded number of connections takes them from a queue (`jobs`), and each ends
//! as a [`report::Done`] or an [`Error`].

pub mod connection;
pub mod delete;
pub mod fetch;
mod jobs;
pub mod kept;
pub mod list;
pub mod listing;
pub mod name;
pub mod partial;
pub mod plan;
pub mod put;
pub mod report;
pub mod shell;
pub mod sink;
mod transfer;
pub mod upload;

use std::path::PathBuf;
use std::time::Duration;

use hyper::StatusCode;

use crate::net::address::Address;
use crate::text;

/// What every command needs to know of the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is.
    pub address: Address,
    /// The bearer token to show, if any.
    pub token: Option<String>,
    /// How long the server may be silent before the connection counts as broken.
    pub timeout: Duration,
}

/// What can go wrong with one operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection came about.
    #[error("cannot connect to {address}: {source}")]
    Connect { address: Address, source: std::io::Error },
    /// A connection ended in the middle of something.
    #[error("the connection to {address} broke: {detail}")]
    Broken { address: Address, detail: String },
    /// No byte moved for the time limit.
    #[error("{address} was silent for {}", humantime::format_duration(*.after))]
    Silent { address: Address, after: Duration },
    /// The server answered, but not with success.
    #[error("{}", refusal(*.status, .message))]
    Refused { status: StatusCode, message: String },
    /// The server does not tell what is in its directories, or in this one.
    #[error("the server does not list this directory ({}){}{}", .status.as_u16(), if .message.is_empty() { "" } else { ": " }, .message)]
    Unlisted { status: StatusCode, message: String },
    /// The server answered something that makes no sense for the request.
    #[error("{0}")]
    Unexpected(String),
    /// A local file or directory.
    #[error("cannot {action} {}: {source}", text::path(.path))]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    /// Standard output cannot take the bytes of files.
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
    /// A local condition that needs no system error to explain it.
    #[error("{0}")]
    Local(String),
}

impl Error {
    /// Whether another attempt over a new connection may go better.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Broken { .. } | Error::Silent { .. } => true,
            Error::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
            Error::Connect { .. } | Error::Unlisted { .. } | Error::Unexpected(_) => false,
            Error::File { .. } | Error::Output(_) | Error::Local(_) => false,
        }
    }
}

/// One line for an answer that is not a success, with the server's own words in it.
fn refusal(status: StatusCode, message: &str) -> String {
    let code = status.as_u16();
    let mut line = match status {
        StatusCode::NOT_FOUND => format!("not found on the server ({code})"),
        StatusCode::UNAUTHORIZED => {
            format!("the server asks for a token ({code}); give one with --token-file FILE or in FOREBAY_TOKEN")
        }
        _ => format!("the server answered {code} {}", status.canonical_reason().unwrap_or("")).trim_end().to_owned(),
    };
    if !message.is_empty() {
        line.push_str(": ");
        line.push_str(message);
    }
    line
}

/// Attaches what was being done to which file to an I/O error.
fn file_error(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}
