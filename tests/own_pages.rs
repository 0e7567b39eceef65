//! The server's own pages, and its access log.

mod support;

use std::fs;

use support::{Server, bytes, until};

#[test]
fn the_cache_page_says_what_is_cached() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("small"), bytes(1, 1_000)).unwrap();
    fs::write(root.path().join("large"), bytes(2, 100_000)).unwrap();
    let server = Server::start(root.path(), &["--arena", "4MiB", "--revalidate", "1h"]);
    let empty = server.get("/.forebay/cache").expect(200);
    assert_eq!(empty.field("content-type"), Some("application/json"));
    assert_eq!(empty.json()["entries"], serde_json::json!([]));
    assert_eq!(empty.json()["arena"]["live_bytes"], 0);
    for _ in 0..3 {
        server.get("/small").expect(200);
    }
    server.get("/large").expect(200);
    let page = server.get("/.forebay/cache").json();
    assert_eq!(page["arena"]["capacity_bytes"], 4 << 20);
    assert_eq!(page["arena"]["live_bytes"], 101_000);
    assert_eq!(page["arena"]["leased_bytes"], 0);
    assert!(page["arena"]["resident_bytes"].as_u64().unwrap() >= 101_000);
    let entries = page["entries"].as_array().unwrap();
    assert_eq!(
        (&entries[0]["name"], &entries[0]["size"], &entries[0]["hits"]),
        (&"large".into(), &100_000.into(), &0.into())
    );
    assert_eq!(
        (&entries[1]["name"], &entries[1]["size"], &entries[1]["hits"]),
        (&"small".into(), &1_000.into(), &2.into())
    );
    assert!(entries[0]["age_seconds"].as_f64().unwrap() >= 0.0);
}

#[test]
fn the_metrics_count_what_happened() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), bytes(1, 50_000)).unwrap();
    fs::write(root.path().join("huge"), bytes(2, 2 << 20)).unwrap();
    let server = Server::start(root.path(), &["--arena", "1MiB", "--revalidate", "1h", "--allow-writes"]);
    let page = server.get("/.forebay/metrics").expect(200);
    assert_eq!(page.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut client = server.connect();
    for _ in 0..5 {
        client.ask("GET /a", b"").expect(200);
    }
    client.ask("GET /huge", b"").expect(200);
    client.ask("GET /no", b"").expect(404);
    server.put("/b", b"12345").expect(201);
    server.put("/a", b"new").expect(204);
    for (sample, value) in [
        ("forebay_requests_total{class=\"hit\",detail=\"fresh\"}", 4),
        ("forebay_requests_total{class=\"miss\",detail=\"stored\"}", 1),
        ("forebay_requests_total{class=\"miss\",detail=\"too_large\"}", 1),
        ("forebay_response_body_bytes_total{class=\"hit\",detail=\"fresh\"}", 200_000),
        ("forebay_responses_total{status=\"404\"}", 1),
        ("forebay_responses_total{status=\"201\"}", 1),
        ("forebay_uploads_total{outcome=\"stored\"}", 2),
        ("forebay_upload_bytes_total", 8),
        ("forebay_evictions_total{reason=\"replaced\"}", 1),
        ("forebay_fills_total{event=\"finished\"}", 1),
        ("forebay_arena_capacity_bytes", 1_048_576),
        ("forebay_cache_entries", 0),
        ("forebay_head_seconds_count{class=\"hit\"}", 4),
        ("forebay_control_queue", 0),
    ] {
        assert_eq!(server.sample(sample), value, "{sample}");
    }
    drop(client);
    until("closed connections to be counted", || server.sample("forebay_connections_open") == 1);
}

#[test]
fn the_latency_of_what_is_answered_at_once_counts_from_its_request() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..40 {
        fs::write(root.path().join(number.to_string()), bytes(number, 64 << 10)).unwrap();
    }
    let server = Server::start(root.path(), &["--arena", "1MiB", "--eviction", "lru", "--settled", "0s"]);
    let mut client = server.connect();
    // Files that come round before they are closed are misses that wait for nothing.
    for number in (0..40).chain(0..40).chain(0..40) {
        client.get(&format!("/{number}")).expect(200);
    }
    assert!(server.sample("forebay_fills_total{event=\"reopened\"}") > 0);
    let page = server.get("/.forebay/metrics").text();
    let sum = page.lines().find_map(|line| line.strip_prefix("forebay_head_seconds_sum{class=\"miss\"} "));
    let seconds: f64 = sum.unwrap().parse().unwrap();
    assert!(seconds < 60.0, "{seconds} s, as if it had begun with the machine");
}

