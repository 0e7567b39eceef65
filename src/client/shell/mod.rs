//! `shell`: one command a line, edited on a terminal or read from a pipe.

pub mod command;
mod complete;
mod place;
pub mod words;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::runtime::Runtime;

use crate::text;

use self::command::{Command, HELP};
use self::complete::ShellHelper;
use self::place::Place;
use super::connection::Connection;
use super::fetch::Order;
use super::name::{NameError, RemoteName};
use super::plan::Wanted;
use super::report::Report;
use super::{Error, Settings, delete, fetch, list, plan, put};

/// Connections at a time for what a pattern or a directory stands for.
const FETCH_JOBS: usize = 4;
/// How long the start of a session may wait for the server.
const GREETING_TIME_MAX: Duration = Duration::from_secs(2);
/// The most commands that the history file holds.
const HISTORY_MAX: usize = 1000;

/// A session with one server.
pub struct Shell {
    settings: Arc<Settings>,
    /// Where fetched files go when they are given no other place.
    output: PathBuf,
    place: Rc<Place>,
    runtime: Rc<Runtime>,
}

/// Whether the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Line { is_done: bool },
    End,
}

impl Shell {
    /// Prepares a session; nothing is sent yet.
    pub fn new(settings: Arc<Settings>, output: PathBuf) -> io::Result<Shell> {
        let runtime = Rc::new(tokio::runtime::Builder::new_current_thread().enable_all().build()?);
        Ok(Shell { settings, output, place: Rc::default(), runtime })
    }

