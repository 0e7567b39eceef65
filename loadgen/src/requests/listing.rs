//! The server's own listing: `GET /dir/` with `Accept: application/json` answers an array of objects.
//!
//! An object has a `name`, and with `"type": "directory"` (or a name that ends with a slash) it is a directory, which
//! is listed in turn. `href` is the name as a relative reference, exact where the name itself is no UTF-8.
//!
//! A tree can contain itself, by a link to a directory above. The walk therefore has an end of its own: a directory
//! whose listing is that of a directory above it is taken for a link to that one, and depth, directories and names are
//! bounded.

use super::{Fields, Item, encode_name, encode_target};
use crate::endpoint::Endpoint;
use anyhow::{Context, Result, bail, ensure};
use forebay::http::reader::{Ending, Event, Reader};
use serde::Deserialize;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// The longest listing of one directory that is read: some millions of names.
const LISTING_BYTES_MAX: usize = 1 << 30;

/// Directories inside each other that are looked at: Linux follows no path with more than 40 links, and no tree made by
/// people is deeper.
const DEPTH_MAX: usize = 40;

/// Directories that are listed, each by a request: minutes.
const DIRECTORIES_MAX: usize = 100_000;

/// Files that are taken: about a gibibyte of names.
const FILES_MAX: usize = 10_000_000;

/// What a server lists.
#[derive(Debug)]
pub struct Listed {
    /// In the order of their targets.
    pub items: Vec<Item>,
    /// What was left out, in sentences.
    pub skipped: Vec<String>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    href: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    size: Option<u64>,
}

/// A directory to be listed.
struct Directory {
    /// Below the base, with a slash at its end; empty for the base itself.
    path: String,
    /// What the listings of the directories above it look like.
    above: Vec<u64>,
}

/// Every file below the endpoint's base. The requests carry `fields`.
///
/// # Errors
/// Those of the connection, what in an answer is not a listing, and more than can be taken.
pub fn fetch(endpoint: &Endpoint, fields: &Fields, limit: Duration) -> Result<Listed> {
    let (mut items, mut circles, mut deep) = (Vec::new(), Vec::new(), 0);
    let mut directories = vec![Directory { path: String::new(), above: Vec::new() }];
    let mut listed = 0;
    while let Some(Directory { path, mut above }) = directories.pop() {
        listed += 1;
        let target = format!("{}{path}", endpoint.base());
        ensure!(
            listed <= DIRECTORIES_MAX && items.len() <= FILES_MAX,
            "{} lists more than {DIRECTORIES_MAX} directories or {FILES_MAX} files: name those to be requested with \
            --paths",
            endpoint.base()
        );
        let body = get(endpoint, fields, &target, limit).with_context(|| format!("cannot list {target}"))?;
        let entries: Vec<Entry> = serde_json::from_slice(&body)
            .with_context(|| format!("the answer to {target} is not a listing: a JSON array of names and sizes"))?;
        let look = look(&body);
        if above.contains(&look) && entries.iter().any(Entry::is_directory) {
            circles.push(target);
            continue;
        }
        above.push(look);
        for entry in entries {
            let is_directory = entry.is_directory();
            let below = format!("{path}{}", entry.target());
            if below.split('/').any(|part| matches!(part, ".." | "." | "")) {
                bail!("the listing of {target} names {:?}", entry.name);
            }
            match is_directory {
                false => items.push(Item { target: below, size: entry.size }),
                true if above.len() >= DEPTH_MAX => deep += 1,
                true => directories.push(Directory { path: below + "/", above: above.clone() }),
            }
        }
    }
    if items.is_empty() {
        bail!("{}{} lists no file", endpoint.address, endpoint.base());
    }
    // Directories are visited in no particular order.
    items.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(Listed { items, skipped: skipped(&circles, deep) })
}

fn skipped(circles: &[String], deep: usize) -> Vec<String> {
    let circles = circles.first().map(|first| {
        let more = if circles.len() > 1 { format!(" and {} more", circles.len() - 1) } else { String::new() };
        format!("left out {first}{more}: the listing is that of a directory above, as if by a link to it")
    });
    let directories = if deep == 1 { "directory that lies" } else { "directories that lie" };
    let deep = (deep > 0).then(|| format!("left out {deep} {directories} deeper than {DEPTH_MAX}"));
    circles.into_iter().chain(deep).collect()
}

/// Tells listings apart.
fn look(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}

impl Entry {
    fn is_directory(&self) -> bool {
        self.name.ends_with('/') || self.kind.as_deref() == Some("directory")
    }

    /// As it stands in a request line, without a slash at its end.
    fn target(&self) -> String {
        // A reference with a slash inside is no name of this directory.
        let href = self.href.as_deref().map(|href| href.strip_prefix("./").unwrap_or(href).trim_end_matches('/'));
        match href.filter(|href| !href.is_empty() && !href.contains(['/', '?', '#', ':'])) {
            Some(href) => encode_target(href),
            None => encode_name(self.name.trim_matches('/').as_bytes()),
        }
    }
}

/// Fetches one target over a connection of its own.
fn get(endpoint: &Endpoint, fields: &Fields, target: &str, limit: Duration) -> Result<Vec<u8>> {
    let mut stream = endpoint.connect(limit)?;
    let fields = fields.text(endpoint);
    let head = format!("GET {target} HTTP/1.1\r\n{fields}Accept: application/json\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let (mut reader, mut body, mut buffer) = (Reader::default(), Vec::new(), vec![0; 64 * 1024]);
    loop {
        let received = stream.read(&mut buffer)?;
        let mut input = &buffer[..received];
        loop {
            match reader.step(&mut input, &mut |_, _| ()) {
                Event::More => break,
                Event::Head(head) if head.status != 200 => bail!("the server answers {}", head.status),
                Event::Head(_) => {}
                Event::Body(bytes) => body.extend_from_slice(bytes),
                Event::End => return Ok(body),
                Event::Malformed => bail!("the server does not answer in HTTP/1.1"),
            }
        }
        if body.len() > LISTING_BYTES_MAX {
            bail!("the listing is longer than {LISTING_BYTES_MAX} bytes");
        }
        if received == 0 {
            match reader.finish() {
                Ending::Complete => return Ok(body),
                _ => bail!("the server closed the connection before the listing was complete"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: &str) -> (String, bool) {
        let entry: Entry = serde_json::from_str(json).unwrap();
        (entry.target(), entry.is_directory())
    }

    #[test]
    fn entries_name_targets() {
        for (json, target, is_directory) in [
            (r#"{"name":"sub","type":"directory","size":0,"href":"./sub/"}"#, "sub", true),
            (r#"{"name":"sub/"}"#, "sub", true),
            (r#"{"name":"a b:c","type":"file","size":7,"href":"./a%20b%3Ac"}"#, "a%20b%3Ac", false),
            (r#"{"name":"a b"}"#, "a%20b", false),
            // A name that is no UTF-8: the reference has its bytes.
            (r#"{"name":"\ufffd","href":"./%FF"}"#, "%FF", false),
            (r#"{"name":"x","href":"http://elsewhere/x"}"#, "x", false),
            (r#"{"name":"x","href":"../x"}"#, "x", false),
        ] {
            assert_eq!(entry(json), (target.to_owned(), is_directory), "{json}");
        }
    }
}
