//! What a run leaves behind: the JSON contract, percentile files, pages, comparisons, and all of it after Ctrl-C.

mod common;
use common::{Reply, Server, loadgen, ok, run};
use serde_json::Value;
use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

fn mixed() -> Server {
    Server::start(|_, number| {
        Reply::Send(ok(
            if number.is_multiple_of(4) { "Cache-Status: x; fwd=miss\r\n" } else { "Cache-Status: x; hit\r\n" },
            b"x",
        ))
    })
}

#[test]
fn the_keys_of_the_json_are_a_contract() {
    let (run, _) = run(&[&mixed().address, "-n", "100", "-c", "2"]);
    assert_eq!(run["schema_version"], 1);
    assert!(run["settings"].is_object());
    assert!(run["elapsed_seconds"].as_f64().unwrap() > 0.0);
    for class in ["total", "hit", "miss", "unclassified"] {
        let report = &run["classes"][class];
        assert!(report["requests"].is_u64() && report["bytes"].is_u64());
        for kind in ["connect", "reset", "timeout", "short_body", "wrong_bytes", "status", "malformed"] {
            assert!(report["errors"][kind].is_u64(), "{kind}");
        }
        for latency in ["latency_ns", "service_ns", "first_byte_ns"] {
            for key in ["p50", "p90", "p99", "p999", "p9999", "max", "mean"] {
                assert!(report[latency][key].is_number(), "{class} {latency} {key}");
            }
        }
    }
    for key in ["intended", "sent", "late", "dropped"] {
        assert!(run["schedule"][key].is_u64(), "{key}");
    }
    assert!(run["schedule"]["error_ns"]["p99"].is_u64());
    // The histograms are the standard encoding: the crate itself reads them.
    let text = run["classes"]["hit"]["latency_ns"]["histogram"].as_str().unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
    let histogram: hdrhistogram::Histogram<u64> =
        hdrhistogram::serialization::Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
    assert_eq!(histogram.len(), 75);
    assert_eq!(Some(histogram.value_at_quantile(0.5)), run["classes"]["hit"]["latency_ns"]["p50"].as_u64());
    let sampled: u64 =
        run["samples"].as_array().unwrap().iter().map(|sample| sample["total"]["requests"].as_u64().unwrap()).sum();
    assert_eq!(sampled, 100);
}

#[test]
fn percentile_files_agree_with_the_json() {
    let directory = tempfile::tempdir().unwrap();
    let hgrm = directory.path().join("hgrm");
    let (run, _) = run(&[&mixed().address, "-n", "100", "-c", "2", "--hgrm", hgrm.to_str().unwrap()]);
    for (class, count) in [("total", 100), ("hit", 75), ("miss", 25)] {
        let text = fs::read_to_string(hgrm.join(format!("{class}-latency.hgrm"))).unwrap();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|cell| cell.parse().unwrap()).collect())
            .collect();
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]));
        let last = rows.last().unwrap();
        assert_eq!((last.len(), last[1], last[2]), (3, 1.0, f64::from(count)));
        let max_ms = run["classes"][class]["latency_ns"]["max"].as_f64().unwrap() / 1e6;
        assert!((last[0] / max_ms - 1.0).abs() < 0.001);
    }
    assert!(!hgrm.join("unclassified-latency.hgrm").exists());
}

