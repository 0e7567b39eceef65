//! Validators, conditions and ranges, on both planes: cases written from RFC 9110.

mod support;

use std::fs::{self, File};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::{Client, Response, Server};

const SECONDS: u64 = 784_111_777;
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in [("a.txt", "0123456789"), ("empty.txt", "")] {
        fs::write(root.path().join(name), text).unwrap();
        let file = File::options().write(true).open(root.path().join(name)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(SECONDS)).unwrap();
    }
    root
}

/// A connection of each plane.
fn planes(server: &Server) -> [(&'static str, Client); 2] {
    let mut control = server.connect();
    control.request("HEAD", "/", &[]);
    [("data", server.connect()), ("control", control)]
}

fn ask(client: &mut Client, method: &str, target: &str, lines: &[String]) -> Response {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"));
    client.response(method)
}

#[test]
fn faithful_copies_have_the_same_tag_and_others_have_another() {
    let (one, two) = (root(), root());
    let tag = |root: &tempfile::TempDir| {
        Server::start(root.path(), &[]).get("/a.txt").field("etag").expect("a tag").to_owned()
    };
    let first = tag(&one);
    assert_eq!(first, tag(&two));
    assert!(first.starts_with('"'), "it is strong: {first}");
    let file = File::options().write(true).open(two.path().join("a.txt")).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::new(SECONDS, 1)).unwrap();
    assert_ne!(first, tag(&two));
}

#[test]
fn preconditions_are_evaluated_in_their_order() {
    let root = root();
    let server = Server::start(root.path(), &[]);
    let own = server.get("/a.txt").field("etag").unwrap().to_owned();
    let weak = format!("W/{own}");
    let other = "\"other\"";
    let cases = [
        (200, vec![]),
        // If-Match: strong comparison; before If-Unmodified-Since, which is then ignored.
        (200, vec![format!("If-Match: {own}")]),
        (200, vec!["If-Match: *".into()]),
        (200, vec![format!("If-Match: {other}, {own}")]),
        (200, vec![format!("If-Match: {other}"), format!("If-Match: {own}")]),
        (412, vec![format!("If-Match: {weak}")]),
        (412, vec![format!("If-Match: {other}")]),
        (200, vec![format!("If-Match: {own}"), format!("If-Unmodified-Since: {EARLIER}")]),
        (412, vec![format!("If-Match: {other}"), format!("If-Unmodified-Since: {LATER}")]),
        (200, vec![format!("If-Unmodified-Since: {DATE}")]),
        (200, vec![format!("If-Unmodified-Since: {LATER}")]),
        (412, vec![format!("If-Unmodified-Since: {EARLIER}")]),
        (200, vec!["If-Unmodified-Since: yesterday".into()]),
        // If-None-Match: weak comparison; before If-Modified-Since.
        (304, vec![format!("If-None-Match: {own}")]),
        (304, vec![format!("If-None-Match: {weak}")]),
        (304, vec!["If-None-Match: *".into()]),
        (304, vec![format!("If-None-Match: {other}, {own}")]),
        (304, vec![format!("If-None-Match: {own}"), format!("If-None-Match: {other}")]),
        (200, vec![format!("If-None-Match: {other}")]),
        (200, vec![format!("If-None-Match: {other}"), format!("If-Modified-Since: {LATER}")]),
        (304, vec![format!("If-None-Match: {own}"), format!("If-Modified-Since: {EARLIER}")]),
        (304, vec![format!("If-Modified-Since: {DATE}")]),
        (304, vec![format!("If-Modified-Since: {LATER}")]),
        (200, vec![format!("If-Modified-Since: {EARLIER}")]),
        (200, vec!["If-Modified-Since: yesterday".into()]),
        // The first that fails decides.
        (412, vec![format!("If-Match: {other}"), format!("If-None-Match: {own}")]),
        (412, vec![format!("If-Unmodified-Since: {EARLIER}"), format!("If-Modified-Since: {LATER}")]),
        (304, vec![format!("If-Match: {own}"), format!("If-None-Match: {own}")]),
        // Before ranges.
        (304, vec![format!("If-None-Match: {own}"), "Range: bytes=0-1".into()]),
        (412, vec![format!("If-Match: {other}"), "Range: bytes=99-".into()]),
        (206, vec![format!("If-None-Match: {other}"), "Range: bytes=0-1".into()]),
        // If-Range: a strong tag, or the very date.
        (206, vec![format!("If-Range: {own}"), "Range: bytes=0-1".into()]),
        (206, vec![format!("If-Range: {DATE}"), "Range: bytes=0-1".into()]),
        (200, vec![format!("If-Range: {weak}"), "Range: bytes=0-1".into()]),
        (200, vec![format!("If-Range: {other}"), "Range: bytes=0-1".into()]),
        (200, vec![format!("If-Range: {LATER}"), "Range: bytes=0-1".into()]),
        (200, vec![format!("If-Range: {EARLIER}"), "Range: bytes=0-1".into()]),
        (200, vec![format!("If-Range: {other}"), "Range: bytes=99-".into()]),
        (200, vec![format!("If-Range: {own}")]),
    ];
    for (status, lines) in cases {
        for method in ["GET", "HEAD"] {
            let status = if method == "HEAD" && status == 206 { 200 } else { status };
            for (plane, mut client) in planes(&server) {
                let response = ask(&mut client, method, "/a.txt", &lines);
                assert_eq!(response.status, status, "{plane} {method} {lines:?}");
                if status == 304 {
                    assert!(response.field("content-type").is_none(), "{plane} {method} {lines:?}");
                    assert_eq!((response.field("etag"), response.field("last-modified")), (Some(&*own), Some(DATE)));
                }
            }
        }
    }
}

