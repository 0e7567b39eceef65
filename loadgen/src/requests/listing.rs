//! The server's own listing: `GET /dir/` with `Accept: application/json` answers an array of objects with `name` and
//! `size`; names of directories end with a slash and are listed in turn.

use super::{Item, encode_name};
use crate::{
    endpoint::Endpoint,
    http::response::{Event, Parser},
};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::{collections::HashSet, time::Duration};

/// The longest listing of one directory that is read.
const LISTING_BYTES_MAX: usize = 1 << 30;

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    size: Option<u64>,
}

/// Every file below the endpoint's base.
///
/// # Errors
/// Those of the connection, and what in the answer is not a listing.
pub fn fetch(endpoint: &Endpoint, limit: Duration) -> Result<Vec<Item>> {
    let (mut items, mut seen) = (Vec::new(), HashSet::new());
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        if !seen.insert(directory.clone()) {
            continue;
        }
        let target = format!("{}{directory}", endpoint.base());
        let body = get(endpoint, &target, limit).with_context(|| format!("cannot list {target}"))?;
        let entries: Vec<Entry> = serde_json::from_slice(&body)
            .with_context(|| format!("the answer to {target} is not a listing: a JSON array of names and sizes"))?;
        for entry in entries {
            let below = format!("{directory}{}", encode_name(entry.name.trim_start_matches('/').as_bytes()));
            if below.split('/').any(|part| part == "..") {
                bail!("the listing of {target} names {:?}", entry.name);
            }
            if below.ends_with('/') {
                directories.push(below);
            } else {
                items.push(Item { target: below, size: entry.size });
            }
        }
    }
    if items.is_empty() {
        bail!("{}{} lists no file", endpoint.address, endpoint.base());
    }
    // Directories are visited in no particular order.
    items.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(items)
}

/// Fetches one target over a connection of its own.
fn get(endpoint: &Endpoint, target: &str, limit: Duration) -> Result<Vec<u8>> {
    let mut stream = endpoint.connect(limit)?;
    let host = &endpoint.host;
    let head =
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let (mut parser, mut body, mut buffer) = (Parser::default(), Vec::new(), vec![0; 64 * 1024]);
    loop {
        let received = stream.read(&mut buffer)?;
        let mut input = &buffer[..received];
        loop {
            match parser.step(&mut input) {
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
            match parser.finish() {
                crate::http::response::Ending::Complete => return Ok(body),
                _ => bail!("the server closed the connection before the listing was complete"),
            }
        }
    }
}
