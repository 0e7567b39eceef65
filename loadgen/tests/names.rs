//! What is requested: seeded, replayed, mixed, verified.

mod common;
use common::{Reply, Server, loadgen, ok, run};
use std::{collections::HashSet, fs, path::Path};

/// A server of the files below a directory.
fn files(directory: &Path) -> Server {
    let directory = directory.to_owned();
    Server::start(move |path, _| match fs::read(directory.join(path.trim_start_matches('/'))) {
        Ok(body) => Reply::Send(ok("", &body)),
        Err(_) => Reply::Send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
    })
}

#[test]
fn the_same_seed_requests_the_same_sequence() {
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(&list, (0..100).map(|name| format!("f{name}\n")).collect::<String>()).unwrap();
    let sequence = |seed: &str| {
        let server = Server::start(|_, _| Reply::Send(ok("", b"x")));
        let list = list.path().to_str().unwrap();
        let popularity = ["--popularity", "zipf:0.8", "-n", "200", "-c", "1", "--pipeline", "4", "--seed", seed];
        let (_, status) = run(&[&[server.address.as_str(), "--paths", list], &popularity[..]].concat());
        assert_eq!(status, 0);
        server.seen()
    };
    let first = sequence("7");
    assert_eq!(first.len(), 200);
    assert_eq!(first, sequence("7"));
    assert_ne!(first, sequence("8"));
}

#[test]
fn a_trace_is_made_into_files_and_replayed_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (trace, corpus) = (directory.path().join("t.oracleGeneral"), directory.path().join("files"));
    let mut bytes = Vec::new();
    for (id, size) in [(5u64, 100u32), (9, 0), (5, 3000), (7, 70_000)] {
        bytes.extend_from_slice(&1u32.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&(-1i64).to_le_bytes());
    }
    fs::write(&trace, bytes).unwrap();
    let (trace, corpus) = (trace.to_str().unwrap(), corpus.to_str().unwrap());
    assert!(loadgen(&["corpus", corpus, "--trace", trace]).status.success());
    let server = files(Path::new(corpus));
    let (run, status) = run(&[&server.address, "--trace", trace, "--verify", "-c", "1"]);
    assert_eq!(status, 0);
    assert_eq!(server.seen(), ["/5", "/9", "/5", "/7"]);
    assert_eq!(run["classes"]["total"]["bytes"], 3000 + 3000 + 70_000);
}

#[test]
fn verifying_finds_every_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (corpus, list) = (directory.path().join("files"), directory.path().join("list"));
    let (corpus_name, list) = (corpus.to_str().unwrap(), list.to_str().unwrap());
    let made =
        ["corpus", corpus_name, "--count", "20", "--sizes", "pareto:1KiB,1", "--max-size", "100KiB", "--list", list];
    assert!(loadgen(&made).status.success());
    let server = files(&corpus);
    let verify = |seed: &str| {
        let options = ["--popularity", "sequential", "-n", "40", "-c", "3", "--verify", "--corpus-seed", seed];
        run(&[&[server.address.as_str(), "--paths", list], &options[..]].concat())
    };
    let (whole, status) = verify("1");
    assert_eq!((status, &whole["classes"]["total"]["requests"]), (0, &40.into()));

    // One byte flipped, one cut off, one too many, one file in the place of another.
    let damage = |name: &str, how: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(corpus.join(name)).unwrap();
        how(&mut bytes);
        fs::write(corpus.join(name), bytes).unwrap();
    };
    damage("f000003", &|bytes| *bytes.last_mut().unwrap() ^= 1);
    damage("f000005", &|bytes| bytes.truncate(bytes.len() - 1));
    damage("f000007", &|bytes| bytes.push(0));
    fs::copy(corpus.join("f000010"), corpus.join("f000011")).unwrap();
    let (damaged, status) = verify("1");
    let errors = &damaged["classes"]["total"]["errors"];
    assert_eq!((&errors["wrong_bytes"], &errors["short_body"]), (&6.into(), &2.into()), "{errors}");
    assert_eq!((status, &damaged["classes"]["total"]["requests"]), (1, &32.into()));
    // Another seed is another corpus.
    let (other, status) = verify("2");
    assert_eq!((status, &other["classes"]["total"]["requests"]), (1, &0.into()));
}

#[test]
fn a_miss_ratio_asks_for_names_beyond_the_cache() {
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(&list, (0..500).map(|name| format!("f{name}\t1024\n")).collect::<String>()).unwrap();
    let server = Server::start(|path, _| {
        let cold = path[2..].parse::<u32>().unwrap() >= 75;
        Reply::Send(ok(if cold { "Cache-Status: x; fwd=uri-miss\r\n" } else { "Cache-Status: x; hit\r\n" }, b"x"))
    });
    let list = list.path().to_str().unwrap();
    let options = ["--miss-ratio", "0.2", "--cache-size", "100KiB", "-n", "1000", "-c", "2"];
    let (run, _) = run(&[&[server.address.as_str(), "--paths", list], &options[..]].concat());
    let misses = run["classes"]["miss"]["requests"].as_u64().unwrap();
    // Steered: nearer than chance alone would bring it.
    assert!((180..=220).contains(&misses), "{misses}");
    let cold: Vec<String> = server.seen().into_iter().filter(|path| path[2..].parse::<u32>().unwrap() >= 75).collect();
    assert_eq!(cold.iter().collect::<HashSet<_>>().len(), cold.len(), "no name beyond the cache is asked for twice");
}
