//! `loadgen find` tries rates until it knows which pass.

mod common;
use common::{Reply, Server, loadgen, ok};
use serde_json::Value;

/// What was found, and the exit status.
fn find(server: &Server, options: &[&str]) -> (Value, i32) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("found.json");
    let always = ["find", &server.address, "-c", "2", "-d", "50ms", "--json", file.to_str().unwrap()];
    let output = loadgen(&[&always[..], options].concat());
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (serde_json::from_str(&text).unwrap(), output.status.code().unwrap())
}

#[test]
fn a_rate_that_passes_at_once_is_the_answer() {
    let server = Server::start(|_, _| Reply::Send(ok("", b"x")));
    let conditions = ["--fail-on", "p99>1h", "--fail-on", "dropped>100%"];
    let (found, status) = find(&server, &[&conditions[..], &["--most", "100"]].concat());
    assert_eq!((status, &found["rate"], &found["failing_rate"]), (0, &100.0.into(), &Value::Null));
    let probes = found["probes"].as_array().unwrap();
    assert_eq!(probes.len(), 1);
    assert_eq!(probes[0]["runs"].as_array().unwrap().len(), 2, "two of three are the majority");
    assert_eq!(found["closed_loop_rate"], Value::Null);
    // Without a bound, that of a closed loop is tried.
    let (found, _) = find(&server, &conditions);
    assert_eq!(found["probes"][0]["rate"], found["closed_loop_rate"]);
}

#[test]
fn where_no_rate_passes_the_search_ends() {
    let server = Server::start(|_, _| Reply::Send(ok("", b"x")));
    let (found, status) = find(&server, &["--fail-on", "max>0s", "--most", "100", "--repeat", "1"]);
    assert_eq!((status, &found["rate"]), (1, &Value::Null));
    assert!(found["failing_rate"].as_f64().unwrap() < 0.1, "{found}");
    let rates: Vec<f64> = found["probes"].as_array().unwrap().iter().map(|one| one["rate"].as_f64().unwrap()).collect();
    assert_eq!(rates[..3], [100.0, 50.0, 25.0]);
    let condition = &found["probes"][0]["runs"][0]["thresholds"][0];
    assert_eq!((&condition["condition"], &condition["broken"]), (&"max>0s".into(), &true.into()));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (options, reason) in [
        (&["--rate", "5"][..], "--rate"),
        (&["--stages", "1s:5/s"], "--stages"),
        (&["--precision", "0"], "0.1%"),
        (&["--csv", "x"], "outputs"),
    ] {
        let output = loadgen(&[&["find", "127.0.0.1:1"], options].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(reason), "{options:?}: {said}");
    }
    assert_eq!(loadgen(&["find", "127.0.0.1:1", "-d", "50ms"]).status.code(), Some(1));
}
