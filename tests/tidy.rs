//! What no reviewer should have to say twice. Each rule reads the tree itself; what does not hold yet stands in the
//! rule's own list of exceptions with its reason, and an exception that is not needed any more fails the test like a
//! fault.

#[path = "tidy/manifests.rs"]
mod manifests;
#[path = "tidy/source.rs"]
mod source;

use source::{File, circles, functions, imports, mentions, module, root, rust_files};
use std::collections::{BTreeMap, BTreeSet};

/// The folders and files of `src/` in layers, lowest first. A module imports what is in its own folder, and lower
/// layers.
const LAYERS: &[&[&str]] = &[
    &["machine", "planted", "sync"],
    &["limits", "units", "version", "net", "wake", "text"],
    &["ring", "http", "trace", "chart", "page"],
    &["arena", "origin", "rules"],
    &["cache"],
    &["exchange", "metrics", "config", "simulate"],
    &["server", "client"],
    &["cli", "fuzzing"],
    &["main", "lib", "bin"],
];

/// Imports that go upwards still: what imports, what it imports, and why.
const UPWARD: &[(&str, &str, &str)] = &[];

/// Names that a folder must not mention, beyond what the layers forbid.
const UNKNOWN_TO: &[(&str, &[&str])] = &[
    ("src/cache/", &["crate::http", "crate::ring", "crate::metrics", "clap"]),
    ("src/exchange/", &["crate::ring", "tokio", "io_uring"]),
    ("src/server/data/", &["server::control", "super::control"]),
    ("src/server/control/", &["server::data", "super::data"]),
];

/// Files that mention what they must not know, and why they still do.
const KNOWN_STILL: &[(&str, &str, &str)] = &[];

/// Circles of files, each by its first file, and what cuts it.
const CIRCLES: &[(&str, &str)] = &[(
    "src/cache/entry.rs",
    "an entry knows the fill that reads it, and the fill its entry; the index could hold the first",
)];

/// Functions of more than [`FUNCTION_LINES`] lines, and what becomes of them.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

/// Files of more than [`FILE_LINES`] lines, and what becomes of them.
const LONG_FILES: &[(&str, &str)] = &[];

/// Files with lines of more than [`COLUMNS`] columns, and why.
const LONG_LINES: &[(&str, &str)] = &[("tests/bytes.rs", "a text over several lines")];

/// Public items that nothing but their own declaration names, and why they stay.
const UNUSED: &[(&str, &str)] = &[];

/// Metrics that are declared and that nothing counts, and why they stay.
const UNCOUNTED: &[(&str, &str)] = &[];

/// Folders whose code may be unsafe, each saying why in its first file.
const UNSAFE: &[(&str, &str)] = &[
    ("src/arena", "maps memory and writes where the kernel reads"),
    ("src/ring", "hands addresses to the kernel"),
    ("src/ring/world", "is the kernel, in simulations: it reads and writes what was lent"),
    ("src/server/data/deliver", "lends memory to the kernel for sends"),
    ("loadgen/src/exec", "hands addresses to the kernel; wire.rs says why it does not go through ring::Kernel"),
];

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 600;
const COLUMNS: usize = 120;

/// Every place where the project's own code is.
const EVERYWHERE: &[&str] = &["src", "tests", "loadgen/src", "loadgen/tests", "bench/src"];

/// Compares what was found with the exceptions: what is not excepted is a fault, and so is an exception without a
/// finding.
fn judge<'a>(rule: &str, found: BTreeMap<String, String>, excepted: impl Iterator<Item = (String, &'a str)>) {
    let excepted: BTreeMap<String, &str> = excepted.collect();
    let mut faults: Vec<String> = Vec::new();
    for (place, fault) in &found {
        if !excepted.contains_key(place) {
            faults.push(format!("{place}: {fault}"));
        }
    }
    for (place, reason) in excepted {
        assert!(!reason.is_empty(), "{rule}: {place} is excepted without a reason");
        if !found.contains_key(&place) {
            faults.push(format!("{place}: holds by now; take it from the exceptions"));
        }
    }
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

fn pairs<'a>(list: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = (String, &'a str)> {
    list.iter().map(|(place, reason)| ((*place).to_owned(), *reason))
}

