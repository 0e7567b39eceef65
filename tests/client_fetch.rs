//! `forebay fetch` against a server that follows a script: whole files, or clear failures and a partial file that is
//! resumed.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use support::upstream::{LAST_MODIFIED_SECONDS, Reply, Server, Then, etag, file, forebay, names, pattern, ran, run};

#[test]
fn files_arrive_whole_with_their_time_and_directories() {
    let (a, b) = (pattern(3_000_000), pattern(10));
    let server = Server::files(&[("a.bin", &a), ("sub/deep/b%20c.txt", &b), ("empty", b"")], |_, reply| reply);
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().to_str().unwrap();
    let ran = run(&["fetch", &server.addr(), "a.bin", "/sub//deep/b c.txt", "empty", "--output", dir]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(std::fs::read(out.path().join("a.bin")).unwrap(), a);
    assert_eq!(std::fs::read(out.path().join("sub/deep/b c.txt")).unwrap(), b);
    assert_eq!(std::fs::read(out.path().join("empty")).unwrap(), b"");
    assert_eq!(names(out.path()), ["a.bin", "empty", "sub"]);
    let modified = out.path().join("a.bin").metadata().unwrap().modified().unwrap();
    assert_eq!(modified, UNIX_EPOCH + Duration::from_secs(LAST_MODIFIED_SECONDS));
    let mut lines: Vec<_> = ran.stdout.lines().collect();
    lines.sort();
    assert_eq!(lines, ["fetched a.bin (2.86 MiB)", "fetched empty (0 B)", "fetched sub/deep/b c.txt (10 B)"]);
}

#[test]
fn a_missing_file_is_named_and_the_others_are_fetched() {
    let server = Server::files(&[("there", b"bytes")], |_, reply| reply);
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().to_str().unwrap();
    let ran = run(&["fetch", &server.addr(), "missing/deep", "there", "--output", dir, "--jobs", "1"]);
    assert_eq!(ran.status, 1);
    assert_eq!(ran.stderr, "forebay: fetch: missing/deep: not found on the server (404): no such file\n");
    assert_eq!(ran.stdout, "fetched there (5 B)\n");
    assert_eq!(names(out.path()), ["there"], "nothing is left of what is missing");
    // One connection served both: an error does not cost the next request its connection.
    assert!(server.requests().iter().all(|request| request.connection == 0));
}

#[test]
fn a_body_that_breaks_is_continued_in_the_same_run() {
    let bytes = pattern(1_000_000);
    let server = Server::files(&[("f", &bytes)], |request, reply| match request.field("range") {
        None => reply.cut(300_000),
        Some("bytes=300000-") => reply.cut(1),
        Some(_) => reply,
    });
    let out = tempfile::tempdir().unwrap();
    let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(std::fs::read(out.path().join("f")).unwrap(), bytes);
    assert_eq!(names(out.path()), ["f"]);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[1..].iter().all(|request| request.field("if-range") == Some(&etag(&bytes))));
}

#[test]
fn a_transfer_that_cannot_go_on_fails_and_a_later_one_resumes_it() {
    let bytes = pattern(500_000);
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().to_str().unwrap();
    let port = {
        let server = Server::files(&[("f", &bytes)], |request, reply| match request.field("range") {
            None => reply.cut(123_456),
            Some(_) => reply.cut(0),
        });
        let ran = run(&["fetch", &server.addr(), "f", "--output", dir]);
        assert_eq!((ran.status, ran.stdout.as_str()), (1, ""));
        assert!(ran.stderr.starts_with("forebay: fetch: f: the connection to "), "{}", ran.stderr);
        assert_eq!(names(out.path()), [".f.forebay-etag", ".f.forebay-part"]);
        assert_eq!(std::fs::read(out.path().join(".f.forebay-part")).unwrap(), bytes[..123_456]);
        server.address.port()
    };
    // The same URL again, from a server that works: the record names the URL, so it must be the same port.
    let record = out.path().join(".f.forebay-etag");
    let server = Server::files(&[("f", &bytes)], |_, reply| reply);
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace(&format!(":{port}/"), &format!(":{}/", server.address.port()))).unwrap();
    let ran = run(&["fetch", &server.addr(), "f", "--output", dir]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout, "fetched f (488.28 KiB, resumed at 120.56 KiB)\n");
    assert_eq!(server.requests()[0].field("range"), Some("bytes=123456-"));
    assert_eq!(std::fs::read(out.path().join("f")).unwrap(), bytes);
    assert_eq!(names(out.path()), ["f"]);
}

