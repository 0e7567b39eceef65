//! Requests that no cache answers: they are the origin's, and come and go as they are.

mod support;

use support::upstream::{self, Gate, Reply, Then};
use support::{Server, assert_same, bytes, request};

/// An origin that repeats what it was sent.
fn echo() -> upstream::Server {
    upstream::Server::start(|request| {
        let fields = [("X-Method", request.method.as_str()), ("Cache-Status", "other; hit"), ("Via", "1.1 other")];
        let fields = [&fields[..], &[("Connection", "x-hop"), ("X-Hop", "1")]].concat();
        Reply::new("200 OK", &fields, &request.body)
    })
}

#[test]
fn every_method_is_passed_on_with_its_body() {
    let origin = echo();
    let server = Server::start(&origin.url(), &[]);
    let body = bytes(1, 1_000_000);
    for (_, mut client) in server.planes() {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH"] {
            let response =
                client.ask(&format!("{method} /a?b=c\r\nX-Mine: 1\r\nConnection: x-near\r\nX-Near: 1"), &body);
            let response = response.expect(200);
            assert_same(&response.body, &body, method);
            assert_eq!(response.field("x-method"), Some(method));
            assert_eq!(response.field("x-hop"), None);
            let all = |name: &str| {
                let fields = response.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
                fields.map(|(_, value)| value.clone()).collect::<Vec<_>>()
            };
            assert_eq!(all("cache-status"), ["other; hit", "forebay; fwd=method; fwd-status=200"]);
            assert_eq!(all("via"), ["1.1 other", "1.1 forebay"]);
            let sent = origin.requests().pop().unwrap();
            assert_eq!((sent.target.as_str(), sent.field("x-mine"), sent.field("x-near")), ("/a?b=c", Some("1"), None));
            assert_eq!(sent.field("via"), Some("1.1 forebay"));
            assert_eq!(sent.field("x-forwarded-for"), Some("127.0.0.1"));
            assert_eq!(sent.field("host"), Some(origin.addr().as_str()));
        }
    }
}

#[test]
fn a_chunked_body_is_passed_on_as_it_comes() {
    let origin = echo();
    let server = Server::start(&origin.url(), &[]);
    let mut client = server.connect();
    client.send("POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in ["hello", ", ", "world"] {
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response("POST").expect(200).text(), "hello, world");
}

/// Before the answer is there, for a request that is stored and for one that is only passed on.
#[test]
fn hints_are_passed_on_as_they_come() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = upstream::Server::start(move |_| {
        let hints = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-Hop: 1\r\nConnection: x-hop\r\n\r\n";
        let answer = "HTTP/1.1 200 OK\r\nCache-Control: max-age=100\r\nContent-Length: 4\r\n\r\nbody";
        Reply::raw([hints, answer].concat()).hold_from(hints.len(), &held).then(Then::Close)
    });
    let server = Server::start(&origin.url(), &[]);
    let mut waiting = Vec::new();
    for method in ["GET", "HEAD", "POST"] {
        for (plane, mut client) in server.planes() {
            client.send(request(method, &format!("/{plane}/{method}"), &[]));
            assert_eq!(client.head().status, 102, "{plane} {method}");
            let hint = client.head();
            assert_eq!((hint.status, hint.field("link"), hint.field("x-hop")), (103, Some("</a.css>"), None));
            waiting.push((method, client));
        }
    }
    gate.open();
    for (method, client) in &mut waiting {
        let answer = client.response(method).expect(200);
        assert_eq!(answer.text(), if *method == "HEAD" { "" } else { "body" });
        // What comes after it on the connection is whole, too; a hit has no hints.
        assert_eq!(client.get("/data/GET").expect(200).text(), "body");
    }
    let mut old = server.connect();
    old.send("GET /old HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert_eq!(old.head().status, 200, "HTTP/1.0 knows no hints");
}

