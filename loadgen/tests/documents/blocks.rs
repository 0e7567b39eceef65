//! The blocks of commands in a document, and how what they print is compared.

/// What the fence of a block says about it.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// Commands, as they stand in a script.
    Script,
    /// Commands after `$ `, each followed by what it prints; `…` stands for anything.
    Session,
    /// Commands that no test can run, and why: `sh norun=docker`.
    NotRun(String),
    /// No commands.
    Other(String),
}

/// What stands between two fences.
#[derive(Debug)]
pub struct Block {
    pub kind: Kind,
    /// The line of the document that the block's first line is.
    pub line: usize,
    pub text: String,
}

/// Something to run, and what it should print.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub line: usize,
    pub commands: String,
    pub prints: Option<String>,
}

/// All blocks of a document.
pub fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in document.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(info)) => open = Some(Block { kind: kind(info), line: number + 2, text: String::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

fn kind(info: &str) -> Kind {
    let mut words = info.split_whitespace();
    let language = words.next().unwrap_or_default();
    match (language, words.next().and_then(|word| word.strip_prefix("norun="))) {
        ("sh" | "console", Some(reason)) => Kind::NotRun(reason.to_owned()),
        ("sh", None) => Kind::Script,
        ("console", None) => Kind::Session,
        _ => Kind::Other(language.to_owned()),
    }
}

impl Block {
    /// What there is to run.
    pub fn steps(&self) -> Vec<Step> {
        match self.kind {
            Kind::Script => vec![Step { line: self.line, commands: self.text.clone(), prints: None }],
            Kind::Session => self.session(),
            Kind::NotRun(_) | Kind::Other(_) => Vec::new(),
        }
    }

    fn session(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            if let Some(command) = line.strip_prefix("$ ") {
                let (line, commands) = (self.line + number, format!("{command}\n"));
                steps.push(Step { line, commands, prints: Some(String::new()) });
                continue;
            }
            let step = steps.last_mut().unwrap_or_else(|| panic!("line {}: `$ ` is missing", self.line + number));
            match line.strip_prefix("> ") {
                Some(more) => step.commands.push_str(&format!("{more}\n")),
                None => step.prints.get_or_insert_default().push_str(&format!("{line}\n")),
            }
        }
        steps
    }

    /// A line that looks like a command in a block that says it has none.
    pub fn hidden_command(&self) -> Option<&str> {
        let begins = ["$ ", "forebay ", "loadgen ", "curl ", "cargo ", "sudo "];
        let is_other = matches!(self.kind, Kind::Other(_));
        self.text.lines().find(|line| is_other && begins.iter().any(|begin| line.starts_with(begin)))
    }
}

/// Whether a text is what was expected, where `…` stands for anything.
pub fn is_like(expected: &str, text: &str) -> bool {
    let pieces: Vec<&str> = expected.trim_end().split('…').collect();
    let Some((first, rest)) = pieces.split_first() else { return true };
    let Some(mut left) = text.trim_end().strip_prefix(first) else { return false };
    let Some((last, between)) = rest.split_last() else { return left.is_empty() };
    for piece in between {
        match left.split_once(piece) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

/// What this file itself has to get right.
pub fn check() {
    let found = blocks(
        "a\n```console\n$ echo a \\\n>   b\na   b\n$ true\n```\n\n```sh norun=docker\nx\n```\n```json\n{}\n```\n",
    );
    let steps = found[0].steps();
    assert_eq!(steps[0], Step { line: 3, commands: "echo a \\\n  b\n".into(), prints: Some("a   b\n".into()) });
    assert_eq!(steps[1], Step { line: 6, commands: "true\n".into(), prints: Some(String::new()) });
    assert_eq!((&found[1].kind, found[1].steps()), (&Kind::NotRun("docker".into()), Vec::new()));
    assert_eq!(found[2].kind, Kind::Other("json".into()));
    assert_eq!(blocks("```\ncurl x\n```\n")[0].hidden_command(), Some("curl x"));
    for (expected, text, is) in [
        ("a\n", "a", true),
        ("a", "ab", false),
        ("a…c", "abbc\n", true),
        ("…b…", "abc", true),
        ("a…\nb\n", "a1\n2\nb", true),
        ("a…b…", "a", false),
        ("", "x", false),
        ("…", "", true),
    ] {
        assert_eq!(is_like(expected, text), is, "{expected:?} {text:?}");
    }
}
