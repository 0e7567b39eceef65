//! What a line of the shell asks for.

use super::words;
use crate::text;

/// What `help` prints, and the greeting.
pub const HELP: &str = "  list [PREFIX]        what the server holds: a directory, or what begins with PREFIX
  cached [PREFIX]      what is in the server's cache now
  cd [DIR]             go to a directory of the server, or to its root
  pwd                  where that is
  fetch NAME [AS]      fetch a file, to its own name here or to AS; also what matches '*.txt', and all of DIR/
  put FILE [NAME]      put a file on the server
  rm NAME...           delete files on the server
  help                 these lines
  quit                 leave (also Ctrl-D)
ls is list, get is fetch. Names with spaces go in quotes. Tab completes commands, names and files; Ctrl-C cancels.
";

/// The commands' names, for completion.
pub const NAMES: [&str; 11] = ["cached", "cd", "fetch", "get", "help", "list", "ls", "put", "pwd", "quit", "rm"];

/// A line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    List { prefix: String },
    Cached { prefix: String },
    Fetch { name: String, to: Option<String> },
    Put { file: String, name: Option<String> },
    Remove { names: Vec<String> },
    Enter { directory: String },
    Where,
    Help,
    Quit,
}

impl Command {
    /// Understands a line; None if it is empty. The error says what to type instead.
    pub fn parse(line: &str) -> Result<Option<Command>, String> {
        let words = words::split(line).map_err(|error| error.to_string())?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let owned = |text: &str| text.to_owned();
        let command = match words[..] {
            [] => return Ok(None),
            ["list" | "ls"] => Command::List { prefix: String::new() },
            ["list" | "ls", prefix] => Command::List { prefix: owned(prefix) },
            ["cached"] => Command::Cached { prefix: String::new() },
            ["cached", prefix] => Command::Cached { prefix: owned(prefix) },
            ["fetch" | "get", name] => Command::Fetch { name: owned(name), to: None },
            ["fetch" | "get", name, to] => Command::Fetch { name: owned(name), to: Some(owned(to)) },
            ["put", file] => Command::Put { file: owned(file), name: None },
            ["put", file, name] => Command::Put { file: owned(file), name: Some(owned(name)) },
            ["rm", _, ..] => Command::Remove { names: words[1..].iter().map(|name| owned(name)).collect() },
            ["cd"] => Command::Enter { directory: owned("/") },
            ["cd", directory] => Command::Enter { directory: owned(directory) },
            ["pwd"] => Command::Where,
            ["help" | "?"] => Command::Help,
            ["quit" | "exit"] => Command::Quit,
            [name, ..] if NAMES.contains(&name) => {
                let listed = match name {
                    "get" => "fetch",
                    "ls" => "list",
                    name => name,
                };
                let usage = HELP.lines().map(str::trim_start).find(|line| line.starts_with(listed));
                let usage = usage.and_then(|line| line.split("  ").next()).unwrap_or(name);
                return Err(format!("write it as: {usage} (names with spaces go in quotes)"));
            }
            [name, ..] => {
                let name = text::escape(name.as_bytes());
                return Err(format!("{name} is not a command; help shows those there are"));
            }
        };
        Ok(Some(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        assert_eq!(Command::parse("  "), Ok(None));
        assert_eq!(Command::parse("list"), Ok(Some(Command::List { prefix: "".into() })));
        let fetch = Command::Fetch { name: "a b".into(), to: Some("c".into()) };
        assert_eq!(Command::parse("fetch 'a b' c"), Ok(Some(fetch)));
        assert_eq!(Command::parse("get 'a b' c"), Command::parse("fetch 'a b' c"));
        assert_eq!(Command::parse("ls d"), Command::parse("list d"));
        assert_eq!(Command::parse("rm a b"), Ok(Some(Command::Remove { names: vec!["a".into(), "b".into()] })));
        assert_eq!(Command::parse("cd"), Ok(Some(Command::Enter { directory: "/".into() })));
        assert_eq!(Command::parse("exit"), Ok(Some(Command::Quit)));
    }

    #[test]
    fn mistakes_are_told_with_the_remedy() {
        let error = |line| Command::parse(line).unwrap_err();
        assert_eq!(error("fetch"), "write it as: fetch NAME [AS] (names with spaces go in quotes)");
        assert_eq!(error("get"), error("fetch"));
        assert_eq!(error("rm"), "write it as: rm NAME... (names with spaces go in quotes)");
        assert_eq!(error("put a b c"), "write it as: put FILE [NAME] (names with spaces go in quotes)");
        assert_eq!(error("list 'a"), "a quote ' is not closed");
        assert_eq!(error("frobnicate"), "frobnicate is not a command; help shows those there are");
    }

    #[test]
    fn every_command_is_in_the_help() {
        for name in NAMES {
            let is_listed = HELP.lines().any(|line| line.starts_with(&format!("  {name} ")));
            assert!(is_listed || HELP.contains(&format!("{name} is ")), "{name}");
        }
    }
}
