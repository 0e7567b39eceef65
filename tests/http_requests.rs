//! What is a request, and where it ends: however it is cut into pieces, however many come at once, and whatever is not
//! one.

mod support;

use support::{Client, Server, assert_same, bytes, request};

struct Fixture {
    server: Server,
    _root: tempfile::TempDir,
}

/// A server of `a` (1000 bytes), `b` (20,000 bytes) and `empty`.
fn serve(args: &[&str]) -> Fixture {
    let root = tempfile::tempdir().unwrap();
    for (name, file) in [("a", a()), ("b", b()), ("empty", Vec::new())] {
        std::fs::write(root.path().join(name), file).unwrap();
    }
    Fixture { server: Server::start(root.path(), args), _root: root }
}

fn a() -> Vec<u8> {
    bytes(1, 1000)
}

fn b() -> Vec<u8> {
    bytes(2, 20_000)
}

/// That a connection is where it should be: the next answer is that of the next request.
#[track_caller]
fn assert_in_step(client: &mut Client) {
    assert_same(&client.get("/b").body, &b(), "the next response");
}

#[test]
fn one_byte_at_a_time() {
    let fixture = serve(&[]);
    let mut client = fixture.server.connect();
    for byte in request("GET", "/a", &[("X-Long", &"y".repeat(100))]) {
        client.send([byte]);
    }
    assert_same(&client.response("GET").body, &a(), "a");
    assert_in_step(&mut client);
}

#[test]
fn split_at_every_position() {
    let fixture = serve(&["--workers", "1"]);
    let mut client = fixture.server.connect();
    let text =
        [request("GET", "/a", &[]), request("HEAD", "/b", &[]), request("GET", "/empty", &[("Range", "bytes=0-1")])]
            .concat();
    for at in 0..=text.len() {
        client.send(&text[..at]);
        if at % 3 == 0 {
            // Make it likely that the pieces arrive apart.
            fixture.server.connect().get("/empty");
        }
        client.send(&text[at..]);
        assert_same(&client.response("GET").body, &a(), "a");
        let head = client.response("HEAD");
        assert_eq!((head.status, head.length()), (200, 20_000));
        assert_eq!(client.response("GET").status, 200);
    }
}

#[test]
fn hundreds_of_requests_in_one_piece() {
    let fixture = serve(&[]);
    for workers in 0..2 {
        let mut client = fixture.server.connect();
        let mut text = Vec::new();
        for number in 0..300 {
            let method = if number % 5 == 4 { "HEAD" } else { "GET" };
            text.extend(request(method, ["/a", "/b", "/missing", "/empty"][number % 4], &[]));
        }
        client.send(&text);
        for number in 0..300 {
            let response = client.response(if number % 5 == 4 { "HEAD" } else { "GET" });
            assert_eq!(response.status, [200, 200, 404, 200][number % 4], "{workers}: {number}");
            match number % 4 {
                0 if number % 5 < 4 => assert_same(&response.body, &a(), "a"),
                1 if number % 5 < 4 => assert_same(&response.body, &b(), "b"),
                _ => {}
            }
        }
    }
}

/// The last request of a pipeline says close: all are answered, and then it ends.
#[test]
fn close_comes_after_what_was_asked_before() {
    let fixture = serve(&[]);
    let mut client = fixture.server.connect();
    let last = request("GET", "/b", &[("Connection", "close")]);
    client.send([request("GET", "/a", &[]), request("GET", "/b", &[]), last, request("GET", "/a", &[])].concat());
    assert_same(&client.response("GET").body, &a(), "a");
    assert_same(&client.response("GET").body, &b(), "b");
    let response = client.response("GET");
    assert_same(&response.body, &b(), "the last");
    assert_eq!(response.field("connection"), Some("close"));
    client.expect_end();
}

