//! Servers that fail are counted by how they fail; nothing hangs, and the exit status says whether anything succeeded.

mod common;
use common::{Reply, Server, accept_raw, loadgen, ok, run};
use serde_json::Value;
use std::{io::Write, net::TcpListener};

/// Five requests over one connection: everything must end as `kind`.
fn all_fail_as(kind: &str, address: &str, more: &[&str]) {
    let mut arguments = vec![address, "-n", "5", "-c", "1"];
    arguments.extend_from_slice(more);
    let (run, status) = run(&arguments);
    let errors = run["classes"]["total"]["errors"].as_object().unwrap();
    for (name, count) in errors {
        assert_eq!(count.as_u64(), Some(if name == kind { 5 } else { 0 }), "{name} in {errors:?}");
    }
    assert_eq!(run["classes"]["total"]["requests"], 0);
    assert_eq!(status, 1);
}

#[test]
fn a_server_that_closes_at_once() {
    all_fail_as("reset", &accept_raw(TcpListener::bind("127.0.0.1:0").unwrap(), drop), &[]);
}

#[test]
fn a_server_that_sends_garbage() {
    let garbage = |mut stream: std::net::TcpStream| drop(stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n"));
    let address = accept_raw(TcpListener::bind("127.0.0.1:0").unwrap(), garbage);
    // What arrives before anything was asked for ends the connection; what arrives after that is no answer.
    let (run, status) = run(&[&address, "-n", "5", "-c", "1"]);
    let errors = &run["classes"]["total"]["errors"];
    assert_eq!(errors["malformed"].as_u64().unwrap() + errors["reset"].as_u64().unwrap(), 5, "{errors}");
    assert_eq!(status, 1);
    let server = Server::start(|_, _| Reply::Send(b"\0\xff garbage\r\n\r\n".to_vec()));
    all_fail_as("malformed", &server.address, &[]);
}

#[test]
fn a_server_that_answers_404() {
    let server = Server::start(|_, _| Reply::Send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()));
    all_fail_as("status", &server.address, &[]);
}

#[test]
fn a_server_that_closes_inside_the_body() {
    let server =
        Server::start(|_, _| Reply::SendThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all".to_vec()));
    all_fail_as("short_body", &server.address, &[]);
    all_fail_as("short_body", &server.address, &["--discard-bodies"]);
}

#[test]
fn a_server_that_never_answers() {
    let server = Server::start(|_, _| Reply::Nothing);
    all_fail_as("timeout", &server.address, &["--timeout", "50ms"]);
    all_fail_as("timeout", &server.address, &["--timeout", "50ms", "--pipeline", "5"]);
}

#[test]
fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (run, status) = run(&[&address, "-c", "7", "-d", "100s"]);
    assert_eq!(run["ended"], "unreachable");
    assert_eq!(run["classes"]["total"]["errors"]["connect"], 7);
    assert_eq!(status, 1);
}

#[test]
fn a_server_that_goes_away_for_good() {
    // It accepts one connection, answers three requests, and is gone with its listener.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        drop(listener);
        let reply = |_: &str, number: usize| match number {
            0..2 => Reply::Send(ok("", b"x")),
            _ => Reply::SendThenClose(ok("", b"x")),
        };
        common::converse(stream, &std::sync::Mutex::default(), &reply);
    });
    let (run, status) = run(&[&address, "-c", "1", "-n", "6"]);
    assert_eq!(run["classes"]["total"]["requests"], 3);
    assert_eq!(run["classes"]["total"]["errors"]["connect"], 3, "{}", run["classes"]["total"]["errors"]);
    assert_eq!(status, 1);
}

fn succeeds(address: &str, more: &[&str]) -> Value {
    let mut arguments = vec![address, "-n", "40", "-c", "2"];
    arguments.extend_from_slice(more);
    let (run, status) = run(&arguments);
    assert_eq!(run["classes"]["total"]["requests"], 40, "{}", run["classes"]["total"]["errors"]);
    assert_eq!(status, 0);
    run
}