/// Leaves `bytes` as what an earlier transfer of `/f` with this entity tag brought.
fn leave_partial(dir: &std::path::Path, server: &Server, etag: &str, bytes: &[u8], size: usize) {
    let url = format!("http://{}/f", server.addr());
    let record = serde_json::json!({ "url": url, "etag": etag, "size": size });
    std::fs::write(dir.join(".f.forebay-etag"), record.to_string()).unwrap();
    std::fs::write(dir.join(".f.forebay-part"), bytes).unwrap();
}

#[test]
fn a_file_that_changed_meanwhile_starts_over() {
    let new = pattern(100_000);
    let server = Server::files(&[("f", &new)], |_, reply| reply);
    let out = tempfile::tempdir().unwrap();
    leave_partial(out.path(), &server, "\"old\"", &[0xff; 70_000], 90_000);
    let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "fetched f (97.66 KiB)\n"));
    assert_eq!(server.requests()[0].field("if-range"), Some("\"old\""));
    assert_eq!(std::fs::read(out.path().join("f")).unwrap(), new);
    assert_eq!(names(out.path()), ["f"]);
}

#[test]
fn bytes_that_are_all_there_are_only_confirmed() {
    let bytes = pattern(100_000);
    let server = Server::files(&[("f", &bytes)], |_, reply| reply);
    let out = tempfile::tempdir().unwrap();
    leave_partial(out.path(), &server, &etag(&bytes), &bytes, bytes.len());
    let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(server.requests().len(), 1);
    assert_eq!(std::fs::read(out.path().join("f")).unwrap(), bytes);
    assert_eq!(names(out.path()), ["f"]);
}

#[test]
fn more_bytes_than_the_file_has_are_thrown_away() {
    let bytes = pattern(1000);
    let server = Server::files(&[("f", &bytes)], |_, reply| reply);
    let out = tempfile::tempdir().unwrap();
    leave_partial(out.path(), &server, &etag(&bytes), &[7; 2000], 3000);
    let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "after a 416");
    assert_eq!(std::fs::read(out.path().join("f")).unwrap(), bytes);
}

#[test]
fn a_range_that_was_not_asked_for_is_not_believed() {
    let bytes = pattern(1000);
    let whole = bytes.clone();
    let server = Server::start(move |request| match request.field("range") {
        // Another part than asked for, in all three ways to be wrong.
        Some(_) => {
            let fields = [("ETag", etag(&whole)), ("Content-Range", "bytes 400-999/1000".to_owned())];
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Reply::new("206 Partial Content", &fields, &whole[400..])
        }
        None => file(request, &whole),
    });
    let out = tempfile::tempdir().unwrap();
    leave_partial(out.path(), &server, &etag(&bytes), &bytes[..300], 1000);
    let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(std::fs::read(out.path().join("f")).unwrap(), bytes);
}

#[test]
fn no_name_leaves_the_output_directory() {
    let server = Server::start(|_| Reply::new("200 OK", &[], b"evil"));
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let dir = out.to_str().unwrap();
    for name in ["../escaped", "a/../../escaped", "..", "a/.."] {
        let ran = run(&["fetch", &server.addr(), name, "--output", dir]);
        assert_eq!(ran.status, 2, "{name}");
        assert!(ran.stderr.contains(".."), "{}", ran.stderr);
    }
    assert!(server.requests().is_empty());
    let absolute = parent.path().join("escaped");
    let ran = run(&["fetch", &server.addr(), absolute.to_str().unwrap(), "--output", dir]);
    assert_eq!((ran.status, names(parent.path())), (0, vec!["out".to_owned()]));
    assert!(out.join(absolute.strip_prefix("/").unwrap()).exists(), "an absolute name starts at the server's root");
}

