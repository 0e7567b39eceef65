//! Who asks for a file that is not cached gets it from the page cache, by reference, while the arena is filled beside;
//! unless the file was changed lately.

mod support;

use std::io::Write;
use std::path::Path;
use support::{Client, Server, assert_same, bytes, request};

const SIZES: [usize; 9] =
    [20_000, (32 << 10) - 1, 32 << 10, 64 << 10, 100_001, 256 << 10, (512 << 10) + 1, 3_000_000, 9 << 20];

fn make_files(root: &Path) -> Vec<Vec<u8>> {
    let files: Vec<Vec<u8>> = SIZES.iter().map(|&size| bytes(size as u64, size)).collect();
    for (number, file) in files.iter().enumerate() {
        std::fs::write(root.join(number.to_string()), file).unwrap();
    }
    files
}

/// Responses sent in this mode so far.
fn responses(server: &Server, mode: &str) -> u64 {
    server.sample(&format!("forebay_transmit_responses_total{{mode=\"{mode}\"}}"))
}

#[test]
fn the_first_response_and_the_cached_one_are_the_file() {
    let root = tempfile::tempdir().unwrap();
    let files = make_files(root.path());
    for (settled, expected) in [("0s", 4), ("1h", 0)] {
        let server = Server::start(root.path(), &["--settled", settled, "--revalidate", "1h", "--workers", "2"]);
        let mut client = server.connect();
        let mut referred = 0;
        for (number, file) in files.iter().enumerate() {
            let before = responses(&server, "reference");
            let first = client.get(&format!("/{number}"));
            assert_eq!(first.cache_status(), "forebay; fwd=uri-miss; stored");
            assert_same(&first.body, file, "the first response");
            // Larger files go by reference from the arena too.
            if file.len() <= 256 << 10 {
                referred += responses(&server, "reference") - before;
            }
            support::until("it is cached", || {
                let later = server.get(&format!("/{number}"));
                assert_same(&later.body, file, "a later response");
                later.is_hit()
            });
        }
        assert_eq!(referred, expected, "--settled {settled}");
    }
}

#[test]
fn a_part_of_a_file_that_is_not_cached() {
    let root = tempfile::tempdir().unwrap();
    let files = make_files(root.path());
    let server = Server::start(root.path(), &["--settled", "0s", "--revalidate", "1h"]);
    for (number, file) in files.iter().enumerate() {
        let (from, to) = (file.len() / 3, file.len() - 7);
        let range = format!("bytes={from}-{}", to - 1);
        let part = server.connect().request("GET", &format!("/{number}"), &[("Range", &range)]);
        assert_eq!((part.status, part.cache_status()), (206, "forebay; fwd=uri-miss; stored"));
        assert_same(&part.body, &file[from..to], "a part");
        assert_same(&server.get(&format!("/{number}")).body, file, "the whole file after it");
    }
}

/// Takes the file out of the page cache, where the file system does that (not in memory).
fn drop_from_page_cache(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    file.sync_data().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// The ring reads the file, and what it has read is sent; some clients come while it does.
#[test]
fn a_file_that_is_not_in_the_page_cache_either() {
    let root = tempfile::tempdir().unwrap();
    let files = make_files(root.path());
    for chunk in ["4KiB", "256KiB"] {
        let server = Server::start(root.path(), &["--settled", "0s", "--read-chunk", chunk, "--workers", "2"]);
        for (number, file) in files.iter().enumerate() {
            drop_from_page_cache(&root.path().join(number.to_string()));
            let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
            for client in &mut clients {
                client.send(request("GET", &format!("/{number}"), &[]));
            }
            for mut client in clients {
                let response = client.response("GET");
                assert_eq!(response.status, 200);
                assert_same(&response.body, file, response.cache_status());
            }
        }
    }
}

/// Its pages are those of the file, so what becomes of the file matters while they are under way.
#[test]
fn what_happens_to_the_file_meanwhile_does_not_mix_versions() {
    let old = bytes(1, 9 << 20);
    let new = bytes(2, 9 << 20);
    type Change = fn(&Path, &[u8]);
    let changes: [(&str, bool, Change); 6] = [
        ("renamed over", true, |path, new| {
            std::fs::write(path.with_extension("new"), new).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("deleted", true, |path, _| std::fs::remove_file(path).unwrap()),
        ("appended to", true, |path, _| {
            std::fs::File::options().append(true).open(path).unwrap().write_all(b"one more line").unwrap();
        }),
        ("cut and written anew, longer", false, |path, new| std::fs::write(path, [new, b"longer"].concat()).unwrap()),
        ("cut and written anew", false, |path, new| std::fs::write(path, new).unwrap()),
        ("cut", false, |path, _| {
            std::fs::File::options().write(true).open(path).unwrap().set_len(5 << 20).unwrap();
        }),
    ];
    for (what, stays_whole, change) in changes {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        std::fs::write(&path, &old).unwrap();
        // An arena that is too small for it, and one that is not.
        for arena in ["4MiB", "64MiB"] {
            let server = Server::start(root.path(), &["--settled", "0s", "--arena", arena]);
            let mut client = Client::narrow(server.address(), 4096);
            client.send(request("GET", "/file", &[]));
            assert_eq!(client.head().status, 200);
            if arena == "64MiB" {
                support::until("it is cached", || server.get("/file").is_hit());
            }
            change(&path, &new);
            let mut body = vec![0; old.len()];
            match client.read_exact(&mut body) {
                Ok(()) => assert_same(&body, &old, what),
                // Past the cache nobody can vouch for what was sent by reference of a file that is longer now.
                Err(_) if what == "appended to" && arena == "4MiB" => {}
                Err(_) => assert!(!stays_whole, "{what}: the response broke off"),
            }
            std::fs::write(&path, &old).unwrap();
        }
    }
}
