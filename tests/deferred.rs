//! In a full arena a file is cached at once and read when it is asked for again, or has stayed: whoever asks gets its
//! bytes, and what becomes of the file meanwhile is noticed.

mod support;

use std::path::Path;
use support::{Client, Server, assert_same, bytes, request};

const SIZE: usize = 64 << 10;

/// As many files as fill an arena of 1 MiB three times.
const FILES: usize = 48;

fn make_files(root: &Path) -> Vec<Vec<u8>> {
    let files: Vec<Vec<u8>> = (0..FILES).map(|number| bytes(number as u64, SIZE)).collect();
    for (number, file) in files.iter().enumerate() {
        std::fs::write(root.join(number.to_string()), file).unwrap();
    }
    files
}

/// The files, and a server whose arena is full of the first half of them.
fn start(args: &[&str]) -> (tempfile::TempDir, Vec<Vec<u8>>, Server) {
    let root = tempfile::tempdir().unwrap();
    let files = make_files(root.path());
    // A policy that refuses nobody.
    let own = ["--arena", "1MiB", "--settled", "0s", "--workers", "1", "--eviction", "lru"];
    let server = Server::start(root.path(), &[&own[..], args].concat());
    let mut client = server.connect();
    for number in 0..FILES / 2 {
        assert_eq!(client.get(&format!("/{number}")).cache_status(), "forebay; fwd=uri-miss; stored");
    }
    (root, files, server)
}

fn fills(server: &Server, event: &str) -> u64 {
    server.sample(&format!("forebay_fills_total{{event=\"{event}\"}}"))
}

fn is_listed(server: &Server, name: &str) -> bool {
    server.get("/.forebay/cache").text().contains(&format!("\"name\":\"{name}\""))
}

#[test]
fn it_is_cached_at_once_and_read_when_it_is_asked_for_again() {
    let (_root, files, server) = start(&["--revalidate", "1h"]);
    let mut client = server.connect();
    for (number, file) in files.iter().enumerate().skip(FILES / 2) {
        let target = format!("/{number}");
        let deferred = fills(&server, "deferred");
        let first = client.get(&target);
        assert_eq!(first.cache_status(), "forebay; fwd=uri-miss; stored");
        assert_same(&first.body, file, "the first response");
        assert_eq!(fills(&server, "deferred"), deferred + 1);
        assert!(is_listed(&server, &number.to_string()));
        let head = client.request("HEAD", &target, &[]);
        assert!(head.is_hit() && head.length() == SIZE);
        let part = client.request("GET", &target, &[("Range", "bytes=5000-40000")]);
        assert_eq!((part.status, part.is_hit()), (206, true));
        assert_same(&part.body, &file[5000..=40000], "a part");
        for _ in 0..3 {
            let later = client.get(&target);
            assert!(later.is_hit());
            assert_same(&later.body, file, "a later response");
        }
    }
    assert!(server.physical_bytes() <= 1 << 20);
}

#[test]
fn it_is_read_in_the_end_if_nobody_asks_again() {
    let (_root, files, server) = start(&["--revalidate", "1h"]);
    let mut client = server.connect();
    for number in FILES / 2..FILES {
        client.get(&format!("/{number}"));
    }
    let owed = |server: &Server| fills(server, "started") - fills(server, "finished") - fills(server, "deferred");
    support::until("what has stayed is read", || {
        // Each was started once, and those that stayed twice.
        fills(&server, "started") > FILES as u64 && owed(&server) == 0
    });
    support::until("all that is cached is read", || {
        let before = fills(&server, "started");
        for (number, file) in files.iter().enumerate() {
            if is_listed(&server, &number.to_string()) {
                let response = client.get(&format!("/{number}"));
                assert!(response.is_hit());
                assert_same(&response.body, file, "a response from the arena");
            }
        }
        fills(&server, "started") == before
    });
}

#[test]
fn the_control_plane_reads_it_too() {
    let (_root, files, server) = start(&["--revalidate", "1h"]);
    let mut client = server.connect();
    let mut full = server.connect();
    full.get("/.forebay/health");
    for (number, file) in files.iter().enumerate().skip(FILES / 2) {
        let target = format!("/{number}");
        client.get(&target);
        for _ in 0..2 {
            let response = full.get(&target);
            assert!(response.is_hit());
            assert_same(&response.body, file, "a response of the control plane");
        }
        assert_same(&client.get(&target).body, file, "a response of the data plane");
    }
    // First asked for there, it is read at once.
    let deferred = fills(&server, "deferred");
    for (number, file) in files.iter().enumerate().take(FILES / 2) {
        assert_same(&full.get(&format!("/{number}")).body, file, "a first response of the control plane");
    }
    assert_eq!(fills(&server, "deferred"), deferred);
}

