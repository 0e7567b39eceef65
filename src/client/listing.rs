//! A directory as the server lists it, read entry by entry, so that what is held of a listing is up to the reader.

use std::fmt::Display;
use std::hash::{DefaultHasher, Hasher};
use std::time::Instant;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode, body::Incoming};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Error;
use super::connection::Connection;
use super::name::RemoteName;
use crate::{limits, text};

/// The longest listing that is taken, in bytes: some ten million files in one directory.
const LISTING_BYTES_MAX: usize = 1 << 30;

/// How many times the longest silence a listing may take in all, however steadily it drips.
const LISTING_PATIENCE: u32 = 10;

/// One entry of a directory at the origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name: within its directory as the server tells it, from the server's root as `list` shows it.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Bytes of a file.
    #[serde(default)]
    pub size: Option<u64>,
    /// Time of the last change.
    #[serde(default)]
    pub mtime: Option<Time>,
    /// Where it is, as a reference (RFC 3986) that carries names exactly which are not UTF-8: within its directory as
    /// the server tells it, from the server's root as `list` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub href: Option<String>,
    /// Facts that this version does not know, passed on.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Something this version does not know.
    #[serde(other)]
    Other,
}

/// A time as JSON carries it: seconds since 1970, or text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Time {
    /// Whole seconds since 1970, UTC.
    Seconds(i64),
    /// Seconds since 1970 with a fraction.
    Fraction(f64),
    /// A date, shown as it is.
    Text(String),
}

/// An entry's name and what it is, and nothing else that a listing may say of it.
#[derive(Debug, Deserialize)]
pub struct Named {
    name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    #[serde(default)]
    href: Option<String>,
}

impl Named {
    /// The name within its directory, as bytes; None where the server names something that is not in the directory.
    pub fn component(&self) -> Option<Vec<u8>> {
        let mut bytes = match &self.href {
            Some(href) => percent_encoding::percent_decode_str(href.strip_prefix("./").unwrap_or(href)).collect(),
            None => self.name.clone().into_bytes(),
        };
        if self.kind == Kind::Directory && bytes.last() == Some(&b'/') {
            bytes.pop();
        }
        let is_one = !bytes.contains(&b'/') && !bytes.contains(&0) && !matches!(&bytes[..], b"" | b"." | b"..");
        is_one.then_some(bytes)
    }

    /// The name as the server wrote it.
    pub fn written(&self) -> &str {
        self.href.as_deref().unwrap_or(&self.name)
    }
}

/// Reads the listing of a directory, and hands each entry to `take`. Returns a number that is the same for listings of
/// the same bytes.
pub async fn read<T: DeserializeOwned>(
    connection: &mut Connection,
    directory: &RemoteName,
    mut take: impl FnMut(T) -> Result<(), Error>,
) -> Result<u64, Error> {
    let time_max = connection.timeout().saturating_mul(LISTING_PATIENCE);
    let begun = Instant::now();
    let mut body = open(connection, directory).await?.into_body();
    let (mut elements, mut digest, mut len) = (Elements::default(), DefaultHasher::new(), 0);
    while let Some(chunk) = connection.chunk(&mut body).await? {
        digest.write(&chunk);
        len += chunk.len();
        let taken = if len > LISTING_BYTES_MAX {
            Err(too_much(text::bytes(LISTING_BYTES_MAX as u64)))
        } else if begun.elapsed() > time_max {
            Err(too_much(humantime::format_duration(time_max)))
        } else {
            elements.push(&chunk, |element| take(parse(element)?))
        };
        if let Err(error) = taken {
            connection.close();
            return Err(error);
        }
    }
    elements.end()?;
    Ok(digest.finish())
}

/// Asks for the listing of a directory.
pub async fn open(connection: &mut Connection, directory: &RemoteName) -> Result<Response<Incoming>, Error> {
    json(connection, &directory.directory_target()).await.map_err(|error| match error {
        // The root is there in any case.
        Error::Refused { status, message }
            if status == StatusCode::FORBIDDEN || (status == StatusCode::NOT_FOUND && directory.is_root()) =>
        {
            Error::Unlisted { status, message }
        }
        error => error,
    })
}

/// GETs what should be a JSON document.
pub async fn json(connection: &mut Connection, target: &str) -> Result<Response<Incoming>, Error> {
    let accept = (header::ACCEPT, HeaderValue::from_static("application/json"));
    let response = connection.get(target, &[accept]).await?;
    if response.status() != StatusCode::OK {
        return Err(connection.refused(response).await);
    }
    let content_type = response.headers().get(header::CONTENT_TYPE).map_or(&b"nothing"[..], HeaderValue::as_bytes);
    if !content_type.starts_with(b"application/json") {
        let message = format!("the server answered with {}, not with a listing", text::escape(content_type));
        connection.close();
        return Err(Error::Unexpected(message));
    }
    Ok(response)
}

/// Reads one JSON document.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| garbled(&error.to_string()))
}

