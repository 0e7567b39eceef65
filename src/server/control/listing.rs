//! GET and HEAD of a directory: its index file, if there is one and it is wanted, or a list of what it holds.
//!
//! The list comes as JSON, HTML or plain text, as the client's Accept field prefers; sorted by name; in pieces, so that
//! a huge directory neither waits for its last entry nor stands in memory as text.

use std::fmt::Write;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::answer::{Answer, Content, PieceSender, pieces};
use super::parts::{circumstances, field};
use super::plane::ControlPlane;
use super::policy;
use super::pool::blocking;
use crate::cache::flight::Failure;
use crate::http::accept::Accept;
use crate::http::target;
use crate::origin::directory::{Entry, EntryKind, Order};
use crate::origin::remote::Remote;
use crate::origin::remote::store::{Listed, Page};
use crate::origin::{Found, RootAbsent};
use crate::page;

/// Entries looked at at a time.
const ENTRIES_AT_ONCE: usize = 128;

/// Bytes of text that are sent at a time, give or take an entry.
const PIECE_BYTES: usize = 16 << 10;

/// The form of a list. In the order in which they are preferred when the client does not care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Html,
    Plain,
    Json,
}

impl Format {
    const ALL: [Format; 3] = [Format::Html, Format::Plain, Format::Json];

    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Format::Plain => ("text", "plain"),
            Format::Html => ("text", "html"),
            Format::Json => ("application", "json"),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Format::Plain => "text/plain; charset=utf-8",
            Format::Html => "text/html; charset=utf-8",
            Format::Json => "application/json",
        }
    }

    /// What the client prefers; `None`: nothing that is offered.
    fn preferred(accept: Accept<'_>) -> Option<Format> {
        let rank = |format: Format| {
            let (kind, subkind) = format.media_type();
            accept.rank(kind, subkind)
        };
        // max_by_key takes the last of equals, and the order of preference is from the first.
        Format::ALL.into_iter().rev().filter(|&format| rank(format).is_some()).max_by_key(|&format| rank(format))
    }

    /// The same for a request that wants a list.
    fn of(accept: Accept<'_>) -> Result<Format, Answer> {
        Format::preferred(accept).ok_or_else(|| {
            let text = "a directory is listed as text/plain, text/html or application/json";
            Answer::problem(StatusCode::NOT_ACCEPTABLE, text)
        })
    }

    /// The entries of a page that a store gives, in this form's order. (The pages are in the order of names.)
    fn arrange(self, listed: Vec<Listed>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = listed
            .into_iter()
            .map(|Listed { name, object }| Entry {
                name: name.into_bytes(),
                kind: object.as_ref().map_or(EntryKind::Directory, |object| EntryKind::File { size: object.size }),
                modified: object.map(|object| object.modified).filter(|&time| can_be_written(time)),
            })
            .collect();
        match self.order() {
            Order::DirectoriesFirst => entries.sort_by_key(|entry| entry.kind != EntryKind::Directory),
            Order::ByName => entries.sort_by(|a, b| a.name.cmp(&b.name)),
        }
        entries
    }

    /// How the entries follow each other: for people directories come first, programs may rely on the order of names.
    fn order(self) -> Order {
        match self {
            Format::Html => Order::DirectoriesFirst,
            Format::Plain | Format::Json => Order::ByName,
        }
    }
}

impl ControlPlane {
    /// Answers a GET or HEAD of the directory `name`.
    pub async fn directory(self: &Rc<Self>, name: &[u8], parts: &Parts) -> Result<Answer, Answer> {
        let accept = field(&parts.headers, header::ACCEPT);
        let accept = Accept(accept.as_deref());
        if let Some((index, role)) = self.shared.indexes().of(name, accept)
            && let Some(answer) = self.read(index.bytes(), role, parts).await?
        {
            return Ok(answer);
        }
        if let Some(moved) = self.shared.site.said().moved(name, circumstances(parts)) {
            return Err(moved.into());
        }
        if !self.shared.options.listings {
            return Err(self.unlisted(name).await?);
        }
        let format = Format::of(accept)?;
        let (shared, owned, mut room) = (self.shared.clone(), name.to_vec(), self.listings.room());
        let read = move || {
            let directory = shared.origin.local().map_err(io::Error::from);
            let names = directory.and_then(|from| from.names(&owned, format.order(), |bytes| room.grow(bytes)));
            (names, room)
        };
        let (names, mut room) = blocking(read).await?;
        let names = names.map_err(|error| refusal(&error))?.ok_or_else(|| {
            let text = "too many large directories are being listed; try again";
            Answer::problem(StatusCode::SERVICE_UNAVAILABLE, text).retry_soon()
        })?;
        if !names.are_sorted() {
            room.clear();
        }
        let mut rest = Some(names);
        let batch = async move || {
            let _held = &room;
            let Some(mut names) = rest.take() else { return Ok(None) };
            let next = blocking(move || {
                let next = names.next(ENTRIES_AT_ONCE);
                (next, names)
            });
            let (next, names) = next.await.map_err(|_| Unreadable)?;
            rest = Some(names);
            next.map_err(|_| Unreadable)
        };
        Ok(list(name, format, parts, batch))
    }

