//! `forebay simulate`: the replay is right, the default policy and the layout are good, and broken traces are named.
//!
//! Traces are generated from a seed. Where the environment variable FOREBAY_TRACES names a directory with the reference
//! traces, they are replayed too, against what libCacheSim and the project's targets say.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MIB: u64 = 1 << 20;

/// SplitMix64 (Steele, Lea, Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Requests for files of 200 bytes to 200 KiB, most of them small, by Zipf's law; one in `scan_every` is for a file
/// that is never asked for again.
fn web(seed: u64, requests: usize, files: usize, scan_every: u64) -> Vec<(u64, u32)> {
    let mut random = Random(seed);
    let mut sum = 0.0;
    let below: Vec<f64> = (1..=files)
        .map(|rank| {
            sum += (rank as f64).powf(-0.9);
            sum
        })
        .collect();
    let size_of = |file: u64| (200.0 * 2f64.powf(Random(seed ^ file).unit().powi(2) * 10.0)) as u32;
    (0..requests as u64)
        .map(|number| {
            let file = match number % scan_every {
                0 => (1 << 40) + number,
                _ => {
                    let pick = random.unit() * sum;
                    below.partition_point(|below| *below <= pick) as u64
                }
            };
            (file, size_of(file))
        })
        .collect()
}

fn oracle_general(requests: &[(u64, u32)]) -> Vec<u8> {
    let record = |(time, (file, size)): (u32, &(u64, u32))| {
        [&time.to_le_bytes()[..], &file.to_le_bytes(), &size.to_le_bytes(), &(-1i64).to_le_bytes()].concat()
    };
    (0..).zip(requests).flat_map(record).collect()
}

/// A directory with one trace in it.
struct Bench {
    dir: tempfile::TempDir,
    trace: PathBuf,
}

impl Bench {
    fn new(name: &str, bytes: impl AsRef<[u8]>) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join(name);
        std::fs::write(&trace, bytes).unwrap();
        Bench { dir, trace }
    }

    fn run(&self, options: &[&str]) -> Output {
        simulate(&self.trace, options, self.dir.path())
    }

    fn json(&self, options: &[&str]) -> serde_json::Value {
        json(self.run(options))
    }
}

fn simulate(trace: &Path, options: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.arg("simulate").arg("--trace").arg(trace).args(options).current_dir(dir);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FOREBAY_")) {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn json(output: Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no progress bar where there is no terminal");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Missed requests and missed bytes of each policy, %.
fn missed(report: &serde_json::Value) -> BTreeMap<String, (f64, f64)> {
    let policies = report["policies"].as_array().unwrap().iter();
    policies.map(|row| (row["policy"].as_str().unwrap().to_owned(), percents(row))).collect()
}

fn percents(row: &serde_json::Value) -> (f64, f64) {
    (row["request_miss_ratio"].as_f64().unwrap() * 100.0, row["byte_miss_ratio"].as_f64().unwrap() * 100.0)
}

#[test]
fn the_json_keeps_its_contract() {
    let bench = Bench::new("web.csv", "1,a,1000\n2,b,500\n3,a,1000\n4,b,500\n5,c,2000\n");
    let report = bench.json(&["--json", "--eviction", "sieve,gdc,lru,larger-first,s3-fifo"]);
    let rows = report["policies"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["policy"].as_str().unwrap()).collect();
    assert_eq!(names, ["sieve", "gdc", "lru", "larger-first", "s3-fifo"], "in the order asked for");
    for row in rows {
        assert_eq!(row["requests"], 5);
        assert_eq!(row["request_miss_ratio"], 0.6);
        assert_eq!(row["byte_miss_ratio"], 0.7);
        assert_eq!((row["evictions"].as_u64(), row["rejections"].as_u64()), (Some(0), Some(0)));
        assert_eq!(row["utilisation"].as_f64().unwrap(), 3500.0 / (64 * MIB) as f64);
    }
    let default = bench.json(&["--json"]);
    assert_eq!(default["policies"].as_array().unwrap().len(), 1);
    assert_eq!(default["policies"][0]["policy"], "gdc");
}

