//! What the operator says of the site: rules for its files, and pages that stand for errors. Read at start and on
//! SIGHUP.

use crate::config::ServeOptions;
use crate::exchange::refusal::Refusal;
use crate::http::media;
use crate::http::response::{Page, Problem};
use crate::limits;
use crate::rules::{Description, RuleError, Rules};
use crate::version::Label;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where it is written, and what was read there last.
#[derive(Debug, Default)]
pub struct Site {
    rules: Option<PathBuf>,
    headers: Vec<String>,
    pages: Vec<(u16, PathBuf)>,
    read: RwLock<Arc<Said>>,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Said {
    pub rules: Rules,
    pages: BTreeMap<u16, Page>,
    /// Of the files that were opened since.
    labels: Mutex<HashSet<Arc<Label>>>,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, io::Error),
    #[error("{0}: {1}")]
    Rules(PathBuf, RuleError),
    #[error(transparent)]
    Header(RuleError),
}

impl Site {
    /// # Errors
    /// [`SiteError`].
    pub fn open(options: &ServeOptions) -> Result<Site, SiteError> {
        let site = Site {
            rules: options.rules.clone(),
            headers: options.headers.clone(),
            pages: options.error_pages.clone(),
            read: RwLock::default(),
        };
        site.reload()?;
        Ok(site)
    }

    /// Reads everything again. What is cached has been described by what was said before: see
    /// [`crate::cache::Cache::forget_all`].
    ///
    /// # Errors
    /// As [`Site::open`]; what was said before then stays.
    pub fn reload(&self) -> Result<(), SiteError> {
        let text = match &self.rules {
            None => String::new(),
            Some(path) => {
                let invalid = |error| SiteError::Unreadable(path.clone(), io::Error::other(error));
                String::from_utf8(read(path, limits::RULE_FILE_BYTES)?).map_err(invalid)?
            }
        };
        let rules = Rules::parse(&text, &self.headers).map_err(|error| match (error, &self.rules) {
            (error @ RuleError::Line { .. }, Some(path)) => SiteError::Rules(path.clone(), error),
            (error, _) => SiteError::Header(error),
        })?;
        let mut pages = BTreeMap::new();
        for (status, path) in &self.pages {
            let body = read(path, limits::ERROR_PAGE_BYTES)?;
            let content_type = media::of(path.as_os_str().as_encoded_bytes()).content_type(&body);
            pages.insert(*status, Page { content_type, body: body.into() });
        }
        *self.read.write() = Arc::new(Said { rules, pages, labels: Mutex::default() });
        Ok(())
    }

    /// Whether there is anything to read again.
    pub fn has_files(&self) -> bool {
        self.rules.is_some() || !self.pages.is_empty()
    }

    pub fn said(&self) -> Arc<Said> {
        self.read.read().clone()
    }
}

impl Said {
    /// The response to a read that gets no file: where that has moved, or else what is wrong.
    pub fn answer(&self, refusal: &Refusal, asked: Circumstances<'_>) -> Problem {
        if let Refusal::NotFound { name, .. } = refusal
            && let Some(problem) = self.moved(name, asked)
        {
            return problem;
        }
        let problem = self.dress(refusal.problem());
        match refusal.name() {
            Some(name) => self.with_fields(problem, name, asked),
            None => problem,
        }
    }

    /// With the fields that the rules have for all responses about the name.
    fn with_fields(&self, mut problem: Problem, name: &[u8], asked: Circumstances<'_>) -> Problem {
        let mut fields = Vec::new();
        self.rules.always(name, asked.origin).iter().for_each(|edit| edit.apply(&mut fields));
        for (name, value) in fields {
            problem = problem.with_field(&format!("{name}: {value}"));
        }
        problem
    }

    /// Whether the fallback stands for what is refused so: there is no file of the name, and it has not moved.
    pub fn may_fall_back(&self, refusal: &Refusal) -> bool {
        matches!(refusal, Refusal::NotFound { name, .. } if self.rules.moved(name).is_none())
    }

    /// The redirect of a name that has moved.
    pub fn moved(&self, name: &[u8], asked: Circumstances<'_>) -> Option<Problem> {
        let moved = self.rules.moved(name)?;
        let query =
            asked.query.and_then(|query| std::str::from_utf8(query).ok()).filter(|_| !moved.location.contains('?'));
        let location = match query {
            Some(query) => format!("{}?{query}", moved.location),
            None => moved.location,
        };
        let problem = Problem::new(moved.status, "this has moved").with_field(&format!("Location: {location}"));
        Some(self.with_fields(problem, name, asked))
    }

    /// The answer to a preflight (an OPTIONS with Access-Control-Request-Method) for the name from this origin.
    pub fn preflight(&self, name: &[u8], origin: Option<&[u8]>) -> Problem {
        match self.rules.preflight(name, origin) {
            Some(lines) => Problem { field: Some(lines), ..Problem::new(204, "") },
            None => Problem::new(403, "no rule lets pages of this origin use this (cors in --rules)"),
        }
    }

    /// What is said of a file that is described so and begins with these bytes.
    pub fn label(&self, description: Description, start: &[u8]) -> Arc<Label> {
        let Description { media, fields, content_fields, origins } = description;
        let label = Label { content_type: media.content_type(start), fields, content_fields, origins };
        let mut labels = self.labels.lock();
        if let Some(label) = labels.get(&label) {
            return label.clone();
        }
        let label = Arc::new(label);
        // There are as many as types and combinations of rules; whoever has more pays with memory.
        if labels.len() < limits::LABELS {
            labels.insert(label.clone());
        }
        label
    }

    /// With the page that stands for its status, if there is one.
    pub fn dress(&self, problem: Problem) -> Problem {
        let page = self.pages.get(&problem.status).cloned();
        Problem { page, ..problem }
    }

    /// The page that stands for a status.
    pub fn page(&self, status: u16) -> Option<&Page> {
        self.pages.get(&status)
    }
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, SiteError> {
    let unreadable = |error| SiteError::Unreadable(path.to_owned(), error);
    // Looked at first: the opening of a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is no file")));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(unreadable(io::Error::other(format!("it has more than {most} bytes"))));
    }
    Ok(bytes)
}

/// What a request says beside its name that its refusal depends on.
#[derive(Debug, Default, Clone, Copy)]
pub struct Circumstances<'a> {
    pub query: Option<&'a [u8]>,
    pub origin: Option<&'a [u8]>,
}

/// The query of a target.
pub fn query_of(target: &[u8]) -> Option<&[u8]> {
    let at = target.iter().position(|&byte| byte == b'?')?;
    let query = &target[at + 1..];
    Some(query.split(|&byte| byte == b'#').next().unwrap_or(query))
}
