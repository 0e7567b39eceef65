//! What becomes of the origin's answer.

use super::describe::{self, Judged};
use super::queue::{Asking, Fetch};
use super::slices::{self, Slicing};
use crate::cache::entry::Lease;
use crate::cache::flight::{Bypass, Failure};
use crate::cache::passes::Asker;
use crate::cache::permit::FillPermit;
use crate::http::hop;
use crate::http::request::Method;
use crate::limits;
use crate::metrics::labels::OriginAnswer;
use crate::origin::remote::{Answer, Ask, Body, Fault, Passing, PassingBody, Remote};
use crate::ring::system::monotonic;
use crate::server::shared::Shared;
use crate::version::slices::Slice;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::http::response::Parts;
use hyper::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a fetch needs.
pub(super) struct Answering {
    pub shared: Arc<Shared>,
    pub remote: Arc<Remote>,
    /// Bytes that may be collected of bodies whose length is not known, all together.
    pub collecting: Arc<Semaphore>,
}

/// The beginning of a body, or all of it.
enum Collected {
    Whole(Bytes),
    /// There is more than may be collected.
    Start {
        start: Bytes,
        rest: Body,
    },
}

impl Answering {
    /// Asks the origin, and brings the fill to an end.
    pub async fn fetch(self, fetch: Fetch) {
        let shared = self.shared.clone();
        let Some(options) = shared.remote_options() else { return };
        let Asking { ask, asked, slice } = match fetch.ask(options.slice) {
            Ok(asking) => asking,
            Err(failure) => return self.shared.wake(fetch.permit.fail(failure)),
        };
        if let Some(part) = fetch.part {
            return self.fetch_slice(fetch.permit, ask, part).await;
        }
        let began = Instant::now();
        let answer = match (self.send(ask).await, slice) {
            (Ok(answer), Some(slice)) => match Slicing::of(answer, &slice, options) {
                Slicing::Whole(answer) => Ok(answer),
                Slicing::Slice(answer, slice) => {
                    return self.sliced(fetch, &asked, answer, began.elapsed(), slice).await;
                }
                Slicing::AskAgain => match fetch.ask(0) {
                    Ok(asking) => self.send(asking.ask).await,
                    Err(failure) => return self.shared.wake(fetch.permit.fail(failure)),
                },
            },
            (answer, _) => answer,
        };
        match answer {
            Ok(answer) => self.answered(fetch, &asked, answer, began.elapsed()).await,
            Err(fault) => self.failed(fetch.permit, &fault),
        }
    }

    /// The origin has answered with a slice of an object that is too large to be stored as a whole.
    async fn sliced(self, fetch: Fetch, asked: &HeaderMap, answer: Answer, delay: Duration, slice: Slice) {
        let (mut parts, body) = answer.into_parts();
        hop::pass_answer(&mut parts.headers, parts.version);
        let size = describe::announced(&parts).unwrap_or(0);
        match describe::judge(&self.shared, asked, &parts, delay) {
            Some(judged) => self.store_slice(fetch.permit, asked, (parts, body), judged, size, slice).await,
            // Nothing of it is kept: whoever asked gets what it asked for, and nobody else anything.
            None => match self.ask_alone(&fetch).await {
                Ok(answer) => {
                    let (mut parts, body) = answer.into_parts();
                    hop::pass_answer(&mut parts.headers, parts.version);
                    self.pass_on(fetch.permit, fetch.method, parts, body).await;
                }
                Err(fault) => self.failed(fetch.permit, &fault),
            },
        }
    }

    /// The first slice of an object, if its answer, whose body is all of it, is to be stored in slices.
    fn first_slice(&self, parts: &Parts, size: u64) -> Option<Slice> {
        slices::first_slice(parts, size, self.shared.remote_options()?)
    }

    async fn ask_alone(&self, fetch: &Fetch) -> Result<Answer, Fault> {
        let ask = fetch.ask_alone().ok_or(Fault::Target("it is no path"))?;
        self.send(ask).await
    }

    /// Asks the origin, and counts its answer.
    pub(super) async fn send(&self, ask: Ask) -> Result<Answer, Fault> {
        let counted = &self.shared.metrics.origin;
        let is_validation = ask.headers().contains_key(header::IF_NONE_MATCH);
        let latency = if is_validation { &counted.validations } else { &counted.fetches };
        let began = Instant::now();
        let answer = self.remote.send(ask).await;
        latency.record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let label = answer.as_ref().map_or(OriginAnswer::None, |head| OriginAnswer::of(head.status().as_u16()));
        counted.answers[label].one();
        answer
    }

