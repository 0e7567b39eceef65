//! A kernel for tests: sockets and time are simulated, files are real. What the real kernel does seldom, this one does
//! all the time, as a seed says: short sends and reads, full sockets, exhausted receive buffers, resets, late
//! notifications, completions in any order.

use super::Completion;
use super::kernel::{Kernel, Kind, Op, Token};
use crate::limits;
use crate::version::Found;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

const F_BUFFER: u32 = 1;
const F_MORE: u32 = 2;
const F_NOTIF: u32 = 8;

/// Simulated sockets have numbers that no real descriptor has.
const SOCKETS: RawFd = 1 << 20;

/// A small generator of repeatable choices (xorshift64*).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// One connection, seen from both sides.
#[derive(Default)]
pub struct Socket {
    /// What the client has sent and the server has not received.
    pub to_server: VecDeque<u8>,
    /// The client sends no more.
    pub client_done: bool,
    /// The client is gone.
    pub reset: bool,
    /// What the server has sent and the client has not read: bounded by `room`.
    pub in_transit: VecDeque<u8>,
    room: usize,
    /// What the client has read.
    pub read: Vec<u8>,
    server_done: bool,
    shut: bool,
    pub closed: bool,
    receive: Option<Token>,
    send: Option<(Token, *const libc::msghdr, usize)>,
    writable: Option<Token>,
    waits_until_sent: bool,
}

impl Socket {
    fn broken(&self) -> bool {
        self.reset || self.shut || self.server_done
    }

    fn free(&self) -> usize {
        self.room.saturating_sub(self.in_transit.len())
    }

    fn takes_more(&self) -> bool {
        if self.waits_until_sent { self.in_transit.is_empty() } else { self.free() > 0 }
    }

    /// The server has ended the connection, and the client has read everything.
    pub fn is_over(&self) -> bool {
        (self.closed || self.shut || self.server_done) && self.in_transit.is_empty()
    }
}

/// A zero-copy send whose notification is still to come.
struct Notice {
    token: Token,
    bytes: *const u8,
    sent: Vec<u8>,
}

/// A read that is still to come.
struct Read {
    token: Token,
    file: RawFd,
    into: *mut u8,
    len: u32,
    offset: u64,
}

/// All that is simulated; the test holds one end, the kernel the other.
pub struct World {
    pub dice: Dice,
    pub clock: u64,
    pub sockets: BTreeMap<RawFd, Socket>,
    /// Messages to other rings that arrived there.
    pub delivered: Vec<(RawFd, Token)>,
    next_socket: RawFd,
    accept: Option<Token>,
    arriving: Vec<RawFd>,
    reads: Vec<Read>,
    opens: Vec<(Token, RawFd, *const libc::c_char, *const io_uring::types::OpenHow)>,
    notices: Vec<Notice>,
    tick: Option<Token>,
    done: Vec<Completion>,
    buffers: BTreeMap<u16, Vec<u8>>,
    next_buffer: u16,
}

/// The server's end of a [`World`].
pub struct Simulated(pub Rc<RefCell<World>>);

impl World {
    pub fn new(seed: u64) -> Rc<RefCell<World>> {
        Rc::new(RefCell::new(World {
            dice: Dice::new(seed),
            clock: 1_000_000_000,
            sockets: BTreeMap::new(),
            delivered: Vec::new(),
            next_socket: SOCKETS,
            accept: None,
            arriving: Vec::new(),
            reads: Vec::new(),
            opens: Vec::new(),
            notices: Vec::new(),
            tick: None,
            done: Vec::new(),
            buffers: BTreeMap::new(),
            next_buffer: 0,
        }))
    }

    /// A client connects.
    pub fn connect(&mut self) -> RawFd {
        let fd = self.next_socket;
        self.next_socket += 1;
        let room = 1 + self.dice.below(100_000);
        self.sockets.insert(fd, Socket { room, ..Socket::default() });
        self.arriving.push(fd);
        fd
    }

    /// The server is told to finish.
    pub fn tell(&mut self, kind: Kind) {
        self.complete(Token::new(kind, 0, 0), 0, 0);
    }

    /// The completion with which the oldest connection that was not accepted is accepted, at this very time.
    pub fn accepted(&mut self) -> Completion {
        let token = self.accept.expect("the listener is armed");
        Completion { token: token.pack(), result: self.arriving.remove(0), flags: F_MORE }
    }

    /// The completion with which a listener's accept ends without a connection, at this very time.
    pub fn not_accepted(&mut self, errno: i32) -> Completion {
        let token = self.accept.take().expect("the listener is armed");
        Completion { token: token.pack(), result: -errno, flags: 0 }
    }

