//! Processor time and storage reads of whole process trees, from `/proc`.
//!
//! `/proc/PID/stat` counts every thread of a process, the ended ones and the kernel's io_uring workers (they are
//! threads of the process that submitted the work) included. With the times of reaped children it only ever grows over
//! a tree, in steps of one clock tick (10 ms on nearly every system).

use std::{collections::BTreeMap, fs};

/// What `/proc/PID/stat` says of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub state: u8,
    pub parent: u32,
    /// Clock ticks of the process and of the children that it has waited for, in user mode and in the kernel.
    pub ticks: u64,
    /// Clock ticks between boot and the start of the process: with the pid, the identity of a process.
    pub started: u64,
}

/// Parses a line of `/proc/PID/stat` (proc_pid_stat(5)). The command's name may hold anything, parentheses included.
pub fn parse_stat(line: &str) -> Option<Stat> {
    let fields: Vec<&str> = line[line.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        parent: number(1)? as u32,
        ticks: (11..15).map(number).sum::<Option<u64>>()?,
        started: number(19)?,
    })
}

/// The state of one process; `None` when it is gone.
pub fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A process and all its descendants that run now, with their states.
pub fn tree(root: u32) -> Vec<(u32, Stat)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    descendants(root, &pids.filter_map(|pid| Some((pid, stat(pid)?))).collect())
}

fn descendants(root: u32, all: &BTreeMap<u32, Stat>) -> Vec<(u32, Stat)> {
    let mut found: Vec<(u32, Stat)> = all.get(&root).map(|&stat| (root, stat)).into_iter().collect();
    let mut at = 0;
    while at < found.len() {
        let parent = found[at].0;
        found.extend(all.iter().filter(|(_, stat)| stat.parent == parent).map(|(&pid, &stat)| (pid, stat)));
        at += 1;
    }
    found
}

/// What the trees of a server have used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub cpu_seconds: f64,
    /// Bytes that were really read from storage, not from the page cache.
    pub storage_read_bytes: u64,
}

/// Sums over the trees below `roots`.
pub fn usage(roots: &[u32]) -> Usage {
    let mut usage = Usage::default();
    for (pid, stat) in roots.iter().flat_map(|&root| tree(root)) {
        usage.cpu_seconds += ticks_to_seconds(stat.ticks);
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        usage.storage_read_bytes += parse_read_bytes(&io).unwrap_or(0);
    }
    usage
}

fn parse_read_bytes(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

fn ticks_to_seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// What some cores have done so far, whoever did it: a check that no work hides from [`usage`] in other processes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Busy {
    pub busy_seconds: f64,
    /// Time that the hypervisor gave to others.
    pub steal_seconds: f64,
}

/// Sums over `cores`.
pub fn busy(cores: &[usize]) -> Busy {
    let (busy, steal) = parse_busy(&fs::read_to_string("/proc/stat").unwrap_or_default(), cores);
    Busy { busy_seconds: ticks_to_seconds(busy), steal_seconds: ticks_to_seconds(steal) }
}

/// Busy and stolen ticks: a line is `cpuN user nice system idle iowait irq softirq steal …` (proc_stat(5)).
fn parse_busy(text: &str, cores: &[usize]) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let core = fields.next().and_then(|name| name.strip_prefix("cpu")?.parse::<usize>().ok());
        if core.is_some_and(|core| cores.contains(&core)) {
            let ticks: Vec<u64> = fields.map(|field| field.parse().unwrap_or(0)).collect();
            let at = |at: usize| ticks.get(at).copied().unwrap_or(0);
            sum.0 += at(0) + at(1) + at(2) + at(5) + at(6);
            sum.1 += at(7);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_hides_no_field() {
        let line =
            "42 (a) S 7 (b)) R 17 42 42 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 5 0 98765 1000 50 18446744073709551615";
        assert_eq!(parse_stat(line), Some(Stat { state: b'R', parent: 17, ticks: 124, started: 98765 }));
        assert_eq!(parse_stat("42 (cut) R 17 42"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_others_are_not() {
        let stat = |parent| Stat { state: b'S', parent, ticks: 0, started: 0 };
        let all = [(10, stat(1)), (11, stat(10)), (12, stat(11)), (13, stat(1)), (9, stat(12))].into_iter().collect();
        let pids: Vec<u32> = descendants(10, &all).into_iter().map(|(pid, _)| pid).collect();
        assert_eq!(pids, [10, 11, 12, 9]);
        assert_eq!(descendants(99, &all), []);
    }

    #[test]
    fn this_process_has_used_some_time() {
        let own = std::process::id();
        let start = usage(&[own]).cpu_seconds;
        let mut sum = 0u64;
        while usage(&[own]).cpu_seconds == start {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(tree(own).iter().any(|(pid, _)| *pid == own));
    }

    #[test]
    fn busy_ticks_are_those_of_the_cores_asked_for() {
        let text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 1000 1000 8 16 32 0 0\ncpu1 100 0 0 0 0 0 0 7 0 0\ncpu10 5 0 \
         0 0 0 0 0 0\n";
        assert_eq!(parse_busy(text, &[0]), (31, 32));
        assert_eq!(parse_busy(text, &[0, 1]), (131, 39));
        assert_eq!(parse_busy(text, &[10]), (5, 0));
        assert_eq!(parse_busy("", &[0]), (0, 0));
    }

    #[test]
    fn storage_reads_are_found() {
        assert_eq!(parse_read_bytes("rchar: 5\nread_bytes: 4096\nwrite_bytes: 1\n"), Some(4096));
        assert_eq!(parse_read_bytes("rchar: 5\n"), None);
    }
}
