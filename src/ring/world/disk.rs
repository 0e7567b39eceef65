//! A file system that is simulated: flat, in memory, with times as coarse as wanted and a history of every name, which
//! is what responses are judged by.

use crate::machine::Simulated;
use rustix::fs::Stat;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// A file's bytes are of one version for every so many of them.
pub const BLOCK: u64 = 4096;

/// Wall time when a simulation begins: seconds since 1970.
const EPOCH: u64 = 1_700_000_000;

/// For how long a change that left the same times may go unseen after the last of its kind, beyond the revalidation
/// interval: see [`crate::version::SETTLING`]. Fat stamps of two seconds, and a check that begins late.
const UNSEEN: u64 = 5_000_000_000;

/// The bytes of one version of a file: a version for each block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub file: usize,
    pub size: u64,
    pub blocks: Vec<u32>,
}

impl Content {
    fn word(&self, index: u64) -> u64 {
        (self.file as u64 + 1) << 56 | u64::from(self.blocks[(index * 8 / BLOCK) as usize]) << 32 | index
    }

    /// Writes the bytes from `at` into `into`, as far as there are any; returns how many.
    pub fn read(&self, at: u64, into: &mut [u8]) -> usize {
        let len = (into.len() as u64).min(self.size.saturating_sub(at)) as usize;
        let mut done = 0;
        while done < len {
            let offset = at + done as u64;
            let skip = (offset % 8) as usize;
            if skip == 0 && len - done >= 8 {
                // Whole words of one block.
                let room = (BLOCK - offset % BLOCK).min((len - done) as u64) as usize / 8;
                let first = self.word(offset / 8);
                for (number, word) in into[done..done + room * 8].chunks_exact_mut(8).enumerate() {
                    word.copy_from_slice(&(first + number as u64).to_be_bytes());
                }
                done += room * 8;
            } else {
                let word = self.word(offset / 8).to_be_bytes();
                let part = (8 - skip).min(len - done);
                into[done..done + part].copy_from_slice(&word[skip..skip + part]);
                done += part;
            }
        }
        len
    }

    /// Whether the bytes from `at` are these.
    pub fn is_at(&self, at: u64, bytes: &[u8]) -> bool {
        if at + bytes.len() as u64 > self.size {
            return false;
        }
        let mut own = [0; BLOCK as usize];
        let mut at = at;
        bytes.chunks(BLOCK as usize).all(|piece| {
            self.read(at, &mut own[..piece.len()]);
            at += piece.len() as u64;
            own[..piece.len()] == *piece
        })
    }
}

/// What a name stood for, from one moment to another. Times are monotonic nanoseconds.
#[derive(Debug, Clone)]
pub struct State {
    /// `None`: nothing was there.
    pub content: Option<Rc<Content>>,
    pub from: u64,
    pub until: u64,
    /// Requests that arrive from this time on must not be answered with it, whatever the interval of revalidation.
    pub barred: u64,
    /// What follows it left the same times: until then nobody can know.
    pub unseen_until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    ino: u64,
    size: u64,
    mtime: i64,
    ctime: i64,
    links: u32,
}

struct Inode {
    times: Times,
    content: Rc<Content>,
    /// All that a stat has ever said of it and what it had then.
    past: Vec<(Times, Rc<Content>)>,
    /// Descriptors it was opened as, some of which may be closed by now.
    opened: Vec<RawFd>,
}

impl Inode {
    /// Whether it can be taken for what it was before it was written to: its times do not tell, or tell no more than
    /// that it lost a name.
    fn is_taken_for_earlier(&self) -> bool {
        let now = &self.times;
        self.past.iter().any(|(then, content)| {
            let is_like = (then.ino, then.size, then.mtime) == (now.ino, now.size, now.mtime);
            is_like && (then.ctime == now.ctime || now.links < then.links) && *content != self.content
        })
    }
}

/// How times of files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamps {
    Nanoseconds,
    /// Ticks of 4 ms.
    Ticks,
    Seconds,
    /// As FAT has them.
    TwoSeconds,
}

/// What the writers do to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Another file is renamed into its place.
    Replace {
        size: u64,
    },
    /// Some blocks are overwritten.
    InPlace {
        first: u64,
        blocks: u64,
        put_back: bool,
    },
    /// As part of a write that was stamped when it began.
    InPlaceUnstamped {
        first: u64,
        blocks: u64,
    },
    Append {
        bytes: u64,
    },
    /// Something longer is written over it.
    Overwrite {
        bytes: u64,
    },
    Truncate {
        size: u64,
    },
    Delete,
    /// Its attributes change.
    Touch,
    /// It gets a second name, or loses it.
    Link(bool),
}

