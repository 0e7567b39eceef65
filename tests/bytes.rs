//! What is served is what is on the disk, byte for byte: whatever the size, the name, the transmit mode and the number
//! of workers, cold and hot, and again after the server was killed.

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use support::{Client, Server, TRANSMIT, assert_same, bytes, mix, target};

/// Names that need care, relative to the root.
fn odd_names() -> Vec<Vec<u8>> {
    let long = "l".repeat(255);
    let deep = vec!["d".repeat(100); 20].join("/");
    let mut names: Vec<Vec<u8>> = [
        "a b",
        "%",
        "100%25",
        "%2e%2e",
        "ünïcödé/日本語.txt",
        "a?b",
        "a#b",
        "a&b=c",
        "..a",
        "...",
        ".hidden",
        "a\\b",
        "tab\there",
        "new\nline",
    ]
    .into_iter()
    .chain([
        "'quote\"",
        "<html>",
        "semi;colon",
        "~tilde",
        "+plus",
        "a/b/c/d/e/f",
        "trailing.",
        " ",
        "-",
        long.as_str(),
        deep.as_str(),
    ])
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.push(b"not-utf8-\xff\xfe\x80".to_vec());
    names.push((1..=255u8).filter(|byte| *byte != b'/').take(200).collect());
    names
}

/// A few thousand files: many small ones around every boundary of the arena, some large ones, some with odd names.
fn make_tree(root: &Path) -> Vec<Vec<u8>> {
    let mut names = odd_names();
    for number in 0..1200u64 {
        names.push(format!("many/{}/{number}.bin", number % 20).into_bytes());
    }
    let edges = [
        0,
        1,
        2,
        63,
        64,
        65,
        4095,
        4096,
        4097,
        8191,
        12 << 10,
        (12 << 10) + 1,
        65_535,
        65_536,
        65_537,
        131_072,
        262_143,
        262_145,
    ];
    for size in edges.into_iter().chain([1 << 20, (1 << 20) + 1, 3_333_333, 6 << 20]) {
        names.push(format!("edges/{size}").into_bytes());
    }
    for (number, name) in names.iter().enumerate() {
        let path = root.join(OsStr::from_bytes(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let size = match name.strip_prefix(b"edges/") {
            Some(size) => std::str::from_utf8(size).unwrap().parse().unwrap(),
            // Most are small, and every size has its chance.
            None => (mix(number as u64) % (1 << (mix(!(number as u64)) % 17))) as usize,
        };
        std::fs::write(path, bytes(number as u64, size)).unwrap();
    }
    names
}

fn compare(client: &mut Client, root: &Path, name: &[u8]) {
    let expected = std::fs::read(root.join(OsStr::from_bytes(name))).unwrap();
    let what = String::from_utf8_lossy(name).into_owned();
    let response = client.get(&target(name));
    assert_eq!(response.status, 200, "{what}: {}", response.text());
    assert_same(&response.body, &expected, &what);
}

/// Several clients, each of which reads all files in an order of its own.
fn compare_all(server: &Server, root: &Path, names: &[Vec<u8>], clients: usize) {
    std::thread::scope(|scope| {
        for client in 0..clients {
            scope.spawn(move || {
                let mut connection = server.connect();
                let step = 2 * client + 1; // odd, and the count is made odd, so that every name comes once for small steps
                for number in 0..names.len() {
                    compare(&mut connection, root, &names[(number * step + client) % names.len()]);
                }
            });
        }
    });
}

#[test]
fn a_tree_in_every_mode() {
    let root = tempfile::tempdir().unwrap();
    let names = make_tree(root.path());
    for mode in TRANSMIT {
        for workers in ["1", "2"] {
            // The second server holds them all; the first has to evict all the time.
            let arena = if workers == "1" { "4MiB" } else { "64MiB" };
            let server =
                Server::start(root.path(), &["--hidden", "--transmit", mode, "--workers", workers, "--arena", arena]);
            compare_all(&server, root.path(), &names, 2);
        }
    }
}

#[test]
fn a_tree_again_after_a_kill() {
    let root = tempfile::tempdir().unwrap();
    let names = make_tree(root.path());
    let server = Server::start(root.path(), &["--hidden", "--workers", "2"]);
    compare_all(&server, root.path(), &names[..300], 1);
    let mut waiting = server.connect();
    waiting.send(support::request("GET", "/edges/6291456", &[]));
    assert_eq!(waiting.head().length(), 6 << 20);
    server.kill();
    let server = Server::start(root.path(), &["--hidden", "--workers", "2"]);
    compare_all(&server, root.path(), &names, 1);
}

#[test]
fn hits_say_so_and_are_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let names = make_tree(root.path());
    let server = Server::start(root.path(), &["--hidden", "--workers", "1", "--revalidate", "1h"]);
    let mut client = server.connect();
    for (round, expected) in ["forebay; fwd=uri-miss; stored", "forebay; hit", "forebay; hit"].iter().enumerate() {
        for name in names.iter().step_by(7) {
            let response = client.get(&target(name));
            assert_eq!(&response.cache_status(), expected, "round {round}: {}", String::from_utf8_lossy(name));
            let file = std::fs::read(root.path().join(OsStr::from_bytes(name))).unwrap();
            assert_same(&response.body, &file, "a hit");
        }
    }
}

/// Regular files beneath `directory`, as many as asked for, no link followed.
fn sample(directory: &Path, wanted: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                Ok(kind) if kind.is_file() && entry.metadata().is_ok_and(|meta| meta.len() < 8 << 20) => {
                    found.push(entry.path());
                }
                _ => {}
            }
        }
    }
    found.sort();
    let step = found.len().div_ceil(wanted).max(1);
    found.into_iter().step_by(step).filter(|path| std::fs::File::open(path).is_ok()).collect()
}

#[test]
fn a_real_tree() {
    let root = Path::new("/usr/share");
    let names: Vec<Vec<u8>> = sample(root, 1500)
        .iter()
        .map(|path| path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec())
        .collect();
    if names.is_empty() {
        return; // a system without it
    }
    let server = Server::start(root, &["--hidden", "--workers", "2", "--arena", "8MiB"]);
    compare_all(&server, root, &names, 2);
}

#[test]
fn pipelined_responses_are_whole_and_in_order() {
    let root = tempfile::tempdir().unwrap();
    let names = make_tree(root.path());
    for mode in TRANSMIT {
        let server = Server::start(root.path(), &["--hidden", "--workers", "1", "--arena", "4MiB", "--transmit", mode]);
        let mut client = server.connect();
        for chunk in names.chunks(50) {
            let requests: Vec<u8> = chunk.iter().flat_map(|name| support::request("GET", &target(name), &[])).collect();
            client.send(requests);
            for name in chunk {
                let expected = std::fs::read(root.path().join(OsStr::from_bytes(name))).unwrap();
                assert_same(&client.response("GET").body, &expected, &String::from_utf8_lossy(name));
            }
        }
    }
}
