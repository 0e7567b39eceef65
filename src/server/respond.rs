//! Requests to responses.

use super::access_log::Served;
use super::connection::{Body, Checked, Ending, Filling, Patience, Stream, Wait};
use super::worker::Worker;
use crate::cache::entry::Lease;
use crate::cache::fill::{Failure, Fill, OpenFile, Progress, Waiter};
use crate::cache::{Found, count_hit};
use crate::http::cache_status::{CacheStatus, Forward, Reason};
use crate::http::conditional::Verdict;
use crate::http::representation::Representation;
use crate::http::request::{self, HeadLimits, Method, Parsed, Request};
use crate::http::response::{Content, Persistence, Problem, write_file_head};
use crate::http::target::{Malformed, Target};
use crate::limits;
use crate::metrics::labels::Class;
use crate::origin::staging;
use crate::ring::kernel::{Kernel, Kind, Token};
use crate::transmit::{self, Mode};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What became of the oldest request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Answered, or its answer is on its way.
    Given,
    /// It waits for something.
    Waits,
}

impl<K: Kernel> Worker<K> {
    /// Goes on with a connection as far as it can: sends what is ready, answers what was asked.
    pub(super) fn pump(&mut self, index: u32) -> io::Result<()> {
        loop {
            let Some(connection) = self.connections.get(index as usize) else { return Ok(()) };
            match connection.ending {
                Ending::Closing => {
                    self.remove_if_over(index);
                    return Ok(());
                }
                Ending::Lingering => return Ok(()),
                Ending::Open | Ending::AfterResponses { .. } => {}
            }
            if connection.in_flight.is_some() {
                break;
            }
            if connection.body.is_some() {
                if self.send_body(index)? {
                    continue;
                }
                break;
            }
            // An ending that was decided by a response comes after it; one decided by the drain, after those under way.
            let waits = !matches!(connection.wait, Wait::None);
            if let Ending::AfterResponses { linger } = connection.ending
                && !waits
            {
                if self.flush(index, false)? {
                    return self.end(index, linger);
                }
                break;
            }
            if connection.batch.as_ref().is_some_and(|batch| batch.is_full()) {
                self.flush(index, false)?;
                break;
            }
            if !self.answer_next(index)? {
                self.flush(index, false)?;
                break;
            }
        }
        self.settle(index)
    }

    /// All responses are handed over: the connection ends from this side.
    fn end(&mut self, index: u32, linger: bool) -> io::Result<()> {
        let connection = &mut self.connections[index as usize];
        if !linger && connection.unparsed().is_empty() {
            return self.close(index);
        }
        connection.ending = Ending::Lingering;
        connection.received.clear();
        connection.parsed = 0;
        self.kernel.shutdown(connection.socket, std::net::Shutdown::Write);
        self.set_patience(index, Patience::Linger);
        self.settle(index)
    }

    /// Answers the oldest request; false if there is none, or it waits.
    fn answer_next(&mut self, index: u32) -> io::Result<bool> {
        let limits = self.head_limits();
        let connection = &mut self.connections[index as usize];
        // Blank lines before a request are passed over (RFC 9112, 2.2).
        connection.parsed += connection.unparsed().iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if connection.unparsed().is_empty() {
            return Ok(false);
        }
        // Out of its place while it is borrowed from.
        let received = std::mem::take(&mut connection.received);
        let parsed = request::parse(&received[connection.parsed..], limits);
        let answer = match &parsed {
            Parsed::Partial => Answer::Waits,
            Parsed::Bad(why) => {
                self.answer_problem(index, &Problem::of_bad_request(*why, limits.bytes, limits.fields), None, true);
                Answer::Given
            }
            Parsed::Whole(request) => self.answer(index, request)?,
        };
        let connection = &mut self.connections[index as usize];
        if let (Answer::Given, Parsed::Whole(request)) = (answer, &parsed) {
            connection.parsed += request.len;
            if !request.keep_alive && connection.ending == Ending::Open {
                connection.ending = Ending::AfterResponses { linger: false };
            }
        }
        connection.received = received;
        Ok(answer == Answer::Given)
    }

    fn head_limits(&self) -> HeadLimits {
        HeadLimits { bytes: self.shared.options.max_head_bytes, fields: self.shared.options.max_headers }
    }

