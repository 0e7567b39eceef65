//! The control plane keeps the words, the accounts and the patience of the data plane.

mod support;

use std::time::{Duration, Instant};
use support::{Client, Server, bytes, request, until};
use tempfile::TempDir;

const SIZE: usize = 16 << 20;

fn tree() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a"), "hello").unwrap();
    root
}

/// Has the control plane take a connection over.
fn taken_over(mut client: Client) -> Client {
    client.get("/.forebay/health").expect(200);
    client
}

/// Heads that no plane takes.
const REFUSED: &[(&str, u16)] = &[
    ("GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("GET /a HTTP/1.1\r\nHost: abc\\foo\r\n\r\n", 400),
    ("GET /a HTTP/1.1\r\nHost: localhost:80 x\r\n\r\n", 400),
    ("GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("GET /a HTTP/1.1\r\n\r\n", 400),
    ("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nAuthorization: Bearer x\r\n\r\n", 400),
    ("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    ("GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
    ("GET /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    ("GET /a HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    ("GET /a HTTP/9.9\r\nHost: a\r\n\r\n", 505),
    ("GET\r\n\r\n", 400),
];

#[test]
fn both_planes_refuse_the_same_heads_in_the_same_words_and_close() {
    let root = tree();
    let log = root.path().join("log");
    let args = ["--access-log", log.to_str().unwrap(), "--workers", "1", "--max-head", "2KiB"];
    let server = Server::start(root.path(), &args);
    let too_long = (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(3000)), 414);
    let too_large = (format!("GET /a HTTP/1.1\r\nHost: a\r\nB: {}\r\n\r\n", "a".repeat(3000)), 431);
    let all = REFUSED.iter().map(|(head, status)| ((*head).to_owned(), *status)).chain([too_long, too_large]);
    let mut logged = 0;
    for (head, status) in all {
        let answers = [server.connect(), taken_over(server.connect())].map(|mut client| {
            client.send([head.as_bytes(), &request("GET", "/a", &[])].concat());
            let response = client.response("GET");
            assert_eq!(response.field("connection"), Some("close"), "{head:?}");
            client.finish();
            client.expect_end();
            (response.status, response.text())
        });
        assert_eq!(answers[0], answers[1], "{head:?}");
        assert_eq!(answers[0].0, status, "{head:?}");
        logged += 2;
        // The line that refuses no request is that of the connection's first.
        let is_refusal = |line: &&str| !line.contains("/.forebay/health");
        until("both are logged", || {
            std::fs::read_to_string(&log).unwrap().lines().filter(is_refusal).count() == logged
        });
    }
}

#[test]
fn targets_are_the_same_to_both_planes() {
    let root = tree();
    std::fs::write(root.path().join("b<`|^>c"), "odd").unwrap();
    let server = Server::start(root.path(), &["--workers", "1"]);
    for mut client in [server.connect(), taken_over(server.connect())] {
        assert_eq!(client.get("/b<`|^>c").expect(200).text(), "odd");
        assert_eq!(client.get("/a").expect(200).text(), "hello");
    }
}

fn lines(log: &std::path::Path, count: usize) -> Vec<serde_json::Value> {
    let mut lines = Vec::new();
    until("the log has its lines", || {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        lines.len() >= count
    });
    lines
}

/// A response counts as far as it has left, and no further: what hyper holds of it was not sent.
#[test]
fn what_has_left_is_logged_and_counted() {
    let root = tree();
    std::fs::write(root.path().join("large"), bytes(1, SIZE)).unwrap();
    let log = root.path().join("log");
    let args = ["--access-log", log.to_str().unwrap(), "--access-log-format", "json", "--send-timeout", "500ms"];
    let server = Server::start(root.path(), &[&args[..], &["--workers", "1"]].concat());
    let mut client = taken_over(server.connect());
    let listing = client.request("GET", "/", &[("Accept", "application/json")]);
    assert_eq!(listing.field("transfer-encoding"), Some("chunked"));
    for (method, target, fields, sent) in [
        ("GET", "/large", [].as_slice(), SIZE),
        ("HEAD", "/large", &[], 0),
        ("PUT", "/a", &[("Content-Length", "5"), ("Expect", "100-continue")], usize::MAX),
    ] {
        client.send(request(method, target, fields));
        if method == "PUT" {
            client.send("hello");
        }
        let response = client.final_response(method);
        assert!(sent == usize::MAX || response.body.len() == sent, "{method}");
    }
    // One that stops reading, is given up, and then takes what was sent all the same.
    let mut stalled = taken_over(Client::narrow(server.address(), 4096));
    stalled.send(request("GET", "/large", &[]));
    let head = stalled.head();
    until("it is given up", || server.sample("forebay_timeouts_total{kind=\"send\"}") == 1);
    let arrived = stalled.rest();
    assert_eq!(head.length(), SIZE);
    let logged = lines(&log, 7);
    let of = |method: &str, target: &str, aborted: bool| {
        let is = |line: &&serde_json::Value| {
            line["method"] == method && line["target"] == target && line["aborted"] == aborted
        };
        logged.iter().find(is).unwrap_or_else(|| panic!("{method} {target}: {logged:?}"))["bytes"].as_u64().unwrap()
    };
    assert_eq!(of("GET", "/", false), listing.body.len() as u64);
    assert_eq!(of("GET", "/large", false), SIZE as u64);
    assert_eq!(of("HEAD", "/large", false), 0);
    assert!(of("PUT", "/a", false) > 0, "the text of the refusal");
    assert!(!arrived.is_empty() && arrived.len() < SIZE);
    assert_eq!(of("GET", "/large", true), arrived.len() as u64);
}

/// A client that takes its response slowly is waited for, though its socket has no room for long; one that takes
/// nothing is not.
#[test]
fn a_slow_reader_is_waited_for() {
    let root = tree();
    std::fs::write(root.path().join("large"), bytes(1, SIZE)).unwrap();
    let server = Server::start(root.path(), &["--workers", "1", "--send-timeout", "500ms"]);
    let timeouts = || server.sample("forebay_timeouts_total{kind=\"send\"}");
    let mut client = taken_over(Client::narrow(server.address(), 4096));
    client.send(request("GET", "/large", &[]));
    client.head();
    let began = Instant::now();
    // What is tested is that time passes.
    while began.elapsed() < Duration::from_secs(3) {
        client.body(2048);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(timeouts(), 0);
    until("it is given up when it takes nothing more", || timeouts() == 1);
}

/// A request is answered whatever its body turns out to be, also if it asks for an upgrade, which there is none of.
#[test]
fn a_body_that_is_none_costs_no_answer() {
    let root = tree();
    let server = Server::start(root.path(), &["--workers", "1"]);
    for upgrade in ["", "Upgrade: h2c\r\n", "Connection: upgrade\r\nUpgrade: websocket\r\n"] {
        for body in ["5\nhello\n0\n\n", "x\r\n", "5\r\nhelloX0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"] {
            for _ in 0..5 {
                let mut client = server.connect();
                let head = "PATCH /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n";
                client.send(format!("{head}{upgrade}\r\n{body}"));
                let answer =
                    client.try_response("PATCH").unwrap_or_else(|error| panic!("{upgrade:?} {body:?}: {error}"));
                assert_eq!(answer.status, 405, "{upgrade:?} {body:?}");
            }
        }
    }
}
