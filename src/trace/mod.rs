//! Recorded requests, in any of the formats that they come in: the one reader of traces and access logs.
//!
//! | format | a record | a request for |
//! |---|---|---|
//! | `oracleGeneral` | 24 bytes, little-endian: `u32` time, `u64` object, `u32` size, `i64` next use | every record |
//! | `csv` | `time,object,size` or `object,size`, or columns named by a header | every record |
//! | `access-log` | a line of the Common or Combined Log Format | a `GET` answered 200, 206 or 304 |
//!
//! Sources: libCacheSim's `oracleGeneral` reader; RFC 4180; Apache's `mod_log_config`, whose format nginx and others
//! share.

mod access_log;
mod csv;
mod oracle_general;

use std::io::{self, BufRead};

/// How a trace is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// libCacheSim's binary records of 24 bytes
    OracleGeneral,
    /// Lines of time,object,size or object,size, or with a header that names the columns
    Csv,
    /// A web server's log in the Common or Combined Log Format
    AccessLog,
}

/// How a trace names an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    Number(u64),
    /// As it stands in the trace; the target of an access log's request, without its query.
    Text(&'a [u8]),
}

/// One request for an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request<'a> {
    pub name: Name<'a>,
    /// The object's bytes, as far as this record knows them.
    pub size: u64,
    /// When it was made, in seconds since some beginning; none where the record has no such time.
    pub seconds: Option<f64>,
}

/// What one record of a trace says.
#[derive(Debug, PartialEq)]
pub enum Record<'a> {
    Request(Request<'a>),
    /// Something else than a request for a file: another method, a failure.
    Other,
    /// A line that is no line of an access log, and why. Whether that matters is for the caller to say; in the other
    /// formats a broken record breaks all that follow.
    Broken(String),
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error("record {record}: {wrong}")]
    Record { record: u64, wrong: String },
    #[error("it is compressed ({0}); give the decompressed trace, for instance by a pipe: --trace <({0}cat FILE)")]
    Compressed(&'static str),
    #[error(
        "its format cannot be told from its beginning; say which it is with --format oracleGeneral, csv or access-log"
    )]
    UnknownFormat,
    #[error("it holds no request")]
    Empty,
}

/// Hands every record of a trace to `visit`, in the order in which they stand there. Without a format, it is told from
/// the first bytes. What `visit` refuses ends the reading, with the number of the record.
///
/// # Errors
/// The trace is not in its format, or cannot be read, or `visit` refused a record.
pub fn read(
    mut input: impl BufRead,
    format: Option<Format>,
    mut visit: impl FnMut(Record<'_>) -> Result<(), String>,
) -> Result<(), TraceError> {
    let start = input.fill_buf()?;
    let compressed = [("gz", &b"\x1f\x8b"[..]), ("zstd", b"\x28\xb5\x2f\xfd"), ("xz", b"\xfd7zXZ")];
    if let Some((name, _)) = compressed.iter().find(|(_, magic)| start.starts_with(magic)) {
        return Err(TraceError::Compressed(if *name == "gz" { "z" } else { name }));
    }
    if start.is_empty() {
        return Err(TraceError::Empty);
    }
    let mut visit = |record: u64, said: Record<'_>| visit(said).map_err(|message| wrong(record, message));
    match format.map_or_else(|| guess(start), Ok)? {
        Format::OracleGeneral => oracle_general::read(input, &mut visit),
        Format::Csv => csv::read(input, &mut visit),
        Format::AccessLog => access_log::read(input, &mut visit),
    }
}

fn guess(start: &[u8]) -> Result<Format, TraceError> {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if start.contains(&0) {
        Ok(Format::OracleGeneral)
    } else if access_log::is_line(line) {
        Ok(Format::AccessLog)
    } else if line.contains(&b',') {
        Ok(Format::Csv)
    } else {
        Err(TraceError::UnknownFormat)
    }
}

fn wrong(record: u64, wrong: impl Into<String>) -> TraceError {
    TraceError::Record { record, wrong: wrong.into() }
}

/// Takes what a record says, with its number.
trait Visit: FnMut(u64, Record<'_>) -> Result<(), TraceError> {}

impl<F: FnMut(u64, Record<'_>) -> Result<(), TraceError>> Visit for F {}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