    fn answer(&mut self, index: u32, request: &Request<'_>) -> io::Result<Answer> {
        // Who lacks the token is told so by the full lane.
        if request.wants_full_lane || !self.shared.guard.admits_read(request.authorization) {
            return Ok(self.hand_off(index));
        }
        let name = match Target::parse(request.target) {
            Ok(Target::File(name)) if staging::is_hidden(&name) => return Ok(self.hand_off(index)),
            Ok(Target::File(name)) => name,
            Ok(Target::Directory(_) | Target::Reserved(_)) => return Ok(self.hand_off(index)),
            Err(why) => {
                let status = if why == Malformed::TooLong { 414 } else { 400 };
                self.answer_problem(index, &Problem::new(status, why.to_string()), Some(request), false);
                return Ok(Answer::Given);
            }
        };
        let connection = &mut self.connections[index as usize];
        match std::mem::replace(&mut connection.wait, Wait::None) {
            Wait::None => self.look_up(index, request, &name, Forward::UriMiss),
            Wait::Check { lease, verdict: Some(Checked::Current) } => {
                self.answer_hit(index, request, lease, Class::HitRevalidated)
            }
            Wait::Check { verdict: Some(Checked::Stale), .. } => self.look_up(index, request, &name, Forward::Stale),
            Wait::Fill(filling) => self.follow(index, request, &name, filling),
            // Woken for another reason.
            wait @ (Wait::Check { verdict: None, .. } | Wait::Handoff) => {
                connection.wait = wait;
                Ok(Answer::Waits)
            }
        }
    }

    fn hand_off(&mut self, index: u32) -> Answer {
        self.connections[index as usize].wait = Wait::Handoff;
        Answer::Waits
    }

    fn look_up(&mut self, index: u32, request: &Request<'_>, name: &[u8], forward: Forward) -> io::Result<Answer> {
        if request.method == Method::Head {
            return match self.shared.cache.get(name) {
                Some(lease) => self.look_at(index, request, lease),
                None => {
                    let fill = self.shared.cache.aside(name, Reason::HeadOnly);
                    self.follow_own(index, request, name, fill, forward)
                }
            };
        }
        match self.shared.cache.find(name) {
            Found::Cached(lease) => self.look_at(index, request, lease),
            Found::Filling(fill) => {
                self.metrics.collapsed_waiters.one();
                self.follow(index, request, name, Filling { fill, collapsed: true, forward })
            }
            Found::Begun(fill) => self.follow_own(index, request, name, fill, forward),
        }
    }

    /// What is cached is answered at once if it was found current lately, and else after a look at the disk.
    fn look_at(&mut self, index: u32, request: &Request<'_>, lease: Lease) -> io::Result<Answer> {
        let age = self.now.saturating_sub(lease.checked());
        let interval = self.shared.options.revalidate.as_nanos() as u64;
        if age > interval || interval == 0 {
            self.connections[index as usize].wait = Wait::Check { lease: lease.clone(), verdict: None };
            self.begin_check(lease, Some(index))?;
            return Ok(Answer::Waits);
        }
        // In the second half of the interval it is looked at beside, so that what is asked for often never waits.
        if age > interval / 2 && lease.begin_check() {
            self.begin_check(lease.clone(), None)?;
        }
        self.answer_hit(index, request, lease, Class::Hit)
    }

    fn answer_hit(&mut self, index: u32, request: &Request<'_>, lease: Lease, class: Class) -> io::Result<Answer> {
        if !lease.is_whole() && request.method == Method::Get {
            return self.answer_deferred(index, request, lease, class);
        }
        count_hit(&self.touch, &lease);
        self.hits += 1;
        self.answer_from_arena(index, request, lease, None, CacheStatus::Hit, class);
        Ok(Answer::Given)
    }

    /// A hit on a file that is cached without its bytes: it is read now, and sent from the page cache meanwhile.
    fn answer_deferred(&mut self, index: u32, request: &Request<'_>, lease: Lease, class: Class) -> io::Result<Answer> {
        let Some(fill) = self.resume(&lease)? else {
            // Whole by now; or the reading has failed, and with it the entry has left the cache.
            return match lease.is_whole() {
                true => self.answer_hit(index, request, lease, class),
                false => self.look_up(index, request, lease.name(), Forward::Stale),
            };
        };
        count_hit(&self.touch, &lease);
        self.hits += 1;
        match fill.reading() {
            Some((_, file)) => {
                self.answer_from_file(index, request, file, Some((lease, fill)), CacheStatus::Hit, class);
            }
            None => self.answer_from_arena(index, request, lease, Some(fill), CacheStatus::Hit, class),
        }
        Ok(Answer::Given)
    }

    fn follow_own(
        &mut self,
        index: u32,
        request: &Request<'_>,
        name: &[u8],
        fill: Arc<Fill>,
        forward: Forward,
    ) -> io::Result<Answer> {
        self.begin_fill(fill.clone())?;
        self.follow(index, request, name, Filling { fill, collapsed: false, forward })
    }