    /// Runs until the input ends or says so: with line editing if standard input and output are a terminal, else line
    /// by line. Returns whether every command was done; on a terminal, where failures have been seen, always.
    pub fn run(&self) -> io::Result<bool> {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            self.interact()?;
            return Ok(true);
        }
        let mut all_done = true;
        for line in io::stdin().lock().lines() {
            match self.execute(&line?, false)? {
                Next::Line { is_done } => all_done &= is_done,
                Next::End => break,
            }
        }
        Ok(all_done)
    }

    fn interact(&self) -> io::Result<()> {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(HISTORY_MAX)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(io::Error::other)?
            .history_ignore_space(true)
            .auto_add_history(true)
            .build();
        let mut editor: Editor<ShellHelper, DefaultHistory> = Editor::with_config(config).map_err(io::Error::other)?;
        let (runtime, place, output) = (self.runtime.clone(), self.place.clone(), self.output.clone());
        editor.set_helper(Some(ShellHelper::new(runtime, &self.settings, place, output)));
        let history = history_file();
        if let Some(path) = &history {
            // A first session has none.
            let _ = editor.load_history(path);
        }
        print(&format!("Files of {}. What to do:\n{HELP}", self.settings.address))?;
        print(&text::lines(&self.runtime.block_on(self.greeting())))?;
        loop {
            let prompt = match self.place.name() {
                root if root.is_root() => format!("{}> ", self.settings.address),
                directory => format!("{} {directory}> ", self.settings.address),
            };
            match editor.readline(&prompt) {
                Ok(line) => {
                    if self.execute(&line, true)? == Next::End {
                        break;
                    }
                    let is_change = ["put", "rm"].iter().any(|command| line.trim_start().starts_with(command));
                    if let Some(helper) = editor.helper_mut().filter(|_| is_change) {
                        helper.forget();
                    }
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                Err(ReadlineError::Io(error)) => return Err(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        if let Some(path) = &history {
            let saved = path
                .parent()
                .map_or(Ok(()), private_directory)
                .and_then(|()| editor.append_history(path).map_err(io::Error::other));
            if let Err(error) = saved {
                Report::new().note(&format!("shell: the history was not saved: {error}"));
            }
        }
        Ok(())
    }

    /// Executes one line. The error is that standard output cannot be written.
    fn execute(&self, line: &str, is_interactive: bool) -> io::Result<Next> {
        let report = Arc::new(Report::new());
        match Command::parse(line) {
            Ok(None) => {}
            Ok(Some(Command::Quit)) => return Ok(Next::End),
            Ok(Some(Command::Help)) => print(HELP)?,
            Ok(Some(command)) => {
                let work = self.work(command, report.clone());
                let text = self.runtime.block_on(async {
                    if !is_interactive {
                        return work.await;
                    }
                    tokio::select! {
                        text = work => text,
                        _ = tokio::signal::ctrl_c() => {
                            report.failure("shell: cancelled");
                            String::new()
                        }
                    }
                });
                print(&text)?;
            }
            Err(error) => report.failure(&format!("shell: {error}")),
        }
        Ok(Next::Line { is_done: report.finish()? == 0 })
    }

    /// Whether the server answers, in one line.
    async fn greeting(&self) -> String {
        let address = &self.settings.address;
        let ask = async {
            let settings =
                Settings { timeout: self.settings.timeout.min(GREETING_TIME_MAX), ..(*self.settings).clone() };
            let mut connection = Connection::new(Arc::new(settings))?;
            let response = connection.get("/.forebay/health", &[]).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED => Err(connection.refused(response).await),
                _ => Ok(()),
            }
        };
        match ask.await {
            Ok(()) => format!("{address} answers.\n"),
            Err(error @ Error::Refused { .. }) => format!("{address} answers, but {error}\n"),
            Err(error) => format!("{address} does not answer: {error}\n"),
        }
    }

    /// Does what a command asks for, and returns what it prints at its end.
    async fn work(&self, command: Command, report: Arc<Report>) -> String {
        match self.try_work(command, &report).await {
            Ok(text) => text,
            Err(message) => {
                report.failure(&message);
                String::new()
            }
        }
    }

    /// [`Shell::work`], where the error is what to say of a failure that is not reported yet.
    async fn try_work(&self, command: Command, report: &Arc<Report>) -> Result<String, String> {
        let settings = self.settings.clone();
        let place = |verb: &'static str, typed: &str| {
            self.place.resolve(typed).map_err(|error| format!("{verb}: {}: {error}", text::escape(typed.as_bytes())))
        };
        match command {
            Command::List { prefix } => {
                let prefix = if prefix.is_empty() { self.place.prefix() } else { place("list", &prefix)? };
                let listed = list::origin(settings, prefix.as_bytes()).await;
                let mut entries = listed.map_err(|error| format!("list: {error}"))?;
                let here = self.place.prefix();
                for entry in &mut entries {
                    if let Some(name) = entry.name.strip_prefix(&here) {
                        entry.name = name.to_owned();
                    }
                }
                return Ok(list::table(&entries));
            }
            Command::Cached { prefix } => {
                let prefix = if prefix.is_empty() { self.place.prefix() } else { place("cached", &prefix)? };
                let cached = list::cached(settings, prefix.as_bytes()).await;
                return Ok(list::cached_table(&cached.map_err(|error| format!("cached: {error}"))?));
            }
            Command::Fetch { name, to } => {
                let orders = match self.fetch_orders(&name, to, report).await {
                    Ok(orders) => orders,
                    Err(error) => return Err(format!("fetch: {}: {error}", text::escape(name.as_bytes()))),
                };
                let target =
                    fetch::Target::Directory { path: self.output.clone(), base: self.place.name(), replace: true };
                fetch::fetch(settings, orders, target, FETCH_JOBS, report.clone()).await;
            }
            Command::Put { file, name } => {
                let orders =
                    self.put_orders(&file, name.as_deref(), report).map_err(|error| format!("put: {error}"))?;
                put::put(settings, orders, 1, report.clone()).await;
            }
            Command::Remove { names } => {
                let name = |typed: &String| {
                    let name = RemoteName::parse(place("rm", typed)?);
                    name.map_err(|error| format!("rm: {}: {error}", text::escape(typed.as_bytes())))
                };
                let names = names.iter().map(name).collect::<Result<_, _>>()?;
                delete::delete(settings, names, None, report.clone()).await;
            }
            Command::Enter { directory } => {
                let name = place("cd", &directory)?;
                let name = RemoteName::directory(name.as_bytes()).map_err(|error| format!("cd: {error}"))?;
                let checked = list::check_directory(settings, &name).await;
                checked.map_err(|error| format!("cd: {name}/: {error}"))?;
                self.place.enter(&name);
            }
            Command::Where => return Ok(format!("/{}\n", self.place.name())),
            Command::Help | Command::Quit => unreachable!("executed by the caller"),
        }
        Ok(String::new())
    }

    /// What to fetch, and where it goes: beneath the output directory, to its name or to what was typed; into that, if
    /// it is a directory.
    async fn fetch_orders(&self, typed: &str, to: Option<String>, report: &Report) -> Result<Vec<Order>, String> {
        let words = |error: NameError| error.to_string();
        let name = self.place.resolve(typed).map_err(words)?;
        let Some(to) = to else {
            let wanted = Wanted::parse(&name).map_err(words)?;
            let is_directory = wanted.is_directory();
            let planned = plan::plan(self.settings.clone(), &[wanted], is_directory, report).await;
            return planned.map_err(|error| error.to_string());
        };
        let name = RemoteName::parse(&name).map_err(words)?;
        let path = self.output.join(&to);
        let path = match to.ends_with('/') || path.is_dir() || path.file_name().is_none() {
            true => path.join(name.path().file_name().expect("a name ends in a component")),
            false => path,
        };
        Ok(vec![Order { name, place: fetch::Place::At(path), hint: None }])
    }

    /// What to put for `put FILE [NAME]`.
    fn put_orders(&self, file: &str, name: Option<&str>, report: &Report) -> Result<Vec<put::Order>, String> {
        if file == "-" {
            return Err("standard input is where the commands come from".to_owned());
        }
        let name = name.map_or_else(|| Ok(self.place.prefix() + "/"), |name| self.place.resolve(name));
        let target = name.and_then(put::Target::parse).map_err(|error| error.to_string())?;
        put::orders(Path::new(file), &target, false, report).map_err(|error| match error {
            put::OrderError::Directory(path) => format!("{path} is a directory; forebay put --recursive puts those"),
            error => error.to_string(),
        })
    }
}

/// Writes to standard output.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// The history file, in the state directory of the XDG base directory specification.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("forebay/history"))
}

/// Makes a directory that only its owner can read, if it is not there.
fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
