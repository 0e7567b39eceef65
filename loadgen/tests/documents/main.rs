//! Runs every command that the documents show, each document's in a directory and a network of its own, with the real
//! programs; compares what the documents say they print; and holds JSON to its schemas in docs/schemas/.
//!
//! It has no harness, since it is two programs: under the name `forebay` it is that program. Cargo names no program of
//! another package to a test, and the one in the target directory may be of yesterday.

mod blocks;
mod schema;

use blocks::{Block, Kind, Step, blocks, is_like};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// How long the commands of one document may take. Generous: it decides only how long a failure takes.
const PATIENCE_SECONDS: &str = "300";

/// What a person does without being told: waits until a server is there before asking it.
const PRELUDE: &str = r#"
set -eu
ip link set lo up
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
answers() { for try in $(seq 600); do curl -so "$STATE/health" "$@" && return 0; sleep 0.05; done; return 1; }
"#;

fn main() -> ExitCode {
    let program = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if program.file_name().is_some_and(|name| name == "forebay") {
        let command = <forebay::cli::Cli as clap::Parser>::try_parse();
        return forebay::cli::run::run(command.unwrap_or_else(|error| forebay::cli::refuse(&error)).command);
    }
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    blocks::check();
    schema::check();
    let documents = documents();
    nothing_hides(&documents);
    json_is_documented();
    the_book_is_whole();
    if !has_networks() {
        eprintln!("SKIPPED: no network namespaces here (unshare -rn), so the documents' commands are not run");
        println!("test result: ok. 5 passed; 0 failed; {} ignored", documents.len());
        return ExitCode::SUCCESS;
    }
    let mut held = BTreeSet::new();
    let (mut passed, mut failed) = (5, 0);
    for (name, text) in documents.iter().filter(|(name, _)| wanted.as_ref().is_none_or(|wanted| name.contains(wanted)))
    {
        let steps: Vec<Step> = blocks(text).iter().flat_map(Block::steps).collect();
        if steps.is_empty() {
            continue;
        }
        match run(&steps, &mut held) {
            Ok(()) => passed += 1,
            Err(fault) => {
                failed += 1;
                eprintln!("{name}{fault}\n");
            }
        }
        println!("test {name} ... {} steps", steps.len());
    }
    if wanted.is_none() {
        let all: BTreeSet<String> = schemas().into_iter().map(|(name, _)| name).collect();
        assert_eq!(all, held, "every schema is held by the output of a documented command");
    }
    println!("test result: {}. {passed} passed; {failed} failed; 0 ignored", if failed == 0 { "ok" } else { "FAILED" });
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// All documents by their paths from the top of the repository.
fn documents() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for folder in ["", "docs", "deploy", "loadgen", "bench"] {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        paths.extend(entries.map(|entry| entry.unwrap().path()));
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    assert!(paths.len() > 15, "the documents were not found");
    let name = |path: &PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The schemas, by the name of the document they describe.
fn schemas() -> Vec<(String, Value)> {
    let entries = fs::read_dir(root().join("docs/schemas")).unwrap().map(|entry| entry.unwrap().path());
    let schema = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().trim_end_matches(".schema.json").to_owned();
        (name, serde_json::from_str(&fs::read_to_string(&path).unwrap()).expect("a schema is JSON"))
    };
    entries.map(schema).collect()
}

/// Every command stands in a block that is run, or that says why it cannot be.
fn nothing_hides(documents: &[(String, String)]) {
    let mut faults = Vec::new();
    for (name, text) in documents {
        for block in blocks(text) {
            if let Some(command) = block.hidden_command() {
                faults.push(format!("{name}:{}: `{command}` stands in no block of commands", block.line));
            }
            if block.kind == Kind::NotRun(String::new()) {
                faults.push(format!("{name}:{}: norun= without a reason", block.line));
            }
        }
    }
    assert!(faults.is_empty(), "\n  {}", faults.join("\n  "));
}

/// Every key of a schema is explained in docs/json.md.
fn json_is_documented() {
    let text = fs::read_to_string(root().join("docs/json.md")).unwrap();
    let words: BTreeSet<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .collect();
    for (name, schema) in schemas() {
        let missing: Vec<String> = schema::names(&schema).into_iter().filter(|key| !words.contains(&key[..])).collect();
        assert!(missing.is_empty(), "docs/json.md says nothing about these keys of {name}: {missing:?}");
    }
}

/// Every page of docs/ is in the book's table of contents.
fn the_book_is_whole() {
    let contents = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let names = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let pages = names.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".md"));
    let missing: Vec<String> =
        pages.filter(|name| name != "SUMMARY.md" && !contents.contains(&format!("({name})"))).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md leaves out {missing:?}");
}

