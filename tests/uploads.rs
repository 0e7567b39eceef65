//! PUT and DELETE, as a client sees them.

mod support;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use support::{Server, bytes, request_with_body, tree, until};

fn writable(root: &Path) -> Server {
    Server::start(root, &["--allow-writes"])
}

/// A Content-Digest field line.
fn content_digest(bytes: &[u8]) -> String {
    let digest: Vec<u8> = Sha256::digest(bytes).to_vec();
    let item = sfv::Dictionary::from([(
        sfv::KeyRef::from_str("sha-256").unwrap().to_owned(),
        sfv::ListEntry::Item(sfv::Item::new(sfv::BareItem::ByteSequence(digest))),
    )]);
    format!("Content-Digest: {}", sfv::FieldType::serialize(&item).unwrap())
}

#[test]
fn what_was_put_is_read_and_what_was_deleted_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let server = writable(root.path());
    for (seed, length) in [(1, 0), (2, 1), (3, 4096), (4, 3_000_000)] {
        let target = format!("/new/dir{seed}/file.bin");
        let body = bytes(seed, length);
        let created = server.put(&target, &body).expect(201);
        let read = server.get(&target).expect(200);
        assert!(read.body == body && read.field("etag") == created.field("etag"));

        let body = bytes(seed + 100, length + 7);
        let replaced = server.put(&target, &body).expect(204);
        assert_ne!(replaced.field("etag"), created.field("etag"));
        let read = server.get(&target).expect(200);
        assert!(read.body == body && read.field("etag") == replaced.field("etag"), "read your writes");

        server.delete(&target).expect(204);
        server.get(&target).expect(404);
        server.delete(&target).expect(404);
    }
    assert_eq!(server.sample("forebay_uploads_total{outcome=\"stored\"}"), 8);
    assert_eq!(tree(root.path()).iter().filter(|name| root.path().join(name).is_file()).count(), 0);
}

#[test]
fn writes_are_off_unless_allowed() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "old").unwrap();
    let server = Server::start(root.path(), &[]);
    for response in [server.put("/a", b"new"), server.delete("/a")] {
        let response = response.expect(405);
        assert_eq!(response.field("allow"), Some("GET, HEAD, OPTIONS"));
        assert!(response.text().contains("--allow-writes"), "{}", response.text());
    }
    assert_eq!(fs::read(root.path().join("a")).unwrap(), b"old");
}

#[test]
fn conditions_decide() {
    let root = tempfile::tempdir().unwrap();
    let server = writable(root.path());
    let first = server.ask("PUT /a\r\nIf-None-Match: *", b"one").expect(201);
    let first = first.field("etag").unwrap();
    server.ask("PUT /a\r\nIf-None-Match: *", b"two").expect(412);
    server.ask("PUT /a\r\nIf-Match: \"other\"", b"two").expect(412);
    server.ask("PUT /b\r\nIf-Match: *", b"two").expect(412);
    assert_eq!(server.get("/a").text(), "one");
    let second = server.ask(&format!("PUT /a\r\nIf-Match: {first}"), b"two").expect(204);
    server.ask(&format!("PUT /a\r\nIf-Match: {first}"), b"three").expect(412);
    server.ask(&format!("DELETE /a\r\nIf-Match: {first}"), b"").expect(412);
    assert_eq!(server.get("/a").text(), "two");
    server.ask(&format!("DELETE /a\r\nIf-Match: {}", second.field("etag").unwrap()), b"").expect(204);
    assert!(tree(root.path()).is_empty());
}

/// Each of these is stored within one tick of a kernel's clock, or nearly.
#[test]
fn what_is_stored_at_one_moment_is_told_apart() {
    let root = tempfile::tempdir().unwrap();
    let server = writable(root.path());
    let mut seen = std::collections::HashSet::new();
    let mut client = server.connect();
    for round in 0..100 {
        client.send(format!("PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n{round:03}").as_bytes());
        let stored = client.response("PUT");
        let etag = stored.field("etag").unwrap().to_owned();
        assert!(seen.insert(etag.clone()), "round {round}: {etag} once more");
        if round % 10 == 9 {
            client.send(format!("DELETE /a HTTP/1.1\r\nHost: localhost\r\nIf-Match: {etag}\r\n\r\n").as_bytes());
            client.response("DELETE").expect(204);
        }
    }
}

