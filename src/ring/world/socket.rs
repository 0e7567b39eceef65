//! Simulated sockets: two streams of bytes, of which those to the client may still be pages of a file or of the arena.

use super::disk::Content;
use super::{F_BUFFER, F_MORE, Fault, Notice, World};
use crate::limits;
use crate::ring::kernel::Token;
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::rc::Rc;

/// One connection, seen from both sides.
pub struct Socket {
    /// The worker that accepts it.
    pub worker: usize,
    /// What the client has sent and the server has not received.
    pub to_server: VecDeque<u8>,
    /// Bytes that the server has received, and when it had received so many.
    pub received: u64,
    pub receipts: VecDeque<(u64, u64)>,
    /// The client sends no more.
    pub client_done: bool,
    /// The client is gone.
    pub reset: bool,
    /// When the server was told so.
    pub noticed_reset: Option<u64>,
    /// What the server has sent and the client has not read: bounded by `room`.
    out: VecDeque<u8>,
    references: VecDeque<Reference>,
    room: usize,
    /// Bytes that the server has handed over, and that the client has read.
    pub handed: u64,
    pub taken: u64,
    /// Writes that reached bytes on their way: which, and what had been handed over then.
    pub touched: Vec<Touched>,
    /// The last time that any byte moved, or that the client did something.
    pub progress: u64,
    pub opened: u64,
    /// The client reads nothing at present.
    pub is_stalled: bool,
    pub server_done: bool,
    pub shut: bool,
    pub closed: bool,
    /// It belongs to the control plane.
    pub is_handed_over: bool,
    handed_before: Option<u64>,
    pub(super) receive: Option<Token>,
    pub(super) send: Option<(Token, *const libc::msghdr, usize)>,
    pub(super) writable: Option<Token>,
    pub(super) waits_until_sent: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Touched {
    pub from: u64,
    pub to: u64,
    pub handed: u64,
}

/// Bytes of the stream that are not the socket's own.
struct Reference {
    from: u64,
    len: u64,
    source: Source,
}

enum Source {
    /// Pages of the arena, and how many ranges of it had been given back by then.
    Arena { memfd: RawFd, offset: u64, punches: u64 },
    /// Pages of a file.
    File { inode: usize, offset: u64, was: Rc<Content> },
}

impl Socket {
    pub fn new(worker: usize, room: usize, now: u64) -> Socket {
        Socket {
            worker,
            to_server: VecDeque::new(),
            received: 0,
            receipts: VecDeque::new(),
            client_done: false,
            reset: false,
            noticed_reset: None,
            out: VecDeque::new(),
            references: VecDeque::new(),
            room,
            handed: 0,
            taken: 0,
            touched: Vec::new(),
            progress: now,
            opened: now,
            is_stalled: false,
            server_done: false,
            shut: false,
            closed: false,
            is_handed_over: false,
            handed_before: None,
            receive: None,
            send: None,
            writable: None,
            waits_until_sent: false,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.reset || self.shut || self.server_done
    }

    pub(super) fn free(&self) -> usize {
        self.room.saturating_sub(self.out.len())
    }

    pub(super) fn unread(&self) -> usize {
        self.out.len()
    }

    fn takes_more(&self) -> bool {
        if self.waits_until_sent { self.out.is_empty() } else { self.free() > 0 }
    }

    /// The server has ended the connection.
    pub fn has_ended(&self) -> bool {
        self.closed || self.shut || self.server_done
    }

    /// The server has ended the connection, and the client has read everything.
    pub fn is_over(&self) -> bool {
        self.has_ended() && self.out.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.receive.is_none() && self.send.is_none() && self.writable.is_none()
    }

    /// Bytes that workers have handed over.
    pub fn handed_by_workers(&self) -> u64 {
        self.handed_before.unwrap_or(self.handed)
    }

    /// It belongs to the control plane from now on.
    pub fn leave_worker(&mut self) {
        self.is_handed_over = true;
        self.handed_before = Some(self.handed);
    }

    /// The server hands over bytes of its own.
    pub fn hand(&mut self, bytes: &[u8], now: u64) {
        self.out.extend(bytes);
        self.handed += bytes.len() as u64;
        self.progress = now;
    }
}

impl World {
    /// What may happen to a socket of a worker: receives, sends, and room.
    pub(super) fn happen_to(&mut self, worker: usize, number: usize) {
        self.receive(worker, number);
        self.send(worker, number);
        let socket = &self.sockets[number];
        if let Some(token) = socket.writable
            && (socket.takes_more() || socket.is_broken())
            && self.dice.one_in(2)
        {
            self.sockets[number].writable = None;
            self.complete(worker, token, libc::POLLOUT.into(), 0);
        }
    }