/// Its second request finds the file changed: it gets the new version, or what is right for a file that is gone; never
/// half of one.
#[test]
fn what_becomes_of_the_file_meanwhile_is_noticed() {
    type Change = fn(&Path, &[u8]);
    let changes: [(&str, Change); 4] = [
        ("renamed over", |path, new| {
            std::fs::write(path.with_extension("new"), new).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("written to in place", |path, new| {
            use std::os::unix::fs::FileExt;
            std::fs::File::options().write(true).open(path).unwrap().write_all_at(new, 0).unwrap();
        }),
        ("cut", |path, new| std::fs::write(path, &new[..1000]).unwrap()),
        ("deleted", |path, _| std::fs::remove_file(path).unwrap()),
    ];
    for revalidate in ["0s", "1h"] {
        for (what, change) in &changes {
            for control_plane in [false, true] {
                let (root, files, server) = start(&["--revalidate", revalidate]);
                let mut client = server.connect();
                if control_plane {
                    client.get("/.forebay/health");
                }
                for (number, file) in files.iter().enumerate().skip(FILES / 2).take(4) {
                    let path = root.path().join(number.to_string());
                    server.get(&format!("/{number}"));
                    let new = bytes(1000, SIZE);
                    change(&path, &new);
                    let response = client.get(&format!("/{number}"));
                    let current = std::fs::read(&path).ok();
                    // Within the interval what was cached may be served still, as far as it can be.
                    if revalidate == "1h" && response.status == 200 && response.body == *file {
                        continue;
                    }
                    match current {
                        Some(current) => assert_same(&response.body, &current, what),
                        None => assert_eq!(response.status, 404, "{what}"),
                    }
                }
            }
        }
    }
}

/// Many at once, on two workers, over files that displace each other all the time.
#[test]
fn everybody_gets_the_bytes_while_files_come_and_go() {
    let root = tempfile::tempdir().unwrap();
    let files = make_files(root.path());
    let args = ["--arena", "1MiB", "--settled", "0s", "--workers", "2"];
    let server = Server::start(root.path(), &args);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (server, files) = (&server, &files);
            scope.spawn(move || {
                let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
                for round in 0..300_usize {
                    // Neighbours ask for the same file at nearly the same time.
                    let number = (support::mix((round / 2) as u64) as usize + thread % 2) % FILES;
                    for client in &mut clients {
                        client.send(request("GET", &format!("/{number}"), &[]));
                    }
                    for client in &mut clients {
                        let response = client.response("GET");
                        assert_same(&response.body, &files[number], response.cache_status());
                    }
                }
            });
        }
    });
    assert!(fills(&server, "deferred") > 0);
    assert!(server.physical_bytes() <= 1 << 20);
}

/// Asks for all files in turn, for so many rounds.
fn go_round(server: &Server, files: &[Vec<u8>], rounds: usize) {
    let mut client = server.connect();
    for _ in 0..rounds {
        for (number, file) in files.iter().enumerate() {
            assert_same(&client.get(&format!("/{number}")).body, file, "a file in its turn");
        }
    }
}

#[test]
fn a_file_that_went_unread_is_still_open_when_its_turn_comes() {
    let (_root, mut files, server) = start(&["--revalidate", "1h", "--allow-writes"]);
    go_round(&server, &files, 3);
    assert!(fills(&server, "reopened") > 0);
    // What a PUT replaces is served new at once.
    let mut client = server.connect();
    for (number, file) in files.iter_mut().enumerate() {
        let target = format!("/{number}");
        *file = bytes(number as u64 + 100, SIZE);
        client.send([&request("PUT", &target, &[("Content-Length", &SIZE.to_string())]), &file[..]].concat());
        assert_eq!(client.response("PUT").status, 204);
        assert_same(&server.get(&target).body, file, "a new version");
    }
}

#[test]
fn what_is_replaced_is_served_new_within_the_interval() {
    let (root, mut files, server) = start(&["--revalidate", "300ms"]);
    go_round(&server, &files, 2);
    for (number, file) in files.iter_mut().enumerate() {
        *file = bytes(number as u64 + 100, SIZE);
        std::fs::write(root.path().join("new"), &file).unwrap();
        std::fs::rename(root.path().join("new"), root.path().join(number.to_string())).unwrap();
    }
    support::until("all are served new", || {
        files.iter().enumerate().all(|(number, file)| server.get(&format!("/{number}")).body == *file)
    });
    go_round(&server, &files, 1);
}

#[test]
fn a_file_that_was_deleted_is_closed_soon() {
    let (root, files, server) = start(&["--revalidate", "1h"]);
    go_round(&server, &files, 2);
    let open = |server: &Server| {
        let links = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
        let targets = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
        targets.filter(|target| target.starts_with(root.path().canonicalize().unwrap().join(""))).count()
    };
    assert!(open(&server) > 1);
    for number in 0..FILES {
        std::fs::remove_file(root.path().join(number.to_string())).unwrap();
    }
    // The root itself is open for ever.
    support::until("no file is open", || open(&server) <= 1);
}

/// Where descriptors are few, connections have them.
#[test]
fn few_descriptors_are_enough() {
    let root = tempfile::tempdir().unwrap();
    let files = make_files(root.path());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 360; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_forebay"), "serve"]).arg(root.path());
    command.args(["--listen", "127.0.0.1:0", "--arena", "1MiB", "--settled", "0s", "--workers", "1"]);
    let server = Server::spawn(command, 1);
    let mut clients: Vec<Client> = (0..60).map(|_| server.connect()).collect();
    for round in 0..3 {
        for (number, file) in files.iter().enumerate() {
            let client = &mut clients[(number * 7 + round) % 60];
            assert_same(&client.get(&format!("/{number}")).body, file, "a file in its turn");
        }
    }
}
