//! `forebay delete` against a server that follows a script.

mod support;

use support::upstream::{Reply, Server, forebay, ran, run};

#[test]
fn names_are_deleted_in_their_order_over_one_connection() {
    let server = Server::start(|request| match request.target.as_str() {
        "/gone" => Reply::text("404 Not Found", "no such file\n"),
        _ => Reply::new("204 No Content", &[], b""),
    });
    let ran = run(&["delete", &server.addr(), "/a//b c", "gone", "d"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "deleted a/b c\ndeleted d\n"));
    assert_eq!(ran.stderr, "forebay: delete: gone: not found on the server (404): no such file\n");
    let requests = server.requests();
    let asked: Vec<_> = requests.iter().map(|r| (r.method.as_str(), r.target.as_str(), r.connection)).collect();
    assert_eq!(asked, [("DELETE", "/a/b%20c", 0), ("DELETE", "/gone", 0), ("DELETE", "/d", 0)]);
    assert!(requests.iter().all(|request| request.field("if-match").is_none()));
}

#[test]
fn a_condition_and_the_token_are_sent() {
    let server = Server::start(|request| match (request.field("authorization"), request.field("if-match")) {
        (Some("Bearer sesame"), Some("\"1\"" | "*")) => Reply::new("204 No Content", &[], b""),
        (Some("Bearer sesame"), _) => Reply::text("412 Precondition Failed", "it has changed\n"),
        _ => Reply::text("401 Unauthorized", "a bearer token is needed\n"),
    });
    let refused = run(&["delete", &server.addr(), "f"]);
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("--token-file"), "{}", refused.stderr);
    for (tag, status) in [("\"1\"", 0), ("*", 0), ("\"2\"", 1), ("\"2\", \"3\"", 1)] {
        let mut command = forebay(&["delete", &server.addr(), "f", "--if-match", tag]);
        assert_eq!(ran(command.env("FOREBAY_TOKEN", "sesame").output().unwrap()).status, status, "{tag}");
    }
}

#[test]
fn wrong_usage_is_exit_status_2_and_asks_nothing() {
    let server = Server::start(|_| Reply::new("204 No Content", &[], b""));
    let addr = server.addr();
    for args in [
        &["delete", &addr][..],
        &["delete", &addr, "a/"],
        &["delete", &addr, "../a"],
        &["delete", &addr, "a", "--if-match", "1"],
        &["delete", &addr, "a", "--if-match", "\"a\n\""],
    ] {
        let ran = run(args);
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{args:?}");
    }
    assert!(server.requests().is_empty());
}
