//! Requests to responses.

use super::connection::{Body, Ending, Stream, Wait};
use super::deliver::{self, Mode};
use super::overload::Overload;
use super::worker::Worker;
use crate::cache::entry::Lease;
use crate::cache::flight::{Flight, OpenFile};
use crate::exchange::plan::{Plan, Source};
use crate::exchange::{Action, Ask, Exchange, Role, route};
use crate::http::accept::Accept;
use crate::http::cache_status::CacheStatus;
use crate::http::caching::directives;
use crate::http::encoding::Preferred;
use crate::http::host;
use crate::http::request::{self, Fields, HeadLimits, Method, Parsed, Request};
use crate::http::response::{Persistence, Problem};
use crate::http::target::Target;
use crate::limits;
use crate::metrics::labels::Class;
use crate::origin::remote::{Passing, PassingBody};
use crate::planted::{self, Defect};
use crate::ring::kernel::{Kernel, Kind, Token};
use crate::server::access_log::{self, Asked, Record};
use crate::server::fetcher::queue::Fetch;
use crate::server::site::{Circumstances, query_of};
use crate::text;
use crate::wake::Waiter;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What the refusal of a request depends on beside its name.
fn circumstances<'a>(request: &Request<'a>) -> Circumstances<'a> {
    Circumstances { query: query_of(request.target), origin: request.origin }
}

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
                Ending::Lingering { .. } => return Ok(()),
                Ending::Open | Ending::AfterResponses { .. } => {}
            }
            if connection.in_flight.is_some() && !planted::is(Defect::ResponsesOvertake) {
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
        let until = self.now.saturating_add(limits::LINGER_MAX.as_nanos() as u64);
        connection.ending = Ending::Lingering { until, left: limits::LINGER_BYTES };
        connection.received = Vec::new();
        connection.parsed = 0;
        self.kernel.shutdown(connection.socket, std::net::Shutdown::Write);
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
            Parsed::Partial => match self.overload() {
                None => Answer::Waits,
                Some(overload) => {
                    // It would need more memory.
                    self.raise(overload);
                    self.answer_problem(index, &overload.problem(0), None, true);
                    Answer::Given
                }
            },
            Parsed::Bad(why) => {
                self.answer_problem(index, &Problem::of_bad_request(*why, limits.bytes, limits.fields), None, true);
                Answer::Given
            }
            Parsed::Whole(request) => self.answer(index, request)?,
        };
        let connection = &mut self.connections[index as usize];
        if let (Answer::Given, Parsed::Whole(request)) = (answer, &parsed) {
            connection.request_over(request.len);
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
        // Who lacks the token, or takes the server for another, is told so by the control plane.
        let guard = &self.shared.guard;
        if request.wants_control_plane
            || !guard.admits_read(request.authorization)
            || !guard.hosts().admits(host::effective(request.target, request.host))
        {
            return Ok(self.hand_off(index, None));
        }
        if let Some(remote) = self.shared.origin.remote() {
            return match route::read_remote(request.target, remote.is_store()) {
                Ok(route::Remote::Stored(key)) => self.read(index, request, &key, Role::Itself),
                Ok(route::Remote::Reserved(_) | route::Remote::Prefix(_)) => Ok(self.hand_off(index, None)),
                Err(refusal) => {
                    self.answer_problem(index, &refusal.problem(), Some(request), false);
                    Ok(Answer::Given)
                }
            };
        }
        match route::read(request.target, self.shared.origin.policy()) {
            Ok(Target::File(name)) => self.read(index, request, &name, Role::Itself),
            Ok(Target::Directory(name)) => match self.shared.indexes().of(&name, Accept(request.accept)) {
                Some((name, role)) => self.read(index, request, name.bytes(), role),
                None => Ok(self.hand_off(index, None)),
            },
            Ok(Target::Reserved(_)) => Ok(self.hand_off(index, None)),
            Err(refusal) => {
                let problem = self.shared.site.said().answer(&refusal, circumstances(request));
                self.answer_problem(index, &problem, Some(request), false);
                Ok(Answer::Given)
            }
        }
    }

    /// Answers the oldest request with the file `name`.
    fn read(&mut self, index: u32, request: &Request<'_>, name: &[u8], role: Role) -> io::Result<Answer> {
        let negotiates = self.shared.options.precompressed;
        let preferred = negotiates.then(|| Preferred::of(request.accept_encoding));
        let Request { method, conditions, origin, .. } = request;
        let wish = directives::wish(request.cache_control, request.pragma);
        let fields = Fields::Head(request.head);
        let ask = Ask { method: *method, name, role, conditions, preferred, origin: *origin, fields, wish };
        let connection = &mut self.connections[index as usize];
        match std::mem::replace(&mut connection.wait, Wait::None) {
            Wait::None => self.advance(index, request, &ask, Exchange::default()),
            Wait::Exchange(exchange) => self.advance(index, request, &ask, exchange),
            // Woken for another reason.
            Wait::Handoff(passing) => Ok(self.hand_off(index, passing)),
        }
    }

    /// Goes on with the exchange of the oldest request as far as it can.
    fn advance(
        &mut self,
        index: u32,
        request: &Request<'_>,
        ask: &Ask<'_>,
        mut exchange: Exchange,
    ) -> io::Result<Answer> {
        let token = Token::new(Kind::Wake, self.connections[index as usize].generation, index);
        let worker = self.number;
        let setting = self.shared.options.transmit;
        let refers = move |file: &OpenFile, lease: &Lease| deliver::refers_to(setting, file, lease);
        loop {
            let terms = self.shared.terms(&self.touch, self.now, Some(&refers));
            match exchange.advance(&terms, ask, || Waiter::Ring { worker, message: token.pack() }) {
                Action::Wait => {
                    self.wait_for(index, request, exchange);
                    return Ok(Answer::Waits);
                }
                Action::Check(lease) => {
                    self.wait_for(index, request, exchange);
                    self.begin_check(lease, Some(index))?;
                    return Ok(Answer::Waits);
                }
                Action::Refresh(lease) => self.begin_check(lease, None)?,
                Action::Fill(fill) => {
                    tracing::debug!("worker {worker}: connection {index} has {} read", text::escape(fill.name()));
                    match self.shared.fetcher() {
                        None => self.begin_fill(fill)?,
                        Some(fetcher) => {
                            let peer = self.kernel.peer(self.connections[index as usize].socket);
                            let waiters = fetcher.fetch(Fetch::new(fill, ask, Some(peer)));
                            self.wake_all(waiters)?;
                        }
                    }
                }
                // Slices that have to be fetched come one after the other, which the control plane waits for.
                Action::Deliver(Plan { source: Source::Slices { held, .. }, body, parts, .. })
                    if held.is_empty() && (!body.is_empty() || parts.is_some()) =>
                {
                    return Ok(self.hand_off(index, None));
                }
                Action::Deliver(plan) => {
                    tracing::trace!(
                        "worker {worker}: connection {index}: {} {} {}",
                        text::escape(ask.name),
                        plan.head().status(),
                        plan.cache_status.text()
                    );
                    self.deliver(index, request, plan);
                    return Ok(Answer::Given);
                }
                Action::Refuse(refusal) => {
                    let said = self.shared.site.said();
                    if said.may_fall_back(&refusal) && exchange.fall_back(&terms, ask) {
                        continue;
                    }
                    let problem = said.answer(&refusal, circumstances(request));
                    self.answer_problem(index, &problem, Some(request), false);
                    self.record_miss(index);
                    return Ok(Answer::Given);
                }
                Action::Directory => return Ok(self.hand_off(index, None)),
                Action::PassOn(passing) => return Ok(self.hand_off(index, passing)),
            }
        }
    }

    fn wait_for(&mut self, index: u32, request: &Request<'_>, exchange: Exchange) {
        if self.connections[index as usize].record.is_none() {
            let record = self.begin_record(index, Some(request));
            self.connections[index as usize].record = Some(record);
        }
        let connection = &mut self.connections[index as usize];
        if connection.started == 0 {
            connection.started = self.now;
        }
        connection.wait = Wait::Exchange(exchange);
    }

    /// Has the connection leave for the control plane, where requests need more memory than here.
    fn hand_off(&mut self, index: u32, passing: Option<Arc<Passing>>) -> Answer {
        if let Some(overload) = self.overload() {
            self.raise(overload);
            self.answer_problem(index, &overload.problem(0), None, true);
            return Answer::Given;
        }
        let connection = &mut self.connections[index as usize];
        if let Some(record) = connection.record.take() {
            record.cancel();
        }
        connection.wait = Wait::Handoff(passing);
        Answer::Waits
    }

    fn record_miss(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        // What is answered without waiting began in this turn.
        let started = match std::mem::replace(&mut connection.started, 0) {
            0 => self.now,
            started => started,
        };
        self.metrics.miss_latency.record(self.kernel.now().saturating_sub(started));
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
        let before = batch.len();
        problem.write(batch.text(), with_body, date, persistence);
        batch.count_response();
        let bytes = (batch.len() - before) as u64;
        self.metrics.answered(Class::Other, problem.status);
        let body = if with_body { problem.body_bytes() as u64 } else { 0 };
        let record = self.record(index, request, problem.status, problem.cache_status);
        self.owe(index, bytes - body, body, Class::Other, record);
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

    /// Sends what the plan says: its head now, its body with it or as it can be had.
    fn deliver(&mut self, index: u32, request: &Request<'_>, plan: Plan) {
        self.write_head(index, request, &plan);
        match Class::of(plan.cache_status) {
            Class::Hit | Class::HitRevalidated => self.hits += 1,
            class => {
                if class == Class::MissCollapsed {
                    self.metrics.collapsed_waiters.one();
                }
                self.record_miss(index);
            }
        }
        if planted::is(Defect::HeadWithBody) && request.method == Method::Head {
            let size = plan.source.described().map_or(0, |described| described.version.size);
            if let Source::Arena { lease, fill } = plan.source {
                self.answer_from_arena(index, 0..size, lease, fill);
            }
            return;
        }
        if plan.body.is_empty() {
            return;
        }
        match plan.source {
            Source::Arena { lease, fill } => self.answer_from_arena(index, plan.body, lease, fill),
            Source::File { file, fill } => self.answer_from_file(index, plan.body, file, fill),
            Source::Slices { head, held } => self.answer_from_slices(index, plan.body, &head, held),
            Source::Passing(passing) => {
                if let PassingBody::Whole(bytes) = &passing.body {
                    let range = plan.body.start as usize..plan.body.end as usize;
                    self.batch(index).0.text().extend_from_slice(bytes.get(range).unwrap_or_default());
                }
            }
        }
    }

    fn write_head(&mut self, index: u32, request: &Request<'_>, plan: &Plan) {
        let persistence = self.persistence(request);
        if let Some(modified) = plan.representation().modified_seconds() {
            self.date.reach(modified);
        }
        let (batch, date) = self.batch(index);
        let before = batch.len();
        let described = plan.head();
        described.write(batch.text(), date, persistence);
        batch.count_response();
        let head = (batch.len() - before) as u64;
        let (class, status) = (Class::of(plan.cache_status), described.status());
        self.metrics.answered(class, status);
        let record = self.record(index, Some(request), status, Some(plan.cache_status));
        self.owe(index, head, plan.body_bytes(), class, record);
    }

    /// The connection owes a response of so many bytes.
    fn owe(&mut self, index: u32, head: u64, body: u64, class: Class, record: Record) {
        let ledger = &mut self.connections[index as usize].ledger;
        if !ledger.has_memory() {
            *ledger = self.spares.ledgers.pop().unwrap_or_default();
        }
        ledger.begin(head, body, class, record);
    }

    /// The log record of the oldest request, which is answered with this status.
    fn record(
        &mut self,
        index: u32,
        request: Option<&Request<'_>>,
        status: u16,
        cache_status: Option<CacheStatus>,
    ) -> Record {
        let waited = self.connections[index as usize].record.take();
        let mut record = waited.unwrap_or_else(|| self.begin_record(index, request));
        record.answered(status, cache_status);
        record
    }

    fn begin_record(&self, index: u32, request: Option<&Request<'_>>) -> Record {
        self.shared.access_log.begin(self.now, || Asked {
            peer: self.kernel.peer(self.connections[index as usize].socket),
            request: request.map(|request| access_log::Request {
                method: if request.method == Method::Head { "HEAD" } else { "GET" },
                target: request.target,
                protocol: if request.is_11 { "HTTP/1.1" } else { "HTTP/1.0" },
                referer: request.referer,
                user_agent: request.user_agent,
            }),
        })
    }

    pub(super) fn answer_from_arena(&mut self, index: u32, body: Range<u64>, lease: Lease, fill: Option<Arc<Flight>>) {
        let zerocopy_works = self.connections[index as usize].zerocopy_works;
        let mode = deliver::choose(self.shared.options.transmit, &lease, fill.is_some(), zerocopy_works);
        let len = body.end - body.start;
        self.count_transmit(mode, len);
        let fits = mode == Mode::Copy && len <= limits::BATCH_BYTES as u64;
        if fits && lease.filled() >= body.end {
            let (batch, _) = self.batch(index);
            batch.push_body(lease, body.start as usize..body.end as usize);
        } else {
            let fill = fill.filter(|_| !lease.is_whole());
            self.connections[index as usize].body =
                Some(Body::Arena { lease, at: body.start, end: body.end, fill, mode });
        }
    }

    /// Answers from slices of an object that have all of these bytes of it.
    fn answer_from_slices(&mut self, index: u32, body: Range<u64>, head: &Lease, held: Vec<Lease>) {
        let Some(stored) = head.stored() else { return };
        let mut at = body.start;
        for lease in held {
            let Some(slice) = stored.slice_of(at) else { return };
            let part = at - slice.range.start..body.end.min(slice.range.end) - slice.range.start;
            at = slice.range.end;
            match self.connections[index as usize].body {
                None => self.answer_from_arena(index, part, lease, None),
                Some(_) => self.connections[index as usize].then.push_back((lease, part)),
            }
        }
    }

    /// Answers from the open file; with a `fill`, which reads it into the arena meanwhile.
    fn answer_from_file(
        &mut self,
        index: u32,
        body: Range<u64>,
        file: Arc<OpenFile>,
        fill: Option<(Lease, Arc<Flight>)>,
    ) {
        if fill.is_some() {
            self.count_transmit(Mode::Reference, body.end - body.start);
        }
        let stream = Stream::new(file, fill, body);
        self.connections[index as usize].body = Some(Body::File(stream));
    }

    /// A body of `len` bytes leaves in this mode.
    fn count_transmit(&self, mode: Mode, len: u64) {
        self.metrics.transmit_responses[mode.label()].one();
        self.metrics.transmit_bytes[mode.label()].add(len);
    }

    /// One connection too many: an answer, and the end.
    pub(super) fn refuse(&mut self, index: u32, overload: Overload) -> io::Result<()> {
        self.raise(overload);
        let problem = overload.problem(self.shared.connections.limit());
        self.answer_problem(index, &problem, None, true);
        self.pump(index)
    }

    /// The head did not come in time.
    pub(super) fn time_out_head(&mut self, index: u32) -> io::Result<()> {
        let time = self.shared.options.header_timeout;
        let problem = Problem::of_late_head(time);
        self.answer_problem(index, &problem, None, true);
        self.pump(index)
    }
}