#[test]
fn names_travel_as_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let server = Server::start(|request| Reply::new("200 OK", &[], request.target.as_bytes()));
    let out = tempfile::tempdir().unwrap();
    let name = OsStr::from_bytes(b"caf\xe9 %2e?#.txt");
    let output =
        forebay(&["fetch", &server.addr(), "--output", out.path().to_str().unwrap()]).arg(name).output().unwrap();
    assert_eq!(ran(output).stdout, "fetched caf\\xe9 %2e?#.txt (25 B)\n");
    assert_eq!(std::fs::read(out.path().join(name)).unwrap(), b"/caf%E9%20%252e%3F%23.txt");
}

#[test]
fn a_length_that_cannot_be_known_is_an_error() {
    let server =
        Server::start(|_| Reply::raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome bytes").then(Then::Close));
    let out = tempfile::tempdir().unwrap();
    let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
    assert_eq!((ran.status, names(out.path())), (1, vec![]));
    assert_eq!(ran.stderr, "forebay: fetch: f: the server did not say how long it is\n");
}

#[test]
fn a_chunked_body_is_whole_at_its_last_chunk_only() {
    let whole = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n";
    let end = "0\r\n\r\n";
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let is_cut = request.target == "/cut" || asked.fetch_add(1, Ordering::SeqCst) == 0;
        let bytes = if is_cut { whole.to_owned() } else { format!("{whole}{end}") };
        Reply::raw(bytes).then(Then::Close)
    });
    let out = tempfile::tempdir().unwrap();
    let ran = run(&["fetch", &server.addr(), "f", "cut", "--output", out.path().to_str().unwrap()]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "fetched f (4 B)\n"));
    assert!(ran.stderr.starts_with("forebay: fetch: cut: the connection to"), "{}", ran.stderr);
    assert_eq!(names(out.path()), ["f"], "bytes without a version are of no use later");
}

