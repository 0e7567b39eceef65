//! GET and HEAD of a file: from the cache, through it, or past it, as the fast lane does.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::answer::{Answer, Content, PieceSender, pieces};
use super::route::{Lane, OwnedConditions, blocking};
use crate::cache::defer::Resumed;
use crate::cache::entry::Lease;
use crate::cache::fill::{Failure, Fill, OpenFile, Progress, Waiter};
use crate::cache::{Found as Known, count_hit};
use crate::http::cache_status::{CacheStatus, Forward, Reason};
use crate::http::conditional::Verdict;
use crate::http::representation::Representation;
use crate::metrics::labels::{Eviction, Revalidation};
use crate::origin::{Found, Identity};
use crate::ring::system::monotonic;
use crate::server::filler::failure_of;

/// Bytes read of a streamed file at a time.
const PIECE_BYTES: usize = 256 << 10;

/// The part of a file that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: u64,
    to: u64,
}

impl Lane {
    /// Answers a GET or HEAD of the file `name`.
    pub async fn file(self: &Rc<Self>, name: &[u8], parts: &Parts) -> Result<Answer, Answer> {
        let conditions = OwnedConditions::of(parts);
        let is_head = parts.method == Method::HEAD;
        let mut forward = Forward::UriMiss;
        if let Some(lease) = self.shared.cache.get(name) {
            if self.is_current(&lease).await?
                && let Some(answer) = self.hit(lease, &conditions)
            {
                return Ok(answer);
            }
            forward = Forward::Stale;
        }
        if is_head {
            return self.head(name, forward, &conditions).await;
        }
        let (fill, status) = match self.shared.cache.find(name) {
            Known::Cached(lease) => {
                return self.hit(lease, &conditions).ok_or_else(|| refusal(name, Failure::Changed, forward));
            }
            Known::Filling(fill) => {
                self.shared.metrics.control.collapsed_waiters.one();
                (fill, CacheStatus::Collapsed { forward })
            }
            Known::Begun(fill) => {
                self.begin(&fill);
                (fill, CacheStatus::Stored { forward })
            }
        };
        let outcome = match progress(&fill, None).await {
            // Once more, past the cache: a file that is being written can still be read.
            Progress::Failed(Failure::Changed) => {
                let fill = self.shared.cache.aside(name, Reason::Changed);
                self.begin(&fill);
                progress(&fill, None).await
            }
            // The rest of it is not to be sent from the page cache here.
            Progress::Fetching(lease, _) => progress(&fill, Some(lease.size())).await,
            outcome => outcome,
        };
        match outcome {
            Progress::Ready(lease) => Ok(cached(lease, status, &conditions)),
            Progress::Filling(lease, _) => Ok(filling(fill, lease, status, &conditions)),
            // Wanted by two at the same time, then.
            Progress::Deferred(lease, _) => match self.resume(&lease) {
                Some(fill) => Ok(filling(fill, lease, status, &conditions)),
                None if lease.is_whole() => Ok(cached(lease, status, &conditions)),
                None => Err(refusal(name, Failure::Changed, forward)),
            },
            Progress::Uncached(file, reason) => {
                stream(&file, CacheStatus::Uncached { forward, reason }, &conditions).await
            }
            Progress::Failed(failure) => Err(refusal(name, failure, forward)),
            Progress::Opening | Progress::Fetching(..) => {
                Err(Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "the file was not opened"))
            }
        }
    }

    /// Answers from the cache. `None`: the file was still to be read, and could not be; it is cached no more.
    fn hit(&self, lease: Lease, conditions: &OwnedConditions) -> Option<Answer> {
        let fill = self.resume(&lease);
        if fill.is_none() && !lease.is_whole() {
            return None;
        }
        count_hit(&self.touch, &lease);
        Some(match fill {
            Some(fill) => filling(fill, lease, CacheStatus::Hit, conditions),
            None => cached(lease, CacheStatus::Hit, conditions),
        })
    }

    /// The fill of an entry whose bytes are not there yet; `None` if there is none.
    fn resume(&self, lease: &Lease) -> Option<Arc<Fill>> {
        match self.shared.cache.resume(lease, monotonic())? {
            Resumed::Joined(fill) => Some(fill),
            Resumed::Begun(fill) => {
                self.begin(&fill);
                Some(fill)
            }
        }
    }

    /// Has a worker read the file.
    fn begin(&self, fill: &Arc<Fill>) {
        if let Err(error) = self.shared.mail.delegate(fill.clone()) {
            let failure = Failure::Io(error.raw_os_error().unwrap_or(0));
            self.shared.mail.wake(self.shared.cache.fail(fill, failure));
        }
    }

    /// Whether what is cached may be served: it was compared with the disk within the revalidation interval, or now.
    async fn is_current(&self, lease: &Lease) -> Result<bool, Answer> {
        let began = monotonic();
        let interval = u64::try_from(self.shared.options.revalidate.as_nanos()).unwrap_or(u64::MAX);
        if interval > 0 && began.saturating_sub(lease.checked()) <= interval {
            return Ok(true);
        }
        let (shared, name) = (self.shared.clone(), lease.name().to_vec());
        let found = blocking(move || shared.origin.look(&name)).await?;
        let (outcome, departure) = match found {
            Ok(Found::File(identity)) if lease.is_current(identity) => (Revalidation::Unchanged, None),
            Ok(_) => (Revalidation::Changed, Some(Eviction::Invalidated)),
            Err(error) if failure(&error) == Failure::NotFound => (Revalidation::Gone, Some(Eviction::Deleted)),
            Err(_) => (Revalidation::Failed, Some(Eviction::Invalidated)),
        };
        self.shared.metrics.control.revalidations[outcome].one();
        lease.end_check(began, departure.is_none());
        if let Some(departure) = departure {
            self.shared.cache.remove_entry(lease, departure);
        }
        Ok(departure.is_none())
    }

    /// Answers a HEAD of a file that is not cached; it does not become so.
    async fn head(&self, name: &[u8], forward: Forward, conditions: &OwnedConditions) -> Result<Answer, Answer> {
        let (shared, owned) = (self.shared.clone(), name.to_vec());
        // Opened and not only looked at, so that the answer is the one that a GET would have.
        let found = blocking(move || shared.origin.open_any(&owned).map(|(_, found)| found)).await?;
        let failure = match found {
            Ok(Found::File(identity)) => {
                let representation = Representation::new(name, identity);
                let status = CacheStatus::Uncached { forward, reason: Reason::HeadOnly };
                return Ok(describe(&representation, status, conditions).0);
            }
            Ok(Found::Directory) => Failure::IsDirectory,
            Ok(Found::Special) => Failure::Forbidden,
            Err(error) => failure(&error),
        };
        Err(refusal(name, failure, forward))
    }
}

