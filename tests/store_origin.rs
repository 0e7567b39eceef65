//! A server in front of an object store, as its clients see it.

mod support;

use support::stores::{self, Backing};
use support::upstream::{forebay, run, run_with_input};
use support::{Server, assert_same, bytes, target};

/// What a server in front of any of the stores must do.
fn serves(backing: &Backing) {
    let writer = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = stores::open(backing);
    let put = |name: &str, content: &[u8]| {
        let stored = writer.block_on(stores::put(&store, &target(name), &[], content));
        assert!(matches!(stored.status, 201 | 204), "{stored:?}");
    };
    let small = bytes(1, 100_000);
    put("docs/a b.txt", &small);
    put("docs/sub/deep.txt", b"deep");
    let server = stores::serve(backing, &["--revalidate", "1h"]);
    for status in ["fwd=uri-miss; fwd-status=200; stored", "hit"] {
        let found = server.get("/docs/a%20b.txt").expect(200);
        assert_same(&found.body, &small, "the object");
        assert!(found.cache_status().contains(status), "{found:?}");
        assert_eq!(found.field("content-type"), Some("text/plain; charset=utf-8"));
    }
    server.get("/docs/none").expect(404);

    // What is stale is compared, and replaced when it has changed.
    let server = stores::serve(backing, &["--revalidate", "0"]);
    server.get("/docs/a%20b.txt").expect(200);
    let validated = server.get("/docs/a%20b.txt").expect(200);
    assert!(validated.cache_status().contains("fwd=stale; fwd-status=304"), "{validated:?}");
    put("docs/a b.txt", b"new");
    assert_eq!(server.get("/docs/a%20b.txt").expect(200).body, b"new");
    lists(&server);
    slices(&server, &put);
}

fn lists(server: &Server) {
    let address = server.address().to_string();
    let listed = server.connect().request("GET", "/docs/", &[("Accept", "application/json")]).expect(200).json();
    let listed: Vec<_> =
        listed.as_array().unwrap().iter().map(|one| (&one["name"], &one["type"], &one["size"])).collect();
    assert_eq!(
        format!("{listed:?}"),
        r#"[(String("a b.txt"), String("file"), Number(3)), (String("sub"), String("directory"), Number(0))]"#
    );
    let page = server.connect().request("GET", "/", &[("Accept", "text/html")]).expect(200).text();
    assert!(page.contains("<a href=\"./docs/\">docs/</a>") && !page.contains("a b.txt"), "{page}");
    let plain = server.connect().request("GET", "/docs/", &[("Accept", "text/plain")]).expect(200).text();
    assert!(plain.contains(" 3 a b.txt\n") && plain.contains("- sub/\n"), "{plain}");
    server.get("/nothing/here/").expect(404);
    let ran = run(&["list", &address, "docs/"]);
    assert!(ran.status == 0 && ran.stdout.contains("a b.txt") && ran.stdout.contains("sub/"), "{ran:?}");
}

