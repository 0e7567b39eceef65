//! Bytes out of files that are not cached, or not yet: by reference from the page cache where they are there and nobody
//! has written to the file lately, else through a buffer.
//!
//! The file is compared with what the head said before every window that is handed over by reference, and after every
//! read through the buffer; see [`vouch`](crate::exchange::vouch).

use super::deliver;
use super::deliver::buffer::Buffer;
use super::io::Io;
use super::pool::Pool;
use super::resident::Resident;
use super::send::{InFlight, Sender, Sent};
use crate::cache::entry::Lease;
use crate::cache::flight::{Flight, OpenFile};
use crate::exchange::vouch::{SecondReading, Vouch};
use crate::limits;
use crate::planted::{self, Defect};
use crate::ring::kernel::{Kernel, Kind, Op};
use crate::ring::lent::Lent;
use crate::version::Change;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// A file on its way past the cache.
pub(super) struct Stream {
    file: Arc<OpenFile>,
    /// Set when the file is being read into the arena meanwhile: what is not in the page cache is sent from there.
    fill: Option<(Lease, Arc<Flight>)>,
    /// The first byte of the body.
    begin: u64,
    /// The next byte to hand to the socket or to read.
    at: u64,
    end: u64,
    /// Says whether all that is sent is of one version.
    vouch: Vouch,
    /// Bytes were handed over by reference: whoever writes to the file reaches them.
    is_referred: bool,
    /// The last bytes have waited for all others to leave.
    has_waited: bool,
    /// What was sent is being read once more.
    second: Option<Box<Second>>,
    /// Up to here the file was found to be in the page cache, and when: monotonic nanoseconds.
    warm: (u64, u64),
    /// Up to here the file is read through the buffer: its pages are not in memory.
    cold_until: u64,
    buffer: Option<Lent<Buffer>>,
}

/// A second reading of what was sent of a stream, before more of it is let go.
struct Second {
    buffer: Lent<Buffer>,
    at: u64,
    end: u64,
    like: Like,
}

/// What it has to be like.
enum Like {
    /// The first reading.
    First(SecondReading),
    /// What the arena has of the version that was begun.
    Arena(Lease, Arc<Flight>),
}

impl Stream {
    /// The bytes `body` of the file, of which nothing was sent yet.
    pub fn new(file: Arc<OpenFile>, fill: Option<(Lease, Arc<Flight>)>, body: Range<u64>) -> Stream {
        let vouch = Vouch::of(&file, body.start);
        Stream {
            file,
            fill,
            begin: body.start,
            at: body.start,
            end: body.end,
            vouch,
            is_referred: false,
            has_waited: false,
            second: None,
            warm: (0, 0),
            cold_until: 0,
            buffer: None,
        }
    }
}

/// How a stream goes on.
pub(super) enum Next {
    Sent(Sent),
    /// The rest of the body comes from the arena.
    Resident(Resident),
}

/// Where the next bytes of a stream are.
enum Window {
    /// In the page cache: these many bytes can be handed over by reference.
    Warm(u64),
    /// Another's reading brings them.
    OnTheirWay,
    /// In the arena, or soon there.
    Arena,
    /// In the storage: these many bytes can be read.
    Cold(u64),
}