#[test]
fn a_page_stands_alone_and_shows_every_run() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    for name in ["a.json", "b.json"] {
        let label = format!("<{name}>");
        loadgen(&["run", &mixed().address, "-n", "200", "-c", "2", "--json", &file(name), "--label", &label]);
    }
    let page = |runs: &[&str]| {
        let output = loadgen(&[&["report"], runs, &["-o", &file("r.html")]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(file("r.html")).unwrap()
    };
    let both = page(&[&file("a.json"), &file("b.json")]);
    assert!(both.contains("<th scope=\"col\">&lt;a.json&gt;</th><th scope=\"col\">&lt;b.json&gt;</th>"));
    assert!(!both.contains("<a.json>"), "labels are escaped");
    assert!(both.matches("<polyline").count() >= 6);
    for reference in ["src=", "href=", "url(", "@import", "{{"] {
        assert!(!both.contains(reference), "{reference}");
    }
    let one = page(&[&file("a.json")]);
    assert!(one.contains(">99 %<") && one.contains("<h1>127.0.0.1:"), "{one}");
    assert!(
        one.contains(" GMT · closed loop · 2 connections") && one.contains("<b>75.0 %</b><span>hits</span>"),
        "{one}"
    );
    // Each chart has its own place for what is under the pointer.
    for chart in ["by-percentile", "histogram", "throughput", "over-time"] {
        let readout = format!("id=\"{chart}\"");
        assert!(one.contains(&format!("data-readout=\"{chart}\"")) && one.matches(&readout).count() == 1, "{chart}");
    }
    let compared = loadgen(&["compare", &file("a.json"), &file("b.json")]);
    let text = String::from_utf8(compared.stdout).unwrap();
    assert!(text.contains("requests/s") && text.contains("miss share") && text.contains("setting label"), "{text}");

    fs::copy(file("a.json"), file("d.json")).unwrap();
    let three = loadgen(&["compare", &file("a.json"), &file("b.json"), &file("d.json")]);
    let text = String::from_utf8(three.stdout).unwrap();
    assert!(text.contains("B - A") && text.contains("C - A") && text.contains("\nC: "), "{text}");
    assert_eq!(text.matches("repeat the runs").count(), 1, "what holds for all is said once");
    assert_eq!(loadgen(&["compare", &file("a.json")]).status.code(), Some(2));

    fs::write(file("c.json"), "{\"schema_version\": 99}").unwrap();
    let refused = loadgen(&["report", &file("c.json"), "-o", &file("r.html")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("version 99"));
}

#[test]
fn what_a_server_does_not_tell_is_unknown() {
    let server = Server::start(|_, _| Reply::Send(ok("", b"x")));
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    loadgen(&["run", &server.address, "-n", "20", "-c", "1", "--json", &file("a.json")]);
    assert!(loadgen(&["report", &file("a.json"), "-o", &file("r.html")]).status.success());
    let page = fs::read_to_string(file("r.html")).unwrap();
    assert!(page.contains("<b>unknown</b><span>hits</span>"), "{page}");
    assert!(page.contains("<th scope=\"row\">misses</th><td>unknown</td>"), "{page}");
}

#[test]
fn connections_go_to_several_hosts_in_turns() {
    let servers = [(); 3].map(|()| Server::start(|_, _| Reply::Send(ok("", b"x"))));
    let hosts = servers.each_ref().map(|server| server.address.as_str()).join(",");
    // The name of the URL is resolved nowhere.
    let url = "http://fleet.invalid/a";
    let (run, status) = run(&[url, "--connect", &hosts, "-n", "90", "-c", "6", "-t", "2"]);
    assert_eq!((status, run["classes"]["total"]["requests"].as_u64()), (0, Some(90)));
    let seen = servers.each_ref().map(|server| server.seen().len());
    assert!(seen.iter().all(|&seen| seen > 0) && seen.iter().sum::<usize>() == 90, "{seen:?}");
    let wrong = loadgen(&["run", url, "--connect", "http://"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn other_programs_read_the_numbers_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (csv, prometheus, junit) = (file("run.csv"), file("run.prom"), file("run.xml"));
    let outputs = ["--csv", &csv, "--prometheus", &prometheus, "--junit", &junit];
    let conditions = ["--fail-on", "misses>10%", "--fail-on", "p99>1h"];
    let (run, status) = run(&[&[mixed().address.as_str(), "-n", "100", "-c", "2"], &outputs[..], &conditions].concat());
    assert_eq!(status, 1, "a quarter are misses");

    let csv = fs::read_to_string(&csv).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{csv}");
    assert_eq!(rows.len() - 1, 4 * run["samples"].as_array().unwrap().len());
    let hits = rows.iter().filter(|row| row[2] == "hit").map(|row| row[3].parse::<u64>().unwrap());
    assert_eq!(hits.sum::<u64>(), 75);

    let prometheus = fs::read_to_string(&prometheus).unwrap();
    assert!(prometheus.contains("loadgen_requests{class=\"hit\"} 75\n"), "{prometheus}");
    for line in prometheus.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
        let family = name.split('{').next().unwrap();
        assert!(prometheus.contains(&format!("# TYPE {family} gauge\n")), "{line}");
    }

    let junit = fs::read_to_string(&junit).unwrap();
    assert!(junit.contains("tests=\"4\" failures=\"1\""), "{junit}");
    assert!(junit.contains("<failure message=\"misses&gt;10%: 25.00 %\"/>"), "{junit}");
    assert!(junit.contains("name=\"not p99&gt;1h\"/>"), "{junit}");
}

#[test]
fn an_interrupted_run_prints_and_writes_what_it_measured() {
    let server = mixed();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.json");
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", &server.address, "-d", "600s", "-c", "2", "--json", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.seen().len() < 50 {
        assert!(Instant::now() < deadline, "the run sends nothing");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("(interrupted)") && text.contains("p99.99"), "{text}");
    let run: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(run["ended"], "interrupted");
    assert!(run["classes"]["hit"]["requests"].as_u64().unwrap() >= 20);
}

#[test]
fn nothing_but_the_summary_is_printed_when_piped() {
    let output = loadgen(&["run", &mixed().address, "-n", "100", "-c", "2"]);
    assert!(output.stderr.is_empty());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("75 hits, 25 misses (25.00 % of the classified)"), "{text}");
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_the_summary_still_printed() {
    let output = loadgen(&["run", &mixed().address, "-n", "10", "-c", "1", "--json", "/nonexistent/run.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/run.json"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("10 requests"));
}
