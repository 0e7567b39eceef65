//! Many clients that want one cold file at the same time: it is read once, and whoever leaves takes nothing from the
//! others.

mod support;

use support::{Client, Server, assert_same, bytes, request, until};

/// Small reads make a fill last many turns of the event loop, so that others come while it is under way.
const SLOW_FILL: [&str; 4] = ["--read-chunk", "4KiB", "--workers", "2"];

#[test]
fn five_hundred_clients_read_the_disk_once() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &[&SLOW_FILL[..], &["--revalidate", "1h"]].concat());
    for (round, size) in [0, 5000, 200_000, 600_000].into_iter().enumerate() {
        let file = bytes(round as u64, size);
        let name = format!("/{round}");
        std::fs::write(root.path().join(&name[1..]), &file).unwrap();
        let mut clients: Vec<Client> = (0..500).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send(request("GET", &name, &[]));
        }
        let mut stored = 0;
        for client in &mut clients {
            let response = client.response("GET");
            assert_same(&response.body, &file, &name);
            match response.cache_status() {
                "forebay; fwd=uri-miss; stored" => stored += 1,
                "forebay; fwd=uri-miss; collapsed" | "forebay; hit" => {}
                other => panic!("{other}"),
            }
        }
        assert_eq!(stored, 1, "{name} was read more than once");
    }
}

#[test]
fn the_fill_outlives_the_client_that_began_it() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &[&SLOW_FILL[..], &["--revalidate", "1h"]].concat());
    for round in 0..10 {
        let file = bytes(round, 3 << 20);
        let name = format!("/{round}");
        std::fs::write(root.path().join(&name[1..]), &file).unwrap();
        let mut first = Client::narrow(server.address(), 4096);
        first.send(request("GET", &name, &[]));
        assert_eq!(first.head().cache_status(), "forebay; fwd=uri-miss; stored");
        let mut others: Vec<Client> = (0..6).map(|_| server.connect()).collect();
        for client in &mut others {
            client.send(request("GET", &name, &[]));
        }
        match round % 2 {
            0 => first.reset(),
            _ => drop(first),
        }
        for client in &mut others {
            let response = client.response("GET");
            assert_same(&response.body, &file, &name);
            assert!(
                matches!(response.cache_status(), "forebay; hit" | "forebay; fwd=uri-miss; collapsed"),
                "nobody else had to read it: {}",
                response.cache_status()
            );
        }
        assert!(server.get(&name).is_hit(), "the fill came to its end");
    }
}

/// Nobody waits for it any more, and it is cached all the same.
#[test]
fn a_fill_that_everyone_left_ends() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &[&SLOW_FILL[..], &["--revalidate", "1h"]].concat());
    for round in 0..20 {
        let file = bytes(round, 1 << 20);
        let name = format!("/{round}");
        std::fs::write(root.path().join(&name[1..]), &file).unwrap();
        let mut client = server.connect();
        client.send(request("GET", &name, &[]));
        client.reset();
        until("it is cached", || {
            let response = server.get(&name);
            assert_same(&response.body, &file, &name);
            response.is_hit()
        });
    }
}

/// A file that is cut short while many wait for it: each gets one whole version, or a body that is visibly not whole.
#[test]
fn a_fill_that_fails_is_no_short_body() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &SLOW_FILL);
    for round in 0..15u64 {
        let (old, new) = (bytes(round, 4 << 20), bytes(round, 1 << 20));
        let path = root.path().join(round.to_string());
        std::fs::write(&path, &old).unwrap();
        let name = format!("/{round}");
        let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send(request("GET", &name, &[]));
        }
        let mut heads = Vec::new();
        if round % 3 > 0 {
            heads.push(clients[0].head()); // the fill has begun
        }
        std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        for (number, client) in clients.iter_mut().enumerate() {
            let head = match heads.pop() {
                Some(head) => head,
                None => client.head(),
            };
            let mut body = vec![0; head.length()];
            let is_whole = client.read_exact(&mut body).is_ok();
            match head.status {
                200 if is_whole => {
                    assert!(body == old || body == new, "{name}, client {number}: {} bytes of neither", body.len());
                }
                200 | 503 => {}
                other => panic!("{other}"),
            }
        }
        until("the new version is served", || server.get(&name).body == new);
    }
}
