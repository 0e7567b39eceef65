//! What a directory answers.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

use support::{Client, Server, request, until};

#[test]
fn a_directory_is_listed_in_the_format_that_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("dir/sub")).unwrap();
    fs::create_dir(root.path().join(".forebay")).unwrap();
    for (name, bytes) in [(&b"b <&>\"'.txt"[..], "12345"), (b"a\xff\n", "1"), (b".hidden", "")] {
        let path = root.path().join("dir").join(OsStr::from_bytes(name));
        fs::write(&path, bytes).unwrap();
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(UNIX_EPOCH + Duration::from_secs(86400))
            .unwrap();
    }
    symlink("/etc/passwd", root.path().join("dir/out")).unwrap();
    symlink(".hidden", root.path().join("dir/link")).unwrap();
    let server = Server::start(root.path(), &[]);

    let json = server.ask("GET /dir/\r\nAccept: application/json", b"").expect(200);
    assert_eq!(json.field("content-type"), Some("application/json"));
    assert_eq!(json.field("vary"), Some("Accept"));
    let entries = json.json();
    let names: Vec<&str> = entries.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a\u{fffd}\n", "b <&>\"'.txt", "link", "sub"]);
    assert_eq!(entries[1]["size"], 5);
    assert_eq!(entries[1]["mtime"], "1970-01-02T00:00:00Z");
    assert_eq!(entries[1]["type"], "file");
    assert_eq!(entries[3]["type"], "directory");
    // What a listing refers to is there.
    for entry in entries.as_array().unwrap() {
        let href = entry["href"].as_str().unwrap().strip_prefix("./").unwrap();
        server.get(&format!("/dir/{href}")).expect(200);
    }

    // Programs that say nothing of formats, or `*/*`, know links.
    for fields in ["", "\r\nAccept: */*"] {
        let any = server.ask(&format!("GET /dir/{fields}"), b"").expect(200);
        assert_eq!(any.field("content-type"), Some("text/html; charset=utf-8"), "{fields:?}");
    }
    let html = server.ask("GET /dir/\r\nAccept: text/html,*/*;q=0.8", b"").expect(200);
    assert_eq!(html.field("x-content-type-options"), Some("nosniff"));
    let policy = html.field("content-security-policy").unwrap();
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(html.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(
        html.text().contains("<a href=\"./b%20%3C%26%3E%22%27.txt\">b &lt;&amp;&gt;&quot;&#39;.txt</a>"),
        "{}",
        html.text()
    );
    let plain = server.ask("GET /dir/\r\nAccept: text/plain", b"").expect(200);
    assert_eq!(plain.field("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(plain.text().lines().nth(1).unwrap(), "1970-01-02T00:00:00Z              5 b <&>\"'.txt");
    server.ask("GET /dir/\r\nAccept: image/png", b"").expect(406);
    assert!(!server.get("/").text().contains(".forebay"), "reserved");

    let head = server.ask("HEAD /dir/\r\nAccept: application/json", b"").expect(200);
    assert_eq!((head.field("content-type"), head.body.len()), (Some("application/json"), 0));
}

#[test]
fn what_is_no_directory_is_not_listed() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("a b")).unwrap();
    fs::write(root.path().join("file"), "x").unwrap();
    symlink("/etc", root.path().join("etc")).unwrap();
    let server = Server::start(root.path(), &[]);
    for target in ["/file/", "/no/", "/etc/", "/a%20b/no/"] {
        server.get(target).expect(404);
    }
    for (target, location) in [("/a%20b", "/a%20b/"), ("/a%20b?x=1&y", "/a%20b/?x=1&y")] {
        let redirect = server.get(target).expect(301);
        assert_eq!(redirect.field("location"), Some(location));
    }
    server.ask("HEAD /a%20b", b"").expect(301);
    server.get("/a%20b/").expect(200);
    let refused = server.ask("POST /a%20b/", b"").expect(405);
    assert_eq!(refused.field("allow"), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn a_huge_directory_comes_whole_and_sorted() {
    let root = tempfile::tempdir().unwrap();
    const COUNT: usize = 20_000;
    for number in 0..COUNT {
        fs::write(root.path().join(format!("{number:06}")), "").unwrap();
    }
    let server = Server::start(root.path(), &[]);
    let listed = server.ask("GET /\r\nAccept: application/json", b"").expect(200);
    assert_eq!(listed.field("transfer-encoding"), Some("chunked"), "it is streamed");
    let entries = listed.json();
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), COUNT);
    assert!(entries.iter().enumerate().all(|(number, entry)| entry["name"] == format!("{number:06}")));
    // A client that leaves midway harms nobody.
    for _ in 0..10 {
        let mut client = server.connect();
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    let plain = server.ask("GET /\r\nAccept: text/plain", b"").expect(200);
    assert_eq!(plain.text().lines().count(), COUNT);
}