fn triples<'a>(list: &'a [(&'a str, &'a str, &'a str)]) -> impl Iterator<Item = (String, &'a str)> {
    list.iter().map(|(from, to, reason)| (format!("{from} -> {to}"), *reason))
}

fn folder(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

#[test]
fn every_import_goes_downwards() {
    let layer_of = |folder: &str| LAYERS.iter().position(|layer| layer.contains(&folder));
    let mut found = BTreeMap::new();
    for file in rust_files(&["src"]) {
        let own = module(&file.path);
        let own = if own.is_empty() { "lib" } else { folder(&own) };
        let Some(layer) = layer_of(own) else {
            found.insert(file.path.clone(), format!("{own} is in no layer; say in tests/tidy.rs where it belongs"));
            continue;
        };
        let known = mentions(&file.code, "crate");
        for other in known.iter().map(|path| folder(path)).filter(|other| *other != own) {
            if layer_of(other).is_some_and(|other| other >= layer) {
                found.insert(format!("{} -> {other}", file.path), format!("{other} is not below {own}"));
            }
        }
    }
    judge("imports go down the layers", found, triples(UPWARD));
}

#[test]
fn folders_do_not_know_what_is_none_of_their_business() {
    let mut found = BTreeMap::new();
    for file in rust_files(&["src"]) {
        for (_, unknown) in UNKNOWN_TO.iter().filter(|(folder, _)| file.path.starts_with(folder)) {
            for name in unknown.iter().filter(|name| file.code.contains(&format!("{name}::"))) {
                found.insert(format!("{} -> {name}", file.path), format!("{name} is none of its business"));
            }
        }
    }
    judge("folders know only what they must", found, triples(KNOWN_STILL));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut found = BTreeMap::new();
    for folder in ["src", "loadgen/src", "bench/src"] {
        let files = rust_files(&[folder]);
        for circle in circles(&imports(&files)) {
            found.insert(circle[0].clone(), format!("imports itself by way of {}", circle[1..].join(", ")));
        }
    }
    judge("no circles of files", found, pairs(CIRCLES));
}

#[test]
fn functions_can_be_seen_whole() {
    let mut found = BTreeMap::new();
    for file in rust_files(EVERYWHERE) {
        for (name, line, length) in functions(&file.text).into_iter().filter(|(.., length)| *length > FUNCTION_LINES) {
            found.insert(format!("{}::{name}", file.path), format!("line {line} begins {length} lines"));
        }
    }
    judge("functions have at most 70 lines", found, pairs(LONG_FUNCTIONS));
}

#[test]
fn files_and_lines_are_short() {
    let mut long_files = BTreeMap::new();
    let mut long_lines = BTreeMap::new();
    for file in rust_files(EVERYWHERE) {
        let lines = file.text.lines().count();
        if lines > FILE_LINES {
            long_files.insert(file.path.clone(), format!("{lines} lines"));
        }
        for (number, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            let is_comment = line.trim_start().starts_with("//");
            // A text that is printed or matched stays on its line.
            if columns > COLUMNS && (is_comment || !line.contains('"')) {
                long_lines.insert(file.path.clone(), format!("line {} has {columns} columns", number + 1));
            }
        }
    }
    judge("files have at most 600 lines", long_files, pairs(LONG_FILES));
    judge("lines have at most 120 columns", long_lines, pairs(LONG_LINES));
}

/// The words of a text, with how often each occurs.
fn count_words<'a>(files: &'a [File], of: impl Fn(&'a File) -> &'a str) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for file in files {
        for line in of(file).lines().filter(|line| !line.trim_start().starts_with("//")) {
            for word in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
                *counts.entry(word).or_default() += 1;
            }
        }
    }
    counts
}

#[test]
fn every_public_item_is_used() {
    let all = rust_files(EVERYWHERE);
    let counts = count_words(&all, |file| &file.text);
    let mut found = BTreeMap::new();
    for file in all.iter().filter(|file| file.path.contains("src/")) {
        for line in file.code.lines().map(str::trim_start) {
            let Some(item) = line.strip_prefix("pub ").or_else(|| Some(line.strip_prefix("pub(")?.split_once(") ")?.1))
            else {
                continue;
            };
            let item = item.trim_start_matches("async ").trim_start_matches("const fn ").trim_start_matches("unsafe ");
            let named = item.split_once(' ').filter(|(kind, _)| {
                ["fn", "struct", "enum", "trait", "const", "static", "type", "union"].contains(kind)
            });
            let name = match named {
                Some((_, rest)) => rest,
                None if line.starts_with("pub const fn ") => item,
                None => continue,
            };
            let name = name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            if counts.get(name) == Some(&1) {
                found.insert(format!("{}::{name}", file.path), "nothing uses it".to_owned());
            }
        }
    }
    judge("public items are used", found, pairs(UNUSED));
}

