//! Each promise on storage that stalls, lies, fails, changes while it is read, tells whole seconds only, or disappears:
//! a file system of the tests' own.

#[path = "storage_faults/fuse.rs"]
mod fuse;
mod support;

use fuse::{Asked, File, Storage};
use std::time::Duration;
use support::{Client, Server, assert_same, bytes, request, until};

/// Larger than one read of the storage and one chunk of a fill.
const LEN: usize = 1 << 20;

fn hot() -> (&'static str, File) {
    ("hot", File::new(bytes(1, 3000)))
}

fn expect_hot(client: &mut Client) {
    let response = client.get("/hot").expect(200);
    assert!(response.cache_status().starts_with("forebay; hit"), "{:?}", response.head);
    assert_same(&response.body, &bytes(1, 3000), "hot");
}

/// A server whose cache has `hot`.
fn serve(storage: &Storage, args: &[&str]) -> Server {
    let server = Server::start(storage.path(), &[&["--workers", "1", "--log", "warn"], args].concat());
    until("hot is cached", || server.get("/hot").expect(200).is_hit());
    server
}

/// One slow disk delays nothing that does not depend on it: neither what is cached, nor the server's own pages.
#[test]
fn hits_go_on_while_storage_stalls() {
    for asked in [Asked::Lookup, Asked::Open, Asked::Read, Asked::Attributes] {
        for plane in [0, 1] {
            let Some(storage) = Storage::mount(&[hot(), ("cold", File::new(bytes(2, LEN)))]) else { return };
            let server = serve(&storage, &["--revalidate", "1h"]);
            let (mut client, [(plane, mut waiting)]) = (server.connect(), planes(&server, plane));
            let stall = storage.stall_file(asked, "cold", 0);
            waiting.send(request("GET", "/cold", &[]));
            until(&format!("the storage is asked for {asked:?} by the {plane} plane"), || stall.held() > 0);
            expect_hot(&mut client);
            expect_hot(&mut server.connect());
            server.get("/.forebay/health").expect(200);
            drop(stall);
            assert_same(&waiting.response("GET").expect(200).body, &bytes(2, LEN), "cold");
        }
    }
}

/// The path of the root is followed by a thread of its own, however short the interval is.
#[test]
fn hits_go_on_while_the_root_stalls() {
    let Some(storage) = Storage::mount(&[hot()]) else { return };
    let server = serve(&storage, &["--revalidate", "0s"]);
    let mut client = server.connect();
    let stall = storage.stall_file(Asked::Attributes, "", 0);
    until("the storage is asked", || stall.held() > 0);
    expect_hot(&mut client);
    expect_hot(&mut server.connect());
    server.get("/.forebay/health").expect(200);
    drop(stall);
    expect_hot(&mut client);
}

/// A FUSE file system takes a few reads ahead only, and has whoever asks for more wait.
#[test]
fn hits_go_on_while_many_large_files_stall() {
    let names: Vec<String> = (0..40).map(|number| format!("cold{number}")).collect();
    let mut files = vec![hot()];
    files.extend(names.iter().map(|name| (name.as_str(), File::new(bytes(2, LEN)))));
    let Some(storage) = Storage::mount(&files) else { return };
    let server = serve(&storage, &["--revalidate", "1h"]);
    let (mut client, stall) = (server.connect(), storage.stall(Asked::Read));
    let ask = |name: &String| {
        let mut client = server.connect();
        client.send(request("GET", &format!("/{name}"), &[]));
        client
    };
    let waiting: Vec<Client> = names.iter().map(ask).collect();
    until("the storage is asked", || stall.held() > 0);
    for _ in 0..20 {
        expect_hot(&mut client);
        expect_hot(&mut server.connect());
    }
    drop(stall);
    for mut client in waiting {
        assert_same(&client.response("GET").expect(200).body, &bytes(2, LEN), "cold");
    }
}

