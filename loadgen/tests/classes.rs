//! Hits, misses and unclassified responses are counted and timed apart, by the server's own word.

mod common;
use common::{Reply, Server, loadgen, ok, run};
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
    assert_eq!(status, 1, "a fifth of the requests failed, which is more than the default threshold lets pass");
    let classes = &run["classes"];
    let counts =
        |class: &str| (classes[class]["requests"].as_u64().unwrap(), classes[class]["bytes"].as_u64().unwrap());
    assert_eq!(counts("hit"), (10, 50));
    assert_eq!(counts("miss"), (20, 50));
    assert_eq!(counts("unclassified"), (10, 30));
    assert_eq!(counts("total"), (40, 130));
    assert_eq!(classes["miss"]["errors"]["status"], 10);
    assert_eq!(classes["total"]["errors"]["status"], 10);
    for class in ["miss", "total"] {
        assert_eq!(classes[class]["errors_by_status"], serde_json::json!({"404": 10}));
    }
    assert_eq!(classes["hit"]["errors_by_status"], serde_json::json!({}));
    // Half of the misses take 20 ms at least, and their first byte does.
    assert!(classes["miss"]["latency_ns"]["p90"].as_u64().unwrap() >= 20_000_000);
    assert!(classes["miss"]["first_byte_ns"]["p90"].as_u64().unwrap() >= 20_000_000);
    assert_eq!(run["schedule"]["sent"], 50);
    assert_eq!(run["schedule"]["dropped"], 0);
}

#[test]
fn a_field_of_another_cache_tells_hits_from_misses() {
    let server = Server::start(|_, number| {
        Reply::Send(ok(if number < 3 { "X-Cache: MISS\r\n" } else { "X-Cache: HIT from edge\r\n" }, b"x"))
    });
    let (told, status) = run(&[&server.address, "-n", "10", "-c", "1", "--hit-header", "squid"]);
    let requests = |class: &str| told["classes"][class]["requests"].as_u64().unwrap();
    assert_eq!((status, requests("hit"), requests("miss"), requests("unclassified")), (0, 7, 3, 0));
    assert_eq!(told["settings"]["hit_header"], "X-Cache: HIT");
    let (untold, _) = run(&[&server.address, "-n", "10", "-c", "1"]);
    assert_eq!(untold["classes"]["unclassified"]["requests"], 10);
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
            // As Forebay lists; other servers put a slash behind a directory's name.
            "/files/" => ok(
                "",
                br#"[{"name":"a b","type":"file","size":2,"href":"./a%20b"},
                    {"name":"d","type":"directory","size":0,"href":"./d/"},{"name":"e/"}]"#,
            ),
            "/files/d/" | "/files/e/" => ok("", br#"[{"name":"c","size":2}]"#),
            _ => ok("", b"xy"),
        })
    });
    let url = format!("http://{}/files/", server.address);
    let (_, status) = run(&[&url, "--listing", "--popularity", "sequential", "-n", "4", "-c", "1"]);
    assert_eq!(status, 0);
    let mut seen = server.seen();
    seen[..3].sort_unstable();
    assert_eq!(seen[..3], ["/files/", "/files/d/", "/files/e/"]);
    assert_eq!(seen[3..], ["/files/a%20b", "/files/d/c", "/files/e/c", "/files/a%20b"]);
}

/// Each directory holds a file and two directories, and no two listings are alike, so that only the bounds end the
/// walk.
#[test]
fn a_listing_without_end_is_given_up() {
    let server = Server::start(|path, number| {
        let one_more = format!(r#"[{{"name":"f{number}","size":1}},{{"name":"d","type":"directory"}}]"#);
        Reply::Send(if path.ends_with('/') { ok("", one_more.as_bytes()) } else { ok("", b"x") })
    });
    let output = loadgen(&["run", &server.address, "--listing", "-n", "1", "-c", "1"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("left out 1 directory that lies deeper than 40"), "{said}");
    assert_eq!(server.seen().iter().filter(|path| path.ends_with('/')).count(), 40);
}

#[test]
fn thresholds_decide_the_exit_status_and_stand_in_the_json() {
    let server = Server::start(|_, number| match number % 50 {
        0 => Reply::Send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec()),
        1 => Reply::Late(Duration::from_millis(20), ok("", b"x")),
        _ => Reply::Send(ok("", b"x")),
    });
    let judged = |more: &[&str]| {
        let (run, status) = run(&[&[server.address.as_str(), "-n", "100", "-c", "1"], more].concat());
        let broken = run["thresholds"].as_array().unwrap().iter().filter(|one| one["broken"] == true);
        let broken: Vec<String> = broken.map(|one| one["condition"].as_str().unwrap().to_owned()).collect();
        (status, broken)
    };
    assert_eq!(judged(&[]), (1, vec!["errors>1%".to_owned()]));
    assert_eq!(judged(&["--fail-on", "errors>2%"]), (0, vec![]));
    let late = ["--fail-on", "max>10ms", "--fail-on", "errors>50%"];
    assert_eq!(judged(&late), (1, vec!["max>10ms".to_owned()]));
    let output = loadgen(&["run", &server.address, "-n", "100", "-c", "1", "--fail-on", "errors>0.1%"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("a threshold is broken: errors>0.1%: 2.00 %"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("errors: 2 (2 status 503)"));
}