#[test]
fn lru_misses_as_often_as_a_list_in_order_of_use() {
    let requests = web(1, 30_000, 5_000, 10);
    let report = Bench::new("web", oracle_general(&requests)).json(&[
        "--json",
        "--ideal",
        "--eviction",
        "lru",
        "--arena",
        "8MiB",
    ]);

    let mut last_use = BTreeMap::new();
    let mut cached: HashMap<u64, (usize, u32)> = HashMap::new();
    let (mut used, mut misses) = (0, 0);
    for (now, &(file, size)) in requests.iter().enumerate() {
        match cached.get_mut(&file) {
            Some((last, _)) => {
                last_use.remove(last);
                *last = now;
            }
            None => {
                misses += 1;
                while used + u64::from(size) > 8 * MIB {
                    let (_, oldest) = last_use.pop_first().unwrap();
                    used -= u64::from(cached.remove(&oldest).unwrap().1);
                }
                used += u64::from(size);
                cached.insert(file, (now, size));
            }
        }
        last_use.insert(now, file);
    }
    let expected = 100.0 * f64::from(misses) / requests.len() as f64;
    let (simulated, _) = missed(&report)["lru"];
    assert!((simulated - expected).abs() < 0.1, "{simulated} %, where {expected} % is right");
}

#[test]
fn the_default_policy_is_better_than_lru_and_the_layout_nearly_ideal() {
    for seed in 1..=2 {
        let bench = Bench::new("web", oracle_general(&web(seed, 40_000, 10_000, 10)));
        let options = ["--json", "--eviction", "gdc,lru", "--arena", "32MiB"];
        let real = bench.json(&options);
        let ideal = missed(&bench.json(&[&options[..], &["--ideal"]].concat()));
        let leased = missed(&bench.json(&[&options[..], &["--leases", "100"]].concat()));
        let ideal_leased = missed(&bench.json(&[&options[..], &["--leases", "100", "--ideal"]].concat()));
        let utilisation = real["policies"][0]["utilisation"].as_f64().unwrap();
        let real = missed(&real);
        assert!(real["gdc"].0 + 3.0 < real["lru"].0, "{real:?}");
        assert!(real["gdc"].0 < ideal["gdc"].0 + 0.5, "{real:?} {ideal:?}");
        assert!(leased["gdc"].0 < ideal_leased["gdc"].0 + 1.0, "{leased:?} {ideal_leased:?}");
        assert!((0.86..=1.0).contains(&utilisation), "{utilisation}");
    }
}

#[test]
fn a_file_larger_than_the_arena_is_missed_every_time_and_evicts_nothing() {
    let mut rows: Vec<String> = (0..50).map(|number| format!("{number},small-{number},10000")).collect();
    rows.extend((50..60).map(|number| format!("{number},large,2000000")));
    rows.extend((60..110).map(|number| format!("{number},small-{},10000", number - 60)));
    let bench = Bench::new("large.csv", rows.join("\n"));
    let report = bench.json(&["--json", "--arena", "1MiB", "--eviction", "gdc,larger-first,lru,s3-fifo,sieve"]);
    for row in report["policies"].as_array().unwrap() {
        assert_eq!((row["evictions"].as_u64(), row["uncacheable"].as_u64()), (Some(0), Some(10)), "{row}");
        assert_eq!(row["request_miss_ratio"].as_f64().unwrap(), 60.0 / 110.0);
    }
}

#[test]
fn an_access_log_is_read_as_it_is() {
    let line = |path: &str, rest: &str| {
        format!("10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET {path} HTTP/1.1\" {rest} \"-\" \"agent \\\"x\\\"\"\n")
    };
    let log = [line("/a?x", "200 70"), line("/b", "404 9"), line("/a", "304 -"), line("/a?y", "206 10")].concat();
    let report = Bench::new("access.log", log).json(&["--json"]);
    assert_eq!((report["trace"]["requests"].as_u64(), report["trace"]["skipped"].as_u64()), (Some(3), Some(1)));
    assert_eq!(report["trace"]["footprint_bytes"], 70);
    assert_eq!(report["policies"][0]["request_miss_ratio"].as_f64().unwrap(), 1.0 / 3.0);
}

