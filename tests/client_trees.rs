//! `forebay fetch` of directories and patterns, from servers good and bad.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::upstream::{Ran, Reply, Request, Server, Then, etag, file, names, pattern, run};

/// A listing of these names; one that ends in a slash is a directory.
fn listing(names: &[&str]) -> Reply {
    let entries: Vec<serde_json::Value> = names
        .iter()
        .map(|name| match name.strip_suffix('/') {
            Some(directory) => serde_json::json!({ "name": directory, "type": "directory" }),
            None => serde_json::json!({ "name": name, "type": "file", "size": 1, "mtime": 1 }),
        })
        .collect();
    Reply::json(&serde_json::Value::from(entries).to_string())
}

/// A server of files whose bytes are their targets, with the listings of their directories; `alter` may spoil a reply.
fn tree(files: &[&str], alter: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
    let mut directories: BTreeMap<String, Vec<String>> = BTreeMap::from([("/".to_owned(), Vec::new())]);
    for file in files {
        let parts: Vec<&str> = file.split('/').collect();
        for depth in 0..parts.len() {
            let directory = format!("/{}", parts[..depth].iter().map(|part| format!("{part}/")).collect::<String>());
            let slash = if depth + 1 < parts.len() { "/" } else { "" };
            let names = directories.entry(directory).or_default();
            let name = format!("{}{slash}", parts[depth]);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let files: HashSet<String> = files.iter().map(|file| format!("/{file}")).collect();
    Server::start(move |request| {
        let reply = match directories.get(&request.target) {
            Some(names) => listing(&names.iter().map(String::as_str).collect::<Vec<_>>()),
            None if files.contains(&request.target) => file(request, request.target.as_bytes()),
            None => Reply::text("404 Not Found", "no such file\n"),
        };
        alter(request, reply)
    })
}

/// Fetches into a directory.
fn fetch(server: &Server, out: &Path, args: &[&str]) -> Ran {
    let addr = server.addr();
    run(&[&["fetch", &addr, "--output", out.to_str().unwrap()], args].concat())
}

/// What there is beneath a directory, with the files' bytes.
fn contents(root: &Path) -> Vec<String> {
    let files = support::tree(root).into_iter().filter(|name| root.join(name).is_file());
    files.map(|name| name.to_str().unwrap().to_owned()).collect()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort();
    lines
}

const FILES: &[&str] = &["a.txt", "b.bin", "docs/c.txt", "docs/d.bin", "docs/old/e.txt", "img/f.txt"];

#[test]
fn a_directory_comes_with_all_that_is_in_it() {
    let server = tree(FILES, |_, reply| reply);
    for name in ["docs", "docs/", "/docs//"] {
        let out = tempfile::tempdir().unwrap();
        let ran = fetch(&server, out.path(), &["-r", name]);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        assert_eq!(contents(out.path()), ["docs/c.txt", "docs/d.bin", "docs/old/e.txt"]);
        assert_eq!(std::fs::read(out.path().join("docs/old/e.txt")).unwrap(), b"/docs/old/e.txt");
        let expected = ["fetched docs/c.txt (11 B)", "fetched docs/d.bin (11 B)", "fetched docs/old/e.txt (15 B)"];
        assert_eq!(sorted(&ran.stdout), expected);
        assert!(ran.stderr.starts_with("forebay: 3 files: 3 fetched (37 B), in "), "{}", ran.stderr);
    }
    let out = tempfile::tempdir().unwrap();
    let ran = fetch(&server, out.path(), &["--recursive", "/", "docs", "a.txt"]);
    assert_eq!((ran.status, contents(out.path())), (0, FILES.iter().map(|name| (*name).to_owned()).collect()));
    assert_eq!(ran.stdout.lines().count(), FILES.len(), "what is asked for twice comes once");
    // A file is a file, also when directories are welcome.
    let out = tempfile::tempdir().unwrap();
    let ran = fetch(&server, out.path(), &["-r", "docs/c.txt", "img"]);
    assert_eq!((ran.status, contents(out.path())), (0, vec!["docs/c.txt".to_owned(), "img/f.txt".to_owned()]));
}

#[test]
fn a_directory_needs_a_word() {
    let server = tree(FILES, |request, reply| match request.target.as_str() {
        "/docs" => Reply::new("301 Moved Permanently", &[("Location", "/docs/")], b""),
        _ => reply,
    });
    let out = tempfile::tempdir().unwrap();
    let ran = fetch(&server, out.path(), &["docs", "a.txt"]);
    assert_eq!((ran.status, contents(out.path())), (1, vec!["a.txt".to_owned()]));
    assert_eq!(ran.stderr, "forebay: fetch: docs: it is a directory; add --recursive to fetch all that is in it\n");
    for name in ["docs/", "/", "*/"] {
        let ran = fetch(&server, out.path(), &[name]);
        assert_eq!((ran.status, ran.stderr.contains("--recursive")), (2, true), "{name}: {}", ran.stderr);
    }
    let ran = fetch(&server, out.path(), &["-r", "missing", "no/"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, ""));
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(lines[0], "forebay: fetch: no/: not found on the server (404): no such file");
    assert_eq!(lines[1], "forebay: fetch: missing: not found on the server (404): no such file");
    assert!(lines[2].starts_with("forebay: 2 files: 2 failed, in "), "{lines:?}");
}

#[test]
fn patterns_stand_for_what_the_server_lists() {
    let server = tree(FILES, |_, reply| reply);
    for (patterns, expected, asked) in [
        (&["*.txt"][..], &["a.txt"][..], &["/"][..]),
        (
            &["**/*.txt"],
            &["a.txt", "docs/c.txt", "docs/old/e.txt", "img/f.txt"],
            &["/", "/docs/", "/docs/old/", "/img/"],
        ),
        (&["docs/*"], &["docs/c.txt", "docs/d.bin"], &["/docs/"]),
        (&["docs/**"], &["docs/c.txt", "docs/d.bin", "docs/old/e.txt"], &["/docs/", "/docs/old/"]),
        (&["d*/?.txt"], &["docs/c.txt"], &["/", "/docs/"]),
        (&["{a,b}.*", "img/[!x].txt"], &["a.txt", "b.bin", "img/f.txt"], &["/", "/img/"]),
        (&["-r", "d*"], &["docs/c.txt", "docs/d.bin", "docs/old/e.txt"], &["/", "/docs/", "/docs/old/"]),
    ] {
        let out = tempfile::tempdir().unwrap();
        let before = server.requests().len();
        let ran = fetch(&server, out.path(), patterns);
        assert_eq!((ran.status, contents(out.path())), (0, expected.iter().map(|n| (*n).to_owned()).collect()));
        let listed: Vec<String> = server.requests()[before..]
            .iter()
            .map(|request| request.target.clone())
            .filter(|target| target.ends_with('/'))
            .collect();
        assert_eq!(listed, asked, "{patterns:?}");
    }
    let out = tempfile::tempdir().unwrap();
    let ran = fetch(&server, out.path(), &["*.iso", "a.txt"]);
    assert_eq!((ran.status, contents(out.path())), (1, vec!["a.txt".to_owned()]));
    let expected = "forebay: fetch: *.iso: not found on the server (404): no such file; \
                    and no name that the server lists matches it";
    assert!(ran.stderr.starts_with(expected), "{}", ran.stderr);
}

#[test]
fn a_name_that_looks_like_a_pattern_is_still_a_name() {
    let server = Server::start(|request| match request.target.as_str() {
        "/" => listing(&["a1", "a[12]", "a2", "ab"]),
        "/a%5B12%5D" | "/a%3F" | "/hidden/x%2A" => file(request, b"!"),
        "/hidden/" => Reply::text("403 Forbidden", "listings are off\n"),
        _ => Reply::text("404 Not Found", "no such file\n"),
    });
    let out = tempfile::tempdir().unwrap();
    let ran = fetch(&server, out.path(), &["a[12]"]);
    assert_eq!((ran.status, contents(out.path())), (0, vec!["a[12]".to_owned()]));
    // One that is listed nowhere, and one whose directory is not listed.
    for (name, status) in [("hidden/x*", 0), ("a?c*", 1), ("hidden/y*", 1)] {
        let ran = fetch(&server, out.path(), &[name]);
        assert_eq!(ran.status, status, "{name}: {}", ran.stderr);
        if name == "hidden/y*" {
            let words =
                "and its directory cannot be listed: the server does not list this directory (403): listings are off";
            assert!(ran.stderr.contains(words), "{}", ran.stderr);
        }
    }
    assert_eq!(std::fs::read(out.path().join("hidden/x*")).unwrap(), b"!");
}

#[test]
fn a_server_that_does_not_list_says_so_and_files_are_fetched_still() {
    for (status, expected) in [
        ("403 Forbidden", "the server does not list this directory (403): listings are off"),
        ("404 Not Found", "the server does not list this directory (404): listings are off"),
    ] {
        let server = tree(FILES, move |request, reply| match request.target.ends_with('/') {
            true => Reply::text(status, "listings are off\n"),
            false => reply,
        });
        let out = tempfile::tempdir().unwrap();
        let ran = fetch(&server, out.path(), &["-r", "/", "a.txt"]);
        assert_eq!((ran.status, contents(out.path())), (1, vec!["a.txt".to_owned()]), "{}", ran.stderr);
        assert!(ran.stderr.starts_with(&format!("forebay: fetch: /: {expected}\n")), "{}", ran.stderr);
        let ran = run(&["list", &server.addr()]);
        assert_eq!((ran.status, ran.stderr), (1, format!("forebay: list: {expected}\n")));
    }
}

#[test]
fn connections_are_bounded_and_a_busy_server_is_asked_again() {
    let files: Vec<String> = (0..40).map(|number| format!("d/{number}")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let asked = AtomicUsize::new(0);
    let server =
        tree(&files, move |request, reply| match request.target == "/d/" && asked.fetch_add(1, Ordering::SeqCst) < 2 {
            true => Reply::text("503 Service Unavailable", "busy\n"),
            false => reply,
        });
    let out = tempfile::tempdir().unwrap();
    let ran = fetch(&server, out.path(), &["-r", "d", "--jobs", "3"]);
    assert_eq!((ran.status, contents(out.path()).len()), (0, 40), "{}", ran.stderr);
    let connections: HashSet<usize> = server.requests().iter().map(|request| request.connection).collect();
    assert!(connections.len() <= 1 + 3, "one lists, three fetch: {connections:?}");
}

#[test]
fn what_is_the_same_is_not_sent_again() {
    let server = Server::start(|request| file(request, b"first"));
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("f");
    let has_attributes = {
        std::fs::write(&path, "").unwrap();
        rustix::fs::setxattr(&path, "user.test", b"x", rustix::fs::XattrFlags::empty()).is_ok()
    };
    std::fs::remove_file(&path).unwrap();
    assert_eq!(fetch(&server, out.path(), &["f"]).stdout, "fetched f (5 B)\n");
    assert_eq!(fetch(&server, out.path(), &["f"]).stdout, "unchanged f (5 B)\n");
    let condition = server.requests()[1].field("if-none-match").map(str::to_owned);
    assert_eq!(condition, has_attributes.then(|| etag(b"first")));
    // A copy, with its time but without what was kept beside it, is known by size and time.
    let modified = path.metadata().unwrap().modified().unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "12345").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(fetch(&server, out.path(), &["f"]).stdout, "unchanged f (5 B)\n");
    assert_eq!(std::fs::read(&path).unwrap(), b"12345");
    // What was touched here is replaced, however alike.
    std::fs::write(&path, "abcde").unwrap();
    assert_eq!(fetch(&server, out.path(), &["f"]).stdout, "fetched f (5 B)\n");
    assert_eq!(std::fs::read(&path).unwrap(), b"first");
    assert_eq!(names(out.path()), ["f"]);
    // A link is no file of ours.
    std::fs::rename(&path, out.path().join("g")).unwrap();
    symlink("g", &path).unwrap();
    assert_eq!(fetch(&server, out.path(), &["f"]).stdout, "fetched f (5 B)\n");
    assert!(!path.is_symlink());
}

#[test]
fn a_change_of_the_same_size_and_second_is_seen_by_the_entity_tag() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => file(request, b"one"),
        _ => file(request, b"two"),
    });
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("f");
    std::fs::write(&path, "").unwrap();
    if rustix::fs::setxattr(&path, "user.test", b"x", rustix::fs::XattrFlags::empty()).is_err() {
        eprintln!("skipped: the file system has no extended attributes");
        return;
    }
    assert_eq!(fetch(&server, out.path(), &["f"]).stdout, "fetched f (3 B)\n");
    assert_eq!(fetch(&server, out.path(), &["f"]).stdout, "fetched f (3 B)\n");
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
}

