//! The files that every server serves: single ones of given sizes, and corpora made by the load generator, whose bodies
//! it can verify byte by byte.

use crate::{
    measure::pagecache,
    plan::{Amounts, Corpus, FILES, HUGE},
    programs::Own,
    statics,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// How many slices the files for cold runs are divided into: one is asked for in each run, so that no cache but the
/// page cache can hold it from the run before.
pub const SLICES: u64 = 8;

/// A name below the root and a size in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub name: String,
    pub size: u64,
}

/// The files of one corpus, and where they are.
#[derive(Debug, Clone)]
pub struct Files {
    /// The directory's name below the root.
    pub directory: &'static str,
    /// Names below that directory.
    pub items: Vec<Item>,
}

/// The root directory that is served.
#[derive(Debug)]
pub struct Data {
    pub root: PathBuf,
    lists: PathBuf,
}

/// How many files a corpus has, and their sizes as the load generator reads them.
fn shape(corpus: Corpus, amounts: &Amounts) -> (u64, &'static str) {
    match corpus {
        Corpus::Mix => (amounts.mix_files, "lognormal:8KiB,1.5"),
        Corpus::Of16k => (amounts.corpus_bytes / corpus.files_size(), "fixed:16KiB"),
        Corpus::Of64k => (amounts.corpus_bytes / corpus.files_size(), "fixed:64KiB"),
        Corpus::Of1m => (amounts.corpus_bytes / corpus.files_size(), "fixed:1MiB"),
        // Made here, as they are.
        Corpus::Static20 => (20, ""),
    }
}

impl Data {
    /// Makes what is not there from an earlier run.
    ///
    /// # Errors
    /// What could not be made; too little space.
    pub fn make(directory: &Path, amounts: &Amounts, own: &Own) -> Result<Data> {
        let data = Data { root: directory.join("root"), lists: directory.join("lists") };
        let mark = directory.join("complete");
        let wanted = format!("{amounts:?} {}", Corpus::ALL.len());
        if fs::read_to_string(&mark).is_ok_and(|found| found == wanted) {
            return Ok(data);
        }
        let bytes = amounts.huge_bytes + 3 * amounts.corpus_bytes + amounts.mix_files * (32 << 10) + (32 << 20);
        eprintln!("bench: making {} MiB of files in {}", bytes >> 20, directory.display());
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let space = rustix::fs::statvfs(directory).context("cannot tell the free space")?;
        ensure!(
            space.f_bavail * space.f_frsize > bytes,
            "{} has no room for {} MiB; choose another place with --data",
            directory.display(),
            bytes >> 20
        );
        for old in [&data.root, &data.lists] {
            if old.exists() {
                fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
            }
            fs::create_dir_all(old).with_context(|| format!("cannot create {}", old.display()))?;
        }
        for (name, size) in FILES.into_iter().chain([(HUGE, amounts.huge_bytes)]) {
            let file = data.root.join(name);
            write_file(&file, size).with_context(|| format!("cannot write {}", file.display()))?;
        }
        for corpus in Corpus::ALL {
            data.make_corpus(corpus, amounts, own)?;
        }
        fs::write(&mark, wanted).with_context(|| format!("cannot write {}", mark.display()))?;
        Ok(data)
    }

    fn make_corpus(&self, corpus: Corpus, amounts: &Amounts, own: &Own) -> Result<()> {
        if corpus == Corpus::Static20 {
            return statics::make(&self.root.join(corpus.directory()), &self.list_of(corpus));
        }
        let (count, sizes) = shape(corpus, amounts);
        let output = Command::new(&own.loadgen)
            .arg("corpus")
            .arg(self.root.join(corpus.directory()))
            .args(["--count", &count.to_string(), "--sizes", sizes, "--max-size", "4MiB", "--list"])
            .arg(self.list_of(corpus))
            .output()
            .with_context(|| format!("cannot start {}", own.loadgen.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "loadgen could not make the corpus: {}", said.trim());
        let files = self.files(corpus)?;
        // Dirty pages cannot be dropped before cold runs.
        files.items.iter().try_for_each(|item| pagecache::sync_file(&self.path(&files, item)))
    }

    fn list_of(&self, corpus: Corpus) -> PathBuf {
        self.lists.join(corpus.directory())
    }

    /// The files of a corpus, as the load generator listed them.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn files(&self, corpus: Corpus) -> Result<Files> {
        let list = self.list_of(corpus);
        let text = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let items: Option<Vec<Item>> = text.lines().map(parse_line).collect();
        let items =
            items.filter(|items| !items.is_empty()).with_context(|| format!("{} is no list", list.display()))?;
        Ok(Files { directory: corpus.directory(), items })
    }

    /// Where a file of a corpus is.
    pub fn path(&self, files: &Files, item: &Item) -> PathBuf {
        self.root.join(files.directory).join(&item.name)
    }
}

