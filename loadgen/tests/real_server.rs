//! Forebay itself under load: what the load generator counts is what the server did.

mod common;
mod forebay_server;
use common::{loadgen, run};
use forebay_server::{Counts, Server, until};
use serde_json::Value;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// Files made by `loadgen corpus`, and the list of them.
struct Corpus {
    _directory: TempDir,
    files: PathBuf,
    list: PathBuf,
}

impl Corpus {
    fn make(options: &[&str]) -> Corpus {
        let directory = tempfile::tempdir().unwrap();
        let (files, list) = (directory.path().join("files"), directory.path().join("list"));
        let made = loadgen(&[&["corpus", text(&files), "--list", text(&list)], options].concat());
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Corpus { _directory: directory, files, list }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The classes of a run without errors, which are all that it measured.
#[track_caller]
fn counts(run: &Value) -> Counts {
    let requests = |class: &str| run["classes"][class]["requests"].as_u64().unwrap();
    for (kind, count) in run["classes"]["total"]["errors"].as_object().unwrap() {
        assert_eq!(count, 0, "{kind}");
    }
    let counts = Counts { hits: requests("hit"), misses: requests("miss") };
    assert_eq!(counts.hits + counts.misses, requests("total"));
    counts
}

/// A run without errors, which the server must have counted alike.
#[track_caller]
fn run_in_agreement(server: &Server, options: &[&str]) -> Counts {
    let before = server.counts();
    let (measured, status) = run(&[&[server.address.as_str()], options].concat());
    assert_eq!(status, 0);
    let measured = counts(&measured);
    // The server counts a response after its last byte was sent, which the client may have before.
    until(&format!("the server counts {measured:?} after {before:?}"), || {
        let after = server.counts();
        measured == Counts { hits: after.hits - before.hits, misses: after.misses - before.misses }
    });
    measured
}

#[test]
fn every_byte_is_right_and_both_sides_count_alike() {
    // From files smaller than a page to files larger than the arena, in all twelve times what it holds.
    let corpus = Corpus::make(&["--count", "600", "--sizes", "pareto:8KiB,0.8", "--max-size", "3MiB"]);
    for transmit in ["auto", "copy", "splice", "zerocopy"] {
        let options = [("FOREBAY_ARENA", "2MiB"), ("FOREBAY_WORKERS", "2"), ("FOREBAY_TRANSMIT", transmit)];
        let server = Server::start(&corpus.files, &options);
        let listed = ["--listing", "--verify", "--popularity", "zipf:1", "-n", "1500", "-c", "16", "-t", "2"];
        let counts = run_in_agreement(&server, &listed);
        assert!(counts.hits > 0 && counts.misses > 0, "{counts:?}");
        let named = ["--paths", text(&corpus.list), "--verify", "--popularity", "sequential", "--pipeline", "4"];
        run_in_agreement(&server, &[&named[..], &["-n", "600", "-c", "4"]].concat());
    }
}

#[test]
fn bodies_that_are_discarded_count_in_full() {
    let corpus = Corpus::make(&["--count", "100", "--sizes", "pareto:8KiB,0.5", "--max-size", "3MiB"]);
    let files = std::fs::read_dir(&corpus.files).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    let server = Server::start(&corpus.files, &[("FOREBAY_ARENA", "2MiB")]);
    let options = ["--listing", "--discard-bodies", "--popularity", "sequential", "-n", "100", "-c", "3"];
    for pipeline in ["1", "4"] {
        let (run, status) = run(&[&[&server.address, "--pipeline", pipeline], &options[..]].concat());
        let Counts { hits, misses } = counts(&run);
        assert_eq!((status, hits + misses), (0, 100));
        assert_eq!(run["classes"]["total"]["bytes"], bytes);
    }
}

#[test]
fn a_nested_tree_is_listed_whole_and_a_link_to_itself_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("sub dir/deeper");
    std::fs::create_dir_all(&deep).unwrap();
    for (place, name) in [(directory.path(), "top"), (deep.parent().unwrap(), "middle"), (&deep, "ünten %20?")] {
        std::fs::write(place.join(name), "x").unwrap();
    }
    std::os::unix::fs::symlink("../..", deep.join("up")).unwrap();
    std::os::unix::fs::symlink(".", directory.path().join("again")).unwrap();
    let server = Server::start(directory.path(), &[]);
    let url = server.address.as_str();
    let (listed, status) = run(&[url, "--listing", "--popularity", "sequential", "-n", "30", "-c", "2"]);
    assert_eq!(status, 0, "{}", listed["classes"]["total"]);
    assert_eq!(counts(&listed).hits + counts(&listed).misses, 30);
    assert_eq!(listed["settings"]["names"], 3, "each file once");
    let output = loadgen(&["run", url, "--listing", "-n", "3", "-c", "1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("left out ") && said.contains(" and 1 more: the listing is that of a directory above"),
        "{said}"
    );
}

#[test]
fn a_host_of_ones_own_is_the_only_one() {
    let corpus = Corpus::make(&["--count", "1", "--sizes", "fixed:1KiB"]);
    let server = Server::start(&corpus.files, &[]);
    // Two of them would be answered 400.
    let url = format!("http://{}/f000000", server.address);
    let (run, status) = run(&[&url, "-n", "5", "-c", "1", "-H", "Host: www.example.org"]);
    assert_eq!((status, counts(&run).hits + counts(&run).misses), (0, 5));
}

#[test]
fn other_methods_and_connections_for_one_request() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "x".repeat(5000)).unwrap();
    let server = Server::start(directory.path(), &[("FOREBAY_ALLOW_WRITES", "true")]);
    let url = format!("http://{}/file", server.address);
    let measured = |options: &[&str]| {
        let (run, status) = run(&[&[url.as_str(), "-n", "40", "-c", "2"], options].concat());
        let total = &run["classes"]["total"];
        assert_eq!((status, &total["requests"]), (0, &40.into()), "{options:?}: {total}");
        (total["bytes"].as_u64().unwrap(), run["client"]["connections"].as_u64().unwrap())
    };
    assert_eq!(measured(&[]), (40 * 5000, 2));
    assert_eq!(measured(&["-X", "HEAD"]).0, 0);
    assert_eq!(measured(&["-X", "HEAD", "--pipeline", "4"]).0, 0);
    let (bytes, connections) = measured(&["--no-keepalive"]);
    assert!((bytes, connections >= 40) == (40 * 5000, true), "{connections} connections");
    measured(&["-X", "PUT", "--body", "hello"]);
    assert_eq!(std::fs::read(directory.path().join("file")).unwrap(), b"hello");
}