    /// There is no answer: what is stale is served, if it may be.
    pub(super) fn failed(&self, permit: FillPermit, fault: &Fault) {
        self.shared.origin_fails(permit.name(), fault);
        match self.serves_stale(&permit) {
            true => self.excuse(permit),
            false => self.shared.wake(permit.fail(Failure::Remote(fault.status()))),
        }
    }

    /// What is stale is served, since the origin fails.
    fn excuse(&self, permit: FillPermit) {
        self.shared.metrics.origin.stale_served.one();
        self.shared.wake(permit.excuse());
    }

    /// Whether what is validated may be served since the origin fails.
    fn serves_stale(&self, permit: &FillPermit) -> bool {
        let by_default = self.shared.remote_options().map_or(0, |options| options.stale_if_error.as_secs());
        let stored = permit.stale().and_then(|stale| stale.stored());
        stored.is_some_and(|stored| stored.freshness.serves_errors(by_default, monotonic()))
    }

    async fn answered(self, fetch: Fetch, asked: &HeaderMap, answer: Answer, delay: Duration) {
        let (mut parts, body) = answer.into_parts();
        let Fetch { permit, method, .. } = fetch;
        hop::pass_answer(&mut parts.headers, parts.version);
        if parts.status == StatusCode::NOT_MODIFIED
            && let Some(stored) = permit.stale().and_then(|stale| stale.stored())
        {
            let updated = describe::updated(&self.shared, asked, &stored, parts.headers, delay);
            return self.shared.wake(permit.confirm(Arc::new(updated)));
        }
        if parts.status.is_server_error() && self.serves_stale(&permit) {
            self.shared.origin_fails(permit.name(), &parts.status);
            return self.excuse(permit);
        }
        let judged = match method {
            Method::Get if permit.aside().is_none() => describe::judge(&self.shared, asked, &parts, delay),
            _ => None,
        };
        // The origin's failures are not taken for its rule: whoever waits for the next answer spares it.
        if permit.aside().is_none() && !parts.status.is_server_error() {
            permit.mark_passed(judged.is_none(), asker(asked), monotonic());
        }
        let Some(judged) = judged else { return self.pass_on(permit, method, parts, body).await };
        match describe::announced(&parts) {
            Some(size) if let Some(slice) = self.first_slice(&parts, size) => {
                self.store_slice(permit, asked, (parts, body), judged, size, slice).await;
            }
            Some(size) => self.store(permit, asked, parts, judged, size, body).await,
            None => self.collect_and_store(permit, asked, parts, judged, body).await,
        }
    }

    /// Stores a body of known length as it comes.
    async fn store(
        self,
        permit: FillPermit,
        asked: &HeaderMap,
        parts: Parts,
        judged: Judged,
        size: u64,
        mut body: Body,
    ) {
        let stored = Arc::new(describe::describe(&permit, asked, &parts, size, judged));
        let entry = match permit.reserve_response(stored, monotonic()) {
            Ok(entry) => entry,
            Err(reason) => {
                permit.mark_passed(reason == Bypass::TooLarge, asker(asked), monotonic());
                return self.pass_on(permit, Method::Get, parts, body).await;
            }
        };
        self.shared.wake(permit.arrive(&entry));
        let mut at = 0;
        loop {
            match next(&mut body).await {
                Some(Ok(piece)) => {
                    at += piece.len() as u64;
                    self.shared.metrics.origin.body_bytes.add(piece.len() as u64);
                    if at > size {
                        return self.broken(permit, &entry, &Fault::Broken("it is longer than it said".into()));
                    }
                    let mut waiters = permit.append(&entry, &piece);
                    // Published before anybody has its end: who asks again after that finds it.
                    if at == size && body.is_end_stream() {
                        waiters.extend(permit.publish(entry));
                        return self.shared.wake(waiters);
                    }
                    self.shared.wake(waiters);
                }
                Some(Err(fault)) => return self.broken(permit, &entry, &fault),
                None if at < size => {
                    return self.broken(permit, &entry, &Fault::Broken("it is shorter than it said".into()));
                }
                None => return self.shared.wake(permit.publish(entry)),
            }
        }
    }

    /// The body ends early: nobody may take it for whole.
    pub(super) fn broken(&self, permit: FillPermit, entry: &Lease, fault: &Fault) {
        self.shared.origin_fails(permit.name(), &format_args!("{fault}, after {} bytes", entry.filled()));
        self.shared.metrics.origin.broken.one();
        self.shared.wake(permit.fail(Failure::Remote(fault.status())));
    }

