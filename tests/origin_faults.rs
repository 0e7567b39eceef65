//! An HTTP origin that fails: nothing short or mixed is kept, or ended as if it were whole, and the next request is as
//! good as ever.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::Server;
use support::upstream::{self, Reply, Then};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=100");

/// What an origin does wrong, and the status that clients see; `None` if the response breaks off.
fn faults() -> Vec<(&'static str, Reply, Option<u16>)> {
    let good = |body: &[u8]| Reply::new("200 OK", &[FRESH], body);
    let raw = |bytes: &str| Reply::raw(bytes).then(Then::Close);
    let chunked = "HTTP/1.1 200 OK\r\nCache-Control: max-age=100\r\nTransfer-Encoding: chunked\r\n\r\n";
    let large = support::bytes(1, 200_000);
    vec![
        ("it closes", raw(""), Some(502)),
        ("garbage", raw("garbage\r\n\r\n"), Some(502)),
        ("half a head", raw("HTTP/1.1 200 OK\r\nCache-Con"), Some(502)),
        ("a head without end", raw(&format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(300_000))), Some(502)),
        ("two lengths", raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), Some(502)),
        ("an unknown coding", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab"), Some(502)),
        ("another protocol", raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), Some(502)),
        ("it is silent", Reply::raw("").then(Then::Stall), Some(504)),
        ("it stops in its head", Reply::raw("HTTP/1.1 200 OK\r\nCac").then(Then::Stall), Some(504)),
        ("a short body", good(b"0123456789").cut(5), None),
        ("a short large body", good(&large).cut(150_000), None),
        ("a body without its rest", Reply::raw(&good(&large).bytes[..100_000]).then(Then::Stall), None),
        ("a broken chunk", raw(&format!("{chunked}5\r\nhello\r\nzz\r\n")), None),
        ("a missing last chunk", raw(&format!("{chunked}5\r\nhello\r\n")), None),
    ]
}

#[test]
fn nothing_short_is_kept_or_looks_whole() {
    for (what, fault, status) in faults() {
        let is_good = Arc::new(AtomicBool::new(false));
        let mends = is_good.clone();
        let origin = upstream::Server::start(move |_| match mends.load(Ordering::SeqCst) {
            true => Reply::new("200 OK", &[FRESH], b"good"),
            false => fault.clone(),
        });
        let timeouts = ["--origin-timeout", "500ms", "--origin-idle-timeout", "500ms"];
        let server = Server::start(&origin.url(), &timeouts);
        for (plane, mut client) in server.planes() {
            is_good.store(false, Ordering::SeqCst);
            let target = format!("/{plane}");
            client.send(support::request("GET", &target, &[]));
            match (client.try_response("GET"), status) {
                (Ok(response), Some(status)) => assert_eq!(response.status, status, "{plane}, {what}: {response:?}"),
                // Where nothing was passed on yet, the fault can be said.
                (Ok(response), None) => assert!([502, 504].contains(&response.status), "{plane}, {what}: {response:?}"),
                (Err(_), None) => {}
                (Err(error), Some(_)) => panic!("{plane}, {what}: {error}"),
            }
            is_good.store(true, Ordering::SeqCst);
            let after = server.get(&target).expect(200);
            assert_eq!(after.text(), "good", "{plane}, {what}");
            assert!(after.cache_status().contains("fwd="), "{plane}, {what}: {after:?}");
        }
    }
}

#[test]
fn an_origin_that_is_not_there_is_said_and_comes_back() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::start(format!("http://{nobody}").as_ref(), &[]);
    for (_, mut client) in server.planes() {
        client.get("/a").expect(502);
        client.ask("POST /a", b"x").expect(502);
        client.get("/.forebay/health").expect(200);
    }
}

#[test]
fn what_is_stale_is_served_when_the_origin_fails_unless_it_must_not_be() {
    let is_down = Arc::new(AtomicUsize::new(0));
    let state = is_down.clone();
    let origin = upstream::Server::start(move |request| match state.load(Ordering::SeqCst) {
        0 => {
            let (_, value) = request.target.split_once('?').unwrap();
            Reply::new("200 OK", &[("Cache-Control", value), ("ETag", "\"a\"")], b"body")
        }
        1 => Reply::raw("").then(Then::Close),
        _ => Reply::text("503 Service Unavailable", "down"),
    });
    let server = Server::start(&origin.url(), &[]);
    for (plane, mut client) in server.planes() {
        for (value, serves_stale) in [
            ("max-age=0", true),
            ("max-age=0,stale-if-error=100", true),
            ("max-age=0,stale-if-error=0", false),
            ("max-age=0,must-revalidate", false),
            ("max-age=0,proxy-revalidate", false),
            ("s-maxage=0", false),
            ("no-cache", false),
        ] {
            let target = format!("/{plane}?{value}");
            is_down.store(0, Ordering::SeqCst);
            client.get(&target).expect(200);
            for down in [1, 2] {
                is_down.store(down, Ordering::SeqCst);
                let found = client.get(&target);
                let expected = match (serves_stale, down) {
                    (true, _) => (200, "body"),
                    (false, 1) => (found.status, found.body.as_slice().utf8()),
                    (false, _) => (503, "down"),
                };
                assert_eq!(
                    (found.status, found.body.as_slice().utf8()),
                    expected,
                    "{plane}, {value}, {down}: {found:?}"
                );
                assert!(serves_stale || found.status >= 500, "{plane}, {value}: {found:?}");
                assert_eq!(found.cache_status().contains("hit"), serves_stale, "{plane}, {value}: {found:?}");
            }
        }
    }
}

trait Utf8 {
    fn utf8(&self) -> &str;
}

impl Utf8 for [u8] {
    fn utf8(&self) -> &str {
        std::str::from_utf8(self).unwrap()
    }
}
