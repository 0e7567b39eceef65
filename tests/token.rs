//! The bearer token: on writes, on reads if so configured, on both planes, and exchanged while the server runs.

mod support;

use std::fs;

use support::{Server, until};

#[test]
fn writes_need_the_token_and_reads_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let (root, token) = (dir.path().join("root"), dir.path().join("token"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), "old").unwrap();
    fs::write(&token, "s3cret\n").unwrap();
    let server = Server::start(&root, &["--allow-writes", "--token-file", token.to_str().unwrap()]);
    for field in ["", "\r\nAuthorization: Bearer wrong", "\r\nAuthorization: Basic s3cret", "\r\nAuthorization: s3cret"]
    {
        for method in ["PUT", "DELETE"] {
            let refused = server.ask(&format!("{method} /a{field}"), b"").expect(401);
            assert!(refused.field("www-authenticate").unwrap().starts_with("Bearer"));
        }
    }
    assert_eq!(server.get("/a").expect(200).text(), "old");
    server.ask("PUT /a\r\nAuthorization: Bearer s3cret", b"new").expect(204);
    assert_eq!(server.get("/a").text(), "new");
    server.ask("DELETE /a\r\nAuthorization: bearer s3cret", b"").expect(204);
}

#[test]
fn with_token_reads_every_read_needs_it_on_both_planes() {
    let dir = tempfile::tempdir().unwrap();
    let (root, token) = (dir.path().join("root"), dir.path().join("token"));
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("a"), "hello").unwrap();
    fs::write(&token, "s3cret").unwrap();
    let server = Server::start(&root, &["--token-reads", "--token-file", token.to_str().unwrap()]);
    let targets = ["/a", "/no", "/sub", "/sub/", "/", "/.forebay/cache", "/.forebay/metrics", "/.forebay/live"];
    for target in targets {
        for method in ["GET", "HEAD"] {
            for field in ["", "\r\nAuthorization: Bearer wrong"] {
                server.ask(&format!("{method} {target}{field}"), b"").expect(401);
            }
            let status = server.ask(&format!("{method} {target}\r\nAuthorization: Bearer s3cret"), b"").status;
            assert_ne!(status, 401, "{method} {target}");
        }
    }
    // Also where the file is cached, and on a connection that had the token before.
    let mut client = server.connect();
    for _ in 0..3 {
        assert_eq!(client.ask("GET /a\r\nAuthorization: Bearer s3cret", b"").expect(200).text(), "hello");
    }
    client.ask("GET /a", b"").expect(401);
    client.ask("GET /a\r\nAuthorization: Bearer s3cret", b"").expect(200);
    // Neither tells anything: that the server lives, and the page that asks for the token.
    server.get("/.forebay/health").expect(200);
    server.get("/.forebay/ready").expect(200);
    server.get("/.forebay/").expect(200);
}

#[test]
fn sighup_takes_the_new_token() {
    let dir = tempfile::tempdir().unwrap();
    let (root, token) = (dir.path().join("root"), dir.path().join("token"));
    fs::create_dir(&root).unwrap();
    fs::write(&token, "old").unwrap();
    let server = Server::start(&root, &["--allow-writes", "--token-file", token.to_str().unwrap()]);
    let put = |token: &str| server.ask(&format!("PUT /a\r\nAuthorization: Bearer {token}"), b"x").status;
    assert_eq!((put("old"), put("new")), (201, 401));
    fs::write(&token, "new").unwrap();
    server.signal(rustix::process::Signal::HUP);
    until("the new token to be taken", || put("new") == 204);
    assert_eq!(put("old"), 401);
    // A token file that is no good is said to be so, and changes nothing.
    fs::write(&token, "").unwrap();
    server.signal(rustix::process::Signal::HUP);
    until("the server to complain", || server.stderr().contains("is empty"));
    assert_eq!(put("new"), 204);
}

#[test]
fn a_server_that_anybody_could_write_to_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--allow-writes", "--listen", "0.0.0.0:0"];
    let message = Server::refusal(dir.path(), &args);
    assert!(message.contains("--token-file"), "{message}");
    for (content, expected) in [(None, "cannot be read"), (Some(""), "is empty"), (Some("two words"), "printable")] {
        let token = dir.path().join("token");
        match content {
            Some(content) => fs::write(&token, content).unwrap(),
            None => assert!(!token.exists()),
        }
        let args = ["--allow-writes", "--token-file", token.to_str().unwrap()];
        let message = Server::refusal(dir.path(), &args);
        assert!(message.contains(expected) && message.contains(token.to_str().unwrap()), "{message}");
    }
}
