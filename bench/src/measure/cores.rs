//! Which cores the servers and the load run on.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Child, Command},
};

/// The cores of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub server: Vec<usize>,
    pub load: Vec<usize>,
    /// Whether server and load have cores of their own.
    pub apart: bool,
}

/// The cores that this process may use.
pub fn available() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

/// Servers with `workers` workers on the first cores, the load on one of its own if there is one: the last one that
/// shares no physical core with a server.
pub fn place(available: &[usize], workers: usize, siblings: impl Fn(usize) -> Vec<usize>) -> Placement {
    let server: Vec<usize> = available.iter().copied().take(workers).collect();
    let free = |core: &&usize| !server.contains(core);
    let unrelated = |core: &&usize| !siblings(**core).iter().any(|sibling| server.contains(sibling));
    let own = available.iter().rev().filter(free);
    match own.clone().find(unrelated).or_else(|| own.clone().next()) {
        Some(&core) => Placement { server, load: vec![core], apart: true },
        None => Placement { load: available.to_vec(), server, apart: false },
    }
}

/// The hardware threads that share a physical core with `core`, itself included.
pub fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    fs::read_to_string(path).map_or_else(|_| vec![core], |text| parse_list(&text))
}

/// Reads `0,2-4`.
fn parse_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.trim().parse::<usize>().ok()?..=to.trim().parse::<usize>().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// Keeps the calling thread on `cores`.
///
/// # Errors
/// Cores that cannot be had.
pub fn stay_on(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on the cores {cores:?}"))
}

/// Starts a program on `cores`. A child inherits the affinity of the thread that starts it, so no helper is needed, and
/// the pid is the program's own.
///
/// # Errors
/// Cores that cannot be had, a program that cannot be started.
pub fn spawn_on(cores: &[usize], command: &mut Command) -> Result<Child> {
    let before = sched_getaffinity(None).context("cannot read the affinity")?;
    stay_on(cores)?;
    // Servers that end their whole process group (lighttpd with several workers) must not end the harness.
    let child = command.process_group(0).spawn();
    sched_setaffinity(None, &before).context("cannot restore the affinity")?;
    child.with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_has_a_core_of_its_own_where_there_is_one() {
        let alone = |core: usize| vec![core];
        let placed =
            |server: &[usize], load: &[usize], apart| Placement { server: server.into(), load: load.into(), apart };
        assert_eq!(place(&[0, 1], 1, alone), placed(&[0], &[1], true));
        assert_eq!(place(&[0, 1], 2, alone), placed(&[0, 1], &[0, 1], false));
        assert_eq!(place(&[3, 4, 7, 9], 2, alone), placed(&[3, 4], &[9], true));
        assert_eq!(place(&[5], 1, alone), placed(&[5], &[5], false));
        // Hyper-threads: 0+2 and 1+3 are one physical core each.
        assert_eq!(place(&[0, 1, 2, 3], 1, |core| vec![core % 2, core % 2 + 2]), placed(&[0], &[3], true));
        assert_eq!(place(&[0, 1, 2], 1, |core| vec![core % 2, core % 2 + 2]), placed(&[0], &[1], true));
        // Only a sibling is left.
        assert_eq!(place(&[0, 2], 1, |core| vec![core % 2, core % 2 + 2]), placed(&[0], &[2], true));
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(parse_list("0,2-4\n"), [0, 2, 3, 4]);
        assert_eq!(parse_list("7\n"), [7]);
        assert_eq!(parse_list(""), [0usize; 0]);
    }

    #[test]
    fn a_child_runs_where_it_was_put_and_this_thread_where_it_was() {
        let before = available();
        let last = *before.last().expect("a core");
        let child = spawn_on(&[last], Command::new("sleep").arg("60"));
        let mut child = child.expect("sleep starts");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        child.kill().and_then(|()| child.wait()).expect("ended");
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list");
        assert_eq!((parse_list(list), available()), (vec![last], before));
    }
}