fn planes(server: &Server, plane: usize) -> [(&'static str, Client); 1] {
    let [data, control] = server.planes();
    [if plane == 0 { data } else { control }]
}

/// A directory that does not answer holds up who lists it, and nobody else.
#[test]
fn hits_go_on_while_a_listing_stalls() {
    let Some(storage) = Storage::mount(&[hot()]) else { return };
    let server = serve(&storage, &["--revalidate", "1h"]);
    let (mut client, mut lister) = (server.connect(), server.connect());
    let stall = storage.stall(Asked::List);
    lister.send(request("GET", "/", &[("Accept", "application/json")]));
    until("the storage is asked", || stall.held() > 0);
    expect_hot(&mut client);
    server.get("/.forebay/health").expect(200);
    drop(stall);
    assert!(lister.response("GET").expect(200).text().contains("hot"));
}

/// However many wait for storage that does not answer, threads and memory are bounded, and everything is given back.
#[test]
fn what_waits_for_stalled_storage_is_bounded() {
    const CLIENTS: usize = 300;
    let names: Vec<String> = (0..CLIENTS).map(|number| format!("cold{number}")).collect();
    let mut files = vec![hot()];
    files.extend(names.iter().map(|name| (name.as_str(), File::new(bytes(3, 5000)))));
    let Some(storage) = Storage::mount(&files) else { return };
    let server = serve(&storage, &["--revalidate", "1h"]);
    let mut client = server.connect();
    let (descriptors, memory) = (server.descriptors(), server.memory("RssAnon"));
    let stall = storage.stall(Asked::Read);
    let mut waiting: Vec<Client> = names
        .iter()
        .map(|name| {
            let mut client = server.connect();
            client.send(request("GET", &format!("/{name}"), &[]));
            client
        })
        .collect();
    until("the storage is asked", || stall.held() > 0);
    expect_hot(&mut client);
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().count();
    // The kernel's own for each ring go by the processors.
    let bound = 50 + 16 * std::thread::available_parallelism().map_or(1, usize::from);
    assert!(threads < bound, "{threads} threads");
    let grown = server.memory("RssAnon").saturating_sub(memory);
    assert!(grown < 16 << 20, "{grown} bytes");
    // Half of them lose patience.
    waiting.drain(..CLIENTS / 2).for_each(drop);
    expect_hot(&mut client);
    drop(stall);
    for mut client in waiting.drain(..) {
        assert_same(&client.response("GET").expect(200).body, &bytes(3, 5000), "cold");
    }
    // What is left is bounded by the files that the cache keeps open.
    until("descriptors are given back", || server.descriptors() <= descriptors + 5);
    expect_hot(&mut client);
}

/// Whoever waits for storage that does not answer is let go when the time for it is over, and the server ends when the
/// kernel lets it.
#[test]
fn a_server_ends_though_its_storage_stalls() {
    let Some(storage) = Storage::mount(&[hot(), ("cold", File::new(bytes(2, LEN)))]) else { return };
    let mut server = serve(&storage, &["--revalidate", "1h", "--drain", "100ms"]);
    let mut waiting = server.connect();
    let stall = storage.stall_file(Asked::Read, "cold", 0);
    waiting.send(request("GET", "/cold", &[]));
    until("the storage is asked", || stall.held() > 0);
    server.signal(rustix::process::Signal::TERM);
    let error = waiting.try_response("GET").expect_err("no whole response");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
    // The kernel does not end a process one of whose threads waits for a FUSE file system.
    drop(stall);
    let status = server.wait();
    assert!(status.code().is_some(), "{status}: {}", server.stderr());
}

/// What claims to be longer than it is cannot be sent whole, and is visibly broken off; what claims to be shorter is
/// that.
#[test]
fn a_lie_about_the_size_is_not_served_as_a_whole_file() {
    let longer = File::claiming(bytes(4, LEN), LEN as u64 + 4096);
    let (shorter, empty) = (File::claiming(bytes(5, LEN), 5000), File::claiming(bytes(6, LEN), 0));
    let Some(storage) = Storage::mount(&[hot(), ("longer", longer), ("shorter", shorter), ("empty", empty)]) else {
        return;
    };
    let server = serve(&storage, &["--revalidate", "1h"]);
    for _ in 0..3 {
        for (plane, mut client) in server.planes() {
            client.send(request("GET", "/longer", &[]));
            match client.try_response("GET") {
                Ok(response) => assert!(response.status >= 500, "{plane}: {:?}", response.head),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{plane}: {error}"),
            }
        }
        for (plane, mut client) in server.planes() {
            let response = client.get("/shorter").expect(200);
            assert_same(&response.body, &bytes(5, LEN)[..5000], plane);
            assert!(client.get("/empty").expect(200).body.is_empty(), "{plane}");
        }
    }
    expect_hot(&mut server.connect());
    // What is wrong is not kept: once the storage tells the truth, so does the server.
    storage.rewrite("longer", File::new(bytes(4, LEN)));
    assert_same(&server.get("/longer").expect(200).body, &bytes(4, LEN), "longer");
}

/// What cannot be read is an error before the head, and a broken-off response after it; it is asked for again.
#[test]
fn a_read_that_fails_is_never_a_short_response() {
    for at in [0, 200 << 10, LEN as u64 - 1] {
        let Some(storage) = Storage::mount(&[hot(), ("bad", File::failing(bytes(7, LEN), at))]) else { return };
        let server = serve(&storage, &["--revalidate", "1h"]);
        for _ in 0..3 {
            for (plane, mut client) in server.planes() {
                client.send(request("GET", "/bad", &[]));
                match client.try_response("GET") {
                    Ok(response) => assert!(response.status >= 500, "{plane}, {at}: {:?}", response.head),
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{plane}: {error}"),
                }
            }
            expect_hot(&mut server.connect());
        }
        storage.rewrite("bad", File::new(bytes(7, LEN)));
        assert_same(&server.get("/bad").expect(200).body, &bytes(7, LEN), "mended");
    }
}

/// A file that is written to, or replaced, between two reads of it is never served as a mixture.
#[test]
fn a_file_that_changes_while_it_is_read_is_never_mixed() {
    let (old, new) = (bytes(8, LEN), bytes(9, LEN));
    let changed =
        |at| File { modified: std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(at), ..File::new(new.clone()) };
    for is_replaced in [false, true] {
        for plane in [0, 1] {
            let Some(storage) = Storage::mount(&[hot(), ("moving", File::new(old.clone()))]) else { return };
            let server = serve(&storage, &["--revalidate", "0s"]);
            let [(plane, mut client)] = planes(&server, plane);
            let stall = storage.stall_file(Asked::Read, "moving", LEN as u64 / 2);
            client.send(request("GET", "/moving", &[]));
            until("half of it is read", || stall.held() > 0);
            match is_replaced {
                true => storage.replace("moving", changed(1_100_000_000)),
                false => storage.rewrite("moving", changed(1_100_000_000)),
            }
            drop(stall);
            match client.try_response("GET") {
                Ok(response) if response.status == 200 => {
                    let is_whole = response.body == old || response.body == new;
                    assert!(is_whole, "{plane}, replaced: {is_replaced}: a mixture");
                }
                Ok(response) => assert!(response.status >= 500, "{plane}: {:?}", response.head),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{plane}: {error}"),
            }
            assert_same(&server.get("/moving").expect(200).body, &new, "what is there now");
        }
    }
}

/// Times of whole seconds hide a change within the second: a second look finds it.
#[test]
fn a_change_within_a_whole_second_is_found() {
    let Some(storage) = Storage::mount(&[hot(), ("log", File::new(bytes(10, 5000)))]) else { return };
    let server = serve(&storage, &["--revalidate", "0s"]);
    assert_same(&server.get("/log").expect(200).body, &bytes(10, 5000), "as it was");
    // The same length, and the same time.
    storage.rewrite("log", File::new(bytes(11, 5000)));
    until("the change is found", || {
        let response = server.get("/log").expect(200);
        let is_new = response.body == bytes(11, 5000);
        assert!(is_new || response.body == bytes(10, 5000), "a mixture");
        is_new
    });
}

/// Storage that is gone: what is cached is served on, what is not gets its error, and the server ends as ever.
#[test]
fn hits_outlive_their_storage() {
    let Some(storage) = Storage::mount(&[hot(), ("cold", File::new(bytes(2, LEN)))]) else { return };
    let mut server = serve(&storage, &["--revalidate", "0s"]);
    storage.disappear();
    for (plane, mut client) in server.planes() {
        expect_hot(&mut client);
        let cold = client.get("/cold");
        assert!(cold.status >= 500, "{plane}: {:?} {}", cold.head, cold.text());
        expect_hot(&mut client);
        assert!(client.get("/").status >= 500, "{plane}: a listing");
    }
    server.get("/.forebay/health").expect(200);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}