#[test]
fn what_fits_the_cache_hits_and_what_does_not_misses() {
    let corpus = Corpus::make(&["--count", "1024", "--sizes", "fixed:16KiB"]);
    let in_turn = |requests| ["--paths", text(&corpus.list), "--popularity", "sequential", "-c", "1", "-n", requests];
    let large = Server::start(&corpus.files, &[("FOREBAY_ARENA", "32MiB")]);
    assert_eq!(run_in_agreement(&large, &in_turn("1024")), Counts { hits: 0, misses: 1024 });
    // What was sent first from elsewhere is on its way into the cache.
    until("every file is cached", || large.metric("forebay_cache_entries") == 1024);
    let popular = ["--paths", text(&corpus.list), "--popularity", "zipf:0.9", "-c", "8", "-n", "4000"];
    assert_eq!(run_in_agreement(&large, &popular), Counts { hits: 4000, misses: 0 });

    // 16 MiB in turn through 4 MiB: whatever the policy, a file asked for once in each round hits only if it was cached
    // when the round began, and only a quarter of them can have been.
    let small = Server::start(&corpus.files, &[("FOREBAY_ARENA", "4MiB")]);
    let counts = run_in_agreement(&small, &in_turn("3072"));
    assert!(counts.misses >= 1024 + 2 * 768, "{counts:?}");
}