    /// Answers a GET or HEAD of the directory `name` of an object store: what there is of objects whose keys begin so.
    pub async fn prefix(self: &Rc<Self>, store: &Arc<Remote>, name: &[u8], parts: &Parts) -> Result<Answer, Answer> {
        let accept = field(&parts.headers, header::ACCEPT);
        let format = Format::of(Accept(accept.as_deref()))?;
        let mut page = Some(self.page_of(store, name, None).await?);
        if !name.is_empty() && page.as_ref().is_some_and(|page| page.listed.is_empty() && page.next.is_none()) {
            return Err(Answer::problem(StatusCode::NOT_FOUND, "there is no such directory"));
        }
        let (plane, store, place) = (self.clone(), store.clone(), name.to_vec());
        let mut next = None;
        let batch = async move || {
            let found = match (page.take(), next.take()) {
                (Some(page), _) => page,
                (None, Some(from)) => plane.page_of(&store, &place, Some(from)).await.map_err(|_| Unreadable)?,
                (None, None) => return Ok(None),
            };
            next = found.next;
            Ok(Some(format.arrange(found.listed)))
        };
        Ok(list(name, format, parts, batch))
    }

    /// A page of what a store has under `name`.
    async fn page_of(&self, store: &Remote, name: &[u8], from: Option<String>) -> Result<Page, Answer> {
        let Some(store) = store.store() else { return Ok(Page::default()) };
        match store.list(name, from).await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(answer)) => {
                tracing::warn!("the store does not list a directory: {}", answer.status());
                Err(Answer::problem(answer.status(), "the store does not list this"))
            }
            Err(fault) => {
                tracing::warn!("the store cannot be asked for a directory: {fault}");
                let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::BAD_GATEWAY);
                Err(Answer::problem(status, "the store cannot be asked for this now"))
            }
        }
    }

    /// The answer where directories are not listed: as for any name if there is none, else that it is forbidden.
    async fn unlisted(&self, name: &[u8]) -> Result<Answer, Answer> {
        let (shared, name) = (self.shared.clone(), name.to_vec());
        let look = move || shared.origin.local().map_err(io::Error::from).and_then(|directory| directory.look(&name));
        Ok(match blocking(look).await? {
            Ok(Found::Directory) => {
                let text = "directories are not listed here: the server was started with --no-listing";
                Answer::problem(StatusCode::FORBIDDEN, text)
            }
            Ok(Found::File(_) | Found::Special) => refusal(&io::Error::from_raw_os_error(libc::ENOTDIR)),
            Err(error) => refusal(&error),
        })
    }
}

fn refusal(error: &io::Error) -> Answer {
    match Failure::of(error) {
        Failure::Forbidden => Answer::problem(StatusCode::FORBIDDEN, "this directory may not be read"),
        Failure::NotFound => Answer::problem(StatusCode::NOT_FOUND, "there is no such directory"),
        Failure::RootAbsent => Answer::problem(StatusCode::SERVICE_UNAVAILABLE, RootAbsent).retry_soon(),
        Failure::IsDirectory | Failure::Changed | Failure::Io(_) | Failure::Remote(_) => {
            tracing::warn!("a directory cannot be read: {error}");
            Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, format!("the directory cannot be read: {error}"))
        }
    }
}

/// The answer with a list, whose entries come in batches; `None` after the last.
fn list<Batches>(name: &[u8], format: Format, parts: &Parts, batches: Batches) -> Answer
where
    Batches: AsyncFnMut() -> Result<Option<Vec<Entry>>, Unreadable> + 'static,
{
    let content = if parts.method == Method::HEAD {
        Content::Empty
    } else {
        let (sender, content) = pieces(None);
        let place = name.to_vec();
        tokio_uring::spawn(async move {
            if write(format, &place, &sender, batches).await.is_err() {
                let _ = sender.send(Err(io::Error::other("the directory could not be read to its end"))).await;
            }
        });
        content
    };
    Answer::new(StatusCode::OK, content)
        .with(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()))
        .with(header::VARY, HeaderValue::from_static("Accept"))
        .with(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))
        .with(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
        .with(header::CONTENT_SECURITY_POLICY, LISTING_POLICY.clone())
}

/// The rest of a directory cannot be read.
struct Unreadable;