#[test]
fn a_client_that_ends_its_side_gets_its_answers() {
    let fixture = serve(&[]);
    let mut client = fixture.server.connect();
    client.send([request("GET", "/a", &[]), request("GET", "/b", &[])].concat());
    client.finish();
    assert_same(&client.response("GET").body, &a(), "a");
    assert_same(&client.response("GET").body, &b(), "b");
    client.expect_end();
    // Half a request is none.
    let mut client = fixture.server.connect();
    client.send(b"GET /a HTTP/1.1\r\nHost: te");
    client.finish();
    client.expect_end();
}

/// Versions and Connection decide whether the connection stays, and the answer says so where it must.
#[test]
fn persistence() {
    let fixture = serve(&[]);
    for (head, stays, said) in [
        ("GET /a HTTP/1.1\r\nHost: t\r\n\r\n", true, None),
        ("GET /a HTTP/1.1\r\nHost: t\r\nConnection: keep-alive\r\n\r\n", true, None),
        ("GET /a HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", false, Some("close")),
        ("GET /a HTTP/1.1\r\nHost: t\r\nCONNECTION: x,  CLOSE , y\r\n\r\n", false, Some("close")),
        ("GET /a HTTP/1.1\r\nHost: t\r\nConnection: x\r\nConnection: close\r\n\r\n", false, Some("close")),
        ("GET /a HTTP/1.0\r\n\r\n", false, Some("close")),
        ("GET /a HTTP/1.0\r\nHost: t\r\n\r\n", false, Some("close")),
        ("GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true, Some("keep-alive")),
        ("GET /a HTTP/1.0\r\nConnection: close\r\n\r\n", false, Some("close")),
    ] {
        let mut client = fixture.server.connect();
        client.send(head);
        let response = client.response("GET");
        assert_eq!(response.field("connection"), said, "{head}");
        assert_eq!(response.version, "HTTP/1.1", "{head}");
        assert_same(&response.body, &a(), head);
        if stays {
            client.send(head);
            assert_same(&client.response("GET").body, &a(), head);
        } else {
            client.expect_end();
        }
    }
}

/// Sends something that is no request; returns the status of the answer, after which the connection ends.
fn refusal(server: &Server, text: &[u8]) -> u16 {
    let mut client = server.connect();
    client.send(text);
    let response = client.response("GET");
    let shown = String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned();
    assert_eq!(response.field("connection"), Some("close"), "{shown:?}");
    assert_eq!(response.field("content-type"), Some("text/plain; charset=utf-8"), "{shown:?}");
    assert!(response.field("date").is_some() && !response.body.is_empty(), "{shown:?}");
    client.expect_end();
    response.status
}

#[test]
fn what_is_no_request_is_refused() {
    let fixture = serve(&[]);
    let garbage = bytes(7, 3000);
    for text in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], // a TLS hello
        b"GET\r\n\r\n",
        b"GET /a\r\n\r\n",
        b"GET  /a HTTP/1.1\r\nHost: t\r\n\r\n",
        b" GET /a HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET /a HTTP/1.1 \r\nHost: t\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET /a\0 HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET /a HTTP/x.y\r\nHost: t\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: t\r\nno colon\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: t\r\nName : x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: t\r\n: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: t\r\nX: a\r\n folded\r\n\r\n",
        b"GET /a HTTP/1.1\r\n Host: t\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: t\r\nX: a\rb\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: t\r\nX: a\0b\r\n\r\n",
        b"G\x01T /a HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: t\r\nHost: t\r\n\r\n",
        b"GET /a HTTP/1.0\r\nHost: t\r\nHost: u\r\n\r\n",
        &garbage,
    ] {
        let status = refusal(&fixture.server, text);
        assert!(matches!(status, 400 | 505), "{status}: {:?}", String::from_utf8_lossy(&text[..text.len().min(60)]));
    }
    for text in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"GET /a HTTP/2.0\r\nHost: t\r\n\r\n",
        b"GET /a HTTP/3.0\r\nHost: t\r\n\r\n",
        b"GET /a HTTP/1.2\r\nHost: t\r\n\r\n",
    ] {
        assert_eq!(refusal(&fixture.server, text), 505, "{}", String::from_utf8_lossy(text));
    }
    // All that was nobody else's business.
    assert_in_step(&mut fixture.server.connect());
}