#[test]
fn a_304_about_something_else_is_not_believed() {
    let server = Server::start(|request| match request.field("if-none-match") {
        Some(_) => Reply::new("304 Not Modified", &[("ETag", "\"other\"")], b""),
        None => file(request, b"bytes"),
    });
    let out = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let ran = fetch(&server, out.path(), &["f"]);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
        assert_eq!(std::fs::read(out.path().join("f")).unwrap(), b"bytes");
    }
    assert_eq!(names(out.path()), ["f"]);
}

#[test]
fn no_clobber_leaves_alone_what_is_there() {
    let server = tree(FILES, |_, reply| reply);
    let out = tempfile::tempdir().unwrap();
    std::fs::write(out.path().join("a.txt"), "mine").unwrap();
    std::fs::create_dir(out.path().join("docs")).unwrap();
    symlink("nowhere", out.path().join("docs/c.txt")).unwrap();
    let ran = fetch(&server, out.path(), &["--no-clobber", "a.txt", "docs/c.txt", "b.bin"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let expected = ["fetched b.bin (6 B)", "kept a.txt (it is here already)", "kept docs/c.txt (it is here already)"];
    assert_eq!(sorted(&ran.stdout), expected);
    assert_eq!(std::fs::read(out.path().join("a.txt")).unwrap(), b"mine");
    assert!(out.path().join("docs/c.txt").is_symlink());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn no_clobber_holds_for_what_appears_meanwhile() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("f");
    let server = Server::start(move |request| {
        std::fs::write(&path, "mine").unwrap();
        file(request, b"theirs")
    });
    let ran = fetch(&server, out.path(), &["--no-clobber", "f"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "kept f (it is here already)\n"));
    assert_eq!(std::fs::read(out.path().join("f")).unwrap(), b"mine");
    assert_eq!(names(out.path()), ["f"]);
}

#[test]
fn no_listed_name_leaves_the_output_directory() {
    let hrefs = ["../x", "./../x", "/etc/x", "a%2F..%2F..%2Fx", "%2e%2e", "./", "http://h/x", "x%00y", "./a/b"];
    let names_only = ["../x", "..", ".", "", "/etc/x", "a/b", "a\0b"];
    let entries: Vec<serde_json::Value> = (hrefs.iter())
        .map(|href| serde_json::json!({ "name": "x", "type": "file", "href": href }))
        .chain(names_only.iter().map(|name| serde_json::json!({ "name": name, "type": "file" })))
        .chain(names_only.iter().map(|name| serde_json::json!({ "name": name, "type": "directory" })))
        .chain([serde_json::json!({ "name": "good", "type": "file" })])
        .collect();
    let body = serde_json::Value::from(entries).to_string();
    let server = Server::start(move |request| match request.target.as_str() {
        "/" => Reply::json(&body),
        _ => file(request, b"evil"),
    });
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let ran = fetch(&server, &out, &["-r", "/"]);
    assert_eq!((ran.status, contents(parent.path())), (1, vec!["out/good".to_owned()]));
    assert_eq!(ran.stdout, "fetched good (4 B)\n");
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    let expected = "forebay: fetch: /: lists 23 names that are not in it, such as \"../x\"; they are skipped\n";
    assert!(ran.stderr.starts_with(expected), "{}", ran.stderr);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn links_in_the_output_directory_are_not_followed_for_listed_names() {
    let server = tree(&["d/e/f", "d/g", "h"], |_, reply| reply);
    let parent = tempfile::tempdir().unwrap();
    let (out, elsewhere) = (parent.path().join("out"), parent.path().join("elsewhere"));
    std::fs::create_dir_all(out.join("d")).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("victim"), "untouched").unwrap();
    symlink(&elsewhere, out.join("d/e")).unwrap();
    symlink(elsewhere.join("victim"), out.join("h")).unwrap();
    let ran = fetch(&server, &out, &["-r", "/"]);
    assert_eq!((ran.status, names(&elsewhere)), (1, vec!["victim".to_owned()]));
    assert_eq!(std::fs::read(elsewhere.join("victim")).unwrap(), b"untouched");
    assert!(
        ran.stderr.contains("d/e/f: ") && ran.stderr.contains("is a link, which is not followed"),
        "{}",
        ran.stderr
    );
    // A link in place of a file is replaced; the output directory itself may well be one.
    assert_eq!(std::fs::read(out.join("h")).unwrap(), b"/h");
    assert_eq!(std::fs::read(out.join("d/g")).unwrap(), b"/d/g");
    let link = parent.path().join("link");
    symlink(&elsewhere, &link).unwrap();
    assert_eq!(fetch(&server, &link, &["-r", "d"]).status, 0);
    assert!(elsewhere.join("d/e/f").exists());
}

#[test]
fn names_that_clash_fail_alone() {
    let server = Server::start(|request| match request.target.as_str() {
        "/" => listing(&["a", "a/", "b", ".c.forebay-part", &"n".repeat(300), "dir/"]),
        "/a/" => listing(&["inner"]),
        "/dir/" => listing(&["x"]),
        _ => file(request, b"bytes"),
    });
    let out = tempfile::tempdir().unwrap();
    std::fs::write(out.path().join("dir"), "a file in the way").unwrap();
    std::fs::create_dir(out.path().join("b")).unwrap();
    let ran = fetch(&server, out.path(), &["-r", "/", "--jobs", "1"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "fetched a (5 B)\n"));
    // b is a directory here, a is a file now, one name is the client's own, one too long; dir is a file.
    assert_eq!(ran.stderr.lines().count(), 5 + 1, "{}", ran.stderr);
    assert_eq!(std::fs::read(out.path().join("dir")).unwrap(), b"a file in the way");
    assert_eq!(names(out.path()), ["a", "b", "dir"]);
}

#[test]
fn circles_of_directories_come_to_an_end() {
    // The same in every directory: what a link to its own directory looks like.
    let server = Server::start(|request| match request.target.ends_with('/') {
        true => listing(&["file", "loop/", "other/"]),
        false => file(request, b"bytes"),
    });
    let out = tempfile::tempdir().unwrap();
    let ran = fetch(&server, out.path(), &["-r", "/"]);
    assert_eq!((ran.status, contents(out.path())), (1, vec!["file".to_owned()]), "{}", ran.stderr);
    assert!(ran.stderr.contains("loop/: it lists the same as a directory that it is in"), "{}", ran.stderr);
    assert_eq!(server.requests().len(), 1 + 2 + 1);

    // Only directories, without end, each with another name.
    let server = Server::start(|request| match request.target.ends_with('/') {
        true => listing(&[&format!("d{}/", request.target.len()), "x"]),
        false => file(request, b"bytes"),
    });
    let ran = fetch(&server, out.path(), &["**/nothing"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("more than 128 parts"), "{}", ran.stderr);
    assert!(server.requests().len() < 140);

    // Only directories, the same two in each: as many as a tree of equal directories may have.
    let server = Server::start(|_| listing(&["a/", "b/"]));
    let ran = fetch(&server, out.path(), &["-r", "/"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("in a circle"), "{}", ran.stderr);
    assert!(server.requests().len() < 2000, "{}", server.requests().len());
}

#[test]
fn control_characters_in_names_reach_files_but_no_terminal() {
    let name = "a\u{1b}[2J\u{9b}31m\u{202e}\nb";
    let server = Server::start(move |request| match request.target.as_str() {
        "/" => listing(&[name, "\u{1b}]0;x\u{7}/"]),
        target if target.ends_with('/') => Reply::text("500 Oh", "\u{1b}[2J"),
        _ => file(request, b"bytes"),
    });
    let out = tempfile::tempdir().unwrap();
    let ran = fetch(&server, out.path(), &["-r", "/"]);
    assert_eq!((ran.status, names(out.path())), (1, vec![name.to_owned()]));
    for text in [&ran.stdout, &ran.stderr] {
        assert!(!text.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text:?}");
    }
    assert_eq!((ran.stdout.lines().count(), ran.stderr.lines().count()), (1, 2), "{}", ran.stderr);
}

#[test]
fn a_million_names_are_no_burden() {
    let mut body = String::with_capacity(80 << 20);
    for number in 0..1_000_000 {
        let comma = if number == 0 { "[" } else { "," };
        body.push_str(&format!("{comma}{{\"name\":\"file-{number:07}\",\"type\":\"file\",\"size\":1,\"mtime\":1}}"));
    }
    body.push(']');
    let server = Server::start(move |request| match request.target.as_str() {
        "/many/" => Reply::json(&body),
        _ => file(request, b"bytes"),
    });
    let out = tempfile::tempdir().unwrap();
    let ran = fetch(&server, out.path(), &["many/file-077777[3-5]"]);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert_eq!(contents(out.path()), ["many/file-0777773", "many/file-0777774", "many/file-0777775"]);
}

/// Answers one request with a listing that goes on as long as somebody reads it.
fn endless(mut piece: impl FnMut(u64) -> Vec<u8> + Send + 'static) -> String {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[");
        for number in 0.. {
            if sent.is_err() {
                return;
            }
            sent = stream.write_all(&piece(number));
        }
    });
    address
}

#[test]
fn an_endless_listing_is_given_up_before_it_fills_the_memory() {
    // Names as long as names may be, so that the bound is soon reached.
    let address = endless(|number| format!("{{\"name\":\"{number:04000}\",\"type\":\"file\"}},").into_bytes());
    let out = tempfile::tempdir().unwrap();
    let ran = run(&["fetch", &address, "-r", "/", "--output", out.path().to_str().unwrap()]);
    assert_eq!((ran.status, names(out.path())), (1, vec![]));
    assert!(ran.stderr.contains("more names than 256.00 MiB can hold"), "{}", ran.stderr);
}

#[test]
fn a_listing_that_drips_is_given_up_too() {
    // Never silent for the client's time limit, and without end.
    let address = endless(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        b" ".to_vec()
    });
    let ran = run(&["list", &address, "--timeout", "300ms"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, ""));
    assert_eq!(ran.stderr, "forebay: list: the server's listing has no end within 3s\n");
}

#[test]
fn a_listing_that_is_not_what_it_says_is_no_listing() {
    for (body, expected) in [
        ("[{\"name\":\"a\",\"type\":\"file\"}", "it breaks off"),
        ("[{\"name\":\"a\",\"type\":\"file\"}] more", "no list of objects"),
        ("[{\"name\":7,\"type\":\"file\"}]", "invalid type"),
        ("{\"name\":\"a\"}", "no list of objects"),
        ("", "it breaks off"),
    ] {
        let server = Server::start(move |_| Reply::json(body));
        let out = tempfile::tempdir().unwrap();
        let ran = fetch(&server, out.path(), &["-r", "/"]);
        assert_eq!((ran.status, ran.stdout.as_str(), names(out.path())), (1, "", vec![]), "{body}");
        assert!(ran.stderr.contains("cannot be understood") && ran.stderr.contains(expected), "{}", ran.stderr);
    }
    // Shorter than announced, longer than announced, and one entry that has no end.
    let short = |_: &Request| Reply::json(&format!("[{{\"name\":\"{}\"}}]", "a".repeat(100))).cut(50);
    let server = Server::start(short);
    let out = tempfile::tempdir().unwrap();
    let ran = fetch(&server, out.path(), &["-r", "/"]);
    assert_eq!((ran.status, ran.stderr.contains("broke")), (1, true), "{}", ran.stderr);
    assert_eq!(server.requests().len(), 4, "it is asked again, but not without end");
    let server = Server::start(|request| match request.target.as_str() {
        "/" => {
            let mut reply = listing(&["f"]);
            reply.bytes.extend_from_slice(b"[{\"name\":\"../g\"}]");
            reply
        }
        _ => file(request, b"bytes"),
    });
    let ran = fetch(&server, out.path(), &["-r", "/"]);
    assert_eq!((ran.status, names(out.path())), (0, vec!["f".to_owned()]), "{}", ran.stderr);
    let server = Server::start(|_| Reply::json(&format!("[{{\"name\":\"{}", "a".repeat(1 << 20))));
    let ran = fetch(&server, out.path(), &["-r", "/"]);
    assert!(ran.status == 1 && ran.stderr.contains("one of its entries is longer than 64.00 KiB"), "{}", ran.stderr);
}

#[test]
fn a_file_whose_tag_changes_between_ranges_is_never_a_mixture() {
    let turn = AtomicUsize::new(0);
    let (old, new) = (pattern(50_000), pattern(60_000));
    let (first, second) = (old.clone(), new.clone());
    let server = Server::start(move |request| match (turn.fetch_add(1, Ordering::SeqCst), request.field("range")) {
        (0, _) => file(request, &first).cut(20_000),
        // A server that heeds no If-Range: the rest of another version, under its own tag.
        (1, Some(_)) => {
            let fields = [("ETag", etag(&second)), ("Content-Range", format!("bytes 20000-{}/60000", 59_999))];
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Reply::new("206 Partial Content", &fields, &second[20_000..]).then(Then::KeepAlive)
        }
        _ => file(request, &second),
    });
    let out = tempfile::tempdir().unwrap();
    let ran = fetch(&server, out.path(), &["f"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert!(std::fs::read(out.path().join("f")).unwrap() == new && old != new);
}

#[test]
fn nobody_there_is_one_line_for_a_tree_too() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ran = run(&["fetch", &format!("127.0.0.1:{port}"), "-r", "/", "a", "b"]);
    assert_eq!((ran.status, ran.stderr.lines().count()), (1, 2), "{}", ran.stderr);
    assert!(ran.stderr.starts_with(&format!("forebay: fetch: cannot connect to 127.0.0.1:{port}")), "{}", ran.stderr);
}
