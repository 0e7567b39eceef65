//! The real kernel: the one place that prepares submissions.

use super::buffers::BufferRing;
use super::kernel::{Kernel, Op, Token};
use super::looks::{Looks, is_storage_slow};
use super::{Completion, Refusal, Ring};
use crate::limits;
use crate::net::peer::Peer;
use crate::version::Found;
use io_uring::{opcode, squeue, types};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// IORING_SEND_ZC_REPORT_USAGE: the notification's result tells whether the bytes were copied after all.
const REPORT_USAGE: u16 = 8;

/// SIOCOUTQNSD: bytes that TCP has not sent for the first time yet.
const SIOCOUTQNSD: libc::Ioctl = 0x894B;

/// The buffer group of the one provided-buffer ring.
const RECEIVE_GROUP: u16 = 0;

/// One event loop's kernel: its ring and its receive buffers. To be created on the loop's own thread.
pub struct System {
    // Dropped in this order: the ring, then the memory that it knows.
    ring: Ring,
    buffers: BufferRing,
    tick: Box<types::Timespec>,
    looks: Looks,
}

impl System {
    /// # Errors
    /// A [`Refusal`] that names the cause and the remedy.
    pub fn new() -> Result<System, Refusal> {
        let ring = Ring::new(limits::SUBMISSION_ENTRIES, limits::COMPLETION_ENTRIES)?;
        let buffers = BufferRing::register(&ring, RECEIVE_GROUP, limits::RECEIVE_BUFFERS, limits::RECEIVE_BUFFER_BYTES)
            .map_err(|source| Refusal::Other { source })?;
        Ok(System { ring, buffers, tick: Box::new(types::Timespec::from(limits::TICK)), looks: Looks::default() })
    }

    fn entry(&self, op: Op) -> squeue::Entry {
        match op {
            Op::Accept { listener } => {
                opcode::AcceptMulti::new(types::Fd(listener)).flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC).build()
            }
            Op::Receive { socket } => opcode::RecvMulti::new(types::Fd(socket), RECEIVE_GROUP).build(),
            Op::Send { socket, message, more } => {
                let more = if more { libc::MSG_MORE } else { 0 };
                let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | more;
                opcode::SendMsg::new(types::Fd(socket), message.address()).flags(flags as u32).build()
            }
            Op::SendZero { socket, bytes, len } => opcode::SendZc::new(types::Fd(socket), bytes.address(), len)
                .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
                .zc_flags(REPORT_USAGE)
                .build(),
            Op::Writable { socket } => opcode::PollAdd::new(types::Fd(socket), libc::POLLOUT as u32).build(),
            Op::Open { root, path, how } => {
                opcode::OpenAt2::new(types::Fd(root), path.address(), how.address()).build()
            }
            Op::Read { file, into, len, offset } => {
                opcode::Read::new(types::Fd(file), into.address(), len).offset(offset).build()
            }
            Op::Message { ring, token } => opcode::MsgRingData::new(types::Fd(ring), 0, token.pack(), None).build(),
            Op::Tick => opcode::Timeout::new(&*self.tick).build(),
            Op::Cancel { token } => opcode::AsyncCancel::new(token.pack()).build(),
        }
    }
}

