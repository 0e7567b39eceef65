//! An HTTP origin behind the cache: what is asked of it, and what is answered without it (RFC 9111).

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::upstream::{self, Gate, Reply, Request};
use support::{Client, Server, assert_same, bytes};

/// An origin, and the server in front of it.
struct Pair {
    origin: upstream::Server,
    server: Server,
}

impl Pair {
    fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Pair {
        Pair::with(&[], script)
    }

    fn with(args: &[&str], script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Pair {
        let origin = upstream::Server::start(script);
        let server = Server::start(&origin.url(), args);
        Pair { origin, server }
    }

    /// How often the origin was asked for this target.
    fn asked(&self, target: &str) -> usize {
        self.origin.requests().iter().filter(|request| request.target == target).count()
    }

    /// The last request that the origin was asked.
    fn last(&self) -> Request {
        self.origin.requests().pop().expect("a request")
    }
}

/// An answer with these fields.
fn ok(fields: &[(&str, &str)], body: &str) -> Reply {
    Reply::new("200 OK", fields, body.as_bytes())
}

#[test]
fn what_is_fresh_is_answered_without_the_origin() {
    let pair = Pair::start(|request| ok(&[("Cache-Control", "max-age=100"), ("X-Own", "1")], &request.target));
    for (plane, mut client) in pair.server.planes() {
        let target = format!("/{plane}?query=counts");
        let first = client.get(&target).expect(200);
        assert!(first.cache_status().starts_with("forebay; fwd=uri-miss; fwd-status=200; stored"), "{first:?}");
        for _ in 0..2 {
            let hit = client.get(&target).expect(200);
            assert!(hit.cache_status().starts_with("forebay; hit; ttl="), "{hit:?}");
            assert_eq!((hit.text(), hit.field("x-own")), (target.clone(), Some("1")));
            assert!(hit.field("age").is_some_and(|age| age.parse::<u64>().unwrap() < 100), "{hit:?}");
            assert_eq!(hit.field("via"), Some("1.1 forebay"));
        }
        assert_eq!(pair.asked(&target), 1, "{plane}");
        let head = client.request("HEAD", &target, &[]).expect(200);
        assert_eq!(head.length(), target.len());
        let range = client.request("GET", &target, &[("Range", "bytes=1-3")]).expect(206);
        assert_eq!(range.text(), target[1..4]);
        assert_eq!(pair.asked(&target), 1, "a cached response answers these, too");
        client.get(&format!("/{plane}?query=other")).expect(200);
        assert_eq!(pair.asked(&format!("/{plane}?query=other")), 1);
    }
}

#[test]
fn what_is_stale_is_validated_and_served_again() {
    let pair = Pair::start(|request| {
        let fields = [("Cache-Control", "max-age=0"), ("ETag", "\"a\""), ("Last-Modified", upstream::LAST_MODIFIED)];
        match request.field("if-none-match") {
            Some("\"a\"") => Reply::new("304 Not Modified", &[fields[0], fields[1], ("X-New", "2")], b""),
            _ => ok(&fields, "body"),
        }
    });
    for (plane, mut client) in pair.server.planes() {
        let target = format!("/{plane}");
        client.get(&target).expect(200);
        let again = client.get(&target).expect(200);
        assert_eq!((again.text().as_str(), again.field("x-new")), ("body", Some("2")), "{plane}: {again:?}");
        assert_eq!(again.cache_status().split("; ttl").next(), Some("forebay; fwd=stale; fwd-status=304"));
        assert_eq!(pair.last().field("if-modified-since"), Some(upstream::LAST_MODIFIED));
        assert_eq!(pair.asked(&target), 2, "{plane}");
        let matches = client.request("GET", &target, &[("If-None-Match", "\"a\"")]);
        matches.expect(304);
    }
}

#[test]
fn without_last_modified_the_date_is_compared() {
    const DATES: [(&str, u16); 3] = [
        ("Sun, 09 Sep 2001 01:46:39 GMT", 200),
        ("Sun, 09 Sep 2001 01:46:40 GMT", 304),
        ("Sun, 09 Sep 2001 01:46:41 GMT", 304),
    ];
    let fields = [("Cache-Control", "max-age=2000000000"), ("Date", "Sun, 09 Sep 2001 01:46:40 GMT")];
    let pair = Pair::start(move |_| ok(&fields, "body"));
    for (plane, mut client) in pair.server.planes() {
        let target = format!("/{plane}");
        client.get(&target).expect(200);
        for (since, status) in DATES {
            let answer = client.request("GET", &target, &[("If-Modified-Since", since)]).expect(status);
            assert!(answer.cache_status().starts_with("forebay; hit"), "{plane}: {answer:?}");
        }
        // For the other conditions only Last-Modified itself counts.
        let part = [("Range", "bytes=0-1"), ("If-Range", fields[1].1)];
        client.request("GET", &target, &part).expect(200);
        client.request("GET", &target, &[("If-Unmodified-Since", DATES[0].0)]).expect(200);
        assert_eq!(pair.asked(&target), 1, "{plane}");
    }
}

#[test]
fn what_has_changed_is_fetched_anew() {
    let version = Arc::new(AtomicUsize::new(1));
    let current = version.clone();
    let pair = Pair::start(move |_| {
        let version = current.load(Ordering::SeqCst);
        ok(&[("Cache-Control", "max-age=0"), ("ETag", &format!("\"{version}\""))], &format!("version {version}"))
    });
    for (_, mut client) in pair.server.planes() {
        version.store(1, Ordering::SeqCst);
        assert_eq!(client.get("/a").text(), "version 1");
        version.store(2, Ordering::SeqCst);
        let changed = client.get("/a").expect(200);
        assert_eq!(changed.text(), "version 2");
        assert!(changed.cache_status().starts_with("forebay; fwd=stale; fwd-status=200; stored"), "{changed:?}");
    }
}

#[test]
fn languages_and_codings_are_compared_by_what_they_say() {
    let pair =
        Pair::start(|_| ok(&[("Cache-Control", "max-age=100"), ("Vary", "Accept-Language, Accept-Encoding")], "body"));
    for (plane, mut client) in pair.server.planes() {
        let mut ask = |language, encoding| {
            let fields = [("Accept-Language", language), ("Accept-Encoding", encoding)];
            let found = client.request("GET", &format!("/{plane}"), &fields).expect(200);
            found.cache_status().starts_with("forebay; hit")
        };
        assert!(!ask("de;q=0.5, en", "gzip, br"));
        assert!(ask("EN,de;q=0.50", "br,gzip;q=1.0") && ask("de;q=0.5, en", "gzip, br"));
        assert!(!ask("en, de", "gzip, br") && ask("en, de;q=1", "BR, gzip"));
        assert!(!ask("de, en", "gzip, br"), "among equals many servers take the first");
    }
}

#[test]
fn responses_are_chosen_by_the_fields_that_vary_names() {
    let pair = Pair::start(|request| {
        let foo = request.field("foo").unwrap_or("none");
        ok(&[("Cache-Control", "max-age=100"), ("Vary", "Foo, Bar")], foo)
    });
    let mut client = pair.server.connect();
    for (foo, is_hit) in [("1", false), ("1", true), ("2", false), ("1", true), ("2", true)] {
        let found = client.request("GET", "/a", &[("Foo", foo)]).expect(200);
        assert_eq!(found.text(), foo);
        assert_eq!(found.cache_status().starts_with("forebay; hit"), is_hit, "{foo}: {found:?}");
    }
    assert_eq!(client.get("/a").text(), "none");
    assert_eq!(client.request("GET", "/a", &[("Foo", "1"), ("Bar", "x")]).text(), "1");
    assert_eq!(pair.asked("/a"), 4);
}

#[test]
fn what_is_for_one_alone_is_not_kept() {
    let pair = Pair::start(|request| {
        let (_, value) = request.target.split_once('?').unwrap();
        ok(&[("Cache-Control", &value.replace('+', " ")), ("ETag", "\"a\"")], "body")
    });
    for (_, mut client) in pair.server.planes() {
        for value in ["no-store", "private,max-age=100", "no-store,max-age=100"] {
            let target = format!("/?{value}");
            let before = pair.asked(&target);
            for _ in 0..2 {
                let passed = client.get(&target).expect(200);
                assert_eq!(passed.text(), "body");
                assert!(!passed.cache_status().contains("stored") && !passed.cache_status().contains("hit"));
            }
            assert_eq!(pair.asked(&target), before + 2, "{value}");
        }
    }
    let mut client = pair.server.connect();
    for (value, asked) in [("max-age=100", 2), ("max-age=100,public", 1), ("s-maxage=100", 1)] {
        let target = format!("/auth?{value}");
        for _ in 0..2 {
            client.request("GET", &target, &[("Authorization", "Basic Zm9v")]).expect(200);
        }
        assert_eq!(pair.asked(&target), asked, "{value}");
    }
}

#[test]
fn requests_may_ask_for_more_than_what_is_cached() {
    let pair = Pair::start(|request| match request.field("if-none-match") {
        Some("\"a\"") => Reply::new("304 Not Modified", &[("Cache-Control", "max-age=100"), ("ETag", "\"a\"")], b""),
        _ => ok(&[("Cache-Control", "max-age=100"), ("ETag", "\"a\"")], "body"),
    });
    for (plane, mut client) in pair.server.planes() {
        let target = format!("/{plane}");
        client.get(&target).expect(200);
        for (field, asks) in [
            (("Cache-Control", "no-cache"), true),
            (("Pragma", "no-cache"), true),
            (("Cache-Control", "max-age=0"), true),
            (("Cache-Control", "min-fresh=1000"), true),
            (("Cache-Control", "no-store"), true),
            (("Cache-Control", "max-age=90"), false),
            (("Cache-Control", "min-fresh=10"), false),
            (("Cache-Control", "max-stale"), false),
            (("Cache-Control", "only-if-cached"), false),
            (("Cookie", "a=b"), false),
        ] {
            let before = pair.asked(&target);
            assert_eq!(client.request("GET", &target, &[field]).expect(200).text(), "body");
            assert_eq!(pair.asked(&target) > before, asks, "{plane}: {field:?}");
        }
        let absent = format!("{target}?absent");
        client.request("GET", &absent, &[("Cache-Control", "only-if-cached")]).expect(504);
        assert_eq!(pair.asked(&absent), 0);
    }
}

#[test]
fn many_who_want_the_same_ask_once_and_are_fed_as_it_comes() {
    let gate = Gate::default();
    let held = gate.clone();
    let content = bytes(1, 300_000);
    let body = content.clone();
    let pair =
        Pair::start(move |_| Reply::new("200 OK", &[("Cache-Control", "max-age=100")], &body).hold(100_000, &held));
    let mut clients: Vec<Client> = (0..20).map(|_| pair.server.connect()).collect();
    clients.extend((0..5).map(|_| pair.server.control_plane()));
    for client in &mut clients {
        client.send(support::request("GET", "/big", &[]));
    }
    for client in &mut clients {
        let head = client.head();
        assert_eq!((head.status, head.length()), (200, content.len()));
        assert_same(&client.body(100_000), &content[..100_000], "what has come");
    }
    gate.open();
    for client in &mut clients {
        assert_same(&client.body(200_000), &content[100_000..], "the rest");
    }
    assert_eq!(pair.asked("/big"), 1);
}

#[test]
fn what_changes_something_makes_what_is_cached_stale() {
    let pair = Pair::start(|request| match request.method.as_str() {
        "GET" => ok(&[("Cache-Control", "max-age=100")], "body"),
        _ if request.target.starts_with("/fails") => Reply::text("500 Internal Server Error", "no"),
        _ => Reply::new("201 Created", &[("Location", "/named?x"), ("Content-Location", "other")], b"done"),
    });
    for (plane, mut reader) in pair.server.planes() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"] {
            let own = format!("/{plane}/{method}");
            let other = format!("/{plane}/other");
            let targets = [own.as_str(), "/named?x", other.as_str(), "/fails"];
            targets.iter().for_each(|target| drop(reader.get(target).expect(200)));
            let before = targets.map(|target| pair.asked(target));
            let mut writer = pair.server.connect();
            let written = writer.ask(&format!("{method} {own}"), b"some").expect(201);
            assert_eq!(written.cache_status(), "forebay; fwd=method; fwd-status=201");
            let sent = pair.last();
            assert_eq!(
                (sent.method.as_str(), sent.target.as_str(), &sent.body[..]),
                (method, own.as_str(), &b"some"[..])
            );
            writer.ask(&format!("{method} /fails"), b"").expect(500);
            targets.iter().for_each(|target| drop(reader.get(target).expect(200)));
            let again = targets.map(|target| pair.asked(target));
            let expected = [before[0] + 2, before[1] + 1, before[2] + 1, before[3] + 1];
            assert_eq!(again, expected, "{plane} {method}: asked again for all but what a failure was about");
        }
    }
}