pub struct Disk {
    inodes: Vec<Inode>,
    names: Vec<Option<usize>>,
    pub history: Vec<Vec<State>>,
    open: HashMap<RawFd, usize>,
    anchor: OwnedFd,
    stamps: Stamps,
    version: u32,
    pub clock: u64,
    /// How far the clock on the wall was set, in nanoseconds.
    pub wall_set: i64,
    foreign: bool,
    /// When a look at a name failed last, by the file's number: what is cached is then served on.
    pub look_failed: Vec<u64>,
    /// Inodes without a name.
    nameless: Vec<usize>,
    next_number: u64,
}

impl Disk {
    pub fn new(sizes: &[u64], stamps: Stamps, foreign: bool) -> Disk {
        let anchor = rustix::fs::memfd_create("simulated-file", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd");
        let mut disk = Disk {
            inodes: Vec::new(),
            names: vec![None; sizes.len()],
            history: vec![Vec::new(); sizes.len()],
            open: HashMap::new(),
            anchor,
            stamps,
            version: 0,
            clock: 0,
            wall_set: 0,
            foreign,
            look_failed: vec![0; sizes.len()],
            nameless: Vec::new(),
            next_number: 1000,
        };
        for (file, &size) in sizes.iter().enumerate() {
            disk.write(file, Write::Replace { size });
        }
        // They were there long before.
        for inode in &mut disk.inodes {
            inode.times.mtime -= 3_600_000_000_000;
            inode.times.ctime -= 3_600_000_000_000;
            inode.past = vec![(inode.times, inode.content.clone())];
        }
        disk
    }

    pub fn wall(&self) -> i64 {
        (EPOCH * 1_000_000_000 + self.clock) as i64 + self.wall_set
    }

    fn stamp(&self) -> i64 {
        let grain = match self.stamps {
            Stamps::Nanoseconds => 1,
            Stamps::Ticks => 4_000_000,
            Stamps::Seconds => 1_000_000_000,
            Stamps::TwoSeconds => 2_000_000_000,
        };
        self.wall() / grain * grain
    }

    /// The file's number that a name stands for.
    pub fn file_of(&self, name: &[u8]) -> Option<usize> {
        let number: usize = std::str::from_utf8(name.strip_prefix(b"f")?).ok()?.parse().ok()?;
        (number < self.names.len()).then_some(number)
    }

    pub fn size_of(&self, file: usize) -> Option<u64> {
        self.names[file].map(|inode| self.inodes[inode].times.size)
    }

    pub fn files(&self) -> usize {
        self.names.len()
    }

    fn fresh(&mut self) -> u32 {
        self.version += 1;
        self.version & 0xFF_FFFF
    }

    pub fn write(&mut self, file: usize, write: Write) {
        let now = self.stamp();
        match (self.names[file], write) {
            (_, Write::Replace { size }) => {
                self.unlink(file);
                let version = self.fresh();
                let blocks = vec![version; size.div_ceil(BLOCK) as usize + 1];
                let content = Rc::new(Content { file, size, blocks });
                let (ino, past) = self.number();
                let times = Times { ino, size, mtime: now, ctime: now, links: 1 };
                self.inodes.push(Inode { times, content, past, opened: Vec::new() });
                self.names[file] = Some(self.inodes.len() - 1);
                self.looked(file, self.inodes.len() - 1);
            }
            (None, _) => {}
            (Some(_), Write::Delete) => {
                self.unlink(file);
                self.names[file] = None;
                self.became(file);
            }
            (Some(inode), Write::Touch) => {
                self.inodes[inode].times.ctime = now;
                self.looked(file, inode);
            }
            (Some(inode), Write::Link(more)) => {
                let inode_of = &mut self.inodes[inode];
                inode_of.times.links = if more { 2 } else { 1 };
                inode_of.times.ctime = now;
                self.looked(file, inode);
            }
            (Some(inode), write) => self.write_inode(file, inode, write, now),
        }
    }

    /// The number of a new inode, and what a stat has ever said of it: file systems give the numbers of files that are
    /// gone to new ones.
    fn number(&mut self) -> (u64, Vec<(Times, Rc<Content>)>) {
        let anchor = anchor_of(&self.anchor);
        for at in (0..self.nameless.len()).rev().take(4) {
            let inode = self.nameless[at];
            let is_open = |fd: &RawFd| self.open.get(fd) == Some(&inode) && is_open_as(*fd, anchor);
            if !self.inodes[inode].opened.iter().any(is_open) {
                self.nameless.swap_remove(at);
                return (self.inodes[inode].times.ino, std::mem::take(&mut self.inodes[inode].past));
            }
        }
        self.next_number += 1;
        (self.next_number, Vec::new())
    }

    fn write_inode(&mut self, file: usize, inode: usize, write: Write, now: i64) {
        let version = self.fresh();
        let found = &mut self.inodes[inode];
        let mut content = (*found.content).clone();
        let (mut mtime, mut ctime) = (now, now);
        match write {
            Write::InPlace { first, blocks, put_back } => {
                content.overwrite(first, blocks, version);
                if put_back {
                    mtime = found.times.mtime;
                }
            }
            Write::InPlaceUnstamped { first, blocks } => {
                content.overwrite(first, blocks, version);
                (mtime, ctime) = (found.times.mtime, found.times.ctime);
            }
            Write::Append { bytes } => {
                // What is appended within a block that is there already changes none of its bytes.
                content.size += bytes;
                let needed = content.size.div_ceil(BLOCK) as usize + 1;
                content.blocks.resize(needed, version);
            }
            Write::Overwrite { bytes } => {
                content.size += bytes;
                content.blocks = vec![version; content.size.div_ceil(BLOCK) as usize + 1];
            }
            Write::Truncate { size } => {
                content.size = content.size.min(size);
                content.blocks.truncate(content.size.div_ceil(BLOCK) as usize + 1);
            }
            Write::Replace { .. } | Write::Delete | Write::Touch | Write::Link(_) => return,
        }
        found.content = Rc::new(content);
        found.times = Times { size: found.content.size, mtime, ctime, ..found.times };
        self.looked(file, inode);
    }

    /// An inode is something else now; if it looks like something that it was before, that is not to be seen for a
    /// while.
    fn looked(&mut self, file: usize, inode: usize) {
        let inode = &mut self.inodes[inode];
        let is_unseen = inode.is_taken_for_earlier();
        inode.past.push((inode.times, inode.content.clone()));
        self.became(file);
        if is_unseen {
            self.unseen(file);
        }
    }

    fn unseen(&mut self, file: usize) {
        let until = self.clock + UNSEEN;
        self.history[file].iter_mut().for_each(|state| state.unseen_until = until);
    }

    /// The name stands for something else from now on.
    fn became(&mut self, file: usize) {
        let content = self.names[file].map(|inode| self.inodes[inode].content.clone());
        let clock = self.clock;
        let history = &mut self.history[file];
        if let Some(last) = history.last_mut() {
            if last.content == content {
                return;
            }
            last.until = clock;
        }
        history.push(State { content, from: clock, until: u64::MAX, barred: u64::MAX, unseen_until: 0 });
        // What is older than everything that is on its way is of no use.
        if history.len().is_multiple_of(2000) {
            history.retain(|state| state.until.saturating_add(100_000_000_000) > clock);
        }
    }

    /// Whatever the name had stood for by `then` is not to be answered to requests that arrive from now on.
    pub fn bar(&mut self, file: usize, then: u64) {
        let clock = self.clock;
        let before = self.history[file].iter_mut().filter(|state| state.until <= then);
        before.for_each(|state| state.barred = state.barred.min(clock));
    }

    fn unlink(&mut self, file: usize) {
        let Some(inode) = self.names[file].take() else { return };
        let now = self.stamp();
        let inode_of = &mut self.inodes[inode];
        inode_of.times.links -= 1;
        inode_of.times.ctime = now;
        let is_unseen = inode_of.is_taken_for_earlier();
        if inode_of.times.links == 0 {
            self.nameless.push(inode);
        }
        if is_unseen {
            self.unseen(file);
        }
    }

    pub fn open(&mut self, name: &[u8]) -> Result<RawFd, i32> {
        let inode = self.file_of(name).and_then(|file| self.names[file]).ok_or(libc::ENOENT)?;
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.anchor, 0).map_err(|errno| errno.raw_os_error())?;
        let fd = std::os::fd::IntoRawFd::into_raw_fd(fd);
        self.inodes[inode].opened.push(fd);
        self.open.insert(fd, inode);
        Ok(fd)
    }

