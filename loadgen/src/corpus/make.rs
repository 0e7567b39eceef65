//! Writes the files of a run into a directory.

use super::body::Body;
use anyhow::{Context, Result, bail};
use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write,
    path::{Component, Path},
};

/// One file to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path below the directory, without a leading slash.
    pub name: String,
    pub size: u64,
}

/// What was made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Made {
    pub files: u64,
    pub bytes: u64,
    /// Names that no file can have beside the others: `a` and `a/b`, a trailing slash, `..`.
    pub skipped: u64,
}

/// Names for files without names of their own: `f000000`, `f000001`, …
pub fn numbered(sizes: &[u64]) -> Vec<Entry> {
    let sized = |(index, &size): (usize, &u64)| Entry { name: format!("f{index:06}"), size };
    sizes.iter().enumerate().map(sized).collect()
}

/// Writes every entry's body below `directory`, which is created if need be; existing files are overwritten.
///
/// # Errors
/// Names the file that could not be written.
pub fn make(directory: &Path, entries: &[Entry], seed: u64, mut progress: impl FnMut(u64)) -> Result<Made> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create the directory {}", directory.display()))?;
    let directories = directories_of(entries);
    let mut made = Made::default();
    let mut buffer = vec![0; 256 * 1024];
    for entry in entries {
        if !is_plain(&entry.name) || directories.contains(entry.name.as_str()) {
            made.skipped += 1;
            continue;
        }
        let path = directory.join(&entry.name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create the directory {}", parent.display()))?;
        }
        write(&path, entry, seed, &mut buffer).with_context(|| format!("cannot write {}", path.display()))?;
        made.files += 1;
        made.bytes += entry.size;
        progress(made.bytes);
    }
    Ok(made)
}

fn write(path: &Path, entry: &Entry, seed: u64, buffer: &mut [u8]) -> Result<()> {
    let body = Body::of(entry.name.as_bytes(), seed);
    let mut file = File::create(path)?;
    let mut offset = 0;
    while offset < entry.size {
        let length = usize::try_from(entry.size - offset).unwrap_or(usize::MAX).min(buffer.len());
        body.fill(offset, &mut buffer[..length]);
        file.write_all(&buffer[..length])?;
        offset += length as u64;
    }
    Ok(())
}

/// Writes `name<TAB>size` lines, as `loadgen run --paths` reads them.
///
/// # Errors
/// A name with a line break or a tab has no place in such a file; and those of writing it.
pub fn write_list(file: &Path, entries: &[Entry]) -> Result<()> {
    let mut text = String::new();
    for entry in entries.iter().filter(|entry| is_plain(&entry.name)) {
        if entry.name.contains(['\n', '\t']) {
            bail!("the name {:?} cannot stand in a list file", entry.name);
        }
        text.push_str(&format!("{}\t{}\n", crate::requests::encode_name(entry.name.as_bytes()), entry.size));
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Whether a name leads to a file below the directory and nowhere else.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.ends_with('/')
        && !name.contains('\0')
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Every name that must be a directory for another entry to exist.
fn directories_of(entries: &[Entry]) -> HashSet<&str> {
    let mut directories = HashSet::new();
    for entry in entries.iter().filter(|entry| is_plain(&entry.name)) {
        let mut rest = entry.name.as_str();
        while let Some((parent, _)) = rest.rsplit_once('/') {
            directories.insert(parent);
            rest = parent;
        }
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, size: u64) -> Entry {
        Entry { name: name.into(), size }
    }

    #[test]
    fn files_hold_the_bodies_of_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let entries =
            [entry("a", 0), entry("b", 1), entry("d/e", 300_001), entry("d", 5), entry("../x", 5), entry("s/", 5)];
        let made = make(directory.path(), &entries, 9, |_| {}).unwrap();
        assert_eq!(made, Made { files: 3, bytes: 300_002, skipped: 3 });
        for Entry { name, size } in &entries[..3] {
            let bytes = fs::read(directory.path().join(name)).unwrap();
            assert_eq!(bytes.len() as u64, *size);
            assert!(Body::of(name.as_bytes(), 9).matches(0, &bytes), "{name}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = make(file.path(), &[entry("a", 1)], 0, |_| {}).unwrap_err();
        assert!(format!("{error:#}").contains(&file.path().display().to_string()));
    }
}