/// What an error of the origin means.
pub(super) fn failure(error: &io::Error) -> Failure {
    failure_of(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Head of an answer about a file, and the part of it that is to follow, if any.
fn describe(
    representation: &Representation,
    status: CacheStatus,
    conditions: &OwnedConditions,
) -> (Answer, Option<Span>) {
    let size = representation.identity.size;
    let content_range = header::CONTENT_RANGE;
    let (answer, span) = match conditions.as_ref().evaluate(representation) {
        Verdict::Whole => (Answer::new(StatusCode::OK, Content::Empty), Some(Span { from: 0, to: size })),
        Verdict::Part { from, to } => {
            let answer = Answer::new(StatusCode::PARTIAL_CONTENT, Content::Empty);
            (answer.with(content_range, format!("bytes {from}-{}/{size}", to - 1)), Some(Span { from, to }))
        }
        Verdict::NotModified => (Answer::new(StatusCode::NOT_MODIFIED, Content::Empty), None),
        Verdict::Failed => (Answer::new(StatusCode::PRECONDITION_FAILED, Content::Empty), None),
        Verdict::Unsatisfiable => {
            let answer = Answer::new(StatusCode::RANGE_NOT_SATISFIABLE, Content::Empty);
            (answer.with(content_range, format!("bytes */{size}")), None)
        }
    };
    let answer = match span {
        _ if answer.status == StatusCode::NOT_MODIFIED => answer,
        // Said here and not left to hyper, which leaves a length of zero out of the answer to a HEAD.
        span => answer.with(header::CONTENT_LENGTH, HeaderValue::from(span.map_or(0, |span| span.to - span.from))),
    };
    (answer.with_lines(representation.fields()).cached(status), span)
}

/// From the cache.
fn cached(lease: Lease, status: CacheStatus, conditions: &OwnedConditions) -> Answer {
    let (mut answer, span) = describe(lease.representation(), status, conditions);
    if let Some(span) = span {
        answer.content = Content::Whole(Bytes::from_owner(lease).slice(span.from as usize..span.to as usize));
    }
    answer
}

/// From the cache while the file is being read into it.
fn filling(fill: Arc<Fill>, lease: Lease, status: CacheStatus, conditions: &OwnedConditions) -> Answer {
    let (mut answer, span) = describe(lease.representation(), status, conditions);
    if let Some(span) = span {
        let (sender, content) = pieces(Some(span.to - span.from));
        answer.content = content;
        tokio_uring::spawn(async move {
            if let Err(error) = follow(&fill, span, &sender).await {
                let _ = sender.send(Err(error)).await;
            }
        });
    }
    answer
}

/// Sends what a fill has read as it goes on.
async fn follow(fill: &Fill, span: Span, sender: &PieceSender) -> io::Result<()> {
    let mut at = span.from;
    while at < span.to {
        let lease = match progress(fill, Some(at)).await {
            Progress::Filling(lease, _) | Progress::Ready(lease) => lease,
            Progress::Failed(_)
            | Progress::Uncached(..)
            | Progress::Fetching(..)
            | Progress::Deferred(..)
            | Progress::Opening => {
                return Err(io::Error::other("the file could not be read to its end, or changed meanwhile"));
            }
        };
        let filled = Bytes::from_owner(lease);
        let to = span.to.min(filled.len() as u64);
        if to > at {
            if sender.send(Ok(filled.slice(at as usize..to as usize))).await.is_err() {
                return Ok(());
            }
            at = to;
        }
    }
    Ok(())
}

/// Waits until a fill is further than `seen`.
async fn progress(fill: &Fill, seen: Option<u64>) -> Progress {
    poll_fn(|cx| match fill.poll(seen, || Waiter::Task(cx.waker().clone())) {
        Some(progress) => Poll::Ready(progress),
        None => Poll::Pending,
    })
    .await
}

/// From a file that is not cached.
async fn stream(open: &OpenFile, status: CacheStatus, conditions: &OwnedConditions) -> Result<Answer, Answer> {
    let (mut answer, span) = describe(&open.representation, status, conditions);
    if let Some(span) = span {
        let file = open.fd.try_clone().map_err(|error| {
            Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, format!("the file cannot be read: {error}"))
        })?;
        let (sender, content) = pieces(Some(span.to - span.from));
        answer.content = content;
        let identity = open.representation.identity;
        tokio_uring::spawn(async move {
            if let Err(error) = read(File::from(file), span, identity, &sender).await {
                let _ = sender.send(Err(error)).await;
            }
        });
    }
    Ok(answer)
}

/// Sends a part of a file, as long as it is the version that was promised: what was read is known to be of it before it is
/// sent, so a file that is written to breaks the response off instead of mixing versions in it.
async fn read(file: File, span: Span, identity: Identity, sender: &PieceSender) -> io::Result<()> {
    let ring_file = tokio_uring::fs::File::from_std(file.try_clone()?);
    let mut at = span.from;
    while at < span.to {
        let length = usize::try_from(span.to - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let (result, mut buffer) = ring_file.read_at(Vec::with_capacity(length), at).await;
        let count = result?.min(length);
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !matches!(Found::of(&file)?, Found::File(now) if now.same_bytes(&identity)) {
            return Err(io::Error::other("the file changed while it was sent"));
        }
        buffer.truncate(count);
        if sender.send(Ok(buffer.into())).await.is_err() {
            break;
        }
        at += count as u64;
    }
    ring_file.close().await
}

/// Why there is no file to send.
fn refusal(name: &[u8], failure: Failure, forward: Forward) -> Answer {
    let missing = CacheStatus::Uncached { forward, reason: Reason::NotFound };
    match failure {
        Failure::NotFound => Answer::problem(StatusCode::NOT_FOUND, "there is no such file").cached(missing),
        Failure::IsDirectory => {
            let location = format!("/{}/", super::listing::encode_path(name));
            Answer::problem(StatusCode::MOVED_PERMANENTLY, "this is a directory; its name ends with a slash")
                .with(header::LOCATION, location)
        }
        Failure::Forbidden => Answer::problem(StatusCode::FORBIDDEN, "this may not be read"),
        Failure::Changed => {
            Answer::problem(StatusCode::SERVICE_UNAVAILABLE, "the file changes faster than it can be read; try again")
                .with(header::RETRY_AFTER, HeaderValue::from_static("1"))
        }
        Failure::Io(errno) => {
            let error = io::Error::from_raw_os_error(errno);
            tracing::warn!("a file cannot be read: {error}");
            Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, format!("the file cannot be read: {error}"))
        }
    }
}