/// What stands for a directory, and what its name without a slash leads to.
fn directories(backing: &Backing) {
    let server = stores::serve(backing, &["--allow-writes", "--revalidate", "1h"]);
    server.put("/site/index.html", b"<p>home").expect(201);
    server.put("/site/deep/page.html", b"<p>deep").expect(201);
    let page = [("Accept", "text/html")];
    for (plane, mut client) in server.planes() {
        for _ in 0..2 {
            let home = client.request("GET", "/site/", &page).expect(200);
            assert_eq!(home.text(), "<p>home", "{plane}");
            assert_eq!(home.field("content-type"), Some("text/html; charset=utf-8"), "{plane}");
            assert_eq!(home.field("vary"), Some("Accept"), "{plane}");
        }
        let status = client.request("GET", "/site/", &page).cache_status().to_owned();
        assert!(status.starts_with("forebay; hit;"), "{plane}: {status}");
        assert_eq!(client.request("HEAD", "/site/", &page).expect(200).length(), 7, "{plane}");
        let listing = client.request("GET", "/site/", &[("Accept", "application/json")]).expect(200).json();
        assert_eq!((&listing[0]["name"], &listing[1]["name"]), (&"deep".into(), &"index.html".into()), "{plane}");
        let listing = client.request("GET", "/site/deep/", &page).expect(200).text();
        assert!(listing.contains("page.html"), "{plane}: {listing}");
        for (target, to) in [("/site", "/site/"), ("/site/deep?a=%20b", "/site/deep/?a=%20b"), ("/si%74e", "/site/")] {
            for method in ["GET", "HEAD"] {
                let moved = client.request(method, target, &[]).expect(308);
                assert_eq!(moved.field("location"), Some(to), "{plane}: {method} {target}");
            }
        }
        for missing in ["/sit", "/site/index.htm", "/site/none/", "/site/page.html/"] {
            client.get(missing).expect(404);
        }
    }
    // The page goes when its object does, and the redirect when there is an object of the name.
    server.delete("/site/index.html").expect(204);
    assert!(server.connect().request("GET", "/site/", &page).expect(200).text().contains("deep/"));
    let without = stores::serve(backing, &["--index", ""]);
    server.put("/site/index.html", b"<p>home").expect(201);
    assert!(without.connect().request("GET", "/site/", &page).expect(200).text().contains("index.html"));
}

/// The client, by whatever stands behind the server.
fn is_used_by_the_client(backing: &Backing) {
    let server = stores::serve(backing, &["--allow-writes", "--revalidate", "1h"]);
    is_used(&server);
}

fn is_used(server: &Server) {
    let dir = tempfile::tempdir().unwrap();
    let address = server.address().to_string();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir_all(path("up/sub dir")).unwrap();
    std::fs::write(path("up/one.txt"), "one").unwrap();
    std::fs::write(path("up/sub dir/two.txt"), "two").unwrap();
    let done = |args: &[&str]| {
        let ran = run(args);
        assert_eq!(ran.status, 0, "{args:?}: {ran:?}");
        ran.stdout
    };
    done(&["put", "-r", &address, &path("up"), "--as", "client"]);
    assert_eq!(done(&["list", &address, "client/", "--names"]), "client/one.txt\nclient/sub dir/\n");
    done(&["fetch", "-r", &address, "client/", "-o", &path("down")]);
    assert_eq!(std::fs::read(path("down/client/sub dir/two.txt")).unwrap(), b"two");
    assert_eq!(done(&["fetch", &address, "client/*.txt", "-o", "-"]), "one");
    let mut shell = forebay(&["shell", &address, "-o", &path("shell")]);
    shell.current_dir(dir.path());
    let session = "cd client\nls\nget one.txt\nput up/one.txt three.txt\nrm one.txt\nls\nquit\n";
    let ran = run_with_input(shell, session.as_bytes());
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stdout.contains("one.txt") && ran.stdout.contains("three.txt"), "{ran:?}");
    assert_eq!(std::fs::read(path("shell/one.txt")).unwrap(), b"one");
    done(&["delete", &address, "client/three.txt"]);
    let gone = run(&["delete", &address, "client/three.txt"]);
    assert_eq!(gone.status, 1, "{gone:?}");
    assert_eq!(done(&["list", &address, "client/", "--names"]), "client/sub dir/\n");
}

#[test]
fn a_server_behind_is_used_by_the_client() {
    let root = tempfile::tempdir().unwrap();
    let origin = Server::start(root.path(), &["--allow-writes"]);
    let url = format!("http://{}", origin.address());
    is_used(&Server::start(std::path::Path::new(&url), &[]));
}

