//! Plain reads on a connection that has moved to the control plane: the same bytes, fields and cache as on the data
//! plane.

mod support;

use std::fs;

use support::{Client, Server, bytes, until};

#[test]
fn a_miss_on_the_control_plane_fills_the_cache_for_both() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &["--revalidate", "1h"]);
    let mut full = server.control_plane();
    for (name, length) in [("a", 0), ("b", 5_000), ("c", 2 << 20), ("d", 20 << 20)] {
        let body = bytes(7, length);
        fs::write(root.path().join(name), &body).unwrap();
        let miss = full.ask(&format!("GET /{name}"), b"").expect(200);
        assert_eq!(miss.field("cache-status"), Some("forebay; fwd=uri-miss; stored"));
        assert!(miss.body == body);
        let hit = server.get(&format!("/{name}")).expect(200);
        assert_eq!(hit.field("cache-status"), Some("forebay; hit"));
        assert!(hit.body == body);
        let hit = full.ask(&format!("GET /{name}"), b"").expect(200);
        assert_eq!(hit.field("cache-status"), Some("forebay; hit"));
        assert!(hit.body == body);
    }
}

#[test]
fn a_stampede_on_both_planes_reads_the_file_once() {
    let root = tempfile::tempdir().unwrap();
    let body = bytes(1, 10 << 20);
    fs::write(root.path().join("a"), &body).unwrap();
    let server = Server::start(root.path(), &[]);
    std::thread::scope(|scope| {
        for number in 0..24 {
            let (server, body) = (&server, &body);
            scope.spawn(move || {
                let mut client = if number % 2 == 0 { server.control_plane() } else { server.connect() };
                assert!(client.ask("GET /a", b"").expect(200).body == *body);
            });
        }
    });
    assert_eq!(server.sample("forebay_fills_total{event=\"started\"}"), 1);
}

#[test]
fn the_control_plane_follows_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a");
    fs::write(&path, "one").unwrap();
    let server = Server::start(root.path(), &["--revalidate", "50ms"]);
    let mut full = server.control_plane();
    assert_eq!(full.ask("GET /a", b"").text(), "one");
    let next = root.path().join("next");
    fs::write(&next, "two").unwrap();
    fs::rename(&next, &path).unwrap();
    until("the replacement to be seen", || full.ask("GET /a", b"").text() == "two");
    fs::remove_file(&path).unwrap();
    until("the deletion to be seen", || full.ask("GET /a", b"").status == 404);
}

#[test]
fn a_client_that_leaves_or_stalls_harms_nobody() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("huge"), bytes(1, 8 << 20)).unwrap();
    let server = Server::start(root.path(), &["--arena", "1MiB", "--send-timeout", "300ms"]);
    let mut stalled: Vec<Client> = (0..20).map(|_| server.control_plane()).collect();
    for client in &mut stalled {
        client.send(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for _ in 0..20 {
        server.control_plane().send(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert_eq!(server.control_plane().ask("GET /huge", b"").body.len(), 8 << 20);
    until("the stalled ones to be given up", || server.sample("forebay_timeouts_total{kind=\"send\"}") >= 20);
    until("the rest to be forgotten", || server.sample("forebay_control_connections") == 1);
}

#[test]
fn a_file_written_while_it_is_streamed_breaks_the_response_off() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("huge");
    fs::write(&path, bytes(1, 64 << 20)).unwrap();
    let server = Server::start(root.path(), &["--arena", "1MiB"]);
    let mut client = server.control_plane();
    client.send(b"GET /huge HTTP/1.1\r\nHost: x\r\n\r\n");
    // The response has begun, and is far from its end: the socket's buffers do not hold 64 MiB.
    until("the response to begin", || {
        server.sample("forebay_requests_total{class=\"miss\",detail=\"too_large\"}") == 1
    });
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"changed", 60 << 20).unwrap();
    assert!(client.try_response("PUT").is_err(), "no clean end");
}

#[test]
fn what_is_no_request_is_refused_after_the_answers_that_are_owed() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &[]);
    for (second, statuses) in [
        ("GARBAGE\r\n\r\n".to_owned(), &[400][..]),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n".into(), &[400, 505]),
        ("GET / HTTP/1.1\r\n\r\n".into(), &[400]),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".into(), &[400]),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".into(), &[400]),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000)), &[400, 414, 431]),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "x".repeat(20_000)), &[431]),
        ("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n".into(), &[400, 405]),
    ] {
        for pipelined in [true, false] {
            let mut client = server.connect();
            let first = "GET /.forebay/health HTTP/1.1\r\nHost: x\r\n\r\n";
            if pipelined {
                client.send(format!("{first}{second}").as_bytes());
            } else {
                client.send(first.as_bytes());
            }
            assert_eq!(client.final_response("PUT").expect(200).text(), "ok\n", "{second:.40}");
            if !pipelined {
                client.send(second.as_bytes());
            }
            let refused = client.final_response("PUT");
            assert!(statuses.contains(&refused.status), "{second:.40}: {}", refused.status);
        }
    }
}

#[test]
fn who_ends_their_side_gets_the_answers_that_are_owed() {
    let root = tempfile::tempdir().unwrap();
    let body = bytes(1, 3 << 20);
    fs::write(root.path().join("a"), &body).unwrap();
    let server = Server::start(root.path(), &["--arena", "1MiB"]);
    let mut client = server.control_plane();
    client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n\r\n");
    client.finish();
    assert!(client.final_response("PUT").expect(200).body == body);
    assert!(client.final_response("PUT").expect(200).text().ends_with(" a\n"));
    assert!(client.is_over());
}
