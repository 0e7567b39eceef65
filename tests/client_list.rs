//! `forebay list` against a server that follows a script.

mod support;

use support::upstream::{Reply, Server, forebay, run};

const ROOT: &str = r#"[{"name":"docs","type":"directory","size":null,"mtime":1000000000},
    {"name":"readme.txt","type":"file","size":1536,"mtime":1714566600},
    {"name":"red\u001b[31m.txt","type":"file","size":1,"mtime":0}]"#;
const DOCS: &str = r#"[{"name":"a b.txt","type":"file","size":2,"mtime":1,"href":"./a%20b.txt","owner":"x"}]"#;
const CACHE: &str = r#"{"arena":{"capacity_bytes":67108864,"resident_bytes":4096,"live_bytes":1537,"leased_bytes":0},
    "entries":[{"name":"docs/a","size":1,"hits":3,"age_seconds":1.5},{"name":"big","size":1536,"hits":20,"age_seconds":3700}]}"#;

fn server() -> Server {
    Server::start(|request| {
        assert_eq!(request.field("accept"), Some("application/json"));
        match request.target.as_str() {
            "/" => Reply::json(ROOT),
            "/docs/" => Reply::json(DOCS),
            "/.forebay/cache" => Reply::json(CACHE),
            "/html/" => Reply::new("200 OK", &[("Content-Type", "text/html")], b"<h1>index</h1>"),
            "/broken/" => Reply::json("[{"),
            _ => Reply::text("404 Not Found", "no such file or directory\n"),
        }
    })
}

