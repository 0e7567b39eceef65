//! Memory that sockets may still refer to is never rewritten: readers that stall while the cache churns read the right
//! bytes in the end, whatever became of what they asked for.

mod support;

use std::path::Path;
use support::{Client, Server, assert_same, bytes, request};

/// From what fits any socket buffer whole to what fits none.
const SIZES: [usize; 12] =
    [4096, 9000, 16 << 10, 20_000, 64 << 10, 100_000, 128 << 10, 300_000, 512 << 10, 700_000, 1 << 20, 2_500_000];

fn make_files(root: &Path) -> Vec<Vec<u8>> {
    let files: Vec<Vec<u8>> = (0..48).map(|number| bytes(number as u64, SIZES[number % SIZES.len()])).collect();
    for (number, file) in files.iter().enumerate() {
        std::fs::write(root.join(number.to_string()), file).unwrap();
    }
    files
}

/// Reads everything, so that all that was cached before is evicted and its memory used anew.
fn churn(server: &Server, files: &[Vec<u8>]) {
    let mut client = server.connect();
    for (number, file) in files.iter().enumerate() {
        assert_same(&client.get(&format!("/{number}")).body, file, "while others stall");
    }
}

fn stalled_readers_read_right(mode: &str, settled: &str) {
    let root = tempfile::tempdir().unwrap();
    let files = make_files(root.path());
    let server =
        Server::start(root.path(), &["--arena", "4MiB", "--workers", "2", "--transmit", mode, "--settled", settled]);
    for round in 0..2 {
        let mut stalled: Vec<(Client, usize)> = Vec::new();
        for (number, file) in files.iter().enumerate() {
            // Warm, so that it is sent from the arena; and half of the readers with hardly any buffer.
            assert_same(&server.get(&format!("/{number}")).body, file, "warm");
            let mut client = match (number + round) % 2 {
                0 => Client::narrow(server.address(), 4096),
                _ => server.connect(),
            };
            client.send(request("GET", &format!("/{number}"), &[]));
            // Its bytes are under way once the head has come.
            assert_eq!(client.head().status, 200);
            stalled.push((client, number));
        }
        churn(&server, &files);
        churn(&server, &files);
        for (client, number) in &mut stalled {
            assert_same(
                &client.body(files[*number].len()),
                &files[*number],
                &format!("{mode}: {number} after a stall"),
            );
            // And the connection is still in step.
            let next = (*number + 1) % files.len();
            assert_same(&client.get(&format!("/{next}")).body, &files[next], "the next response");
        }
    }
    assert!(server.physical_bytes() <= 4 << 20);
}

#[test]
fn by_copy() {
    stalled_readers_read_right("copy", "5s");
}

#[test]
fn by_reference() {
    stalled_readers_read_right("splice", "0s");
}

#[test]
fn by_zerocopy() {
    stalled_readers_read_right("zerocopy", "5s");
}

#[test]
fn by_choice() {
    stalled_readers_read_right("auto", "0s");
}

/// The files themselves are replaced, too, and the names served from new memory while the old bytes are still under
/// way.
#[test]
fn replaced_while_readers_stall() {
    for mode in support::TRANSMIT {
        let root = tempfile::tempdir().unwrap();
        let server = Server::start(
            root.path(),
            &["--arena", "4MiB", "--workers", "2", "--transmit", mode, "--revalidate", "0s"],
        );
        let mut stalled: Vec<(Client, u64)> = Vec::new();
        for version in 0..24u64 {
            let size = SIZES[version as usize % SIZES.len()];
            std::fs::write(root.path().join("new"), bytes(version, size)).unwrap();
            std::fs::rename(root.path().join("new"), root.path().join("file")).unwrap();
            let mut client = Client::narrow(server.address(), 4096);
            client.send(request("GET", "/file", &[]));
            let head = client.head();
            assert_eq!((head.status, head.length()), (200, size), "{mode}: version {version}");
            stalled.push((client, version));
            // A reading that is under way may be joined by who comes next: it is to end before the next version comes.
            assert_same(&server.get("/file").body, &bytes(version, size), "without a stall");
        }
        for (client, version) in &mut stalled {
            let size = SIZES[*version as usize % SIZES.len()];
            assert_same(&client.body(size), &bytes(*version, size), &format!("{mode}: version {version}"));
        }
    }
}
