//! Bytes out: batches of responses, and bodies in each mode.

use super::connection::{Body, Ending, InFlight, Stream};
use super::deliver::Mode;
use super::deliver::batch::Batch;
use super::deliver::zero::ZeroSend;
use super::worker::Worker;
use crate::cache::entry::Lease;
use crate::cache::flight::{Flight, Progress};
use crate::http::date::Date;
use crate::limits;
use crate::metrics::labels::{Transmit, Zerocopy};
use crate::planted::{self, Defect};
use crate::ring::Completion;
use crate::ring::kernel::{Kernel, Kind, Op, Token};
use crate::ring::lent::Lent;
use crate::wake::Waiter;
use std::io;
use std::sync::Arc;

/// IORING_NOTIF_USAGE_ZC_COPIED: the notification's result says that the kernel copied after all.
const ZC_COPIED: i32 = 1 << 31;

/// How a body's next step went.
pub(super) enum Step {
    /// Bytes were handed over; there may be more to do.
    Moved,
    /// Something is in flight, or someone is waited for.
    Waits,
    /// Nothing is left.
    Done,
    /// It cannot be finished: the connection must end, so that a short body is not taken for a whole one.
    Broken,
}

impl<K: Kernel> Worker<K> {
    /// The connection's batch, and the date for heads.
    pub(super) fn batch(&mut self, index: u32) -> (&mut Batch, &Date) {
        let connection = &mut self.connections[index as usize];
        let spares = &mut self.spares.batches;
        let batch = connection.batch.get_or_insert_with(|| spares.pop().unwrap_or_else(|| Lent::new(Batch::default())));
        (batch.get_mut(), &self.date)
    }

