//! A response is one version of one file, or it breaks off before its end: also where the file's times do not show what
//! became of it, and on both planes.

// A mapping that writes to a file is unsafe, as the file may change.
#![allow(unsafe_code)]

mod support;

use std::fs::{File, FileTimes};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;
use support::{Client, Server, assert_same, bytes, request, until};

const SIZE: usize = 32 << 20;

/// A connection that stalls the sender soon; one of the control plane, if that is wanted.
fn slow_client(server: &Server, control: bool) -> Client {
    let mut client = Client::narrow(server.address(), 4096);
    if control {
        client.get("/.forebay/health");
    }
    client
}

fn overwrite(path: &Path, new: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(new, 0).unwrap();
}

/// As `rsync --inplace --times` and `touch -r` do.
fn overwrite_and_put_mtime_back(path: &Path, new: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(new, 0).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
}

type Change = fn(&Path, &[u8]);

const CHANGES: [(&str, Change); 4] = [
    ("overwritten", overwrite),
    ("overwritten, with its mtime put back", overwrite_and_put_mtime_back),
    ("overwritten by a longer one", |path, new| overwrite(path, &[new, b"longer"].concat())),
    ("overwritten, then appended to", |path, new| {
        overwrite(path, new);
        File::options().append(true).open(path).unwrap().write_all(b"one more line").unwrap();
    }),
];

/// Files that are written to in place while they are sent past the cache, in every mode: by reference, if they are
/// settled, and through a buffer.
#[test]
fn what_is_overwritten_in_place_breaks_a_stream() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let (old, new) = (bytes(1, SIZE), bytes(2, SIZE));
    for (settled, mode) in [("0s", "auto"), ("1h", "auto"), ("0s", "copy"), ("1h", "copy"), ("1h", "zerocopy")] {
        let args = ["--arena", "1MiB", "--settled", settled, "--transmit", mode];
        let server = Server::start(root.path(), &args);
        for (what, change) in CHANGES {
            for control in [false, true] {
                std::fs::write(&path, &old).unwrap();
                let mut client = slow_client(&server, control);
                client.send(request("GET", "/file", &[]));
                assert_eq!(client.head().cache_status(), "forebay; fwd=uri-miss; detail=too-large");
                change(&path, &new);
                let mut body = vec![0; SIZE];
                let outcome = client.read_exact(&mut body);
                assert!(outcome.is_err(), "{what}, --settled {settled}, {mode}, control {control}: it looks whole");
            }
        }
    }
}

/// A file that is sent from the page cache while it is read into the arena. The rest could come from there, but what is
/// on its way already may have been overwritten; and all of it may be on its way, but for the last bytes.
#[test]
fn what_is_overwritten_in_place_breaks_a_first_response() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let server = Server::start(root.path(), &["--arena", "64MiB", "--settled", "0s", "--revalidate", "0s"]);
    for size in [200_000, 1 << 20, SIZE] {
        let (old, new) = (bytes(1, size), bytes(2, size));
        for (what, change) in CHANGES {
            std::fs::remove_file(&path).unwrap_or_default();
            std::fs::write(&path, &old).unwrap();
            let mut client = slow_client(&server, false);
            client.send(request("GET", "/file", &[]));
            assert_eq!(client.head().length(), size);
            until("it is cached", || server.get("/file").is_hit());
            change(&path, &new);
            let mut body = vec![0; size];
            if client.read_exact(&mut body).is_ok() {
                assert_same(&body, &old, &format!("{what}, {size} bytes"));
            }
        }
    }
}

/// A log grows while it is sent: everything is read twice, and found to be what it was.
#[test]
fn a_log_may_grow() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    let log = bytes(1, SIZE);
    let server = Server::start(root.path(), &["--arena", "1MiB"]);
    for control in [false, true] {
        for range in [false, true] {
            std::fs::write(&path, &log).unwrap();
            let mut client = slow_client(&server, control);
            let (fields, from) = if range { (&[("Range", "bytes=1000-")][..], 1000) } else { (&[][..], 0) };
            client.send(request("GET", "/log", fields));
            assert!(matches!(client.head().status, 200 | 206));
            let mut body = client.body(SIZE / 2);
            let mut file = File::options().append(true).open(&path).unwrap();
            file.write_all(b"one more line\n").unwrap();
            body.extend(client.body(SIZE / 4));
            file.write_all(b"and another\n").unwrap();
            body.extend(client.body(SIZE - from - body.len()));
            assert_same(&body, &log[from..], "what the log began with");
        }
    }
}