#[test]
fn the_root_is_a_table_safe_for_terminals() {
    let ran = run(&["list", &server().addr()]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let expected = "    SIZE  MODIFIED (UTC)       NAME\n\
                    \x20      -  2001-09-09 01:46:40  docs/\n\
                    1.50 KiB  2024-05-01 12:30:00  readme.txt\n\
                    \x20    1 B  1970-01-01 00:00:00  red\\u{1b}[31m.txt\n";
    assert_eq!(ran.stdout, expected);
}

#[test]
fn a_directory_is_listed_with_names_that_can_be_fetched() {
    for prefix in ["docs", "docs/", "/docs"] {
        let ran = run(&["list", &server().addr(), prefix, "--json"]);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{prefix}");
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let expected = serde_json::json!([{"name": "docs/a b.txt", "type": "file", "size": 2, "mtime": 1,
            "href": "/docs/a%20b.txt", "owner": "x"}]);
        assert_eq!(json, expected);
    }
}

#[test]
fn the_beginning_of_a_name_lists_what_begins_so() {
    let ran = run(&["list", &server().addr(), "re", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let names: Vec<_> = json.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["readme.txt", "red\u{1b}[31m.txt"]);
    let ran = run(&["list", &server().addr(), "zzz"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (1, "forebay: list: nothing on the server begins with \"zzz\"\n"));
}

#[test]
fn a_name_that_leads_out_of_the_root_is_wrong_usage() {
    let server = server();
    for args in [
        &["list", &server.addr(), ".."][..],
        &["list", &server.addr(), "../up"],
        &["list", &server.addr(), "a/..", "--cached"],
    ] {
        let ran = run(args);
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{args:?}");
        assert!(ran.stderr.contains("must not contain \"..\""), "{}", ran.stderr);
    }
    assert!(server.requests().is_empty());
}

#[test]
fn what_is_no_listing_is_said() {
    for (prefix, expected) in [
        ("zzz/", "not found on the server (404): no such file or directory"),
        ("html", "the server answered with text/html, not with a listing"),
        ("broken", "the server's listing cannot be understood"),
    ] {
        let ran = run(&["list", &server().addr(), prefix]);
        assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{prefix}");
        assert!(
            ran.stderr.starts_with(&format!("forebay: list: {expected}")) || ran.stderr.contains(expected),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.stderr.lines().count(), 1);
    }
}

#[test]
fn the_cache_is_a_table_with_the_arena_above() {
    let ran = run(&["list", &server().addr(), "--cached"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    let expected = "arena 64.00 MiB: 4.00 KiB resident, 1.50 KiB live, 0 B leased; 2 files\n\
                    \x20   SIZE  HITS       AGE  NAME\n\
                    1.50 KiB    20  01:01:40  big\n\
                    \x20    1 B     3  00:00:01  docs/a\n";
    assert_eq!(ran.stdout, expected);
}

#[test]
fn the_cache_as_json_can_be_narrowed() {
    let ran = run(&["list", &server().addr(), "docs/", "--cached", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["arena"]["capacity_bytes"], 67_108_864);
    assert_eq!(json["entries"], serde_json::json!([{"name": "docs/a", "size": 1, "hits": 3, "age_seconds": 1.5}]));
}

#[test]
fn options_come_from_the_environment_too() {
    let server = server();
    let output = forebay(&["list", &server.addr()]).env("FOREBAY_CACHED", "1").env("FOREBAY_JSON", "true").output();
    assert!(output.unwrap().stdout.starts_with(b"{\"arena\""));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    use std::process::Stdio;
    let server = Server::start(|_| {
        let entries: Vec<String> =
            (0..50_000).map(|n| format!(r#"{{"name":"file-{n}","type":"file","size":1,"mtime":1}}"#)).collect();
        Reply::json(&format!("[{}]", entries.join(",")))
    });
    let mut child = forebay(&["list", &server.addr()]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

/// Controls of all kinds (C0, DEL, C1), a change of direction, and something unseen.
const CONTROLS: &str = "\u{1b}[2J\u{7f}\u{9b}31m\u{85}\u{202e}\u{2066}\u{2028}\u{200b}\u{feff}";

/// What no line on a terminal may hold, but for the line's own end.
fn controls(text: &str) -> Vec<char> {
    let is_control = |c: &char| c.is_control() || CONTROLS.chars().any(|known| known == *c && !c.is_ascii());
    text.chars().filter(|c| *c != '\n').filter(is_control).collect()
}

#[test]
fn nothing_that_a_server_says_controls_the_terminal() {
    let server = Server::start(|request| {
        let name = serde_json::to_string(&format!("a{CONTROLS}b")).unwrap();
        match request.target.as_str() {
            "/" => Reply::json(&format!(r#"[{{"name":{name},"type":"file","size":1,"mtime":{name},{name}:{name}}}]"#)),
            "/.forebay/cache" => Reply::json(&format!(
                r#"{{"arena":{{"capacity_bytes":1,"resident_bytes":1,"live_bytes":1,"leased_bytes":0}},
                "entries":[{{"name":{name},"size":1,"hits":1,"age_seconds":1,"etag":{name}}}]}}"#
            )),
            "/html/" => Reply::new("200 OK", &[("Content-Type", CONTROLS.split_at(8).1)], b""),
            "/gone/" => Reply::new("302 Found", &[("Location", "/\u{9b}31m\u{202e}")], b""),
            _ => Reply::text("404 Not Found", CONTROLS),
        }
    });
    let addr = server.addr();
    for args in [
        &["list", &addr][..],
        &["list", &addr, "--json"],
        &["list", &addr, "--cached"],
        &["list", &addr, "--cached", "--json"],
        &["list", &addr, "html"],
        &["list", &addr, "gone"],
        &["list", &addr, CONTROLS],
        &["list", &addr, "no\u{9b}such/"],
        &["fetch", &addr, "no\u{9b}such"],
        &["fetch", &addr, "\u{9b}/.."],
        &["put", &addr, "no\u{9b}such"],
        &["list", &addr, "--\u{9b}31m"],
        &["fetch", "unix:/\u{9b}31m", "f"],
        &["--\u{9b}\n31m"],
    ] {
        let ran = run(args);
        assert_eq!(controls(&ran.stdout), Vec::<char>::new(), "{args:?}: {:?}", ran.stdout);
        assert_eq!(controls(&ran.stderr), Vec::<char>::new(), "{args:?}: {:?}", ran.stderr);
        assert!(!(ran.stdout + &ran.stderr).is_empty());
    }
    let json = run(&["list", &server.addr(), "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["name"], format!("a{CONTROLS}b"), "and it still means the same");
}

#[test]
fn names_alone_are_lines_that_other_commands_take() {
    let ran = run(&["list", &server().addr(), "--names"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "docs/\nreadme.txt\n"), "and none that is not plain");
    assert_eq!(run(&["list", &server().addr(), "docs/", "--names"]).stdout, "docs/a b.txt\n");
    assert_eq!(run(&["list", &server().addr(), "--names", "--json"]).status, 2);
}
