//! What the command line itself promises: help, exit statuses, completions and man pages made from its own definitions.

mod support;

use support::upstream::{names, run};

const COMMANDS: [&str; 8] = ["serve", "fetch", "list", "put", "delete", "shell", "completions", "man"];

#[test]
fn help_names_every_command_and_variable() {
    let help = run(&["--help"]);
    assert_eq!(help.status, 0);
    for command in COMMANDS {
        assert!(help.stdout.contains(command), "{command}");
        assert_eq!(run(&[command, "--help"]).status, 0);
    }
    assert!(run(&["serve", "--help"]).stdout.contains("[env: FOREBAY_MAX_CONNECTIONS=]"));
    assert!(run(&["--version"]).stdout.starts_with("forebay "));
}

#[test]
fn wrong_usage_is_exit_status_2() {
    for args in
        [&[][..], &["frobnicate"], &["--frobnicate"], &["list"], &["list", "host:port"], &["completions", "tcsh"]]
    {
        let ran = run(args);
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{args:?}");
        assert!(!ran.stderr.is_empty());
    }
}

#[test]
fn completions_are_scripts_that_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&["completions", shell]);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{shell}");
        assert!(ran.stdout.contains("max-connections") && ran.stdout.contains("completions"), "{shell}");
    }
}

#[test]
fn man_pages_are_made_for_every_command() {
    let page = run(&["man"]);
    assert_eq!(page.status, 0);
    assert!(page.stdout.contains(".TH forebay 1"), "{}", page.stdout);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", dir.path().join("man1").to_str().unwrap()]).status, 0);
    let found = names(&dir.path().join("man1"));
    for command in COMMANDS {
        assert!(found.contains(&format!("forebay-{command}.1")), "{command}: {found:?}");
    }
    let serve = std::fs::read_to_string(dir.path().join("man1/forebay-serve.1")).unwrap();
    assert!(serve.contains("FOREBAY_ARENA"), "{serve}");
    let nowhere = run(&["man", "/proc/nowhere"]);
    assert_eq!((nowhere.status, nowhere.stderr.lines().count()), (1, 1), "{}", nowhere.stderr);
}

#[test]
fn what_cannot_work_is_said_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("token"), "s3cret").unwrap();
    std::fs::write(path("file"), "x").unwrap();
    let root = dir.path().to_str().unwrap();
    for (status, args, expected) in [
        (2, ["--token-file", &path("token")], "guards nothing"),
        (1, ["--access-log", &path("no/log")], "no/log"),
        (1, ["--access-log", root], root),
        (1, ["--listen", &format!("unix:{}", path("file"))], "no socket"),
        (1, ["--listen", &format!("unix:{}", path("no/s"))], "does not exist"),
        (2, ["--host", "a/b"], "host name"),
        (2, ["--host", "127.0.0.1"], "addresses"),
        (2, ["--symlinks", "some"], "same-root"),
    ] {
        let ran = run(&[&["serve", root, "--listen", "127.0.0.1:0"][..], &args].concat());
        assert_eq!(ran.status, status, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(std::fs::read(path("file")).unwrap(), b"x");
}