#[test]
fn keys_that_are_no_paths_are_left_out_of_listings() {
    let Some(backing) = stores::moto() else { return };
    let server = stores::serve(&backing, &["--allow-writes"]);
    server.put("/odd/plain.txt", b"x").expect(201);
    for key in ["odd//empty", "odd/sub//deep", "/leading", "odd/./dot", "odd/mark/"] {
        let request = format!("PUT /{}/some/prefix/{key} HTTP/1.1\r\nHost: localhost\r\n", stores::BUCKET);
        let stored = stores::raw(&backing.endpoint, &format!("{request}Content-Length: 1\r\n\r\nx"));
        assert!(stored.starts_with("HTTP/1.1 200"), "{key}: {stored}");
    }
    let names = |target: &str| {
        let listing = server.connect().request("GET", target, &[("Accept", "application/json")]).expect(200).json();
        let entries = listing.as_array().unwrap().iter();
        entries.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let odd = names("/odd/");
    assert!(["mark", "plain.txt", "sub"].iter().all(|name| odd.iter().any(|found| found == name)), "{odd:?}");
    assert!(odd.iter().all(|name| !name.is_empty() && name != "."), "{odd:?}");
    assert!(names("/").contains(&"odd".to_owned()));
}

/// Objects that are too large to be cached as a whole.
fn slices(server: &Server, put: &dyn Fn(&str, &[u8])) {
    let large = bytes(2, 20 << 20);
    put("large", &large);
    let part = server.connect().request("GET", "/large", &[("Range", "bytes=10000000-10000099")]).expect(206);
    assert_same(&part.body, &large[10_000_000..10_000_100], "the part");
    let bytes_of = |name| server.sample(name);
    assert!(bytes_of("forebay_arena_live_bytes") < 3 << 20, "one slice of it is cached");
    assert_same(&server.get("/large").expect(200).body, &large, "all of it");
    let other = bytes(3, 20 << 20);
    put("large", &other);
    assert_same(&server.get("/large").expect(200).body, &other, "the new one");
}

#[test]
fn moto_is_served() {
    let Some(backing) = stores::moto() else { return };
    serves(&backing);
    directories(&backing);
    is_used_by_the_client(&backing);
}

#[test]
fn a_store_that_ignores_conditions_is_served() {
    let Some(backing) = stores::rclone() else { return };
    serves(&backing);
    directories(&backing);
    is_used_by_the_client(&backing);
}

/// What is written through the server.
fn is_written(backing: &Backing) {
    let server = stores::serve(backing, &["--allow-writes", "--revalidate", "1h"]);
    let large = bytes(4, 20 << 20);
    for (target, body) in [("/new/a%20b.txt", &b"text"[..]), ("/new/large", &large)] {
        let created = server.put(target, body).expect(201);
        let found = server.get(target).expect(200);
        assert_same(&found.body, body, target);
        // (rclone tells the tag of what came in parts, and later that of the file.)
        assert!(found.field("etag") == created.field("etag") || body.len() > 8 << 20, "{created:?}");
        // What was cached goes with the write, however its name is written.
        server.put(&target.replace("a", "%61"), b"replaced").expect(204);
        assert_eq!(server.get(target).expect(200).body, b"replaced");
        server.connect().ask(&format!("PUT {target}\r\nIf-None-Match: *"), b"x").expect(412);
        assert_eq!(server.get(target).expect(200).body, b"replaced");
        server.delete(target).expect(204);
        server.get(target).expect(404);
    }
    let digest = "Content-Digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
    server.connect().ask(&format!("PUT /digest\r\n{digest}"), b"other").expect(400);
    server.get("/digest").expect(404);
    server.connect().ask(&format!("PUT /digest\r\n{digest}"), b"").expect(201);
    server.put("/dir/", b"x").expect(409);
    server.connect().ask("POST /digest", b"x").expect(405);
    let address = server.address().to_string();
    let ran = run(&["put", &address, file!(), "--as", "put/source.rs"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_same(&server.get("/put/source.rs").expect(200).body, include_bytes!("store_origin.rs"), "this file");
    // Nobody may who was not let.
    let server = stores::serve(backing, &[]);
    server.put("/put/other", b"x").expect(405);
    server.delete("/put/source.rs").expect(405);
}

#[test]
fn moto_is_written_to() {
    let Some(backing) = stores::moto() else { return };
    is_written(&backing);
}

#[test]
fn a_store_that_ignores_conditions_is_written_to() {
    let Some(backing) = stores::rclone() else { return };
    is_written(&backing);
}
