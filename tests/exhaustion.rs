//! Promise 6: what there is not enough of is said, and costs one request, never the server.

mod support;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use support::{Client, Server, assert_same, bytes, limited, request, until};

/// The signal of a limit on file sizes ends a program without a word.
#[test]
fn a_limit_on_file_sizes_below_the_arena_is_named_at_start() {
    let root = tempfile::tempdir().unwrap();
    // 512-byte blocks: 8 MiB.
    let output = limited(&["-f 16384"]).arg("serve").arg(root.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["limit on file sizes is 8388608 bytes", "LimitFSIZE=", "--arena"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

/// A server with `small`, and a directory for what a test needs.
fn serve(limits: &[&str], args: &[&str]) -> (tempfile::TempDir, Server) {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("small"), bytes(1, 3000)).unwrap();
    std::fs::write(root.path().join("cold"), bytes(2, 3000)).unwrap();
    let server = Server::start_limited(root.path(), limits, args);
    (root, server)
}

/// That a connection that was open before is served as ever, from the cache.
#[track_caller]
fn expect_hit(client: &mut Client) {
    let response = client.get("/small");
    assert!(response.status == 200 && response.cache_status().starts_with("forebay; hit"), "{:?}", response.head);
    assert_same(&response.body, &bytes(1, 3000), "small");
}

/// That a connection is answered 503, and told to come back.
#[track_caller]
fn expect_refusal(client: &mut Client) -> String {
    let refusal = client.response("GET");
    assert_eq!((refusal.status, refusal.field("retry-after")), (503, Some("1")), "{}", refusal.text());
    refusal.text()
}

/// Waits until a new connection is served.
fn until_recovered(server: &Server) {
    until("new connections are served", || {
        let mut client = server.connect();
        client.try_send(&request("GET", "/small", &[])).is_ok()
            && client.try_response("GET").is_ok_and(|response| response.status == 200)
    });
}

#[test]
fn connections_are_limited_to_what_there_are_descriptors_for() {
    let (_root, server) = serve(&["-n 120"], &["--workers", "1", "--log", "warn"]);
    assert!(server.stderr().contains("30 connections at most, not 20000"), "{}", server.stderr());
    let mut served: Vec<Client> = (0..30).map(|_| server.connect()).collect();
    served.iter_mut().for_each(|client| drop(client.get("/small")));
    for _ in 0..3 {
        let mut surplus = server.connect();
        assert!(expect_refusal(&mut surplus).contains("all 30 connections are in use"));
        served.iter_mut().for_each(expect_hit);
    }
    // A miss has its descriptor, too.
    assert_same(&served[0].get("/cold").body, &bytes(2, 3000), "cold");
    drop(served);
    until_recovered(&server);
}

/// More connections come at once than there are descriptors for: none stays without an answer.
#[test]
fn a_rush_is_answered() {
    let (_root, server) = serve(&["-n 60"], &["--workers", "1", "--log", "warn"]);
    let mut served = server.connect();
    served.get("/small");
    server.signal(Signal::STOP);
    let mut rush: Vec<Client> = (0..150).map(|_| server.connect()).collect();
    rush.iter_mut().for_each(|client| client.send(request("GET", "/small", &[])));
    server.signal(Signal::CONT);
    let responses: Vec<_> = rush.iter_mut().map(|client| client.response("GET")).collect();
    for response in &responses {
        let is_refusal = response.status == 503 && response.field("retry-after") == Some("1");
        assert!(response.is_hit() || is_refusal, "{:?} {}", response.head, response.text());
    }
    assert!(responses.iter().any(|response| response.is_hit()), "there is room for some");
    assert!(responses.iter().any(|response| response.text().contains("no descriptor is left")));
    assert_eq!(server.stderr().matches("no descriptor is left").count(), 1, "{}", server.stderr());
    expect_hit(&mut served);
    drop(rush);
    until_recovered(&server);
}

/// Somebody lowers the limit of the running server, or the whole system is out of descriptors.
#[test]
fn without_a_descriptor_a_hit_is_a_hit() {
    let (_root, server) = serve(&[], &["--workers", "1", "--log", "warn", "--revalidate", "0s"]);
    let mut served = server.connect();
    served.get("/small");
    expect_hit(&mut served);
    let pid = Some(Pid::from_raw(server.pid() as i32).unwrap());
    let before = getrlimit_of(&server);
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(3), maximum: before.maximum }).unwrap();
    let cold = served.get("/cold");
    assert_eq!((cold.status, cold.field("retry-after")), (503, Some("1")), "{}", cold.text());
    expect_hit(&mut served);
    prlimit(pid, Resource::Nofile, before).unwrap();
    assert_same(&served.get("/cold").body, &bytes(2, 3000), "cold");
}