#[test]
fn of_many_writers_with_one_condition_one_wins() {
    let root = tempfile::tempdir().unwrap();
    let server = writable(root.path());
    let count = |condition: &str, status: u16| {
        let results: Vec<u16> = std::thread::scope(|scope| {
            let put = |n: u64| {
                let server = &server;
                scope.spawn(move || server.ask(&format!("PUT /a\r\n{condition}"), &bytes(n, 10_000)).status)
            };
            let threads: Vec<_> = (0..16).map(put).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(results.iter().all(|&other| other == status || other == 412), "{results:?}");
        results.iter().filter(|&&other| other == status).count()
    };
    assert_eq!(count("If-None-Match: *", 201), 1);
    for _ in 0..5 {
        let etag = server.get("/a").field("etag").unwrap().to_owned();
        assert_eq!(count(&format!("If-Match: {etag}"), 204), 1);
    }
}

#[test]
fn digests_are_checked() {
    let root = tempfile::tempdir().unwrap();
    let server = writable(root.path());
    let body = bytes(1, 100_000);
    server.ask(&format!("PUT /a\r\n{}", content_digest(&body)), &body).expect(201);
    let wrong = server.ask(&format!("PUT /a\r\n{}", content_digest(b"other")), b"new").expect(400);
    assert!(wrong.text().contains("Content-Digest"), "{}", wrong.text());
    for malformed in ["sha-256=abc", "sha-256=:AAAA:", "sha-256=:%%%:", "sha-512=:AAAA:", "=", "sha-256"] {
        let refused = server.ask(&format!("PUT /a\r\nContent-Digest: {malformed}"), b"new").expect(400);
        assert_eq!(refused.field("want-content-digest"), Some("sha-256=10"), "{malformed}");
    }
    // In a trailer, for a body whose digest is known only at its end.
    for (digest, status) in
        [(content_digest(b"hello"), 204), (content_digest(b"other"), 400), ("Content-Digest: x".into(), 400)]
    {
        let mut client = server.connect();
        let head =
            "PUT /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Digest\r\n\r\n";
        client.send(format!("{head}5\r\nhello\r\n0\r\n{digest}\r\n\r\n").as_bytes());
        client.final_response("PUT").expect(status);
    }
    assert_eq!(server.get("/a").text(), "hello");
    assert_eq!(tree(root.path()), [Path::new("a")]);
}

#[test]
fn bodies_may_be_chunked_and_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &["--allow-writes", "--max-upload", "1000"]);
    let mut client = server.connect();
    client.send(b"PUT /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    client.send(b"7\r\n, world\r\n0\r\n\r\n");
    client.final_response("PUT").expect(201);
    assert_eq!(client.ask("GET /a", b"").text(), "hello, world");

    client.send(b"PUT /b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    client.try_response("PUT").unwrap().expect(100);
    client.send(b"abc");
    client.final_response("PUT").expect(201);

    // What will be refused is not asked for.
    for (target, fields, status) in [
        ("/c", "Content-Length: 1001\r\n", 413),
        ("/a", "Content-Length: 3\r\nIf-None-Match: *\r\n", 412),
        ("/", "Content-Length: 3\r\n", 409),
    ] {
        let mut client = server.connect();
        client.send(
            format!("PUT {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Expect: 100-continue\r\n\r\n").as_bytes(),
        );
        client.try_response("PUT").unwrap().expect(status);
    }
    let mut client = server.connect();
    client.send(b"PUT /c HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..11 {
        client.send(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes());
    }
    client.final_response("PUT").expect(413);
    assert_eq!(tree(root.path()), [Path::new("a"), Path::new("b")]);
}

#[test]
fn a_body_that_ends_early_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "old").unwrap();
    let server = writable(root.path());
    for head in ["Content-Length: 100000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n186A0\r\n"] {
        for finishes in [true, false] {
            for target in ["/a", "/new/b"] {
                let mut client = server.connect();
                client.send(format!("PUT {target} HTTP/1.1\r\nHost: localhost\r\n{head}").as_bytes());
                client.send(bytes(1, 50_000));
                if finishes {
                    client.finish();
                    assert!(client.try_response("PUT").is_ok_and(|r| r.status == 400) || client.is_over());
                }
            }
        }
    }
    let over = "forebay_uploads_total{outcome=\"aborted\"}";
    let refused = "forebay_uploads_total{outcome=\"refused\"}";
    until("the uploads to be given up", || server.sample(over) + server.sample(refused) == 8);
    assert_eq!(tree(root.path()), [Path::new("a")]);
    assert_eq!(fs::read(root.path().join("a")).unwrap(), b"old");
}

#[test]
fn a_body_that_stalls_is_given_up() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &["--allow-writes", "--idle-timeout", "200ms"]);
    let mut client = server.connect();
    client.send(b"PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf");
    client.final_response("PUT").expect(408);
    assert!(client.is_over());
    assert!(tree(root.path()).is_empty());
}

