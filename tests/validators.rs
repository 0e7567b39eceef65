//! Validators, and several ranges of files of all sizes, on both planes. `rfc9110.rs` has the cases of conditions and
//! single ranges.

mod support;

use std::fs::{self, File};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::{Client, Response, Server};

const SECONDS: u64 = 784_111_777;

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a.txt"), "0123456789").unwrap();
    let file = File::options().write(true).open(root.path().join("a.txt")).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(SECONDS)).unwrap();
    root
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
        for (plane, mut client) in server.planes() {
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
    for (plane, mut client) in server.planes() {
        for _ in 0..2 {
            let response = client.get("/a.txt");
            let time = |name| httpdate::parse_http_date(response.field(name).unwrap()).unwrap();
            assert!(time("last-modified") <= time("date"), "{plane}: {:?}", response.head);
            let since = format!("If-Modified-Since: {}", response.field("last-modified").unwrap());
            assert_eq!(ask(&mut client, "GET", "/a.txt", &[since]).status, 304, "{plane}");
        }
    }
}