    /// The completion with which these bytes are received, at this very time.
    pub fn received(&mut self, fd: RawFd, bytes: &[u8]) -> Completion {
        let token = self.sockets[&fd].receive.expect("the receive is armed");
        let id = self.next_buffer;
        self.next_buffer = self.next_buffer.wrapping_add(1);
        self.buffers.insert(id, bytes.to_vec());
        Completion { token: token.pack(), result: bytes.len() as i32, flags: u32::from(id) << 16 | F_BUFFER | F_MORE }
    }

    /// The completion with which the oldest open fails, at this very time.
    pub fn not_opened(&mut self, errno: i32) -> Completion {
        let (token, ..) = self.opens.remove(0);
        Completion { token: token.pack(), result: -errno, flags: 0 }
    }

    /// The completion of the tick, at this very time.
    pub fn ticked(&mut self) -> Completion {
        self.tick = None;
        Completion { token: Token::new(Kind::Tick, 0, 0).pack(), result: -libc::ETIME, flags: 0 }
    }

    fn complete(&mut self, token: Token, result: i32, flags: u32) {
        self.done.push(Completion { token: token.pack(), result, flags });
    }

    /// Something may happen to each thing that is waited for.
    fn happen(&mut self) {
        if let Some(token) = self.accept
            && let Some(fd) = self.arriving.pop()
        {
            self.complete(token, fd, F_MORE);
        }
        let fds: Vec<RawFd> = self.sockets.keys().copied().collect();
        for fd in fds {
            let mut socket = self.sockets.remove(&fd).unwrap();
            self.happen_to(&mut socket);
            self.sockets.insert(fd, socket);
        }
        for _ in 0..self.reads.len() {
            if self.dice.one_in(2) {
                let at = self.dice.below(self.reads.len());
                let read = self.reads.swap_remove(at);
                self.finish_read(&read);
            }
        }
        for _ in 0..self.opens.len() {
            if self.dice.one_in(2) {
                let at = self.dice.below(self.opens.len());
                let (token, root, path, how) = self.opens.swap_remove(at);
                // SAFETY: lent until the completion that is made here.
                let fd = unsafe { libc::syscall(libc::SYS_openat2, root, path, how, size_of_val(&*how)) };
                let result =
                    if fd < 0 { -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { fd as i32 };
                self.complete(token, result, 0);
            }
        }
        for at in (0..self.notices.len()).rev() {
            if self.dice.one_in(4) {
                let notice = self.notices.swap_remove(at);
                // SAFETY: lent until the notification that is made here.
                let now = unsafe { std::slice::from_raw_parts(notice.bytes, notice.sent.len()) };
                assert_eq!(now, notice.sent, "memory of a zero-copy send changed before its notification");
                self.complete(notice.token, 0, F_NOTIF);
            }
        }
    }

    fn finish_read(&mut self, read: &Read) {
        // Short reads are rare but legal.
        let len = if self.dice.one_in(4) { 1 + self.dice.below(read.len as usize) } else { read.len as usize };
        // SAFETY: lent until the completion that is made here.
        let got = unsafe { libc::pread(read.file, read.into.cast(), len, read.offset as libc::off_t) };
        self.complete(read.token, got as i32, 0);
    }

    fn happen_to(&mut self, socket: &mut Socket) {
        if let Some(token) = socket.receive {
            if socket.reset {
                socket.receive = None;
                self.complete(token, -libc::ECONNRESET, 0);
            } else if !socket.to_server.is_empty() && !socket.shut && self.dice.one_in(2) {
                if self.dice.one_in(10) {
                    socket.receive = None;
                    self.complete(token, -libc::ENOBUFS, 0);
                } else {
                    let most = socket.to_server.len().min(limits::RECEIVE_BUFFER_BYTES);
                    let len = 1 + self.dice.below(most);
                    let bytes: Vec<u8> = socket.to_server.drain(..len).collect();
                    let id = self.next_buffer;
                    self.next_buffer = self.next_buffer.wrapping_add(1);
                    self.buffers.insert(id, bytes);
                    // A multishot receive may end at any time.
                    let more = if self.dice.one_in(8) { 0 } else { F_MORE };
                    if more == 0 {
                        socket.receive = None;
                    }
                    self.complete(token, len as i32, u32::from(id) << 16 | F_BUFFER | more);
                }
            } else if socket.shut || (socket.client_done && socket.to_server.is_empty()) {
                socket.receive = None;
                self.complete(token, 0, 0);
            }
        }
        if let Some((token, message, sent)) = socket.send
            && self.dice.one_in(2)
        {
            // SAFETY: lent until the completion that ends it.
            let bytes = unsafe { gather(message) };
            if socket.broken() {
                socket.send = None;
                let result = if sent > 0 { sent as i32 } else { -libc::EPIPE };
                self.complete(token, result, 0);
            } else {
                let len = (bytes.len() - sent).min(socket.free());
                socket.in_transit.extend(&bytes[sent..sent + len]);
                socket.send = Some((token, message, sent + len));
                if sent + len == bytes.len() {
                    socket.send = None;
                    self.complete(token, bytes.len() as i32, 0);
                }
            }
        }
        if let Some(token) = socket.writable
            && (socket.takes_more() || socket.broken())
            && self.dice.one_in(2)
        {
            socket.writable = None;
            self.complete(token, libc::POLLOUT.into(), 0);
        }
        // The client reads, at its own pace.
        if self.dice.one_in(3) {
            let len = self.dice.below(socket.in_transit.len() + 1);
            socket.read.extend(socket.in_transit.drain(..len));
        }
    }
}

/// The bytes of a message.
///
/// # Safety
/// The message and what it points to are valid.
unsafe fn gather(message: *const libc::msghdr) -> Vec<u8> {
    let mut bytes = Vec::new();
    // SAFETY: the caller vouches for it.
    unsafe {
        for at in 0..(*message).msg_iovlen {
            let part = &*(*message).msg_iov.add(at);
            bytes.extend_from_slice(std::slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len));
        }
    }
    bytes
}