impl Stream {
    /// Sends the next bytes.
    pub fn step<K: Kernel>(&mut self, sender: &mut Sender<'_, K>) -> io::Result<Next> {
        match sender.flush(true)? {
            Sent::Done => {}
            sent => return Ok(Next::Sent(sent)),
        }
        if self.second.is_some() {
            return self.read_again(sender).map(Next::Sent);
        }
        if self.buffer.as_ref().is_some_and(|buffer| buffer.unsent() > 0) {
            return self.send_buffer(sender).map(Next::Sent);
        }
        if self.at == self.end {
            sender.pool.keep_buffer(self.buffer.take());
            return Ok(Next::Sent(Sent::Done));
        }
        let is_last = self.is_referred && self.end - self.at <= limits::HELD_BACK_BYTES;
        if is_last && self.must_wait(sender)? {
            return Ok(Next::Sent(Sent::Waits));
        }
        // What is not sent by reference is compared when it has been read.
        let may_refer = self.is_referred || self.file.is_settled;
        if may_refer && (is_last || !self.file.was_compared(sender.io.now)) && !planted::is(Defect::NoLastLook) {
            let change = self.look(sender.io);
            if !change.keeps_bytes() {
                return Ok(self.go_on_after(change, sender));
            }
        }
        let sent = match self.next_window(sender.io) {
            Window::Warm(len) => {
                let sent = sender.refer(self.file.fd.as_raw_fd(), self.at, len as usize, &mut self.at)?;
                self.is_referred |= sent == Sent::Moved;
                sent
            }
            Window::OnTheirWay => return self.wait_for_flight(sender),
            Window::Cold(len) => self.read_through_buffer(sender, len)?,
            Window::Arena => match self.fill.take() {
                Some((lease, fill)) => return Ok(self.go_on_from_arena(sender, lease, fill)),
                None => Sent::Broken,
            },
        };
        Ok(Next::Sent(sent))
    }

    /// Has the last bytes wait until all others, which were handed over by reference, have left: what is still here
    /// when the file is written to shows in the comparison that follows.
    fn must_wait<K: Kernel>(&mut self, sender: &mut Sender<'_, K>) -> io::Result<bool> {
        let (socket, kernel) = (sender.out.socket, &mut sender.io.kernel);
        if self.has_waited {
            kernel.wait_until_sent(socket, false);
        } else if kernel.unsent(socket) > 0 {
            self.has_waited = true;
            kernel.wait_until_sent(socket, true);
            sender.wait_writable()?;
            return Ok(true);
        }
        Ok(false)
    }

    /// What became of the file.
    fn look<K: Kernel>(&mut self, io: &mut Io<K>) -> Change {
        let Stream { file, vouch, .. } = self;
        let found = io.kernel.identify(file.fd.as_fd());
        vouch.look(found, || io.shared.origin.leads_to(&file.name, &file.described.version))
    }

    /// The file was written to. What the arena has whole is known to be of the version that was begun; but what was
    /// handed over by reference before may have been overwritten on its way.
    fn go_on_after<K: Kernel>(&mut self, change: Change, sender: &mut Sender<'_, K>) -> Next {
        match self.fill.take() {
            Some((lease, fill)) if lease.is_whole() && !self.is_referred => self.go_on_from_arena(sender, lease, fill),
            // Appended to, then, if what was sent is what it was.
            Some((lease, fill)) if lease.is_whole() && change == Change::Grown => {
                let like = Like::Arena(lease, fill);
                self.second = Some(Second::new(sender.pool, self.begin..self.at, like));
                Next::Sent(Sent::Moved)
            }
            _ => Next::Sent(Sent::Broken),
        }
    }

    fn next_window<K: Kernel>(&mut self, io: &mut Io<K>) -> Window {
        // What the fill has read is in the page cache, as a rule; what it has not may be, if it is not just that which
        // is read.
        let fetched = self.file.fetched().filter(|_| self.fill.is_some());
        let filled = self.fill.as_ref().map_or(0, |(lease, _)| lease.filled());
        let filled = filled.max(fetched.unwrap_or(0)).min(self.end);
        let there = if filled > self.at { filled } else { self.end };
        let len = (there - self.at).min(limits::STREAM_WINDOW);
        let is_on_its_way = fetched.is_some() && filled <= self.at;
        let worthwhile =
            self.file.is_settled && !is_on_its_way && (self.fill.is_some() || len > limits::STREAM_BUFFER_BYTES as u64);
        if worthwhile && self.at >= self.cold_until && self.is_warm(io, len, there) {
            return Window::Warm(self.but_the_last(len));
        }
        match &self.fill {
            Some(_) if filled <= self.at => return Window::OnTheirWay,
            // Read past the page cache: this file system has its own ways.
            Some(_) if !self.is_referred => return Window::Arena,
            Some(_) | None => {}
        }
        if worthwhile && self.at >= self.cold_until {
            self.cold_until = self.at + limits::STREAM_COLD;
        }
        // What was referred to before may still be here when the last bytes have been read.
        Window::Cold(if self.is_referred { self.but_the_last(len) } else { len })
    }