/// What was asked before is answered before the refusal.
#[test]
fn a_refusal_waits_for_its_turn() {
    let fixture = serve(&[]);
    let mut client = fixture.server.connect();
    client.send([&request("GET", "/b", &[])[..], b"nonsense\r\n\r\n", &request("GET", "/a", &[])].concat());
    assert_same(&client.response("GET").body, &b(), "b");
    assert_eq!(client.response("GET").status, 400);
    client.expect_end();
}

#[test]
fn targets_that_name_nothing_cost_no_connection() {
    let fixture = serve(&[]);
    let mut client = fixture.server.connect();
    for target in ["*", "a", "?", "/%", "/%0", "/%xy", "/a%00", "/..", "ftp://t/a", "http://", "t:80"] {
        assert_eq!(client.get(target).status, 400, "{target}");
    }
    assert_in_step(&mut client);
}

#[test]
fn heads_have_limits() {
    let fixture = serve(&["--max-head", "4KiB", "--max-headers", "10"]);
    let server = &fixture.server;
    let head = |target: &str, fields: usize, field: usize| {
        let mut text = format!("GET {target} HTTP/1.1\r\nHost: t\r\n");
        (0..fields).for_each(|number| text.push_str(&format!("X-{number}: {}\r\n", "v".repeat(field))));
        text + "\r\n"
    };
    // At the limits all is well.
    let mut client = server.connect();
    client.send(head("/a", 9, 10));
    assert_same(&client.response("GET").body, &a(), "ten fields");
    let most = 4096 - head("/a", 1, 0).len();
    client.send(head("/a", 1, most));
    assert_same(&client.response("GET").body, &a(), "4 KiB");
    assert_in_step(&mut client);

    assert_eq!(refusal(server, head("/a", 10, 10).as_bytes()), 431, "eleven fields");
    assert_eq!(refusal(server, head("/a", 1, most + 1).as_bytes()), 431, "4 KiB and a byte");
    assert_eq!(refusal(server, head("/a", 5, 100_000).as_bytes()), 431, "far too much");
    assert_eq!(refusal(server, head(&format!("/{}", "x".repeat(5000)), 0, 0).as_bytes()), 414, "a long target");
    assert_eq!(refusal(server, &[b'A'; 10_000]), 414, "a line without an end");
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let fixture = serve(&["--header-timeout", "300ms", "--idle-timeout", "1h"]);
    for part in ["G", "GET /a HTTP/1.1\r\n", "GET /a HTTP/1.1\r\nHost: t\r\n"] {
        let mut client = fixture.server.connect();
        client.send(part);
        let response = client.response("GET");
        assert_eq!((response.status, response.field("connection")), (408, Some("close")), "{part:?}");
        client.expect_end();
    }
    // Bytes that trickle in do not buy time, also after a request that was answered.
    let mut client = fixture.server.connect();
    client.send([&request("GET", "/a", &[])[..], b"GET /a HTTP/1.1\r\nX: "].concat());
    assert_same(&client.response("GET").body, &a(), "a");
    support::until("it is refused", || client.try_send(b"y").is_err() || client.has_arrived());
    assert_eq!(client.response("GET").status, 408);
}

#[test]
fn idle_connections_are_closed() {
    let fixture = serve(&["--idle-timeout", "300ms", "--header-timeout", "1h"]);
    let mut never = fixture.server.connect();
    let mut once = fixture.server.connect();
    assert_in_step(&mut once);
    never.expect_end();
    once.expect_end();
}

