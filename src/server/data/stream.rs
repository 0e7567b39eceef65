//! Bytes out of files that are not cached, or not yet: by reference from the page cache where they are there and nobody has written
//! to the file lately, else through a buffer.
//!
//! The file is compared with what the head said before every window that is handed over by reference, and after every read
//! through the buffer; see [`vouch`](crate::exchange::vouch).

use super::connection::{Body, InFlight, Like, Second, Stream};
use super::deliver;
use super::deliver::buffer::Buffer;
use super::send::Step;
use super::worker::{Spares, Worker};
use crate::cache::entry::Lease;
use crate::cache::flight::Flight;
use crate::exchange::vouch::SecondReading;
use crate::limits;
use crate::planted::{self, Defect};
use crate::ring::Completion;
use crate::ring::kernel::{Kernel, Kind, Op, Token};
use crate::ring::lent::Lent;
use crate::version::Change;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// What the next step of a stream is, and what is left of it then.
type Next = (Step, Option<Body>);

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

impl<K: Kernel> Worker<K> {
    /// The next step of a body from a file that is not cached.
    pub(super) fn send_from_file(&mut self, index: u32, mut stream: Stream, handed_over: &mut u64) -> io::Result<Next> {
        if !self.flush(index, true)? {
            return Ok((Step::Waits, Some(Body::File(stream))));
        }
        if stream.second.is_some() {
            return self.read_again(index, stream);
        }
        if stream.buffer.as_ref().is_some_and(|buffer| buffer.unsent() > 0) {
            return self.send_buffer(index, stream);
        }
        if stream.at == stream.end {
            self.spares.keep_buffer(stream.buffer);
            return Ok((Step::Done, None));
        }
        let is_last = stream.is_referred && stream.end - stream.at <= limits::HELD_BACK_BYTES;
        if is_last && self.must_wait(index, &mut stream)? {
            return Ok((Step::Waits, Some(Body::File(stream))));
        }
        if (is_last || !stream.file.was_compared(self.now)) && !planted::is(Defect::NoLastLook) {
            let change = self.look_at_stream(&mut stream);
            if !change.keeps_bytes() {
                return Ok(self.go_on_after_change(index, stream, change));
            }
        }
        match self.next_window(&mut stream) {
            Window::Warm(len) => self.refer(index, stream, len, handed_over),
            Window::OnTheirWay => self.wait_for_flight(index, stream),
            Window::Cold(len) => self.read_through_buffer(index, stream, len),
            Window::Arena => match stream.fill.take() {
                Some((lease, fill)) => {
                    let body = self.go_on_from_arena(index, stream.at..stream.end, lease, fill);
                    Ok((Step::Moved, Some(body)))
                }
                None => Ok((Step::Broken, None)),
            },
        }
    }