#[test]
fn names_that_cannot_be_written_are_refused_and_nothing_leaves_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/secret"), "secret").unwrap();
    fs::write(root.join("file"), "old").unwrap();
    symlink("../outside", root.join("out")).unwrap();
    symlink("/", root.join("slash")).unwrap();
    symlink("nowhere", root.join("broken")).unwrap();
    let before = tree(dir.path());
    let server = writable(&root);
    let long = format!("/{}", "x".repeat(256));
    let deep = "/y".repeat(2500);
    for (target, statuses) in [
        ("/../outside/new", &[400][..]),
        ("/%2e%2e/outside/new", &[400]),
        ("/sub/../../outside/new", &[400]),
        ("/a%00b", &[400]),
        ("/out/new", &[403, 409]),
        ("/out/secret", &[403, 409]),
        ("/slash/tmp/forebay-test", &[403, 409]),
        ("/broken/new", &[409]),
        ("/file/new", &[409]),
        ("/sub", &[409]),
        ("/sub/", &[409]),
        ("/", &[409]),
        ("/new/", &[409]),
        ("/.forebay/new", &[403, 405]),
        ("/.forebay", &[403, 405]),
        ("/sub/.forebay-upload-0123456789abcdef.tmp", &[403]),
        (&long, &[414]),
        (&deep, &[400, 414]),
    ] {
        let response = server.put(target, b"new");
        assert!(statuses.contains(&response.status), "{target}: {} {}", response.status, response.text());
        assert!(response.body.ends_with(b"\n") && response.body.len() > 10, "{target} says why");
        if !target.starts_with("/new") {
            let response = server.delete(target);
            assert!((400..500).contains(&response.status), "DELETE {target}: {}", response.status);
        }
    }
    assert_eq!(tree(dir.path()), before);
    assert_eq!(fs::read(dir.path().join("outside/secret")).unwrap(), b"secret");
}

#[test]
fn odd_names_are_names() {
    let root = tempfile::tempdir().unwrap();
    let server = writable(root.path());
    let longest = "n".repeat(255);
    let names: [&[u8]; 6] = [b"a b", b"\xff\xfe", b"new\nline", b"100%", "ü/ö?#".as_bytes(), longest.as_bytes()];
    for name in names {
        let target = format!("/{}", percent_encoding::percent_encode(name, percent_encoding::NON_ALPHANUMERIC));
        let target = target.replace("%2F", "/");
        server.put(&target, name).expect(201);
        let path = root.path().join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(fs::read(path).unwrap(), name);
        assert_eq!(server.get(&target).expect(200).body, name);
        server.delete(&target).expect(204);
    }
}

#[test]
fn a_connection_mixes_reads_and_writes_in_order() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "one").unwrap();
    fs::create_dir(root.path().join("dir")).unwrap();
    let server = writable(root.path());
    let steps: Vec<(Vec<u8>, u16, &str)> = vec![
        (request_with_body("GET /a", b""), 200, "one"),
        (request_with_body("PUT /a", b"two"), 204, ""),
        (request_with_body("GET /a", b""), 200, "two"),
        (request_with_body("GET /a\r\nRange: bytes=1-1", b""), 206, "w"),
        (request_with_body("PUT /dir", b"x"), 409, "there is a directory of that name\n"),
        (request_with_body("GET /dir", b""), 301, "this is a directory; its name ends with a slash\n"),
        (request_with_body("DELETE /a", b""), 204, ""),
        (request_with_body("GET /a", b""), 404, "no such file: a\n"),
        (request_with_body("PUT /a", &bytes(1, 200_000)), 201, ""),
        (request_with_body("GET /a\r\nRange: bytes=-0", b""), 416, ""),
        (request_with_body("GET /.forebay/health", b""), 200, "ok\n"),
    ];
    // One after the other, then all at once.
    let mut client = server.connect();
    for (request, status, body) in &steps {
        client.send(request);
        assert_eq!(client.final_response("PUT").expect(*status).text(), *body);
    }
    fs::write(root.path().join("a"), "one").unwrap();
    until("the change to be seen", || server.get("/a").text() == "one");
    let mut client = server.connect();
    let all: Vec<u8> = steps.iter().flat_map(|(request, ..)| request.clone()).collect();
    client.send(&all);
    for (_, status, body) in &steps {
        assert_eq!(client.final_response("PUT").expect(*status).text(), *body);
    }
}