/// One connection too many is told so and closed; as soon as another ends, there is room.
#[test]
fn connections_have_a_limit() {
    let fixture = serve(&["--max-connections", "8", "--workers", "2"]);
    for _ in 0..4 {
        // The places of the last round come back as its connections end.
        let mut clients: Vec<Client> = Vec::new();
        support::until("there is room for all", || {
            clients.clear();
            clients.extend((0..8).map(|_| fixture.server.connect()));
            clients.iter_mut().all(|client| {
                client.try_send(&request("GET", "/a", &[])).is_ok()
                    && client.try_response("GET").is_ok_and(|response| response.status == 200)
            })
        });
        clients.iter_mut().for_each(assert_in_step);
        for _ in 0..5 {
            let mut refused = fixture.server.connect();
            let response = refused.response("GET");
            assert_eq!((response.status, response.field("connection")), (503, Some("close")));
            assert!(response.text().contains('8') && response.field("retry-after").is_some(), "{}", response.text());
            refused.expect_end();
        }
        clients.iter_mut().for_each(assert_in_step);
    }
}

/// A head that two readers might end at different places is never followed by an answer to what may be its body.
#[test]
fn nothing_is_smuggled() {
    let fixture = serve(&[]);
    let hidden = "GET /b HTTP/1.1\r\nHost: t\r\n\r\n";
    for fields in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", hidden.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", hidden.len()),
        "Content-Length: 0\r\nContent-Length: 28\r\n".into(),
        "Content-Length: 0, 28\r\n".into(),
        "Content-Length: +0\r\n".into(),
        "Content-Length: -1\r\n".into(),
        "Content-Length: 0x0\r\n".into(),
        "Content-Length:\r\n".into(),
        "Transfer-Encoding: xchunked\r\n".into(),
        "Transfer-Encoding: chunked\r\n".into(),
        "Transfer-Encoding:\tchunked\r\n".into(),
        "Transfer-Encoding: identity\r\n".into(),
        "Transfer-Encoding : chunked\r\n".into(),
        "Transfer_Encoding: x\r\n Transfer-Encoding: chunked\r\n".into(),
        "X: y\rTransfer-Encoding: chunked\r\n".into(),
    ] {
        let mut client = fixture.server.connect();
        client.send(format!("GET /a HTTP/1.1\r\nHost: t\r\n{fields}\r\n{hidden}"));
        client.finish();
        let rest = client.rest();
        let answer = String::from_utf8_lossy(&rest);
        let successes = answer.matches("HTTP/1.1 200").count();
        assert!(successes <= 1, "{fields:?} hides a request: {successes} answers");
    }
}

/// A connection whose first request goes to the control plane, with a body that nobody reads, goes on with the next
/// one.
#[test]
fn a_first_request_with_an_unread_body_is_followed_by_the_next() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "content").unwrap();
    let server = support::Server::start(root.path(), &[]);
    let chunks = ["5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", "0\r\n\r\n"];
    let chunked = chunks.map(|chunks| ("Transfer-Encoding: chunked", chunks));
    let sized = [("Content-Length: 5", "hello"), ("Content-Length: 5\r\nExpect: 100-continue", "hello")];
    let second = "GET /file HTTP/1.1\r\nHost: a\r\n\r\n";
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
        for (field, body) in chunked.iter().chain(&sized) {
            // Not cached at first, then cached: answered later, or at once.
            for _ in 0..2 {
                let mut client = server.connect();
                client.send(format!("{method} /file HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n{body}{second}"));
                let first = client.response(method);
                if first.field("connection") == Some("close") {
                    client.expect_end();
                    continue;
                }
                assert_eq!(client.response("GET").text(), "content", "{method} {field} {body:?}");
            }
        }
    }
}

/// What is no host is refused, and the connection ends.
#[test]
fn a_host_that_is_none_is_refused() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "content").unwrap();
    let server = support::Server::start(root.path(), &[]);
    for host in ["Host: a/b", "Host: abc\\foo", "Host: localhost:80 x", "Host: a\r\nHost: b", "X: no host"] {
        let mut client = server.connect();
        let request = format!("GET /file HTTP/1.1\r\n{host}\r\n\r\n");
        client.send(format!("{request}{request}"));
        let refusal = client.response("GET");
        assert_eq!((refusal.status, refusal.field("connection")), (400, Some("close")), "{host}");
        client.expect_end();
    }
}