/// The token that opens this server is not shown to the origin, and what it opens is for all who have it.
#[test]
fn the_token_of_the_server_is_none_of_the_origins_business() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "s3cret").unwrap();
    let pair = Pair::with(&["--token-reads", "--token-file", token.to_str().unwrap()], |request| {
        ok(&[("Cache-Control", "max-age=100")], request.field("authorization").unwrap_or("none"))
    });
    let own = [("Authorization", "Bearer s3cret")];
    for (plane, mut client) in pair.server.planes() {
        let target = format!("/{plane}");
        assert_eq!(client.request("GET", &target, &own).expect(200).text(), "none");
        let again = client.request("GET", &target, &own).expect(200);
        assert!(again.cache_status().starts_with("forebay; hit"), "{again:?}");
        client.request("OPTIONS", &target, &own);
        assert_eq!(pair.last().field("authorization"), None);
        let asked = pair.origin.requests().len();
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "POST"] {
            client.request(method, &target, &[]).expect(401);
        }
        assert_eq!(pair.origin.requests().len(), asked, "{plane}: nobody without the token reaches the origin");
    }
}

/// A cache says when it received what did not say itself when it was made.
#[test]
fn an_answer_without_a_date_gets_one() {
    let pair = Pair::start(|_| ok(&[("Cache-Control", "max-age=100")], "x"));
    for (plane, mut client) in pair.server.planes() {
        let first = client.get(&format!("/{plane}")).expect(200);
        let date = first.field("date").expect("a date").to_owned();
        assert_eq!(client.get(&format!("/{plane}")).expect(200).field("date"), Some(&*date));
    }
}
