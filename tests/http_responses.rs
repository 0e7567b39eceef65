//! What an answer says about a file: its fields, ranges, conditions, and how it came about.

mod support;

use support::{Client, Server, assert_same, bytes};

const SIZE: usize = 10_000;

struct Fixture {
    server: Server,
    root: tempfile::TempDir,
}

fn serve() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file.txt"), file()).unwrap();
    std::fs::write(root.path().join("large.bin"), large()).unwrap();
    std::fs::write(root.path().join("empty.json"), "").unwrap();
    let server = Server::start(root.path(), &["--arena", "1MiB", "--revalidate", "1h"]);
    Fixture { server, root }
}

fn file() -> Vec<u8> {
    bytes(1, SIZE)
}

/// Larger than the arena.
fn large() -> Vec<u8> {
    bytes(2, 2 << 20)
}

/// Each of the three ways that a file is served in: read and stored, from the cache, past the cache.
fn in_every_way(fixture: &Fixture, mut check: impl FnMut(&mut Client, &str, &[u8])) {
    let mut client = fixture.server.connect();
    for (round, name) in ["fresh-1.txt", "fresh-2.txt", "fresh-3.txt"].into_iter().enumerate() {
        let content = bytes(round as u64, SIZE);
        std::fs::write(fixture.root.path().join(name), &content).unwrap();
        check(&mut client, &format!("/{name}"), &content);
    }
    check(&mut client, "/file.txt", &file());
    check(&mut client, "/file.txt", &file());
    check(&mut client, "/large.bin", &large());
}

