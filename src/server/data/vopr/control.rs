//! What stands in for the control plane: it serves the same exchanges over the same cache, from connections that
//! workers hand over, and stores uploads as the real one does.

use crate::cache::entry::Lease;
use crate::cache::stats::Departure;
use crate::exchange::plan::{Plan, Source};
use crate::exchange::{Action, Ask, Exchange, Role, revalidate};
use crate::http::request::{self, Fields, HeadLimits, Method, Parsed};
use crate::origin::Found;
use crate::ring::world::World;
use crate::ring::world::disk::{Disk, Write};
use crate::server::Handoff;
use crate::server::shared::{Admitted, Shared};
use crate::version::freshness::Wish;
use crate::wake::Waiter;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;

/// A connection of the control plane.
struct Connection {
    number: u32,
    received: Vec<u8>,
    job: Option<Job>,
    _socket: OwnedFd,
    _admitted: Option<Admitted>,
}

/// A request on its way.
struct Job {
    exchange: Exchange,
    name: Vec<u8>,
    head: Vec<u8>,
    method: Method,
    upload: Option<Upload>,
    body: Option<(Lease, Range<u64>, Option<Arc<crate::cache::flight::Flight>>)>,
}

/// How far a PUT or DELETE is.
#[derive(Clone, Copy)]
enum Upload {
    Begun(Write),
    /// The name has its new file, or none.
    Named(u64),
    Forgotten(u64),
}

pub struct Control {
    shared: Arc<Shared>,
    connections: Vec<Connection>,
}

/// How long a connection lasts that nothing happens on.
const LIFETIME: u64 = 5_000_000_000;

const LIMITS: HeadLimits = HeadLimits { bytes: 16 << 10, fields: 64 };

impl Control {
    pub fn new(shared: Arc<Shared>) -> Control {
        Control { shared, connections: Vec::new() }
    }

    pub fn open(&self) -> usize {
        self.connections.len()
    }

    /// Takes a connection over. What was received of it has to be what its client has sent and was not answered.
    pub fn take(&mut self, handoff: Handoff, world: &World) {
        let fd = handoff.socket.as_raw_fd();
        let adopted = world.adopted.iter().rev().find(|(stand_in, _)| *stand_in == fd);
        let number = adopted.expect("a socket of the simulation").1;
        assert!(matches!(request::parse(&handoff.received, LIMITS), Parsed::Whole(_)), "a whole head is handed over");
        self.connections.push(Connection {
            number,
            received: handoff.received,
            job: None,
            _socket: handoff.socket,
            _admitted: handoff.admitted,
        });
    }

    /// Ends all connections that owe nothing; or all.
    pub fn end(&mut self, world: &mut World, all: bool) {
        self.connections.retain(|connection| {
            let stays = connection.job.is_some() && !all;
            if !stays {
                world.sockets[connection.number as usize].closed = true;
            }
            stays
        });
    }

    /// Goes on with one connection; whether anything moved.
    pub fn step(&mut self, world: &mut World) -> bool {
        if self.connections.is_empty() {
            return false;
        }
        let at = world.dice.below(self.connections.len());
        let connection = &mut self.connections[at];
        let now = world.clock;
        let socket = &mut world.sockets[connection.number as usize];
        let is_idle = connection.job.is_none() && now > socket.progress + LIFETIME;
        if socket.reset || is_idle || (socket.client_done && connection.job.is_none() && socket.to_server.is_empty()) {
            socket.closed = true;
            self.connections.swap_remove(at);
            return true;
        }
        let count = socket.to_server.len();
        if count > 0 {
            connection.received.extend(socket.to_server.drain(..));
            socket.received += count as u64;
            socket.receipts.push_back((socket.received, now));
            socket.progress = now;
        }
        let shared = self.shared.clone();
        let moved = match connection.job.take() {
            None => connection.begin(world),
            Some(job) => {
                let (job, moved) = job.go_on(&shared, world, connection.number);
                connection.job = job;
                moved
            }
        };
        let is_over = world.sockets[connection.number as usize].server_done;
        if is_over {
            world.sockets[connection.number as usize].closed = true;
            self.connections.swap_remove(at);
        }
        moved || count > 0
    }
}