fn getrlimit_of(server: &Server) -> Rlimit {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    Rlimit { current: numbers.next(), maximum: numbers.next() }
}

/// The memory of connections is what clients can make grow.
#[test]
fn without_memory_a_hit_is_a_hit_and_the_surplus_is_answered() {
    let (_root, server) =
        serve(&[], &["--workers", "1", "--log", "warn", "--max-head", "1MiB", "--header-timeout", "1h"]);
    let mut served = server.connect();
    served.get("/small");
    expect_hit(&mut served);
    let pid = Some(Pid::from_raw(server.pid() as i32).unwrap());
    let lowered = Rlimit { current: Some(server.memory("VmSize") + (16 << 20)), maximum: None };
    prlimit(pid, Resource::As, lowered).unwrap();
    let mut head = request("GET", "/small", &[]);
    head.truncate(head.len() - 2);
    head.extend_from_slice(b"Long: ");
    head.resize(700 << 10, b'x');
    let mut others = Vec::new();
    loop {
        let mut client = server.connect();
        // One that is refused takes nothing more.
        let _ = client.try_send(&head);
        others.push(client);
        expect_hit(&mut served);
        if server.stderr().contains("no memory is left") {
            break;
        }
        assert!(others.len() < 200, "memory never ends: {} bytes", server.memory("VmSize"));
    }
    assert!(expect_refusal(&mut server.connect()).contains("no memory is left"));
    expect_hit(&mut served);
    drop(others);
    until_recovered(&server);
    expect_hit(&mut served);
}

/// A connection that is one too many gets its answer also if it sends all of a request first, and that takes its time.
#[test]
fn the_surplus_is_told_after_it_has_sent_all() {
    use std::io::{Read, Write};
    let (_root, server) = serve(&[], &["--workers", "1", "--max-connections", "1"]);
    let mut only = server.connect();
    only.get("/small");
    let mut surplus = std::net::TcpStream::connect(server.address()).unwrap();
    let (piece, pieces) = (vec![b'x'; 64 << 10], 30);
    let head = format!("PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", pieces * piece.len());
    surplus.write_all(head.as_bytes()).unwrap();
    for _ in 0..pieces {
        // Longer in all than a quiet connection is read on: 2 s.
        std::thread::sleep(std::time::Duration::from_millis(100));
        surplus.write_all(&piece).expect("the server reads on");
    }
    let mut answer = String::new();
    surplus.read_to_string(&mut answer).expect("no reset");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    expect_hit(&mut only);
}

/// Where no further thread can be started, what needs one takes its turn.
#[test]
fn without_threads_requests_take_turns() {
    use rustix::process::{Uid, getuid};
    // The limit does not hold for root, and counts all threads of a user: so the server is one of its own.
    if getuid() != Uid::ROOT {
        eprintln!("not tested: only root can give the server a user of its own");
        return;
    }
    let user = (100_000 + std::process::id() % 900_000).to_string();
    let root = tempfile::tempdir().unwrap();
    ["small", "cold"].iter().for_each(|name| std::fs::write(root.path().join(name), bytes(1, 3000)).unwrap());
    (0..3000).for_each(|number| std::os::unix::fs::symlink("small", root.path().join(format!("{number}"))).unwrap());
    std::os::unix::fs::chown(root.path(), Some(user.parse().unwrap()), None).unwrap();
    let start = |limit: &[&str]| {
        let mut command = std::process::Command::new("prlimit");
        command.args(limit).args(["setpriv", "--reuid", &user, "--clear-groups"]);
        command.args([env!("CARGO_BIN_EXE_forebay"), "serve"]).arg(root.path());
        command.args(["--listen", "127.0.0.1:0", "--workers", "1", "--allow-writes", "--log", "warn"]);
        Server::spawn(command, 1)
    };
    let server = start(&["--core=0"]);
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().count();
    server.kill();
    // A few more than it starts with, for the kernel's own.
    let server = start(&[&format!("--nproc={}", threads + 4)]);
    server.get("/small").expect(200);
    // Each of them waits for a look at the disk while the others do.
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for _ in 0..3 {
        clients.iter_mut().for_each(|client| client.send(request("GET", "/", &[("Accept", "application/json")])));
        clients.iter_mut().for_each(|client| drop(client.response("GET").expect(200)));
    }
    // What the kernel needs a thread for may have to wait, and says so.
    for (response, done) in
        [(server.put("/new", b"new"), 201), (server.get("/cold"), 200), (server.delete("/new"), 204)]
    {
        let waits = response.status == 503 && response.field("retry-after") == Some("1");
        assert!(waits || response.status == done || response.status == 404, "{}: {}", response.status, response.text());
    }
    assert_eq!(server.stderr().matches("no thread can be started").count(), 1, "{}", server.stderr());
}
