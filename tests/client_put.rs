//! `forebay put` against a server that follows a script.

mod support;

use std::sync::Mutex;

use support::upstream::{Reply, Server, Then, forebay, pattern, ran, run, run_with_input};

/// Stores what is put, answers 201 for a new name and 204 for a known one, and verifies lengths itself.
fn store() -> Server {
    let known = Mutex::new(std::collections::HashSet::new());
    Server::start(move |request| {
        assert_eq!(request.method, "PUT");
        if request.field("expect").is_some() && request.body.is_empty() {
            return Reply::new("200 OK", &[], b""); // asked before the body: go on
        }
        match known.lock().unwrap().insert(request.target.clone()) {
            true => Reply::text("201 Created", "created\n"),
            false => Reply::new("204 No Content", &[], b""),
        }
    })
}

#[test]
fn files_arrive_with_length_and_digest() {
    let server = store();
    let dir = tempfile::tempdir().unwrap();
    let (small, large) = (dir.path().join("abc"), dir.path().join("large file"));
    std::fs::write(&small, "abc").unwrap();
    let bytes = pattern(3_000_000);
    std::fs::write(&large, &bytes).unwrap();
    let ran = run(&["put", &server.addr(), small.to_str().unwrap(), large.to_str().unwrap(), small.to_str().unwrap()]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout, "created abc (3 B)\ncreated large file (2.86 MiB)\nreplaced abc (3 B)\n");
    let requests = server.requests();
    assert_eq!((requests[0].target.as_str(), requests[0].body.as_slice()), ("/abc", &b"abc"[..]));
    // The digest of "abc": FIPS 180-4's own example.
    let digest = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";
    assert_eq!(requests[0].field("content-digest"), Some(digest));
    assert_eq!(requests[0].field("content-length"), Some("3"));
    assert_eq!(requests[0].field("expect"), None);
    assert_eq!((requests[1].target.as_str(), requests[1].body == bytes), ("/large%20file", true));
    assert_eq!(requests[1].field("expect"), Some("100-continue"));
    assert!(requests.iter().all(|request| request.connection == 0), "one connection for all");
}

#[test]
fn an_empty_file_is_a_file() {
    let server = store();
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let ran = run(&["put", &server.addr(), empty.to_str().unwrap()]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "created empty (0 B)\n"));
    assert_eq!(server.requests()[0].field("content-length"), Some("0"));
}

#[test]
fn names_can_be_given() {
    let server = store();
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    std::fs::write(&a, "a").unwrap();
    std::fs::write(&b, "b").unwrap();
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    assert_eq!(run(&["put", &server.addr(), a, "--as", "x/y.txt"]).stdout, "created x/y.txt (1 B)\n");
    assert_eq!(run(&["put", &server.addr(), a, b, "--as", "d/"]).stdout, "created d/a (1 B)\ncreated d/b (1 B)\n");
    for wrong in [&["put", &server.addr(), a, b, "--as", "d"][..], &["put", &server.addr(), a, "--as", "../d"]] {
        assert_eq!(run(wrong).status, 2, "{wrong:?}");
    }
}

#[test]
fn a_directory_goes_whole_when_asked_to() {
    let server = store();
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("sub")).unwrap();
    std::fs::write(tree.join("sub/a b"), "1").unwrap();
    std::fs::write(tree.join(".hidden"), "2").unwrap();
    let tree = tree.to_str().unwrap();
    let refused = run(&["put", &server.addr(), tree]);
    assert_eq!((refused.status, server.requests().len()), (1, 0));
    assert!(refused.stderr.contains("add --recursive"), "{}", refused.stderr);
    let ran = run(&["put", &server.addr(), tree, "--recursive"]);
    assert_eq!(ran.status, 0);
    assert!(ran.stderr.starts_with("forebay: 2 files: 2 created (2 B), in "), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stdout, "created tree/.hidden (1 B)\ncreated tree/sub/a b (1 B)\n");
    assert_eq!(server.requests()[1].target, "/tree/sub/a%20b");
}

#[test]
fn jobs_are_as_many_connections_as_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<String> =
        (0..12).map(|number| dir.path().join(format!("f{number}")).to_str().unwrap().to_owned()).collect();
    for file in &files {
        std::fs::write(file, "x").unwrap();
    }
    // Nobody is answered before three are there.
    let all = std::sync::Barrier::new(3);
    let server = Server::start(move |_| {
        all.wait();
        Reply::text("201 Created", "")
    });
    let address = server.addr();
    let mut args = vec!["put", &address, "--jobs", "3"];
    args.extend(files.iter().map(String::as_str));
    let ran = run(&args);
    assert_eq!((ran.status, ran.stderr.as_str(), ran.stdout.lines().count()), (0, "", 12));
    let connections: std::collections::HashSet<usize> = server.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections.len(), 3);
    assert_eq!(run(&["put", &server.addr(), &files[0], "--jobs", "0"]).status, 2);
}

#[test]
fn two_files_of_one_name_do_not_replace_each_other() {
    let server = store();
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("x"), name).unwrap();
    }
    let mut command = forebay(&["put", &server.addr(), "a/x", "b/x", "a/x", "--jobs", "1"]);
    let ran = ran(command.current_dir(&dir).output().unwrap());
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "created x (1 B)\nreplaced x (1 B)\n"));
    assert_eq!(ran.stderr, "forebay: put: x: b/x would replace a/x; not put\n");
    assert!(server.requests().iter().all(|request| request.body == b"a"));
}

