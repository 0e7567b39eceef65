//! The control plane's connections: pipelined requests after bodies that nobody reads, deadlines of its own, and
//! answers that reach a client which sends all of its body first.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use support::{Client, Server, request, request_with_body, until};

/// A connection that the control plane has.
fn on_the_control_plane(server: &Server) -> Client {
    let mut client = server.connect();
    client.ask("GET /.forebay/health", b"").expect(200);
    client
}

/// Requests whose bodies nobody reads, sent at once.
fn unread() -> Vec<String> {
    let head = |method: &str, fields: &str| format!("{method} /file HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let chunk = "5\r\nhello\r\n0\r\n\r\n";
    ["GET", "POST", "PUT", "PATCH"]
        .iter()
        .flat_map(|method| {
            [
                head(method, "Transfer-Encoding: chunked\r\n") + chunk,
                head(method, "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\nA: b\r\n\r\n",
                head(method, "Content-Length: 5\r\n") + "hello",
                head(method, "Content-Length: 5\r\nExpect: 100-continue\r\n") + "hello",
            ]
        })
        .collect()
}

/// The first request of a connection has a body that nobody reads, and another follows in the same segment: it is
/// answered, or the connection ends. It is never left open without an answer.
#[test]
fn no_request_is_left_without_an_answer_after_a_body_that_nobody_reads() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), "content").unwrap();
    // All places are needed again and again.
    let server = Server::start(root.path(), &["--max-connections", "4", "--idle-timeout", "1h"]);
    for first in unread() {
        for _ in 0..3 {
            let mut client = server.connect();
            client.send(
                (first.clone() + "GET /file HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
            );
            client.final_response("PUT");
            if let Ok(second) = client.try_response("PUT") {
                assert_eq!(second.expect(200).text(), "content", "{first}");
            }
            assert!(client.is_over(), "{first}");
        }
    }
    server.get("/file").expect(200);
}

/// The body of a request that is answered without it, as it is sent.
fn framed(head: &str, body: &[u8], is_chunked: bool) -> Vec<u8> {
    if !is_chunked {
        return request_with_body(head, body);
    }
    let mut sent = with_fields(head, "Transfer-Encoding: chunked\r\n").into_bytes();
    for piece in body.chunks(10_000) {
        sent.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        sent.extend_from_slice(piece);
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(b"0\r\nA: b\r\n\r\n");
    sent
}

/// Requests that are answered whatever their bodies are, and how.
const ANSWERED_WITHOUT_BODY: [(&str, u16); 9] = [
    ("PUT /directory", 409),
    ("PUT /directory/", 409),
    ("PUT /file\r\nIf-None-Match: *", 412),
    ("PUT /a/../../b", 400),
    ("POST /file", 405),
    ("DELETE /absent", 404),
    ("OPTIONS /file", 204),
    ("GET /file", 200),
    ("GET /directory/", 200),
];

/// The request line and what follows it.
fn with_fields(head: &str, fields: &str) -> String {
    let (line, own) = head.split_once("\r\n").unwrap_or((head, ""));
    let own = if own.is_empty() { String::new() } else { format!("{own}\r\n") };
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{own}{fields}\r\n")
}

/// The rest of a body that nobody reads is passed over where it is small, and the next request is answered; where it is
/// large, the response says that the connection ends with it. A connection never ends without a word.
#[test]
fn a_connection_whose_next_request_is_not_answered_says_so() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), "content").unwrap();
    fs::create_dir(root.path().join("directory")).unwrap();
    let server = Server::start(root.path(), &["--allow-writes"]);
    for (head, status) in ANSWERED_WITHOUT_BODY {
        for is_chunked in [false, true] {
            let method = head.split(' ').next().unwrap();
            let mut client = server.connect();
            for length in [1, 5_000, 70_000, 320_000] {
                let mut sent = framed(head, &vec![b'x'; length], is_chunked);
                sent.extend_from_slice(&request("GET", "/file", &[]));
                client.send(sent);
                let answer = client.final_response(method).expect(status);
                assert_eq!(answer.field("connection"), None, "{head}, {length} bytes, chunked: {is_chunked}");
                assert_eq!(client.final_response("GET").expect(200).text(), "content", "{head}, {length}");
            }
            client.send(framed(head, &vec![b'x'; 2 << 20], is_chunked));
            let answer = client.final_response(method).expect(status);
            assert_eq!(answer.field("connection"), Some("close"), "{head}, chunked: {is_chunked}");
            assert!(client.is_over(), "{head}");
        }
    }
}

