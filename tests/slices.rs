//! Large objects of remote origins: cached in slices, whatever the origin is.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::upstream::{self, LAST_MODIFIED, Reply, Request};
use support::{Server, assert_same, bytes};

/// Bytes of the object, and of its slices.
const SIZE: usize = 10 * 64 * 1024 + 1234;
const SLICE: usize = 64 << 10;

/// What a script answers with for a request of an object, as RFC 9110 has it: with conditions and ranges.
fn object(request: &Request, tag: &str, content: &[u8]) -> Reply {
    let size = content.len();
    let mut fields = vec![
        ("ETag".to_owned(), tag.to_owned()),
        ("Last-Modified".to_owned(), LAST_MODIFIED.to_owned()),
        ("Accept-Ranges".to_owned(), "bytes".to_owned()),
        ("Cache-Control".to_owned(), "max-age=3600".to_owned()),
        ("Content-Type".to_owned(), "video/mp4".to_owned()),
    ];
    let reply = |status: &str, fields: &[(String, String)], body: &[u8]| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Reply::new(status, &fields, body)
    };
    if request.field("if-match").is_some_and(|wanted| wanted != tag) {
        return reply("412 Precondition Failed", &[], b"");
    }
    let Some(range) = request.field("range") else { return reply("200 OK", &fields, content) };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    if first >= size {
        fields.push(("Content-Range".to_owned(), format!("bytes */{size}")));
        return reply("416 Range Not Satisfiable", &fields, b"");
    }
    let end = size.min(last + 1);
    fields.push(("Content-Range".to_owned(), format!("bytes {first}-{}/{size}", end - 1)));
    reply("206 Partial Content", &fields, &content[first..end])
}

/// A server in front of an origin with this script, with small slices.
fn serve(origin: &upstream::Server, args: &[&str]) -> Server {
    let url = format!("http://{}", origin.addr());
    let own = ["--whole-max", "128KiB", "--slice", "64KiB"];
    Server::start(std::path::Path::new(&url), &[&own[..], args].concat())
}

fn ranged(server: &Server, target: &str, range: &str) -> support::Response {
    server.connect().request("GET", target, &[("Range", range)])
}

#[test]
fn a_range_moves_its_slices_and_nothing_else() {
    let content = Arc::new(bytes(1, SIZE));
    let held = content.clone();
    let origin = upstream::Server::start(move |request| object(request, "\"a\"", &held));
    let server = serve(&origin, &[]);
    let first = ranged(&server, "/film?x=1", "bytes=200000-200099").expect(206);
    assert_same(&first.body, &content[200_000..200_100], "the part");
    assert_eq!(first.field("content-range"), Some(&*format!("bytes 200000-200099/{SIZE}")));
    assert_eq!((first.field("etag"), first.field("content-type")), (Some("\"a\""), Some("video/mp4")));
    let asked: Vec<_> = origin.requests().iter().map(|request| request.field("range").map(str::to_owned)).collect();
    assert_eq!(asked, [Some("bytes=196608-262143".to_owned())], "one slice");

    // From the slice that is cached, and from nowhere else.
    for (range, from, to) in [("bytes=196608-262143", 196_608, 262_144), ("bytes=200000-200000", 200_000, 200_001)] {
        let again = ranged(&server, "/film?x=1", range).expect(206);
        assert_same(&again.body, &content[from..to], range);
        assert!(again.field("cache-status").unwrap().contains("hit"), "{again:?}");
    }
    assert_eq!(origin.requests().len(), 1);

    // Across slices, of which one is there.
    let across = ranged(&server, "/film?x=1", "bytes=190000-300000").expect(206);
    assert_same(&across.body, &content[190_000..300_001], "the part across slices");
    assert!(across.field("cache-status").unwrap().contains("fwd=partial"), "{across:?}");
    let asked = origin.requests();
    assert_eq!(asked.len(), 3);
    assert!(asked[1..].iter().all(|request| request.field("if-match") == Some("\"a\"")));

    for (range, from, to) in [("bytes=-7", SIZE - 7, SIZE), ("bytes=0-", 0, SIZE), ("bytes=655300-", 655_300, SIZE)] {
        let part = ranged(&server, "/film?x=1", range).expect(206);
        assert_same(&part.body, &content[from..to], range);
    }
    assert_same(&server.get("/film?x=1").expect(200).body, &content, "all of it");
    assert_eq!(origin.requests().len(), 11, "each slice once");
    let parts = ranged(&server, "/film?x=1", "bytes=0-9,131000-131200").expect(206);
    assert!(parts.field("content-type").unwrap().starts_with("multipart/byteranges"));
    let has = |wanted: &[u8]| parts.body.windows(wanted.len()).any(|window| window == wanted);
    assert!(has(&content[..10]) && has(&content[131_000..131_201]));
    ranged(&server, "/film?x=1", &format!("bytes={SIZE}-")).expect(416);
    server.connect().request("HEAD", "/film?x=1", &[]).expect(200);
    assert_eq!(origin.requests().len(), 11);
}