fn parse_line(line: &str) -> Option<Item> {
    let (name, size) = line.split_once('\t')?;
    Some(Item { name: name.to_owned(), size: size.parse().ok()? })
}

impl Files {
    /// The first of them, as many as have together `bytes`.
    pub fn first(mut self, bytes: u64) -> Files {
        let mut sum = 0;
        let fits = |item: &&Item| {
            sum += item.size;
            sum <= bytes
        };
        let count = self.items.iter().take_while(fits).count();
        self.items.truncate(count.max(1));
        self
    }

    /// The same files, beginning with another one: run `number` of `count` does not begin where the one before did.
    pub fn rotated(&self, number: u32, count: u32) -> Files {
        let mut items = self.items.clone();
        let length = items.len();
        items.rotate_left(length * number as usize / count.max(1) as usize % length.max(1));
        Files { directory: self.directory, items }
    }

    /// `count` names for run `number` that no other run has: the files in turn, each time with another query.
    pub fn asked_anew(&self, number: u32, count: usize) -> Files {
        let name = |(at, item): (usize, &Item)| Item { name: format!("{}?{number}-{at}", item.name), size: item.size };
        let items = self.items.iter().cycle().take(count).enumerate().map(name).collect();
        Files { directory: self.directory, items }
    }

    /// The slice for run `number`.
    pub fn slice(&self, number: u32) -> Files {
        let length = (self.items.len() / SLICES as usize).max(1);
        let from = length * (number as usize % SLICES as usize) % self.items.len();
        Files { directory: self.directory, items: self.items[from..(from + length).min(self.items.len())].to_vec() }
    }

    /// Writes a list that the load generator reads.
    ///
    /// # Errors
    /// Names the file.
    pub fn write_list(&self, file: &Path) -> Result<()> {
        let lines: String = self.items.iter().map(|item| format!("{}\t{}\n", item.name, item.size)).collect();
        fs::write(file, lines).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// Bytes that differ at every offset and in every file of another size: the output of SplitMix64 (Steele, Lea, Flood,
/// OOPSLA 2014) from the size on.
fn write_file(file: &Path, size: u64) -> Result<()> {
    let mut state = size;
    let mut block = vec![0; (size as usize).min(1 << 20)];
    let mut output = File::create(file)?;
    let mut left = size as usize;
    while left > 0 {
        for word in block.chunks_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..word.len()]);
        }
        let length = left.min(block.len());
        output.write_all(&block[..length])?;
        left -= length;
    }
    output.sync_data()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: usize) -> Files {
        let item = |number: usize| Item { name: format!("f{number}"), size: 10 };
        Files { directory: "x", items: (0..count).map(item).collect() }
    }

    #[test]
    fn slices_are_apart_and_together_everything() {
        let files = numbered(80);
        let mut names: Vec<String> =
            (0..SLICES as u32).flat_map(|run| files.slice(run).items).map(|item| item.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 80);
        assert_eq!(files.slice(8).items, files.slice(0).items);
        assert_eq!(numbered(3).slice(7).items.len(), 1);
    }

    #[test]
    fn the_first_are_as_many_as_have_the_bytes() {
        assert_eq!(numbered(10).first(55).items, numbered(5).items);
        assert_eq!(numbered(10).first(1000).items.len(), 10);
        assert_eq!(numbered(10).first(0).items.len(), 1);
    }

    #[test]
    fn names_that_are_asked_anew_are_nowhere_twice() {
        let files = numbered(3);
        let mut names: Vec<String> =
            (0..4).flat_map(|run| files.asked_anew(run, 7).items).map(|item| item.name).collect();
        assert_eq!((names.len(), names[4].as_str()), (28, "f1?0-4"));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 28);
    }

    #[test]
    fn rotation_loses_nothing() {
        let files = numbered(10);
        let rotated = files.rotated(2, 5);
        assert_eq!((rotated.items[0].name.as_str(), rotated.items.len()), ("f4", 10));
        assert_eq!(files.rotated(5, 5).items[0].name, "f0");
    }

    #[test]
    fn lists_are_written_as_they_are_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let list = directory.path().join("list");
        numbered(2).write_list(&list).expect("written");
        let text = fs::read_to_string(&list).expect("read");
        assert_eq!(text, "f0\t10\nf1\t10\n");
        assert_eq!(parse_line("f1\t10"), Some(Item { name: "f1".into(), size: 10 }));
        assert_eq!(parse_line("f1"), None);
    }

    #[test]
    fn files_have_their_sizes_and_no_repetition() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        write_file(&file, (2 << 20) + 13).expect("written");
        let bytes = fs::read(&file).expect("read");
        assert_eq!(bytes.len(), (2 << 20) + 13);
        assert_ne!(bytes[..1 << 20], bytes[1 << 20..2 << 20]);
    }
}