#[test]
fn what_fails_in_a_tree_is_counted_and_the_rest_goes_on() {
    let server = Server::start(|request| match request.target.as_str() {
        "/tree/no" => Reply::text("507 Insufficient Storage", "the disk is full\n"),
        _ => Reply::text("201 Created", ""),
    });
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    for name in ["no", "yes"] {
        std::fs::write(tree.join(name), "1").unwrap();
    }
    std::os::unix::fs::symlink("nowhere", tree.join("dangling")).unwrap();
    let ran = run(&["put", &server.addr(), "-r", tree.to_str().unwrap()]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "created tree/yes (1 B)\n"));
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(lines[0].contains("dangling: No such file"), "{lines:?}");
    assert!(lines[1].ends_with("tree/no: the server answered 507 Insufficient Storage: the disk is full"), "{lines:?}");
    assert!(lines[2].starts_with("forebay: 3 files: 1 created (1 B), 2 failed, in "), "{lines:?}");
}

#[test]
fn standard_input_is_streamed_with_its_digest_at_the_end() {
    let server = store();
    let bytes = pattern(1_500_000);
    let ran = run_with_input(forebay(&["put", &server.addr(), "-", "--as", "piped"]), &bytes);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout, "created piped (1.43 MiB)\n");
    let request = &server.requests()[0];
    assert_eq!((request.field("transfer-encoding"), request.body == bytes), (Some("chunked"), true));
    let digest = request.trailers.get("content-digest").map(String::as_str);
    assert_eq!(digest, Some("sha-256=:bnyL2DRFK0HUSRBJPOi6554jRfBAx4vpi1oPvXw03Hk=:"));

    let unnamed = run_with_input(forebay(&["put", &server.addr(), "-"]), b"x");
    assert_eq!((unnamed.status, server.requests().len()), (2, 1));
    assert!(unnamed.stderr.contains("--as NAME"), "{}", unnamed.stderr);
}

#[test]
fn a_refusal_is_quoted_before_the_bytes_are_sent_and_the_rest_goes_on() {
    let server = Server::start(|request| match request.target.as_str() {
        "/large" => Reply::text("413 Content Too Large", "at most 1 MiB may be uploaded\n").then(Then::Close),
        "/small" => Reply::text("403 Forbidden", "writes are off: start the server with --allow-writes\n"),
        _ => Reply::text("201 Created", ""),
    });
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("large"), pattern(8_000_000)).unwrap();
    std::fs::write(path("small"), "s").unwrap();
    std::fs::write(path("fine"), "f").unwrap();
    let ran = run(&["put", &server.addr(), &path("large"), &path("missing"), &path("small"), &path("fine")]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "created fine (1 B)\n"));
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert!(lines[0].contains("missing: No such file"), "{lines:?}");
    assert_eq!(
        lines[1..],
        [
            "forebay: put: large: the server answered 413 Payload Too Large: at most 1 MiB may be uploaded",
            "forebay: put: small: the server answered 403 Forbidden: writes are off: start the server with --allow-writes",
        ]
    );
    let refused = &server.requests()[0];
    assert_eq!((refused.target.as_str(), refused.body.len()), ("/large", 0));
}

#[test]
fn a_server_that_knows_no_100_continue_gets_the_bytes_anyway() {
    use std::io::{BufRead, BufReader, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        let mut body = vec![0; 2_000_000];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").unwrap();
        body
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    let bytes = pattern(2_000_000);
    std::fs::write(&file, &bytes).unwrap();
    let ran = run(&["put", &address, file.to_str().unwrap()]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "created f (1.91 MiB)\n"));
    assert!(server.join().unwrap() == bytes);
}

#[test]
fn the_token_comes_from_a_file_or_the_environment() {
    let server = Server::start(|request| match request.field("authorization") {
        Some("Bearer sesame") => Reply::text("201 Created", ""),
        _ => Reply::text("401 Unauthorized", "a bearer token is needed\n"),
    });
    let dir = tempfile::tempdir().unwrap();
    let (file, token) = (dir.path().join("f"), dir.path().join("token"));
    std::fs::write(&file, "x").unwrap();
    std::fs::write(&token, "sesame\n").unwrap();
    let args = ["put", &server.addr(), file.to_str().unwrap()];
    let refused = run(&args);
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("--token-file") && refused.stderr.contains("a bearer token is needed"));
    assert_eq!(run(&[&args[..], &["--token-file", token.to_str().unwrap()]].concat()).status, 0);
    assert_eq!(ran(forebay(&args).env("FOREBAY_TOKEN", "sesame").output().unwrap()).status, 0);
    std::fs::write(&token, "\n").unwrap();
    let empty = run(&[&args[..], &["--token-file", token.to_str().unwrap()]].concat());
    assert_eq!((empty.status, empty.stderr.contains("is empty")), (1, true));
}

#[test]
fn an_answer_before_the_whole_file_is_no_success() {
    use std::io::{BufRead, BufReader, Write};
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    std::fs::write(&file, pattern(3_000_000)).unwrap();
    for status in ["200 OK", "201 Created", "204 No Content"] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
        });
        let ran = run(&["put", &address, file.to_str().unwrap()]);
        assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{status}");
        assert!(ran.stderr.contains("before it had the whole file"), "{}", ran.stderr);
        server.join().unwrap();
    }
}
