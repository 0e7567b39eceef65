//! What to fetch: names as typed become orders. A plain name is one already; for directories and patterns, the server
//! is asked what it holds, and nothing is transferred before all of that is known.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use indicatif::ProgressBar;

use super::connection::Connection;
use super::fetch::{Order, Place};
use super::listing::{self, Kind, Named};
use super::name::{NameError, RemoteName};
use super::report::Report;
use super::{Error, Settings};
use crate::limits;
use crate::rules::glob::Glob;
use crate::text;

/// What a planned name costs beside its own bytes: the order, and its place among the names seen.
const NAME_COST: usize = 192;

/// Attempts to read one listing.
const LISTING_ATTEMPTS_MAX: u32 = 4;
/// The pause before the second attempt; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// A name as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    name: RemoteName,
    meaning: Meaning,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    /// A file, or a directory if those are wanted.
    Name,
    /// It ends in a slash.
    Directory,
    /// A file of just this name, or all that match.
    Pattern(Pattern),
}

impl Wanted {
    /// Understands a name as typed.
    pub fn parse(typed: impl AsRef<OsStr>) -> Result<Wanted, NameError> {
        let typed = typed.as_ref().as_bytes();
        let name = RemoteName::directory(typed)?;
        let meaning = match Pattern::parse(&name) {
            _ if typed.ends_with(b"/") => Meaning::Directory,
            _ if name.is_root() => return Err(NameError::Empty),
            Some(pattern) => Meaning::Pattern(pattern),
            None => Meaning::Name,
        };
        Ok(Wanted { name, meaning })
    }

    /// Whether it can only be a directory.
    pub fn is_directory(&self) -> bool {
        self.meaning == Meaning::Directory
    }

    /// Whether it may stand for several files.
    pub fn is_pattern(&self) -> bool {
        matches!(self.meaning, Meaning::Pattern(_))
    }
}

/// A pattern of names from the server's root, as `crate::rules::glob` has them, but always of the whole name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    glob: Glob,
    /// The directory that all names that match are in.
    base: RemoteName,
    /// What the directories of each depth match that may hold such names, as far as that can be told apart.
    directories: Vec<Glob>,
    /// How deep such names are at most; None with `**`.
    depth: Option<usize>,
}

impl Pattern {
    /// None if the name is no pattern.
    fn parse(name: &RemoteName) -> Option<Pattern> {
        let text = str::from_utf8(name.as_bytes()).ok().filter(|text| text.contains(['*', '?', '[', '{']))?;
        let glob = Glob::parse(&format!("/{text}")).ok()?;
        let components: Vec<&str> = text.split('/').collect();
        let is_plain = |component: &&&str| !component.contains(['*', '?', '[', '{', '\\']);
        let base: Vec<&str> = components.iter().take_while(is_plain).copied().collect();
        let base = RemoteName::directory(base.join("/").as_bytes()).ok()?;
        let is_one_level = |depth: &usize| !text.contains('{') && !components[depth - 1].contains("**");
        let directories = (1..components.len())
            .take_while(is_one_level)
            .map_while(|depth| Glob::parse(&format!("/{}", components[..depth].join("/"))).ok())
            .collect();
        let depth = (!text.contains("**")).then_some(components.len());
        Some(Pattern { glob, base, directories, depth })
    }

    /// Whether names in this directory may match.
    fn may_be_in(&self, directory: &RemoteName) -> bool {
        let depth = directory.components().count();
        self.depth.is_none_or(|most| depth < most)
            && self.directories.get(depth - 1).is_none_or(|glob| glob.matches(directory.as_bytes()))
    }
}

/// Makes orders of what was typed. Failures that concern one name are reported; the error concerns all of them.
pub async fn plan(
    settings: Arc<Settings>,
    wanted: &[Wanted],
    recursive: bool,
    report: &Report,
) -> Result<Vec<Order>, Error> {
    let mut planner = Planner {
        connection: Connection::new(settings)?,
        report,
        recursive,
        orders: Vec::new(),
        seen: HashSet::new(),
        bytes: 0,
        bar: ProgressBar::hidden(),
    };
    if recursive || wanted.iter().any(Wanted::is_pattern) {
        planner.bar = report.bar("listings", None);
    }
    for wanted in wanted {
        planner.add(wanted).await?;
    }
    Ok(planner.orders)
}

struct Planner<'a> {
    connection: Connection,
    report: &'a Report,
    recursive: bool,
    orders: Vec<Order>,
    seen: HashSet<RemoteName>,
    /// Memory for names so far.
    bytes: usize,
    bar: ProgressBar,
}