#[test]
fn ranges_are_answered_alike_on_both_planes() {
    let root = root();
    let server = Server::start(root.path(), &[]);
    for (range, expected) in [
        ("bytes=0-0", Some("0")),
        ("bytes=2-", Some("23456789")),
        ("bytes=-3", Some("789")),
        ("bytes=-99", Some("0123456789")),
        ("bytes=8-99", Some("89")),
        ("bytes=10-", None),
        ("bytes=-0", None),
        ("bytes=99-,10-", None),
        ("bytes=0-1,2-3", Some("0123")),
        ("bytes=3-5,0-4", Some("012345")),
        ("bytes=20-,4-5", Some("45")),
    ] {
        for (plane, mut client) in planes(&server) {
            let response = ask(&mut client, "GET", "/a.txt", &[format!("Range: {range}")]);
            match expected {
                Some(text) => assert_eq!((response.status, &*response.text()), (206, text), "{plane} {range}"),
                None => {
                    assert_eq!(response.status, 416, "{plane} {range}");
                    assert_eq!(response.field("content-range"), Some("bytes */10"), "{plane} {range}");
                }
            }
        }
    }
    for range in ["bytes=0-", "bytes=-1", "bytes=0-0,5-", "bytes=3-2", "lines=0-1", "bytes=x"] {
        for (plane, mut client) in planes(&server) {
            let response = ask(&mut client, "GET", "/empty.txt", &[format!("Range: {range}")]);
            assert_eq!((response.status, response.length()), (200, 0), "{plane} {range}");
        }
    }
}

#[test]
fn several_ranges_are_parts_of_one_body() {
    let dir = tempfile::tempdir().unwrap();
    // Cached, too large for the cache, and read for the first time.
    let sizes = [("small.txt", 10_000), ("large.txt", 3 << 20)];
    for (seed, (name, size)) in sizes.iter().enumerate() {
        fs::write(dir.path().join(name), support::bytes(seed as u64, *size)).unwrap();
    }
    let server = Server::start(dir.path(), &["--arena", "1MiB"]);
    for (seed, (name, size)) in sizes.iter().enumerate() {
        let content = support::bytes(seed as u64, *size);
        let last = size - 1;
        for (plane, mut client) in planes(&server) {
            for _ in 0..2 {
                let range = format!("Range: bytes=100-199, -1, 0-0,{}-{}", size / 2, size / 2 + 4000);
                let response = ask(&mut client, "GET", &format!("/{name}"), &[range]);
                assert_eq!(response.status, 206, "{plane} {name}");
                assert!(response.field("content-range").is_none() && response.field("etag").is_some());
                let boundary = response.field("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=");
                let boundary = boundary.expect("several parts").to_owned();
                let mut expected = Vec::new();
                for (from, to) in [(100, 199), (last, last), (0, 0), (size / 2, size / 2 + 4000)] {
                    let head = format!(
                        "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                         Content-Range: bytes {from}-{to}/{size}\r\n\r\n"
                    );
                    expected.extend_from_slice(head.as_bytes());
                    expected.extend_from_slice(&content[from..=to]);
                }
                expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
                support::assert_same(&response.body, &expected, &format!("{plane} {name}"));
            }
            // The connection goes on, and a HEAD has no ranges.
            let head = ask(&mut client, "HEAD", &format!("/{name}"), &["Range: bytes=0-0,2-2".into()]);
            assert_eq!((head.status, head.length()), (200, *size));
            let many: Vec<String> = (0..65).map(|n| format!("{}-{}", n * 2, n * 2)).collect();
            let whole = ask(&mut client, "GET", &format!("/{name}"), &[format!("Range: bytes={}", many.join(","))]);
            assert_eq!((whole.status, whole.length()), (200, *size), "more than 64");
        }
    }
}

#[test]
fn no_file_was_modified_later_than_it_is_sent() {
    let root = root();
    let future = SystemTime::now() + Duration::from_secs(1_000_000);
    File::options().write(true).open(root.path().join("a.txt")).unwrap().set_modified(future).unwrap();
    let server = Server::start(root.path(), &[]);
    for (plane, mut client) in planes(&server) {
        for _ in 0..2 {
            let response = client.get("/a.txt");
            let time = |name| httpdate::parse_http_date(response.field(name).unwrap()).unwrap();
            assert!(time("last-modified") <= time("date"), "{plane}: {:?}", response.head);
            let since = format!("If-Modified-Since: {}", response.field("last-modified").unwrap());
            assert_eq!(ask(&mut client, "GET", "/a.txt", &[since]).status, 304, "{plane}");
        }
    }
}