#[test]
fn a_silent_server_is_given_up() {
    let server = Server::files(&[("f", &pattern(1000))], |_, mut reply| {
        reply.bytes.truncate(reply.bytes.len() - 500);
        reply.then(Then::Stall)
    });
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().to_str().unwrap();
    let ran = run(&["fetch", &server.addr(), "f", "--output", dir, "--timeout", "200ms"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("was silent for 200ms"), "{}", ran.stderr);
}

#[test]
fn nobody_there_is_one_clear_line() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ran = run(&["fetch", &format!("127.0.0.1:{port}"), "a", "b", "--jobs", "1"]);
    assert_eq!(ran.status, 1);
    let expected = format!("forebay: fetch: a: cannot connect to 127.0.0.1:{port}: Connection refused");
    assert!(ran.stderr.starts_with(&expected), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("forebay: fetch: 1 more not tried\n"), "{}", ran.stderr);
    let ran = run(&["fetch", "unix:/nonexistent/socket", "a"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("cannot connect to unix:/nonexistent/socket: No such file"), "{}", ran.stderr);
}

#[test]
fn a_closed_idle_connection_is_replaced_without_a_word() {
    let server = Server::files(&[("a", b"1"), ("b", b"2"), ("c", b"3")], |_, reply| reply.then(Then::Close));
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().to_str().unwrap();
    let ran = run(&["fetch", &server.addr(), "a", "b", "c", "--output", dir, "--jobs", "1"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(names(out.path()), ["a", "b", "c"]);
}

#[test]
fn jobs_run_at_the_same_time() {
    // No reply is given before all four have asked.
    let all = std::sync::Barrier::new(4);
    let server = Server::start(move |_| {
        all.wait();
        Reply::new("200 OK", &[], b"together")
    });
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().to_str().unwrap();
    let ran = run(&["fetch", &server.addr(), "a", "b", "c", "d", "a", "--output", dir, "--jobs", "4"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "and a name given twice is fetched once");
    assert_eq!(names(out.path()), ["a", "b", "c", "d"]);
}

#[test]
fn a_busy_server_is_asked_again() {
    let asked = AtomicUsize::new(0);
    let server = Server::files(&[("f", b"bytes")], move |_, reply| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::text("503 Service Unavailable", "too many connections").then(Then::Close),
        _ => reply,
    });
    let out = tempfile::tempdir().unwrap();
    let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}

#[test]
fn a_servers_words_cannot_control_the_terminal() {
    let server = Server::start(|_| Reply::text("500 Internal Server Error", "\u{1b}]0;owned\u{7}\u{1b}[2J"));
    let out = tempfile::tempdir().unwrap();
    let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
    assert_eq!(ran.status, 1);
    assert!(!ran.stderr.trim_end().chars().any(char::is_control), "{:?}", ran.stderr);
    assert!(ran.stderr.contains("500 Internal Server Error"), "{}", ran.stderr);
}

#[test]
fn a_redirect_is_told_not_followed() {
    let server = Server::start(|_| Reply::new("302 Found", &[("Location", "http://elsewhere/f")], b""));
    let out = tempfile::tempdir().unwrap();
    let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
    assert_eq!((ran.status, names(out.path())), (1, vec![]));
    assert!(ran.stderr.contains("redirects to http://elsewhere/f"), "{}", ran.stderr);
}

#[test]
fn wrong_usage_is_exit_status_2() {
    for args in
        [&["fetch"][..], &["fetch", "127.0.0.1:1"], &["fetch", "nowhere", "f"], &["fetch", "a:1", "f", "--jobs", "0"]]
    {
        assert_eq!(run(args).status, 2, "{args:?}");
    }
}

#[test]
fn the_token_is_shown() {
    let server = Server::start(|request| match request.field("authorization") {
        Some("Bearer sesame") => Reply::new("200 OK", &[], b"in"),
        _ => Reply::text("401 Unauthorized", "a bearer token is needed"),
    });
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().to_str().unwrap();
    let token = out.path().join("token");
    std::fs::write(&token, "\n sesame \n").unwrap();
    let ran = run(&["fetch", &server.addr(), "f", "--output", dir]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("--token-file"), "{}", ran.stderr);
    assert_eq!(
        run(&["fetch", &server.addr(), "f", "--output", dir, "--token-file", token.to_str().unwrap()]).status,
        0
    );
    let output = forebay(&["fetch", &server.addr(), "f", "--output", dir]).env("FOREBAY_TOKEN", "sesame").output();
    assert_eq!(ran_status(output), 0);
}

fn ran_status(output: std::io::Result<std::process::Output>) -> i32 {
    ran(output.unwrap()).status
}

#[test]
fn a_304_confirms_only_what_was_asked_about() {
    let bytes = pattern(1000);
    let other = etag(b"other");
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().to_str().unwrap();
    // To a request for the rest, which has no condition that a 304 could answer.
    let server = Server::start(|_| Reply::new("304 Not Modified", &[], b""));
    leave_partial(out.path(), &server, &etag(&bytes), &bytes[..300], 1000);
    let ran = run(&["fetch", &server.addr(), "f", "--output", dir]);
    assert_eq!((ran.status, names(out.path())), (1, vec![]), "{}", ran.stderr);
    assert!(ran.stderr.contains("304 to a request without a condition"), "{}", ran.stderr);
    // To the right question, but about another version.
    let whole = bytes.clone();
    let server = Server::start(move |request| match request.field("if-none-match") {
        Some(_) => Reply::new("304 Not Modified", &[("ETag", &other)], b""),
        None => file(request, &whole),
    });
    leave_partial(out.path(), &server, &etag(&bytes), &[7; 1000], 1000);
    let ran = run(&["fetch", &server.addr(), "f", "--output", dir]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(std::fs::read(out.path().join("f")).unwrap(), bytes);
}

#[test]
fn a_416_for_ever_comes_to_an_end() {
    let bytes = pattern(1000);
    let server = Server::files(&[("f", &bytes)], |request, reply| match request.field("range") {
        Some(_) => Reply::new("416 Range Not Satisfiable", &[("Content-Range", "bytes */7")], b""),
        None => reply.cut(400),
    });
    let out = tempfile::tempdir().unwrap();
    let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("begun anew"), "{}", ran.stderr);
    assert!(!out.path().join("f").exists());
}

#[test]
fn a_version_that_changes_at_every_answer_comes_to_an_end() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let turn = asked.fetch_add(1, Ordering::SeqCst);
        let body = pattern(1000 + turn);
        Reply::new("200 OK", &[("ETag", &etag(&body))], &body).cut(100 + turn)
    });
    let out = tempfile::tempdir().unwrap();
    let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
    assert_eq!(ran.status, 1);
    assert!(server.requests().len() < 20 && !out.path().join("f").exists());
}

