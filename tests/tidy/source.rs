//! The source files of the tree, cut into what the rules look at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One source file.
pub struct File {
    /// From the root of the repository, such as `src/cache/mod.rs`.
    pub path: String,
    pub text: String,
    /// Without comments, and without the modules that are compiled for tests only.
    pub code: String,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file beneath `folders`, by path.
pub fn rust_files(folders: &[&str]) -> Vec<File> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut paths);
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        File { code: code(&text), path, text }
    };
    paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")).map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, paths),
            false => paths.push(path),
        }
    }
}

/// What the compiler sees of a file when it builds the program: no comments, no `#[cfg(test)]` items.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let indentation = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("#[cfg(test)]") {
            // Up to the end of the item: a line at the same depth that closes it, or that ends a statement.
            for line in lines.by_ref() {
                let depth = line.len() - line.trim_start().len();
                let is_end = line.ends_with(';') || line.trim_start().starts_with('}');
                if depth == indentation && is_end {
                    break;
                }
            }
            continue;
        }
        let line = match line.find("//") {
            Some(at) if line[..at].matches('"').count().is_multiple_of(2) => &line[..at],
            _ => line,
        };
        code.push_str(line);
        code.push('\n');
    }
    code
}

/// The name of the module that a file is, below its crate: `cache::fill`; empty for `lib.rs` and `main.rs`.
pub fn module(path: &str) -> String {
    let below = path.split_once("src/").map_or(path, |(_, below)| below);
    let name = below.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
    if ["lib", "main", "mod"].contains(&name.as_str()) { String::new() } else { name }
}

/// Every path that code mentions after `prefix::`, braces spelled out: `use crate::a::{b, c::D}` gives `a::b` and
/// `a::c::D`.
pub fn mentions(code: &str, prefix: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        let rest = &code[at + prefix.len()..];
        if before.is_some_and(|before| before.is_alphanumeric() || matches!(before, '_' | ':')) {
            continue;
        }
        let Some(rest) = rest.strip_prefix("::") else { continue };
        spell_out("", rest, &mut paths);
    }
    paths
}

/// Returns how many bytes of `text` the path takes.
fn spell_out(stem: &str, text: &str, paths: &mut Vec<String>) -> usize {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let len = text.find(|c: char| !is_name(c)).unwrap_or(text.len());
    let path = match (stem, &text[..len]) {
        ("", name) => name.to_owned(),
        (stem, "" | "self") => stem.to_owned(),
        (stem, name) => format!("{stem}::{name}"),
    };
    if text[len..].starts_with("::{") {
        return len + 2 + spell_out_group(&path, &text[len + 2..], paths);
    }
    if len == 0 && text.starts_with('{') {
        return spell_out_group(&path, text, paths);
    }
    if text[len..].starts_with("::") {
        return len + 2 + spell_out(&path, &text[len + 2..], paths);
    }
    paths.push(path);
    len
}

fn spell_out_group(stem: &str, text: &str, paths: &mut Vec<String>) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text.as_bytes()[at] {
            b'}' => return at + 1,
            b',' | b' ' | b'\n' => at += 1,
            _ => at += spell_out(stem, &text[at..], paths).max(1),
        }
    }
    at
}

/// For each file of one crate, the files of that crate whose modules it mentions, other than the parts of its own
/// folder when it is the folder's face (`mod.rs`, `lib.rs`, `main.rs`).
pub fn imports(files: &[File]) -> BTreeMap<&str, Vec<&str>> {
    let by_module: BTreeMap<String, &str> = files.iter().map(|file| (module(&file.path), file.path.as_str())).collect();
    let file_of = |path: &str| {
        let mut path = path;
        loop {
            if let Some(file) = by_module.get(path).filter(|_| !path.is_empty()) {
                return Some(*file);
            }
            path = path.rsplit_once("::")?.0;
        }
    };
    let mut imports = BTreeMap::new();
    for file in files {
        let own = module(&file.path);
        let parent = own.rsplit_once("::").map_or("", |(parent, _)| parent);
        let grandparent = parent.rsplit_once("::").map_or("", |(grandparent, _)| grandparent);
        let below = |stem: &str, path: String| if stem.is_empty() { path } else { format!("{stem}::{path}") };
        let mut paths: Vec<String> = mentions(&file.code, "crate");
        let up_twice = mentions(&file.code, "super::super");
        let up = mentions(&file.code, "super").into_iter().filter(|path| !path.starts_with("super"));
        paths.extend(up.map(|path| below(parent, path)));
        paths.extend(up_twice.into_iter().map(|path| below(grandparent, path)));
        let mut named: Vec<&str> = paths.iter().filter_map(|path| file_of(path)).collect();
        let is_part = |other: &str| own.is_empty() || module(other).starts_with(&format!("{own}::"));
        named.retain(|other| *other != file.path && !is_part(other));
        named.sort_unstable();
        named.dedup();
        imports.insert(file.path.as_str(), named);
    }
    imports
}

/// The groups of files that import each other in a circle.
pub fn circles(imports: &BTreeMap<&str, Vec<&str>>) -> Vec<Vec<String>> {
    let reached = |from: &str| {
        let mut seen = std::collections::BTreeSet::new();
        let mut left = vec![from.to_owned()];
        while let Some(file) = left.pop() {
            for next in imports.get(file.as_str()).into_iter().flatten() {
                if seen.insert((*next).to_owned()) {
                    left.push((*next).to_owned());
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&str, _> = imports.keys().map(|file| (*file, reached(file))).collect();
    let mut circles: Vec<Vec<String>> = Vec::new();
    for (file, from) in &reach {
        let mut circle: Vec<String> =
            from.iter().filter(|other| reach[other.as_str()].contains(*file)).cloned().collect();
        circle.sort();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

/// The functions of a file: the name, the number of the first line, and how many lines there are. The tree is formatted
/// by rustfmt, so a function ends with a brace at its own depth.
pub fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(at) = words.iter().position(|word| *word == "fn") else { continue };
        let is_modifier = |word: &&str| {
            ["pub", "async", "const", "unsafe", "extern"].contains(word)
                || word.starts_with("pub(")
                || word.ends_with(')')
                || *word == "\"C\""
                || *word == "super)"
                || *word == "in"
        };
        if !words[..at].iter().all(is_modifier) || line.ends_with(';') {
            continue;
        }
        let indentation = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indentation}}}");
        let open = lines[number..].iter().position(|line| line.trim_end().ends_with('{') || line.ends_with("{}"));
        let Some(length) = lines[number..].iter().position(|line| *line == end) else { continue };
        if open.is_none_or(|open| open > length) || line.ends_with("{}") {
            continue;
        }
        let name = words[at + 1].split(['(', '<']).next().unwrap_or_default();
        functions.push((name.to_owned(), number + 1, length + 1));
    }
    functions
}