    fn wait_for_flight<K: Kernel>(&mut self, sender: &mut Sender<'_, K>) -> io::Result<Next> {
        let Some((_, fill)) = &mut self.fill else { return Ok(Next::Sent(Sent::Broken)) };
        match sender.wait_for_bytes(fill, self.at)? {
            Sent::Broken => {}
            sent => return Ok(Next::Sent(sent)),
        }
        // Nobody reads it for the cache any more: the rest comes from the file itself, as long as that is what it was.
        self.fill = None;
        let change = self.look(sender.io);
        match change.keeps_bytes() {
            true => Ok(Next::Sent(Sent::Moved)),
            false => Ok(self.go_on_after(change, sender)),
        }
    }

    fn read_through_buffer<K: Kernel>(&mut self, sender: &mut Sender<'_, K>, len: u64) -> io::Result<Sent> {
        let buffer = self.buffer.get_or_insert_with(|| sender.pool.buffer());
        read(sender, &self.file, buffer, self.at, len)
    }

    /// Sends what was read; the last bytes only if all bytes are known to be of one version.
    fn send_buffer<K: Kernel>(&mut self, sender: &mut Sender<'_, K>) -> io::Result<Sent> {
        if self.at == self.end && self.vouch.needs_second_reading() {
            let like = Like::First(SecondReading::default());
            self.second = Some(Second::new(sender.pool, self.begin..self.end, like));
            return Ok(Sent::Moved);
        }
        let Some(buffer) = &mut self.buffer else { return Ok(Sent::Broken) };
        let (message, more) = (Buffer::lend_for_send(buffer), self.at < self.end);
        sender.submit(InFlight::Buffer, Kind::Send, |socket| Op::Send { socket, message, more })
    }

    /// The next piece of a second reading.
    fn read_again<K: Kernel>(&mut self, sender: &mut Sender<'_, K>) -> io::Result<Sent> {
        let Some(second) = &mut self.second else { return Ok(Sent::Broken) };
        read(sender, &self.file, &mut second.buffer, second.at, second.end - second.at)
    }

    /// The rest of a body that was begun from the file itself.
    fn go_on_from_arena<K: Kernel>(&self, sender: &Sender<'_, K>, lease: Lease, fill: Arc<Flight>) -> Next {
        let mode = deliver::choose(sender.io.shared.options.transmit, &lease, true, sender.out.zerocopy_works);
        Next::Resident(Resident { lease, at: self.at, end: self.end, fill: Some(fill), mode })
    }

    /// What was read of it was sent, or not; false if the response must break off.
    pub fn sent(&mut self, sent: usize) -> bool {
        let Some(buffer) = &mut self.buffer else { return false };
        buffer.returned();
        buffer.get_mut().add_sent(sent);
        sent > 0
    }

    /// A read of the file is over.
    pub fn read<K: Kernel>(&mut self, sender: &mut Sender<'_, K>, result: i32) -> Next {
        match self.second.take() {
            Some(second) => self.second_piece_read(sender, second, result),
            None => Next::Sent(self.piece_read(sender.io, result)),
        }
    }

    /// A piece was read, or not.
    fn piece_read<K: Kernel>(&mut self, io: &mut Io<K>, result: i32) -> Sent {
        let Some(buffer) = &mut self.buffer else { return Sent::Broken };
        buffer.returned();
        if result == -libc::EAGAIN || result == -libc::EINTR {
            return Sent::Moved;
        }
        // What was read while the file changed is not sent.
        let is_compared = !planted::is(Defect::StreamUncompared);
        if result <= 0 || is_compared && !self.look(io).keeps_bytes() {
            return Sent::Broken;
        }
        let Some(buffer) = &mut self.buffer else { return Sent::Broken };
        buffer.get_mut().set_filled(result as usize);
        self.vouch.take(buffer.filled());
        self.at += result as u64;
        Sent::Moved
    }