#[test]
fn curves_are_drawn_over_the_sizes_asked_for() {
    let bench = Bench::new("web", oracle_general(&web(3, 10_000, 3_000, 20)));
    let report = bench.json(&["--json", "--eviction", "gdc,lru", "--sizes", "1MiB..8MiB"]);
    let curve = report["curve"].as_array().unwrap();
    assert_eq!(curve.len(), 2 * 7);
    for policy in curve.chunks(7) {
        assert_eq!((policy[0]["arena_bytes"].as_u64(), policy[6]["arena_bytes"].as_u64()), (Some(MIB), Some(8 * MIB)));
        assert!(percents(&policy[0]).0 > percents(&policy[6]).0 + 5.0, "more memory, fewer misses");
    }
    let svg = std::fs::read_to_string(bench.dir.path().join("web.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.matches("<polyline").count() == 4);
    let text = bench.run(&["--sizes", "1MiB..2MiB", "--plot", "other.svg"]);
    assert!(String::from_utf8(text.stdout).unwrap().contains("curves drawn in other.svg"));
    assert!(bench.dir.path().join("other.svg").exists());
}

#[test]
fn a_report_is_one_page_and_says_which_files_and_why() {
    let log: String = (0..400)
        .map(|n| {
            let path = if n % 2 == 0 { "/<popular>".into() } else { format!("/file-{}", n / 2 % 20) };
            let size = if n % 2 == 0 { 1_000 } else { 200_000 };
            format!("h - - [1] \"GET {path} HTTP/1.1\" 200 {size} \"-\" \"-\"\n")
        })
        .collect();
    let bench = Bench::new("access.log", log);
    let options = ["--arena", "1MiB", "--eviction", "gdc,lru", "--sizes", "1MiB..4MiB", "--explain", "3"];
    let report = bench.json(&[&options[..], &["--json", "--report", "report.html"]].concat());
    assert_eq!(report["explain"].as_array().unwrap().len(), 2, "one for each policy");
    let lru = &report["explain"][1];
    assert_eq!((&lru["kept"][0]["name"], &lru["kept"][0]["hits"]), (&"/<popular>".into(), &199.into()));
    let missed = lru["missed"].as_array().unwrap();
    assert!(missed.len() == 3 && missed.iter().all(|file| file["why"].as_str().unwrap().starts_with("evicted ")));
    let page = std::fs::read_to_string(bench.dir.path().join("report.html")).unwrap();
    for part in ["<h1>Simulation of access.log</h1>", "/&lt;popular&gt;", "data-readout=\"requests\"", ">1 MiB<"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    for outside in ["/<popular>", "{{", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let text = String::from_utf8(bench.run(&options).stdout).unwrap();
    assert!(
        text.contains("\nlru at 1 MiB keeps at the end, worth most first:\n  /<popular>: 1000 B, 199 hits"),
        "{text}"
    );
    assert!(bench.json(&["--json"])["explain"].as_array().unwrap().is_empty());
}

#[test]
fn broken_traces_fail_with_the_record_that_is_wrong() {
    let mut cut = oracle_general(&web(1, 10, 5, 5));
    cut.truncate(230);
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("cut", cut, "record 10: the file ends after 14 of its 24 bytes"),
        ("rows.csv", b"1,a,5\n2,b,huge\n".to_vec(), "record 2: \"huge\" is not a size in bytes"),
        ("access.log", b"h - - [1] \"GET / HTTP/1.1\" 200 5\nrubbish\n".to_vec(), "record 2: no request in quotes"),
        ("empty", Vec::new(), "it holds no request"),
        ("packed.zst", b"\x28\xb5\x2f\xfd\x00\x00".to_vec(), "compressed (zstd)"),
    ];
    for (name, bytes, message) in cases {
        let output = Bench::new(name, bytes).run(&[]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(message) && stderr.contains(name), "{stderr}");
        assert!(output.stdout.is_empty());
    }
    let missing = simulate(Path::new("no-such-trace"), &[], Path::new("."));
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("cannot open no-such-trace"));
}

#[test]
fn wrong_usage_is_told_so() {
    let bench = Bench::new("web.csv", "1,a,5\n");
    for (options, message) in [
        (&["--eviction", "random"][..], "larger-first"),
        (&["--sizes", "16MiB"], "a range of sizes reads 16MiB..1GiB"),
        (&["--sizes", "16MiB..1MiB"], "16MiB is more than 1MiB"),
        (&["--plot", "x.svg"], "--sizes"),
        (&["--format", "pcap"], "oracleGeneral"),
        (&["--arena", "1"], "at least 1MiB"),
    ] {
        let output = bench.run(options);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{options:?}: {stderr}");
        assert!(stderr.contains(message), "{options:?}: {stderr}");
    }
}

/// Missed requests and bytes at 64 MiB, %: what `gdc` may have at most, and what libCacheSim says of `lru`, `s3-fifo`
/// and `sieve` with an ideal layout.
const REFERENCE: [(&str, [(f64, f64); 4]); 4] = [
    ("adaptsize", [(56.5, 59.0), (60.4, 59.4), (59.2, 58.5), (58.8, 58.2)]),
    ("apache", [(22.0, 72.0), (36.7, 70.7), (15.5, 83.8), (34.0, 71.9)]),
    ("tb3300", [(51.5, 60.5), (57.5, 61.1), (53.8, 59.4), (54.7, 59.1)]),
    ("tb2706", [(37.2, 47.0), (37.7, 44.7), (37.5, 44.2), (37.6, 44.5)]),
];

#[test]
fn reference_traces_where_they_are_present() {
    let Some(traces) = std::env::var_os("FOREBAY_TRACES") else {
        println!("FOREBAY_TRACES is not set: the reference traces are not replayed");
        return;
    };
    let mut utilisations = Vec::new();
    for (name, [most, known @ ..]) in REFERENCE {
        let trace = Path::new(&traces).join(name).with_extension("oracleGeneral");
        let run = |options: &[&str]| json(simulate(&trace, &[&["--json"], options].concat(), Path::new(".")));
        let real = run(&["--eviction", "gdc"]);
        let (requests, bytes) = missed(&real)["gdc"];
        assert!(requests <= most.0 && bytes <= most.1, "{name}: gdc misses {requests} % and {bytes} % of bytes");
        let ideal = missed(&run(&["--ideal", "--eviction", "gdc,lru,s3-fifo,sieve"]));
        assert!(requests <= ideal["gdc"].0 + 0.5, "{name}: {requests} %, ideally {} %", ideal["gdc"].0);
        for (policy, known) in ["lru", "s3-fifo", "sieve"].into_iter().zip(known) {
            let (requests, bytes) = ideal[policy];
            let off = (requests - known.0).abs().max((bytes - known.1).abs());
            assert!(off <= 0.3, "{name}: {policy} misses {requests} % and {bytes} % of bytes, libCacheSim {known:?}");
        }
        let leased = missed(&run(&["--leases", "512", "--eviction", "gdc"]))["gdc"].0;
        let ideal_leased = missed(&run(&["--leases", "512", "--eviction", "gdc", "--ideal"]))["gdc"].0;
        assert!(leased <= ideal_leased + 1.0, "{name}: {leased} % with leases, ideally {ideal_leased} %");
        let utilisation = real["policies"][0]["utilisation"].as_f64().unwrap();
        assert!(utilisation >= 0.86, "{name}: {utilisation}");
        utilisations.push(utilisation);
    }
    let mean = utilisations.iter().sum::<f64>() / utilisations.len() as f64;
    assert!(mean >= 0.92, "{utilisations:?}");
}