/// Sends the list piece by piece.
async fn write(
    format: Format,
    place: &[u8],
    sender: &PieceSender,
    mut batches: impl AsyncFnMut() -> Result<Option<Vec<Entry>>, Unreadable>,
) -> Result<(), Unreadable> {
    let mut text = String::new();
    format.open(place, &mut text);
    let mut is_first = true;
    while let Some(entries) = batches().await? {
        for entry in &entries {
            format.entry(entry, is_first, &mut text);
            is_first = false;
            if text.len() >= PIECE_BYTES && sender.send(Ok(Bytes::from(std::mem::take(&mut text)))).await.is_err() {
                return Ok(());
            }
        }
    }
    format.close(&mut text);
    let _ = sender.send(Ok(Bytes::from(text))).await;
    Ok(())
}

/// What stands before and after the entries of the page: its style and its script are in it.
static PAGE: LazyLock<String> = LazyLock::new(|| page::filled(include_str!("listing.html")));

/// Where the title and the entries go in it.
const TITLE: &str = "{{title}}";
const PATH: &str = "{{path}}";
const ENTRIES: &str = "{{entries}}";

/// The page may do nothing but run the style and the script that came with it.
static LISTING_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy::of(&PAGE, ""));

impl Format {
    /// What stands before the entries. (Writing to a String cannot fail, here and below.)
    fn open(self, place: &[u8], out: &mut String) {
        match self {
            Format::Plain => {}
            Format::Json => out.push('['),
            Format::Html => {
                let title = escape_html(&String::from_utf8_lossy(place));
                let (before, _) = PAGE.split_once(ENTRIES).unwrap_or_default();
                out.push_str(&before.replace(TITLE, &title).replace(PATH, &breadcrumbs(place)));
                if !place.is_empty() {
                    out.push_str("<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>");
                }
            }
        }
    }

    fn entry(self, entry: &Entry, is_first: bool, out: &mut String) {
        let time = entry.modified.map(rfc3339);
        let (slash, size) = match entry.kind {
            EntryKind::File { size } => ("", Some(size)),
            EntryKind::Directory => ("/", None),
        };
        match self {
            // Size and time first: names may be long, and hold spaces.
            Format::Plain => {
                let size = size.map_or("-".to_owned(), |size| size.to_string());
                let time = time.as_deref().unwrap_or("-");
                let _ = writeln!(out, "{time:<20} {size:>14} {}{slash}", escape_plain(&entry.name));
            }
            Format::Json => {
                let kind = if size.is_some() { "file" } else { "directory" };
                let name = serde_json::Value::from(String::from_utf8_lossy(&entry.name));
                let href = href(&entry.name);
                let time = time.map_or("null".to_owned(), |time| format!("\"{time}\""));
                out.push_str(if is_first { "\n" } else { ",\n" });
                let _ = write!(
                    out,
                    r#"{{"name":{name},"type":"{kind}","size":{},"mtime":{time},"href":"{href}{slash}"}}"#,
                    size.unwrap_or(0)
                );
            }
            Format::Html => {
                let name = escape_html(&String::from_utf8_lossy(&entry.name));
                let _ = write!(out, "\n<tr><td><a href=\"{}{slash}\">{name}{slash}</a></td>", href(&entry.name));
                let _ = match size {
                    Some(size) => {
                        write!(out, "<td data-size=\"{size}\" title=\"{size} bytes\">{}</td>", rough_size(size))
                    }
                    None => write!(out, "<td></td>"),
                };
                let _ = write!(out, "<td>{}</td></tr>", time.unwrap_or_default().replace('T', " "));
            }
        }
    }

    fn close(self, out: &mut String) {
        match self {
            Format::Plain => {}
            Format::Json => out.push_str("\n]\n"),
            Format::Html => out.push_str(PAGE.split_once(ENTRIES).unwrap_or_default().1),
        }
    }
}

/// A reference to a name, relative to its directory; the dot keeps a name with a colon from being taken for a scheme.
fn href(name: &[u8]) -> String {
    format!("./{}", target::encode(name))
}

/// Links to the directories above, and the name of this one.
fn breadcrumbs(place: &[u8]) -> String {
    let mut out = "<a href=\"/\">/</a>".to_owned();
    let mut above = Vec::new();
    for segment in place.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty()) {
        above.extend_from_slice(segment);
        above.push(b'/');
        let name = escape_html(&String::from_utf8_lossy(segment));
        let _ = write!(out, "<a href=\"/{}\">{name}/</a>", target::encode(&above));
    }
    out
}

/// A size as people read it.
fn rough_size(size: u64) -> String {
    let (mut rough, mut unit) = (size as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if rough < 1024.0 {
            break;
        }
        (rough, unit) = (rough / 1024.0, larger);
    }
    if unit == "B" { format!("{size} B") } else { format!("{rough:.1} {unit}") }
}

