//! Looks at files: what a descriptor or a name stands for, in which version.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::Directory;
use crate::machine;
use crate::version::{Clock, Found, Version};

/// File systems whose times come from this kernel's clock, by their magic numbers (statfs(2)): ext2 to ext4, XFS,
/// Btrfs, tmpfs, ramfs, overlayfs, F2FS, ZFS, bcachefs, SquashFS, EROFS, ISO 9660, UDF, FAT, exFAT, NTFS, HFS+, JFS,
/// ReiserFS and NILFS. What is not among them may be served by another machine.
const OWN_CLOCK: [u32; 21] = [
    0xEF53,
    0x5846_5342,
    0x9123_683E,
    0x0102_1994,
    0x8584_58F6,
    0x794C_7630,
    0xF2F5_2010,
    0x2FC1_2FC1,
    0xCA45_1A4E,
    0x7371_7368,
    0xE0F5_E1E2,
    0x9660,
    0x1501_3346,
    0x4D44,
    0x2011_BAB0,
    0x7366_746E,
    0x482B,
    0x4244,
    0x3153_464A,
    0x5265_4973,
    0x3434,
];

/// How long that is believed of a device number, which may become another file system's.
const CLOCK_KNOWN_FOR: Duration = Duration::from_secs(10);

impl Directory {
    /// Whether `name` leads to this file, whichever version of it. One lookup.
    pub fn leads_to(&self, name: &[u8], file: &Version) -> bool {
        matches!(self.look(name), Ok(Found::File(found)) if found.is_same_file(file))
    }
}

/// Whether a file system is one of another machine, or of another process.
pub(super) fn may_be_slow(fd: impl AsFd) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|stat| !OWN_CLOCK.contains(&(stat.f_type as u32)))
}

/// Whose clock the times of an open file are of. Asks its file system once in a while for each thread.
pub fn clock_of(fd: impl AsFd, version: &Version) -> Clock {
    if let Some(is_own) = machine::simulated_clock_is_own() {
        return if is_own { Clock::Own } else { Clock::Foreign };
    }
    thread_local! {
        /// The device that was asked last, what it said, and when.
        static LAST: Cell<Option<(u32, Clock, Instant)>> = const { Cell::new(None) };
    }
    match LAST.get() {
        Some((dev, clock, asked)) if dev == version.dev && asked.elapsed() < CLOCK_KNOWN_FOR => clock,
        // To ask slow storage costs a wait.
        Some((dev, Clock::Foreign, _)) if dev == version.dev => Clock::Foreign,
        _ => {
            let clock = match rustix::fs::fstatfs(fd) {
                Ok(stat) if OWN_CLOCK.contains(&(stat.f_type as u32)) => Clock::Own,
                Ok(_) | Err(_) => Clock::Foreign,
            };
            LAST.set(Some((version.dev, clock, Instant::now())));
            clock
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    fn version(path: &std::path::Path) -> Version {
        match Found::of(File::open(path).unwrap()).unwrap() {
            Found::File(version) => version,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_replacement_of_the_same_length_and_time_is_another_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        let before = version(&path);
        assert_eq!(before, version(&path));
        assert_eq!(before.size, 3);

        let other = dir.path().join("b");
        fs::write(&other, "two").unwrap();
        let file = File::options().write(true).open(&other).unwrap();
        file.set_modified(before.last_modified()).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(before, version(&path));
    }

    #[test]
    fn directories_and_pipes_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Found::of(File::open(dir.path()).unwrap()).unwrap(), Found::Directory);
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(Found::of(reader).unwrap(), Found::Special);
    }

    #[test]
    fn a_name_leads_to_a_file_until_it_is_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&path, "one").unwrap();
        let origin = super::super::tests::open(dir.path());
        let before = version(&path);
        fs::write(&path, "more").unwrap();
        assert!(origin.leads_to(b"a", &before), "whichever version");
        fs::rename(&path, &elsewhere).unwrap();
        assert!(!origin.leads_to(b"a", &before) && origin.leads_to(b"b", &before));
        fs::write(&path, "another").unwrap();
        assert!(!origin.leads_to(b"a", &before));
    }

    #[test]
    fn only_file_systems_of_this_machine_have_its_clock() {
        let proc = File::open("/proc/self/status").unwrap();
        let Found::File(version) = Found::of(&proc).unwrap() else { panic!("a file") };
        assert_eq!(clock_of(&proc, &version), Clock::Foreign, "not known");
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::write(dir.path().join("a"), "one").unwrap();
        let shm = File::open(dir.path().join("a")).unwrap();
        let Found::File(version) = Found::of(&shm).unwrap() else { panic!("a file") };
        assert_eq!(clock_of(&shm, &version), Clock::Own);
    }
}
