//! `list`: what the origin holds in a directory, and what the cache holds now.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::connection::Connection;
use super::listing::{self, Entry, Kind, Time};
use super::name::RemoteName;
use super::{Error, Settings};
use crate::text;

/// The longest answer about the cache that is taken: more entries than an arena can hold.
const CACHED_BYTES_MAX: usize = 1 << 30;

/// What `GET /.forebay/cache` tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cached {
    /// The arena as a whole.
    pub arena: Arena,
    /// The files that are cached.
    pub entries: Vec<CachedEntry>,
}

/// The arena's numbers, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arena {
    /// What it may hold.
    pub capacity_bytes: u64,
    /// What it holds, with what cannot be used.
    pub resident_bytes: u64,
    /// What of it are bytes of files.
    pub live_bytes: u64,
    /// What responses in progress hold.
    pub leased_bytes: u64,
    /// Numbers that this version does not know, passed on.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// One cached file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CachedEntry {
    /// Its name from the server's root.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// How often it was served from the cache.
    pub hits: u64,
    /// How long it has been cached.
    pub age_seconds: f64,
    /// Facts that this version does not know, passed on.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// Lists the directory `prefix`, or, if there is none of that name, what in its parent directory begins with it. Names
/// in the result start at the server's root, so that they can be fetched.
pub async fn origin(settings: Arc<Settings>, prefix: &[u8]) -> Result<Vec<Entry>, Error> {
    let mut connection = Connection::new(settings)?;
    origin_over(&mut connection, prefix).await
}

/// [`origin`] over an existing connection.
pub async fn origin_over(connection: &mut Connection, prefix: &[u8]) -> Result<Vec<Entry>, Error> {
    let name = |typed| RemoteName::directory(typed).map_err(|error| Error::Local(error.to_string()));
    let directory = name(prefix)?;
    let missing = match directory_entries(connection, &directory).await {
        Ok(entries) => return Ok(entries),
        Err(error @ Error::Refused { status: StatusCode::NOT_FOUND, .. }) => error,
        Err(error) => return Err(error),
    };
    if prefix.ends_with(b"/") || directory.as_bytes().is_empty() {
        return Err(missing);
    }
    let whole = directory.as_bytes();
    let parent = &whole[..whole.iter().rposition(|&byte| byte == b'/').unwrap_or(0)];
    let mut entries = directory_entries(connection, &name(parent)?).await?;
    entries.retain(|entry| entry.name.as_bytes().starts_with(whole));
    if entries.is_empty() {
        return Err(Error::Unexpected(format!("nothing on the server begins with \"{directory}\"")));
    }
    Ok(entries)
}

async fn directory_entries(connection: &mut Connection, directory: &RemoteName) -> Result<Vec<Entry>, Error> {
    let within = String::from_utf8_lossy(directory.as_bytes()).into_owned();
    let mut entries = Vec::new();
    let take = |mut entry: Entry| {
        if !within.is_empty() {
            entry.name = format!("{within}/{}", entry.name);
        }
        if let Some(href) = entry.href.as_ref().and_then(|href| href.strip_prefix("./")) {
            entry.href = Some(directory.directory_target() + href);
        }
        entries.push(entry);
        Ok(())
    };
    listing::read(connection, directory, take).await?;
    Ok(entries)
}

/// Whether the server has this directory, and lists it.
pub async fn check_directory(settings: Arc<Settings>, directory: &RemoteName) -> Result<(), Error> {
    let mut connection = Connection::new(settings)?;
    listing::open(&mut connection, directory).await.map(drop)
}

/// What is cached now, of the names that begin with `prefix`; the most used first.
pub async fn cached(settings: Arc<Settings>, prefix: &[u8]) -> Result<Cached, Error> {
    let mut connection = Connection::new(settings)?;
    cached_over(&mut connection, prefix).await
}

/// [`cached`] over an existing connection.
pub async fn cached_over(connection: &mut Connection, prefix: &[u8]) -> Result<Cached, Error> {
    let mut response = listing::json(connection, "/.forebay/cache").await?;
    let body = connection.body(response.body_mut(), CACHED_BYTES_MAX).await?;
    let mut cached: Cached = listing::parse(&body)?;
    let bare = |name: &[u8]| name.iter().position(|&byte| byte != b'/').map_or(Vec::new(), |at| name[at..].to_vec());
    let prefix = bare(prefix);
    cached.entries.retain(|entry| bare(entry.name.as_bytes()).starts_with(&prefix));
    cached.entries.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.name.cmp(&b.name)));
    Ok(cached)
}

/// The names of entries, one a line. Those that a line cannot hold as they are (with control characters, or not in
/// UTF-8) are left out.
pub fn names(entries: &[Entry]) -> String {
    let is_plain = |entry: &&Entry| text::is_plain(&entry.name) && !entry.name.contains(char::REPLACEMENT_CHARACTER);
    let line = |entry: &Entry| format!("{}{}\n", entry.name, if entry.kind == Kind::Directory { "/" } else { "" });
    entries.iter().filter(is_plain).map(line).collect()
}

