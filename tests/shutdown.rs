//! Told to stop, the server takes no more connections, finishes what it has begun within its time, and ends with status
//! 0.

mod support;

use rustix::process::Signal;
use std::net::TcpStream;
use support::{Client, Place, Server, assert_same, bytes, request, until};

const SIZE: usize = 12 << 20;

fn serve(args: &[&str]) -> (tempfile::TempDir, Server) {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("large"), bytes(1, SIZE)).unwrap();
    std::fs::write(root.path().join("small"), bytes(2, 3000)).unwrap();
    let server = Server::start(root.path(), args);
    (root, server)
}

/// A client that has read the head of a response that fits no buffer, and stalls.
fn stalled(server: &Server) -> Client {
    let mut client = Client::narrow(server.address(), 4096);
    client.send(request("GET", "/large", &[]));
    assert_eq!(client.head().status, 200);
    client
}

#[test]
fn ends_at_once_when_nothing_is_owed() {
    for signal in [Signal::TERM, Signal::INT] {
        let (_root, mut server) = serve(&["--drain", "1h", "--workers", "2"]);
        let mut idle: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        for client in &mut idle[..10] {
            assert_same(&client.get("/small").body, &bytes(2, 3000), "small");
        }
        idle[0].send(b"GET /sm"); // not yet a request
        server.signal(signal);
        assert!(server.wait().success());
        for client in &mut idle {
            client.expect_end();
        }
    }
}

#[test]
fn responses_in_progress_are_finished() {
    for mode in support::TRANSMIT {
        // The second server streams past its cache.
        for arena in ["64MiB", "4MiB"] {
            let (_root, mut server) = serve(&["--drain", "1h", "--workers", "2", "--transmit", mode, "--arena", arena]);
            let mut clients: Vec<Client> = (0..6).map(|_| stalled(&server)).collect();
            server.signal(Signal::TERM);
            until("it takes no more connections", || TcpStream::connect(server.address()).is_err());
            assert!(!server.has_ended(), "responses are in progress");
            for client in &mut clients {
                assert_same(&client.body(SIZE), &bytes(1, SIZE), mode);
                client.expect_end();
            }
            assert!(server.wait().success());
        }
    }
}

#[test]
fn what_takes_too_long_is_cut_off() {
    let (_root, mut server) = serve(&["--drain", "300ms", "--workers", "2"]);
    let mut clients: Vec<Client> = (0..6).map(|_| stalled(&server)).collect();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    for client in &mut clients {
        assert!(client.read_exact(&mut vec![0; SIZE]).is_err(), "a body that was cut off looks whole");
    }
}

/// A second signal does not wait for `--drain`, and leaves no socket file behind.
#[test]
fn a_second_signal_ends_at_once() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("large"), bytes(1, SIZE)).unwrap();
    let socket = root.path().join("socket");
    let listen = ["127.0.0.1:0", &format!("unix:{}", socket.display())];
    for second in [Signal::TERM, Signal::INT] {
        let mut server = Server::start_on(root.path(), &listen, &["--drain", "1h"]);
        let mut client = stalled(&server);
        server.signal(Signal::TERM);
        until("it takes no more connections", || TcpStream::connect(server.address()).is_err());
        assert!(!server.has_ended(), "a response is in progress");
        // It does not end the drain, and does not count.
        server.signal(Signal::HUP);
        server.signal(second);
        assert_eq!(server.wait().code(), Some(1));
        assert!(server.stderr().contains("second signal"), "{}", server.stderr());
        assert!(!socket.exists());
        assert!(client.read_exact(&mut vec![0; SIZE]).is_err(), "a body that was cut off looks whole");
    }
}

/// The worker that reads a file may have no client of its own any more, while those of another one wait for it.
#[test]
fn a_fill_that_others_wait_for_is_finished() {
    let root = tempfile::tempdir().unwrap();
    let file = bytes(3, 24 << 20);
    std::fs::write(root.path().join("slow"), &file).unwrap();
    // Which worker a connection falls to is the kernel's choice: often enough they differ.
    for _ in 0..6 {
        let mut server = Server::start(root.path(), &["--workers", "2", "--read-chunk", "4KiB", "--drain", "1h"]);
        let mut first = server.connect();
        first.send(request("GET", "/slow", &[]));
        assert_eq!(first.head().status, 200);
        let mut second = server.connect();
        second.send(request("GET", "/slow", &[]));
        assert_eq!(second.head().status, 200);
        first.reset();
        server.signal(Signal::TERM);
        assert_same(&second.body(file.len()), &file, "what the other one had begun");
        assert!(server.wait().success());
    }
}

#[test]
fn unix_sockets_are_removed_and_those_left_behind_are_taken_over() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "x").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listen = format!("unix:{}", path.display());
    let mut server = Server::start_on(root.path(), &[&listen], &[]);
    assert_eq!(server.places, [Place::Unix(path.clone())]);
    assert_eq!(server.get("/file").text(), "x");
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(!path.exists());

    Server::start_on(root.path(), &[&listen], &[]).kill();
    assert!(path.exists(), "nobody could remove it");
    let server = Server::start_on(root.path(), &[&listen], &[]);
    assert_eq!(server.get("/file").text(), "x");
    // A server that is alive keeps its socket.
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
    let second = second.arg("serve").arg(root.path()).args(["--listen", &listen]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("a running program has a socket there"));
    assert_eq!(server.get("/file").text(), "x");
}

/// Whoever restarts a killed server does so at once.
#[test]
fn a_killed_server_is_followed_by_the_next_at_its_address() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "x").unwrap();
    // Not the address that the connections of other tests come from, whose ports the kernel chooses.
    let mut listen = "127.0.0.77:0".to_owned();
    for _ in 0..5 {
        let server = Server::start_on(root.path(), &[&listen], &["--workers", "2"]);
        listen = server.address().to_string();
        assert_eq!(server.get("/file").text(), "x");
        let _open: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        server.kill();
    }
    let server = Server::start_on(root.path(), &[&listen], &[]);
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
    let second = second.arg("serve").arg(root.path()).args(["--listen", &listen]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains(&listen) && said.contains("another server is listening there"), "{said}");
    assert_eq!(server.get("/file").text(), "x");
}