impl AsRawFd for System {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// A failed system call's errno, or its count.
fn counted(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

impl Kernel for System {
    fn submit(&mut self, op: Op, token: Token) -> io::Result<()> {
        let mut entry = self.entry(op).user_data(token.pack());
        if let Op::Read { file, .. } = op
            && is_storage_slow()
        {
            self.looks.reads(token, file);
            // Tried at once, it may wait for requests of others: a FUSE file system takes some at a time only.
            entry = entry.flags(squeue::Flags::ASYNC);
        }
        // SAFETY: every pointer in the entry is a `Loan`, whose memory its `Lent` keeps alive and unchanged until the
        // completion (or leaks), or the tick's, which lives as long as the ring.
        unsafe { self.ring.push(&entry) }
    }

    fn turn(&mut self, wait: bool, batch: &mut Vec<Completion>) -> io::Result<()> {
        self.buffers.publish();
        self.ring.submit_and_wait(usize::from(wait))?;
        let from = batch.len();
        self.ring.completions(batch);
        let System { ring, looks, .. } = self;
        // SAFETY: the one pointer in the entry is a `Loan`, as above.
        looks.sort(batch, from, |entry| unsafe { ring.push(&entry) })
    }

    fn take_overflows(&mut self) -> u64 {
        self.ring.take_overflows()
    }

    fn take_received(&mut self, id: u16, len: usize, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.buffers.bytes(id, len));
        self.buffers.recycle(id);
    }

    fn send_now(&mut self, socket: RawFd, bytes: &[u8], more: bool) -> io::Result<usize> {
        let more = if more { libc::MSG_MORE } else { 0 };
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | more;
        // SAFETY: the bytes are only read during the call.
        counted(unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), flags) })
    }

    fn send_file(&mut self, socket: RawFd, file: RawFd, offset: u64, len: usize) -> io::Result<usize> {
        let mut offset = offset as libc::off_t;
        // SAFETY: the offset lives during the call.
        counted(unsafe { libc::sendfile(socket, file, &mut offset, len) })
    }

    fn adopt(&mut self, fd: RawFd) -> OwnedFd {
        // SAFETY: the kernel has just made it for the completion that brought it, and nothing else owns it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    fn identify(&mut self, file: BorrowedFd<'_>) -> io::Result<Found> {
        self.looks.take(file.as_raw_fd()).unwrap_or_else(|| Found::of(file))
    }

    fn is_resident(&mut self, file: RawFd, offset: u64, len: u64) -> bool {
        super::residency::is_resident(file, offset, len)
    }

    fn read_ahead(&mut self, file: RawFd, offset: u64, len: u64) {
        if is_storage_slow() {
            // A FUSE file system that has enough to do lets even this wait; its reads bring what follows by themselves.
            return;
        }
        // SAFETY: takes no memory. A file system that cannot do it refuses, and nothing is lost.
        unsafe { libc::posix_fadvise(file, offset as libc::off_t, len as libc::off_t, libc::POSIX_FADV_WILLNEED) };
    }

    fn unsent(&mut self, socket: RawFd) -> usize {
        let mut unsent: libc::c_int = 0;
        // SAFETY: the kernel writes one int. A socket that is not TCP's refuses.
        let done = unsafe { libc::ioctl(socket, SIOCOUTQNSD, &mut unsent) };
        if done == 0 { unsent.max(0) as usize } else { 0 }
    }

    fn wait_until_sent(&mut self, socket: RawFd, wait: bool) {
        // Of 0 the kernel takes the system's own setting.
        let low_water: libc::c_int = wait.into();
        let len = size_of::<libc::c_int>() as libc::socklen_t;
        let (level, name) = (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT);
        // SAFETY: the kernel reads one int.
        unsafe { libc::setsockopt(socket, level, name, (&raw const low_water).cast(), len) };
    }

    fn progress(&mut self, socket: RawFd) -> u64 {
        progress(socket)
    }

    fn peer(&self, socket: RawFd) -> Peer {
        // SAFETY: the connection that owns the socket outlives the call.
        Peer::of(unsafe { BorrowedFd::borrow_raw(socket) }).unwrap_or(Peer::Unix)
    }

    fn shutdown(&mut self, socket: RawFd, how: std::net::Shutdown) {
        let how = match how {
            std::net::Shutdown::Read => libc::SHUT_RD,
            std::net::Shutdown::Write => libc::SHUT_WR,
            std::net::Shutdown::Both => libc::SHUT_RDWR,
        };
        // SAFETY: takes no memory; a socket that the peer has closed answers an error that changes nothing.
        unsafe { libc::shutdown(socket, how) };
    }

    fn close(&mut self, fd: RawFd) {
        // SAFETY: the caller gives the descriptor up.
        unsafe { libc::close(fd) };
    }

    fn accept_now(&mut self, listener: RawFd) -> io::Result<RawFd> {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        use rustix::net::{SocketFlags, accept_with};
        // SAFETY: the listener outlives the call.
        let listener = unsafe { BorrowedFd::borrow_raw(listener) };
        // The ring's accepts are of a listener that blocks; this one must not. One of another worker on the same
        // listener that is armed meanwhile may end, and is armed again by that worker's next tick.
        let blocking = fcntl_getfl(listener)?;
        fcntl_setfl(listener, blocking | OFlags::NONBLOCK)?;
        let accepted = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC);
        fcntl_setfl(listener, blocking)?;
        Ok(accepted?.into_raw_fd())
    }

    fn dismiss(&mut self, socket: RawFd, answer: &[u8]) {
        let socket = self.adopt(socket);
        // A new socket has room for it, or its peer is gone.
        let _ = self.send_now(socket.as_raw_fd(), answer, false);
        self.shutdown(socket.as_raw_fd(), std::net::Shutdown::Write);
        // A request that is there and is not read would turn the end into a reset.
        let mut request = [0; limits::RECEIVE_BUFFER_BYTES];
        let _ = rustix::net::recv(&socket, &mut request, rustix::net::RecvFlags::DONTWAIT);
    }

    fn now(&self) -> u64 {
        monotonic()
    }
}

/// Monotonic time in nanoseconds.
pub fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel (or vDSO) writes one timespec; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A number that moves while the peer takes what it is sent.
pub fn progress(socket: RawFd) -> u64 {
    // SAFETY: all fields are integers, for which zero is valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into `info`.
    let done = unsafe { libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &mut len) };
    if done == 0 {
        return info.tcpi_bytes_acked;
    }
    // A Unix socket: what the peer has not read yet. It shrinks and grows while the peer reads, which is all that
    // the caller compares.
    let mut unread: libc::c_int = 0;
    // SAFETY: the kernel writes one int.
    unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &mut unread) };
    unread as u64
}
