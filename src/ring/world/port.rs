//! A worker's end of a simulated machine.

use super::{SOCKETS, Socket, World, disk};
use crate::ring::Completion;
use crate::ring::kernel::{Kernel, Op, Token};
use crate::version::Found;
use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

/// One event loop's kernel.
pub struct Port {
    world: Rc<RefCell<World>>,
    worker: usize,
}

impl Port {
    pub fn new(world: Rc<RefCell<World>>, worker: usize) -> Port {
        Port { world, worker }
    }

    fn with<T>(&self, socket: RawFd, change: impl FnOnce(&mut Socket) -> T) -> T {
        change(&mut self.world.borrow_mut().sockets[World::socket_of(socket)])
    }
}

fn would_block(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl Kernel for Port {
    fn submit(&mut self, op: Op, token: Token) -> io::Result<()> {
        self.world.borrow_mut().submit(self.worker, op, token);
        Ok(())
    }

    fn turn(&mut self, wait: bool, batch: &mut Vec<Completion>) -> io::Result<()> {
        self.world.borrow_mut().take(self.worker, wait, batch);
        Ok(())
    }

    fn take_overflows(&mut self) -> u64 {
        std::mem::take(&mut self.world.borrow_mut().rings[self.worker].overflows)
    }

    fn take_received(&mut self, id: u16, len: usize, bytes: &mut Vec<u8>) {
        let world = &mut *self.world.borrow_mut();
        assert!(!world.free_buffers.contains(&id), "a buffer is taken once");
        bytes.extend_from_slice(&world.buffers[usize::from(id)][..len]);
        world.free_buffers.push(id);
    }

    fn send_now(&mut self, socket: RawFd, bytes: &[u8], _more: bool) -> io::Result<usize> {
        let world = &mut *self.world.borrow_mut();
        let number = World::socket_of(socket);
        let len = world.admits(number, bytes.len()).map_err(would_block)?;
        let now = world.clock;
        world.sockets[number].hand(&bytes[..len], now);
        Ok(len)
    }

    fn send_file(&mut self, socket: RawFd, file: RawFd, offset: u64, len: usize) -> io::Result<usize> {
        self.world.borrow_mut().send_pages(World::socket_of(socket), file, offset, len).map_err(would_block)
    }

    fn adopt(&mut self, fd: RawFd) -> OwnedFd {
        if fd < SOCKETS {
            // SAFETY: a descriptor that the simulated disk has just opened for this completion.
            return unsafe { OwnedFd::from_raw_fd(fd) };
        }
        let stand_in: OwnedFd = std::fs::File::open("/dev/null").expect("/dev/null opens").into();
        let world = &mut *self.world.borrow_mut();
        let number = World::socket_of(fd);
        let socket = &mut world.sockets[number];
        assert!(socket.is_idle() && !socket.closed, "nothing is in flight on what is handed over");
        socket.leave_worker();
        world.rings[self.worker].sockets.retain(|&own| own != number as u32);
        world.adopted.push((stand_in.as_raw_fd(), number as u32));
        stand_in
    }

    fn identify(&mut self, file: BorrowedFd<'_>) -> io::Result<Found> {
        Found::of(file)
    }

    fn is_resident(&mut self, _file: RawFd, _offset: u64, _len: u64) -> bool {
        let world = &mut *self.world.borrow_mut();
        !world.strikes(super::Fault::ColdFiles, 2)
    }

    fn read_ahead(&mut self, _file: RawFd, _offset: u64, _len: u64) {}

    fn unsent(&mut self, socket: RawFd) -> usize {
        self.with(socket, |socket| socket.unread())
    }

    fn wait_until_sent(&mut self, socket: RawFd, wait: bool) {
        self.with(socket, |socket| socket.waits_until_sent = wait);
    }

    fn progress(&mut self, socket: RawFd) -> u64 {
        self.with(socket, |socket| socket.taken)
    }

    fn accept_now(&mut self, _listener: RawFd) -> io::Result<RawFd> {
        let world = &mut *self.world.borrow_mut();
        let ring = &mut world.rings[self.worker];
        let number = ring.arriving.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        Ok(SOCKETS + number as RawFd)
    }

    fn dismiss(&mut self, socket: RawFd, answer: &[u8]) {
        let world = &mut *self.world.borrow_mut();
        world.dismissed += 1;
        let (now, worker, number) = (world.clock, self.worker, World::socket_of(socket));
        let socket = &mut world.sockets[number];
        socket.hand(answer, now);
        socket.closed = true;
        world.rings[worker].sockets.retain(|&own| own != number as u32);
    }

    fn shutdown(&mut self, socket: RawFd, how: Shutdown) {
        self.with(socket, |socket| match how {
            Shutdown::Write => socket.server_done = true,
            Shutdown::Both | Shutdown::Read => socket.shut = true,
        });
    }

    fn close(&mut self, fd: RawFd) {
        if fd < SOCKETS {
            return disk::close(fd);
        }
        self.with(fd, |socket| {
            assert!(!socket.closed, "closed once");
            assert!(socket.is_idle(), "nothing is in flight on what is closed");
            socket.closed = true;
        });
    }

    fn now(&self) -> u64 {
        self.world.borrow().clock
    }
}
