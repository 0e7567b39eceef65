//! The ring as the worker sees it: connect, send, receive, close, by the number of a connection.
//!
//! It stands on forebay's [`Ring`] and [`BufferRing`], and not on its `ring::kernel::Kernel`, which is what a server's
//! event loop asks of the kernel. Of that trait this loop would use two operations. It needs others that no server has:
//! connecting, a wait with an end, receives that discard (`MSG_TRUNC`), and sends whose success is not reported, so
//! that a request costs one completion. And it looks at what arrived where the kernel put it, where
//! `Kernel::take_received` copies: at 64 KiB a response that copy is a good part of the client's own cost, which must
//! not become the queue that is measured.
//!
//! Every operation carries a token of its kind, the connection's number and the number's generation, so that what
//! completes late for a connection that is gone is told apart from what concerns its successor.

// The kernel reads and writes at the addresses that submissions carry.
#![allow(unsafe_code)]

use crate::endpoint::Address;
use anyhow::{Context, Result};
use forebay::ring::{Completion, Ring, buffers::BufferRing};
use io_uring::{opcode, squeue, types};
use socket2::{SockAddr, Socket};
use std::{io, os::fd::AsRawFd, time::Duration};

/// The group of provided buffers; there is one.
const GROUP: u16 = 0;

/// Bytes of a provided buffer: takes a small response whole.
const BUFFER_BYTES: usize = 32 * 1024;

/// Bytes that are received of a response whose body is discarded: takes a head.
const HEAD_BYTES: u32 = 4096;

/// The most that one operation discards.
const DISCARD_BYTES_MAX: u64 = 1 << 30;

/// Bits of a token: kind, generation, number.
const KIND_SHIFT: u32 = 62;
const GENERATION_SHIFT: u32 = 32;
const GENERATION_MASK: u32 = (1 << (KIND_SHIFT - GENERATION_SHIFT)) - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Connect = 0,
    Send = 1,
    Receive = 2,
    Cancel = 3,
}

/// Something that happened on a connection.
#[derive(Debug)]
pub enum Event {
    Connected {
        link: u32,
    },
    Refused {
        link: u32,
    },
    /// Bytes arrived: look at them with [`Wire::bytes`], give them back with [`Wire::recycle`], and go on with
    /// [`Wire::receive`].
    Received {
        link: u32,
        bytes: Received,
    },
    /// So many bytes of a body arrived and were discarded; go on with [`Wire::receive`].
    Discarded {
        link: u32,
        bytes: u64,
    },
    /// A send that was waited for is complete.
    Sent {
        link: u32,
    },
    /// The server closed its side.
    Closed {
        link: u32,
    },
    /// An error of the socket.
    Broken {
        link: u32,
    },
    /// Nothing that concerns a connection of today.
    Nothing,
}

/// Bytes in a provided buffer.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    buffer: u16,
    length: usize,
}

/// One connection's socket and what the kernel may still read of it.
#[derive(Default)]
struct Link {
    socket: Option<Socket>,
    generation: u32,
    /// A receive is under way.
    receiving: bool,
    /// Pipelined requests on their way; untouched while `sending`.
    out: Vec<u8>,
    sending: bool,
}

pub struct Wire {
    // First, so that it is gone before the memory that its operations refer to.
    ring: Ring,
    buffers: BufferRing,
    /// Connections go to these in turns.
    addresses: Vec<Address>,
    /// The turn of the first connection.
    first: usize,
    /// Bodies are discarded unseen.
    discards: bool,
    /// Boxed: the kernel reads them while connecting.
    socket_addresses: Vec<Option<Box<SockAddr>>>,
    links: Vec<Link>,
    /// What connections that are gone were sending, until the kernel says that it is done with it.
    parted: Vec<(u64, Vec<u8>)>,
    batch: Vec<Completion>,
    taken: usize,
}

impl Wire {
    /// A ring for `links` connections to `addresses` in turns, of which that of number `first` begins; whether it
    /// `discards` bodies unseen, which TCP can. Must be called on the thread that uses it.
    ///
    /// # Errors
    /// Why io_uring cannot be used here.
    pub fn new(addresses: &[Address], first: usize, links: u32, discards: bool) -> Result<Wire> {
        let entries = (links * 2).next_power_of_two().clamp(64, 4096);
        let ring = Ring::new(entries, (entries * 4).max(1024))?;
        let buffers = (links * 2).next_power_of_two().clamp(64, 1024) as u16;
        let buffers = BufferRing::register(&ring, GROUP, buffers, BUFFER_BYTES)
            .context("cannot register receive buffers with io_uring")?;
        Ok(Wire {
            ring,
            buffers,
            addresses: addresses.to_vec(),
            first,
            discards,
            socket_addresses: addresses.iter().map(|_| None).collect(),
            links: (0..links).map(|_| Link::default()).collect(),
            parted: Vec::new(),
            batch: Vec::with_capacity(entries as usize * 2),
            taken: 0,
        })
    }

