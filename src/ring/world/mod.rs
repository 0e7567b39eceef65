//! A whole machine that is simulated: rings, sockets, clocks, and a [disk]. What real ones do seldom, this one does all
//! the time, as a seed says. It checks on its own what no kernel would: that memory in use by it is not changed.

pub mod disk;
mod port;
pub mod socket;

use super::Completion;
use super::kernel::{Kind, Op, Token};
pub use super::simulated::Dice;
use crate::limits;
use disk::{Disk, Machine, Punches};
pub use port::Port;
use socket::Socket;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::rc::Rc;

/// Simulated sockets and rings have numbers that no real descriptor has.
const SOCKETS: RawFd = 1 << 20;
const RINGS: RawFd = 1 << 28;

pub(super) const F_BUFFER: u32 = 1;
pub(super) const F_MORE: u32 = 2;
pub(super) const F_NOTIF: u32 = 8;

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What may go wrong. Each is on or off for a whole run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault {
            $($(#[doc = $doc])* $name,)*
        }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];
        }
    };
}

faults! {
    /// Sockets take fewer bytes than there is room for.
    ShortSends,
    /// Reads bring fewer bytes than there are.
    ShortReads,
    /// Clients go away at any byte.
    Resets,
    /// The receive buffers are used up.
    NoBuffers,
    /// Messages to other rings find no memory.
    NoMemoryForMessages,
    /// Messages of threads without a ring are not delivered.
    LostWakeUps,
    /// Opens find no descriptor.
    NoDescriptors,
    /// Accepts find no descriptor.
    NoDescriptorsToAccept,
    /// Reads fail.
    BadReads,
    /// Opens fail.
    BadOpens,
    /// Operations are interrupted, or asked to come again.
    Interrupts,
    /// Multishot operations end, and are cancelled.
    EndedMultishots,
    /// Completions come late and in any order.
    Reordering,
    /// The completion queue overflows.
    Overflows,
    /// Ticks come at the worst moment: before everything else, and many at a time.
    Ticks,
    /// A thread stops for seconds.
    Stops,
    /// The clock on the wall is set.
    WallSet,
    /// The storage takes long.
    SlowStorage,
    /// Reads see the middle of a write.
    TornReads,
    /// The page cache forgets.
    ColdFiles,
    /// Zero-copy sends are refused, and their notifications come late.
    NoZeroCopy,
}

/// Those that are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults(u32);

impl Faults {
    pub fn with(self, fault: Fault) -> Faults {
        Faults(self.0 | 1 << fault as u32)
    }

    pub fn without(self, fault: Fault) -> Faults {
        Faults(self.0 & !(1 << fault as u32))
    }

    pub fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u32 != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.iter().copied().filter(move |&fault| self.has(fault))
    }
}

/// An operation of a disk that is still to come.
enum Access {
    Open { path: Vec<u8>, looks_only: bool },
    Read { file: RawFd, into: *mut u8, len: u32, offset: u64, torn: usize },
}

struct Pending {
    token: Token,
    due: u64,
    access: Access,
}

/// A zero-copy send whose notification is still to come.
struct Notice {
    token: Token,
    bytes: *const u8,
    sent: Vec<u8>,
}

/// One worker's ring.
#[derive(Default)]
pub(super) struct Ring {
    accept: Option<Token>,
    arriving: VecDeque<u32>,
    /// Open sockets of the worker.
    sockets: Vec<u32>,
    disk: Vec<Pending>,
    notices: Vec<Notice>,
    tick: Option<(Token, u64)>,
    done: Vec<Completion>,
    overflows: u64,
    /// Until then its thread does not run.
    pub stopped_until: u64,
    is_over: bool,
}