    fn receive(&mut self, worker: usize, number: usize) {
        let socket = &self.sockets[number];
        let Some(token) = socket.receive else { return };
        if socket.reset {
            self.sockets[number].receive = None;
            self.sockets[number].noticed_reset = Some(self.clock);
            self.complete(worker, token, -libc::ECONNRESET, 0);
        } else if socket.to_server.is_empty() {
            if socket.client_done || socket.shut {
                self.sockets[number].receive = None;
                self.complete(worker, token, 0, 0);
            }
        } else if !socket.shut {
            if self.strikes(Fault::NoBuffers, 10) {
                self.sockets[number].receive = None;
                self.complete(worker, token, -libc::ENOBUFS, 0);
                return;
            }
            let most = self.sockets[number].to_server.len().min(limits::RECEIVE_BUFFER_BYTES);
            let len = if self.dice.one_in(3) { 1 + self.dice.below(most) } else { most };
            let mut bytes = std::mem::take(&mut self.sockets[number].to_server);
            let id = self.buffer(&mut bytes, len);
            let now = self.clock;
            let socket = &mut self.sockets[number];
            socket.to_server = bytes;
            socket.received += len as u64;
            socket.receipts.push_back((socket.received, now));
            socket.progress = now;
            // A multishot receive may end at any time.
            let more = if self.strikes(Fault::EndedMultishots, 8) { 0 } else { F_MORE };
            if more == 0 {
                self.sockets[number].receive = None;
            }
            self.complete(worker, token, len as i32, u32::from(id) << 16 | F_BUFFER | more);
        } else {
            self.sockets[number].receive = None;
            self.complete(worker, token, 0, 0);
        }
    }

    fn send(&mut self, worker: usize, number: usize) {
        let now = self.clock;
        let Some((token, message, sent)) = self.sockets[number].send else { return };
        // SAFETY: lent until the completion that ends it.
        let bytes = unsafe { gather(message) };
        let socket = &mut self.sockets[number];
        if socket.is_broken() {
            socket.send = None;
            let result = if sent > 0 { sent as i32 } else { -libc::EPIPE };
            self.complete(worker, token, result, 0);
            return;
        }
        let len = (bytes.len() - sent).min(socket.free());
        if len > 0 {
            socket.hand(&bytes[sent..sent + len], now);
        }
        socket.send = Some((token, message, sent + len));
        if sent + len == bytes.len() {
            socket.send = None;
            self.complete(worker, token, bytes.len() as i32, 0);
        }
    }

    pub(super) fn send_zero(&mut self, worker: usize, token: Token, socket: RawFd, bytes: *const u8, len: u32) {
        let number = World::socket_of(socket);
        assert!(self.sockets[number].send.is_none(), "one send at a time");
        let now = self.clock;
        if self.strikes(Fault::NoZeroCopy, 6) {
            let errno = [libc::ENOBUFS, libc::EOPNOTSUPP, libc::ENOMEM][self.dice.below(3)];
            self.complete(worker, token, -errno, F_MORE);
            self.rings[worker].notices.push(Notice { token, bytes, sent: Vec::new() });
        } else if self.sockets[number].is_broken() {
            self.complete(worker, token, -libc::EPIPE, 0);
        } else {
            let len = 1 + self.dice.below(len as usize);
            // SAFETY: lent until the notification.
            let sent = unsafe { std::slice::from_raw_parts(bytes, len) }.to_vec();
            self.sockets[number].hand(&sent, now);
            self.complete(worker, token, len as i32, F_MORE);
            self.rings[worker].notices.push(Notice { token, bytes, sent });
        }
    }

    /// How many of so many bytes a socket takes at once; an errno if none.
    pub(super) fn admits(&mut self, number: usize, len: usize) -> Result<usize, i32> {
        let socket = &self.sockets[number];
        assert!(socket.send.is_none(), "one send at a time");
        if socket.is_broken() {
            return Err(libc::EPIPE);
        }
        let len = len.min(socket.free());
        if len == 0 || socket.waits_until_sent && socket.unread() > 0 || self.strikes(Fault::ShortSends, 8) {
            return Err(libc::EAGAIN);
        }
        Ok(if self.strikes(Fault::ShortSends, 3) { 1 + self.dice.below(len) } else { len })
    }

