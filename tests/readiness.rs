//! Whether requests should be sent here: `/.forebay/ready`, apart from whether the server lives.

mod support;

use rustix::process::Signal;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::upstream::{self, Reply, Then};
use support::{Server, until};

/// What the page says, of a server that lives in any case.
fn ready(server: &Server) -> (u16, String) {
    server.get("/.forebay/health").expect(200);
    let said = server.get("/.forebay/ready");
    (said.status, said.text())
}

#[test]
fn a_server_without_its_root_is_not_ready() {
    // Once with a thread that looks where the root is, once without.
    for revalidate in ["1s", "0s"] {
        let dir = tempfile::tempdir().unwrap();
        let (root, aside) = (dir.path().join("root"), dir.path().join("aside"));
        fs::create_dir(&root).unwrap();
        let server = Server::start(&root, &["--revalidate", revalidate]);
        assert_eq!(ready(&server), (200, "ready\n".into()));
        assert_eq!(server.ask("HEAD /.forebay/ready", b"").status, 200);
        fs::rename(&root, &aside).unwrap();
        until("the root to be missed", || ready(&server) == (503, "the directory that is served is gone\n".into()));
        fs::rename(&aside, &root).unwrap();
        until("the root to be found", || ready(&server).0 == 200);
    }
}

#[test]
fn a_server_whose_origin_is_silent_is_not_ready_and_never_asks_it() {
    let is_silent = Arc::new(AtomicBool::new(false));
    let state = is_silent.clone();
    let origin = upstream::Server::start(move |_| match state.load(Ordering::SeqCst) {
        true => Reply::raw("").then(Then::Close),
        false => Reply::text("500 Internal Server Error", "an answer all the same"),
    });
    let server = Server::start(&origin.url(), &[]);
    for plane in ["data", "control"] {
        let ask = |target: &str| match plane {
            "data" => server.get(target).status,
            _ => server.ask(&format!("POST {target}"), b"x").status,
        };
        is_silent.store(false, Ordering::SeqCst);
        assert_eq!(ask("/a"), 500);
        let asked = origin.requests().len();
        for _ in 0..20 {
            assert_eq!(ready(&server).0, 200, "{plane}");
        }
        assert_eq!(origin.requests().len(), asked, "the page asked the origin");
        is_silent.store(true, Ordering::SeqCst);
        // On a machine that takes seconds from one request to the next, the silence may be past already.
        until("the silence is known", || {
            assert_eq!(ask("/b"), 502);
            ready(&server) == (503, "the origin does not answer\n".into())
        });
    }
    is_silent.store(false, Ordering::SeqCst);
    server.get("/c").expect(500);
    assert_eq!(ready(&server).0, 200);
}

#[test]
fn a_lame_duck_serves_and_is_not_ready() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "hello").unwrap();
    let mut server = Server::start(root.path(), &["--lame-duck", "1h"]);
    server.signal(Signal::TERM);
    until("the word to stop is known", || ready(&server) == (503, "the server is stopping\n".into()));
    for (plane, mut client) in server.planes() {
        for _ in 0..3 {
            assert_eq!(client.get("/a").expect(200).text(), "hello", "{plane}");
        }
    }
    assert!(server.stderr().contains("stopping in 3600s"), "{}", server.stderr());
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(1), "a second signal waits for nothing");
}

#[test]
fn the_time_of_a_lame_duck_ends() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path(), &["--lame-duck", "10ms"]);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
}