impl Kernel for Simulated {
    fn submit(&mut self, op: Op, token: Token) -> io::Result<()> {
        let world = &mut *self.0.borrow_mut();
        match op {
            Op::Accept { .. } => world.accept = Some(token),
            Op::Receive { socket } => {
                let socket = world.sockets.get_mut(&socket).unwrap();
                assert!(socket.receive.replace(token).is_none(), "one receive at a time");
            }
            Op::Send { socket, message, .. } => {
                let socket = world.sockets.get_mut(&socket).unwrap();
                assert!(socket.send.replace((token, message.simulated(), 0)).is_none(), "one send at a time");
            }
            Op::SendZero { socket, bytes, len } => {
                let bytes: *const u8 = bytes.simulated();
                let socket = world.sockets.get_mut(&socket).unwrap();
                assert!(socket.send.is_none(), "one send at a time");
                if world.dice.one_in(6) {
                    world.complete(token, -libc::ENOBUFS, F_MORE);
                    world.notices.push(Notice { token, bytes, sent: Vec::new() });
                } else if socket.broken() {
                    world.complete(token, -libc::EPIPE, 0);
                } else {
                    let len = 1 + world.dice.below(len as usize);
                    // SAFETY: lent until the notification.
                    let sent = unsafe { std::slice::from_raw_parts(bytes, len) }.to_vec();
                    socket.in_transit.extend(&sent);
                    world.complete(token, len as i32, F_MORE);
                    world.notices.push(Notice { token, bytes, sent });
                }
            }
            Op::Writable { socket } => {
                let socket = world.sockets.get_mut(&socket).unwrap();
                assert!(socket.writable.replace(token).is_none(), "one poll at a time");
            }
            Op::Open { root, path, how } => world.opens.push((token, root, path.simulated(), how.simulated())),
            Op::Read { file, into, len, offset } => {
                world.reads.push(Read { token, file, into: into.simulated(), len, offset });
            }
            Op::Message { ring, token: message } => match world.dice.one_in(3) {
                true => {
                    world.delivered.push((ring, message));
                    world.complete(token, 0, 0);
                }
                false => world.complete(token, -libc::ENOMEM, 0),
            },
            Op::Tick => world.tick = Some(token),
            Op::Cancel { token: cancelled } => {
                if world.accept == Some(cancelled) {
                    world.accept = None;
                }
                let armed = world.sockets.values_mut().find(|socket| socket.receive == Some(cancelled));
                if let Some(socket) = armed {
                    socket.receive = None;
                    world.complete(cancelled, -libc::ECANCELED, 0);
                }
                world.complete(token, 0, 0);
            }
        }
        Ok(())
    }