    /// Has the last bytes wait until all others, which were handed over by reference, have left: what is still here when the file is
    /// written to shows in the comparison that follows.
    fn must_wait(&mut self, index: u32, stream: &mut Stream) -> io::Result<bool> {
        let socket = self.connections[index as usize].socket;
        if stream.has_waited {
            self.kernel.wait_until_sent(socket, false);
        } else if self.kernel.unsent(socket) > 0 {
            stream.has_waited = true;
            self.kernel.wait_until_sent(socket, true);
            self.wait_writable(index)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// What became of the file that is sent.
    fn look_at_stream(&mut self, stream: &mut Stream) -> Change {
        let Stream { file, vouch, .. } = stream;
        let found = self.kernel.identify(file.fd.as_fd());
        vouch.look(found, || self.shared.origin.leads_to(&file.name, &file.described.version))
    }

    /// The file was written to. What the arena has whole is known to be of the version that was begun; but what was handed over by
    /// reference before may have been overwritten on its way.
    fn go_on_after_change(&mut self, index: u32, mut stream: Stream, change: Change) -> Next {
        match stream.fill.take() {
            Some((lease, fill)) if lease.is_whole() && !stream.is_referred => {
                (Step::Moved, Some(self.go_on_from_arena(index, stream.at..stream.end, lease, fill)))
            }
            // Appended to, then, if what was sent is what it was.
            Some((lease, fill)) if lease.is_whole() && change == Change::Grown => {
                let (begin, at) = (stream.begin, stream.at);
                stream.second = Some(self.spares.second(begin..at, Like::Arena(lease, fill)));
                (Step::Moved, Some(Body::File(stream)))
            }
            _ => (Step::Broken, None),
        }
    }

    fn next_window(&mut self, stream: &mut Stream) -> Window {
        // What the fill has read is in the page cache, as a rule; what it has not may be, if it is not just that which is read.
        let fetched = stream.file.fetched().filter(|_| stream.fill.is_some());
        let filled = stream.fill.as_ref().map_or(0, |(lease, _)| lease.filled());
        let filled = filled.max(fetched.unwrap_or(0)).min(stream.end);
        let there = if filled > stream.at { filled } else { stream.end };
        let len = (there - stream.at).min(limits::STREAM_WINDOW);
        let is_on_its_way = fetched.is_some() && filled <= stream.at;
        let worthwhile = stream.file.is_settled
            && !is_on_its_way
            && (stream.fill.is_some() || len > limits::STREAM_BUFFER_BYTES as u64);
        if worthwhile && stream.at >= stream.cold_until && stream.is_warm(&mut self.kernel, len, there, self.now) {
            return Window::Warm(stream.but_the_last(len));
        }
        match &stream.fill {
            Some(_) if filled <= stream.at => return Window::OnTheirWay,
            // Read past the page cache: this file system has its own ways.
            Some(_) if !stream.is_referred => return Window::Arena,
            Some(_) | None => {}
        }
        if worthwhile && stream.at >= stream.cold_until {
            stream.cold_until = stream.at + limits::STREAM_COLD;
        }
        // What was referred to before may still be here when the last bytes have been read.
        Window::Cold(if stream.is_referred { stream.but_the_last(len) } else { len })
    }

    fn refer(&mut self, index: u32, mut stream: Stream, len: u64, handed_over: &mut u64) -> io::Result<Next> {
        let socket = self.connections[index as usize].socket;
        match self.kernel.send_file(socket, stream.file.fd.as_raw_fd(), stream.at, len as usize) {
            Ok(0) => Ok((Step::Broken, None)), // the file is shorter now
            Ok(sent) => {
                self.count_sent(index, sent);
                *handed_over += sent as u64;
                stream.at += sent as u64;
                stream.is_referred = true;
                Ok((Step::Moved, Some(Body::File(stream))))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wait_writable(index)?;
                Ok((Step::Waits, Some(Body::File(stream))))
            }
            Err(_) => Ok((Step::Broken, None)),
        }
    }

    fn wait_for_flight(&mut self, index: u32, mut stream: Stream) -> io::Result<Next> {
        let at = stream.at;
        let Some((_, fill)) = &mut stream.fill else { return Ok((Step::Broken, None)) };
        let step = self.wait_for_bytes(index, fill, at)?;
        if !matches!(step, Step::Broken) {
            return Ok((step, Some(Body::File(stream))));
        }
        // Nobody reads it for the cache any more: the rest comes from the file itself, as long as that is what it was.
        stream.fill = None;
        let change = self.look_at_stream(&mut stream);
        match change.keeps_bytes() {
            true => Ok((Step::Moved, Some(Body::File(stream)))),
            false => Ok(self.go_on_after_change(index, stream, change)),
        }
    }

    fn read_through_buffer(&mut self, index: u32, mut stream: Stream, len: u64) -> io::Result<Next> {
        let spares = &mut self.spares;
        let buffer = stream.buffer.get_or_insert_with(|| spares.buffer());
        let into = Buffer::lend_for_read(buffer);
        let len = len.min(limits::STREAM_BUFFER_BYTES as u64) as u32;
        let op = Op::Read { file: stream.file.fd.as_raw_fd(), into, len, offset: stream.at };
        self.submit_read(index, op)?;
        Ok((Step::Waits, Some(Body::File(stream))))
    }

    fn submit_read(&mut self, index: u32, op: Op) -> io::Result<()> {
        let connection = &mut self.connections[index as usize];
        connection.in_flight = Some(InFlight::Reading);
        connection.operations += 1;
        self.kernel.submit(op, Token::new(Kind::Stream, 0, index))
    }

    /// Sends what was read; the last bytes only if all bytes are known to be of one version.
    fn send_buffer(&mut self, index: u32, mut stream: Stream) -> io::Result<Next> {
        if stream.at == stream.end && stream.vouch.needs_second_reading() {
            let like = Like::First(SecondReading::default());
            stream.second = Some(self.spares.second(stream.begin..stream.end, like));
            return Ok((Step::Moved, Some(Body::File(stream))));
        }
        let connection = &mut self.connections[index as usize];
        if let Some(buffer) = &mut stream.buffer {
            let message = Buffer::lend_for_send(buffer);
            connection.in_flight = Some(InFlight::Buffer);
            connection.operations += 1;
            let op = Op::Send { socket: connection.socket, message, more: stream.at < stream.end };
            self.kernel.submit(op, Token::new(Kind::Send, 0, index))?;
        }
        Ok((Step::Waits, Some(Body::File(stream))))
    }

    /// The next piece of a second reading.
    fn read_again(&mut self, index: u32, mut stream: Stream) -> io::Result<Next> {
        let file = stream.file.fd.as_raw_fd();
        if let Some(second) = &mut stream.second {
            let into = Buffer::lend_for_read(&mut second.buffer);
            let len = (second.end - second.at).min(limits::STREAM_BUFFER_BYTES as u64) as u32;
            let offset = second.at;
            self.submit_read(index, Op::Read { file, into, len, offset })?;
        }
        Ok((Step::Waits, Some(Body::File(stream))))
    }

    /// The rest of a body that was begun from the file itself.
    fn go_on_from_arena(&self, index: u32, rest: Range<u64>, lease: Lease, fill: Arc<Flight>) -> Body {
        let zerocopy_works = self.connections[index as usize].zerocopy_works;
        let mode = deliver::choose(self.shared.options.transmit, &lease, true, zerocopy_works);
        Body::Arena { lease, at: rest.start, end: rest.end, fill: Some(fill), mode }
    }

    /// A read of a streamed file is over.
    pub(super) fn stream_read(&mut self, index: u32, completion: &Completion) -> io::Result<()> {
        if self.operation_over(index).is_none() {
            return Ok(());
        }
        let connection = &mut self.connections[index as usize];
        connection.in_flight = None;
        let Some(Body::File(mut stream)) = connection.body.take() else { return self.close(index) };
        let body = match stream.second.take() {
            Some(second) => self.second_piece_read(index, stream, second, completion.result),
            None => self.piece_read_of(&mut stream, completion.result).then_some(Body::File(stream)),
        };
        let goes_on = body.is_some();
        self.connections[index as usize].body = body;
        if goes_on { self.pump(index) } else { self.close(index) }
    }

    /// A piece of the stream was read, or not; false if the response must break off.
    fn piece_read_of(&mut self, stream: &mut Stream, result: i32) -> bool {
        let Some(buffer) = &mut stream.buffer else { return false };
        buffer.returned();
        if result == -libc::EAGAIN || result == -libc::EINTR {
            return true;
        }
        // What was read while the file changed is not sent.
        let is_compared = !planted::is(Defect::StreamUncompared);
        if result <= 0 || is_compared && !self.look_at_stream(stream).keeps_bytes() {
            return false;
        }
        let Some(buffer) = &mut stream.buffer else { return false };
        buffer.get_mut().set_filled(result as usize);
        stream.vouch.take(buffer.filled());
        stream.at += result as u64;
        true
    }

    /// A piece was read a second time. `None`: it is not what it was.
    fn second_piece_read(
        &mut self,
        index: u32,
        mut stream: Stream,
        mut second: Box<Second>,
        result: i32,
    ) -> Option<Body> {
        second.buffer.returned();
        if result == -libc::EAGAIN || result == -libc::EINTR {
            stream.second = Some(second);
            return Some(Body::File(stream));
        }
        let read = usize::try_from(result).ok().filter(|&read| read > 0)?;
        second.buffer.get_mut().set_filled(read);
        let piece = second.buffer.filled();
        match &mut second.like {
            Like::First(reading) => reading.take(piece),
            Like::Arena(lease, _) if lease.bytes()[second.at as usize..].starts_with(piece) => {}
            Like::Arena(..) => return None,
        }
        second.at += read as u64;
        if second.at < second.end {
            stream.second = Some(second);
            return Some(Body::File(stream));
        }
        let Second { buffer, like, .. } = *second;
        self.spares.keep_buffer(Some(buffer));
        match like {
            Like::First(reading) => stream.vouch.confirms(reading).then_some(Body::File(stream)),
            Like::Arena(lease, fill) => Some(self.go_on_from_arena(index, stream.at..stream.end, lease, fill)),
        }
    }
}

impl Stream {
    /// So many of the next bytes, without those that wait until all others have left.
    fn but_the_last(&self, len: u64) -> u64 {
        let left = self.end - self.at;
        let holds_back = len == left && left > limits::HELD_BACK_BYTES && self.end - self.begin > limits::AT_ONCE_BYTES;
        if holds_back && !planted::is(Defect::LastBytesEarly) { left - limits::HELD_BACK_BYTES } else { len }
    }

    /// Whether the next `len` bytes are in the page cache. What lies before `there` is looked up at once, as far as that is
    /// worth it, and believed for a while if it is all there.
    fn is_warm(&mut self, kernel: &mut impl Kernel, len: u64, there: u64, now: u64) -> bool {
        let is_fetched = self.file.fetched().is_some_and(|to| self.at + len <= to);
        let (until, found) = self.warm;
        let is_known = self.at + len <= until && now.saturating_sub(found) <= limits::WARM.as_nanos() as u64;
        if is_known || self.file.is_warm(now) || is_fetched {
            return true;
        }
        let file = self.file.fd.as_raw_fd();
        let ahead = (there - self.at).min(limits::STREAM_WARM);
        if kernel.is_resident(file, self.at, ahead) {
            self.warm = (self.at + ahead, now);
            return true;
        }
        ahead > len && kernel.is_resident(file, self.at, len)
    }
}

impl Spares {
    fn buffer(&mut self) -> Lent<Buffer> {
        self.buffers.pop().unwrap_or_else(|| Buffer::new(limits::STREAM_BUFFER_BYTES))
    }

    fn second(&mut self, range: Range<u64>, like: Like) -> Box<Second> {
        Box::new(Second { buffer: self.buffer(), at: range.start, end: range.end, like })
    }

    fn keep_buffer(&mut self, buffer: Option<Lent<Buffer>>) {
        if let Some(buffer) = buffer
            && !buffer.is_lent()
            && self.buffers.len() < limits::SPARE_BUFFERS
        {
            self.buffers.push(buffer);
        }
    }
}