/// A reply whose body comes in one chunk, and ends if `is_whole`.
fn chunked(status: &str, fields: &[(&str, &str)], body: &[u8], is_whole: bool) -> Reply {
    let mut head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let size = format!("\r\n{:x}\r\n", body.len());
    let end: &[u8] = if is_whole { b"\r\n0\r\n\r\n" } else { b"\r\n" };
    let then = if is_whole { Then::KeepAlive } else { Then::Close };
    Reply::raw([head.as_bytes(), size.as_bytes(), body, end].concat()).then(then)
}

#[test]
fn more_than_was_announced_is_not_written() {
    let bytes = pattern(1000);
    let tag = etag(&bytes);
    let server = Server::start(move |_| {
        let fields = [("ETag", tag.as_str()), ("Content-Range", "bytes 300-999/1000")];
        chunked("206 Partial Content", &fields, &pattern(5_000_000), true)
    });
    let out = tempfile::tempdir().unwrap();
    leave_partial(out.path(), &server, &etag(&bytes), &bytes[..300], 1000);
    let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
    assert_eq!((ran.status, names(out.path())), (1, vec![]), "nothing of it is kept");
    assert!(ran.stderr.contains("more bytes than it announced"), "{}", ran.stderr);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_body_without_a_length_is_resumed() {
    let bytes = pattern(100_000);
    for cut in [1, 40_000, 100_000] {
        let whole = bytes.clone();
        let server = Server::start(move |request| {
            let tag = etag(&whole);
            match request.field("range").map(|range| range["bytes=".len()..range.len() - 1].parse::<usize>().unwrap()) {
                None if request.field("if-none-match").is_some() => file(request, &whole),
                None => chunked("200 OK", &[("ETag", &tag)], &whole[..cut], false),
                Some(first) if first == whole.len() => file(request, &whole),
                Some(first) => {
                    let range = format!("bytes {first}-{}/{}", whole.len() - 1, whole.len());
                    chunked("206 Partial Content", &[("ETag", &tag), ("Content-Range", &range)], &whole[first..], true)
                }
            }
        });
        let out = tempfile::tempdir().unwrap();
        let ran = run(&["fetch", &server.addr(), "f", "--output", out.path().to_str().unwrap()]);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "cut at {cut}");
        assert!(std::fs::read(out.path().join("f")).unwrap() == bytes, "cut at {cut}");
        assert_eq!(names(out.path()), ["f"]);
        assert!(server.requests().len() <= 3, "{:?}", server.requests());
    }
}

#[test]
fn an_error_that_drips_is_not_waited_for() {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let head = "HTTP/1.1 500 Oh\r\nContent-Type: text/plain\r\nContent-Length: 900\r\n\r\nwords";
        // For as long as somebody reads: never silent for the client's time limit, and far longer than it in all.
        let mut sent = stream.write_all(head.as_bytes());
        while sent.is_ok() {
            std::thread::sleep(Duration::from_millis(100));
            sent = stream.write_all(b".");
        }
    });
    let out = tempfile::tempdir().unwrap();
    let begun = std::time::Instant::now();
    let ran = run(&["fetch", &address, "f", "--output", out.path().to_str().unwrap(), "--timeout", "1s"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("500 Internal Server Error: words"), "{}", ran.stderr);
    assert!(begun.elapsed() < Duration::from_secs(60), "all the words take 90 s");
}

#[test]
fn what_cannot_be_written_leaves_nothing_broken_in_place() {
    let bytes = pattern(1000);
    let server = Server::files(&[("a", &bytes), ("a/b", &bytes), ("d", &bytes)], |_, reply| reply);
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().to_str().unwrap();
    std::fs::create_dir(out.path().join("d")).unwrap();
    let ran = run(&["fetch", &server.addr(), "a", "a/b", "d", "--output", dir, "--jobs", "1"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "fetched a (1000 B)\n"));
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    assert_eq!(names(out.path()), ["a", "d"]);
    let ran = run(&["fetch", &server.addr(), "a", "--output", "/dev/null"]);
    assert_eq!((ran.status, ran.stderr.lines().count()), (1, 1), "{}", ran.stderr);
}
