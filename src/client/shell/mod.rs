//! `shell`: one command a line, edited on a terminal or read from a pipe.

pub mod command;
mod complete;
pub mod words;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::runtime::Runtime;

use self::command::{Command, HELP};
use self::complete::ShellHelper;
use super::name::RemoteName;
use super::report::Report;
use super::{Settings, fetch, list, put};

/// The most commands that the history file holds.
const HISTORY_MAX: usize = 1000;

/// A session with one server.
pub struct Shell {
    settings: Arc<Settings>,
    /// Where fetched files go when they are given no other place.
    output: PathBuf,
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
        Ok(Shell { settings, output, runtime })
    }

    /// Runs until the input ends or says so: with line editing if standard input and output are a terminal, else line by line. Returns
    /// whether every command was done; on a terminal, where failures have been seen, always.
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
        editor.set_helper(Some(ShellHelper::new(self.runtime.clone(), &self.settings)));
        let history = history_file();
        if let Some(path) = &history {
            // A first session has none.
            let _ = editor.load_history(path);
        }
        print(&format!("Files of {}. What to do:\n{HELP}", self.settings.address))?;
        let prompt = format!("{}> ", self.settings.address);
        loop {
            match editor.readline(&prompt) {
                Ok(line) => {
                    if self.execute(&line, true)? == Next::End {
                        break;
                    }
                    if let Some(helper) = editor.helper_mut().filter(|_| line.trim_start().starts_with("put")) {
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

    /// Does what a command asks for, and returns what it prints at its end.
    async fn work(&self, command: Command, report: Arc<Report>) -> String {
        let settings = self.settings.clone();
        match command {
            Command::List { prefix } => match list::origin(settings, prefix.as_bytes()).await {
                Ok(entries) => return list::table(&entries),
                Err(error) => report.failure(&format!("list: {error}")),
            },
            Command::Cached { prefix } => match list::cached(settings, prefix.as_bytes()).await {
                Ok(cached) => return list::cached_table(&cached),
                Err(error) => report.failure(&format!("cached: {error}")),
            },
            Command::Fetch { name, to } => match self.fetch_order(&name, to) {
                Ok(order) => fetch::fetch(settings, vec![order], 1, report).await,
                Err(error) => report.failure(&format!("fetch: {name}: {error}")),
            },
            Command::Put { file, name } => match put_orders(&file, name.as_deref(), &report) {
                Ok(orders) => put::put(settings, &orders, &report).await,
                Err(error) => report.failure(&format!("put: {error}")),
            },
            Command::Help | Command::Quit => unreachable!("executed by the caller"),
        }
        String::new()
    }

    /// Where a file goes: beneath the output directory, to its name or to what was typed; into that, if it is a directory.
    fn fetch_order(&self, name: &str, to: Option<String>) -> Result<fetch::Order, super::name::NameError> {
        let name = RemoteName::parse(name)?;
        let destination = match to {
            None => self.output.join(name.path()),
            Some(to) => {
                let path = self.output.join(&to);
                match to.ends_with('/') || path.is_dir() || path.file_name().is_none() {
                    true => path.join(name.path().file_name().expect("a name ends in a component")),
                    false => path,
                }
            }
        };
        Ok(fetch::Order { name, destination })
    }
}

/// What to put for `put FILE [NAME]`.
fn put_orders(file: &str, name: Option<&str>, report: &Report) -> Result<Vec<put::Order>, String> {
    if file == "-" {
        return Err("standard input is where the commands come from".to_owned());
    }
    let target = put::Target::parse(name.unwrap_or("/")).map_err(|error| error.to_string())?;
    put::orders(Path::new(file), &target, false, report).map_err(|error| match error {
        put::OrderError::Directory(path) => format!("{path} is a directory; forebay put --recursive puts those"),
        error => error.to_string(),
    })
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