/// A directory of 50,000 files, the names of which are found in this order.
fn huge() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for number in 0..HUGE {
        fs::write(root.path().join(format!("{number:06}")), "").unwrap();
    }
    root
}

const HUGE: usize = 50_000;

#[test]
fn a_huge_directory_is_sent_before_it_is_looked_at_to_its_end() {
    let root = huge();
    let server = Server::start(root.path(), &[]);
    // The first reading, so that what it takes to list at all is there already.
    server.ask("GET /\r\nAccept: application/json", b"").expect(200);
    let before = server.memory("RssAnon");
    let mut clients: Vec<Client> = (0..20).map(|_| Client::narrow(server.address(), 4096)).collect();
    for client in &mut clients {
        client.send(request("GET", "/", &[]));
        assert_eq!(client.head().status, 200);
    }
    // All have begun, and wait for their clients. What goes now was not looked at yet.
    for number in HUGE - 1000..HUGE {
        fs::remove_file(root.path().join(format!("{number:06}"))).unwrap();
    }
    let names = 20 * HUGE as u64 * (6 + 8);
    let grown = server.memory("RssAnon").saturating_sub(before);
    assert!(grown < names + (20 << 20), "{grown} bytes for 20 listings, of which {names} for the names");
    let text = String::from_utf8(clients[0].chunked().unwrap()).unwrap();
    assert!(text.ends_with("</html>\n"));
    let names = text.split("href=\"./").skip(1).map(|rest| rest[..6].parse::<usize>().unwrap());
    let (gone, listed): (Vec<usize>, Vec<usize>) = names.partition(|&number| number >= HUGE - 1000);
    assert!(gone.is_empty(), "they were looked at before the page was sent: {gone:?}");
    assert_eq!(listed.len(), HUGE - 1000);
}

#[test]
fn people_see_directories_first_and_programs_the_order_of_names() {
    let root = tempfile::tempdir().unwrap();
    for dir in ["b", "z"] {
        fs::create_dir(root.path().join(dir)).unwrap();
    }
    for file in ["a", "c"] {
        fs::write(root.path().join(file), "").unwrap();
    }
    let server = Server::start(root.path(), &[]);
    let page = server.ask("GET /\r\nAccept: text/html", b"").text();
    let places: Vec<usize> = ["b/", "z/", "a", "c"].map(|name| page.find(&format!("\"./{name}\"")).unwrap()).into();
    assert!(places.is_sorted(), "{page}");
    let plain = server.ask("GET /\r\nAccept: text/plain", b"").text();
    let names: Vec<&str> = plain.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(names, ["a", "b/", "c", "z/"]);
}

