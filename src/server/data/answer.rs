//! Requests to responses.

use super::body::Body;
use super::connection::{Ending, Wait};
use super::deliver::{self, Mode};
use super::overload::Overload;
use super::resident::Resident;
use super::serving::Serving;
use super::stream::Stream;
use crate::cache::entry::Lease;
use crate::cache::flight::{Flight, OpenFile};
use crate::exchange::plan::{Plan, Source};
use crate::exchange::revalidate::Checked;
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
use crate::ring::kernel::{Kernel, Kind};
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

impl<K: Kernel> Serving<'_, K> {
    /// The connection is new.
    pub fn begin(&mut self) -> io::Result<()> {
        self.arm_receive()?;
        self.renew_deadline();
        Ok(())
    }

    /// Answers the oldest request; false if there is none, or it waits.
    pub fn answer_next(&mut self) -> io::Result<bool> {
        let limits = self.head_limits();
        let connection = &mut *self.connection;
        // Blank lines before a request are passed over (RFC 9112, 2.2).
        connection.parsed += connection.unparsed().iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if connection.unparsed().is_empty() {
            return Ok(false);
        }
        // Out of its place while it is borrowed from.
        let received = std::mem::take(&mut connection.received);
        let parsed = request::parse(&received[connection.parsed..], limits);
        let answer = match &parsed {
            Parsed::Partial => match self.io.overload() {
                None => Answer::Waits,
                Some(overload) => {
                    // It would need more memory.
                    self.io.raise(overload);
                    self.answer_problem(&overload.problem(0), None);
                    Answer::Given
                }
            },
            Parsed::Bad(why) => {
                self.answer_problem(&Problem::of_bad_request(*why, limits.bytes, limits.fields), None);
                Answer::Given
            }
            Parsed::Whole(request) => self.answer(request)?,
        };
        let connection = &mut *self.connection;
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
        HeadLimits { bytes: self.io.shared.options.max_head_bytes, fields: self.io.shared.options.max_headers }
    }

    fn answer(&mut self, request: &Request<'_>) -> io::Result<Answer> {
        // Who lacks the token, or takes the server for another, is told so by the control plane.
        let guard = &self.io.shared.guard;
        let may_read = guard.admits_read(request.authorization);
        let is_meant = guard.hosts().admits(host::effective(request.target, request.host));
        if request.is_preflight && is_meant && self.answer_preflight(request) {
            return Ok(Answer::Given);
        }
        if request.wants_control_plane || !is_meant || !may_read {
            return Ok(self.hand_off(None));
        }
        if let Some(remote) = self.io.shared.origin.remote() {
            return match route::read_remote(request.target, remote.is_store()) {
                Ok(route::Remote::Stored(key)) => self.read(request, &key, Role::Itself),
                Ok(route::Remote::Prefix(name)) => match self.io.shared.indexes().of(&name, Accept(request.accept)) {
                    Some((index, role)) => self.read(request, &route::object(index.bytes()), role),
                    None => Ok(self.hand_off(None)),
                },
                Ok(route::Remote::Reserved(_)) => Ok(self.hand_off(None)),
                Err(refusal) => {
                    self.answer_problem(&refusal.problem(), Some(request));
                    Ok(Answer::Given)
                }
            };
        }
        match route::read(request.target, self.io.shared.origin.policy()) {
            Ok(Target::File(name)) => self.read(request, &name, Role::Itself),
            Ok(Target::Directory(name)) => match self.io.shared.indexes().of(&name, Accept(request.accept)) {
                Some((name, role)) => self.read(request, name.bytes(), role),
                None => Ok(self.hand_off(None)),
            },
            Ok(Target::Reserved(_)) => Ok(self.hand_off(None)),
            Err(refusal) => {
                let problem = self.io.shared.site.said().answer(&refusal, circumstances(request));
                self.answer_problem(&problem, Some(request));
                Ok(Answer::Given)
            }
        }
    }

    /// Answers by the rules whether pages of another origin may ask for the target; false where the rules have no
    /// say in it.
    fn answer_preflight(&mut self, request: &Request<'_>) -> bool {
        if self.io.shared.origin.remote().is_some() {
            return false;
        }
        let Ok(Target::File(name) | Target::Directory(name)) = Target::parse(request.target) else { return false };
        let problem = self.io.shared.site.said().preflight(&name, request.origin);
        self.answer_problem(&problem, Some(request));
        true
    }

    /// Answers the oldest request with the file `name`.
    fn read(&mut self, request: &Request<'_>, name: &[u8], role: Role) -> io::Result<Answer> {
        let negotiates = self.io.shared.options.precompressed;
        let preferred = negotiates.then(|| Preferred::of(request.accept_encoding));
        let Request { method, conditions, origin, .. } = request;
        let wish = directives::wish(request.cache_control, request.pragma);
        let fields = Fields::Head(request.head);
        let ask = Ask { method: *method, name, role, conditions, preferred, origin: *origin, fields, wish };
        let connection = &mut *self.connection;
        match std::mem::replace(&mut connection.wait, Wait::None) {
            Wait::None => self.advance(request, &ask, Exchange::default()),
            Wait::Exchange(exchange) => self.advance(request, &ask, exchange),
            // Woken for another reason.
            Wait::Handoff(passing) => Ok(self.hand_off(passing)),
        }
    }

    /// Goes on with the exchange of the oldest request as far as it can.
    fn advance(&mut self, request: &Request<'_>, ask: &Ask<'_>, mut exchange: Exchange) -> io::Result<Answer> {
        let (id, worker) = (self.id, self.io.number);
        let setting = self.io.shared.options.transmit;
        let refers = move |file: &OpenFile, lease: &Lease| deliver::refers_to(setting, file, lease);
        loop {
            let terms = self.io.shared.terms(&self.io.touch, self.io.now, Some(&refers));
            match exchange.advance(&terms, ask, || Waiter::Ring { worker, message: id.token(Kind::Wake).pack() }) {
                Action::Wait => {
                    self.wait_for(request, exchange);
                    return Ok(Answer::Waits);
                }
                Action::Check(lease) => {
                    if let Some(checked) = self.checks.begin(self.io, lease, Some(id))? {
                        exchange.checked(checked);
                        continue;
                    }
                    self.wait_for(request, exchange);
                    return Ok(Answer::Waits);
                }
                Action::Refresh(lease) => drop(self.checks.begin(self.io, lease, None)?),
                Action::Fill(fill) => {
                    tracing::debug!("worker {worker}: connection {id} has {} read", text::escape(fill.name()));
                    match self.io.shared.fetcher() {
                        None => self.fetches.begin(self.io, fill)?,
                        Some(fetcher) => {
                            let peer = self.io.kernel.peer(self.connection.out.socket);
                            let waiters = fetcher.fetch(Fetch::new(fill, ask, Some(peer)));
                            self.io.wake(waiters)?;
                        }
                    }
                }
                Action::Inform(head) => self.inform(request, &head),
                Action::Deliver(plan) => {
                    if let Some(passing) = self.left_to_control_plane(request, &plan) {
                        return Ok(self.hand_off(passing));
                    }
                    tracing::trace!(
                        "worker {worker}: connection {id}: {} {} {}",
                        text::escape(ask.name),
                        plan.head().status(),
                        plan.cache_status.text()
                    );
                    self.deliver(request, plan);
                    return Ok(Answer::Given);
                }
                Action::Refuse(refusal) => {
                    let said = self.io.shared.site.said();
                    if said.may_fall_back(&refusal) && exchange.fall_back(&terms) {
                        continue;
                    }
                    let problem = said.answer(&refusal, circumstances(request));
                    self.answer_problem(&problem, Some(request));
                    self.record_miss();
                    return Ok(Answer::Given);
                }
                Action::Directory => return Ok(self.hand_off(None)),
                Action::PassOn(passing) => return Ok(self.hand_off(passing)),
            }
        }
    }

    /// Whether the control plane sends a response: with the origin's answer, if that is for this request alone.
    fn left_to_control_plane(&self, request: &Request<'_>, plan: &Plan) -> Option<Option<Arc<Passing>>> {
        let is_store = || self.io.shared.origin.remote().is_some_and(|remote| remote.is_store());
        match &plan.source {
            // Slices that have to be fetched come one after the other, and have to be waited for.
            Source::Slices { held, .. } if held.is_empty() && (!plan.body.is_empty() || plan.parts.is_some()) => {
                Some(None)
            }
            // A store's redirect is given the query of the request.
            Source::Passing(passing)
                if passing.head.status == 308 && query_of(request.target).is_some() && is_store() =>
            {
                Some(Some(passing.clone()))
            }
            _ => None,
        }
    }

    /// The check that the connection waits for has found this. It goes on after this turn's completions.
    pub fn checked(&mut self, checked: Checked) {
        if let Wait::Exchange(exchange) = &mut self.connection.wait {
            exchange.checked(checked);
            self.io.mailbox.push_ready(self.id);
        }
    }

    fn wait_for(&mut self, request: &Request<'_>, exchange: Exchange) {
        if self.connection.record.is_none() {
            let record = self.begin_record(Some(request));
            self.connection.record = Some(record);
        }
        let connection = &mut *self.connection;
        if connection.started == 0 {
            connection.started = self.io.now;
        }
        connection.wait = Wait::Exchange(exchange);
    }

    /// Has the connection leave for the control plane, where requests need more memory than here.
    fn hand_off(&mut self, passing: Option<Arc<Passing>>) -> Answer {
        if let Some(overload) = self.io.overload() {
            self.io.raise(overload);
            self.answer_problem(&overload.problem(0), None);
            return Answer::Given;
        }
        let connection = &mut *self.connection;
        if let Some(record) = connection.record.take() {
            record.cancel();
        }
        connection.wait = Wait::Handoff(passing);
        Answer::Waits
    }

    fn record_miss(&mut self) {
        let connection = &mut *self.connection;
        // What is answered without waiting began in this turn.
        let started = match std::mem::replace(&mut connection.started, 0) {
            0 => self.io.now,
            started => started,
        };
        self.io.metrics.miss_latency.record(self.io.kernel.now().saturating_sub(started));
    }

    /// A short text instead of a file. Without a request it also ends the connection.
    fn answer_problem(&mut self, problem: &Problem, request: Option<&Request<'_>>) {
        let persistence = match request {
            Some(request) => self.persistence(request),
            None => Persistence::Close,
        };
        let with_body = request.is_none_or(|request| request.method != Method::Head);
        let batch = self.connection.out.batch(self.pool);
        let before = batch.len();
        problem.write(batch.text(), with_body, &self.io.date, persistence);
        batch.count_response();
        let bytes = (batch.len() - before) as u64;
        self.io.metrics.answered(Class::Other, problem.status);
        let body = if with_body { problem.body_bytes() as u64 } else { 0 };
        let record = self.record(request, problem.status, problem.cache_status);
        self.owe(bytes - body, body, Class::Other, record);
        if request.is_none() {
            self.connection.ending = Ending::AfterResponses { linger: true };
        }
    }

    fn persistence(&self, request: &Request<'_>) -> Persistence {
        match (request.keep_alive && !self.io.is_draining(), request.is_11) {
            (true, true) => Persistence::KeepAlive,
            (true, false) => Persistence::KeepAliveSaid,
            (false, _) => Persistence::Close,
        }
    }

    /// Sends an interim response; not to clients that know none (RFC 9110, 15.2).
    fn inform(&mut self, request: &Request<'_>, head: &[u8]) {
        if request.is_11 {
            self.connection.out.batch(self.pool).text().extend_from_slice(head);
            self.owe(head.len() as u64, 0, Class::Other, Record::default());
        }
    }

    /// Sends what the plan says: its head now, its body with it or as it can be had.
    fn deliver(&mut self, request: &Request<'_>, plan: Plan) {
        self.write_head(request, &plan);
        match Class::of(plan.cache_status) {
            Class::Hit | Class::HitRevalidated => self.io.hits += 1,
            class => {
                if class == Class::MissCollapsed {
                    self.io.metrics.collapsed_waiters.one();
                }
                self.record_miss();
            }
        }
        if planted::is(Defect::HeadWithBody) && request.method == Method::Head {
            let size = plan.source.described().map_or(0, |described| described.version.size);
            if let Source::Arena { lease, fill } = plan.source {
                self.answer_from_arena(0..size, lease, fill);
            }
            return;
        }
        if plan.body.is_empty() {
            return;
        }
        match plan.source {
            Source::Arena { lease, fill } => self.answer_from_arena(plan.body, lease, fill),
            Source::File { file, fill } => self.answer_from_file(plan.body, file, fill),
            Source::Slices { head, held } => self.answer_from_slices(plan.body, &head, held),
            Source::Passing(passing) => {
                if let PassingBody::Whole(bytes) = &passing.body {
                    let range = plan.body.start as usize..plan.body.end as usize;
                    let batch = self.connection.out.batch(self.pool);
                    batch.text().extend_from_slice(bytes.get(range).unwrap_or_default());
                }
            }
        }
    }

    fn write_head(&mut self, request: &Request<'_>, plan: &Plan) {
        let persistence = self.persistence(request);
        if let Some(modified) = plan.representation().modified_seconds() {
            self.io.date.reach(modified);
        }
        let batch = self.connection.out.batch(self.pool);
        let before = batch.len();
        let described = plan.head();
        described.write(batch.text(), &self.io.date, persistence);
        batch.count_response();
        let head = (batch.len() - before) as u64;
        let (class, status) = (Class::of(plan.cache_status), described.status());
        self.io.metrics.answered(class, status);
        let record = self.record(Some(request), status, Some(plan.cache_status));
        self.owe(head, plan.body_bytes(), class, record);
    }

    /// The connection owes a response of so many bytes.
    fn owe(&mut self, head: u64, body: u64, class: Class, record: Record) {
        let ledger = &mut self.connection.out.ledger;
        if !ledger.has_memory() {
            *ledger = self.pool.ledger();
        }
        ledger.begin(head, body, class, record);
    }

    /// The log record of the oldest request, which is answered with this status.
    fn record(&mut self, request: Option<&Request<'_>>, status: u16, cache_status: Option<CacheStatus>) -> Record {
        let waited = self.connection.record.take();
        let mut record = waited.unwrap_or_else(|| self.begin_record(request));
        record.answered(status, cache_status);
        record
    }

    fn begin_record(&self, request: Option<&Request<'_>>) -> Record {
        self.io.shared.access_log.begin(self.io.now, || Asked {
            peer: self.io.kernel.peer(self.connection.out.socket),
            request: request.map(|request| access_log::Request {
                method: match request.method {
                    Method::Head => "HEAD",
                    Method::Other if request.is_preflight => "OPTIONS",
                    Method::Get | Method::Other => "GET",
                },
                target: request.target,
                protocol: if request.is_11 { "HTTP/1.1" } else { "HTTP/1.0" },
                referer: request.referer,
                user_agent: request.user_agent,
            }),
        })
    }

    pub fn answer_from_arena(&mut self, body: Range<u64>, lease: Lease, fill: Option<Arc<Flight>>) {
        let zerocopy_works = self.connection.out.zerocopy_works;
        let mode = deliver::choose(self.io.shared.options.transmit, &lease, fill.is_some(), zerocopy_works);
        let len = body.end - body.start;
        self.count_transmit(mode, len);
        let fits = mode == Mode::Copy && len <= limits::BATCH_BYTES as u64;
        if fits && lease.filled() >= body.end {
            self.connection.out.batch(self.pool).push_body(lease, body.start as usize..body.end as usize);
        } else {
            let fill = fill.filter(|_| !lease.is_whole());
            self.connection.body = Some(Body::Arena(Resident { lease, at: body.start, end: body.end, fill, mode }));
        }
    }

    /// Answers from slices of an object that have all of these bytes of it.
    fn answer_from_slices(&mut self, body: Range<u64>, head: &Lease, held: Vec<Lease>) {
        let Some(stored) = head.stored() else { return };
        let mut at = body.start;
        for lease in held {
            let Some(slice) = stored.slice_of(at) else { return };
            let part = at - slice.range.start..body.end.min(slice.range.end) - slice.range.start;
            at = slice.range.end;
            match self.connection.body {
                None => self.answer_from_arena(part, lease, None),
                Some(_) => self.connection.then.push_back((lease, part)),
            }
        }
    }

    /// Answers from the open file; with a `fill`, which reads it into the arena meanwhile.
    fn answer_from_file(&mut self, body: Range<u64>, file: Arc<OpenFile>, fill: Option<(Lease, Arc<Flight>)>) {
        if fill.is_some() {
            self.count_transmit(Mode::Reference, body.end - body.start);
        }
        let stream = Stream::new(file, fill, body);
        self.connection.body = Some(Body::File(stream));
    }

    /// A body of `len` bytes leaves in this mode.
    fn count_transmit(&self, mode: Mode, len: u64) {
        self.io.metrics.transmit_responses[mode.label()].one();
        self.io.metrics.transmit_bytes[mode.label()].add(len);
    }

    /// One connection too many: an answer, and the end.
    pub fn refuse(&mut self, overload: Overload) -> io::Result<()> {
        self.io.raise(overload);
        let problem = overload.problem(self.io.shared.connections.limit());
        self.answer_problem(&problem, None);
        self.pump()
    }

    /// The head did not come in time.
    pub fn time_out_head(&mut self) -> io::Result<()> {
        let time = self.io.shared.options.header_timeout;
        let problem = Problem::of_late_head(time);
        self.answer_problem(&problem, None);
        self.pump()
    }
}
