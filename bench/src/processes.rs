//! Every process that the harness starts ends with it: when its guard is dropped (a panic unwinds through that too),
//! and on SIGINT, SIGTERM and SIGHUP. Processes are ended by pid, descendants included. So is a changed system setting
//! restored.

use crate::measure::{cores, cpu};
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long a process may take to end when asked to, before it is killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a process is looked at while it is waited for.
const GLANCE: Duration = Duration::from_millis(5);

/// What has to be undone when the harness ends.
#[derive(Debug)]
struct Undo {
    /// Children that were not waited for yet: their pids belong to nobody else.
    running: Vec<u32>,
    settings: Vec<(PathBuf, String)>,
    directories: Vec<PathBuf>,
    stopping: bool,
}

static UNDO: Mutex<Undo> =
    Mutex::new(Undo { running: Vec::new(), settings: Vec::new(), directories: Vec::new(), stopping: false });

fn undo() -> MutexGuard<'static, Undo> {
    UNDO.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends everything and exits with the shell's status for the signal when one arrives.
///
/// # Errors
/// The handlers could not be installed.
pub fn end_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("bench: interrupted, ending the servers");
            // Held until the exit: nothing is started or forgotten meanwhile.
            let mut undo = undo();
            undo.stopping = true;
            undo.running.iter().for_each(|&pid| end_tree(pid));
            undo.running.iter().for_each(|&pid| reap(pid));
            restore(&mut undo, |_| true);
            remove(&mut undo);
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Remembers what a setting has to be when the harness ends.
pub fn restore_at_exit(path: PathBuf, value: String) {
    undo().settings.push((path, value));
}

/// Changes a setting that is restored later; not any more when the harness is ending.
///
/// # Errors
/// It cannot be changed.
pub fn change(path: &Path, value: &str) -> io::Result<()> {
    let undo = undo();
    if undo.stopping { Ok(()) } else { fs::write(path, value) }
}

/// Restores a setting now.
pub fn restore_now(path: &Path) {
    restore(&mut undo(), |setting| setting == path);
}

fn restore(undo: &mut Undo, which: impl Fn(&Path) -> bool) {
    for (path, value) in undo.settings.extract_if(.., |(path, _)| which(path)) {
        if let Err(error) = fs::write(&path, &value) {
            eprintln!("bench: cannot restore {} to {value}: {error}", path.display());
        }
    }
}

/// A directory for the time of the run; removed when this is dropped or the harness ends otherwise.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(path: PathBuf) -> Result<Directory> {
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        undo().directories.push(path.clone());
        Ok(Directory(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        undo().directories.retain(|path| *path != self.0);
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn remove(undo: &mut Undo) {
    for path in undo.directories.drain(..) {
        // What is left over is small, and named after the process.
        let _ = fs::remove_dir_all(path);
    }
}

/// A child process that ends, with all its descendants, when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: bool,
}

impl Process {
    /// Starts `command` on `cores`.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(cores: &[usize], command: &mut Command) -> Result<Process> {
        let mut undo = undo();
        anyhow::ensure!(!undo.stopping, "the harness is ending");
        let child = cores::spawn_on(cores, command)?;
        undo.running.push(child.id());
        Ok(Process { child, ended: false })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let mut undo = undo();
        let status = self.child.try_wait().ok().flatten()?;
        undo.running.retain(|&pid| pid != self.child.id());
        self.ended = true;
        Some(status)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It did not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            anyhow::ensure!(Instant::now() < deadline, "it did not end within {} s", limit.as_secs());
            thread::sleep(GLANCE);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended && self.ended().is_none() {
            end_tree(self.pid());
            let _ = self.child.wait();
            undo().running.retain(|&pid| pid != self.child.id());
        }
    }
}

/// Asks the root of a tree to end, and kills whatever of the tree is left after a while.
fn end_tree(root: u32) {
    let tree = cpu::tree(root);
    send(root, Signal::TERM);
    let deadline = Instant::now() + PATIENCE;
    // The same pid with another start is another process.
    let left = || {
        tree.iter().filter(|(pid, was)| cpu::stat(*pid).is_some_and(|is| is.started == was.started && is.state != b'Z'))
    };
    while left().next().is_some() && Instant::now() < deadline {
        thread::sleep(GLANCE);
    }
    left().for_each(|&(pid, _)| send(pid, Signal::KILL));
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = pid_of(pid) {
        // It may be gone already.
        let _ = kill_process(pid, signal);
    }
}

/// Takes an ended child's status, so that it is not left to a parent that may not care.
fn reap(child: u32) {
    if let Some(pid) = pid_of(child) {
        // Its guard may have done so already.
        let _ = waitpid(Some(pid), WaitOptions::empty());
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::cores::available;

    #[test]
    fn a_whole_tree_ends_with_its_guard() {
        // The shell ignores the polite signal, and so does its child.
        let script = "trap '' TERM; sleep 60 & wait";
        let process = Process::start(&available(), Command::new("sh").args(["-c", script])).expect("sh starts");
        let deadline = Instant::now() + Duration::from_secs(10);
        while cpu::tree(process.pid()).len() < 2 && Instant::now() < deadline {
            thread::sleep(GLANCE);
        }
        let tree = cpu::tree(process.pid());
        assert_eq!(tree.len(), 2, "the shell and its child");
        drop(process);
        for (pid, was) in tree {
            let gone = || cpu::stat(pid).is_none_or(|is| is.started != was.started || is.state == b'Z');
            while !gone() {
                assert!(Instant::now() < deadline, "{pid} still runs");
                thread::sleep(GLANCE);
            }
        }
    }

    /// As lighttpd does with several workers.
    #[test]
    fn who_ends_its_process_group_ends_only_itself() {
        let mut process =
            Process::start(&available(), Command::new("sh").args(["-c", "kill -TERM 0; sleep 60"])).expect("sh starts");
        let status = process.wait(Duration::from_secs(10)).expect("ended");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(SIGTERM));
    }

    #[test]
    fn a_directory_goes_with_its_guard() {
        let outer = tempfile::tempdir().expect("a directory");
        let directory = Directory::make(outer.path().join("a/b")).expect("made");
        fs::write(directory.path().join("file"), "x").expect("written");
        drop(directory);
        assert!(!outer.path().join("a/b").exists());
    }

    #[test]
    fn a_setting_is_restored() {
        let outer = tempfile::tempdir().expect("a directory");
        let setting = outer.path().join("setting");
        fs::write(&setting, "changed").expect("written");
        restore_at_exit(setting.clone(), "found".into());
        restore_now(&setting);
        assert_eq!(fs::read_to_string(&setting).expect("read"), "found");
    }

    #[test]
    fn an_end_is_noticed_and_an_endless_one_is_not_waited_for() {
        let mut quick = Process::start(&available(), &mut Command::new("false")).expect("false starts");
        assert_eq!(quick.wait(Duration::from_secs(10)).expect("ended").code(), Some(1));
        let mut slow = Process::start(&available(), Command::new("sleep").arg("60")).expect("sleep starts");
        assert!(slow.wait(Duration::ZERO).is_err());
    }
}