impl Connection {
    /// Begins the next request, if it is there.
    fn begin(&mut self, world: &mut World) -> bool {
        let Parsed::Whole(request) = request::parse(&self.received, LIMITS) else {
            if matches!(request::parse(&self.received, LIMITS), Parsed::Bad(_)) {
                let words = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let now = world.clock;
                let socket = &mut world.sockets[self.number as usize];
                socket.hand(words, now);
                socket.server_done = true;
                return true;
            }
            return false;
        };
        let head = String::from_utf8_lossy(&self.received[..request.len]).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
        let whole = request.len + length.unwrap_or(0);
        if self.received.len() < whole {
            return false;
        }
        let upload = match head.split(' ').next() {
            Some("PUT") => Some(Upload::Begun(Write::Replace { size: length.unwrap_or(0) as u64 })),
            Some("DELETE") => Some(Upload::Begun(Write::Delete)),
            _ => None,
        };
        let name = request.target.strip_prefix(b"/").unwrap_or(b"").to_vec();
        let head = self.received[..request.len].to_vec();
        let method = request.method;
        self.job = Some(Job { exchange: Exchange::default(), name, head, method, upload, body: None });
        self.received.drain(..whole);
        true
    }
}

/// Compares what is cached with the disk, as the control plane does: at once.
fn check(shared: &Shared, lease: &Lease, disk: &Disk, now: u64) -> revalidate::Checked {
    let found = shared.origin.local().map_err(io::Error::from).and_then(|root| root.look(lease.name()));
    let same_bytes = match (&found, lease.needs_second_look(now)) {
        (Ok(Found::File(version)), true) if lease.is_current(version) => {
            let content = disk.file_of(lease.name()).and_then(|file| disk.history[file].last()?.content.clone());
            Some(content.is_some_and(|content| content.is_at(0, lease.bytes())))
        }
        _ => None,
    };
    revalidate::conclude(&shared.cache, lease, now, found, same_bytes)
}

impl Job {
    fn go_on(mut self, shared: &Arc<Shared>, world: &mut World, number: u32) -> (Option<Job>, bool) {
        if let Some(upload) = self.upload {
            return self.upload(upload, shared, world, number);
        }
        if self.body.is_some() {
            return self.send_body(world, number);
        }
        let request = match request::parse(&self.head, LIMITS) {
            Parsed::Whole(request) => request,
            Parsed::Partial | Parsed::Bad(_) => unreachable!("it was parsed before"),
        };
        let method = if self.method == Method::Head { Method::Head } else { Method::Get };
        let conditions = &request.conditions;
        let (role, fields, wish) = (Role::Itself, Fields::Head(request.head), Wish::default());
        let ask = Ask { method, name: &self.name, role, conditions, preferred: None, origin: None, fields, wish };
        let touch = shared.cache.touch();
        let (now, close) = (world.clock, !request.keep_alive);
        loop {
            let action = {
                let terms = shared.terms(&touch, now, None);
                self.exchange.advance(&terms, &ask, || Waiter::Task(Waker::noop().clone()))
            };
            match action {
                Action::Wait => return (Some(self), false),
                Action::Check(lease) => {
                    let checked = check(shared, &lease, &world.disk.borrow(), now);
                    self.exchange.checked(checked);
                }
                Action::Refresh(lease) => drop(check(shared, &lease, &world.disk.borrow(), now)),
                Action::Fill(permit) => shared.mail.delegate(permit),
                Action::Refuse(refusal) => {
                    answer(world, number, refusal.problem().status, 0, None, close);
                    return (None, true);
                }
                Action::PassOn(_) | Action::Inform(_) => unreachable!("the origin is a directory"),
                Action::Directory => {
                    answer(world, number, 404, 0, None, close);
                    return (None, true);
                }
                Action::Deliver(plan) => {
                    self.deliver(plan, world, number, close);
                    return (self.body.is_some().then_some(self), true);
                }
            }
        }
    }