#[test]
fn trailers_of_requests_are_passed_on_and_those_of_answers_are_not() {
    let origin = upstream::Server::start(|_| {
        let head =
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=100\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        Reply::raw([head, "4\r\nbody\r\n0\r\nX-Sum: 5\r\n\r\n"].concat())
    });
    let server = Server::start(&origin.url(), &[]);
    for (plane, mut client) in server.planes() {
        let fields = [("TE", "trailers")];
        for answer in [
            client.request("GET", &format!("/{plane}"), &fields),
            client.request("GET", &format!("/{plane}/alone"), &[fields[0], ("Cache-Control", "no-store")]),
            client.request("GET", &format!("/{plane}"), &fields),
        ] {
            assert_eq!((answer.text().as_str(), answer.field("trailer")), ("body", None), "{plane}: {answer:?}");
        }
        client.send("POST /a HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send("5\r\nhello\r\n0\r\nX-Sum: 7\r\nConnection: close\r\n\r\n");
        let answer = client.response("POST").expect(200);
        assert_eq!((answer.text().as_str(), answer.field("trailer")), ("body", None));
        let sent = origin.requests().pop().unwrap();
        assert_eq!(sent.trailers.get("x-sum").map(String::as_str), Some("7"), "{sent:?}");
    }
}

#[test]
fn a_body_is_asked_for_where_the_client_waits_for_that() {
    let origin = echo();
    let server = Server::start(&origin.url(), &[]);
    let mut client = server.connect();
    client.send("POST /a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.head().status, 100);
    client.send("hello");
    assert_eq!(client.response("POST").expect(200).text(), "hello");
    assert_eq!(origin.requests()[0].field("expect"), None);
    server.ask("POST /a\r\nExpect: miracles", b"").expect(417);
}

#[test]
fn a_request_that_breaks_off_is_none_for_the_origin() {
    let origin = echo();
    let server = Server::start(&origin.url(), &[]);
    let mut client = server.connect();
    client.send("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello");
    client.finish();
    let _ = client.rest();
    server.ask("POST /b", b"whole").expect(200);
    assert_eq!(origin.requests().len(), 1, "the origin never saw the other as a whole one");
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let origin = echo();
    let server = Server::start(&origin.url(), &["--max-upload", "10"]);
    let refused = server.ask("POST /a", b"01234567890").expect(413);
    assert!(refused.text().contains("--max-upload"), "{}", refused.text());
    let mut client = server.connect();
    client
        .send("POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n");
    client.response("POST").expect(413);
    server.ask("POST /a", b"0123456789").expect(200);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_server_that_only_reads_refuses_what_may_change_something() {
    let origin = echo();
    let server = Server::start(&origin.url(), &["--read-only"]);
    for method in ["POST", "PUT", "PATCH", "DELETE", "M-SEARCH", "CONNECT"] {
        let refused = server.ask(&format!("{method} /a"), b"").expect(405);
        assert_eq!(refused.field("allow"), Some("GET, HEAD, OPTIONS, TRACE"), "{method}");
    }
    assert!(origin.requests().is_empty());
    server.ask("OPTIONS /a", b"").expect(200);
}

#[test]
fn steps_are_counted_where_that_is_asked_for() {
    let origin = echo();
    let server = Server::start(&origin.url(), &[]);
    server.ask("OPTIONS /a\r\nMax-Forwards: 1", b"").expect(200);
    assert_eq!(origin.requests()[0].field("max-forwards"), Some("0"));
    let here = server.ask("OPTIONS /a\r\nMax-Forwards: 0", b"").expect(204);
    assert!(here.field("allow").unwrap().contains("POST"));
    let traced = server.ask("TRACE /a\r\nMax-Forwards: 0\r\nCookie: secret\r\nX-Mine: 1", b"").expect(200);
    assert_eq!(traced.field("content-type"), Some("message/http"));
    assert!(traced.text().starts_with("TRACE /a HTTP/1.1\r\n") && traced.text().contains("x-mine: 1"));
    assert!(!traced.text().contains("secret"), "{}", traced.text());
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_slow_origin_holds_up_nobody_else() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = upstream::Server::start(move |request| {
        let reply = Reply::new("200 OK", &[("Cache-Control", "max-age=100")], b"body");
        if request.target == "/slow" { reply.hold(0, &held) } else { reply }
    });
    let server = Server::start(&origin.url(), &[]);
    let mut slow = server.connect();
    slow.send(support::request_with_body("POST /slow", b"x"));
    for (_, mut client) in server.planes() {
        client.get("/quick").expect(200);
        client.ask("POST /quick", b"x").expect(200);
    }
    gate.open();
    slow.response("POST").expect(200);
}

#[test]
fn the_token_is_for_this_server_and_not_for_the_origin() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    let origin = echo();
    let server = Server::start(&origin.url(), &["--token-file", token.to_str().unwrap()]);
    server.ask("POST /a", b"x").expect(401);
    assert!(origin.requests().is_empty());
    server.ask("POST /a\r\nAuthorization: Bearer 0123456789abcdef0123456789abcdef", b"x").expect(200);
    assert_eq!(origin.requests()[0].field("authorization"), None);
}

#[test]
fn an_origin_that_leads_back_here_is_found_at_once() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let server = Server::start_on(format!("http://{address}").as_ref(), &[&address], &["--origin-timeout", "1h"]);
    for (_, mut client) in server.planes() {
        client.get("/a").expect(508);
        client.ask("POST /a", b"x").expect(508);
    }
}
