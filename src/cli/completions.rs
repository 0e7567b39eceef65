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

/// What bash completes beside the definitions: names on the server.
const NAMES_BASH: &str = include_str!("names.bash");

/// Runs `forebay completions`.
pub fn completions(args: CompletionsArgs) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "forebay", &mut script);
    let mut script = String::from_utf8(script).context("a completion script is text")?;
    if args.shell == Shell::Bash {
        script.push_str(NAMES_BASH);
    }
    output::print(&script)?;
    Ok(Outcome::Done)
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
