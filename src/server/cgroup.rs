//! The memory that this process's control group may take. The kernel ends processes of a group that needs more, instead
//! of refusing it: so what does not fit is found out at start.

use std::fs;
use std::path::Path;

/// The lowest limit of the group and of those above it, in bytes; `None`: there is none, or nobody knows.
pub(super) fn memory_max() -> Option<u64> {
    limit(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// What is read beneath `root` for a process with these lines in its `cgroup` file: one of version 2, or one for each
/// controller of version 1.
fn limit(root: &Path, lines: &str) -> Option<u64> {
    let limits = lines.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let (top, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        let own = top.join(path);
        let groups = own.ancestors().take_while(|group| group.starts_with(&top));
        let limits = groups.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok());
        limits.min()
    });
    limits.min()
}

/// The arena, in bytes, that a group with this limit has room for beside what else the server needs. One that is
/// `wanted` and fits is left as it is.
///
/// # Errors
/// There is room for none: what to do.
pub(super) fn arena_within(limit: u64, wanted: u64, others: u64, least: u64) -> Result<u64, String> {
    let room = limit.saturating_sub(others) / least * least;
    match room {
        0 => Err(format!(
            "the control group may have {limit} bytes of memory (memory.max, MemoryMax=): {others} are needed beside the arena, and \
             {least} for the smallest one"
        )),
        room => Ok(wanted.min(room)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("system.slice/forebay.service");
        fs::create_dir_all(&group).unwrap();
        let lines = "0::/system.slice/forebay.service\n";
        assert_eq!(limit(root.path(), lines), None, "there are no files");
        fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(limit(root.path(), lines), None);
        fs::write(root.path().join("system.slice/memory.max"), "3000\n").unwrap();
        assert_eq!(limit(root.path(), lines), Some(3000));
        fs::write(group.join("memory.max"), "2000\n").unwrap();
        assert_eq!(limit(root.path(), lines), Some(2000));
        assert_eq!(limit(root.path(), "0::/\n"), None);
        assert_eq!(limit(root.path(), "nonsense"), None);
    }

    #[test]
    fn version_1_has_a_file_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("memory/box");
        fs::create_dir_all(&group).unwrap();
        fs::write(root.path().join("memory/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        fs::write(group.join("memory.limit_in_bytes"), "5000\n").unwrap();
        assert_eq!(limit(root.path(), "5:cpu,cpuacct:/box\n4:memory:/box\n0::/\n"), Some(5000));
    }

    #[test]
    fn an_arena_is_made_to_fit() {
        assert_eq!(arena_within(1000, 64, 24, 8), Ok(64));
        assert_eq!(arena_within(64, 64, 24, 8), Ok(40));
        assert_eq!(arena_within(39, 64, 24, 8), Ok(8));
        assert!(arena_within(31, 64, 24, 8).unwrap_err().contains("31 bytes"));
    }
}