#[test]
fn every_field_is_there() {
    let fixture = serve();
    in_every_way(&fixture, |client, target, content| {
        let response = client.get(target);
        assert_eq!(response.status, 200);
        assert_eq!(response.length(), content.len());
        assert_same(&response.body, content, target);
        assert_eq!(response.field("accept-ranges"), Some("bytes"));
        let etag = response.field("etag").unwrap();
        assert!(etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'), "{etag}");
        let modified = fixture.root.path().join(&target[1..]).metadata().unwrap().modified().unwrap();
        assert_eq!(response.field("last-modified"), Some(httpdate::fmt_http_date(modified).as_str()));
        let date = httpdate::parse_http_date(response.field("date").unwrap()).expect("a date");
        let off = std::time::SystemTime::now().duration_since(date).unwrap_or_else(|ahead| ahead.duration());
        assert!(off.as_secs() < 60, "{date:?}");
        let kind = if target.ends_with(".txt") { "text/plain; charset=utf-8" } else { "application/octet-stream" };
        assert_eq!(response.field("content-type"), Some(kind));
        assert_eq!(response.field("connection"), None);
    });
}

#[test]
fn head_is_get_without_the_body() {
    let fixture = serve();
    in_every_way(&fixture, |client, target, _| {
        // Twice, as HEAD itself does not bring a file into the cache.
        for _ in 0..2 {
            let head = client.request("HEAD", target, &[]);
            let get = client.get(target);
            for name in ["content-length", "etag", "last-modified", "content-type", "accept-ranges"] {
                assert_eq!(head.field(name), get.field(name), "{name}");
            }
            assert_eq!((head.status, get.status), (200, 200));
        }
    });
    let mut client = fixture.server.connect();
    let head = client.request("HEAD", "/missing", &[]);
    assert_eq!(head.status, 404);
    assert!(head.length() > 0, "of the text that a GET is answered with");
    // RFC 9110, 14.2: Range has a meaning for GET only.
    let head = client.request("HEAD", "/file.txt", &[("Range", "bytes=0-9")]);
    assert_eq!((head.status, head.length()), (200, SIZE));
    let head = client.request("HEAD", "/file.txt", &[("Range", "bytes=99999-")]);
    assert_eq!(head.status, 200);
    assert_same(&client.get("/file.txt").body, &file(), "the connection is in step");
}

#[test]
fn the_cache_status_tells_what_happened() {
    let fixture = serve();
    let mut client = fixture.server.connect();
    for (target, method, expected) in [
        ("/file.txt", "HEAD", "forebay; fwd=uri-miss; detail=head-only"),
        ("/file.txt", "GET", "forebay; fwd=uri-miss; stored"),
        ("/file.txt", "GET", "forebay; hit"),
        ("/file.txt", "HEAD", "forebay; hit"),
        ("/empty.json", "GET", "forebay; fwd=uri-miss; stored"),
        ("/empty.json", "GET", "forebay; hit"),
        ("/large.bin", "GET", "forebay; fwd=uri-miss; detail=too-large"),
        ("/large.bin", "GET", "forebay; fwd=uri-miss; detail=too-large"),
        ("/missing", "GET", "forebay; fwd=uri-miss; detail=not-found"),
    ] {
        assert_eq!(client.request(method, target, &[]).cache_status(), expected, "{method} {target}");
    }
}

#[test]
fn a_changed_file_is_stale() {
    let fixture = serve();
    let server = Server::start(fixture.root.path(), &["--revalidate", "0s"]);
    let mut client = server.connect();
    // A file that was written just now may be written again without a new time: it is read twice before it is trusted.
    support::until("it is cached", || client.get("/file.txt").is_hit());
    std::fs::write(fixture.root.path().join("file.txt"), "new").unwrap();
    assert_eq!(client.get("/file.txt").cache_status(), "forebay; fwd=stale; stored");
    std::fs::write(fixture.root.path().join("file.txt"), large()).unwrap();
    let _ = client.get("/file.txt");
    std::fs::remove_file(fixture.root.path().join("file.txt")).unwrap();
    let gone = client.get("/file.txt");
    assert_eq!(gone.status, 404);
}

#[test]
fn single_ranges() {
    let fixture = serve();
    in_every_way(&fixture, |client, target, content| {
        let size = content.len();
        for (from, to) in
            [(0, 0), (0, 9), (5, 5), (1, size - 1), (size - 1, size - 1), (size / 2, size - 2), (4095, 4096)]
        {
            let response = client.request("GET", target, &[("Range", &format!("bytes={from}-{to}"))]);
            assert_eq!(response.status, 206, "{from}-{to}");
            assert_eq!(response.field("content-range"), Some(format!("bytes {from}-{to}/{size}").as_str()));
            assert_same(&response.body, &content[from..=to], "a part");
        }
        for (value, from) in [
            ("bytes=100-".to_owned(), 100),
            ("bytes=-7".to_owned(), size - 7),
            (format!("bytes=-{}", size + 5), 0),
            (format!("bytes=3-{}", usize::MAX), 3),
            ("BYTES=3-99999999999999999999999999".to_owned(), 3),
        ] {
            let response = client.request("GET", target, &[("Range", &value)]);
            assert_eq!(response.status, 206, "{value}");
            assert_eq!(response.field("content-range"), Some(format!("bytes {from}-{}/{size}", size - 1).as_str()));
            assert_same(&response.body, &content[from..], &value);
        }
        for value in [format!("bytes={size}-"), format!("bytes={size}-{}", size + 9), "bytes=-0".into()] {
            let response = client.request("GET", target, &[("Range", &value)]);
            assert_eq!(response.status, 416, "{value}");
            assert_eq!(response.field("content-range"), Some(format!("bytes */{size}").as_str()));
        }
        for value in
            ["bytes=2-1", "bytes=0-1,6-5", "lines=0-1", "bytes", "bytes=", "bytes=a-b", "bytes=-", "bytes=1--2", "0-1"]
        {
            let response = client.request("GET", target, &[("Range", value)]);
            assert_eq!(response.status, 200, "{value}");
            assert_same(&response.body, content, value);
        }
    });
}

#[test]
fn conditions() {
    let fixture = serve();
    in_every_way(&fixture, |client, target, content| {
        let first = client.get(target);
        let tag = first.field("etag").unwrap().to_owned();
        let date = first.field("last-modified").unwrap().to_owned();
        let weak = format!("W/{tag}");
        let list = format!("\"a\", {tag} , \"b\"");
        let (early, late) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 2100 23:59:59 GMT");
        for (fields, status) in [
            (&[("If-None-Match", tag.as_str())][..], 304),
            (&[("If-None-Match", &weak)], 304),
            (&[("If-None-Match", &list)], 304),
            (&[("If-None-Match", "*")], 304),
            (&[("If-None-Match", "\"other\"")], 200),
            (&[("If-None-Match", "\"other\""), ("If-Modified-Since", late)], 200),
            (&[("If-None-Match", &tag), ("If-Modified-Since", early)], 304),
            (&[("If-Modified-Since", &date)], 304),
            (&[("If-Modified-Since", late)], 304),
            (&[("If-Modified-Since", early)], 200),
            (&[("If-Modified-Since", "not a date")], 200),
            (&[("If-Match", &tag)], 200),
            (&[("If-Match", "*")], 200),
            (&[("If-Match", &weak)], 412),
            (&[("If-Match", "\"other\"")], 412),
            (&[("If-Unmodified-Since", early)], 412),
            (&[("If-Unmodified-Since", late)], 200),
            (&[("If-None-Match", &tag), ("Range", "bytes=0-9")], 304),
            (&[("Range", "bytes=0-9"), ("If-Range", &tag)], 206),
            (&[("Range", "bytes=0-9"), ("If-Range", &weak)], 200),
            (&[("Range", "bytes=0-9"), ("If-Range", "\"other\"")], 200),
            (&[("Range", "bytes=0-9"), ("If-Range", &date)], 206),
            (&[("Range", "bytes=0-9"), ("If-Range", early)], 200),
            (&[("Range", "bytes=99999999-"), ("If-Range", "\"other\"")], 200),
            (&[("If-Range", &tag)], 200),
        ] {
            let response = client.request("GET", target, fields);
            assert_eq!(response.status, status, "{fields:?}");
            match status {
                200 => assert_same(&response.body, content, "the whole"),
                206 => assert_same(&response.body, &content[..10], "a part"),
                304 => {
                    assert_eq!(response.field("etag"), Some(tag.as_str()));
                    assert!(response.field("date").is_some());
                    assert!(!response.cache_status().is_empty());
                }
                _ => {}
            }
        }
    });
}

#[test]
fn types_go_by_extension() {
    let root = tempfile::tempdir().unwrap();
    let types = [
        ("a.html", "text/html; charset=utf-8"),
        ("a.HTML", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.svg", "image/svg+xml"),
        ("a.pdf", "application/pdf"),
        ("a.wasm", "application/wasm"),
        ("a.tar.gz", "application/gzip"),
        ("a", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
    ];
    for (name, _) in types {
        std::fs::write(root.path().join(name), "x").unwrap();
    }
    let server = Server::start(root.path(), &["--hidden"]);
    let mut client = server.connect();
    for (name, kind) in types {
        assert_eq!(client.get(&format!("/{name}")).field("content-type"), Some(kind), "{name}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let fixture = serve();
    let mut client = fixture.server.connect();
    for target in ["/missing", "/missing/deep", "/file.txt/below", "/a%0Ab", "/%ff%fe", "/%3Cscript%3E"] {
        let response = client.get(target);
        assert_eq!(response.status, 404, "{target}");
        assert_eq!(response.field("content-type"), Some("text/plain; charset=utf-8"));
        assert!(response.text().starts_with("no such file: "), "{}", response.text());
        assert_eq!(response.field("connection"), None, "it costs no connection");
    }
    assert!(client.get("/missing").text().contains("missing"));
    assert_same(&client.get("/file.txt").body, &file(), "the connection is in step");
}

#[test]
fn percent_encoding_and_queries_name_one_file() {
    let fixture = serve();
    let mut client = fixture.server.connect();
    assert_eq!(client.get("/file.txt").cache_status(), "forebay; fwd=uri-miss; stored");
    for target in [
        "/file%2Etxt",
        "/%66ile.txt",
        "/file.txt?query",
        "/file.txt?a=/../b",
        "/./file.txt",
        "//file.txt",
        "http://host:1/file.txt",
    ] {
        let response = client.get(target);
        assert!(response.is_hit(), "{target}: {}", response.cache_status());
        assert_same(&response.body, &file(), target);
    }
}

/// A file without times that HTTP can say.
#[test]
fn strange_times_are_served() {
    use std::time::{Duration, UNIX_EPOCH};
    let root = tempfile::tempdir().unwrap();
    for (name, time) in [("old", UNIX_EPOCH), ("future", UNIX_EPOCH + Duration::from_secs(1 << 33))] {
        std::fs::write(root.path().join(name), name).unwrap();
        let file = std::fs::File::options().write(true).open(root.path().join(name)).unwrap();
        let _ = file.set_modified(time);
    }
    if let Some(before) = UNIX_EPOCH.checked_sub(Duration::from_secs(1000)) {
        std::fs::write(root.path().join("before"), "before").unwrap();
        let _ = std::fs::File::options().write(true).open(root.path().join("before")).unwrap().set_modified(before);
    }
    let server = Server::start(root.path(), &[]);
    for name in ["old", "future", "before"] {
        let response = server.get(&format!("/{name}"));
        assert_eq!((response.status, response.text().as_str()), (200, name));
        httpdate::parse_http_date(response.field("last-modified").unwrap()).expect("a date");
    }
}