/// A directory to be listed.
struct Pending {
    name: RemoteName,
    /// All that is in it is wanted, not only what matches a pattern.
    is_whole: bool,
    above: Option<Rc<Above>>,
}

/// The listing of a directory that others are in.
struct Above {
    digest: u64,
    above: Option<Rc<Above>>,
}

/// What one listing holds that is wanted.
#[derive(Default)]
struct Found {
    files: Vec<RemoteName>,
    directories: Vec<(RemoteName, bool)>,
    has_files: bool,
    /// Entries that name something outside their directory, and the first of them.
    elsewhere: (usize, String),
    bytes: usize,
}

impl Planner<'_> {
    async fn add(&mut self, wanted: &Wanted) -> Result<(), Error> {
        let (name, orders_before) = (&wanted.name, self.orders.len());
        let listed = match &wanted.meaning {
            Meaning::Pattern(pattern) => self.walk(pattern.base.clone(), Some((name, pattern))).await,
            Meaning::Directory => self.walk(name.clone(), None).await,
            Meaning::Name if self.recursive => self.walk(name.clone(), None).await,
            Meaning::Name => return self.order(name.clone(), Place::Own, None),
        };
        let hint = match (listed, &wanted.meaning) {
            (Ok(()), Meaning::Pattern(_)) if self.orders.len() == orders_before => {
                Some("and no name that the server lists matches it".to_owned())
            }
            (Ok(()), _) => return Ok(()),
            (Err(error), Meaning::Directory) if is_about_one(&error) => {
                self.report.failure(&format!("fetch: {name}/: {error}"));
                return Ok(());
            }
            (Err(Error::Refused { status: StatusCode::NOT_FOUND, .. }), _) => None,
            (Err(error), _) if is_about_one(&error) => Some(format!("and its directory cannot be listed: {error}")),
            (Err(error), _) => return Err(error),
        };
        self.order(name.clone(), Place::Own, hint)
    }

    /// Collects what is wanted in a directory and beneath. The error is that the directory itself cannot be listed.
    async fn walk(&mut self, directory: RemoteName, pattern: Option<(&RemoteName, &Pattern)>) -> Result<(), Error> {
        let mut pending = vec![Pending { name: directory, is_whole: pattern.is_none(), above: None }];
        let mut is_first = true;
        while let Some(directory) = pending.pop() {
            let mut attempts = 1;
            let listed = loop {
                match self.list(&directory, pattern, &mut pending).await {
                    Err(error) if error.is_transient() && attempts < LISTING_ATTEMPTS_MAX => {
                        tokio::time::sleep(PAUSE_FIRST * 2u32.pow(attempts - 1)).await;
                        attempts += 1;
                    }
                    listed => break listed,
                }
            };
            match listed {
                Ok(()) => {}
                Err(error) if !is_first && is_about_one(&error) => {
                    self.report.failure(&format!("fetch: {}/: {error}", directory.name));
                }
                Err(error) => return Err(error),
            }
            is_first = false;
        }
        Ok(())
    }

    /// Lists one directory: orders its files, and adds its directories to those to be listed.
    async fn list(
        &mut self,
        directory: &Pending,
        pattern: Option<(&RemoteName, &Pattern)>,
        pending: &mut Vec<Pending>,
    ) -> Result<(), Error> {
        self.bar.set_message(directory.name.to_string());
        let mut found = Found::default();
        let (held, recursive, bar) = (self.bytes, self.recursive, &self.bar);
        let pattern = pattern.filter(|_| !directory.is_whole);
        let take = |entry: Named| {
            bar.inc(entry.written().len() as u64);
            found.take(&entry, &directory.name, pattern, recursive);
            check_room(held + found.bytes)
        };
        let digest = listing::read(&mut self.connection, &directory.name, take).await?;
        if let (count @ 1.., first) = &found.elsewhere {
            let message = format!("lists {count} names that are not in it, such as \"{first}\"; they are skipped");
            self.report.failure(&format!("fetch: {}/: {message}", directory.name));
        }
        let above = std::iter::successors(directory.above.as_deref(), |above| above.above.as_deref());
        let same = above.filter(|above| above.digest == digest).count();
        let same_max = if found.has_files { 0 } else { limits::SAME_LISTINGS };
        if !found.directories.is_empty() && same > same_max {
            let message = "it lists the same as a directory that it is in: a link that leads in a circle, not followed";
            return Err(Error::Unexpected(message.to_owned()));
        }
        for name in found.files {
            self.order(name, Place::Listed, None)?;
        }
        let above = Some(Rc::new(Above { digest, above: directory.above.clone() }));
        found.directories.sort();
        for (name, is_whole) in found.directories.into_iter().rev() {
            if name.components().count() >= limits::NAME_DEPTH {
                let most = limits::NAME_DEPTH;
                self.report.failure(&format!("fetch: {name}/: names of more than {most} parts are not fetched"));
                continue;
            }
            self.bytes += cost(&name);
            pending.push(Pending { name, is_whole, above: above.clone() });
        }
        Ok(())
    }

    fn order(&mut self, name: RemoteName, place: Place, hint: Option<String>) -> Result<(), Error> {
        if self.seen.insert(name.clone()) {
            self.bytes += cost(&name);
            self.orders.push(Order { name, place, hint });
        }
        check_room(self.bytes)
    }
}

