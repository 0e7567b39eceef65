//! The cache follows the disk: what was changed there is served new within the revalidation interval, and never mixed
//! with what was there before.

mod support;

use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Server, assert_same, bytes, request, until};

const INTERVAL: Duration = Duration::from_millis(300);

fn start(root: &Path) -> Server {
    Server::start(root, &["--revalidate", "300ms", "--workers", "2"])
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq)]
enum Content {
    File(Vec<u8>),
    Missing,
}

fn content(server: &Server, name: &str) -> Content {
    let response = server.get(name);
    match response.status {
        200 => Content::File(response.body),
        404 => Content::Missing,
        other => panic!("{other}: {}", response.text()),
    }
}

/// Makes a change when `old` is cached and hot, and sees that every request that is made an interval later is answered
/// with what is new, and every one before that with one or the other.
fn follows(server: &Server, old: &Content, new: &Content, what: &str, change: impl FnOnce()) {
    for _ in 0..3 {
        assert!(content(server, "/file") == *old, "{what}: before");
    }
    change();
    let changed = Instant::now();
    let mut rounds = 0;
    while rounds < 20 {
        let is_due = changed.elapsed() > INTERVAL;
        let found = content(server, "/file");
        assert!(found == *new || (found == *old && !is_due), "{what}: after {:?}", changed.elapsed());
        rounds += usize::from(is_due);
        assert!(changed.elapsed() < PATIENCE);
    }
}

fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn every_kind_of_change() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let server = start(root.path());
    for (small, size) in [3000, 300_000].into_iter().enumerate() {
        let seed = 100 * small as u64;
        let v = |version: u64, size: usize| Content::File(bytes(seed + version, size));
        let raw = |version: u64, size: usize| bytes(seed + version, size);
        std::fs::write(&path, raw(1, size)).unwrap();
        until("the first version is served", || content(&server, "/file") == v(1, size));

        follows(&server, &v(1, size), &v(2, size + 1), "replaced", || replace(&path, &raw(2, size + 1)));
        follows(&server, &v(2, size + 1), &v(3, size + 1), "replaced by one of the same length", || {
            replace(&path, &raw(3, size + 1));
        });
        follows(&server, &v(3, size + 1), &v(4, size + 1), "replaced by one of the same length and time", || {
            let modified = path.metadata().unwrap().modified().unwrap();
            let new = path.with_extension("new");
            std::fs::write(&new, raw(4, size + 1)).unwrap();
            std::fs::File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
            std::fs::rename(new, &path).unwrap();
        });
        let mut grown = raw(4, size + 1);
        grown.extend_from_slice(b"and more");
        let grown = Content::File(grown);
        follows(&server, &v(4, size + 1), &grown, "grown", || {
            std::fs::File::options().append(true).open(&path).unwrap().write_all(b"and more").unwrap();
        });
        follows(&server, &grown, &v(4, 10), "truncated", || {
            std::fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
        });
        follows(&server, &v(4, 10), &v(5, 10), "rewritten in place", || {
            std::fs::File::options().write(true).open(&path).unwrap().write_all_at(&raw(5, 10), 0).unwrap();
        });
        follows(&server, &v(5, 10), &Content::Missing, "deleted", || std::fs::remove_file(&path).unwrap());
        follows(&server, &Content::Missing, &v(6, size), "made again", || replace(&path, &raw(6, size)));
        std::fs::write(root.path().join("other"), raw(7, size)).unwrap();
        follows(&server, &v(6, size), &v(7, size), "replaced by a link", || {
            symlink("other", root.path().join("link")).unwrap();
            std::fs::rename(root.path().join("link"), &path).unwrap();
        });
        follows(&server, &v(7, size), &v(8, size), "what the link leads to is replaced", || {
            replace(&root.path().join("other"), &raw(8, size));
        });
        follows(&server, &v(8, size), &Content::Missing, "replaced by a link out of the root", || {
            symlink("/etc/passwd", root.path().join("link")).unwrap();
            std::fs::rename(root.path().join("link"), &path).unwrap();
        });
        std::fs::remove_file(&path).unwrap();
    }
}

/// The server never serves what lies in a directory's place.
#[test]
fn replaced_by_a_directory() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let old = bytes(1, 5000);
    std::fs::write(&path, &old).unwrap();
    let server = start(root.path());
    assert_same(&server.get("/file").body, &old, "before");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let changed = Instant::now();
    until("it is noticed", || {
        let is_due = changed.elapsed() > INTERVAL;
        let mut client = server.connect();
        client.send(request("GET", "/file", &[]));
        let answer = client.try_response("GET");
        let is_old = answer.is_ok_and(|response| response.status == 200 && response.body == old);
        assert!(!(is_old && is_due), "the old file after {:?}", changed.elapsed());
        !is_old
    });
}

#[test]
fn without_an_interval_every_change_is_seen_at_once() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let server = Server::start(root.path(), &["--revalidate", "0s", "--workers", "2"]);
    for version in 0..200 {
        let file = bytes(version, 2000);
        replace(&path, &file);
        assert_same(&server.get("/file").body, &file, "the new version");
        assert_same(&server.get("/file").body, &file, "the new version again");
    }
}

#[test]
fn validators_follow_too() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let server = Server::start(root.path(), &["--revalidate", "0s"]);
    replace(&path, &bytes(1, 1000));
    let first = server.get("/file");
    let tag = first.field("etag").unwrap().to_owned();
    let mut client = server.connect();
    assert_eq!(client.request("GET", "/file", &[("If-None-Match", &tag)]).status, 304);
    // Of another size: file systems that stamp to the tick of a clock may give both the same time.
    replace(&path, &bytes(2, 1001));
    let second = client.request("GET", "/file", &[("If-None-Match", &tag)]);
    assert_eq!(second.status, 200);
    assert_ne!(second.field("etag").unwrap(), tag);
    let part = client.request("GET", "/file", &[("Range", "bytes=0-9"), ("If-Range", &tag)]);
    assert_eq!((part.status, part.body.len()), (200, 1001), "a part of another version is of no use");
}