/// All that is simulated.
pub struct World {
    pub dice: Dice,
    pub clock: u64,
    pub faults: Faults,
    pub(super) rings: Vec<Ring>,
    pub sockets: Vec<Socket>,
    pub disk: Rc<RefCell<Disk>>,
    punches: Rc<RefCell<Punches>>,
    buffers: Vec<Vec<u8>>,
    free_buffers: Vec<u16>,
    /// Descriptors that stand for sockets that left the data plane.
    pub adopted: Vec<(RawFd, u32)>,
    /// Completions that were handed out.
    pub completions: u64,
    /// When something was last under way in the storage.
    pub storage_busy: u64,
    pub dismissed: u64,
}

impl World {
    pub fn new(seed: u64, workers: usize, faults: Faults, disk: Disk) -> Rc<RefCell<World>> {
        Rc::new(RefCell::new(World {
            dice: Dice::new(seed),
            clock: 1_000_000_000,
            faults,
            rings: (0..workers).map(|_| Ring::default()).collect(),
            sockets: Vec::new(),
            disk: Rc::new(RefCell::new(disk)),
            punches: Rc::default(),
            buffers: Vec::new(),
            free_buffers: Vec::new(),
            adopted: Vec::new(),
            completions: 0,
            storage_busy: 0,
            dismissed: 0,
        }))
    }

    /// The disk as the server's machine.
    pub fn machine(&self) -> Rc<Machine> {
        Rc::new(Machine { disk: self.disk.clone(), punches: self.punches.clone() })
    }

    pub fn ring_of(worker: usize) -> RawFd {
        RINGS + worker as RawFd
    }

    /// Something goes wrong, once in `n` times, if it may.
    pub(super) fn strikes(&mut self, fault: Fault, n: usize) -> bool {
        self.faults.has(fault) && self.dice.one_in(n)
    }

    pub fn pass(&mut self, nanoseconds: u64) {
        self.clock += nanoseconds;
        self.disk.borrow_mut().clock = self.clock;
    }

    /// A client connects, and is to be accepted by this worker. Returns its number.
    pub fn connect(&mut self, worker: usize, room: usize) -> u32 {
        let number = self.sockets.len() as u32;
        self.sockets.push(Socket::new(worker, room, self.clock));
        self.rings[worker].arriving.push_back(number);
        number
    }

    /// A completion for a worker from outside: a message, or a signal.
    pub fn tell(&mut self, worker: usize, token: Token) {
        self.rings[worker].done.push(Completion { token: token.pack(), result: 0, flags: 0 });
    }

    pub fn is_stopped(&self, worker: usize) -> bool {
        self.rings[worker].stopped_until > self.clock
    }

    /// Its thread stands still, but the kernel does not: what is under way in the storage comes to its end, and is
    /// noticed later.
    pub fn go_on_without(&mut self, worker: usize) {
        self.access(worker);
    }

    pub fn stop(&mut self, worker: usize, time: u64) {
        self.rings[worker].stopped_until = self.clock + time;
    }

    /// A new server begins, with rings of its own.
    pub fn restart(&mut self, workers: usize) {
        self.rings = (0..workers).map(|_| Ring::default()).collect();
        self.sockets.clear();
        self.adopted.clear();
        self.disk.borrow_mut().forget_closed();
    }

    /// The worker's thread has ended, and its ring with it.
    pub fn end(&mut self, worker: usize) {
        self.rings[worker].is_over = true;
    }

    /// Whether anything can happen in this ring before its next tick.
    pub fn is_quiet(&self, worker: usize) -> bool {
        let ring = &self.rings[worker];
        ring.done.is_empty() && ring.arriving.is_empty() && ring.disk.is_empty() && ring.notices.is_empty()
    }

    /// When the next tick of any running worker is due.
    pub fn next_tick(&self) -> u64 {
        let ticks = self.rings.iter().filter(|ring| !ring.is_over).filter_map(|ring| ring.tick.map(|(_, due)| due));
        ticks.min().unwrap_or(self.clock + limits::TICK.as_nanos() as u64)
    }

    /// Operations of the storage that are under way.
    pub fn accesses(&self) -> usize {
        self.rings.iter().map(|ring| ring.disk.len()).sum()
    }