    fn token(&self, kind: Kind, link: u32) -> u64 {
        let generation = u64::from(self.links[link as usize].generation);
        (kind as u64) << KIND_SHIFT | generation << GENERATION_SHIFT | u64::from(link)
    }

    /// Begins to connect; [`Event::Connected`] or [`Event::Refused`] will follow.
    ///
    /// # Errors
    /// Those of making a socket.
    pub fn connect(&mut self, link: u32) -> io::Result<()> {
        let turn = (self.first + link as usize) % self.addresses.len().max(1);
        let (socket, address) = self.addresses[turn].socket()?;
        let address = self.socket_addresses[turn].get_or_insert_with(|| Box::new(address));
        let (pointer, length) = (address.as_ptr(), address.len());
        let entry = opcode::Connect::new(types::Fd(socket.as_raw_fd()), pointer.cast(), length).build();
        let entry = entry.user_data(self.token(Kind::Connect, link));
        self.links[link as usize].socket = Some(socket);
        // SAFETY: the address is boxed, never replaced, and dropped after the ring.
        unsafe { self.push(&entry) }
    }

    /// Receives what comes next, unless that is under way. `body_left` bytes of a body are still to come.
    ///
    /// # Errors
    /// Those of io_uring_enter.
    #[inline]
    pub fn receive(&mut self, link: u32, body_left: u64) -> io::Result<()> {
        let Link { socket: Some(socket), receiving: receiving @ false, .. } = &mut self.links[link as usize] else {
            return Ok(());
        };
        *receiving = true;
        let socket = types::Fd(socket.as_raw_fd());
        let entry = match (self.discards, body_left) {
            (false, _) => opcode::RecvMulti::new(socket, GROUP).build(),
            (true, 0) => {
                let head = opcode::Recv::new(socket, std::ptr::null_mut(), HEAD_BYTES).buf_group(GROUP).build();
                head.flags(squeue::Flags::BUFFER_SELECT)
            }
            (true, _) => {
                // Not with MSG_WAITALL: kernels that keep the operation's iterator would ask for what was discarded
                // again.
                let length = body_left.min(DISCARD_BYTES_MAX) as u32;
                opcode::Recv::new(socket, std::ptr::null_mut(), length).flags(libc::MSG_TRUNC).build()
            }
        };
        let entry = entry.user_data(self.token(Kind::Receive, link));
        // SAFETY: it refers to the registered buffers, or to no memory: with MSG_TRUNC, TCP copies nothing, and a
        // socket that did could only fail to.
        unsafe { self.push(&entry) }
    }

    /// Sends one request. Nothing is heard of it unless it fails: the response tells.
    ///
    /// # Errors
    /// Those of io_uring_enter.
    pub fn send(&mut self, link: u32, request: &'static [u8]) -> io::Result<()> {
        let Some(socket) = &self.links[link as usize].socket else { return Ok(()) };
        let entry = send_entry(socket, request).flags(squeue::Flags::SKIP_SUCCESS);
        let entry = entry.user_data(self.token(Kind::Send, link));
        // SAFETY: the request lives as long as the process.
        unsafe { self.push(&entry) }
    }

    /// Whether a send of several requests is on its way; then there must be no other.
    pub fn sending(&self, link: u32) -> bool {
        self.links[link as usize].sending
    }