#[test]
fn connections_that_end_between_responses_cost_no_request() {
    // Announced, unannounced, and as HTTP/1.0 does.
    let announced = Server::start(|_, number| match number % 5 {
        4 => Reply::SendThenClose(ok("Connection: close\r\n", b"x")),
        _ => Reply::Send(ok("", b"x")),
    });
    assert!(succeeds(&announced.address, &[])["client"]["connections"].as_u64().unwrap() >= 8);
    succeeds(&announced.address, &["--pipeline", "3"]);
    let until_close = Server::start(|_, _| Reply::SendThenClose(b"HTTP/1.0 200 OK\r\n\r\nuntil the end".to_vec()));
    assert_eq!(succeeds(&until_close.address, &[])["classes"]["total"]["bytes"], 40 * 13);
    let unannounced = Server::start(|_, number| match number % 5 {
        4 => Reply::SendThenClose(ok("", b"x")),
        _ => Reply::Send(ok("", b"x")),
    });
    succeeds(&unannounced.address, &[]);
}

#[test]
fn responses_in_pieces_are_whole() {
    let dripping = Server::start(|_, _| Reply::Drip(ok("Cache-Status: forebay; hit\r\n", b"drop by drop")));
    assert_eq!(succeeds(&dripping.address, &["--pipeline", "2"])["classes"]["hit"]["bytes"], 40 * 12);
    let large = Server::start(|_, _| Reply::Send(ok("", &[7; 300_000])));
    assert_eq!(succeeds(&large.address, &[])["classes"]["total"]["bytes"], 40 * 300_000);
    for more in [&["--discard-bodies"][..], &["--discard-bodies", "--pipeline", "3"]] {
        assert_eq!(succeeds(&dripping.address, more)["classes"]["hit"]["bytes"], 40 * 12);
        assert_eq!(succeeds(&large.address, more)["classes"]["total"]["bytes"], 40 * 300_000);
    }
}

#[test]
fn wrong_usage_exits_2_and_says_why() {
    for (arguments, reason) in [
        (&["run"][..], "URL"),
        (&["run", "https://example.org/"], "TLS"),
        (&["run", "127.0.0.1:1", "--popularity", "zipf"], "zipf:0.9"),
        (&["run", "127.0.0.1:1", "--paths", "/nonexistent"], "/nonexistent"),
        (&["run", "127.0.0.1:1", "--trace", "/nonexistent"], "/nonexistent"),
        (&["run", "127.0.0.1:1", "--miss-ratio", "0.5"], "sizes"),
        (&["run", "127.0.0.1:1", "--miss-ratio", "2"], "0 to 1"),
        (&["run", "127.0.0.1:1", "-H", "no colon"], "Name: value"),
        (&["run", "127.0.0.1:1", "--rate", "0"], "above 0"),
        (&["run", "127.0.0.1:1", "-c", "0"], "1..="),
        (&["run", "unix:/nonexistent", "--discard-bodies"], "TCP"),
        (&["run", "127.0.0.1:1", "--discard-bodies", "--verify"], "--verify"),
        (&["run", "127.0.0.1:1", "--timeout", "0"], "at least 1ms"),
        (&["run", "127.0.0.1:1", "--fail-on", "p99"], "p99>5ms"),
        (&["run", "127.0.0.1:1", "-X", "GET /"], "not a method"),
        (&["run", "127.0.0.1:1", "--body", "@/nonexistent"], "/nonexistent"),
        (&["run", "127.0.0.1:1", "--body", "@/dev/zero"], "longer than 64.0 MiB"),
        (&["run", "127.0.0.1:1", "--hit-header", "HIT"], "cloudfront"),
        (&["run", "127.0.0.1:1", "--no-keepalive", "--pipeline", "2"], "--pipeline"),
        (&["run", "127.0.0.1:1", "-H", "Host: a", "-H", "Host: b"], "one Host"),
        (&["corpus", "/tmp/x", "--sizes", "cubic:1"], "lognormal"),
        (&["report", "-o", "x"], "RUNS"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let output = loadgen(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
    let output = loadgen(&["compare", "/nonexistent", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
}