    fn stat_inode(&self, inode: usize) -> Stat {
        let Inode { times, .. } = &self.inodes[inode];
        // SAFETY: all fields are integers, for which zero is valid.
        let mut stat: Stat = unsafe { std::mem::zeroed() };
        stat.st_dev = 77;
        stat.st_ino = times.ino;
        stat.st_mode = 0o100_644;
        stat.st_nlink = u64::from(times.links) as _;
        stat.st_size = times.size as _;
        stat.st_mtime = times.mtime.div_euclid(1_000_000_000) as _;
        stat.st_mtime_nsec = times.mtime.rem_euclid(1_000_000_000) as _;
        stat.st_ctime = times.ctime.div_euclid(1_000_000_000) as _;
        stat.st_ctime_nsec = times.ctime.rem_euclid(1_000_000_000) as _;
        stat
    }

    pub fn stat(&self, fd: RawFd) -> Option<Stat> {
        self.open.get(&fd).map(|&inode| self.stat_inode(inode))
    }

    /// The inode of a simulated descriptor.
    pub fn inode(&self, fd: RawFd) -> Option<usize> {
        self.open.get(&fd).copied()
    }

    pub fn content(&self, inode: usize) -> &Rc<Content> {
        &self.inodes[inode].content
    }

    /// Forgets descriptors that are closed: what has their numbers next may be the arena of another server.
    pub fn forget_closed(&mut self) {
        let anchor = anchor_of(&self.anchor);
        self.open.retain(|&fd, _| is_open_as(fd, anchor));
    }

