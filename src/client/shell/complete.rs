//! Tab completion: commands, names on the server, files here.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use tokio::runtime::Runtime;

use super::super::Settings;
use super::super::list;
use super::super::listing::{Entry, Kind};
use super::place::Place;
use super::{command, words};
use crate::text;

/// How long a listing serves completion before the server is asked again.
const LISTING_LIFE: Duration = Duration::from_secs(5);
/// How long a press of Tab may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A candidate: a text, and whether it is a directory, so that the word goes on.
type Candidate = (String, bool);

/// Completes lines of the shell.
pub struct ShellHelper {
    runtime: Rc<Runtime>,
    settings: Arc<Settings>,
    place: Rc<Place>,
    /// Where fetched files go.
    output: PathBuf,
    listings: RefCell<HashMap<String, (Instant, Vec<Candidate>)>>,
}

impl ShellHelper {
    /// Completes with names from this server, and of the files that it is to go to.
    pub fn new(runtime: Rc<Runtime>, settings: &Settings, place: Rc<Place>, output: PathBuf) -> ShellHelper {
        let settings = Settings { timeout: settings.timeout.min(PATIENCE), ..settings.clone() };
        ShellHelper { runtime, settings: Arc::new(settings), place, output, listings: RefCell::default() }
    }

    /// Forgets what the server held: it has changed.
    pub fn forget(&self) {
        self.listings.borrow_mut().clear();
    }

    /// What the directory of a partial name holds; nothing if the server does not say, since there is no place for an
    /// error while a line is edited.
    fn remote(&self, partial: &str) -> Vec<Candidate> {
        let typed = &partial[..partial.rfind('/').map_or(0, |at| at + 1)];
        let Ok(directory) = self.place.resolve(typed) else { return Vec::new() };
        let directory = directory.trim_end_matches('/').to_owned() + "/";
        let within = |listing: &[Candidate]| -> Vec<Candidate> {
            listing.iter().map(|(name, goes_on)| (format!("{typed}{name}"), *goes_on)).collect()
        };
        if let Some((at, listing)) = self.listings.borrow().get(&directory)
            && at.elapsed() < LISTING_LIFE
        {
            return within(listing);
        }
        let request = list::origin(self.settings.clone(), directory.as_bytes());
        let listed = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, request).await });
        let Ok(Ok(entries)) = listed else { return Vec::new() };
        let mark = |entry: Entry| {
            let name = entry.name.rsplit('/').next().unwrap_or_default().to_owned();
            match entry.kind {
                Kind::Directory => (name + "/", true),
                Kind::File | Kind::Other => (name, false),
            }
        };
        let listing: Vec<Candidate> = entries.into_iter().map(mark).collect();
        let candidates = within(&listing);
        self.listings.borrow_mut().insert(directory, (Instant::now(), listing));
        candidates
    }

    /// The candidates for the word that ends the line.
    fn candidates(&self, words_before: &[&str], partial: &str) -> Vec<Candidate> {
        match (words_before, words_before.len()) {
            ([], _) => command::NAMES.iter().map(|name| ((*name).to_owned(), false)).collect(),
            (["list" | "ls" | "cached" | "fetch" | "get", ..], 1) | (["put", ..], 2) | (["rm", ..], _) => {
                self.remote(partial)
            }
            (["cd", ..], 1) => self.remote(partial).into_iter().filter(|(_, is_directory)| *is_directory).collect(),
            (["put", ..], 1) => local(Path::new("."), partial),
            (["fetch" | "get", ..], 2) => local(&self.output, partial),
            _ => Vec::new(),
        }
    }
}

/// The files of the directory that a path names in part, relative to `start`; hidden ones only when a dot is typed.
fn local(start: &Path, partial: &str) -> Vec<Candidate> {
    let (directory, base) = partial.split_at(partial.rfind('/').map_or(0, |at| at + 1));
    let Ok(entries) = start.join(directory).read_dir() else {
        return Vec::new();
    };
    let candidate = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        if name.starts_with('.') && !base.starts_with('.') {
            return None;
        }
        let is_directory = entry.path().is_dir();
        Some((format!("{directory}{name}{}", if is_directory { "/" } else { "" }), is_directory))
    };
    let mut found: Vec<Candidate> = entries.flatten().filter_map(candidate).collect();
    found.sort();
    found
}

/// What replaces the last word, for each candidate that continues it. All are quoted if one must be, so that they share
/// a beginning.
fn replacements(candidates: Vec<Candidate>, partial: &str, is_quoted: bool) -> Vec<Pair> {
    let slash = if partial.starts_with('/') { "/" } else { "" };
    let fitting: Vec<Candidate> = candidates
        .into_iter()
        .map(
            |(name, goes_on)| if name.starts_with('/') { (name, goes_on) } else { (format!("{slash}{name}"), goes_on) },
        )
        .filter(|(name, _)| name.starts_with(partial) && text::is_plain(name))
        .collect();
    let quoted = is_quoted || fitting.iter().any(|(name, _)| words::needs_quotes(name));
    let pair = |(name, goes_on): Candidate| Pair {
        display: text::escape(name.as_bytes()),
        replacement: match (quoted, goes_on) {
            (true, true) => words::open_quote(&name),
            (true, false) => words::quote(&name) + " ",
            (false, true) => name,
            (false, false) => name + " ",
        },
    };
    fitting.into_iter().map(pair).collect()
}

impl Completer for ShellHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let line = &line[..pos];
        let (mut words, unclosed) = words::scan(line);
        let goes_on = unclosed.is_some() || (!line.is_empty() && !line.ends_with(char::is_whitespace));
        let last = if goes_on { words.pop() } else { None };
        let last = last.unwrap_or(words::Word { start: pos, text: String::new() });
        let before: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        let is_quoted = line[last.start..].starts_with(['\'', '"']);
        Ok((last.start, replacements(self.candidates(&before, &last.text), &last.text, is_quoted)))
    }
}

impl Hinter for ShellHelper {
    type Hint = String;
}
impl Highlighter for ShellHelper {}
impl Validator for ShellHelper {}
impl Helper for ShellHelper {}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(candidates: &[(&str, bool)], partial: &str, is_quoted: bool) -> Vec<String> {
        let candidates = candidates.iter().map(|(name, goes_on)| ((*name).to_owned(), *goes_on)).collect();
        replacements(candidates, partial, is_quoted).into_iter().map(|pair| pair.replacement).collect()
    }

    #[test]
    fn names_are_quoted_when_one_of_them_must_be() {
        let names = [("docs/", true), ("doc one", false), ("other", false)];
        assert_eq!(texts(&names, "do", false), ["'docs/", "'doc one' "]);
        assert_eq!(texts(&names, "o", false), ["other "]);
        assert_eq!(texts(&names, "o", true), ["'other' "]);
        assert_eq!(texts(&names, "/docs", false), ["/docs/"]);
        assert_eq!(texts(&[("a\u{1b}[2J", false)], "a", false), Vec::<String>::new());
    }

    #[test]
    fn local_files_complete_with_their_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        std::fs::write(dir.path().join(".hidden"), "").unwrap();
        let within = format!("{}/", dir.path().display());
        let here = Path::new(".");
        assert_eq!(local(here, &within), [(format!("{within}file"), false), (format!("{within}sub/"), true)]);
        assert_eq!(local(here, &format!("{within}.h")).len(), 3);
        assert_eq!(local(here, "/nonexistent/"), []);
        assert_eq!(local(dir.path(), "f"), [("file".to_owned(), false), ("sub/".to_owned(), true)]);
    }
}