impl Found {
    fn take(
        &mut self,
        entry: &Named,
        directory: &RemoteName,
        pattern: Option<(&RemoteName, &Pattern)>,
        recursive: bool,
    ) {
        let name = entry.component().and_then(|component| directory.child(&component).ok());
        let Some(name) = name.filter(|name| name.as_bytes().len() <= limits::NAME_BYTES) else {
            if self.elsewhere.0 == 0 {
                self.elsewhere.1 = text::escape(entry.written().as_bytes());
            }
            self.elsewhere.0 += 1;
            return;
        };
        let matches = pattern.is_none_or(|(_, pattern)| pattern.glob.matches(name.as_bytes()));
        match entry.kind {
            Kind::File => {
                self.has_files = true;
                // A file of just the name that was typed is what was meant.
                let is_literal = pattern.is_some_and(|(typed, _)| *typed == name);
                let has_literal = pattern.is_some_and(|(typed, _)| self.files.first() == Some(typed));
                if is_literal {
                    self.files.clear();
                }
                if is_literal || (matches && !has_literal) {
                    self.bytes += cost(&name);
                    self.files.push(name);
                }
            }
            Kind::Directory => {
                let is_whole = recursive && matches;
                if is_whole || pattern.is_some_and(|(_, pattern)| pattern.may_be_in(&name)) {
                    self.bytes += cost(&name);
                    self.directories.push((name, is_whole));
                }
            }
            Kind::Other => {}
        }
    }
}

/// Memory that a name takes.
fn cost(name: &RemoteName) -> usize {
    name.as_bytes().len() + NAME_COST
}

fn check_room(bytes: usize) -> Result<(), Error> {
    if bytes <= limits::PLAN_BYTES {
        return Ok(());
    }
    let most = text::bytes(limits::PLAN_BYTES as u64);
    Err(Error::Local(format!("the server lists more names than {most} can hold; fetch its directories one by one")))
}

/// Whether an error concerns one name, so that others may go better.
fn is_about_one(error: &Error) -> bool {
    matches!(error, Error::Refused { .. } | Error::Unlisted { .. } | Error::Unexpected(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(typed: &str) -> Pattern {
        match Wanted::parse(typed).unwrap().meaning {
            Meaning::Pattern(pattern) => pattern,
            meaning => panic!("{typed} is {meaning:?}"),
        }
    }

    #[test]
    fn what_is_typed_is_a_name_a_directory_or_a_pattern() {
        let meaning = |typed: &str| Wanted::parse(typed).unwrap().meaning;
        assert_eq!(meaning("/a//b.txt"), Meaning::Name);
        assert_eq!(meaning("a/"), Meaning::Directory);
        assert_eq!(meaning("/"), Meaning::Directory);
        assert!(Wanted::parse("*.txt").unwrap().is_pattern());
        // What cannot be a pattern is a name.
        assert_eq!(meaning("[a"), Meaning::Name);
        for wrong in ["", ".", "a/../b", "../*"] {
            assert!(Wanted::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn patterns_are_of_whole_names_and_ask_for_few_directories() {
        let name = |text: &str| RemoteName::parse(text).unwrap();
        let matches = |typed: &str, found: &str| pattern(typed).glob.matches(name(found).as_bytes());
        assert!(matches("*.txt", "a.txt") && !matches("*.txt", "d/a.txt"));
        assert!(matches("**/*.txt", "a.txt") && matches("**/*.txt", "d/e/a.txt"));
        assert!(matches("d/**", "d/e/a") && !matches("d/**", "e/a"));
        assert_eq!(pattern("d/e/*.txt").base, name("d/e"));
        assert!(pattern("*").base.is_root());
        let may = |typed: &str, directory: &str| pattern(typed).may_be_in(&name(directory));
        assert!(!may("*.txt", "d"));
        assert!(may("d*/x", "de") && !may("d*/x", "e") && !may("d*/x", "de/f"));
        assert!(may("d*/**", "de/f/g") && !may("d*/**", "e"));
        assert!(may("{a/b,c}/d", "a/b") && !may("{a/b,c}/d", "a/b/c"));
    }
}
