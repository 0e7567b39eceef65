//! Completion of names on the server, by the shells themselves.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use support::tools::{run, tool};
use support::upstream::{Reply, Server};

const PROGRAM: &str = env!("CARGO_BIN_EXE_forebay");

/// What stands on a command line after `forebay`, and what Tab offers there. `ADDR` is the server's address; the
/// directory that the shell is in has `docs/` and `local.txt`.
const CASES: &[(&str, &[&str])] = &[
    ("fetch ADDR ", &["docs/", "readme.txt"]),
    ("fetch ADDR -r do", &["docs/"]),
    ("fetch -r ADDR do", &["docs/"]),
    ("list ADDR /re", &["/readme.txt"]),
    ("list ADDR /docs/", &["/docs/a b.txt"]),
    ("delete ADDR x docs/a", &["docs/a b.txt"]),
    ("fetch ADDR zzz", &[]),
    // Nobody is asked who is not on the line.
    ("fetch nowhere", &[]),
];

fn server() -> Server {
    Server::start(|request| match request.target.as_str() {
        "/" => Reply::json(
            r#"[{"name":"docs","type":"directory","size":null,"mtime":1},
            {"name":"readme.txt","type":"file","size":1,"mtime":1}]"#,
        ),
        "/docs/" => Reply::json(r#"[{"name":"a b.txt","type":"file","size":2,"mtime":1}]"#),
        _ => Reply::text("404 Not Found", "no such file or directory\n"),
    })
}

/// Compares what `complete` offers on each of these lines.
fn check(complete: impl Fn(&str) -> BTreeSet<String>) {
    let server = server();
    let at = |line: &str| line.replace("ADDR", &server.addr());
    for (line, expected) in CASES {
        let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(complete(&at(line)), expected, "{line}");
    }
    // Commands, options and their values are completed as the definitions of the command line say.
    assert!(complete("fet").contains("fetch"));
    assert!(complete(&at("fetch ADDR --recurs")).contains("--recursive"));
    let asked = server.requests().len();
    let files = complete(&at("fetch ADDR -o re"));
    assert!(!files.contains("readme.txt"), "{files:?}");
    assert_eq!(server.requests().len(), asked);
}

/// A directory that a shell works in, with its completions in `script`.
fn workplace(shell: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("docs")).unwrap();
    std::fs::write(dir.path().join("local.txt"), "").unwrap();
    let script = run(Command::new(PROGRAM).args(["completions", shell])).stdout;
    std::fs::write(dir.path().join("script"), script).unwrap();
    dir
}

/// A shell in the workplace that finds the program.
fn shell(name: &str, dir: &Path) -> Option<Command> {
    let mut command = tool(name)?;
    let programs = Path::new(PROGRAM).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path))).unwrap();
    command.env("PATH", path).env("HOME", dir).env("XDG_CONFIG_HOME", dir).env("XDG_DATA_HOME", dir).current_dir(dir);
    Some(command)
}

fn lines(text: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_names_from_the_server() {
    let dir = workplace("bash");
    // What bash does at a press of Tab after the line, whose last word it takes to be the last argument.
    let script = r#"source ./script
        COMP_LINE="forebay $1" COMP_WORDS=(forebay $1) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_POINT=${#COMP_LINE}
        _forebay_names forebay "$2" ""; printf '%s\n' "${COMPREPLY[@]}""#;
    if tool("bash").is_none() {
        return;
    }
    check(|line| {
        let word = line.rsplit(' ').next().unwrap();
        let output = run(shell("bash", dir.path()).unwrap().args(["-c", script, "bash", line, word]));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
        lines(&output.stdout)
    });
}

#[test]
fn fish_completes_names_from_the_server() {
    let dir = workplace("fish");
    if tool("fish").is_none() {
        return;
    }
    check(|line| {
        let script = "source ./script; complete -C $TYPED";
        let typed = format!("forebay {line}");
        let output = run(shell("fish", dir.path()).unwrap().env("TYPED", typed).args(["-N", "-c", script]));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
        let offered = lines(&output.stdout);
        offered.iter().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    });
}

#[test]
fn zsh_completes_names_from_the_server() {
    let dir = workplace("zsh");
    if tool("zsh").is_none() {
        return;
    }
    // Completion needs the line editor, and that needs a terminal. So a shell runs within the shell, completes at its
    // first prompt, and ends.
    let inner = r#"unsetopt beep
        autoload -Uz compinit && compinit -u -D && source ./script
        compadd() {
            local -a offered
            builtin compadd -O offered "$@"
            (( $#offered )) && print -rl -- "${offered[@]}" >> offered
            builtin compadd "$@"
        }
        finish() { touch finished; exit }
        zle-line-init() {
            BUFFER=$TYPED CURSOR=$#TYPED
            comppostfuncs=(finish)
            zle complete-word
        }
        zle -N zle-line-init"#;
    std::fs::write(dir.path().join(".zshrc"), inner).unwrap();
    let outer = "zmodload zsh/zpty && zpty inner zsh -o no_global_rcs -i
        zpty -r inner said 'nothing that is ever said'; print -r -- $said";
    check(|line| {
        for name in ["offered", "finished"] {
            let _ = std::fs::remove_file(dir.path().join(name));
        }
        let mut zsh = shell("zsh", dir.path()).unwrap();
        zsh.env("TYPED", format!("forebay {line}")).env("ZDOTDIR", dir.path()).env("TERM", "dumb");
        let output = zsh.args(["-f", "-c", outer]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(dir.path().join("finished").exists(), "{line}: {said}{}", String::from_utf8_lossy(&output.stderr));
        // There is no such file where nothing was offered.
        let offered = std::fs::read(dir.path().join("offered")).unwrap_or_default();
        lines(&offered)
    });
}