    /// The descriptors of files that were opened and are not closed.
    pub fn left_open(&self) -> usize {
        let anchor = anchor_of(&self.anchor);
        self.open.keys().filter(|&&fd| fd != self.anchor.as_raw_fd() && is_open_as(fd, anchor)).count()
    }
}

/// What tells the descriptors of one simulation.
fn anchor_of(fd: impl AsFd) -> (u64, u64) {
    rustix::fs::fstat(fd).map_or((0, 0), |stat| (stat.st_dev, stat.st_ino))
}

fn is_open_as(fd: RawFd, anchor: (u64, u64)) -> bool {
    // SAFETY: it is only asked what it is, and may be nothing.
    anchor_of(unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }) == anchor
}

impl Content {
    fn overwrite(&mut self, first: u64, blocks: u64, version: u32) {
        let count = self.size.div_ceil(BLOCK);
        for block in first.min(count)..(first + blocks).min(count) {
            self.blocks[block as usize] = version;
        }
    }
}

/// The disk as the server's machine.
pub struct Machine {
    pub disk: Rc<RefCell<Disk>>,
    /// Ranges of the arena that were given back, and how many had been before.
    pub punches: Rc<RefCell<Punches>>,
}

/// What was given back of the arena while sockets may have referred to it.
#[derive(Default)]
pub struct Punches {
    begun: u64,
    ranges: std::collections::VecDeque<(u64, u64)>,
}

/// Those before are forgotten: nothing stays in a socket for so long.
const PUNCHES: usize = 4096;

impl Punches {
    pub fn now(&self) -> u64 {
        self.begun + self.ranges.len() as u64
    }

    /// Whether any part of the range was given back since `then`.
    pub fn since(&self, then: u64, offset: u64, len: u64) -> bool {
        let from = then.saturating_sub(self.begun) as usize;
        then < self.begun
            || self.ranges.iter().skip(from).any(|&(at, length)| at < offset + len && offset < at + length)
    }
}

impl Simulated for Machine {
    fn stat(&self, fd: RawFd) -> Option<io::Result<Stat>> {
        self.disk.borrow().stat(fd).map(Ok)
    }

    fn stat_name(&self, name: &[u8]) -> io::Result<Stat> {
        let disk = self.disk.borrow();
        let inode = disk.file_of(name).and_then(|file| disk.names[file]);
        inode.map(|inode| disk.stat_inode(inode)).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    fn read_now(&self, fd: RawFd, into: &mut [u8], at: u64) -> Option<io::Result<usize>> {
        let disk = self.disk.borrow();
        disk.inode(fd).map(|inode| Ok(disk.content(inode).read(at, into)))
    }

    fn wall(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.disk.borrow().wall()).unwrap_or(0))
    }

    fn clock_is_own(&self) -> bool {
        !self.disk.borrow().foreign
    }

    fn punched(&self, offset: u64, len: u64) {
        let mut punches = self.punches.borrow_mut();
        punches.ranges.push_back((offset, len));
        if punches.ranges.len() > PUNCHES {
            punches.ranges.pop_front();
            punches.begun += 1;
        }
    }
}

/// Gives a descriptor up that nobody adopted.
pub fn close(fd: RawFd) {
    // SAFETY: the caller gives it up.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}