    /// Stores a body whose length shows at its end only.
    async fn collect_and_store(self, permit: FillPermit, asked: &HeaderMap, parts: Parts, judged: Judged, body: Body) {
        let most = self.shared.remote_options().map_or(0, |options| options.whole_max) as usize;
        match self.collect(body, most).await {
            Ok((Collected::Whole(bytes), _counted)) => {
                let stored = Arc::new(describe::describe(&permit, asked, &parts, bytes.len() as u64, judged));
                match permit.reserve_response(stored, monotonic()) {
                    Ok(entry) => {
                        let mut waiters = permit.append(&entry, &bytes);
                        waiters.extend(permit.publish(entry));
                        self.shared.wake(waiters);
                    }
                    Err(_) => self.pass(permit, &parts, Collected::Whole(bytes), None),
                }
            }
            Ok((start, counted)) => {
                permit.mark_passed(true, asker(asked), monotonic());
                self.pass(permit, &parts, start, counted);
            }
            Err(fault) => self.failed(permit, &fault),
        }
    }

    /// Passes an answer on to the request that it was asked for.
    pub(super) async fn pass_on(self, permit: FillPermit, method: Method, parts: Parts, body: Body) {
        let is_short = describe::announced(&parts).is_some_and(|size| size <= limits::PASSED_AT_ONCE_BYTES as u64);
        if method == Method::Head || (describe::announced(&parts).is_some() && !is_short) {
            let start = Collected::Start { start: Bytes::new(), rest: body };
            return self.pass(permit, &parts, start, None);
        }
        match self.collect(body, limits::PASSED_AT_ONCE_BYTES).await {
            Ok((collected, counted)) => self.pass(permit, &parts, collected, counted),
            Err(fault) => self.failed(permit, &fault),
        }
    }

    fn pass(&self, permit: FillPermit, parts: &Parts, body: Collected, counted: Option<OwnedSemaphorePermit>) {
        let (size, body) = match body {
            Collected::Whole(bytes) => (bytes.len() as u64, PassingBody::Whole(bytes)),
            Collected::Start { start, rest } => {
                let body = Prefixed { start: Some(start), rest, _counted: counted }.boxed_unsync();
                (0, PassingBody::Coming(Mutex::new(Some(body))))
            }
        };
        let head = describe::passing(parts, size);
        let passing = Passing { head, announced: describe::announced(parts), body };
        self.shared.wake(permit.pass_on(Arc::new(passing)));
    }

    /// Takes up to `most` bytes of a body, as far as the memory for such bytes lasts; that is counted as long as what
    /// is returned with them.
    async fn collect(&self, mut body: Body, most: usize) -> Result<(Collected, Option<OwnedSemaphorePermit>), Fault> {
        let mut start = BytesMut::new();
        let mut counted: Option<OwnedSemaphorePermit> = None;
        loop {
            match next(&mut body).await {
                None => return Ok((Collected::Whole(start.freeze()), counted)),
                Some(Err(fault)) => return Err(fault),
                Some(Ok(piece)) => {
                    start.extend_from_slice(&piece);
                    self.shared.metrics.origin.body_bytes.add(piece.len() as u64);
                    let room = self.collecting.clone().try_acquire_many_owned(piece.len() as u32).ok();
                    let is_over = room.is_none() || start.len() > most;
                    match (&mut counted, room) {
                        (Some(counted), Some(room)) => counted.merge(room),
                        (counted @ None, room) => *counted = room,
                        (Some(_), None) => {}
                    }
                    if is_over {
                        return Ok((Collected::Start { start: start.freeze(), rest: body }, counted));
                    }
                }
            }
        }
    }
}

/// On whose behalf the origin was asked.
fn asker(asked: &HeaderMap) -> Asker {
    Asker::of(asked.contains_key(header::AUTHORIZATION))
}

/// The next piece of a body.
pub(super) async fn next(body: &mut Body) -> Option<Result<Bytes, Fault>> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                // Trailers are not stored.
                if let Ok(piece) = frame.into_data() {
                    return Some(Ok(piece));
                }
            }
            Err(fault) => return Some(Err(fault)),
        }
    }
}

/// A body whose beginning was taken already.
struct Prefixed {
    start: Option<Bytes>,
    rest: Body,
    _counted: Option<OwnedSemaphorePermit>,
}

impl hyper::body::Body for Prefixed {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Fault>>> {
        if let Some(start) = self.start.take().filter(|start| !start.is_empty()) {
            return Poll::Ready(Some(Ok(hyper::body::Frame::data(start))));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.start.as_ref().is_none_or(Bytes::is_empty) && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        let (start, rest) = (self.start.as_ref().map_or(0, |start| start.len() as u64), self.rest.size_hint());
        let mut hint = hyper::body::SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(start));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(start));
        }
        hint
    }
}
