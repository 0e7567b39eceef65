//! Answers of an HTTP origin that are for one request alone: nobody waits for another one's.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::upstream::{self, Gate, Reply, Request};
use support::{Client, Server, request, until};

const CLIENTS: usize = 50;

/// An origin whose first answer comes at once, while all others wait for the gate; and a server in front of it.
struct Crowd {
    origin: upstream::Server,
    server: Server,
    gate: Gate,
}

impl Crowd {
    fn gather(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Crowd {
        let gate = Gate::default();
        let (held, was_asked) = (gate.clone(), AtomicBool::new(false));
        let origin = upstream::Server::start(move |request| {
            let reply = script(request);
            if was_asked.swap(true, Ordering::SeqCst) { reply.hold_from(0, &held) } else { reply }
        });
        let server = Server::start(&origin.url(), &["--origin-connections", "64"]);
        Crowd { origin, server, gate }
    }

    fn ask(&self, fields: &[(&str, &str)]) -> Vec<Client> {
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| self.server.connect()).collect();
        clients.iter_mut().for_each(|client| client.send(request("GET", "/slow", fields)));
        clients
    }

    fn asked(&self) -> usize {
        self.origin.requests().len()
    }
}

fn private(_: &Request) -> Reply {
    Reply::new("200 OK", &[("Cache-Control", "private")], b"for one")
}

#[test]
fn who_asks_for_what_proved_uncacheable_waits_for_nobody() {
    let crowd = Crowd::gather(private);
    crowd.server.get("/slow").expect(200);
    let mut clients = crowd.ask(&[]);
    until("the origin is asked for all of them at the same time", || crowd.asked() == 1 + CLIENTS);
    crowd.gate.open();
    for client in &mut clients {
        let response = client.response("GET").expect(200);
        assert_eq!(response.text(), "for one");
        assert!(response.cache_status().starts_with("forebay; fwd=uri-miss"), "{response:?}");
    }
}

#[test]
fn what_is_uncacheable_for_the_authorized_collapses_for_others() {
    let authorization = [("Authorization", "Basic Zm9v")];
    let crowd = Crowd::gather(|request| {
        let control = if request.field("authorization").is_some() { "max-age=100" } else { "max-age=1000" };
        Reply::new("200 OK", &[("Cache-Control", control)], b"for all who say nothing")
    });
    crowd.server.connect().request("GET", "/slow", &authorization).expect(200);
    let mut known = crowd.ask(&authorization);
    until("each asks for itself", || crowd.asked() == 1 + CLIENTS);
    crowd.gate.open();
    known.iter_mut().for_each(|client| drop(client.response("GET").expect(200)));
    let mut others = crowd.ask(&[]);
    others.iter_mut().for_each(|client| drop(client.response("GET").expect(200)));
    assert_eq!(crowd.asked(), 2 + CLIENTS, "one for all others");
}

#[test]
fn what_has_become_cacheable_is_stored_at_once_and_collapses_again() {
    let is_cacheable = Arc::new(AtomicBool::new(false));
    let now_is = is_cacheable.clone();
    let origin = upstream::Server::start(move |_| {
        let control = if now_is.load(Ordering::SeqCst) { "max-age=100" } else { "no-store" };
        Reply::new("200 OK", &[("Cache-Control", control)], b"body")
    });
    let server = Server::start(&origin.url(), &[]);
    server.get("/a").expect(200);
    server.get("/a").expect(200);
    is_cacheable.store(true, Ordering::SeqCst);
    assert!(server.get("/a").cache_status().starts_with("forebay; fwd=uri-miss; fwd-status=200; stored"));
    assert!(server.get("/a").cache_status().starts_with("forebay; hit"));
    assert_eq!(origin.requests().len(), 3);
}
