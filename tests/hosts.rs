//! Whom a request is meant for, and which page asked for it: DNS rebinding and pages of other origins.

mod support;

use std::fs;
use std::path::Path;

use support::{Response, Server};

fn ask(server: &Server, method: &str, host: &str, fields: &str) -> Response {
    let mut client = server.connect();
    let length = if method == "PUT" { "Content-Length: 1\r\n" } else { "" };
    let body = if method == "PUT" { "x" } else { "" };
    client.send(format!("{method} /a HTTP/1.1\r\nHost: {host}\r\n{fields}{length}\r\n{body}"));
    client.response(method)
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn no_page_writes_by_taking_the_server_for_its_own() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), &["--allow-writes"]);
    let port = server.address().port();
    for host in ["evil.example", &format!("evil.example:{port}"), "127.0.0.1.evil.example", "a/b", "localhost:80x"] {
        for method in ["PUT", "DELETE"] {
            let refused = ask(&server, method, host, "");
            assert!(matches!(refused.status, 400 | 421), "{method} {host}: {}", refused.status);
        }
    }
    let refused = ask(&server, "PUT", "evil.example", "");
    assert!(refused.text().contains("evil.example") && refused.text().contains("--host"), "{}", refused.text());
    for fields in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: http://evil.example\r\n",
        "Origin: http://localhost:1\r\n",
        "Origin: null\r\n",
    ] {
        for method in ["PUT", "DELETE"] {
            let refused = ask(&server, method, "localhost", fields);
            assert_eq!(refused.status, 403, "{method} {fields}");
            assert!(refused.text().contains("without a token"), "{}", refused.text());
        }
    }
    assert!(names(root.path()).is_empty());
    let origin = format!("Origin: http://localhost:{port}\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(ask(&server, "PUT", &format!("localhost:{port}"), &origin).status, 201);
    for host in ["127.0.0.1", "[::1]", &format!("127.0.0.1:{port}"), "LocalHost"] {
        assert_eq!(ask(&server, "PUT", host, "").status, 204, "{host}");
    }
    // The target's authority comes before the field.
    let mut client = server.connect();
    client.send("PUT http://evil.example/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.response("PUT").status, 421);
    // Reads are for every name.
    assert_eq!(ask(&server, "GET", "evil.example", "Sec-Fetch-Site: cross-site\r\n").text(), "x");
}

#[test]
fn with_a_token_it_is_the_token_that_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (root, token) = (dir.path().join("root"), dir.path().join("token"));
    fs::create_dir(&root).unwrap();
    fs::write(&token, "s3cret").unwrap();
    let server = Server::start(&root, &["--allow-writes", "--token-file", token.to_str().unwrap()]);
    let with = "Authorization: Bearer s3cret\r\n";
    assert_eq!(ask(&server, "PUT", "files.example", "").status, 401);
    assert_eq!(ask(&server, "PUT", "files.example", with).status, 201);
    let twice = format!("{with}Authorization: Bearer wrong\r\n");
    for method in ["PUT", "GET", "DELETE"] {
        assert_eq!(ask(&server, method, "files.example", &twice).status, 400, "{method}");
    }
}

#[test]
fn with_names_every_request_needs_one_on_both_planes() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "text").unwrap();
    let server = Server::start(root.path(), &["--allow-writes", "--host", "files.example,Other.Example"]);
    for (host, known) in [
        ("files.example", true),
        ("files.example:8064", true),
        ("other.example", true),
        ("127.0.0.1", true),
        ("localhost", true),
        ("evil.example", false),
        ("files.example.evil.example", false),
    ] {
        for _ in 0..2 {
            for method in ["GET", "HEAD"] {
                assert_eq!(ask(&server, method, host, "").status, if known { 200 } else { 421 }, "{method} {host}");
            }
        }
        let mut client = server.connect();
        client.send(format!("HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\nGET /a HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response("HEAD").status, if known { 200 } else { 421 }, "{host}");
        assert_eq!(client.response("GET").status, if known { 200 } else { 421 }, "{host}");
        assert_eq!(ask(&server, "PUT", host, "").status, if known { 204 } else { 421 }, "{host}");
    }
    // On one connection that has been served before.
    let mut client = server.connect();
    assert_eq!(client.get("/a").status, 200);
    client.send("GET /a HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(client.response("GET").status, 421);
}

#[test]
fn a_unix_socket_is_out_of_the_reach_of_pages() {
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("unix:{}", dir.path().join("s").display());
    let server = Server::start_on(dir.path(), &[&listen], &["--allow-writes"]);
    assert_eq!(ask(&server, "PUT", "whatever.example", "").status, 201);
    assert_eq!(ask(&server, "PUT", "whatever.example", "Origin: http://evil.example\r\n").status, 403);
}