#[test]
fn every_slot_of_an_open_loop_is_sent_or_dropped() {
    let corpus = Corpus::make(&["--count", "200", "--sizes", "lognormal:16KiB,1"]);
    let server = Server::start(&corpus.files, &[("FOREBAY_ARENA", "2MiB")]);
    for arrivals in ["constant", "poisson"] {
        let options = ["--rate", "4000", "--arrivals", arrivals, "-c", "4", "-t", "2", "--verify", "-n", "1000"];
        let (run, status) = run(&[&[&server.address, "--paths", text(&corpus.list)], &options[..]].concat());
        let Counts { hits, misses } = counts(&run);
        let schedule = |key: &str| run["schedule"][key].as_u64().unwrap();
        assert_eq!((status, schedule("intended")), (0, 1000));
        assert_eq!((schedule("sent"), schedule("dropped")), (1000, 0), "the end is a number of requests");
        assert_eq!(hits + misses, 1000);
    }
    // A rate that nobody can serve, until its time is over.
    let options = ["--rate", "10000000", "-c", "2", "-d", "100ms", "--fail-on", "dropped>100%"];
    let (run, status) = run(&[&[&server.address, "--paths", text(&corpus.list)], &options[..]].concat());
    let Counts { hits, misses } = counts(&run);
    let schedule = |key: &str| run["schedule"][key].as_u64().unwrap();
    assert_eq!((status, schedule("intended")), (0, 1_000_000));
    assert_eq!(schedule("sent") + schedule("dropped"), 1_000_000);
    assert_eq!(schedule("sent"), hits + misses);
}

#[test]
fn a_server_that_is_killed_fails_requests_by_how_they_fail() {
    let directory = tempfile::tempdir().unwrap();
    let (files, list, json) =
        (directory.path().join("files"), directory.path().join("list"), directory.path().join("run.json"));
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("small"), "x").unwrap();
    // A body that no transfer comes to the end of, and that takes no room on the disk.
    File::create(files.join("endless")).unwrap().set_len(1 << 40).unwrap();
    std::fs::write(&list, "small\nsmall\nsmall\nendless\n").unwrap();

    let server = Server::start(&files, &[("FOREBAY_ARENA", "1MiB")]);
    let address = server.address.clone();
    let client = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", &address, "--paths", text(&list), "--popularity", "sequential", "-c", "1", "-n", "7"])
        .args(["--timeout", "10m", "--json", text(&json)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until("the endless body is on its way", || server.metric("forebay_sent_bytes_total") > 1 << 20);
    drop(server);
    let output = client.wait_with_output().unwrap();
    let run: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let total = &run["classes"]["total"];
    assert_eq!(total["requests"], 3);
    let errors = |kind: &str| total["errors"][kind].as_u64().unwrap();
    assert_eq!(errors("short_body"), 1);
    // A process that ends closes its connections before its listener, so one more may have been accepted and reset.
    assert_eq!(errors("connect") + errors("reset"), 3, "{}", total["errors"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("errors: 4 ("));
    // The one that was cut off had said what it is.
    assert_eq!(run["classes"]["miss"]["errors"]["short_body"], 1);
    assert_eq!((run["ended"].as_str(), output.status.code()), (Some("completed"), Some(1)));

    let (run, status) = common::run(&[&address, "-n", "7", "-c", "2"]);
    assert_eq!((run["ended"].as_str(), status), (Some("unreachable"), 1));
    assert_eq!(run["classes"]["total"]["errors"]["connect"], 2);
}

#[test]
fn a_miss_ratio_comes_out_as_it_was_asked_for() {
    let corpus = Corpus::make(&["--count", "1200", "--sizes", "fixed:16KiB"]);
    let server = Server::start(&corpus.files, &[("FOREBAY_ARENA", "4MiB")]);
    for (ratio, threads) in [("0.1", "1"), ("0.5", "1"), ("0.1", "2"), ("0.5", "2")] {
        let options = ["--paths", text(&corpus.list), "--cache-size", "4MiB", "--miss-ratio", ratio];
        let requests = |count| [&options[..], &["-c", "8", "-t", threads, "-n", count]].concat();
        // What fits the cache must be in it first.
        run_in_agreement(&server, &requests("2000"));
        let Counts { hits, misses } = run_in_agreement(&server, &requests("4000"));
        let (share, wanted) = (misses as f64 / (hits + misses) as f64, ratio.parse::<f64>().unwrap());
        assert!((share - wanted).abs() <= 0.02, "{share} of {wanted} with {threads} threads");
    }
}
