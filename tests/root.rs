//! The root that is exchanged while it is served: a link that is switched, a tree that is renamed into its place, and
//! none.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use support::{Client, Server, until};

/// Two versions of a tree, and a link to the first.
fn releases(dir: &Path) -> std::path::PathBuf {
    for (version, text) in [("v1", "first"), ("v2", "second")] {
        fs::create_dir_all(dir.join(version).join("sub")).unwrap();
        fs::write(dir.join(version).join("a"), text).unwrap();
        fs::write(dir.join(version).join("sub/same"), "same").unwrap();
        fs::write(dir.join(version).join(format!("only-{version}")), text).unwrap();
    }
    symlink("v1", dir.join("current")).unwrap();
    dir.join("current")
}

fn switch(dir: &Path, version: &str) {
    symlink(version, dir.join("next")).unwrap();
    fs::rename(dir.join("next"), dir.join("current")).unwrap();
}

/// A connection of the control plane: a listing takes it there.
fn control(server: &Server) -> Client {
    let mut client = server.connect();
    client.request("HEAD", "/", &[]);
    client
}

#[test]
fn a_switched_link_is_served_and_nothing_of_the_earlier_root() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing that is cached is due within the hour, so that only the exchange of the root can be the reason to look.
    let server = Server::start(&releases(dir.path()), &["--revalidate", "1h"]);
    let mut data = server.connect();
    let mut control = control(&server);
    for _ in 0..2 {
        assert_eq!((data.get("/a").text(), control.get("/a").text()), ("first".into(), "first".into()));
        data.get("/only-v1");
        data.get("/sub/same");
    }
    assert!(data.get("/only-v1").is_hit());
    switch(dir.path(), "v2");
    until("the new root to be served", || data.get("/a").text() == "second");
    for client in [&mut data, &mut control] {
        assert_eq!(client.get("/a").text(), "second");
        assert_eq!(client.get("/only-v1").status, 404);
        assert_eq!(client.get("/only-v2").text(), "second");
    }
    let mut listing = server.connect();
    listing.send("GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert!(String::from_utf8_lossy(&listing.rest()).contains("only-v2"));
    assert!(server.connect().get("/a").is_hit());
}

#[test]
fn a_tree_renamed_into_the_place_of_the_root_is_served() {
    let dir = tempfile::tempdir().unwrap();
    releases(dir.path());
    let server = Server::start(&dir.path().join("v1"), &["--revalidate", "1h"]);
    assert_eq!(server.get("/a").text(), "first");
    fs::rename(dir.path().join("v1"), dir.path().join("old")).unwrap();
    fs::rename(dir.path().join("v2"), dir.path().join("v1")).unwrap();
    until("the new root to be served", || server.get("/a").text() == "second");
}

#[test]
fn with_no_interval_the_switch_holds_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&releases(dir.path()), &["--revalidate", "0"]);
    for (version, text) in [("v1", "first"), ("v2", "second"), ("v1", "first")] {
        switch(dir.path(), version);
        for _ in 0..2 {
            assert_eq!(server.get("/a").text(), text);
        }
        assert_eq!(control(&server).get("/a").text(), text);
    }
}

#[test]
fn an_absent_root_is_503_and_what_was_cached_is_served_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    releases(dir.path());
    let (root, aside) = (dir.path().join("v1"), dir.path().join("aside"));
    let server = Server::start(&root, &["--revalidate", "1h", "--allow-writes"]);
    server.get("/a");
    assert!(server.get("/a").is_hit());
    fs::rename(&root, &aside).unwrap();
    until("the root to be missed", || server.get("/a").status == 503);
    for place in [Server::connect, control] {
        for (method, target) in [("GET", "/a"), ("HEAD", "/a"), ("GET", "/sub/same"), ("HEAD", "/no"), ("GET", "/sub/")]
        {
            let refused = place(&server).request(method, target, &[]);
            assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")), "{method} {target}");
        }
        for method in ["PUT", "DELETE"] {
            let mut client = place(&server);
            client.send(format!("{method} /b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"));
            let refused = client.response(method);
            assert_eq!(
                (refused.status, refused.field("retry-after")),
                (503, Some("1")),
                "{method}: {}",
                refused.text()
            );
        }
    }
    assert_eq!(server.get("/.forebay/health").status, 200);
    assert!(server.stderr().contains("is gone"), "{}", server.stderr());
    fs::rename(&aside, &root).unwrap();
    until("the root to be found", || server.get("/a").status == 200);
    assert!(server.get("/a").is_hit(), "it was not read again");
}

#[test]
fn an_upload_to_the_earlier_root_fails_clearly_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&releases(dir.path()), &["--revalidate", "1h", "--allow-writes"]);
    let mut client = server.connect();
    client.send("PUT /new/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().status, 100);
    switch(dir.path(), "v2");
    // Whether or not the switch was noticed elsewhere: the upload looks itself.
    client.send("12345678");
    let refused = client.response("PUT");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("send the file again") && refused.field("retry-after").is_some());
    for version in ["v1", "v2"] {
        assert!(!dir.path().join(version).join("new").exists());
        let names = fs::read_dir(dir.path().join(version)).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.filter(|name| name.to_string_lossy().starts_with('.')).count(), 0);
    }
    let mut stored = server.connect();
    stored.send("PUT /new/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(stored.response("PUT").status, 201);
    assert_eq!(fs::read(dir.path().join("v2/new/b")).unwrap(), b"ok");
}