    /// Answers from a fill once it is known what the file is.
    fn follow(&mut self, index: u32, request: &Request<'_>, name: &[u8], filling: Filling) -> io::Result<Answer> {
        let connection = &mut self.connections[index as usize];
        if connection.started == 0 {
            connection.started = self.now;
        }
        let token = Token::new(Kind::Wake, connection.generation, index);
        let waiter = || Waiter::Connection { worker: self.number, token };
        let Some(progress) = filling.fill.poll(None, waiter) else {
            connection.wait = Wait::Fill(filling);
            return Ok(Answer::Waits);
        };
        let Filling { fill, collapsed, forward } = filling;
        let setting = self.shared.options.transmit;
        let status = match collapsed {
            true => CacheStatus::Collapsed { forward },
            false => CacheStatus::Stored { forward },
        };
        match progress {
            Progress::Opening => unreachable!("a fill that is being opened is no news"),
            // Who had the file read can have it from the page cache at once; the arena is filled beside.
            Progress::Filling(lease, file) if !collapsed && transmit::refers_to(setting, &file, &lease) => {
                self.answer_from_file(index, request, file, Some((lease, fill)), status, Class::of(status));
            }
            // What the page cache has of it already is sent from there, to all who ask.
            Progress::Fetching(lease, file) => {
                self.answer_from_file(index, request, file, Some((lease, fill)), status, Class::of(status));
            }
            Progress::Deferred(lease, file) => {
                // Who joined another's fill is the second to ask.
                let fill = if collapsed { self.resume(&lease)?.unwrap_or(fill) } else { fill };
                self.answer_from_file(index, request, file, Some((lease, fill)), status, Class::of(status));
            }
            Progress::Filling(lease, _) | Progress::Ready(lease) => {
                self.answer_from_arena(index, request, lease, Some(fill), status, Class::of(status));
            }
            Progress::Uncached(file, reason) => {
                let status = CacheStatus::Uncached { forward, reason };
                self.answer_from_file(index, request, file, None, status, Class::of(status));
            }
            // Once more, past the cache: a file that is being written can still be read.
            Progress::Failed(Failure::Changed) if fill.aside().is_none() => {
                let fill = self.shared.cache.aside(name, Reason::Changed);
                return self.follow_own(index, request, name, fill, forward);
            }
            Progress::Failed(Failure::IsDirectory) => return Ok(self.hand_off(index)),
            Progress::Failed(failure) => self.answer_failure(index, request, name, failure, forward),
        }
        self.record_miss(index);
        Ok(Answer::Given)
    }

    fn record_miss(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        let started = std::mem::replace(&mut connection.started, 0);
        self.metrics.miss_latency.record(self.kernel.now().saturating_sub(started));
    }

    fn answer_failure(&mut self, index: u32, request: &Request<'_>, name: &[u8], failure: Failure, forward: Forward) {
        let name = String::from_utf8_lossy(name);
        let mut problem = match failure {
            Failure::NotFound | Failure::IsDirectory => Problem::new(404, format!("no such file: {name}")),
            Failure::Forbidden => Problem::new(403, format!("not a file that may be read: {name}")),
            Failure::Changed => Problem::new(503, format!("the file changes faster than it can be read: {name}")),
            Failure::Io(errno) => {
                let cause = io::Error::from_raw_os_error(errno);
                Problem::new(500, format!("the file cannot be read: {name}: {cause}"))
            }
        };
        problem.cache_status =
            Some(CacheStatus::Uncached { forward, reason: Reason::NotFound }).filter(|_| failure == Failure::NotFound);
        self.answer_problem(index, &problem, Some(request), false);
    }

    /// A short text instead of a file. Without a request it also ends the connection.
    pub(super) fn answer_problem(
        &mut self,
        index: u32,
        problem: &Problem,
        request: Option<&Request<'_>>,
        linger: bool,
    ) {
        let persistence = match request {
            Some(request) => self.persistence(request),
            None => Persistence::Close,
        };
        let with_body = request.is_none_or(|request| request.method != Method::Head);
        let (batch, date) = self.batch(index);
        problem.write(batch.text(), with_body, date, persistence);
        batch.count_response();
        self.metrics.answered(Class::Other, problem.status);
        if let Some(request) = request {
            let body_bytes = if with_body { problem.text.len() as u64 + 1 } else { 0 };
            self.log(index, request, problem.status, body_bytes, problem.cache_status);
        }
        if request.is_none() {
            self.connections[index as usize].ending = Ending::AfterResponses { linger };
        }
    }

    fn persistence(&self, request: &Request<'_>) -> Persistence {
        match (request.keep_alive && !self.is_draining(), request.is_11) {
            (true, true) => Persistence::KeepAlive,
            (true, false) => Persistence::KeepAliveSaid,
            (false, _) => Persistence::Close,
        }
    }

