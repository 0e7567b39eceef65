//! The access log costs lines where it cannot be written, never requests, memory without bound, or the server.

mod support;

use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{PATIENCE, Server, request, until};

const DROPPED: &str = "forebay_access_log_dropped_total";
const WRITTEN: &str = "forebay_access_log_lines_total";

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo runs").success());
}

#[test]
fn a_reader_that_takes_nothing_grows_nothing_and_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let (root, pipe) = (dir.path().join("root"), dir.path().join("pipe"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), "hello").unwrap();
    make_pipe(&pipe);
    let mut server = Server::start(&root, &["--workers", "1", "--drain", "2s", "--access-log", pipe.to_str().unwrap()]);
    let agent = "x".repeat(12 << 10);
    let asked = request("GET", "/a", &[("User-Agent", &agent)]);
    let mut client = server.connect();
    let mut ask = |count: usize| {
        for _ in 0..count {
            client.send(&asked);
            assert_eq!(client.head().status, 200);
            client.body(5);
        }
    };
    ask(100);
    let before = server.memory("RssAnon");
    ask(4000);
    let grown = server.memory("RssAnon").saturating_sub(before);
    assert!(grown < 20 << 20, "4,000 requests with 12 KiB to log grew the server by {grown} bytes");
    assert!(server.sample(DROPPED) > 3000);
    until("the loss is said", || server.stderr().contains("the access log loses lines"));
    assert_eq!(server.stderr().matches("the access log loses lines").count(), 1);
    let begun = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(20), "it waits for the reader of its log beyond --drain");
}

#[test]
fn a_limit_on_file_sizes_costs_lines_until_the_log_is_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let (root, log) = (dir.path().join("root"), dir.path().join("log"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), "hello").unwrap();
    // The limit is set above the arena's virtual range; the log has nearly reached it already.
    let limit = 256u64 << 30;
    let file = fs::File::create(&log).unwrap();
    if file.set_len(limit - 150).is_err() {
        eprintln!("skipped: the file system has no files of 256 GiB");
        return;
    }
    let mut command = support::limited(&[&format!("-f {}", limit / 512)]);
    command.arg("serve").arg(&root).args(["--listen", "127.0.0.1:0", "--access-log"]).arg(&log);
    let mut server = Server::spawn(command, 1);
    for _ in 0..10 {
        assert_eq!(server.get("/a").status, 200);
    }
    until("lines are lost", || server.sample(DROPPED) > 0);
    assert!(!server.has_ended());
    until("it is said", || server.stderr().contains("the access log loses lines"));
    fs::rename(&log, dir.path().join("log.1")).unwrap();
    server.signal(Signal::HUP);
    until("the log is opened again", || log.exists());
    let written = server.sample(WRITTEN);
    assert_eq!(server.get("/a").status, 200);
    until("lines are written again", || server.sample(WRITTEN) > written);
    assert!(fs::read_to_string(&log).unwrap().contains("\"GET /"));
}

#[test]
fn a_log_that_cannot_be_opened_is_named_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing/log");
    for (path, why) in [(missing.as_path(), "No such file"), (dir.path(), "Is a directory")] {
        let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["serve", "--listen", "127.0.0.1:0", "--access-log"])
            .args([path, dir.path()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("the access log") && said.contains(path.to_str().unwrap()), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn the_server_says_that_it_starts_reloads_drains_and_stops() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "hello").unwrap();
    let mut server = Server::start(root.path(), &["--drain", "1h", "--max-connections", "2"]);
    let url = format!("http://{}", server.address());
    until("the start is said", || server.stderr().contains("started: "));
    assert!(server.stderr().contains(&format!("at {url}/, dashboard at {url}/.forebay/")), "{}", server.stderr());
    let mut kept = [server.connect(), server.connect()];
    for client in &mut kept {
        assert_eq!(client.get("/a").status, 200);
    }
    assert_eq!(server.get("/a").status, 503);
    until("the limit is said", || server.stderr().contains("all 2 connections are in use"));
    server.signal(Signal::HUP);
    until("the reload is said", || server.stderr().contains("SIGHUP: "));
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let deadline = Instant::now() + PATIENCE;
    while !server.stderr().contains("stopped after") {
        assert!(Instant::now() < deadline, "{}", server.stderr());
    }
    assert!(server.stderr().contains("stopping: no more connections are taken; 2 are open"), "{}", server.stderr());
}

