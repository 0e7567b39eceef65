//! Clients that break off, stall, flood or talk nonsense get nothing but their own connection closed: no descriptor, no
//! memory and no other client is lost to them.

mod support;

use std::io::{ErrorKind, Write};
use support::{Client, Place, Server, TRANSMIT, assert_same, bytes, mix, request, until};
use tempfile::TempDir;

const LARGE: usize = 3 << 20;

fn tree() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("small"), small()).unwrap();
    std::fs::write(root.path().join("medium"), bytes(2, 100_000)).unwrap();
    std::fs::write(root.path().join("large"), bytes(3, LARGE)).unwrap();
    std::fs::write(root.path().join("huge"), bytes(4, 9 << 20)).unwrap();
    std::fs::create_dir(root.path().join("directory")).unwrap();
    root
}

/// A server that has answered once, and how many descriptors it has open then.
fn serve(root: &TempDir, args: &[&str]) -> (Server, usize) {
    let server = Server::start(root.path(), args);
    assert_same(&server.get("/small").body, &small(), "small");
    let descriptors = server.descriptors();
    (server, descriptors)
}

fn small() -> Vec<u8> {
    bytes(1, 3000)
}

/// That the server is as good as new: it answers, and has no more open than it had.
#[track_caller]
fn assert_unharmed(server: &Server, descriptors: usize) {
    assert_same(&server.get("/small").body, &small(), "small");
    until("all descriptors are closed", || server.descriptors() <= descriptors);
}

#[test]
fn resets_in_the_middle() {
    for mode in TRANSMIT {
        let root = tree();
        let args = ["--workers", "2", "--arena", "4MiB", "--transmit", mode, "--read-chunk", "16KiB"];
        let (server, descriptors) = serve(&root, &args);
        for round in 0..240u64 {
            let target = ["/large", "/huge", "/medium", "/small", "/missing"][round as usize % 5];
            let mut client = Client::narrow(server.address(), 4096);
            client.send(request("GET", target, &[]));
            if mix(round).is_multiple_of(2) {
                let head = client.head();
                let some = head.length() * (mix(round) % 7) as usize / 10;
                client.body(some.min(400_000));
            }
            match round % 3 {
                0 => client.reset(),
                1 => drop(client), // unread bytes: a reset, too
                _ => {
                    client.finish();
                    client.reset();
                }
            }
        }
        assert_unharmed(&server, descriptors);
        // All leases came back: a file that needs most of the arena gets it.
        until("the budget is free", || {
            let response = server.get("/large");
            assert_same(&response.body, &bytes(3, LARGE), "large");
            response.is_hit()
        });
    }
}

#[test]
fn connections_that_come_and_go() {
    let root = tree();
    let (server, descriptors) = serve(&root, &["--workers", "2"]);
    let memory = server.memory("RssAnon");
    for round in 0..3000 {
        let mut client = server.connect();
        match round % 4 {
            0 => {}
            1 => client.send(b"GET /sm"),
            2 => client.send(request("GET", "/small", &[])),
            _ => {
                client.reset();
                continue;
            }
        }
    }
    assert_unharmed(&server, descriptors);
    let more = server.memory("RssAnon").saturating_sub(memory);
    assert!(more < 16 << 20, "{more} bytes more than before");
}

#[test]
fn heads_that_never_end() {
    let root = tree();
    let (server, descriptors) = serve(&root, &["--workers", "1", "--header-timeout", "500ms"]);
    let mut slow: Vec<Client> = (0..300).map(|_| server.connect()).collect();
    let mut open = vec![true; slow.len()];
    let mut quick = server.connect();
    for byte in request("GET", "/small", &[]).iter().take(20) {
        for (client, open) in slow.iter_mut().zip(&mut open) {
            *open = *open && client.try_send(&[*byte]).is_ok();
        }
        assert_same(&quick.get("/small").body, &small(), "for others");
    }
    for client in &mut slow {
        let response = client.try_response("GET").expect("an answer");
        assert_eq!(response.status, 408);
        client.expect_end();
    }
    drop((slow, quick));
    assert_unharmed(&server, descriptors);
}

