//! What the log and the metrics say of a response is what was sent of it.

mod support;

use std::path::Path;
use support::{Client, Server, bytes, request, until};

const SIZE: usize = 8 << 20;

/// The lines of a JSON access log that are there, once there are so many.
fn lines(log: &Path, count: usize) -> Vec<serde_json::Value> {
    let mut lines = Vec::new();
    until("the log has its lines", || {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        lines.len() >= count
    });
    lines
}

/// Body bytes of all classes.
fn body_bytes(server: &Server) -> u64 {
    let page = server.get("/.forebay/metrics").text();
    let samples = page.lines().filter(|line| line.starts_with("forebay_response_body_bytes_total{"));
    samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[test]
fn what_was_sent_is_logged_and_counted() {
    for mode in support::TRANSMIT {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("large"), bytes(1, SIZE)).unwrap();
        let log = root.path().join("log");
        let args = ["--access-log", log.to_str().unwrap(), "--access-log-format", "json", "--transmit", mode];
        let server = Server::start(root.path(), &[&args[..], &["--workers", "1"]].concat());
        // Whole, twice: read, and from the cache.
        for _ in 0..2 {
            assert_eq!(server.get("/large").body.len(), SIZE);
        }
        // A client that reads a little and leaves.
        let mut client = Client::narrow(server.address(), 4096);
        client.send(request("GET", "/large", &[]));
        assert_eq!(client.head().status, 200);
        client.body(1000);
        client.reset();
        let logged = lines(&log, 3);
        for line in &logged[..2] {
            assert_eq!((&line["bytes"], &line["aborted"]), (&SIZE.into(), &false.into()), "{line}");
        }
        let sent = logged[2]["bytes"].as_u64().unwrap();
        assert!(logged[2]["aborted"] == true && (1000..SIZE as u64).contains(&sent), "{mode}: {}", logged[2]);
        let others: u64 = lines(&log, 3)[3..].iter().map(|line| line["bytes"].as_u64().unwrap()).sum();
        assert_eq!(body_bytes(&server), 2 * SIZE as u64 + sent + others, "{mode}");
    }
}

#[test]
fn what_is_refused_is_logged() {
    let root = tempfile::tempdir().unwrap();
    let log = root.path().join("log");
    let args = ["--access-log", log.to_str().unwrap(), "--access-log-format", "json", "--max-connections", "1"];
    let server = Server::start(root.path(), &[&args[..], &["--workers", "1"]].concat());
    let mut only = server.connect();
    assert_eq!(only.get("/nothing").status, 404);
    let mut surplus = server.connect();
    assert_eq!(surplus.response("GET").status, 503);
    only.send("GET\r\n\r\n");
    assert_eq!(only.response("GET").status, 400);
    let logged = lines(&log, 3);
    let statuses: Vec<u64> = logged.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [404, 503, 400]);
}