    /// Sends several requests at once; [`Event::Sent`] will follow.
    ///
    /// # Errors
    /// Those of io_uring_enter.
    pub fn send_all<'a>(&mut self, link: u32, requests: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        let token = self.token(Kind::Send, link);
        let Link { socket: Some(socket), out, sending, .. } = &mut self.links[link as usize] else { return Ok(()) };
        assert!(!*sending, "the kernel still reads what is being sent");
        out.clear();
        requests.for_each(|request| out.extend_from_slice(request));
        *sending = true;
        let entry = send_entry(socket, out).user_data(token);
        // SAFETY: `out` is not touched until the completion has come, and if the connection ends before that, kept in
        // `parted`; both are dropped after the ring.
        unsafe { self.push(&entry) }
    }

    /// Ends a connection. Nothing more will be heard of it.
    ///
    /// # Errors
    /// Those of io_uring_enter.
    pub fn close(&mut self, link: u32) -> io::Result<()> {
        let (send, connect) = (self.token(Kind::Send, link), self.token(Kind::Connect, link));
        let closed = &mut self.links[link as usize];
        let Some(socket) = closed.socket.take() else { return Ok(()) };
        if std::mem::take(&mut closed.sending) {
            self.parted.push((send, std::mem::take(&mut closed.out)));
        }
        closed.receiving = false;
        closed.generation = (closed.generation + 1) & GENERATION_MASK;
        // Operations under way keep the socket open; this is what ends them. One that is still connecting is not
        // connected enough for that, so it is cancelled too.
        if socket.shutdown(std::net::Shutdown::Both).is_err() {
            let entry = opcode::AsyncCancel::new(connect).build().flags(squeue::Flags::SKIP_SUCCESS);
            let entry = entry.user_data((Kind::Cancel as u64) << KIND_SHIFT);
            // SAFETY: it refers to no memory.
            unsafe { self.push(&entry)? };
        }
        Ok(())
    }

    /// Submits what was queued and takes what has completed, after waiting for something no longer than `limit`
    /// (`None`: not at all).
    ///
    /// # Errors
    /// Those of io_uring_enter.
    pub fn turn(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.buffers.publish();
        match limit {
            None => self.ring.submit_and_wait(0)?,
            Some(limit) => self.ring.submit_and_wait_for(1, limit)?,
        }
        self.batch.clear();
        self.taken = 0;
        self.ring.completions(&mut self.batch);
        Ok(())
    }

    /// The next thing that happened in this turn.
    #[inline]
    pub fn next(&mut self) -> Option<Event> {
        let completion = *self.batch.get(self.taken)?;
        self.taken += 1;
        Some(self.event(completion))
    }

    fn event(&mut self, completion: Completion) -> Event {
        let link = completion.token as u32;
        let kind = completion.token >> KIND_SHIFT;
        let current = kind != Kind::Cancel as u64
            && self.links[link as usize].socket.is_some()
            && self.token(Kind::Connect, link) == completion.token & !(3 << KIND_SHIFT);
        if !current {
            if let Some(buffer) = completion.buffer() {
                self.buffers.recycle(buffer);
            }
            if kind == Kind::Send as u64 {
                self.parted.retain(|(token, _)| *token != completion.token);
            }
            return Event::Nothing;
        }
        match kind {
            kind if kind == Kind::Connect as u64 && completion.result == 0 => Event::Connected { link },
            kind if kind == Kind::Connect as u64 => Event::Refused { link },
            kind if kind == Kind::Send as u64 => {
                self.links[link as usize].sending = false;
                if completion.result < 0 { Event::Broken { link } } else { Event::Sent { link } }
            }
            _ => self.received(link, completion),
        }
    }

    #[inline]
    fn received(&mut self, link: u32, completion: Completion) -> Event {
        // The kernel may end a multishot receive at any completion; then it is begun anew.
        self.links[link as usize].receiving = completion.more();
        match (completion.result, completion.buffer()) {
            (length @ 1.., Some(buffer)) => {
                Event::Received { link, bytes: Received { buffer, length: length as usize } }
            }
            (length @ 1.., None) => Event::Discarded { link, bytes: length as u64 },
            (0, buffer) => {
                if let Some(buffer) = buffer {
                    self.buffers.recycle(buffer);
                }
                Event::Closed { link }
            }
            // All buffers were in use at that moment.
            (error, _) if error == -libc::ENOBUFS => Event::Discarded { link, bytes: 0 },
            _ => Event::Broken { link },
        }
    }

    /// What was received.
    #[inline]
    pub fn bytes(&self, received: Received) -> &[u8] {
        self.buffers.bytes(received.buffer, received.length)
    }

    /// Gives a buffer back.
    #[inline]
    pub fn recycle(&mut self, received: Received) {
        self.buffers.recycle(received.buffer);
    }

    /// # Safety
    /// As for [`Ring::push`].
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller vouches for what the entry refers to.
        unsafe { self.ring.push(entry) }
    }
}

impl Drop for Wire {
    /// Ends every operation that reads memory before the memory goes.
    fn drop(&mut self) {
        for link in 0..self.links.len() as u32 {
            // The ring is going away: there is nobody left to tell of an error.
            let _ = self.close(link);
        }
        let _ = self.ring.submit_and_wait(0);
    }
}

/// A send that the kernel carries through to the last byte.
fn send_entry(socket: &Socket, bytes: &[u8]) -> squeue::Entry {
    opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32)
        .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
        .build()
}

/// Lets timeouts of this thread end when they are due and not up to 50 µs later.
pub fn precise_timeouts() {
    // SAFETY: it takes a number and refers to no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// The processor time that this thread has used.
pub fn thread_cpu() -> Duration {
    // SAFETY: all-zero bytes are a valid timespec, and the kernel writes into it alone.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Lets this process open as many files as its hard limit permits, and says how many that is.
pub fn raise_open_files() -> u64 {
    // SAFETY: all-zero bytes are a valid rlimit, and both calls refer to it alone.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return 1024;
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        limit.rlim_max
    }
}