/// Whole seconds, UTC. The origin gives no time outside the years 1970 to 9999.
fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Whether a time is in the years 1970 to 9999. A store may say any other.
fn can_be_written(time: SystemTime) -> bool {
    const LAST_SECOND: u64 = 253_402_300_799;
    time.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since.as_secs() <= LAST_SECOND)
}

fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            character => out.push(character),
        }
    }
    out
}

/// A name on a line of its own: control characters, backslashes and what is not UTF-8 as \xHH, so that no name breaks
/// the line or the terminal, and each can be told from the others.
fn escape_plain(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            } else {
                out.push(character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn preferred(accept: &str) -> Option<Format> {
        Format::preferred(Accept(Some(accept.as_bytes())))
    }

    #[test]
    fn accept_chooses_the_format() {
        use Format::{Html, Json, Plain};
        assert_eq!(Format::preferred(Accept(None)), Some(Html));
        for (accept, expected) in [
            ("*/*", Some(Html)),
            ("application/json", Some(Json)),
            ("Application/JSON; charset=utf-8", Some(Json)),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8", Some(Html)),
            ("application/json, text/plain, */*", Some(Json)),
            ("text/plain;q=0.5, application/json;q=0.9", Some(Json)),
            ("text/*", Some(Html)),
            ("text/*, text/html;q=0", Some(Plain)),
            ("*/*;q=0.1, text/html", Some(Html)),
            ("image/png", None),
            ("application/json;q=0", None),
            ("nonsense", Some(Html)),
            ("text/html;q=7, application/json;q=0.1", Some(Json)),
        ] {
            assert_eq!(preferred(accept), expected, "{accept}");
        }
    }

    fn shown(format: Format, entries: &[Entry]) -> String {
        let mut out = String::new();
        format.open(b"a&b", &mut out);
        for (number, entry) in entries.iter().enumerate() {
            format.entry(entry, number == 0, &mut out);
        }
        format.close(&mut out);
        out
    }

    fn file(name: &[u8]) -> Entry {
        let modified = UNIX_EPOCH + Duration::from_secs(784_111_777);
        Entry { name: name.to_vec(), kind: EntryKind::File { size: 7 }, modified: Some(modified) }
    }

    #[test]
    fn each_format_says_the_same() {
        let directory = Entry { name: b"sub".to_vec(), kind: EntryKind::Directory, modified: Some(UNIX_EPOCH) };
        let entries = [file(b"a\n<\"'&:\\\xff\xc3\xbc.txt"), directory];
        assert_eq!(
            shown(Format::Plain, &entries),
            "1994-11-06T08:49:37Z              7 a\\x0a<\"'&:\\x5c\\xff\u{fc}.txt\n\
             1970-01-01T00:00:00Z              - sub/\n"
        );
        let json: serde_json::Value = serde_json::from_str(&shown(Format::Json, &entries)).unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                {"name": "a\n<\"'&:\\\u{fffd}\u{fc}.txt", "type": "file", "size": 7, "mtime": "1994-11-06T08:49:37Z",
                 "href": "./a%0A%3C%22%27%26%3A%5C%FF%C3%BC.txt"},
                {"name": "sub", "type": "directory", "size": 0, "mtime": "1970-01-01T00:00:00Z", "href": "./sub/"},
            ])
        );
        let html = shown(Format::Html, &entries);
        assert!(html.contains("<title>/a&amp;b</title>"), "{html}");
        assert!(
            html.contains("<a href=\"./a%0A%3C%22%27%26%3A%5C%FF%C3%BC.txt\">a\n&lt;&quot;&#39;&amp;:\\"),
            "{html}"
        );
        assert!(html.contains("<a href=\"./sub/\">sub/</a>"), "{html}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown(Format::Json, &[])).unwrap(),
            serde_json::json!([])
        );
    }

    /// The row of one file in the page.
    fn html_row(name: &[u8]) -> String {
        let page = shown(Format::Html, &[file(name)]);
        let (_, rest) = page.rsplit_once("<tr>").unwrap();
        rest.split_once("</tr>").unwrap().0.to_owned()
    }

    proptest! {
        #[test]
        fn no_name_breaks_out_of_its_place(name in proptest::collection::vec(1u8.., 1..40)) {
            let plain = shown(Format::Plain, &[file(&name)]);
            prop_assert_eq!(plain.lines().count(), 1);
            prop_assert!(!plain.trim_end().contains(char::is_control));
            let json: serde_json::Value = serde_json::from_str(&shown(Format::Json, &[file(&name)])).unwrap();
            let href = json[0]["href"].as_str().unwrap().strip_prefix("./").unwrap();
            prop_assert_eq!(percent_encoding::percent_decode_str(href).collect::<Vec<u8>>(), name.clone());
            let (row, plain_row) = (html_row(&name), html_row(b"x"));
            for mark in ['<', '"'] {
                prop_assert_eq!(row.matches(mark).count(), plain_row.matches(mark).count());
            }
        }
    }
}
