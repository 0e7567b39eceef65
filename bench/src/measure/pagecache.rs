//! Files in and out of the page cache, without privileges.

use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise};
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Drops a file's pages. They must be clean: files are synced when they are made.
///
/// # Errors
/// Names the file.
pub fn drop_file(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    fadvise(&file, 0, None, Advice::DontNeed).with_context(|| format!("cannot drop the pages of {}", path.display()))
}

/// Reads a file so that its pages are there.
///
/// # Errors
/// Names the file.
pub fn read_file(path: &Path, buffer: &mut [u8]) -> Result<()> {
    let mut read = || -> io::Result<()> {
        let mut file = File::open(path)?;
        while file.read(buffer)? > 0 {}
        Ok(())
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file's data back, so that its pages can be dropped.
///
/// # Errors
/// Names the file.
pub fn sync_file(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_data()).with_context(|| format!("cannot sync {}", path.display()))
}
