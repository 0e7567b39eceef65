//! What a server holds in memory: its processes, its memfds whether mapped in or not, and the page tables for them.
//!
//! Pages that processes share are counted once (Pss: each process's part of them). Pages of a memfd that nobody has
//! mapped in count too. What the kernel keeps for sockets belongs to no process and is not counted, for any server.

use super::cpu;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

/// Bytes that a server holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The sum: processes, page tables, and the part of memfds that is not mapped in.
    pub total_bytes: u64,
    /// Proportional share of everything mapped in (`Pss`), summed over the processes.
    pub mapped_bytes: u64,
    /// Page tables (`VmPTE`).
    pub page_table_bytes: u64,
    /// Allocated bytes of all memfds (`st_blocks`), mapped in or not.
    pub memfd_bytes: u64,
    /// Resident set (`VmRSS`) summed over the processes, for comparison: counts what is shared once for each process.
    pub rss_bytes: u64,
    pub processes: u64,
    /// Of a cache in files that are in memory themselves; in the sum, too.
    #[serde(default)]
    pub file_bytes: u64,
}

impl Memory {
    /// With what the files beneath `directory` take, if there is one.
    pub fn with_files(mut self, directory: &Path) -> Memory {
        self.file_bytes = allocated(directory);
        self.total_bytes += self.file_bytes;
        self
    }
}

/// Allocated bytes of all files beneath `directory`.
fn allocated(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => allocated(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        // Removed meanwhile.
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// What `/proc/PID/smaps` sums up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mapped {
    pss_bytes: u64,
    memfd_pss_bytes: u64,
}

/// Sums over the trees below `roots`; `None` when a process could not be read (gone, or another user's).
pub fn memory(roots: &[u32]) -> Option<Memory> {
    let mut sum = Memory::default();
    let mut memfd_mapped = 0;
    let mut memfds = BTreeMap::new();
    for (pid, stat) in roots.iter().flat_map(|&root| cpu::tree(root)) {
        if stat.state == b'Z' {
            continue;
        }
        let mapped = parse_smaps(&fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        sum.mapped_bytes += mapped.pss_bytes;
        sum.page_table_bytes += parse_kib(&status, "VmPTE:").unwrap_or(0);
        sum.rss_bytes += parse_kib(&status, "VmRSS:").unwrap_or(0);
        sum.processes += 1;
        memfd_mapped += mapped.memfd_pss_bytes;
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
            let memfd = fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:"));
            if let (true, Ok(meta)) = (memfd, fs::metadata(entry.path()))
                && !meta.file_type().is_socket()
            {
                memfds.insert((meta.dev(), meta.ino()), meta.blocks() * 512);
            }
        }
    }
    sum.memfd_bytes = memfds.values().sum();
    sum.total_bytes = sum.mapped_bytes + sum.page_table_bytes + sum.memfd_bytes.saturating_sub(memfd_mapped);
    (sum.processes > 0).then_some(sum)
}

/// Sums `Pss` over the mappings (proc_pid_smaps(5)): a line `from-to perms offset device inode  path`, then `Key: n kB`
/// lines.
fn parse_smaps(text: &str) -> Mapped {
    let mut mapped = Mapped::default();
    let mut memfd = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("Pss:") => {
                let bytes = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0) * 1024;
                mapped.pss_bytes += bytes;
                mapped.memfd_pss_bytes += if memfd { bytes } else { 0 };
            }
            Some(word) if !word.ends_with(':') => memfd = words.nth(4).is_some_and(|path| path.starts_with("/memfd:")),
            _ => {}
        }
    }
    mapped
}

/// The value of a `Key:   n kB` line, in bytes.
fn parse_kib(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_memfds_are_told_apart() {
        let text = "55d0-55d1 r--p 00000000 fe:00 1234    /usr/bin/server\nSize: 4 kB\nRss: 4 kB\nPss: 2 \
         kB\nPss_Dirty: 1 kB\n\
                    7f00-7f10 rw-s 00000000 00:01 77  /memfd:arena (deleted)\nPss:  64 kB\nVmFlags: rd wr sh\n\
                    7f20-7f30 rw-p 00000000 00:00 0\nPss: 8 kB\n7f40-7f50 rw-p 00000000 00:00 0  [heap]\nPss: 1 kB\n";
        assert_eq!(parse_smaps(text), Mapped { pss_bytes: 75 << 10, memfd_pss_bytes: 64 << 10 });
        assert_eq!(parse_smaps(""), Mapped::default());
    }

    #[test]
    fn files_in_memory_count() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("a")).expect("made");
        fs::write(directory.path().join("a/b"), vec![1; 1 << 20]).expect("written");
        let held = Memory { total_bytes: 5, ..Memory::default() }.with_files(directory.path());
        assert!(held.file_bytes >= 1 << 20 && held.total_bytes == held.file_bytes + 5, "{held:?}");
        assert_eq!(Memory::default().with_files(&directory.path().join("none")), Memory::default());
    }

    #[test]
    fn status_values_are_read_in_kib() {
        let text = "Name:\tx\nVmRSS:\t    1234 kB\nVmPTE:\t      60 kB\n";
        assert_eq!(parse_kib(text, "VmRSS:"), Some(1234 << 10));
        assert_eq!(parse_kib(text, "VmPTE:"), Some(60 << 10));
        assert_eq!(parse_kib(text, "VmHWM:"), None);
    }

    #[test]
    fn a_memfd_counts_also_where_it_is_not_mapped() {
        let own = std::process::id();
        let before = memory(&[own]).expect("own memory");
        let memfd = rustix::fs::memfd_create("bench-test", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd");
        rustix::io::pwrite(&memfd, &vec![1; 8 << 20], 0).expect("written");
        let after = memory(&[own]).expect("own memory");
        assert_eq!(after.memfd_bytes - before.memfd_bytes, 8 << 20);
        assert!(after.total_bytes >= before.total_bytes + (4 << 20), "{before:?} {after:?}");
        assert!(after.mapped_bytes > 0 && after.page_table_bytes > 0);
    }
}