#[test]
fn an_index_file_stands_for_its_directory() {
    let root = tempfile::tempdir().unwrap();
    let long = format!("{0}/{0}", "long".repeat(40));
    for dir in ["with", "without", "odd/index.html", &long] {
        fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    fs::write(root.path().join("with/index.html"), "<p>hello").unwrap();
    fs::write(root.path().join("with/index.html.br"), "in brotli").unwrap();
    fs::write(root.path().join("with/other.htm"), "other").unwrap();
    fs::write(root.path().join("index.html"), "<p>root").unwrap();
    fs::write(root.path().join(&long).join("index.html"), "<p>long").unwrap();
    let server = Server::start(root.path(), &[]);
    for (_, mut client) in server.planes() {
        for _ in 0..2 {
            let page = client.get("/with/").expect(200);
            assert_eq!(page.text(), "<p>hello");
            assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
            assert_eq!(page.field("vary"), Some("Accept, Accept-Encoding"));
        }
        let again = client.get("/with/").expect(200);
        assert!(again.is_hit(), "{}", again.cache_status());
        let etag = again.field("etag").unwrap();
        client.request("GET", "/with/", &[("If-None-Match", etag)]).expect(304);
        assert_eq!(client.request("GET", "/with/", &[("Accept-Encoding", "br")]).text(), "in brotli");
        assert_eq!(client.request("GET", "/with/", &[("Range", "bytes=3-4")]).expect(206).text(), "he");
        assert_eq!(client.request("HEAD", "/with/", &[]).expect(200).length(), 8);
        assert_eq!(
            (client.get("/").text(), client.get(&format!("/{long}/")).text()),
            ("<p>root".into(), "<p>long".into())
        );
        // One of the two connections, and the one that asks for the number.
        until("pages are the data plane's", || server.sample("forebay_control_connections") == 2);
        // Whoever takes no page is told what the directory holds.
        let json = client.request("GET", "/with/", &[("Accept", "application/json")]).expect(200);
        assert_eq!(json.json()[2]["name"], "other.htm");
    }
    assert!(server.ask("GET /without/\r\nAccept: text/plain", b"").expect(200).body.is_empty());
    assert!(server.get("/odd/").text().contains("index.html/"));
    assert!(server.get("/without/").text().contains("<table>"));
    assert_eq!(server.get("/nowhere/").expect(404).text(), "there is no such directory\n");
    // It may have another name, or none.
    let other = Server::start(root.path(), &["--index", "other.htm"]);
    assert_eq!(other.get("/with/").text(), "other");
    let none = Server::start(root.path(), &["--index", ""]);
    assert!(none.get("/with/").text().contains("./index.html\""));
    // It comes and goes within --revalidate.
    let server = Server::start(root.path(), &["--revalidate", "20ms"]);
    let mut client = server.connect();
    fs::write(root.path().join("without/index.html"), "<p>new").unwrap();
    until("it is served", || client.get("/without/").text() == "<p>new");
    fs::remove_file(root.path().join("without/index.html")).unwrap();
    until("the directory is listed again", || client.get("/without/").text().contains("<table>"));
}

#[test]
fn directories_need_not_be_listed() {
    let root = tempfile::tempdir().unwrap();
    for dir in ["with", "without"] {
        fs::create_dir(root.path().join(dir)).unwrap();
    }
    fs::write(root.path().join("with/index.html"), "<p>hello").unwrap();
    let server = Server::start(root.path(), &["--no-listing"]);
    // There is nothing but the page, whoever asks.
    for accept in ["*/*", "application/json"] {
        let page = server.connect().request("GET", "/with/", &[("Accept", accept)]).expect(200);
        assert_eq!((page.text().as_str(), page.field("vary")), ("<p>hello", Some("Accept-Encoding")));
    }
    for fields in ["", "\r\nAccept: application/json", "\r\nAccept: text/plain", "\r\nAccept: image/png"] {
        let refused = server.ask(&format!("GET /without/{fields}"), b"").expect(403);
        assert!(refused.text().contains("--no-listing"), "{}", refused.text());
    }
    for (target, status) in [("/nowhere/", 404), ("/with/index.html/", 404), ("/without", 301), ("/.git/", 404)] {
        server.get(target).expect(status);
    }
    let listed = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["list", &server.address().to_string(), "without/"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(listed.status.code() == Some(1) && said.contains("directories are not listed here"), "{said}");
}

/// However many names a directory has, listing it takes no more memory than listings may, and gives it back.
#[test]
fn a_directory_beyond_the_memory_for_listings_comes_unsorted() {
    const COUNT: usize = 140_000;
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("huge");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(root.path().join("file"), "").unwrap();
    // All names together are 35 MB.
    let name = |number: usize| format!("{number:0>250}");
    for number in 0..COUNT {
        std::os::unix::fs::symlink("../file", directory.join(name(number))).unwrap();
    }
    let server = Server::start(root.path(), &["--workers", "1", "--arena", "1MiB"]);
    let before = server.memory("RssAnon");
    let mut highest = before;
    for _ in 0..2 {
        let mut client = server.connect();
        client.send(support::request("GET", "/huge/", &[("Accept", "text/plain")]));
        let listing = std::thread::scope(|scope| {
            let listing = scope.spawn(|| client.response("GET").expect(200).text());
            while !listing.is_finished() {
                highest = highest.max(server.memory("RssAnon"));
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            listing.join().unwrap()
        });
        let mut names: Vec<&str> = listing.lines().map(|line| line.rsplit_once(' ').unwrap().1).collect();
        assert_eq!(names.len(), COUNT);
        names.sort_unstable();
        assert!(names.iter().enumerate().all(|(number, found)| **found == name(number)));
    }
    let (most, stays) = (highest - before, server.memory("RssAnon").saturating_sub(before));
    println!("{most} bytes at most, {stays} stay");
    assert!(most < 72 << 20, "{most} bytes: the names that fit, twice where they are moved");
    assert!(stays < 8 << 20, "{stays} bytes stay");
}
