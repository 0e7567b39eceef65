//! Hits, misses and unclassified responses are counted and timed apart, by the server's own word.

mod common;
use common::{Reply, Server, ok, run};
use std::{fs, net::TcpListener, os::unix::net::UnixListener, sync::Mutex, thread, time::Duration};

fn by_path(path: &str, _: usize) -> Reply {
    match path {
        "/hit" => Reply::Send(ok("Cache-Status: forebay; hit\r\n", b"12345")),
        "/stored" => Reply::Send(ok("Cache-Status: forebay; fwd=uri-miss; stored\r\n", b"123")),
        "/large" => Reply::Late(
            Duration::from_millis(20),
            ok("cache-status: forebay; fwd=uri-miss; detail=too-large\r\n", b"12"),
        ),
        "/chunked" => {
            Reply::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec())
        }
        _ => Reply::Send(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nCache-Status: forebay; fwd=uri-miss\r\n\r\nno\n".to_vec(),
        ),
    }
}

#[test]
fn each_class_has_its_own_counts_and_times() {
    let server = Server::start(by_path);
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(&list, "/hit\n/stored\n/large\n/chunked\n/none\n").unwrap();
    let list = list.path().to_str().unwrap();
    let (run, status) =
        run(&[&server.address, "--paths", list, "--popularity", "sequential", "-n", "50", "-c", "3", "-t", "2"]);
    assert_eq!(status, 0);
    let classes = &run["classes"];
    let counts =
        |class: &str| (classes[class]["requests"].as_u64().unwrap(), classes[class]["bytes"].as_u64().unwrap());
    assert_eq!(counts("hit"), (10, 50));
    assert_eq!(counts("miss"), (20, 50));
    assert_eq!(counts("unclassified"), (10, 30));
    assert_eq!(counts("total"), (40, 130));
    assert_eq!(classes["miss"]["errors"]["status"], 10);
    assert_eq!(classes["total"]["errors"]["status"], 10);
    // Half of the misses take 20 ms at least, and their first byte does.
    assert!(classes["miss"]["latency_ns"]["p90"].as_u64().unwrap() >= 20_000_000);
    assert!(classes["miss"]["first_byte_ns"]["p90"].as_u64().unwrap() >= 20_000_000);
    assert_eq!(run["schedule"]["sent"], 50);
    assert_eq!(run["schedule"]["dropped"], 0);
}

#[test]
fn ipv6_and_unix_sockets_are_reached() {
    let server = Server::on(TcpListener::bind("[::1]:0").unwrap(), by_path);
    let (measured, status) = run(&[&format!("http://{}/hit", server.address), "-n", "10", "-c", "2"]);
    assert_eq!((status, &measured["classes"]["hit"]["requests"]), (0, &10.into()));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let seen = Mutex::new(Vec::new());
        listener.incoming().flatten().for_each(|stream| common::converse(stream, &seen, &by_path));
    });
    let list = directory.path().join("list");
    fs::write(&list, "hit\n").unwrap();
    let url = format!("unix:{}", path.display());
    let (measured, status) = run(&[&url, "--paths", list.to_str().unwrap(), "-n", "10", "-c", "1"]);
    assert_eq!((status, &measured["classes"]["hit"]["requests"]), (0, &10.into()));
}

#[test]
fn the_servers_listing_names_what_is_requested() {
    let server = Server::start(|path, _| {
        Reply::Send(match path {
            "/files/" => {
                ok("", br#"[{"name":"a b","size":2,"mtime":1,"type":"file"},{"name":"d/","type":"directory"}]"#)
            }
            "/files/d/" => ok("", br#"[{"name":"c","size":2}]"#),
            _ => ok("", b"xy"),
        })
    });
    let url = format!("http://{}/files/", server.address);
    let (_, status) = run(&[&url, "--listing", "--popularity", "sequential", "-n", "4", "-c", "1"]);
    assert_eq!(status, 0);
    assert_eq!(server.seen(), ["/files/", "/files/d/", "/files/a%20b", "/files/d/c", "/files/a%20b", "/files/d/c"]);
}
