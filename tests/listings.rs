//! What a directory answers.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

use support::Server;

#[test]
fn a_directory_is_listed_in_the_format_that_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("dir/sub")).unwrap();
    fs::create_dir(root.path().join(".forebay")).unwrap();
    for (name, bytes) in [(&b"b <&>\"'.txt"[..], "12345"), (b"a\xff\n", "1"), (b".hidden", "")] {
        let path = root.path().join("dir").join(OsStr::from_bytes(name));
        fs::write(&path, bytes).unwrap();
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(UNIX_EPOCH + Duration::from_secs(86400))
            .unwrap();
    }
    symlink("/etc/passwd", root.path().join("dir/out")).unwrap();
    symlink(".hidden", root.path().join("dir/link")).unwrap();
    let server = Server::start(root.path(), &[]);

    let json = server.ask("GET /dir/\r\nAccept: application/json", b"").expect(200);
    assert_eq!(json.field("content-type"), Some("application/json"));
    assert_eq!(json.field("vary"), Some("accept"));
    let entries = json.json();
    let names: Vec<&str> = entries.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a\u{fffd}\n", "b <&>\"'.txt", "link", "sub"]);
    assert_eq!(entries[1]["size"], 5);
    assert_eq!(entries[1]["mtime"], "1970-01-02T00:00:00Z");
    assert_eq!(entries[1]["type"], "file");
    assert_eq!(entries[3]["type"], "directory");
    // What a listing refers to is there.
    for entry in entries.as_array().unwrap() {
        let href = entry["href"].as_str().unwrap().strip_prefix("./").unwrap();
        server.get(&format!("/dir/{href}")).expect(200);
    }

    // Programs that say nothing of formats, or `*/*`, know links.
    for fields in ["", "\r\nAccept: */*"] {
        let any = server.ask(&format!("GET /dir/{fields}"), b"").expect(200);
        assert_eq!(any.field("content-type"), Some("text/html; charset=utf-8"), "{fields:?}");
    }
    let html = server.ask("GET /dir/\r\nAccept: text/html,*/*;q=0.8", b"").expect(200);
    assert_eq!(html.field("x-content-type-options"), Some("nosniff"));
    let policy = html.field("content-security-policy").unwrap();
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(html.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(
        html.text().contains("<a href=\"./b%20%3C%26%3E%22%27.txt\">b &lt;&amp;&gt;&quot;&#39;.txt</a>"),
        "{}",
        html.text()
    );
    let plain = server.ask("GET /dir/\r\nAccept: text/plain", b"").expect(200);
    assert_eq!(plain.field("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(plain.text().lines().nth(1).unwrap(), "1970-01-02T00:00:00Z              5 b <&>\"'.txt");
    server.ask("GET /dir/\r\nAccept: image/png", b"").expect(406);
    assert!(!server.get("/").text().contains(".forebay"), "reserved");

    let head = server.ask("HEAD /dir/\r\nAccept: application/json", b"").expect(200);
    assert_eq!((head.field("content-type"), head.body.len()), (Some("application/json"), 0));
}

#[test]
fn what_is_no_directory_is_not_listed() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("a b")).unwrap();
    fs::write(root.path().join("file"), "x").unwrap();
    symlink("/etc", root.path().join("etc")).unwrap();
    let server = Server::start(root.path(), &[]);
    for target in ["/file/", "/no/", "/etc/", "/a%20b/no/"] {
        server.get(target).expect(404);
    }
    for (target, location) in [("/a%20b", "/a%20b/"), ("/a%20b?x=1&y", "/a%20b/?x=1&y")] {
        let redirect = server.get(target).expect(301);
        assert_eq!(redirect.field("location"), Some(location));
    }
    server.ask("HEAD /a%20b", b"").expect(301);
    server.get("/a%20b/").expect(200);
    let refused = server.ask("POST /a%20b/", b"").expect(405);
    assert_eq!(refused.field("allow"), Some("GET, HEAD"));
}

#[test]
fn a_huge_directory_comes_whole_and_sorted() {
    let root = tempfile::tempdir().unwrap();
    const COUNT: usize = 20_000;
    for number in 0..COUNT {
        fs::write(root.path().join(format!("{number:06}")), "").unwrap();
    }
    let server = Server::start(root.path(), &[]);
    let listed = server.ask("GET /\r\nAccept: application/json", b"").expect(200);
    assert_eq!(listed.field("transfer-encoding"), Some("chunked"), "it is streamed");
    let entries = listed.json();
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), COUNT);
    assert!(entries.iter().enumerate().all(|(number, entry)| entry["name"] == format!("{number:06}")));
    // A client that leaves midway harms nobody.
    for _ in 0..10 {
        let mut client = server.connect();
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    let plain = server.ask("GET /\r\nAccept: text/plain", b"").expect(200);
    assert_eq!(plain.text().lines().count(), COUNT);
}

#[test]
fn an_index_file_stands_for_its_directory() {
    let root = tempfile::tempdir().unwrap();
    for dir in ["with", "without", "odd/index.html"] {
        fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    fs::write(root.path().join("with/index.html"), "<p>hello").unwrap();
    let server = Server::start(root.path(), &["--index", "index.html"]);
    let page = server.get("/with/").expect(200);
    assert_eq!((page.text().as_str(), page.field("content-type")), ("<p>hello", Some("text/html; charset=utf-8")));
    assert!(page.field("cache-status").is_some());
    let again = server.get("/with/").expect(200);
    assert_eq!(again.field("cache-status"), Some("forebay; hit"));
    let etag = again.field("etag").unwrap();
    server.ask(&format!("GET /with/\r\nIf-None-Match: {etag}"), b"").expect(304);
    assert!(server.ask("GET /without/\r\nAccept: text/plain", b"").expect(200).body.is_empty());
    assert!(server.get("/odd/").text().contains("index.html/"));
}