#[test]
fn every_read_sees_one_version_whole_while_the_name_is_written() {
    let root = tempfile::tempdir().unwrap();
    let server = writable(root.path());
    let version = |n: u64| bytes(n, 150_000 + (n as usize % 7) * 10_000);
    server.put("/a", &version(0)).expect(201);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let (server, is_over) = (&server, &is_over);
            scope.spawn(move || {
                let mut client = server.connect();
                let mut etags = std::collections::HashMap::<String, u64>::new();
                while !is_over.load(Ordering::Relaxed) {
                    let response = match reader {
                        // One reader on the control plane, the others on the data plane.
                        0 => client.ask("GET /a\r\nExpect: 100-continue", b""),
                        _ => client.ask("GET /a", b""),
                    };
                    let response = response.expect(200);
                    let seed = (0..40).find(|&n| response.body == version(n)).expect("one version, whole");
                    let etag = response.field("etag").unwrap().to_owned();
                    assert_eq!(*etags.entry(etag).or_insert(seed), seed, "a tag stands for one version");
                }
            });
        }
        for n in 1..40 {
            server.put("/a", &version(n)).expect(204);
            assert!(server.get("/a").body == version(n), "read your writes");
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// A file system of its own; None, said aloud, where mounting is not permitted.
struct Mount(std::path::PathBuf);

impl Mount {
    fn tmpfs(place: &Path, options: &str) -> Option<Mount> {
        fs::create_dir(place).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "forebay-test"]).arg(place).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: mounting a tmpfs is not permitted here");
            return None;
        }
        Some(Mount(place.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_and_keeps_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::tmpfs(&dir.path().join("full"), "size=1m") else { return };
    fs::write(mount.0.join("a"), "old").unwrap();
    let server = writable(&mount.0);
    for target in ["/a", "/b", "/new/c"] {
        let mut client = server.connect();
        let _ = client.try_send(&request_with_body(&format!("PUT {target}"), &bytes(1, 3 << 20)));
        let response = client.final_response("PUT").expect(507);
        assert!(response.text().contains("out of space"), "{}", response.text());
    }
    assert_eq!(tree(&mount.0), [Path::new("a")]);
    assert_eq!(server.get("/a").text(), "old");
    assert_eq!(server.sample("forebay_uploads_total{outcome=\"failed\"}"), 3);
    // What was refused has given its space back.
    server.put("/b", &bytes(2, 700_000)).expect(201);
}

#[test]
fn a_read_only_root_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::tmpfs(&dir.path().join("ro"), "size=1m") else { return };
    fs::write(mount.0.join("a"), "old").unwrap();
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&mount.0).status().unwrap();
    assert!(remounted.success());
    let server = writable(&mount.0);
    assert!(server.put("/a", b"new").expect(403).text().contains("Read-only"));
    server.put("/b", b"new").expect(403);
    server.delete("/a").expect(403);
    assert_eq!(server.get("/a").text(), "old");
}

#[test]
fn a_part_is_no_upload() {
    let root = tempfile::tempdir().unwrap();
    let server = writable(root.path());
    server.ask("PUT /a\r\nContent-Range: bytes 0-2/10", b"new").expect(400);
    server.ask("POST /a", b"new").expect(405);
    server.ask("PATCH /a", b"new").expect(405);
    assert!(tree(root.path()).is_empty());
}

#[test]
fn a_name_has_at_most_so_many_parts() {
    let root = tempfile::tempdir().unwrap();
    let server = writable(root.path());
    let deep = |parts: usize| format!("/{}", vec!["d"; parts].join("/"));
    let refused = server.put(&deep(1900), b"x").expect(400);
    assert!(refused.text().contains("1900 parts") && refused.text().contains("128"), "{}", refused.text());
    server.put(&deep(129), b"x").expect(400);
    assert!(tree(root.path()).is_empty());
    server.put(&deep(128), b"x").expect(201);
    server.get(&deep(128)).expect(200);
}

#[test]
fn a_limit_on_file_sizes_costs_the_upload_and_not_the_server() {
    use rustix::process::{Resource, Rlimit};
    let root = tempfile::tempdir().unwrap();
    let server = writable(root.path());
    server.put("/before", b"1").expect(201);
    let limit = Rlimit { current: Some(64 << 10), maximum: None };
    rustix::process::prlimit(rustix::process::Pid::from_raw(server.pid() as i32), Resource::Fsize, limit).unwrap();
    for target in ["/big", "/new/big", "/before"] {
        let refused = server.put(target, &bytes(1, 1 << 20)).expect(507);
        assert!(refused.text().contains("LimitFSIZE"), "{}", refused.text());
    }
    server.put("/small", &bytes(1, 60_000)).expect(201);
    assert_eq!(tree(root.path()), [Path::new("before"), Path::new("small")]);
    assert_eq!(fs::read(root.path().join("before")).unwrap(), b"1");
}
