//! The open loop: a server that stalls cannot hide its stall.

mod common;
use common::{Reply, Server, ok, run};
use std::time::Duration;

/// One connection, 100 requests a second for 3 s; the 100th response takes one second longer. By arithmetic the request
/// that stalls takes 1 s, the one after it 0.99 s, and so on: 100 requests share 1 + 0.99 + … + 0.01 = 50.5 s of
/// latency, and 51 of them take half a second or more, although the server was slow to answer one request only.
#[test]
fn a_stall_counts_for_every_request_that_it_delayed() {
    let server = Server::start(|_, number| match number {
        99 => Reply::Late(Duration::from_secs(1), ok("Cache-Status: x; hit\r\n", b"x")),
        _ => Reply::Send(ok("Cache-Status: x; hit\r\n", b"x")),
    });
    let (run, status) = run(&[&server.address, "--rate", "100", "-c", "1", "-d", "3s", "--interval", "100ms"]);
    assert_eq!(status, 0);
    let hit = &run["classes"]["hit"];
    assert_eq!(hit["requests"], 300);
    assert_eq!(run["schedule"]["intended"], 300);
    assert_eq!(run["schedule"]["sent"], 300);
    let latencies = |kind: &str| {
        let text = hit[kind]["histogram"].as_str().unwrap();
        loadgen::stats::Latencies::decode(text).unwrap()
    };
    let (latency, service) = (latencies("latency_ns"), latencies("service_ns"));
    let slow = |latencies: &loadgen::stats::Latencies| latencies.histogram().count_between(499_000_000, u64::MAX);
    // A slower machine only adds to these.
    assert!(slow(&latency) >= 51, "{}", slow(&latency));
    assert!(latency.mean() * 300.0 >= 50.4e9, "{}", latency.mean());
    assert!(latency.max() >= 999_000_000);
    assert!(run["schedule"]["late"].as_u64().unwrap() >= 99);
    // What wait there was lies in the corrected latency alone.
    assert!(slow(&service) >= 1 && slow(&service) < 51, "{}", slow(&service));
    assert!(latency.mean() * 300.0 - service.mean() * 300.0 >= 49e9);
    // The interval that the stalled request ended in shows it.
    let worst = run["samples"].as_array().unwrap().iter().map(|sample| sample["hit"]["max_ns"].as_u64().unwrap()).max();
    assert!(worst.unwrap() >= 999_000_000);
}

#[test]
fn slots_that_are_never_sent_are_counted() {
    let server = Server::start(|_, _| Reply::Late(Duration::from_millis(200), ok("", b"x")));
    let rate = [server.address.as_str(), "--rate", "1000", "-c", "2", "-d", "500ms"];
    let (run, status) = run(&rate);
    assert_eq!(status, 1, "most slots are dropped, which is more than the default threshold lets pass");
    assert_eq!(common::run(&[&rate[..], &["--fail-on", "dropped>100%"]].concat()).1, 0);
    let schedule = |key: &str| run["schedule"][key].as_u64().unwrap();
    assert_eq!(schedule("intended"), 500);
    assert_eq!(schedule("sent") + schedule("dropped"), 500);
    assert!(schedule("dropped") > 400);
    assert_eq!(run["classes"]["total"]["requests"].as_u64().unwrap(), schedule("sent"));
}

#[test]
fn poisson_arrivals_and_warm_up_are_measured_alike() {
    let server = Server::start(|_, _| Reply::Send(ok("", b"x")));
    let arguments = ["--rate", "400", "--arrivals", "poisson", "-c", "8", "-t", "2", "--warmup", "200ms", "-n", "100"];
    let (run, status) = run(&[&[server.address.as_str()], &arguments[..]].concat());
    assert_eq!((status, &run["classes"]["total"]["requests"]), (0, &100.into()));
    assert!(server.seen().len() > 110, "requests of the warm-up are sent, and not counted");
    assert_eq!(run["schedule"]["intended"], 100);
}

#[test]
fn stages_are_run_one_after_the_other() {
    let server = Server::start(|_, _| Reply::Send(ok("", b"x")));
    let stages = ["--stages", "200ms:100/s,100ms:0/s,200ms:500/s", "-c", "4", "--interval", "100ms"];
    let (run, status) = run(&[&[server.address.as_str()], &stages[..]].concat());
    assert_eq!((status, &run["schedule"]["intended"]), (0, &120.into()));
    assert_eq!(run["settings"]["mode"], "open");
    assert_eq!(run["settings"]["stages"], serde_json::json!(["0.2s:100/s", "0.1s:0/s", "0.2s:500/s"]));
    assert!(run["elapsed_seconds"].as_f64().unwrap() >= 0.498);
    let refused = common::loadgen(&["run", &server.address, "--stages", "1s:5/s", "--rate", "5"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn recorded_times_are_kept() {
    let server = Server::start(|_, _| Reply::Send(ok("", b"x")));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.csv");
    std::fs::write(&file, "time,key,size\n10.1,/b,1\n10.0,/a,1\n10.5,/a,1\n12.0,/c d,1\n").unwrap();
    let file = file.to_str().unwrap();
    let (run, status) = run(&[&server.address, "--trace", file, "--trace-speed", "4", "-c", "2"]);
    assert_eq!(status, 0);
    assert_eq!(server.seen(), ["/a", "/b", "/a", "/c%20d"]);
    // Two seconds, four times as fast.
    assert!(run["elapsed_seconds"].as_f64().unwrap() >= 0.5);
    assert_eq!(run["schedule"]["sent"], 4);
}