    fn turn(&mut self, wait: bool, batch: &mut Vec<Completion>) -> io::Result<()> {
        let world = &mut *self.0.borrow_mut();
        world.clock += 1_000_000;
        world.happen();
        if world.done.is_empty() && wait && world.dice.one_in(3) {
            world.clock += limits::TICK.as_nanos() as u64;
            if let Some(token) = world.tick.take() {
                world.complete(token, -libc::ETIME, 0);
            }
        }
        // In any order, and some of them later; but those of one operation stay in order.
        let count = world.dice.below(world.done.len() + 1);
        let mut late: Vec<Completion> = Vec::new();
        for completion in std::mem::take(&mut world.done) {
            let overtakes = late.iter().any(|earlier| earlier.token == completion.token);
            if overtakes || (late.len() < count && world.dice.one_in(2)) {
                late.push(completion);
            } else {
                batch.push(completion);
            }
        }
        world.done = late;
        Ok(())
    }

    fn take_received(&mut self, id: u16, len: usize, bytes: &mut Vec<u8>) {
        let buffer = self.0.borrow_mut().buffers.remove(&id).expect("a buffer is taken once");
        bytes.extend_from_slice(&buffer[..len]);
    }

    fn send_now(&mut self, socket: RawFd, bytes: &[u8], _more: bool) -> io::Result<usize> {
        let world = &mut *self.0.borrow_mut();
        let socket = world.sockets.get_mut(&socket).unwrap();
        assert!(socket.send.is_none(), "one send at a time");
        if socket.broken() {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        let len = bytes.len().min(socket.free());
        if len == 0 || world.dice.one_in(8) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = if world.dice.one_in(3) { 1 + world.dice.below(len) } else { len };
        socket.in_transit.extend(&bytes[..len]);
        Ok(len)
    }

    fn send_file(&mut self, socket: RawFd, file: RawFd, offset: u64, len: usize) -> io::Result<usize> {
        let mut bytes = vec![0; len];
        // SAFETY: the buffer has `len` bytes.
        let got = unsafe { libc::pread(file, bytes.as_mut_ptr().cast(), len, offset as libc::off_t) };
        bytes.truncate(got.max(0) as usize);
        if bytes.is_empty() {
            return Ok(0);
        }
        self.send_now(socket, &bytes, false)
    }

    fn adopt(&mut self, fd: RawFd) -> OwnedFd {
        // SAFETY: a descriptor that `happen` has just opened, or a stand-in for a simulated socket.
        match fd < SOCKETS {
            true => unsafe { OwnedFd::from_raw_fd(fd) },
            false => {
                self.close(fd);
                std::fs::File::open("/dev/null").expect("/dev/null opens").into()
            }
        }
    }

    fn identify(&mut self, file: BorrowedFd<'_>) -> io::Result<Found> {
        Found::of(file)
    }

    fn is_resident(&mut self, _file: RawFd, _offset: u64, _len: u64) -> bool {
        self.0.borrow_mut().dice.one_in(2)
    }

    fn read_ahead(&mut self, _file: RawFd, _offset: u64, _len: u64) {}

    fn unsent(&mut self, socket: RawFd) -> usize {
        self.0.borrow().sockets[&socket].in_transit.len()
    }

    fn wait_until_sent(&mut self, socket: RawFd, wait: bool) {
        self.0.borrow_mut().sockets.get_mut(&socket).unwrap().waits_until_sent = wait;
    }

    fn progress(&mut self, socket: RawFd) -> u64 {
        self.0.borrow().sockets[&socket].read.len() as u64
    }

    fn accept_now(&mut self, _listener: RawFd) -> io::Result<RawFd> {
        let world = &mut *self.0.borrow_mut();
        match world.arriving.is_empty() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(world.arriving.remove(0)),
        }
    }

    fn dismiss(&mut self, socket: RawFd, answer: &[u8]) {
        let world = &mut *self.0.borrow_mut();
        let socket = world.sockets.get_mut(&socket).unwrap();
        socket.in_transit.extend(answer);
        socket.closed = true;
    }

    fn shutdown(&mut self, socket: RawFd, how: Shutdown) {
        let world = &mut *self.0.borrow_mut();
        let socket = world.sockets.get_mut(&socket).unwrap();
        match how {
            Shutdown::Write => socket.server_done = true,
            Shutdown::Both | Shutdown::Read => socket.shut = true,
        }
    }

    fn close(&mut self, fd: RawFd) {
        let world = &mut *self.0.borrow_mut();
        match world.sockets.get_mut(&fd) {
            Some(socket) => {
                assert!(!socket.closed, "closed once");
                assert!(
                    socket.receive.is_none() && socket.send.is_none() && socket.writable.is_none(),
                    "nothing in flight"
                );
                socket.closed = true;
            }
            // SAFETY: the caller gives a real descriptor up.
            None => drop(unsafe { OwnedFd::from_raw_fd(fd) }.into_raw_fd()),
        }
    }

    fn now(&self) -> u64 {
        self.0.borrow().clock
    }
}