    /// A piece was read a second time.
    fn second_piece_read<K: Kernel>(
        &mut self,
        sender: &mut Sender<'_, K>,
        mut second: Box<Second>,
        result: i32,
    ) -> Next {
        second.buffer.returned();
        if result == -libc::EAGAIN || result == -libc::EINTR {
            self.second = Some(second);
            return Next::Sent(Sent::Moved);
        }
        if !second.take(result) {
            return Next::Sent(Sent::Broken);
        }
        if second.at < second.end {
            self.second = Some(second);
            return Next::Sent(Sent::Moved);
        }
        let Second { buffer, like, .. } = *second;
        sender.pool.keep_buffer(Some(buffer));
        match like {
            Like::First(reading) => match self.vouch.confirms(reading) {
                true => Next::Sent(Sent::Moved),
                false => Next::Sent(Sent::Broken),
            },
            Like::Arena(lease, fill) => self.go_on_from_arena(sender, lease, fill),
        }
    }

    /// So many of the next bytes, without those that wait until all others have left.
    fn but_the_last(&self, len: u64) -> u64 {
        let left = self.end - self.at;
        let holds_back = len == left && left > limits::HELD_BACK_BYTES && self.end - self.begin > limits::AT_ONCE_BYTES;
        if holds_back && !planted::is(Defect::LastBytesEarly) { left - limits::HELD_BACK_BYTES } else { len }
    }

    /// Whether the next `len` bytes are in the page cache. What lies before `there` is looked up at once, as far as
    /// that is worth it, and believed for a while if it is all there.
    fn is_warm<K: Kernel>(&mut self, io: &mut Io<K>, len: u64, there: u64) -> bool {
        let is_fetched = self.file.fetched().is_some_and(|to| self.at + len <= to);
        let (until, found) = self.warm;
        let is_known = self.at + len <= until && io.now.saturating_sub(found) <= limits::WARM.as_nanos() as u64;
        if is_known || self.file.is_warm(io.now) || is_fetched {
            return true;
        }
        let file = self.file.fd.as_raw_fd();
        let ahead = (there - self.at).min(limits::STREAM_WARM);
        if io.kernel.is_resident(file, self.at, ahead) {
            self.warm = (self.at + ahead, io.now);
            return true;
        }
        ahead > len && io.kernel.is_resident(file, self.at, len)
    }
}

/// Reads at most `len` bytes at `offset` into a buffer of the stream.
fn read<K: Kernel>(
    sender: &mut Sender<'_, K>,
    file: &OpenFile,
    buffer: &mut Lent<Buffer>,
    offset: u64,
    len: u64,
) -> io::Result<Sent> {
    let into = Buffer::lend_for_read(buffer);
    let (file, len) = (file.fd.as_raw_fd(), len.min(limits::STREAM_BUFFER_BYTES as u64) as u32);
    sender.submit(InFlight::Reading, Kind::Stream, |_| Op::Read { file, into, len, offset })
}

impl Second {
    fn new(pool: &mut Pool, range: Range<u64>, like: Like) -> Box<Second> {
        Box::new(Second { buffer: pool.buffer(), at: range.start, end: range.end, like })
    }

    /// So many bytes were read again, or none; false if they are not what they were.
    fn take(&mut self, result: i32) -> bool {
        let Some(read) = usize::try_from(result).ok().filter(|&read| read > 0) else { return false };
        self.buffer.get_mut().set_filled(read);
        let piece = self.buffer.filled();
        match &mut self.like {
            Like::First(reading) => reading.take(piece),
            Like::Arena(lease, _) if lease.bytes()[self.at as usize..].starts_with(piece) => {}
            Like::Arena(..) => return false,
        }
        self.at += read as u64;
        true
    }
}
