//! What the manifests say of dependencies and of Rust, and SECURITY.md of tests.

use super::source::{root, rust_files};
use std::collections::BTreeSet;

/// The workspace's members, and where their code is.
const MEMBERS: &[(&str, &[&str])] =
    &[("", &["src", "tests"]), ("loadgen", &["loadgen/src", "loadgen/tests"]), ("bench", &["bench/src"])];

fn manifest(folder: &str) -> toml::Table {
    let path = root().join(folder).join("Cargo.toml");
    std::fs::read_to_string(&path).unwrap().parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_dependency_is_used() {
    let mut unused = Vec::new();
    for (member, folders) in MEMBERS {
        let folders: Vec<&str> = folders.iter().copied().filter(|folder| root().join(folder).exists()).collect();
        // In tests it may stand where `code` leaves it out.
        let text: String = rust_files(&folders).into_iter().map(|file| file.text).collect();
        let words: BTreeSet<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let manifest = manifest(member);
        for table in ["dependencies", "dev-dependencies"] {
            for name in manifest.get(table).and_then(toml::Value::as_table).into_iter().flat_map(|table| table.keys()) {
                if !words.contains(name.replace('-', "_").as_str()) {
                    unused.push(format!("{member}/Cargo.toml: {table}: {name}"));
                }
            }
        }
    }
    assert!(unused.is_empty(), "nothing names these dependencies:\n  {}", unused.join("\n  "));
}

/// What is promised to build is what builds here: clippy's lints for newer features go by `rust-version`.
#[test]
fn the_oldest_rust_is_the_one_that_is_tested() {
    let manifest = manifest("");
    let promised = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    let toolchain: toml::Table = std::fs::read_to_string(root().join("rust-toolchain.toml")).unwrap().parse().unwrap();
    let tested = toolchain["toolchain"]["channel"].as_str().unwrap();
    assert!(
        tested == promised || tested.starts_with(&format!("{promised}.")),
        "{promised} is promised, {tested} tested"
    );
}

#[test]
fn dependencies_come_from_one_registry() {
    let lock: toml::Table = std::fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    for package in lock["package"].as_array().unwrap() {
        let source = package.get("source").and_then(toml::Value::as_str);
        let is_usual = source.is_none_or(|source| source == "registry+https://github.com/rust-lang/crates.io-index");
        assert!(is_usual, "{:?} comes from {}", package["name"], source.unwrap_or_default());
    }
}

/// A defence without a test is a hope.
#[test]
fn every_defence_names_a_test_that_exists() {
    let security = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let defences = security.split("## What is defended where").nth(1).unwrap();
    let rows = defences.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut faults = Vec::new();
    let mut tests = 0;
    for row in rows {
        let attack = row.split('|').nth(1).unwrap().trim();
        let shown = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap();
        let named: Vec<(&str, &str)> =
            shown.split('`').skip(1).step_by(2).filter_map(|name| name.split_once("::")).collect();
        if named.is_empty() {
            faults.push(format!("{attack}: no test is named"));
        }
        for (path, names) in named {
            let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
            for name in names.trim_matches(['{', '}']).split(',') {
                tests += 1;
                if !text.contains(&format!("#[test]\nfn {name}()")) {
                    faults.push(format!("{attack}: {path} has no test {name}"));
                }
            }
        }
    }
    assert!(tests > 20, "the table was not found: {tests} tests");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