    fn deliver(&mut self, plan: Plan, world: &mut World, number: u32, close: bool) {
        let size = plan.source.described().map_or(0, |described| described.version.size);
        let (status, length, part) = match plan.content.status() {
            206 => (206, plan.body.end - plan.body.start, Some((plan.body.clone(), size))),
            200 => (200, size, None),
            status => (status, 0, None),
        };
        answer(world, number, status, length, part, close);
        if plan.body.is_empty() {
            return;
        }
        match plan.source {
            Source::Passing(_) | Source::Slices { .. } => unreachable!("the origin is a directory"),
            Source::Arena { lease, fill } => self.body = Some((lease, plan.body, fill)),
            Source::File { fill: Some((lease, fill)), .. } => self.body = Some((lease, plan.body, Some(fill))),
            Source::File { file, fill: None } => {
                // At once, and from the open file.
                let disk = world.disk.clone();
                let disk = disk.borrow();
                let inode = disk.inode(file.fd.as_raw_fd()).expect("it is open");
                let mut bytes = vec![0; (plan.body.end - plan.body.start) as usize];
                let began = &file.described.version;
                let now = crate::version::Version::of(&file.fd).ok().flatten();
                let is_same = now.is_some_and(|now| began.compare(&now, || false).keeps_bytes());
                let read = disk.content(inode).read(plan.body.start, &mut bytes);
                let now = world.clock;
                let socket = &mut world.sockets[number as usize];
                if is_same && read == bytes.len() {
                    socket.hand(&bytes, now);
                } else {
                    socket.server_done = true;
                }
            }
        }
    }

    fn send_body(mut self, world: &mut World, number: u32) -> (Option<Job>, bool) {
        let Some((lease, range, fill)) = &mut self.body else { return (None, false) };
        let to = lease.filled().min(range.end);
        if to <= range.start {
            use crate::cache::flight::Progress;
            let failed = match fill {
                Some(fill) => matches!(
                    fill.poll(Some(range.start), || Waiter::Task(Waker::noop().clone())),
                    Some(Progress::Failed(_) | Progress::Uncached(..))
                ),
                None => true,
            };
            if failed {
                world.sockets[number as usize].server_done = true;
                return (None, true);
            }
            return (Some(self), false);
        }
        let now = world.clock;
        world.sockets[number as usize].hand(&lease.bytes()[range.start as usize..to as usize], now);
        range.start = to;
        let goes_on = range.start < range.end;
        (goes_on.then_some(self), true)
    }

    /// In the order in which an upload is stored: the name, what is cached, the answer.
    fn upload(mut self, upload: Upload, shared: &Shared, world: &mut World, number: u32) -> (Option<Job>, bool) {
        let file = world.disk.borrow().file_of(&self.name);
        self.upload = match upload {
            Upload::Begun(write) => {
                file.inspect(|&file| world.disk.borrow_mut().write(file, write));
                Some(Upload::Named(world.clock))
            }
            Upload::Named(then) => {
                shared.cache.remove(&self.name, Departure::Replaced);
                Some(Upload::Forgotten(then))
            }
            Upload::Forgotten(then) => {
                file.inspect(|&file| world.disk.borrow_mut().bar(file, then));
                answer(world, number, 204, 0, None, false);
                return (None, true);
            }
        };
        (Some(self), true)
    }
}

fn answer(world: &mut World, number: u32, status: u16, length: u64, part: Option<(Range<u64>, u64)>, close: bool) {
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
    if let Some((range, size)) = part {
        head += &format!("Content-Range: bytes {}-{}/{size}\r\n", range.start, range.end - 1);
    }
    if close {
        head += "Connection: close\r\n";
    }
    head += "\r\n";
    let now = world.clock;
    let socket = &mut world.sockets[number as usize];
    socket.hand(head.as_bytes(), now);
}