#[test]
fn what_is_no_page_is_not_found() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join(".forebay")).unwrap();
    fs::write(root.path().join(".forebay/cache"), "a file").unwrap();
    fs::write(root.path().join(".forebay/file"), "a file").unwrap();
    let server = Server::start(root.path(), &[]);
    for target in ["/.forebay/file", "/.forebay/x/y", "/.forebay/cache/x"] {
        assert!(server.get(target).expect(404).text().contains("/.forebay/metrics"), "{target}");
    }
    server.get("/.forebay/cache").expect(200).json();
    server.ask("POST /.forebay/cache", b"x").expect(405);
    assert!(server.get("/.forebay").expect(200).text().contains("<title>forebay</title>"));
}

#[test]
fn the_access_log_has_a_line_for_each_request_on_both_planes() {
    let dir = tempfile::tempdir().unwrap();
    let (root, log) = (dir.path().join("root"), dir.path().join("access.log"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), "hello").unwrap();
    let mut server = Server::start(&root, &["--access-log", log.to_str().unwrap(), "--access-log-format", "json"]);
    let lines = || -> Vec<serde_json::Value> {
        let text = fs::read_to_string(&log).unwrap();
        text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
    };
    server.ask("GET /a?x=1\r\nUser-Agent: test \"1\"\r\nReferer: http://x/", b"").expect(200);
    server.ask("GET /a", b"").expect(200);
    server.ask("HEAD /no", b"").expect(404);
    server.get("/.forebay/health").expect(200);
    server.ask("PUT /a", b"x").expect(405);
    until("the lines to be written", || lines().len() == 5);
    // Lines are in the order in which responses ended, which is not that of requests on different connections.
    let lines_now = lines();
    let line_of = |method: &str, target: &str, is_hit: bool| {
        let is = |line: &&serde_json::Value| {
            let hit = line["cache_status"] == "forebay; hit";
            line["method"] == method && line["target"] == target && hit == is_hit
        };
        let mut found = lines_now.iter().filter(is);
        let line = found.next().unwrap_or_else(|| panic!("no {method} {target} in {lines_now:?}"));
        assert!(found.next().is_none(), "{method} {target} twice in {lines_now:?}");
        line
    };
    let first = line_of("GET", "/a?x=1", false);
    assert_eq!((&first["bytes"], &first["user_agent"]), (&5.into(), &"test \"1\"".into()));
    assert_eq!((&first["referer"], &first["status"]), (&"http://x/".into(), &200.into()));
    assert_eq!(first["cache_status"], "forebay; fwd=uri-miss; stored");
    assert!(first["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(line_of("GET", "/a", true)["status"], 200);
    assert_eq!(line_of("HEAD", "/no", false)["status"], 404);
    assert_eq!(line_of("GET", "/.forebay/health", false)["bytes"], 3);
    assert_eq!(line_of("PUT", "/a", false)["status"], 405);

    // Rotated away, and opened again.
    fs::rename(&log, dir.path().join("access.log.1")).unwrap();
    server.signal(rustix::process::Signal::HUP);
    until("the log to be opened again", || log.exists());
    server.get("/a").expect(200);
    until("a line in the new log", || lines().len() == 1);
    // What is queued when the server ends is written.
    for _ in 0..50 {
        server.get("/a").expect(200);
    }
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());
    assert_eq!(lines().len(), 51);
}

#[test]
fn a_server_that_is_told_to_end_finishes_what_the_control_plane_does() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path(), &["--allow-writes"]);
    let mut idle = server.connect();
    idle.ask("GET /.forebay/health", b"").expect(200);
    let mut busy = server.connect();
    busy.send(b"PUT /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nfirst");
    until("the upload to begin", || server.sample("forebay_upload_bytes_total") == 5);
    server.signal(rustix::process::Signal::TERM);
    assert!(idle.is_over(), "an idle connection ends");
    busy.send(b" half");
    busy.final_response("PUT").expect(201);
    assert!(server.wait().success());
    assert_eq!(fs::read(root.path().join("a")).unwrap(), b"first half");
}

/// A worker for the whole site could answer in the place of the server's own pages.
#[test]
fn no_script_at_the_top_becomes_a_service_worker() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("app")).unwrap();
    for name in ["worker.js", "app/worker.js", "index.html"] {
        std::fs::write(root.path().join(name), "self").unwrap();
    }
    let server = Server::start(root.path(), &[]);
    let fields = [("Service-Worker", "script"), ("Sec-Fetch-Dest", "serviceworker")];
    for target in ["/worker.js", "/worker.js?a=/b/", "/%77orker.js", "/"] {
        for _ in 0..2 {
            let refused = server.connect().request("GET", target, &fields);
            assert_eq!(refused.status, 403, "{target}");
            server.get(target).expect(200);
        }
    }
    let allowed = server.connect().request("GET", "/app/worker.js", &fields).expect(200);
    assert_eq!(allowed.field("service-worker-allowed"), None);
    let said = Server::refusal(root.path(), &["--header", "**: Service-Worker-Allowed: /"]);
    assert!(said.contains("Service-Worker-Allowed"), "{said}");
}
