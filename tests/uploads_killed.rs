//! A server that is killed in the midst of uploads leaves each name with the whole old or the whole new content, and
//! the next start removes what is left of the others.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::{Server, bytes, request_with_body, tree};

const NAMES: u64 = 20;
const UPLOADS: usize = 200;

/// The content of version `version` of the name `name`; versions differ in length, too.
fn content(name: u64, version: u64) -> Vec<u8> {
    bytes(name * 1000 + version, 20_000 + version as usize * 30_000)
}

fn path(name: u64) -> String {
    // Some names replace files, some are new, some need directories.
    if name.is_multiple_of(2) { format!("old/{name}") } else { format!("new/{name}/file") }
}

/// One upload; says whether the server confirmed it. The server may be killed at any moment.
fn upload(address: SocketAddr, name: u64, version: u64) -> bool {
    let Ok(stream) = std::net::TcpStream::connect(address) else { return false };
    drop(stream);
    let attempt = std::panic::catch_unwind(|| {
        let mut client = support::Client::to(address);
        let bytes = request_with_body(&format!("PUT /{}", path(name)), &content(name, version));
        // In two parts, so that some are killed in the midst of a body.
        let half = bytes.len() / 2;
        client.try_send(&bytes[..half]).ok()?;
        std::thread::yield_now();
        client.try_send(&bytes[half..]).ok()?;
        client.try_response("PUT").ok()
    });
    matches!(attempt, Ok(Some(response)) if matches!(response.status, 201 | 204))
}

/// The version of each name on disk; fails the test if one is neither of its versions.
fn check(root: &Path, expected_at_least: &[u64]) {
    for name in 0..NAMES {
        let file = root.join(path(name));
        let least = expected_at_least[name as usize];
        match fs::read(&file) {
            Ok(bytes) => {
                let version = (0..20).find(|&version| bytes == content(name, version));
                let version = version.unwrap_or_else(|| panic!("{name} is torn: {} bytes", bytes.len()));
                assert!(version >= least, "{name}: version {least} was confirmed, {version} is there");
            }
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                assert!(least == 0 && name % 2 == 1, "{name}: version {least} was there and is gone");
            }
        }
    }
}

#[test]
fn every_name_is_whole_after_a_kill_and_no_litter_stays() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("old")).unwrap();
    for name in (0..NAMES).filter(|name| name % 2 == 0) {
        fs::write(root.path().join(path(name)), content(name, 0)).unwrap();
    }
    let confirmed: Vec<AtomicUsize> = (0..NAMES).map(|_| AtomicUsize::new(0)).collect();
    let begun = AtomicUsize::new(0);
    let mut version = 0;
    let mut kills = 0;
    while begun.load(Ordering::Relaxed) < UPLOADS {
        version += 1;
        kills += 1;
        let server = Server::start(root.path(), &["--allow-writes"]);
        check(root.path(), &confirmed.iter().map(|v| v.load(Ordering::Relaxed) as u64).collect::<Vec<_>>());
        assert_eq!(litter(root.path()), BTreeSet::new(), "after start {kills}");
        let address = server.address();
        std::thread::scope(|scope| {
            for name in 0..NAMES {
                let (confirmed, begun) = (&confirmed[name as usize], &begun);
                scope.spawn(move || {
                    begun.fetch_add(1, Ordering::Relaxed);
                    if upload(address, name, version) {
                        confirmed.store(version as usize, Ordering::Relaxed);
                    }
                });
            }
            // A moment that differs from kill to kill: before, during and after most of the uploads.
            let moment = Instant::now()
                + Duration::from_micros(bytes(kills, 2).iter().map(|&b| u64::from(b)).sum::<u64>() * 200);
            while Instant::now() < moment {
                std::thread::yield_now();
            }
            server.kill();
        });
        check(root.path(), &confirmed.iter().map(|v| v.load(Ordering::Relaxed) as u64).collect::<Vec<_>>());
    }
    let server = Server::start(root.path(), &["--allow-writes"]);
    assert_eq!(litter(root.path()), BTreeSet::new());
    check(root.path(), &confirmed.iter().map(|v| v.load(Ordering::Relaxed) as u64).collect::<Vec<_>>());
    server.put("/old/0", b"still working").expect(204);
}

/// Files that are none of the names.
fn litter(root: &Path) -> BTreeSet<PathBuf> {
    let names: BTreeSet<PathBuf> = (0..NAMES).map(|name| path(name).into()).collect();
    tree(root).into_iter().filter(|name| root.join(name).is_file() && !names.contains(name)).collect()
}

#[test]
fn leftovers_are_removed_at_start_where_writes_are_allowed() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("a/b")).unwrap();
    let leftover = root.path().join("a/b/.forebay-upload-00000000deadbeef.tmp");
    fs::write(&leftover, "half").unwrap();
    fs::write(root.path().join("a/b/.forebay-upload-note.tmp"), "someone's own").unwrap();
    let server = Server::start(root.path(), &[]);
    assert!(leftover.exists(), "a server that may not write removes nothing");
    server.get("/a/b/.forebay-upload-00000000deadbeef.tmp").expect(404);
    assert!(!server.get("/a/b/").text().contains("deadbeef"), "nor does it show it");
    drop(server);
    let server = Server::start(root.path(), &["--allow-writes", "--hidden"]);
    assert!(!leftover.exists());
    assert_eq!(server.get("/a/b/.forebay-upload-note.tmp").text(), "someone's own");
}