/// A body that does not come is not waited for as long as the connection may be idle, and one that waits to be asked
/// for is not asked for in vain.
#[test]
fn a_body_that_does_not_come_ends_the_connection_with_a_word() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), "content").unwrap();
    fs::create_dir(root.path().join("directory")).unwrap();
    let server = Server::start(root.path(), &["--allow-writes", "--idle-timeout", "1h"]);
    let framings = ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"];
    let asked = ANSWERED_WITHOUT_BODY.into_iter().flat_map(|asked| framings.map(|framing| (asked, framing)));
    for ((head, status), framing) in asked {
        let mut waiting = ["", "Expect: 100-continue\r\n"].map(|expect| {
            let mut client = server.connect();
            client.send(with_fields(head, &format!("{framing}{expect}")));
            client
        });
        for client in &mut waiting {
            let answer = client.response(head.split(' ').next().unwrap()).expect(status);
            assert_eq!(answer.field("connection"), Some("close"), "{head}, {framing}");
            assert!(client.is_over(), "{head}");
        }
    }
}

/// So it is, too, where the origin is on another machine and the body is not passed on.
#[test]
fn bodies_that_are_not_passed_on_end_no_connection_without_a_word() {
    let origin = support::upstream::Server::start(|_| support::upstream::Reply::text("200 OK", "content"));
    let server = Server::start(&origin.url(), &["--read-only"]);
    for is_chunked in [false, true] {
        let mut client = server.connect();
        for length in [1, 70_000, 320_000] {
            client.send([framed("PUT /a", &vec![b'x'; length], is_chunked), request("GET", "/b", &[])].concat());
            let answer = client.final_response("PUT").expect(405);
            assert_eq!(answer.field("connection"), None, "{length} bytes, chunked: {is_chunked}");
            client.final_response("GET").expect(200);
        }
        client.send(framed("PUT /a", &vec![b'x'; 2 << 20], is_chunked));
        assert_eq!(client.final_response("PUT").expect(405).field("connection"), Some("close"));
        assert!(client.is_over());
    }
}

/// A head that does not come to its end is answered 408 in the time for heads, not in that for idle connections.
#[test]
fn a_head_has_its_own_deadline() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &["--header-timeout", "300ms", "--idle-timeout", "1h"]);
    let mut client = on_the_control_plane(&server);
    client.send(b"GET /.forebay/health HT");
    let late = client.final_response("PUT").expect(408);
    assert!(late.text().contains("300ms"), "{}", late.text());
    assert!(client.is_over());
    assert!(server.sample("forebay_timeouts_total{kind=\"head\"}") >= 1);
}

/// What drips in buys a head no time.
#[test]
fn a_dripping_head_gets_no_more_time() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &["--header-timeout", "300ms", "--idle-timeout", "1h"]);
    let mut client = on_the_control_plane(&server);
    let mut head = b"GET /.forebay/health HTTP/1.1\r\nHost: localhost\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
    while client.try_send(&[*head.next().unwrap()]).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(server.sample("forebay_timeouts_total{kind=\"head\"}") >= 1);
}

/// An idle connection is closed without a word, and a request that is being answered is not idle.
#[test]
fn an_idle_connection_ends_in_its_time() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &["--header-timeout", "1h", "--idle-timeout", "300ms"]);
    let mut client = on_the_control_plane(&server);
    assert!(client.is_over());
    assert!(server.sample("forebay_timeouts_total{kind=\"idle\"}") >= 1);
}

