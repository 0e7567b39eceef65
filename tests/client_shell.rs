//! `forebay shell`, fed by a pipe and typed into on a terminal, against a server that follows a script.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use support::upstream::{Reply, Server, Then, forebay, names, run_with_input};

fn server() -> Server {
    Server::start(|request| match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/") => Reply::json(
            r#"[{"name":"docs","type":"directory","mtime":1},{"name":"my file.txt","type":"file","size":2,"mtime":1}]"#,
        ),
        ("GET", "/docs/") => Reply::json(r#"[{"name":"unique.txt","type":"file","size":2,"mtime":1}]"#),
        ("GET", "/.forebay/cache") => Reply::json(
            r#"{"arena":{"capacity_bytes":1,"resident_bytes":1,"live_bytes":1,"leased_bytes":0},"entries":[]}"#,
        ),
        ("GET", "/my%20file.txt" | "/docs/unique.txt") => Reply::new("200 OK", &[], b"ok"),
        ("GET", "/stalls") => Reply::raw("").then(Then::Stall),
        ("PUT", _) => Reply::text("201 Created", ""),
        _ => Reply::text("404 Not Found", "no such file\n"),
    })
}

#[test]
fn a_pipe_of_commands_is_executed_and_failures_count() {
    let server = server();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("up load"), "bytes").unwrap();
    let script = "list docs\n\nfetch 'my file.txt'\nfetch docs/unique.txt other/\nput 'up load' as/this\ncached\nhelp\nquit\nnot reached";
    let mut command = forebay(&["shell", &server.addr()]);
    command.current_dir(&dir);
    let ran = run_with_input(command, script.as_bytes());
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let expected = "SIZE  MODIFIED (UTC)       NAME\n 2 B  1970-01-01 00:00:01  docs/unique.txt\n\
                    fetched my file.txt (2 B)\n\
                    fetched docs/unique.txt (2 B)\n\
                    created as/this (5 B)\n\
                    arena 1 B: 1 B resident, 1 B live, 0 B leased; 0 files\nSIZE  HITS  AGE  NAME\n";
    assert!(ran.stdout.starts_with(expected), "{}", ran.stdout);
    assert!(ran.stdout.contains("fetch NAME [AS]"), "{}", ran.stdout);
    assert_eq!(names(dir.path()), ["my file.txt", "other", "up load"]);
    assert_eq!(names(&dir.path().join("other")), ["unique.txt"]);

    let mut command = forebay(&["shell", &server.addr(), "--output", "out"]);
    command.current_dir(&dir);
    let ran = run_with_input(
        command,
        b"fetch missing\nfrobnicate\nfetch 'docs\nfetch ../up\nput .\nput -\nfetch docs/unique.txt",
    );
    assert_eq!(
        (ran.status, ran.stdout.as_str()),
        (1, "fetched docs/unique.txt (2 B)\n"),
        "the others are still executed"
    );
    assert_eq!(ran.stderr.lines().count(), 6, "{}", ran.stderr);
    assert!(dir.path().join("out/docs/unique.txt").exists());

    let mut command = forebay(&["shell", &server.addr(), "--output", "out"]);
    command.current_dir(&dir);
    let ran = run_with_input(
        command,
        b"fetch docs/unique.txt as.txt\nfetch docs/unique.txt into/\nfetch docs/unique.txt docs\n",
    );
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(names(&dir.path().join("out")), ["as.txt", "docs", "into"]);
    assert_eq!(names(&dir.path().join("out/into")), ["unique.txt"]);
}