/// Whether a process may have a network of its own, where the ports that documents name are free.
fn has_networks() -> bool {
    let tried = Command::new("unshare").args(["-rn", "ip", "link", "set", "lo", "up"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// Runs the steps of one document, or says which one failed, and how.
fn run(steps: &[Step], held: &mut BTreeSet<String>) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let (bin, state, work) = (dir.path().join("bin"), dir.path().join("state"), dir.path().join("work"));
    for folder in [&bin, &state, &work] {
        fs::create_dir(folder).unwrap();
    }
    let own = std::env::current_exe().unwrap();
    std::os::unix::fs::symlink(own, bin.join("forebay")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_loadgen"), bin.join("loadgen")).unwrap();
    let script = dir.path().join("script");
    fs::write(&script, script_of(steps)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-rn", "timeout", "-k", "5", PATIENCE_SECONDS, "bash"]).arg(&script).current_dir(&work);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("FOREBAY_") || name.starts_with("LOADGEN_") {
            command.env_remove(name); // the tests' own settings are not the documents'
        }
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let output = command.env("PATH", path).env("STATE", &state).output().expect("unshare runs");
    let printed = |index: usize| fs::read_to_string(state.join(format!("step-{index}"))).unwrap_or_default();
    if !output.status.success() {
        let at = fs::read_to_string(state.join("at")).unwrap_or_default().trim().parse().unwrap_or(0);
        let (step, stderr) = (&steps[at], String::from_utf8_lossy(&output.stderr));
        let server = fs::read_to_string(state.join("server")).unwrap_or_default();
        let (line, commands, printed) = (step.line, &step.commands, printed(at));
        return Err(format!(
            ":{line}: failed ({})\n{commands}--- printed\n{printed}\n--- bash\n{stderr}\n--- server\n{server}",
            output.status
        ));
    }
    for (index, step) in steps.iter().enumerate() {
        let Some(prints) = step.prints.as_ref().filter(|prints| !is_like(prints, &printed(index))) else { continue };
        let (line, commands, printed) = (step.line, &step.commands, printed(index));
        return Err(format!(":{line}: {commands}--- printed\n{printed}--- not\n{prints}"));
    }
    hold_schemas(&work, held)
}

/// What is left in the directory under the name of a schema is what the schema says.
fn hold_schemas(work: &Path, held: &mut BTreeSet<String>) -> Result<(), String> {
    for (name, schema) in schemas() {
        for (file, is_lines) in [(format!("{name}.json"), false), (format!("{name}.jsonl"), true)] {
            let Ok(text) = fs::read_to_string(work.join(&file)) else { continue };
            let documents: Vec<&str> = if is_lines { text.lines().collect() } else { vec![&text] };
            for document in documents {
                let value: Value = serde_json::from_str(document).map_err(|error| format!(": {file}: {error}"))?;
                let faults = schema::faults(&schema, &value);
                if !faults.is_empty() {
                    return Err(format!(": {file} is not as its schema says:\n{}", faults.join("\n")));
                }
            }
            held.insert(name.clone());
        }
    }
    Ok(())
}

/// All steps as one script, so that directories, variables and servers stay from step to step.
fn script_of(steps: &[Step]) -> String {
    let mut script = PRELUDE.to_owned();
    for (index, step) in steps.iter().enumerate() {
        let commands = patient(&step.commands);
        script.push_str(&format!("echo {index} >\"$STATE/at\"\n{{\n{commands}}} >\"$STATE/step-{index}\" 2>&1\n"));
    }
    script
}

/// The commands of a person who waits until a server answers, and until it has ended.
fn patient(commands: &str) -> String {
    let whole = commands.replace("\\\n", " ");
    let mut text = String::new();
    for line in whole.lines() {
        match line.strip_suffix(" &").filter(|line| line.contains("forebay serve ")) {
            Some(line) => {
                let listen = line.split_once("--listen ").map_or("127.0.0.1:8064", |(_, rest)| rest);
                let listen = listen.split_whitespace().next().unwrap_or_default();
                let place = match listen.strip_prefix("unix:") {
                    Some(path) => format!("--unix-socket {path} http://localhost/.forebay/health"),
                    None => format!("http://{listen}/.forebay/health"),
                };
                text.push_str(&format!("{line} >>\"$STATE/server\" 2>&1 &\nanswers {place}\n"));
            }
            None if line.starts_with("kill %") => text.push_str(&format!("{line}; wait {}\n", &line[5..])),
            None => text.push_str(&format!("{line}\n")),
        }
    }
    text
}