/// A client that sends all of its body before it reads gets the refusal, also if sending takes longer than a quiet
/// connection is read on.
#[test]
fn a_refusal_reaches_a_client_that_sends_all_of_its_body_first() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &[]);
    let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
    let piece = vec![b'x'; 64 << 10];
    let pieces = 30;
    let head = format!("PUT /file HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", pieces * piece.len());
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..pieces {
        // Longer in all than a quiet connection is read on: 2 s.
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(&piece).expect("the server reads on");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("no reset");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

/// After a refusal of the request itself nothing more is taken from the connection, on both planes.
#[test]
fn nothing_follows_a_bad_request() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), "content").unwrap();
    let server = Server::start(root.path(), &["--allow-writes"]);
    let twice = "Host: localhost\r\nAuthorization: Bearer a\r\nAuthorization: Bearer a";
    for fields in ["Host: a\r\nHost: b", "Host: a/b", "Host: localhost:80 x", twice] {
        for mut client in [server.connect(), on_the_control_plane(&server)] {
            let bad = format!("GET /file HTTP/1.1\r\n{fields}\r\n\r\n");
            client.send([bad.as_bytes(), &request_with_body("DELETE /file", b"")].concat());
            client.final_response("PUT").expect(400);
            assert!(client.is_over(), "{fields}");
        }
    }
    assert!(root.path().join("file").exists());
}

/// A client that does not read costs the server little: fixed buffers, whatever it asked for.
#[test]
fn clients_that_do_not_read_cost_little() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("large"), vec![b'x'; 8 << 20]).unwrap();
    let directory = root.path().join("many");
    fs::create_dir(&directory).unwrap();
    for number in 0..20_000 {
        fs::write(directory.join(format!("{number:06}")), "").unwrap();
    }
    let server = Server::start(root.path(), &["--workers", "1", "--arena", "1MiB"]);
    let narrow = || {
        let mut client = Client::narrow(server.address(), 4096);
        client.get("/.forebay/health").expect(200);
        client
    };
    drop(narrow());
    // The names themselves are some 14 bytes each, in two blocks.
    for (target, each) in [("/large", 192 << 10), ("/many/", 640 << 10)] {
        let before = server.memory("RssAnon");
        let clients: Vec<Client> = (0..40)
            .map(|_| {
                let mut client = narrow();
                client.send(request("GET", target, &[]));
                assert_eq!(client.head().status, 200);
                client
            })
            .collect();
        let mut last = 0;
        until("the server rests", || {
            std::thread::sleep(Duration::from_millis(100));
            let now = server.memory("RssAnon");
            std::mem::replace(&mut last, now) == now
        });
        let more = last.saturating_sub(before) / 40;
        assert!(more < each, "{target}: {more} bytes for each client");
        drop(clients);
    }
}

/// Heads that become no request are logged and counted all the same.
#[test]
fn heads_that_are_refused_are_logged() {
    let root = tempfile::tempdir().unwrap();
    let log = root.path().join("log");
    let args = ["--header-timeout", "300ms", "--max-head", "2KiB", "--access-log", log.to_str().unwrap()];
    let server = Server::start(root.path(), &args);
    let too_large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    for (head, status) in [("GET\r\n\r\n", 400), (too_large.as_str(), 431), ("GET / HT", 408)] {
        let mut client = on_the_control_plane(&server);
        // The server may end the connection before all of it is sent.
        let _ = client.try_send(head.as_bytes());
        if let Ok(response) = client.try_response("GET") {
            assert_eq!(response.status, status, "{head}");
        }
        let logged = || fs::read_to_string(&log).unwrap().contains(&format!("\" {status} "));
        until(&format!("{status} is logged"), logged);
        assert!(server.sample(&format!("forebay_responses_total{{status=\"{status}\"}}")) >= 1);
    }
}
