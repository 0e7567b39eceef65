//! `forebay completions` and `forebay man`: what can be made from the definitions of the command line itself.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Outcome, output};

/// The arguments of `forebay completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell to make them for
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The arguments of `forebay man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Directory to write forebay.1, forebay-serve.1 and so on to [default: forebay.1 goes to standard output]
    pub directory: Option<PathBuf>,
}

/// What shells complete beside the definitions: names on the server.
const NAMES_BASH: &str = include_str!("names.bash");
const NAMES_FISH: &str = include_str!("names.fish");
const NAMES_ZSH: &str = include_str!("names.zsh");

/// Runs `forebay completions`.
pub fn completions(args: CompletionsArgs) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "forebay", &mut script);
    let script = String::from_utf8(script).context("a completion script is text")?;
    output::print(&with_names(args.shell, script))?;
    Ok(Outcome::Done)
}

/// The script, with the completion of names on the server where we have one for the shell.
fn with_names(shell: Shell, script: String) -> String {
    match shell {
        Shell::Bash => script + NAMES_BASH,
        Shell::Fish => script + NAMES_FISH,
        Shell::Zsh => zsh_with_names(&script),
        _ => script,
    }
}

/// In zsh's script each argument names the function that completes it.
fn zsh_with_names(script: &str) -> String {
    let mut whole = String::with_capacity(script.len() + NAMES_ZSH.len());
    for line in script.split_inclusive('\n') {
        // The end calls the function that the beginning defines.
        if line.starts_with("if [ \"$funcstack[1]\"") {
            whole.push_str(NAMES_ZSH.trim_start());
            whole.push('\n');
        }
        let is_names = line.starts_with("'*::names -- ") || line.starts_with("'::prefix -- ");
        match line.strip_suffix(":_default' \\\n") {
            // With two colons the function would not be told the address, which stands before the names.
            Some(names) if is_names => {
                whole.push_str(&names.replacen("'*::", "'*:", 1));
                whole.push_str(":_forebay_names' \\\n");
            }
            _ => whole.push_str(line),
        }
    }
    whole
}

/// Runs `forebay man`.
pub fn man(args: ManArgs) -> anyhow::Result<Outcome> {
    match args.directory {
        Some(directory) => {
            std::fs::create_dir_all(&directory)
                .and_then(|()| clap_mangen::generate_to(Cli::command(), &directory))
                .with_context(|| format!("cannot write man pages to {}", directory.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).context("cannot make the man page")?;
            output::print(&String::from_utf8(page).context("a man page is text")?)?;
        }
    }
    Ok(Outcome::Done)
}