/// Losing a name, or having another one, leaves the bytes alone.
#[test]
fn a_name_is_not_a_version() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let old = bytes(1, SIZE);
    let server = Server::start(root.path(), &["--arena", "1MiB"]);
    type Renaming = fn(&Path);
    let changes: [(&str, Renaming); 3] = [
        ("renamed", |path| std::fs::rename(path, path.with_extension("elsewhere")).unwrap()),
        ("deleted", |path| std::fs::remove_file(path).unwrap()),
        ("renamed over", |path| {
            std::fs::write(path.with_extension("new"), "new").unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        }),
    ];
    for (what, change) in changes {
        for control in [false, true] {
            std::fs::remove_file(&path).unwrap_or_default();
            std::fs::write(&path, &old).unwrap();
            let mut client = slow_client(&server, control);
            client.send(request("GET", "/file", &[]));
            assert_eq!(client.head().status, 200);
            change(&path);
            assert_same(&client.body(SIZE), &old, what);
        }
    }
}

/// Two changes that leave the same times: as on a file system with whole seconds, or in the middle of one long write.
/// Here the second is a store through a shared mapping to a page that is dirty already.
#[test]
fn what_was_read_shortly_after_a_change_is_looked_at_again() {
    for control in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        std::fs::write(&path, bytes(1, 5000)).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        // SAFETY: nobody cuts the file short.
        let mut mapping = unsafe { memmap2::MmapMut::map_mut(&file).unwrap() };
        mapping[0] ^= 1;
        let server = Server::start(root.path(), &["--revalidate", "100ms"]);
        // Later than any clock's tick after that change.
        std::thread::sleep(Duration::from_millis(50));
        let mut client = server.connect();
        if control {
            client.get("/.forebay/health");
        }
        let first = client.get("/file");
        assert_same(&first.body, &mapping, "the first response");
        let before = file.metadata().unwrap();
        mapping[4000] ^= 1;
        let after = file.metadata().unwrap();
        let times = |found: &std::fs::Metadata| {
            use std::os::unix::fs::MetadataExt;
            (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec())
        };
        assert_eq!(times(&before), times(&after), "nothing shows the second change");
        until("the second change is served", || client.get("/file").body == *mapping);
        let etag = |client: &mut Client| client.get("/file").field("etag").map(str::to_owned);
        assert_eq!(etag(&mut client), first.field("etag").map(str::to_owned));
        until("it is cached again", || client.get("/file").is_hit());
    }
}

/// What turns out to be what it was stays cached.
#[test]
fn a_second_look_is_no_miss() {
    let root = tempfile::tempdir().unwrap();
    for (number, size) in [0, 100, 5000, 300_000].into_iter().enumerate() {
        std::fs::write(root.path().join(number.to_string()), bytes(1, size)).unwrap();
    }
    let server = Server::start(root.path(), &["--revalidate", "100ms", "--workers", "1"]);
    std::thread::sleep(Duration::from_millis(50));
    let started = std::time::Instant::now();
    let mut client = server.connect();
    let mut control = server.connect();
    control.get("/.forebay/health");
    for number in 0..4 {
        client.get(&format!("/{number}"));
    }
    while started.elapsed() < Duration::from_millis(2600) {
        for number in 0..4 {
            assert!(client.get(&format!("/{number}")).is_hit());
            assert!(control.get(&format!("/{number}")).is_hit());
        }
        std::thread::sleep(Duration::from_millis(40));
    }
}

/// Out of descriptors a look at the disk fails, which says nothing against what is cached.
#[test]
fn a_look_that_fails_evicts_nothing() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let root = tempfile::tempdir().unwrap();
    let file = bytes(1, 5000);
    std::fs::write(root.path().join("file"), &file).unwrap();
    let server = Server::start(root.path(), &["--revalidate", "0s", "--workers", "1"]);
    std::thread::sleep(Duration::from_millis(50));
    let mut client = server.connect();
    client.get("/file");
    assert!(client.get("/file").is_hit());
    let pid = Pid::from_raw(server.pid() as i32);
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = |current| prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).map(|old| old.current);
    let before = limit(Some(1)).unwrap();
    for _ in 0..10 {
        let response = client.get("/file");
        assert!(response.is_hit(), "{}", response.cache_status());
        assert_same(&response.body, &file, "out of descriptors");
    }
    limit(before).unwrap();
    std::fs::write(root.path().join("new"), bytes(2, 5000)).unwrap();
    std::fs::rename(root.path().join("new"), root.path().join("file")).unwrap();
    assert_same(&client.get("/file").body, &bytes(2, 5000), "with descriptors again");
}