    /// Writes the head; returns the range of the body that follows it.
    fn write_head(
        &mut self,
        index: u32,
        request: &Request<'_>,
        representation: &Representation,
        status: CacheStatus,
        class: Class,
    ) -> std::ops::Range<u64> {
        let size = representation.identity.size;
        let (content, range, code) = match request.conditions.evaluate(representation) {
            Verdict::Whole => (Content::Whole, 0..size, 200),
            Verdict::Part { from, to } => (Content::Part { from, to }, from..to, 206),
            Verdict::NotModified => (Content::NotModified, 0..0, 304),
            Verdict::Failed => (Content::Failed, 0..0, 412),
            Verdict::Unsatisfiable => (Content::Unsatisfiable, 0..0, 416),
        };
        let persistence = self.persistence(request);
        let (batch, date) = self.batch(index);
        write_file_head(batch.text(), content, representation, status, date, persistence);
        batch.count_response();
        let range = if request.method == Method::Head { 0..0 } else { range };
        self.metrics.answered(class, code);
        self.metrics.body_bytes[class].add(range.end - range.start);
        self.log(index, request, code, range.end - range.start, Some(status));
        range
    }

    /// A line of the access log, if there is one. It says what the response will have been when its body has been sent.
    fn log(&self, index: u32, request: &Request<'_>, status: u16, body_bytes: u64, cache_status: Option<CacheStatus>) {
        if !self.shared.access_log.is_on() {
            return;
        }
        let connection = &self.connections[index as usize];
        let started = if connection.started == 0 { self.now } else { connection.started };
        self.shared.access_log.record(&Served {
            peer: self.kernel.peer(connection.socket),
            method: if request.method == Method::Head { "HEAD" } else { "GET" },
            target: request.target,
            protocol: if request.is_11 { "HTTP/1.1" } else { "HTTP/1.0" },
            status,
            body_bytes,
            referer: request.referer,
            user_agent: request.user_agent,
            cache_status,
            elapsed: Duration::from_nanos(self.kernel.now().saturating_sub(started)),
        });
    }

    fn answer_from_arena(
        &mut self,
        index: u32,
        request: &Request<'_>,
        lease: Lease,
        fill: Option<Arc<Fill>>,
        status: CacheStatus,
        class: Class,
    ) {
        let range = self.write_head(index, request, lease.representation(), status, class);
        if range.is_empty() {
            return;
        }
        let zerocopy_works = self.connections[index as usize].zerocopy_works;
        let mode = transmit::choose(self.shared.options.transmit, &lease, fill.is_some(), zerocopy_works);
        let len = range.end - range.start;
        self.count_transmit(mode, len);
        let fits = mode == Mode::Copy && len <= limits::BATCH_BYTES as u64;
        if fits && lease.filled() >= range.end {
            let (batch, _) = self.batch(index);
            batch.push_body(lease, range.start as usize..range.end as usize);
        } else {
            let fill = fill.filter(|_| !lease.is_whole());
            self.connections[index as usize].body =
                Some(Body::Arena { lease, at: range.start, end: range.end, fill, mode });
        }
    }

    /// Answers from the open file; with a `fill`, which reads it into the arena meanwhile.
    fn answer_from_file(
        &mut self,
        index: u32,
        request: &Request<'_>,
        file: Arc<OpenFile>,
        fill: Option<(Lease, Arc<Fill>)>,
        status: CacheStatus,
        class: Class,
    ) {
        let range = self.write_head(index, request, &file.representation, status, class);
        if !range.is_empty() {
            if fill.is_some() {
                self.count_transmit(Mode::Reference, range.end - range.start);
            }
            let stream =
                Stream { file, fill, at: range.start, end: range.end, warm_until: 0, cold_until: 0, buffer: None };
            self.connections[index as usize].body = Some(Body::File(stream));
        }
    }

    /// A body of `len` bytes leaves in this mode.
    fn count_transmit(&self, mode: Mode, len: u64) {
        self.metrics.transmit_responses[mode.label()].one();
        self.metrics.transmit_bytes[mode.label()].add(len);
    }

    /// One connection too many: an answer, and the end.
    pub(super) fn refuse(&mut self, index: u32) -> io::Result<()> {
        let limit = self.shared.options.max_connections;
        let mut problem = Problem::new(503, format!("all {limit} connections are in use; try again"));
        problem.field = Some("Retry-After: 1\r\n".into());
        self.answer_problem(index, &problem, None, true);
        self.pump(index)
    }

    /// The head did not come in time.
    pub(super) fn time_out_head(&mut self, index: u32) -> io::Result<()> {
        let time = self.shared.options.header_timeout;
        let problem = Problem::new(408, format!("the request head was not whole after {time:?}"));
        self.answer_problem(index, &problem, None, true);
        self.pump(index)
    }
}