    /// Sends what was gathered; `more` says that a body follows at once. True if nothing is left to send.
    pub(super) fn flush(&mut self, index: u32, more: bool) -> io::Result<bool> {
        let connection = &mut self.connections[index as usize];
        let Some(batch) = &mut connection.batch else { return Ok(true) };
        if batch.is_empty() {
            if let Some(batch) = connection.batch.take() {
                self.spares.keep(Some(batch), Vec::new());
            }
            return Ok(true);
        }
        // A head before a body that is sent by reference: at once, so that the body can follow in the same turn.
        if more && let Some(text) = batch.only_text() {
            match self.kernel.send_now(connection.socket, text, true) {
                Ok(sent) => {
                    connection.ledger.sent(sent as u64, &self.metrics, || self.kernel.now());
                    if sent == text.len() {
                        batch.get_mut().clear();
                        return Ok(true);
                    }
                    batch.get_mut().drop_sent_text(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.close(index)?;
                    return Ok(false);
                }
            }
        }
        let message = Batch::lend(batch);
        connection.in_flight = Some(InFlight::Batch);
        connection.operations += 1;
        let op = Op::Send { socket: connection.socket, message, more };
        self.kernel.submit(op, Token::new(Kind::Send, 0, index))?;
        Ok(false)
    }

    /// The connection's socket took so many bytes of what it is sent.
    pub(super) fn count_sent(&mut self, index: u32, sent: usize) {
        let connection = &mut self.connections[index as usize];
        connection.ledger.sent(sent as u64, &self.metrics, || self.kernel.now());
    }

    /// A copying send is over.
    pub(super) fn sent(&mut self, index: u32, completion: &Completion) -> io::Result<()> {
        if self.operation_over(index).is_none() {
            return Ok(());
        }
        let connection = &mut self.connections[index as usize];
        let sent = completion.result.max(0) as usize;
        let whole = match connection.in_flight.take() {
            Some(InFlight::Batch) => connection.batch.as_mut().is_some_and(|batch| {
                batch.returned();
                let whole = batch.len() == sent;
                batch.get_mut().clear();
                whole
            }),
            Some(InFlight::Buffer) => match &mut connection.body {
                Some(Body::File(Stream { buffer: Some(buffer), .. })) => {
                    buffer.returned();
                    buffer.get_mut().add_sent(sent);
                    sent > 0
                }
                _ => false,
            },
            Some(InFlight::Zero | InFlight::Full | InFlight::Reading) | None => false,
        };
        connection.ledger.sent(sent as u64, &self.metrics, || self.kernel.now());
        match whole {
            true => self.pump(index),
            false => self.close(index),
        }
    }

    /// Goes on with the body; true when nothing of it is left.
    pub(super) fn send_body(&mut self, index: u32) -> io::Result<bool> {
        let mut handed_over = 0;
        loop {
            let connection = &mut self.connections[index as usize];
            let Some(body) = connection.body.take() else { return Ok(true) };
            let (step, body) = match body {
                Body::Arena { lease, at, end, fill, mode } => {
                    self.send_from_arena(index, lease, at..end, fill, mode, &mut handed_over)?
                }
                Body::File(stream) => self.send_from_file(index, stream, &mut handed_over)?,
            };
            let Some(connection) = self.connections.get_mut(index as usize) else { return Ok(false) };
            if connection.ending == Ending::Closing {
                return Ok(false);
            }
            connection.body = body;
            match step {
                Step::Moved if handed_over < limits::TURN_BYTES => {}
                Step::Moved => {
                    // Others get their turn first.
                    self.ready.push((index, connection.generation));
                    return Ok(false);
                }
                Step::Waits => return Ok(false),
                Step::Done => {
                    connection.body = None;
                    if !self.go_on_with_body(index) {
                        return Ok(true);
                    }
                }
                Step::Broken => {
                    self.close(index)?;
                    return Ok(false);
                }
            }
        }
    }

    /// Goes on with the next part of the body; false if none is left. (A small one leaves with the batch at once.)
    fn go_on_with_body(&mut self, index: u32) -> bool {
        while self.connections[index as usize].body.is_none() {
            let Some((lease, part)) = self.connections[index as usize].then.pop_front() else { return false };
            self.answer_from_arena(index, part, lease, None);
        }
        true
    }

    /// The next step of a body from the arena: bytes `range` of the file are left.
    fn send_from_arena(
        &mut self,
        index: u32,
        lease: Lease,
        range: std::ops::Range<u64>,
        mut fill: Option<Arc<Flight>>,
        mut mode: Mode,
        handed_over: &mut u64,
    ) -> io::Result<(Step, Option<Body>)> {
        let (at, end) = (range.start, range.end);
        if at == end {
            return Ok((Step::Done, None));
        }
        if lease.filled() <= at {
            // What is there of the head goes out while the storage is waited for.
            let flushed = self.flush(index, true)?;
            let step = match (&mut fill, flushed) {
                (_, false) => Step::Waits,
                (Some(fill), true) => self.wait_for_bytes(index, fill, at)?,
                (None, true) => Step::Broken,
            };
            return Ok((step, Some(Body::Arena { lease, at, end, fill, mode })));
        }
        let filled = lease.filled().min(end);
        if filled == end {
            fill = None;
        }
        if mode == Mode::Copy {
            let to = filled.min(at + limits::COPY_BYTES as u64);
            let (batch, _) = self.batch(index);
            batch.push_body(lease.clone(), at as usize..to as usize);
            // The last piece may still be joined by the next response.
            if to < end {
                self.flush(index, true)?;
                return Ok((Step::Waits, Some(Body::Arena { lease, at: to, end, fill, mode })));
            }
            return Ok((Step::Done, None));
        }
        if !self.flush(index, true)? {
            return Ok((Step::Waits, Some(Body::Arena { lease, at, end, fill, mode })));
        }
        let connection = &mut self.connections[index as usize];
        if mode == Mode::ZeroCopy && connection.zerocopy_works {
            let len = (filled - at).min(1 << 30) as u32;
            let mut send = ZeroSend::new(lease.clone(), index, connection.generation);
            let bytes = ZeroSend::lend(&mut send, at, len);
            let key = self.zero_sends.insert(send) as u32;
            connection.in_flight = Some(InFlight::Zero);
            connection.operations += 1;
            let op = Op::SendZero { socket: connection.socket, bytes, len };
            self.kernel.submit(op, Token::new(Kind::SendZero, 0, key))?;
            return Ok((Step::Waits, Some(Body::Arena { lease, at, end, fill, mode })));
        }
        let memfd = match lease.reference() {
            Some(memfd) if mode == Mode::Reference => memfd,
            _ => {
                mode = Mode::Copy;
                return Ok((Step::Moved, Some(Body::Arena { lease, at, end, fill, mode })));
            }
        };
        let len = (filled - at).min(limits::TURN_BYTES) as usize;
        if !planted::is(Defect::ReferencedMemoryReused) {
            lease.allocation().mark_referenced();
        }
        match self.kernel.send_file(connection.socket, memfd, lease.offset() + at, len) {
            Ok(0) => Ok((Step::Broken, None)),
            Ok(sent) => {
                self.count_sent(index, sent);
                *handed_over += sent as u64;
                let at = at + if planted::is(Defect::ShortSendWhole) { len } else { sent } as u64;
                if at == end {
                    return Ok((Step::Done, None));
                }
                Ok((Step::Moved, Some(Body::Arena { lease, at, end, fill, mode })))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wait_writable(index)?;
                Ok((Step::Waits, Some(Body::Arena { lease, at, end, fill, mode })))
            }
            Err(_) => Ok((Step::Broken, None)),
        }
    }

    /// Waits until more than the first `at` bytes of the file are there.
    pub(super) fn wait_for_bytes(&mut self, index: u32, fill: &mut Arc<Flight>, at: u64) -> io::Result<Step> {
        let token = Token::new(Kind::Wake, self.connections[index as usize].generation, index);
        loop {
            return Ok(match fill.poll(Some(at), || Waiter::Ring { worker: self.number, message: token.pack() }) {
                None => Step::Waits,
                Some(Progress::Filling(..) | Progress::Fetching(..) | Progress::Arriving(_) | Progress::Ready(_)) => {
                    Step::Moved
                }
                Some(Progress::Deferred(_, file)) if file.is_warm(self.now) => Step::Moved,
                Some(Progress::Deferred(lease, _)) => match self.resume(&lease)? {
                    Some(resumed) => {
                        *fill = resumed;
                        continue;
                    }
                    None if lease.is_whole() => Step::Moved,
                    None => Step::Broken,
                },
                Some(
                    Progress::Opening
                    | Progress::Uncached(..)
                    | Progress::Validated(_)
                    | Progress::Stale(_)
                    | Progress::Passing(_)
                    | Progress::Failed(_),
                ) => Step::Broken,
            });
        }
    }

    pub(super) fn wait_writable(&mut self, index: u32) -> io::Result<()> {
        let connection = &mut self.connections[index as usize];
        connection.in_flight = Some(InFlight::Full);
        connection.operations += 1;
        self.kernel.submit(Op::Writable { socket: connection.socket }, Token::new(Kind::Writable, 0, index))
    }

    /// A zero-copy send's completion, or its notification.
    pub(super) fn sent_zero(&mut self, key: u32, completion: &Completion) -> io::Result<()> {
        let Some(send) = self.zero_sends.get_mut(key as usize) else { return Ok(()) };
        let (index, generation) = (send.connection, send.generation);
        if !completion.more() || planted::is(Defect::ZeroCopyReturnedEarly) {
            // Errors bring a notification too: only the flag says whether one follows.
            send.returned();
            self.zero_sends.remove(key as usize);
        }
        if completion.is_notification() {
            let copied = completion.result & ZC_COPIED != 0;
            self.metrics.zerocopy[if copied { Zerocopy::Copied } else { Zerocopy::Sent }].one();
            return Ok(());
        }
        let connection = &mut self.connections[index as usize];
        debug_assert_eq!(connection.generation, generation, "a connection outlives its operations");
        connection.operations -= 1;
        connection.in_flight = None;
        match completion.result {
            sent @ 1.. => {
                connection.ledger.sent(sent as u64, &self.metrics, || self.kernel.now());
                if let Some(Body::Arena { at, .. }) = &mut connection.body {
                    *at += sent as u64;
                }
            }
            // Not for this kind of socket, or beyond the memory that may be pinned: by copy then.
            error if [-libc::EOPNOTSUPP, -libc::ENOBUFS, -libc::ENOMEM, -libc::EINVAL].contains(&error) => {
                self.metrics.zerocopy[Zerocopy::Failed].one();
                connection.zerocopy_works = false;
                if let Some(Body::Arena { mode, .. }) = &mut connection.body {
                    *mode = Mode::Copy;
                }
            }
            _ => {
                self.metrics.zerocopy[Zerocopy::Failed].one();
                return self.close(index);
            }
        }
        self.pump(index)
    }
}

impl Mode {
    /// The metrics' word for it.
    pub(super) fn label(self) -> Transmit {
        match self {
            Mode::Copy => Transmit::Copy,
            Mode::Reference => Transmit::Reference,
            Mode::ZeroCopy => Transmit::Zerocopy,
        }
    }
}