    fn socket_of(fd: RawFd) -> usize {
        (fd - SOCKETS) as usize
    }

    fn complete(&mut self, worker: usize, token: Token, result: i32, flags: u32) {
        self.rings[worker].done.push(Completion { token: token.pack(), result, flags });
    }

    /// Something may happen to each thing that the worker waits for.
    fn happen(&mut self, worker: usize) {
        self.accept(worker);
        for at in 0..self.rings[worker].sockets.len() {
            let number = self.rings[worker].sockets[at] as usize;
            self.happen_to(worker, number);
        }
        let sockets = &self.sockets;
        self.rings[worker].sockets.retain(|&number| !sockets[number as usize].closed);
        self.access(worker);
        for at in (0..self.rings[worker].notices.len()).rev() {
            let patience = if self.faults.has(Fault::NoZeroCopy) { 12 } else { 3 };
            if self.dice.one_in(patience) {
                let notice = self.rings[worker].notices.swap_remove(at);
                // SAFETY: lent until the notification that is made here.
                let now = unsafe { std::slice::from_raw_parts(notice.bytes, notice.sent.len()) };
                assert_eq!(now, notice.sent, "memory of a zero-copy send changed before its notification");
                self.complete(worker, notice.token, 0, F_NOTIF);
            }
        }
    }