/// The documents whose words are kept true.
fn documents() -> Vec<(String, String)> {
    let mut documents = Vec::new();
    let folders = ["", "docs", "deploy", "loadgen", "bench"];
    for folder in folders {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                documents.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(documents.len() > 5, "the documents were not found");
    documents
}

#[test]
fn every_path_that_a_document_names_exists() {
    let mut found = BTreeMap::new();
    for (document, text) in documents() {
        let here = root().join(&document).parent().unwrap().to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let links = links.filter(|link| !link.is_empty() && !link.contains("://"));
        for link in links.filter(|link| !here.join(link).exists()) {
            found.insert(format!("{document} -> {link}"), "the link leads nowhere".to_owned());
        }
        let roots = ["src/", "tests/", "docs/", "loadgen/", "bench/", "deploy/"];
        for name in text.split('`').skip(1).step_by(2).filter(|name| roots.iter().any(|root| name.starts_with(root))) {
            // `a/{b,c}.rs` names two files, `a/b.rs::c` a part of one.
            let name = name.split("::").next().unwrap_or_default();
            let is_path = name.chars().all(|c| c.is_alphanumeric() || "/._-{},".contains(c));
            for path in if is_path { spelled_out(name) } else { Vec::new() } {
                if !root().join(&path).exists() && !here.join(&path).exists() {
                    found.insert(format!("{document} -> {path}"), "there is no such path".to_owned());
                }
            }
        }
    }
    judge("documents name paths that exist", found, std::iter::empty());
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn spelled_out(name: &str) -> Vec<String> {
    let parts = name.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    match parts {
        Some((before, (names, after))) => names.split(',').map(|name| format!("{before}{name}{after}")).collect(),
        None => vec![name.to_owned()],
    }
}

/// Options of programs that are not the project's own.
const FOREIGN: &[&str] = &[
    "--release",
    "--workspace",
    "--locked",
    "--test",
    "--lib",
    "--features",
    "--ignored",
    "--nocapture",
    "--path",
    "--init",
    "--all-targets",
    "--security-opt",
    "--publish",
    "--volume",
    "--rm",
    "--now",
    "--user",
    "--tag",
    "--compressed",
];

#[test]
fn every_option_that_a_document_names_exists() {
    let sources = rust_files(&["src/cli", "loadgen/src", "bench/src"]);
    let mut fields: BTreeSet<String> = BTreeSet::from(["help".to_owned(), "version".to_owned()]);
    for file in &sources {
        for line in file.code.lines().map(str::trim_start) {
            let field =
                line.strip_prefix("pub ").unwrap_or(line).split_once(": ").map(|(name, _)| name.replace('_', "-"));
            fields.extend(field);
        }
        let named = file.code.split("long = \"").skip(1).filter_map(|rest| rest.split('"').next());
        fields.extend(named.map(str::to_owned));
    }
    // The simulated machine's program reads its own command line.
    for program in rust_files(&["src/server/data/vopr"]) {
        let named = program.code.split("\"--").skip(1).filter_map(|rest| rest.split('"').next());
        fields.extend(named.map(str::to_owned));
    }
    let mut found = BTreeMap::new();
    for (document, text) in documents() {
        for (at, _) in text.match_indices("--") {
            let starts = text[..at].chars().next_back().is_none_or(|before| " `(\n|[".contains(before));
            let name: String = text[at + 2..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let option = format!("--{name}");
            let is_option = starts && name.len() > 1 && !name.starts_with('-') && !name.ends_with('-');
            if is_option && !fields.contains(&name) && !FOREIGN.contains(&option.as_str()) {
                found.insert(format!("{document} -> {option}"), "there is no such option".to_owned());
            }
        }
    }
    judge("documents name options that exist", found, std::iter::empty());
}

/// That documentation and catalogue agree is a test of `src/metrics/`; this is about what stands behind them.
#[test]
fn every_metric_is_counted_somewhere() {
    let all = rust_files(&["src"]);
    let (own, others): (Vec<&File>, Vec<&File>) = all.iter().partition(|file| file.path.starts_with("src/metrics/"));
    let mut found = BTreeMap::new();
    let mut fields = 0;
    for file in own {
        for line in file.code.lines() {
            let Some((name, kind)) = line.strip_prefix("    pub ").and_then(|line| line.split_once(": ")) else {
                continue;
            };
            if !["Counter", "SharedCounter", "By", "SharedBy", "Histogram", "Gauge"]
                .iter()
                .any(|of| kind.starts_with(of))
            {
                continue;
            }
            fields += 1;
            let used = format!(".{name}");
            let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
            let counts = |file: &&File| file.code.split(&used).skip(1).any(is_end);
            if !others.iter().any(counts) {
                found.insert(name.to_owned(), format!("declared in {}, counted nowhere", file.path));
            }
        }
    }
    assert!(fields > 20, "the metrics were not found: {fields}");
    judge("metrics are counted", found, pairs(UNCOUNTED));
}

#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    let mut found = BTreeMap::new();
    for file in rust_files(&["src", "loadgen/src", "bench/src"]) {
        let is_unsafe = file.code.split_whitespace().any(|word| word == "unsafe");
        if is_unsafe {
            let place = file.path.rsplit_once('/').map_or(file.path.as_str(), |(folder, _)| folder);
            found.insert(place.to_owned(), format!("{} is unsafe", file.path));
        }
    }
    judge("unsafe code has its folders", found, pairs(UNSAFE));
}
