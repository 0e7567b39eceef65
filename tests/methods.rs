//! OPTIONS, and methods that a target does not have.

mod support;

use std::fs;

use support::Server;

const READS: &str = "GET, HEAD, OPTIONS";
const WRITES: &str = "GET, HEAD, PUT, DELETE, OPTIONS";

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("dir/.git")).unwrap();
    fs::create_dir(root.path().join("page")).unwrap();
    for name in ["a.txt", ".hidden", "page/index.html"] {
        fs::write(root.path().join(name), "text").unwrap();
    }
    root
}

#[test]
fn each_target_says_which_methods_it_has() {
    let root = root();
    let (reading, writing) = (Server::start(root.path(), &[]), Server::start(root.path(), &["--allow-writes"]));
    let hidden = Server::start(root.path(), &["--allow-writes", "--hidden"]);
    for (target, allow_writing, allow_hidden) in [
        ("*", WRITES, WRITES),
        ("/a.txt", WRITES, WRITES),
        ("/a.txt?query", WRITES, WRITES),
        ("http://localhost/a.txt", WRITES, WRITES),
        ("https://localhost/a.txt", WRITES, WRITES),
        ("/missing", WRITES, WRITES),
        ("/dir/missing", WRITES, WRITES),
        ("/", READS, READS),
        ("/dir/", READS, READS),
        ("/dir", READS, READS),
        ("/page/", READS, READS),
        ("/missing/", READS, READS),
        ("/.hidden", READS, WRITES),
        ("/dir/.git", READS, READS),
        ("/dir/.git/config", READS, WRITES),
        ("/.forebay/", READS, READS),
        ("/.forebay/cache", READS, READS),
        ("/.forebay/nothing", READS, READS),
        ("/dir/.forebay/x", READS, READS),
    ] {
        for (server, allow) in [(&reading, READS), (&writing, allow_writing), (&hidden, allow_hidden)] {
            for (plane, mut client) in server.planes() {
                let options = client.request("OPTIONS", target, &[]).expect(204);
                assert_eq!(options.field("allow"), Some(allow), "{plane} {target}");
                assert!(options.field("content-length").is_none() && options.field("content-type").is_none());
                if target == "*" {
                    client.request("GET", target, &[]).expect(400);
                    continue;
                }
                for method in ["TRACE", "POST", "PATCH", "PROPFIND", "BREW"] {
                    let refused = client.request(method, target, &[]).expect(405);
                    assert_eq!(refused.field("allow"), Some(allow), "{plane} {method} {target}");
                    assert!(!refused.text().contains("Host"), "nothing is echoed: {}", refused.text());
                }
                // The connection goes on.
                client.get("/a.txt").expect(200);
            }
        }
    }
    for (server, allow) in [(&reading, READS), (&writing, WRITES)] {
        let refused = server.connect().request("PUT", "/dir/", &[("Content-Length", "0")]);
        let statuses = if allow == READS { (405, Some(READS)) } else { (409, None) };
        assert_eq!((refused.status, refused.field("allow")), statuses);
        for target in ["example.org:443", "/a.txt"] {
            let refused = server.connect().request("CONNECT", target, &[]);
            assert!(matches!(refused.status, 400 | 405), "{target}: {}", refused.status);
            assert!(refused.status == 400 || refused.field("allow").is_some(), "{target}");
        }
    }
    assert_eq!(reading.connect().request("CONNECT", "example.org:443", &[]).field("allow"), Some(READS));
}

#[test]
fn options_tell_nothing_to_whoever_may_not_read() {
    let root = root();
    let token = root.path().with_extension("token");
    fs::write(&token, "s3cret").unwrap();
    let token_file = token.to_str().unwrap();
    let server = Server::start(root.path(), &["--token-file", token_file, "--token-reads", "--allow-writes"]);
    for method in ["OPTIONS", "POST"] {
        for target in ["/a.txt", "/dir", "/missing"] {
            server.connect().request(method, target, &[]).expect(401);
        }
    }
    server.connect().request("OPTIONS", "*", &[]).expect(204);
    let known = server.connect().request("OPTIONS", "/dir", &[("Authorization", "Bearer s3cret")]).expect(204);
    assert_eq!(known.field("allow"), Some(READS));
    fs::remove_file(token).unwrap();
}

#[test]
fn absolute_targets_are_answered_as_their_paths() {
    let root = root();
    let server = Server::start(root.path(), &[]);
    for (plane, mut client) in server.planes() {
        for target in ["http://localhost/a.txt", "https://localhost/a.txt", "HTTPS://localhost:443/a.txt?q"] {
            assert_eq!(client.get(target).expect(200).text(), "text", "{plane} {target}");
        }
        client.get("https://localhost/missing").expect(404);
        client.get("https://localhost/dir").expect(301);
    }
    // An authority in the target comes before Host.
    let named = Server::start(root.path(), &["--host", "files.example"]);
    named.connect().get("https://files.example/a.txt").expect(200);
    named.connect().get("https://other.example/a.txt").expect(421);
}

#[test]
fn no_response_names_the_program() {
    let root = root();
    let server = Server::start(root.path(), &[]);
    for (plane, mut client) in server.planes() {
        for (method, target) in [
            ("GET", "/a.txt"),
            ("GET", "/missing"),
            ("GET", "/dir/"),
            ("GET", "/dir"),
            ("OPTIONS", "*"),
            ("TRACE", "/"),
            ("GET", "/.forebay/"),
        ] {
            let response = client.request(method, target, &[]);
            assert!(response.field("server").is_none(), "{plane} {method} {target}");
        }
    }
}