    fn accept(&mut self, worker: usize) {
        let Some(token) = self.rings[worker].accept else { return };
        if self.rings[worker].arriving.is_empty() {
            return;
        }
        if self.strikes(Fault::NoDescriptorsToAccept, 6) {
            self.rings[worker].accept = None;
            let errno = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ECONNABORTED][self.dice.below(4)];
            self.complete(worker, token, -errno, 0);
            return;
        }
        let more = if self.strikes(Fault::EndedMultishots, 6) { 0 } else { F_MORE };
        if more == 0 {
            self.rings[worker].accept = None;
        }
        if let Some(number) = self.rings[worker].arriving.pop_front() {
            self.rings[worker].sockets.push(number);
            self.complete(worker, token, SOCKETS + number as RawFd, more);
        }
    }

    fn access(&mut self, worker: usize) {
        if !self.rings[worker].disk.is_empty() {
            self.storage_busy = self.clock;
        }
        for at in (0..self.rings[worker].disk.len()).rev() {
            if self.rings[worker].disk[at].due > self.clock {
                continue;
            }
            let mut pending = self.rings[worker].disk.swap_remove(at);
            let result = match &mut pending.access {
                Access::Open { path, looks_only } => self.open(path, *looks_only),
                Access::Read { file, into, len, offset, torn } => {
                    if *torn == 0 && *len > 1 && self.strikes(Fault::TornReads, 3) {
                        // The first half is copied now, the rest later.
                        *torn = *len as usize / 2;
                        let half = self.read(*file, *into, *torn, *offset);
                        if half == *torn {
                            pending.due = self.clock + self.dice.below(30_000_000) as u64;
                            self.rings[worker].disk.push(pending);
                            continue;
                        }
                        *torn = half;
                    }
                    let (file, into, len, offset, torn) = (*file, *into, *len, *offset, *torn);
                    self.finish_read(file, into, len, offset, torn)
                }
            };
            self.complete(worker, pending.token, result, 0);
        }
    }

    fn open(&mut self, path: &[u8], looks_only: bool) -> i32 {
        if self.strikes(Fault::Interrupts, 6) {
            return -[libc::EINTR, libc::EAGAIN][self.dice.below(2)];
        }
        let failure = if self.strikes(Fault::NoDescriptors, 5) {
            Some([libc::EMFILE, libc::ENFILE, libc::ENOMEM][self.dice.below(3)])
        } else if self.strikes(Fault::BadOpens, 8) {
            Some([libc::EIO, libc::ESTALE][self.dice.below(2)])
        } else {
            None
        };
        let mut disk = self.disk.borrow_mut();
        if let Some(errno) = failure {
            if let Some(file) = disk.file_of(path) {
                disk.look_failed[file] = self.clock;
            }
            return -errno;
        }
        let _ = looks_only;
        disk.open(path).unwrap_or_else(|errno| -errno)
    }

    fn read(&mut self, file: RawFd, into: *mut u8, len: usize, offset: u64) -> usize {
        let disk = self.disk.borrow();
        let inode = disk.inode(file).expect("what is read is open");
        // SAFETY: lent until the completion, and of this length.
        let into = unsafe { std::slice::from_raw_parts_mut(into, len) };
        disk.content(inode).read(offset, into)
    }

    fn finish_read(&mut self, file: RawFd, into: *mut u8, len: u32, offset: u64, torn: usize) -> i32 {
        if torn == 0 {
            if self.strikes(Fault::Interrupts, 6) {
                return -[libc::EINTR, libc::EAGAIN][self.dice.below(2)];
            }
            if self.strikes(Fault::BadReads, 8) {
                let disk = &mut *self.disk.borrow_mut();
                if let Some(number) = disk.inode(file).map(|inode| disk.content(inode).file) {
                    disk.look_failed[number] = self.clock;
                }
                return -libc::EIO;
            }
        }
        let len = match self.strikes(Fault::ShortReads, 3) {
            true if torn == 0 => 1 + self.dice.below(len as usize),
            _ => len as usize,
        };
        // SAFETY: within what was lent.
        let rest = unsafe { into.add(torn) };
        let got = self.read(file, rest, len.saturating_sub(torn), offset + torn as u64);
        (torn + got) as i32
    }

    /// The completions that a worker takes in one turn, into `batch`.
    fn take(&mut self, worker: usize, wait: bool, batch: &mut Vec<Completion>) {
        if self.faults.has(Fault::Ticks) && self.dice.one_in(20) {
            // A tick that is due, whatever else is there.
            if let Some((token, due)) = self.rings[worker].tick {
                self.pass(due.saturating_sub(self.clock));
                self.rings[worker].tick = None;
                batch.push(Completion { token: token.pack(), result: -libc::ETIME, flags: 0 });
            }
        }
        self.happen(worker);
        if let Some((token, due)) = self.rings[worker].tick
            && due <= self.clock
        {
            self.rings[worker].tick = None;
            self.complete(worker, token, -libc::ETIME, 0);
        }
        let _ = wait;
        let before = batch.len();
        if self.faults.has(Fault::Reordering) && self.rings[worker].done.len() > 1 {
            self.take_some(worker, batch);
        } else {
            batch.append(&mut self.rings[worker].done);
        }
        if self.faults.has(Fault::Overflows) && batch.len() - before > 2 && self.dice.one_in(4) {
            // The kernel keeps the rest aside.
            let keep = before + 1 + self.dice.below(batch.len() - before - 1);
            let aside: Vec<Completion> = batch.drain(keep..).collect();
            self.rings[worker].done.splice(0..0, aside);
            self.rings[worker].overflows += 1;
        }
        self.completions += batch.len() as u64;
    }

    /// In any order, and some of them later; but those of one operation stay in order.
    fn take_some(&mut self, worker: usize, batch: &mut Vec<Completion>) {
        let mut done = std::mem::take(&mut self.rings[worker].done);
        let most = self.dice.below(done.len() + 1);
        let mut late: Vec<Completion> = Vec::new();
        for completion in done.drain(..) {
            let overtakes = late.iter().any(|earlier| earlier.token == completion.token);
            if overtakes || (late.len() < most && self.dice.one_in(2)) {
                late.push(completion);
            } else {
                batch.push(completion);
            }
        }
        self.rings[worker].done = late;
    }

    /// An operation of the storage begins.
    fn begin(&mut self, worker: usize, token: Token, access: Access) {
        let slow = self.strikes(Fault::SlowStorage, 4);
        let time = if slow { self.dice.below(400_000_000) } else { self.dice.below(300_000) };
        self.storage_busy = self.clock;
        let due = self.clock + time as u64;
        self.rings[worker].disk.push(Pending { token, due, access });
    }

    fn cancel(&mut self, worker: usize, token: Token, cancelled: Token) {
        if self.rings[worker].accept == Some(cancelled) {
            self.rings[worker].accept = None;
            self.complete(worker, cancelled, -libc::ECANCELED, 0);
        }
        let sockets = &mut self.sockets;
        let armed = self.rings[worker].sockets.iter().copied();
        let armed = { armed }.find(|&number| sockets[number as usize].receive == Some(cancelled));
        if let Some(number) = armed {
            sockets[number as usize].receive = None;
            self.complete(worker, cancelled, -libc::ECANCELED, 0);
        }
        self.complete(worker, token, 0, 0);
    }

    fn message(&mut self, worker: usize, token: Token, ring: RawFd, message: Token) {
        let to = (ring - RINGS) as usize;
        if self.strikes(Fault::NoMemoryForMessages, 3) {
            self.complete(worker, token, -libc::ENOMEM, 0);
        } else if self.rings[to].is_over {
            self.complete(worker, token, -libc::EBADF, 0);
        } else {
            self.tell(to, message);
            self.complete(worker, token, 0, 0);
        }
    }

    /// Takes the first `len` bytes into a receive buffer; returns its number.
    fn buffer(&mut self, bytes: &mut VecDeque<u8>, len: usize) -> u16 {
        let id = self.free_buffers.pop().unwrap_or_else(|| {
            self.buffers.push(Vec::new());
            (self.buffers.len() - 1) as u16
        });
        let buffer = &mut self.buffers[usize::from(id)];
        buffer.clear();
        let (front, back) = bytes.as_slices();
        let in_front = len.min(front.len());
        buffer.extend_from_slice(&front[..in_front]);
        buffer.extend_from_slice(&back[..len - in_front]);
        bytes.drain(..len);
        id
    }

    fn submit(&mut self, worker: usize, op: Op, token: Token) {
        match op {
            Op::Accept { .. } => self.rings[worker].accept = Some(token),
            Op::Receive { socket } => {
                let socket = &mut self.sockets[World::socket_of(socket)];
                assert!(socket.receive.replace(token).is_none(), "one receive at a time");
            }
            Op::Send { socket, message, .. } => {
                let socket = &mut self.sockets[World::socket_of(socket)];
                assert!(socket.send.replace((token, message.simulated(), 0)).is_none(), "one send at a time");
            }
            Op::SendZero { socket, bytes, len } => self.send_zero(worker, token, socket, bytes.simulated(), len),
            Op::Writable { socket } => {
                let socket = &mut self.sockets[World::socket_of(socket)];
                assert!(socket.writable.replace(token).is_none(), "one poll at a time");
            }
            Op::Open { path, how, .. } => {
                // SAFETY: a C string, and an `open_how`, that are lent.
                let (path, how) = unsafe { (std::ffi::CStr::from_ptr(path.simulated()), &*how.simulated()) };
                // SAFETY: the kernel's `struct open_how` begins with its flags.
                let flags = unsafe { *(&raw const *how).cast::<u64>() };
                let looks_only = flags & libc::O_PATH as u64 != 0;
                self.begin(worker, token, Access::Open { path: path.to_bytes().to_vec(), looks_only });
            }
            Op::Read { file, into, len, offset } => {
                self.begin(worker, token, Access::Read { file, into: into.simulated(), len, offset, torn: 0 });
            }
            Op::Message { ring, token: message } => self.message(worker, token, ring, message),
            Op::Tick => {
                assert_eq!(token.kind, Kind::Tick);
                self.rings[worker].tick = Some((token, self.clock + limits::TICK.as_nanos() as u64));
            }
            Op::Cancel { token: cancelled } => self.cancel(worker, token, cancelled),
        }
    }
}
