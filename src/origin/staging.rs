//! The hidden names that an upload may have for a moment before it takes its real one, and their removal after a crash.
//!
//! A hidden name is `.forebay-upload-` and sixteen hexadecimal digits and `.tmp`. Its file stays locked (flock) as long
//! as the upload lives, so that a sweep never takes a file away from another server that serves the same tree.

use std::collections::hash_map::RandomState;
use std::ffi::CStr;
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};

use super::{Directory, READ_FLAGS};

const PREFIX: &[u8] = b".forebay-upload-";
const SUFFIX: &[u8] = b".tmp";
const DIGITS: usize = 16;

/// A hidden name that nobody else uses.
pub(super) fn fresh_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // RandomState is keyed at random once per thread, so names differ between processes as well.
    let random = RandomState::new().hash_one((std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    format!(".forebay-upload-{random:016x}.tmp")
}

/// Whether the last segment of `name` is a hidden name of an upload: never served, listed or written by that name.
pub fn is_hidden(name: &[u8]) -> bool {
    let digits = super::split(name).1.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    digits.is_some_and(|d| d.len() == DIGITS && d.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// What a sweep found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Directories looked through.
    pub directories: u64,
    /// Leftovers removed.
    pub removed: u64,
    /// Directories that could not be read, and leftovers that could not be removed.
    pub failures: u64,
}

impl std::fmt::Display for Swept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Swept { directories, removed, failures } = self;
        write!(f, "{removed} removed, {failures} could not be; {directories} directories looked through")
    }
}

impl Directory {
    /// Removes what uploads left behind when an earlier server was killed. Looks through the whole tree (symbolic links
    /// are not followed), so it belongs before the first request, and only where writes are allowed.
    pub fn sweep(&self) -> Swept {
        let mut swept = Swept::default();
        let mut pending: Vec<Vec<u8>> = vec![Vec::new()];
        while let Some(name) = pending.pop() {
            swept.directories += 1;
            if self.sweep_directory(&name, &mut pending, &mut swept).is_err() {
                swept.failures += 1;
            }
        }
        swept
    }

    fn sweep_directory(&self, name: &[u8], pending: &mut Vec<Vec<u8>>, swept: &mut Swept) -> io::Result<()> {
        let mut entries = Dir::new(self.resolve(name, READ_FLAGS | OFlags::DIRECTORY | OFlags::NOFOLLOW)?)?;
        let mut leftovers = Vec::new();
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let segment = entry.file_name().to_bytes();
            let kind = match entry.file_type() {
                // Some file systems do not say; asking is as cheap as trying.
                FileType::Unknown => rustix::fs::statat(entries.fd()?, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                kind => kind,
            };
            match kind {
                FileType::Directory if segment != b"." && segment != b".." => {
                    pending.push(super::directory::join(name, segment));
                }
                FileType::RegularFile if is_hidden(segment) => leftovers.push(entry.file_name().to_owned()),
                _ => {}
            }
        }
        for leftover in leftovers {
            match remove_unlocked(&entries, &leftover) {
                Ok(true) => swept.removed += 1,
                Ok(false) => {}
                Err(_) => swept.failures += 1,
            }
        }
        Ok(())
    }
}

/// Removes a leftover unless an upload still holds it.
fn remove_unlocked(directory: &Dir, name: &CStr) -> io::Result<bool> {
    let directory = directory.fd()?;
    let flags = READ_FLAGS | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
    if !file.metadata()?.is_file() || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_the_servers_own_pattern_is_hidden() {
        let name = fresh_name();
        assert!(is_hidden(name.as_bytes()));
        assert!(is_hidden(format!("a/b/{name}").as_bytes()));
        assert_ne!(name, fresh_name());
        for other in [
            ".forebay-upload-.tmp",
            ".forebay-upload-0123456789abcdeF.tmp",
            ".forebay-upload-0123456789abcdef.tm",
            ".forebay-upload-0123456789abcdef0.tmp",
            "x.forebay-upload-0123456789abcdef.tmp",
            ".forebay-upload-0123456789abcdef.tmp/x",
        ] {
            assert!(!is_hidden(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_sweep_removes_leftovers_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(dir.path().join("elsewhere")).unwrap();
        symlink("../elsewhere", root.join("link")).unwrap();
        let leftover = ".forebay-upload-0123456789abcdef.tmp";
        for place in [root.join("a/b"), root.clone(), dir.path().join("elsewhere")] {
            fs::write(place.join(leftover), "half").unwrap();
        }
        fs::write(root.join("a/.forebay-upload-mine.tmp"), "keep").unwrap();
        let directory_of_that_name = root.join("a/.forebay-upload-00000000000000ff.tmp");
        fs::create_dir(&directory_of_that_name).unwrap();
        let in_use = root.join("a/.forebay-upload-00000000000000aa.tmp");
        fs::write(&in_use, "another server's").unwrap();
        let holder = File::open(&in_use).unwrap();
        rustix::fs::flock(&holder, FlockOperation::LockExclusive).unwrap();

        let swept = super::super::tests::open(&root).sweep();
        assert_eq!(swept, Swept { directories: 4, removed: 2, failures: 0 });
        assert!(!root.join("a/b").join(leftover).exists() && !root.join(leftover).exists());
        assert!(root.join("a/.forebay-upload-mine.tmp").exists());
        assert!(directory_of_that_name.exists() && in_use.exists());
        assert!(dir.path().join("elsewhere").join(leftover).exists(), "outside the root");
    }
}