/// A table of a directory's entries for people: size, time, name; directories end in a slash.
pub fn table(entries: &[Entry]) -> String {
    let mut rows = vec![["SIZE".to_owned(), "MODIFIED (UTC)".to_owned(), "NAME".to_owned()]];
    for entry in entries {
        let mut name = text::escape(entry.name.as_bytes());
        let size = match (entry.kind, entry.size) {
            (Kind::File, Some(size)) => text::bytes(size),
            _ => "-".to_owned(),
        };
        if entry.kind == Kind::Directory {
            name.push('/');
        }
        rows.push([size, entry.mtime.as_ref().map_or("-".to_owned(), Time::display), name]);
    }
    aligned(&rows, [true, false])
}

/// A table of what is cached for people, with the arena's numbers above it.
pub fn cached_table(cached: &Cached) -> String {
    let arena = &cached.arena;
    let mut rows = vec![["SIZE".to_owned(), "HITS".to_owned(), "AGE".to_owned(), "NAME".to_owned()]];
    for entry in &cached.entries {
        let age = Duration::from_secs(entry.age_seconds.clamp(0.0, 1e12) as u64);
        rows.push([
            text::bytes(entry.size),
            entry.hits.to_string(),
            indicatif::FormattedDuration(age).to_string(),
            text::escape(entry.name.as_bytes()),
        ]);
    }
    format!(
        "arena {}: {} resident, {} live, {} leased; {} files\n{}",
        text::bytes(arena.capacity_bytes),
        text::bytes(arena.resident_bytes),
        text::bytes(arena.live_bytes),
        text::bytes(arena.leased_bytes),
        cached.entries.len(),
        aligned(&rows, [true, true, true])
    )
}

/// Lays rows out in columns two spaces apart; the last column is free. `to_right` says which of the others are set to
/// the right.
fn aligned<const N: usize, const M: usize>(rows: &[[String; N]], to_right: [bool; M]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; M] = std::array::from_fn(width);
    let mut out = String::new();
    for row in rows {
        for column in 0..M {
            let (cell, width) = (&row[column], widths[column]);
            // Writing to a String cannot fail.
            let _ = if to_right[column] { write!(out, "{cell:>width$}  ") } else { write!(out, "{cell:<width$}  ") };
        }
        out.push_str(&row[N - 1]);
        out.push('\n');
    }
    out
}

impl Time {
    /// `2024-05-01 12:30:00`, or the text it came as.
    fn display(&self) -> String {
        let seconds = match self {
            Time::Seconds(seconds) => *seconds,
            Time::Fraction(seconds) => *seconds as i64, // saturates
            Time::Text(text) => match humantime::parse_rfc3339(text) {
                Ok(_) => return text.trim_end_matches('Z').replace('T', " "),
                Err(_) => return text::escape(text.as_bytes()),
            },
        };
        let time = if seconds >= 0 {
            UNIX_EPOCH.checked_add(Duration::from_secs(seconds.unsigned_abs()))
        } else {
            UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs()))
        };
        // humantime writes the years 1970 to 9999 and panics on others.
        let end: SystemTime = UNIX_EPOCH + Duration::from_secs(253_402_300_800);
        match time {
            Some(time) if (UNIX_EPOCH..end).contains(&time) => {
                let text = humantime::format_rfc3339_seconds(time).to_string();
                text.trim_end_matches('Z').replace('T', " ")
            }
            _ => format!("@{seconds}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(json: &str) -> Entry {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_directory_is_an_aligned_table_without_control_characters() {
        let entries = [
            entry(r#"{"name":"b\u001b[31m","type":"file","size":1536,"mtime":1714566600}"#),
            entry(r#"{"name":"c","type":"file","size":0,"mtime":"1994-11-06T08:49:37Z"}"#),
            entry(r#"{"name":"d","type":"directory","size":null,"mtime":-5}"#),
            entry(r#"{"name":"odd","type":"socket"}"#),
        ];
        let expected = "    SIZE  MODIFIED (UTC)       NAME\n\
                        1.50 KiB  2024-05-01 12:30:00  b\\u{1b}[31m\n\
                        \x20    0 B  1994-11-06 08:49:37  c\n\
                        \x20      -  @-5                  d/\n\
                        \x20      -  -                    odd\n";
        assert_eq!(table(&entries), expected);
    }

    #[test]
    fn json_keeps_what_it_does_not_know() {
        let json = r#"{"arena":{"capacity_bytes":4,"resident_bytes":3,"live_bytes":2,"leased_bytes":1,"idle_bytes":7},
            "entries":[{"name":"a","size":1,"hits":2,"age_seconds":0.5,"etag":"\"x\""}]}"#;
        let cached: Cached = serde_json::from_str(json).unwrap();
        let again = serde_json::to_value(&cached).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(json).unwrap());
        assert!(cached_table(&cached).starts_with("arena 4 B: 3 B resident, 2 B live, 1 B leased; 1 files\n"));
    }

    proptest! {
        #[test]
        fn any_time_can_be_shown(seconds: i64, fraction: f64) {
            Time::Seconds(seconds).display();
            Time::Fraction(fraction).display();
        }
    }
}