#[test]
fn what_is_asked_for_whole_is_sliced_too() {
    let content = Arc::new(bytes(2, SIZE));
    let held = content.clone();
    let origin = upstream::Server::start(move |request| object(request, "\"a\"", &held));
    let server = serve(&origin, &[]);
    for _ in 0..2 {
        assert_same(&server.get("/film").expect(200).body, &content, "all of it");
        assert_eq!(origin.requests().len(), 11, "the first slice is the beginning of the first answer");
    }
    let cached = server.get("/.forebay/cache").expect(200).text();
    assert!(cached.contains("\"/film\"") && cached.contains("\"/film (slice 10)\""), "{cached}");
}

#[test]
fn small_objects_are_no_slices() {
    let content = Arc::new(bytes(3, 100_000));
    let held = content.clone();
    let origin = upstream::Server::start(move |request| match &*request.target {
        "/small" => object(request, "\"a\"", &held[..1000]),
        "/empty" => object(request, "\"a\"", b""),
        _ => object(request, "\"a\"", &held),
    });
    let server = serve(&origin, &[]);
    assert_same(&ranged(&server, "/small", "bytes=10-19").expect(206).body, &content[10..20], "the part");
    assert_same(&server.get("/small").expect(200).body, &content[..1000], "all of it");
    assert_eq!(origin.requests().len(), 1, "its slice was all of it");
    assert_same(&ranged(&server, "/between", "bytes=10-19").expect(206).body, &content[10..20], "the part");
    assert_same(&server.get("/between").expect(200).body, &content, "all of it");
    assert_eq!(origin.requests().len(), 3, "more than a slice, and less than what is sliced");
    ranged(&server, "/small2", "bytes=200000-").expect(416);
    ranged(&server, "/empty", "bytes=0-0").expect(200);
}

#[test]
fn a_change_between_slices_breaks_the_response_off() {
    let (old, new) = (Arc::new(bytes(4, SIZE)), Arc::new(bytes(5, SIZE)));
    let number = Arc::new(AtomicUsize::new(0));
    let (held_old, held_new, count) = (old.clone(), new.clone(), number.clone());
    for ignores_conditions in [false, true] {
        let (held_old, held_new, count) = (held_old.clone(), held_new.clone(), count.clone());
        count.store(0, Ordering::SeqCst);
        let origin = upstream::Server::start(move |request| {
            let mut request = request.clone();
            if ignores_conditions {
                request.fields.remove("if-match");
            }
            match count.fetch_add(1, Ordering::SeqCst) {
                0..4 => object(&request, "\"old\"", &held_old),
                _ => object(&request, "\"new\"", &held_new),
            }
        });
        let server = serve(&origin, &[]);
        let mut client = server.connect();
        client.send(support::request("GET", "/film", &[]));
        assert_eq!(client.head().field("etag"), Some("\"old\""));
        let body = client.rest();
        assert!(
            body.len() < SIZE && old.starts_with(&body),
            "broken off after {} bytes, and nothing mixed",
            body.len()
        );
        let whole = server.get("/film").expect(200);
        assert_same(&whole.body, &new, "the new one, whole");
        assert_eq!(whole.field("etag"), Some("\"new\""));
    }
}