#[test]
fn each_level_says_what_its_help_promises() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "hello").unwrap();
    for (level, says) in [("warn", 0usize), ("info", 1), ("debug", 2), ("trace", 3)] {
        let mut server = Server::start(root.path(), &["--log", level]);
        let mut client = server.connect();
        assert_eq!(client.get("/a").status, 200);
        client.finish();
        client.expect_end();
        server.signal(Signal::TERM);
        assert!(server.wait().success());
        let messages = ["stopped after", "has a read", ": a 200 forebay; fwd=uri-miss; stored"];
        until("all is said", || says == 0 || server.stderr().contains(messages[0]));
        let said = server.stderr();
        for (number, message) in messages.into_iter().enumerate() {
            assert_eq!(said.contains(message), number < says, "{level}: {message}: {said}");
        }
        for message in [" from 127.0.0.1:", " is closed"] {
            assert_eq!(said.contains(message), says >= 2, "{level}: {message}: {said}");
        }
    }
}

/// The lines of a JSON log.
fn lines(log: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

#[test]
fn refused_and_aborted_requests_have_lines_with_what_was_sent() {
    const SIZE: usize = 12 << 20;
    let dir = tempfile::tempdir().unwrap();
    let (root, log) = (dir.path().join("root"), dir.path().join("log"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("large"), support::bytes(1, SIZE)).unwrap();
    fs::write(root.join("small"), "hello").unwrap();
    for mode in support::TRANSMIT {
        let _ = fs::remove_file(&log);
        let options = ["--access-log-format", "json", "--transmit", mode, "--header-timeout", "300ms"];
        let log_options = ["--access-log", log.to_str().unwrap(), "--max-connections", "3"];
        let server = Server::start(&root, &[&options[..], &log_options].concat());
        let line_of = |what: &str, is: &dyn Fn(&serde_json::Value) -> bool| -> serde_json::Value {
            let mut found = None;
            until(what, || {
                found = lines(&log).into_iter().find(|line| is(line));
                found.is_some()
            });
            found.unwrap()
        };
        assert_eq!(server.get("/large").body.len(), SIZE);
        let whole = line_of("the whole response", &|line| line["bytes"] == SIZE);
        assert_eq!((&whole["status"], &whole["aborted"]), (&200.into(), &false.into()), "{mode}");

        let mut client = support::Client::narrow(server.address(), 4096);
        client.send(request("GET", "/large", &[]));
        assert_eq!(client.head().status, 200);
        client.reset();
        let aborted = line_of("the aborted response", &|line| line["aborted"] == true);
        assert_eq!((&aborted["status"], &aborted["target"]), (&200.into(), &"/large".into()), "{mode}");
        let sent = aborted["bytes"].as_u64().unwrap();
        assert!(sent < SIZE as u64, "{mode}: {sent} bytes");
        assert_eq!(server.sample("forebay_response_body_bytes_total{class=\"hit\",detail=\"fresh\"}"), sent, "{mode}");

        let mut bad = server.connect();
        bad.send(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(bad.head().status, 400);
        let refused = line_of("the malformed request", &|line| line["status"] == 400);
        assert_eq!(refused["bytes"].as_u64().map(|bytes| bytes > 0), Some(true), "{mode}");
        drop(bad);
        let mut slow = server.connect();
        slow.send(b"GET /la");
        assert_eq!(slow.head().status, 408);
        let late = line_of("the late request", &|line| line["status"] == 408);
        assert_eq!(late["method"], serde_json::Value::Null, "{mode}");
        drop(slow);
        let mut kept = Vec::new();
        until("one connection too many is refused", || {
            let mut client = server.connect();
            let status = client.get("/small").status;
            kept.push(client);
            status == 503
        });
        line_of("the refused connection", &|line| line["status"] == 503);
    }
}

/// A full disk costs lines of the log, and no response.
#[test]
fn a_full_disk_costs_lines_and_is_said_once() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a"), "a").unwrap();
    let mut server = Server::start(root.path(), &["--access-log", "/dev/full"]);
    until("the loss is said", || {
        assert_eq!(server.get("/a").expect(200).text(), "a");
        server.stderr().contains("No space left on device")
    });
    for _ in 0..20 {
        server.get("/a").expect(200);
    }
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    assert_eq!(server.stderr().matches("No space left on device").count(), 1, "{}", server.stderr());
}