/// Replacing a file by renaming another over it leaves the old one as it is for those who have begun to read it.
#[test]
fn a_replacement_does_not_break_the_response_under_way() {
    let root = tempfile::tempdir().unwrap();
    // Small reads, so that the change comes while the file is being read.
    let server = Server::start(root.path(), &["--read-chunk", "4KiB", "--revalidate", "0s"]);
    for version in 0..10 {
        let (old, new) = (bytes(version, 6 << 20), bytes(!version, 6 << 20));
        let path = root.path().join(version.to_string());
        std::fs::write(&path, &old).unwrap();
        let mut client = server.connect();
        client.send(request("GET", &format!("/{version}"), &[]));
        assert_eq!(client.head().status, 200);
        match version % 3 {
            0 => replace(&path, &new),
            1 => std::fs::rename(&path, root.path().join("elsewhere")).unwrap(),
            _ => std::fs::remove_file(&path).unwrap(),
        }
        // Whoever asks now gets what is there now, even while the old file is still being read.
        let now = server.get(&format!("/{version}"));
        match version % 3 {
            0 => until("the new file is served", || server.get(&format!("/{version}")).body == new),
            _ => until("the file is gone", || server.get(&format!("/{version}")).status == 404),
        }
        assert!(now.status == 404 || now.body == new || now.body == old);
        assert_same(&client.body(old.len()), &old, "the version that was begun");
    }
}

/// Whether this file system gives every write a time of its own; else (kernels before 6.13) nobody can tell the writes
/// apart.
fn tells_writes_apart(directory: &Path) -> bool {
    let file = std::fs::File::create(directory.join("probe")).unwrap();
    let mut before = None;
    (0..100).all(|_| {
        file.write_all_at(b"x", 0).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        before.replace(now) != Some(now)
    })
}

/// A file that is written in place all the time, from its beginning to its end, never cut or renamed. Each version is
/// one number over and over, so that at any instant the file has the new number up to somewhere and the last one from
/// there on. What was read while the writer went on does not look like that: there is something new behind something
/// old.
fn rewritten_while_read(size: usize, arena: &str) {
    const PIECE: usize = 4096;
    let root = tempfile::tempdir().unwrap();
    if !tells_writes_apart(root.path()) {
        return;
    }
    let path = root.path().join("file");
    std::fs::write(&path, vec![0; size]).unwrap();
    let server = Server::start(
        root.path(),
        &["--revalidate", "0s", "--workers", "2", "--arena", arena, "--read-chunk", "16KiB"],
    );
    let done = AtomicBool::new(false);
    let (mut whole, mut broken) = (0, 0);
    let last = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            let mut version = 0u8;
            while !done.load(Ordering::Relaxed) {
                version = version.wrapping_add(1);
                for at in (0..size).step_by(PIECE) {
                    file.write_all_at(&[version; PIECE], at as u64).unwrap();
                }
                // A pause in which the file can be read whole, of varying length.
                std::thread::sleep(Duration::from_micros(u64::from(version) * 40));
            }
            version
        });
        let mut client = server.connect();
        for _ in 0..400 {
            client.send(request("GET", "/file", &[]));
            match client.try_response("GET") {
                Ok(response) if response.status == 200 => {
                    whole += 1;
                    assert_eq!(response.body.len(), size);
                    let (new, old) = (response.body[0], response.body[0].wrapping_sub(1));
                    let end = response.body.iter().position(|&byte| byte != new).unwrap_or(size);
                    if response.body[end..].iter().any(|&byte| byte != old) {
                        done.store(true, Ordering::Relaxed);
                        panic!("{}: two versions in one body, from {end} on", response.cache_status());
                    }
                }
                Ok(response) => assert_eq!(response.status, 503),
                Err(_) => {
                    broken += 1;
                    client = server.connect();
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert!(whole > 0, "none of the responses was whole, {broken} were broken");
    until("the last version is served", || server.get("/file").body == vec![last; size]);
}

#[test]
fn a_small_file_that_changes_while_it_is_read_is_never_torn() {
    rewritten_while_read(16 << 10, "64MiB");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_never_torn() {
    rewritten_while_read(256 << 10, "64MiB");
}

/// Past the cache.
#[test]
fn a_change_during_a_stream_breaks_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let server = Server::start(root.path(), &["--arena", "1MiB"]);
    let old = bytes(1, 32 << 20);
    for (what, change) in [
        ("rewritten", (|path| std::fs::write(path, bytes(2, 32 << 20)).unwrap()) as fn(&Path)),
        ("truncated", |path| std::fs::File::options().write(true).open(path).unwrap().set_len(20 << 20).unwrap()),
    ] {
        std::fs::write(&path, &old).unwrap();
        let mut client = Client::narrow(server.address(), 4096);
        client.send(request("GET", "/file", &[]));
        assert_eq!(client.head().cache_status(), "forebay; fwd=uri-miss; detail=too-large");
        change(&path);
        let mut body = vec![0; old.len()];
        assert!(client.read_exact(&mut body).is_err(), "{what}: the body looks whole");
    }
    // Replaced by a rename, it is what it was.
    std::fs::write(&path, &old).unwrap();
    let mut client = Client::narrow(server.address(), 4096);
    client.send(request("GET", "/file", &[]));
    assert_eq!(client.head().status, 200);
    replace(&path, &bytes(3, 32 << 20));
    assert_same(&client.body(old.len()), &old, "the file that was begun");
}