/// Requests without end from clients that never read: the server stops reading before its memory grows.
#[test]
fn floods_of_requests() {
    let root = tree();
    for mode in ["copy", "splice", "zerocopy"] {
        let (server, descriptors) = serve(&root, &["--workers", "1", "--transmit", mode, "--arena", "4MiB"]);
        let memory = server.memory("RssAnon");
        let mut clients: Vec<Client> = (0..30).map(|_| Client::narrow(server.address(), 4096)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let flood = request("GET", ["/small", "/medium", "/large"][number % 3], &[]).repeat(1000);
            let mut socket = client.tcp();
            socket.set_nonblocking(true).unwrap();
            let mut sent = 0;
            // Until the connection has been full for a while; at most 32 MiB.
            let mut refusals = 0;
            while sent < 32 << 20 && refusals < 20 {
                match socket.write(&flood) {
                    Ok(bytes) => (sent, refusals) = (sent + bytes, 0),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        refusals += 1;
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(sent < 32 << 20, "{mode}: it reads on and on");
            socket.set_nonblocking(false).unwrap();
            assert_same(&server.get("/small").body, &small(), "for others");
        }
        let more = server.memory("RssAnon").saturating_sub(memory);
        assert!(more < 30 << 20, "{mode}: {more} bytes more than before");
        // And what was asked is answered, in order.
        for (client, (content, _)) in
            clients.iter_mut().take(3).zip([(small(), 0), (bytes(2, 100_000), 1), (bytes(3, LARGE), 2)])
        {
            for _ in 0..20 {
                assert_same(&client.response("GET").body, &content, mode);
            }
        }
        drop(clients);
        assert_unharmed(&server, descriptors);
    }
}

#[test]
fn nonsense() {
    let root = tree();
    let (server, descriptors) = serve(&root, &["--workers", "2", "--max-head", "2KiB"]);
    for round in 0..600u64 {
        let mut text = match round % 3 {
            0 => bytes(round, (mix(round) % 5000) as usize),
            _ => [
                request("GET", "/small", &[("Range", "bytes=1-2"), ("If-None-Match", "\"x\"")]),
                request("HEAD", "/large", &[]),
            ]
            .concat(),
        };
        // A few bytes of what was well-formed are something else.
        for change in 0..(round % 3) * 2 {
            let at = mix(round << 8 | change) as usize % text.len();
            text[at] = mix(round << 16 | change) as u8;
        }
        let mut client = server.connect();
        let _ = client.try_send(&text);
        client.finish();
        let answer = client.rest(); // it ends, and does not hang
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&answer));
    }
    assert_unharmed(&server, descriptors);
}

/// A reader that stalls is given up, however much it still sends.
#[test]
fn stalled_readers_are_given_up() {
    let root = tree();
    for mode in TRANSMIT {
        let (server, descriptors) = serve(&root, &["--workers", "1", "--transmit", mode, "--send-timeout", "500ms"]);
        let mut clients: Vec<Client> = Vec::new();
        for target in ["/huge", "/large"] {
            let mut client = Client::narrow(server.address(), 4096);
            client.send(request("GET", target, &[]));
            assert_eq!(client.head().status, 200);
            clients.push(client);
        }
        until("they are closed", || {
            for client in &mut clients {
                let _ = client.try_send(b"G");
            }
            server.descriptors() <= descriptors
        });
    }
}

/// A connection leaves for the control plane only when what was asked before has been sent.
#[test]
fn clients_that_ask_for_a_directory_next_and_end_their_side() {
    let root = tree();
    let server = Server::start(root.path(), &["--workers", "1"]);
    for round in 0..300 {
        let mut client = server.connect();
        client.send([request("GET", "/small", &[]), request("GET", "/directory/", &[])].concat());
        client.finish();
        let response = client.response("GET");
        assert_same(&response.body, &small(), &format!("round {round}"));
        drop(client.rest());
    }
}

#[test]
fn slow_readers_that_ask_for_a_directory_next() {
    let root = tree();
    for mode in TRANSMIT {
        let server = Server::start(root.path(), &["--workers", "1", "--transmit", mode]);
        for target in ["/large", "/huge"] {
            let content = std::fs::read(root.path().join(&target[1..])).unwrap();
            let mut client = Client::narrow(server.address(), 4096);
            client.send([request("GET", target, &[]), request("GET", "/directory/", &[])].concat());
            assert_eq!(client.head().status, 200);
            let mut body = Vec::new();
            while body.len() < content.len() {
                let some = (content.len() - body.len()).min(128 << 10);
                body.extend(client.body(some));
                // Others are served meanwhile, which gives the server time to find the socket full.
                assert_same(&server.get("/small").body, &small(), "for others");
            }
            assert_same(&body, &content, mode);
        }
        assert_same(&server.get("/small").body, &small(), mode);
    }
}

#[test]
fn unix_sockets_serve_the_same() {
    let root = tree();
    let directory = tempfile::tempdir().unwrap();
    for mode in TRANSMIT {
        let listen = format!("unix:{}", directory.path().join(mode).display());
        let server = Server::start_on(
            root.path(),
            &[&listen, "127.0.0.1:0"],
            &["--transmit", mode, "--workers", "2", "--arena", "4MiB"],
        );
        assert!(matches!(server.places[..], [Place::Unix(_), Place::Tcp(_)]));
        let mut clients: Vec<Client> = (0..8).map(|number| Client::connect(&server.places[number % 2])).collect();
        for target in ["/small", "/medium", "/large", "/huge", "/large", "/small"] {
            for client in &mut clients {
                client.send([request("GET", target, &[]), request("GET", "/small", &[])].concat());
            }
            let content = std::fs::read(root.path().join(&target[1..])).unwrap();
            for client in &mut clients {
                assert_same(&client.response("GET").body, &content, target);
                assert_same(&client.response("GET").body, &small(), "the next one");
            }
        }
    }
}