fn garbled(how: &str) -> Error {
    Error::Unexpected(format!("the server's listing cannot be understood: {how}"))
}

fn too_much(max: impl Display) -> Error {
    Error::Unexpected(format!("the server's listing has no end within {max}"))
}

/// The elements of a JSON array of objects, as its bytes come.
#[derive(Default)]
pub(crate) struct Elements {
    place: Place,
    /// The object so far.
    element: Vec<u8>,
    /// How many brackets are open in it.
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

/// Where in the array the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Before,
    /// After the opening bracket.
    First,
    Within,
    AfterElement,
    AfterComma,
    After,
}

impl Elements {
    pub fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        while let [byte, rest @ ..] = bytes {
            let byte = *byte;
            if self.place == Place::Within {
                let plain = if self.in_string && !self.is_escaped { plain_len(bytes) } else { 0 };
                let taken = plain.max(1);
                self.element.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                if plain == 0 {
                    self.within(byte);
                }
                if self.depth == 0 {
                    take(&self.element)?;
                    self.element.clear();
                    self.place = Place::AfterElement;
                } else if self.element.len() > limits::LISTED_ENTRY_BYTES {
                    let max = text::bytes(limits::LISTED_ENTRY_BYTES as u64);
                    return Err(garbled(&format!("one of its entries is longer than {max}")));
                }
                continue;
            }
            bytes = rest;
            self.place = match (self.place, byte) {
                (place, b' ' | b'\t' | b'\r' | b'\n') => place,
                (Place::Before, b'[') => Place::First,
                (Place::First | Place::AfterComma, b'{') => {
                    self.element.push(byte);
                    self.depth = 1;
                    Place::Within
                }
                (Place::First | Place::AfterElement, b']') => Place::After,
                (Place::AfterElement, b',') => Place::AfterComma,
                _ => return Err(garbled("it is no list of objects")),
            };
        }
        Ok(())
    }

    /// Keeps account of strings and brackets.
    fn within(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.in_string => self.is_escaped = true,
            b'"' => self.in_string = !self.in_string,
            b'{' | b'[' if !self.in_string => self.depth += 1,
            b'}' | b']' if !self.in_string => self.depth -= 1,
            _ => {}
        }
    }

    pub fn end(&self) -> Result<(), Error> {
        match self.place {
            Place::After => Ok(()),
            _ => Err(garbled("it breaks off")),
        }
    }
}

/// How many bytes of a string come before one that means something in it.
fn plain_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn elements(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, Error> {
        let (mut elements, mut found) = (Elements::default(), Vec::new());
        for piece in pieces {
            elements.push(piece, |element| {
                found.push(element.to_vec());
                Ok(())
            })?;
        }
        elements.end().map(|()| found)
    }

    #[test]
    fn what_is_no_list_of_objects_is_refused() {
        for wrong in ["", "[", "[{", "[{}", "[{},", "[{},]", "[{}{}]", "[1]", "{}", "[{}] x", "[,{}]", "[{\"]\"}"] {
            assert!(elements(&[wrong.as_bytes()]).is_err(), "{wrong}");
        }
        let endless = format!("[{{\"name\":\"{}", "x".repeat(limits::LISTED_ENTRY_BYTES));
        assert!(elements(&[endless.as_bytes()]).unwrap_err().to_string().contains("longer than 64.00 KiB"));
    }

    #[test]
    fn only_names_within_the_directory_are_taken() {
        let component = |json: &str| parse::<Named>(json.as_bytes()).unwrap().component();
        let file = |name: &str| component(&serde_json::json!({ "name": name, "type": "file" }).to_string());
        for wrong in ["", ".", "..", "../x", "/x", "a/b", "a/", "a\0b"] {
            assert_eq!(file(wrong), None, "{wrong}");
        }
        assert_eq!(file("a b\\\n"), Some(b"a b\\\n".to_vec()));
        let refers =
            |href: &str| component(&serde_json::json!({ "name": "x", "type": "directory", "href": href }).to_string());
        assert_eq!(refers("./%FFa/"), Some(b"\xffa".to_vec()));
        assert_eq!(refers("a"), Some(b"a".to_vec()));
        for wrong in ["", "./", "../", "./../", "/x", "./a/b", "a%2Fb", "%2e%2e", "a%00", "http://x/", ".//"] {
            assert_eq!(refers(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn elements_are_those_of_the_array_however_it_is_cut(
            names in prop::collection::vec(".*", 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            is_pretty: bool,
        ) {
            let object = |name| serde_json::json!({ "name": name, "more": [{ "in": name }] });
            let objects: Vec<_> = names.iter().map(object).collect();
            let text = if is_pretty { serde_json::to_vec_pretty(&objects) } else { serde_json::to_vec(&objects) };
            let text = text.unwrap();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let found: Vec<serde_json::Value> =
                elements(&pieces).unwrap().iter().map(|e| serde_json::from_slice(e).unwrap()).collect();
            prop_assert_eq!(found, objects);
        }
    }
}