    /// Hands over pages of a file or of the arena.
    pub(super) fn send_pages(&mut self, number: usize, file: RawFd, offset: u64, len: usize) -> Result<usize, i32> {
        let now = self.clock;
        let disk = self.disk.clone();
        let disk = disk.borrow();
        let Some(inode) = disk.inode(file) else {
            let len = self.admits(number, len)?;
            let mut bytes = vec![0; len];
            // SAFETY: the buffer has `len` bytes.
            let got = unsafe { libc::pread(file, bytes.as_mut_ptr().cast(), len, offset as libc::off_t) };
            bytes.truncate(got.max(0) as usize);
            let source = Source::Arena { memfd: file, offset, punches: self.punches.borrow().now() };
            self.refer(number, &bytes, source, now);
            return Ok(bytes.len());
        };
        let content = disk.content(inode).clone();
        let left = content.size.saturating_sub(offset).min(len as u64) as usize;
        if left == 0 {
            return Ok(0);
        }
        let len = self.admits(number, left)?;
        let mut bytes = vec![0; len];
        content.read(offset, &mut bytes);
        self.refer(number, &bytes, Source::File { inode, offset, was: content }, now);
        Ok(len)
    }

    fn refer(&mut self, number: usize, bytes: &[u8], source: Source, now: u64) {
        let socket = &mut self.sockets[number];
        let reference = Reference { from: socket.handed, len: bytes.len() as u64, source };
        socket.references.push_back(reference);
        socket.hand(bytes, now);
    }

    /// The client reads `len` bytes at most, to the end of `into`.
    pub fn take_by_client(&mut self, number: u32, len: usize, into: &mut Vec<u8>) {
        let now = self.clock;
        let socket = &mut self.sockets[number as usize];
        let len = len.min(socket.out.len());
        if len == 0 {
            return;
        }
        let begin = into.len();
        let (front, back) = socket.out.as_slices();
        into.extend_from_slice(&front[..len.min(front.len())]);
        if len > front.len() {
            into.extend_from_slice(&back[..len - front.len()]);
        }
        socket.out.drain(..len);
        let (from, to) = (socket.taken, socket.taken + len as u64);
        let disk = self.disk.borrow();
        let punches = self.punches.borrow();
        while let Some(reference) = socket.references.front() {
            let (first, last) = (reference.from.max(from), (reference.from + reference.len).min(to));
            if first < last {
                let bytes = &mut into[begin + (first - from) as usize..begin + (last - from) as usize];
                resolve(reference, first - reference.from, bytes, &disk, &punches);
            }
            if reference.from + reference.len > to {
                break;
            }
            socket.references.pop_front();
        }
        socket.taken = to;
        socket.progress = now;
    }

    /// After a write in place: which bytes that are on their way it reached.
    pub fn touch(&mut self) {
        let disk = self.disk.borrow();
        for socket in self.sockets.iter_mut().filter(|socket| !socket.references.is_empty()) {
            let (handed, taken) = (socket.handed, socket.taken);
            for Reference { from, len, source } in &socket.references {
                if let Source::File { inode, was, .. } = source
                    && !Rc::ptr_eq(was, disk.content(*inode))
                {
                    socket.touched.push(Touched { from: (*from).max(taken), to: from + len, handed });
                }
            }
        }
    }
}

/// What arrives of bytes that were sent by reference: what is there now.
fn resolve(reference: &Reference, at: u64, bytes: &mut [u8], disk: &super::Disk, punches: &super::Punches) {
    match &reference.source {
        Source::File { inode, offset, was } => {
            let content = disk.content(*inode);
            if !Rc::ptr_eq(content, was) {
                // Pages that were cut off keep what they had.
                content.read(offset + at, bytes);
            }
        }
        Source::Arena { memfd, offset, punches: then } => {
            let (at, len) = (offset + at, bytes.len());
            let mut now = vec![0; len];
            // SAFETY: the buffer has `len` bytes.
            unsafe { libc::pread(*memfd, now.as_mut_ptr().cast(), len, at as libc::off_t) };
            assert!(
                now == bytes || punches.since(*then, at, len as u64),
                "{len} bytes of the arena at {at} were rewritten while a socket referred to them"
            );
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