#[test]
fn an_origin_that_ignores_ranges_is_read_past_what_is_not_wanted() {
    let content = Arc::new(bytes(6, SIZE));
    let held = content.clone();
    let origin = upstream::Server::start(move |request| {
        let mut request = request.clone();
        request.fields.remove("range");
        object(&request, "\"a\"", &held)
    });
    let server = serve(&origin, &[]);
    assert_same(
        &ranged(&server, "/film", "bytes=200000-300000").expect(206).body,
        &content[200_000..300_001],
        "a part",
    );
    assert_same(&server.get("/film").expect(200).body, &content, "all of it");
}

#[test]
fn objects_without_a_strong_tag_are_not_sliced() {
    let content = Arc::new(bytes(7, SIZE));
    let held = content.clone();
    let origin = upstream::Server::start(move |request| object(request, "W/\"a\"", &held));
    let server = serve(&origin, &[]);
    for _ in 0..2 {
        assert_same(
            &ranged(&server, "/film", "bytes=200000-200099").expect(206).body,
            &content[200_000..200_100],
            "a part",
        );
        assert_same(&server.get("/film").expect(200).body, &content, "all of it");
    }
}

#[test]
fn many_readers_of_a_cold_object_have_each_slice_fetched_once() {
    let content = Arc::new(bytes(8, SIZE));
    let held = content.clone();
    let origin = upstream::Server::start(move |request| object(request, "\"a\"", &held));
    let server = serve(&origin, &[]);
    std::thread::scope(|scope| {
        for reader in 0..40 {
            let (server, content) = (&server, &content);
            scope.spawn(move || match reader % 2 {
                0 => assert_same(&server.get("/film").expect(200).body, content, "all of it"),
                _ => {
                    let part = ranged(server, "/film", "bytes=100000-").expect(206);
                    assert_same(&part.body, &content[100_000..], "the rest");
                }
            });
        }
    });
    // The two that describe the object may be asked for at the same time, for one of them is of no use.
    let asked = origin.requests().len();
    assert!((11..=13).contains(&asked), "{asked} requests");
}

#[test]
fn what_the_arena_has_no_room_for_is_passed_through() {
    let content = Arc::new(bytes(9, 40 * SLICE));
    let held = content.clone();
    let origin = upstream::Server::start(move |request| object(request, "\"a\"", &held));
    let server = serve(&origin, &["--arena", "1MiB"]);
    std::thread::scope(|scope| {
        for _ in 0..30 {
            let (server, content) = (&server, &content);
            scope.spawn(move || assert_same(&server.get("/film").expect(200).body, content, "all of it"));
        }
    });
}

#[test]
fn an_object_that_has_changed_before_its_first_slice_is_served_as_it_is() {
    let (old, new) = (Arc::new(bytes(10, SIZE)), Arc::new(bytes(11, SIZE)));
    let number = Arc::new(AtomicUsize::new(0));
    let (held_old, held_new, count) = (old.clone(), new.clone(), number.clone());
    let origin = upstream::Server::start(move |request| match count.fetch_add(1, Ordering::SeqCst) {
        0 => object(request, "\"old\"", &held_old),
        1.. if request.target == "/failing" && request.field("if-match").is_some() => {
            Reply::text("503 Service Unavailable", "not now")
        }
        _ => object(request, "\"new\"", &held_new),
    });
    let server = serve(&origin, &[]);
    assert_same(&ranged(&server, "/film", "bytes=0-9").expect(206).body, &old[..10], "a slice of the old one");
    let part = ranged(&server, "/film", "bytes=300000-300009").expect(206);
    assert_same(&part.body, &new[300_000..300_010], "a slice of the new one");
    assert_eq!(part.field("etag"), Some("\"new\""));
    assert_same(&server.get("/film").expect(200).body, &new, "all of the new one");
    // What cannot be had is said, as long as nothing was sent.
    ranged(&server, "/failing", "bytes=0-9").expect(206);
    ranged(&server, "/failing", "bytes=300000-300009").expect(503);
    ranged(&server, "/failing", "bytes=0-9").expect(206);
}