/// The shell on a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(address: &str, dir: &std::path::Path) -> Terminal {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = || Stdio::from(File::options().read(true).write(true).open(&name).unwrap());
        let mut command = forebay(&["shell", address]);
        command.current_dir(dir).env("TERM", "xterm").env("XDG_STATE_HOME", dir.join("state"));
        let child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().unwrap();
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keyboard, screen, seen: String::new() }
    }

    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is on the screen, after all that was waited for before.
    fn see(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("\"{text}\" did not appear; seen since: {:?}", self.seen),
            }
        }
    }

    fn status(mut self) -> i32 {
        support::until("the shell has ended", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_person_is_told_what_to_do_and_helped_to_type_it() {
    let server = server();
    let dir = tempfile::tempdir().unwrap();
    let prompt = format!("{}> ", server.addr());
    let mut terminal = Terminal::start(&server.addr(), dir.path());
    terminal.see("fetch NAME [AS]");
    terminal.see(&format!("{} answers.", server.addr()));
    terminal.see(&prompt);
    // Tab: a command, a directory of the server, the only file in it.
    terminal.type_in("fe\t");
    terminal.see("fetch ");
    terminal.type_in("do\t");
    terminal.see("docs/");
    terminal.type_in("\t");
    terminal.see("unique.txt");
    terminal.type_in("\r");
    terminal.see("fetched docs/unique.txt (2 B)");
    terminal.see(&prompt);
    assert!(dir.path().join("docs/unique.txt").exists());
    // A name with a space is quoted.
    terminal.type_in("fetch m\t");
    terminal.see("'my file.txt'");
    // Ctrl-C gives the line up.
    terminal.type_in("\x03");
    terminal.see(&prompt);
    terminal.type_in("fetch missing\r");
    terminal.see("missing: not found on the server (404)");
    terminal.see(&prompt);
    // Ctrl-D leaves; what failed was seen.
    terminal.type_in("\x04");
    assert_eq!(terminal.status(), 0);
    assert!(!dir.path().join("my file.txt").exists());
    let history = std::fs::read_to_string(dir.path().join("state/forebay/history")).unwrap();
    assert!(history.contains("fetch docs/unique.txt") && history.contains("fetch missing"), "{history}");
}

#[test]
fn files_are_found_from_the_directory_one_is_in() {
    let server = Server::start(|request| match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/") => Reply::json(r#"[{"name":"a","type":"file","size":2},{"name":"docs","type":"directory"}]"#),
        ("GET", "/docs/") => {
            Reply::json(r#"[{"name":"sub","type":"directory"},{"name":"x","type":"file"},{"name":"y","type":"file"}]"#)
        }
        ("GET", "/docs/sub/") => Reply::json(r#"[{"name":"z","type":"file","size":2}]"#),
        ("GET", "/a" | "/docs/x" | "/docs/y" | "/docs/sub/z") => Reply::new("200 OK", &[], b"ok"),
        ("PUT", "/docs/up") => Reply::text("201 Created", ""),
        ("DELETE", "/docs/x" | "/a") => Reply::new("204 No Content", &[], b""),
        _ => Reply::text("404 Not Found", "no such file\n"),
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("up"), "bytes").unwrap();
    let script = "pwd\ncd docs\npwd\nls\nls su\nget x\nget ../a\nget /docs/y as\nget '*'\nget sub/\nput up\nrm x ../a\n\
                  cd sub\nget z\ncd ../..\npwd\ncd docs/sub\ncd\npwd\n";
    let mut command = forebay(&["shell", &server.addr(), "-o", "out"]);
    command.current_dir(&dir);
    let ran = run_with_input(command, script.as_bytes());
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    // What a pattern stands for comes in any order.
    let (fetched, rest): (Vec<&str>, Vec<&str>) = lines.drain(..).partition(|line| line.contains("etched"));
    let expected = [
        "/",
        "/docs",
        "SIZE  MODIFIED (UTC)  NAME",
        "   -  -               sub/",
        "   -  -               x",
        "   -  -               y",
        "SIZE  MODIFIED (UTC)  NAME",
        "   -  -               sub/",
        "created docs/up (5 B)",
        "deleted docs/x",
        "deleted a",
        "/",
        "/",
    ];
    assert_eq!(rest, expected);
    assert_eq!(fetched.len(), 7, "{fetched:?}");
    let out = dir.path().join("out");
    assert_eq!(names(&out), ["a", "as", "sub", "x", "y", "z"]);
    assert_eq!(names(&out.join("sub")), ["z"]);

    let script = "cd nowhere\ncd ..\nrm\nrm missing\nget ../../a\ncd a/..\npwd\n";
    let ran = run_with_input(forebay(&["shell", &server.addr()]), script.as_bytes());
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "/\n"));
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[0].starts_with("forebay: cd: nowhere/: not found on the server (404)"), "{lines:?}");
    assert!(lines[2].contains("write it as: rm NAME..."), "{lines:?}");
    assert!(lines[3].starts_with("forebay: delete: missing: not found on the server (404)"), "{lines:?}");
}

#[test]
fn a_session_says_that_nobody_answers_and_completes_from_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let prompt = format!("{address}> ");
    let mut terminal = Terminal::start(&address, dir.path());
    terminal.see("does not answer: cannot connect to");
    terminal.see(&prompt);
    terminal.type_in("\x04");
    assert_eq!(terminal.status(), 0);

    let server = server();
    let mut terminal = Terminal::start(&server.addr(), dir.path());
    terminal.see(&format!("{}> ", server.addr()));
    // Only directories can be gone to.
    terminal.type_in("cd \t\r");
    terminal.see("cd docs/");
    terminal.see(&format!("{} docs> ", server.addr()));
    terminal.type_in("get u\t\r");
    terminal.see("get unique.txt");
    terminal.see("fetched docs/unique.txt (2 B)");
    terminal.see(&format!("{} docs> ", server.addr()));
    assert!(dir.path().join("unique.txt").exists());
    terminal.type_in("rm ../my\t");
    terminal.see("rm '../my file.txt'");
    terminal.type_in("\x03");
    terminal.see(&format!("{} docs> ", server.addr()));
    terminal.type_in("quit\r");
    assert_eq!(terminal.status(), 0);
}

#[test]
fn a_transfer_can_be_cancelled() {
    let server = server();
    let dir = tempfile::tempdir().unwrap();
    let prompt = format!("{}> ", server.addr());
    let mut terminal = Terminal::start(&server.addr(), dir.path());
    terminal.see(&prompt);
    terminal.type_in("fetch stalls\r");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !server.requests().iter().any(|request| request.target == "/stalls") {
        assert!(Instant::now() < deadline, "no request came");
        std::thread::sleep(Duration::from_millis(5));
    }
    // The terminal is not the shell's controlling one here, so the signal is sent as the terminal would.
    let pid = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    terminal.see("cancelled");
    terminal.see(&prompt);
    terminal.type_in("quit\r");
    assert_eq!(terminal.status(), 0);
}
