//! GET and HEAD of a file: from the cache, through it, or past it, as the data plane does.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, header};

use super::answer::{Answer, Content, PieceSender, pieces};
use super::filling::{Span, filling};
use super::parts::{OwnedConditions, circumstances, field};
use super::plane::ControlPlane;
use super::pool::blocking;
use super::remote;
use super::slices::Slices;
use crate::cache::entry::Lease;
use crate::cache::flight::{Failure, OpenFile};
use crate::cache::permit::FillPermit;
use crate::exchange::plan::{Plan, Source};
use crate::exchange::refusal::Refusal;
use crate::exchange::revalidate::{self, Checked};
use crate::exchange::vouch::{SecondReading, Vouch};
use crate::exchange::{Action, Ask, Exchange, Role, Terms};
use crate::http::cache_status::{CacheStatus, Forward};
use crate::http::caching::directives;
use crate::http::encoding::Preferred;
use crate::http::multipart::Multipart;
use crate::http::request::{Fields, Method as ReadMethod};
use crate::origin::remote::{Interim, PassingBody};
use crate::origin::{Found, Origin};
use crate::ring::system::monotonic;
use crate::server::fetcher::queue::Fetch;
use crate::server::shared::Shared;
use crate::server::site::Circumstances;
use crate::wake::Waiter;

/// Bytes read of a streamed file at a time.
const PIECE_BYTES: usize = 32 << 10;

impl ControlPlane {
    /// Answers a GET or HEAD of the file `name`.
    pub async fn file(self: &Rc<Self>, name: &[u8], parts: &Parts) -> Result<Answer, Answer> {
        self.read(name, Role::Itself, parts).await?.ok_or_else(|| redirect(name, parts.uri.query()))
    }

    /// Answers a GET or HEAD of the file `name` in this role, or of what a remote origin has under it; `None` if it is
    /// a directory itself, or there is no file that stands for one.
    pub async fn read(self: &Rc<Self>, name: &[u8], role: Role, parts: &Parts) -> Result<Option<Answer>, Answer> {
        let conditions = OwnedConditions::of(parts);
        let conditions = conditions.as_ref();
        let method = if parts.method == Method::HEAD { ReadMethod::Head } else { ReadMethod::Get };
        let accept_encoding = field(&parts.headers, header::ACCEPT_ENCODING);
        let negotiates = self.shared.options.precompressed;
        let preferred = negotiates.then(|| Preferred::of(accept_encoding.as_deref()));
        let Circumstances { origin, .. } = circumstances(parts);
        let cache_control = field(&parts.headers, header::CACHE_CONTROL);
        let pragma = field(&parts.headers, header::PRAGMA);
        let wish = directives::wish(cache_control.as_deref(), pragma.as_deref());
        let fields = Fields::Map(&parts.headers);
        let ask = Ask { method, name, role, conditions: &conditions, preferred, origin, fields, wish };
        let mut exchange = Exchange::default();
        let mut has_changed = false;
        loop {
            match self.next_action(&mut exchange, &ask).await {
                Action::Wait => {
                    return Err(Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "nothing was waited for"));
                }
                Action::Check(lease) => exchange.checked(self.check(lease).await?),
                Action::Refresh(lease) => {
                    let plane = self.clone();
                    tokio_uring::spawn(async move { plane.check(lease).await.map(drop).unwrap_or_default() });
                }
                Action::Fill(permit) => self.begin(permit, &ask, parts),
                Action::Inform(head) => {
                    if let Some(interim) = parts.extensions.get::<Interim>() {
                        interim.tell(head);
                    }
                }
                Action::Deliver(plan) => {
                    let slices = Slices::of(self, &plan.source, name, parts);
                    let begun = match &slices {
                        Some(slices) => slices.begin(&plan).await,
                        None => Ok(()),
                    };
                    match begun {
                        Ok(()) => return self.deliver(plan, slices).map(Some),
                        // Nothing of the response was sent: the object is looked up once more, as it is now.
                        Err(Failure::Changed) if !has_changed => {
                            has_changed = true;
                            exchange = Exchange::default();
                        }
                        Err(failure) => {
                            let refusal = Refusal::of_failure(name, failure, Forward::Partial);
                            return Err(self.shared.site.said().answer(&refusal, circumstances(parts)).into());
                        }
                    }
                }
                Action::Refuse(refusal) => {
                    let said = self.shared.site.said();
                    if said.may_fall_back(&refusal) && exchange.fall_back(&self.terms()) {
                        continue;
                    }
                    return Err(said.answer(&refusal, circumstances(parts)).into());
                }
                Action::Directory => return Ok(None),
                Action::PassOn(passing) => {
                    let answer = passing.and_then(|passing| remote::pass_on(&passing));
                    let lost = || Answer::problem(StatusCode::BAD_GATEWAY, "the origin's answer is lost");
                    return answer.ok_or_else(lost).map(Some);
                }
            }
        }
    }

    /// Begins a fill, which another thread brings to its end.
    fn begin(&self, permit: FillPermit, ask: &Ask<'_>, parts: &Parts) {
        match self.shared.fetcher() {
            None => self.shared.mail.delegate(permit),
            Some(fetcher) => {
                let peer = parts.extensions.get().copied();
                self.shared.wake(fetcher.fetch(Fetch::new(permit, ask, peer)));
            }
        }
    }

    fn terms(&self) -> Terms<'_> {
        self.shared.terms(&self.touch, monotonic(), None)
    }

    /// Goes on with an exchange until there is something to do but wait.
    async fn next_action(&self, exchange: &mut Exchange, ask: &Ask<'_>) -> Action {
        poll_fn(|cx| match exchange.advance(&self.terms(), ask, || Waiter::Task(cx.waker().clone())) {
            Action::Wait => Poll::Pending,
            action => Poll::Ready(action),
        })
        .await
    }

    /// Compares what is cached with the disk.
    async fn check(&self, lease: Lease) -> Result<Checked, Answer> {
        let began = monotonic();
        let (shared, looked) = (self.shared.clone(), lease.clone());
        let (found, same_bytes) = blocking(move || look(&shared.origin, &looked, began)).await?;
        let checked = revalidate::conclude(&self.shared.cache, &lease, began, found, same_bytes);
        self.shared.metrics.control.revalidations[checked.into()].one();
        Ok(checked)
    }

    /// The answer that the plan describes.
    fn deliver(self: &Rc<Self>, plan: Plan, slices: Option<Rc<Slices>>) -> Result<Answer, Answer> {
        if matches!(plan.cache_status, CacheStatus::Collapsed { .. }) {
            self.shared.metrics.control.collapsed_waiters.one();
        }
        let mut answer = describe(&plan);
        if let Some(parts) = plan.parts {
            answer = answer.with(header::CONTENT_TYPE, parts.content_type());
            answer.content = self.parts(plan.source, slices, parts);
        } else if !plan.body.is_empty() {
            answer.content =
                self.content(plan.source, slices.as_ref(), Span { from: plan.body.start, to: plan.body.end })?;
        }
        Ok(answer)
    }

    /// A part of a file.
    fn content(&self, source: Source, slices: Option<&Rc<Slices>>, span: Span) -> Result<Content, Answer> {
        Ok(match source {
            Source::Slices { .. } => slices.map_or(Content::Empty, |slices| slices.content(span)),
            Source::Arena { lease, .. } if lease.is_whole() => {
                Content::Whole(Bytes::from_owner(lease).slice(span.from as usize..span.to as usize))
            }
            Source::Arena { fill: Some(fill), .. } | Source::File { fill: Some((_, fill)), .. } => filling(fill, span),
            Source::Arena { fill: None, .. } => {
                return Err(Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "the file is not whole"));
            }
            Source::File { file, fill: None } => self.stream(&file, span)?,
            Source::Passing(passing) => match &passing.body {
                PassingBody::Whole(bytes) => Content::Whole(bytes.slice(span.from as usize..span.to as usize)),
                PassingBody::Coming(_) => Content::Empty,
            },
        })
    }

    /// Several parts of a file, one after the other.
    fn parts(self: &Rc<Self>, source: Source, slices: Option<Rc<Slices>>, parts: Multipart) -> Content {
        let (sender, content) = pieces(Some(parts.length()));
        let plane = self.clone();
        tokio_uring::spawn(async move {
            if let Err(error) = plane.send_parts(&source, slices.as_ref(), &parts, &sender).await {
                let _ = sender.send(Err(error)).await;
            }
        });
        content
    }

    async fn send_parts(
        &self,
        source: &Source,
        slices: Option<&Rc<Slices>>,
        parts: &Multipart,
        sender: &PieceSender,
    ) -> io::Result<()> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        for range in parts.ranges() {
            sender.send(Ok(parts.head(range).into())).await.map_err(gone)?;
            let span = Span { from: range.start, to: range.end };
            let content = self.content(source.clone(), slices, span);
            match content.map_err(|_| io::Error::other("the file cannot be read"))? {
                Content::Empty => {}
                Content::Origins { .. } => return Err(io::Error::other("the body is not here yet")),
                Content::Whole(bytes) => sender.send(Ok(bytes)).await.map_err(gone)?,
                Content::Pieces { mut pieces, .. } => {
                    let mut left = span.to - span.from;
                    while let Some(piece) = pieces.recv().await {
                        let piece = piece?;
                        left = left.saturating_sub(piece.len() as u64);
                        sender.send(Ok(piece)).await.map_err(gone)?;
                    }
                    if left > 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
        sender.send(Ok(parts.tail().into())).await.map_err(gone)
    }
}

/// What a cached name leads to now; and whether its bytes are those that are cached, if a second look at them is due.
fn look(origin: &Origin, lease: &Lease, now: u64) -> (io::Result<Found>, Option<bool>) {
    let origin = match origin.local() {
        Ok(directory) => directory,
        Err(absent) => return (Err(absent.into()), None),
    };
    if !lease.needs_second_look(now) {
        return (origin.look(lease.name()), None);
    }
    match origin.open_any(lease.name()) {
        Ok((file, Found::File(version))) if lease.is_current(&version) => match has_bytes(&file, lease.bytes()) {
            Ok(same) => (Found::of(&file), Some(same)),
            Err(error) => (Err(error), None),
        },
        other => (other.map(|(_, found)| found), None),
    }
}

/// Whether the file begins with these bytes.
fn has_bytes(file: &File, bytes: &[u8]) -> io::Result<bool> {
    let mut piece = vec![0; PIECE_BYTES];
    for (number, expected) in bytes.chunks(PIECE_BYTES).enumerate() {
        match file.read_exact_at(&mut piece[..expected.len()], (number * PIECE_BYTES) as u64) {
            Ok(()) if piece[..expected.len()] == *expected => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The head of the answer. The length is said here and not left to hyper, which leaves it out of the answer to a HEAD.
fn describe(plan: &Plan) -> Answer {
    let mut fields = Vec::new();
    let head = plan.head();
    head.write_fields(&mut fields);
    let status = StatusCode::from_u16(head.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = Answer::new(status, Content::Empty).with_lines(&fields);
    if !head.representation.has_date() {
        // hyper keeps the date for a second, and a file may have been modified since.
        answer = answer.with(header::DATE, httpdate::fmt_http_date(SystemTime::now()));
    }
    answer.cache_status = Some(plan.cache_status);
    answer.has_rules = true;
    answer
}

impl ControlPlane {
    /// From a file that is not cached.
    fn stream(&self, open: &Arc<OpenFile>, span: Span) -> Result<Content, Answer> {
        let file = open.fd.try_clone().map_err(|error| {
            Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, format!("the file cannot be read: {error}"))
        })?;
        let (sender, content) = pieces(Some(span.to - span.from));
        let vouch = Vouch::of(open, span.from);
        let mut reader = Reader { shared: self.shared.clone(), open: open.clone(), file: File::from(file), vouch };
        tokio_uring::spawn(async move {
            if let Err(error) = reader.read(span, &sender).await {
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok(content)
    }
}

/// A file that is sent past the cache, as long as it is the version that was promised: what was read is known to be of
/// it before it is sent, so a file that is written to breaks the response off instead of mixing versions in it.
struct Reader {
    shared: Arc<Shared>,
    open: Arc<OpenFile>,
    file: File,
    vouch: Vouch,
}

impl Reader {
    /// Sends a part of the file, the last bytes when all of them are known to be of one version.
    async fn read(&mut self, span: Span, sender: &PieceSender) -> io::Result<()> {
        let ring_file = tokio_uring::fs::File::from_std(self.file.try_clone()?);
        let mut at = span.from;
        while at < span.to {
            let piece = read_piece(&ring_file, at, span.to).await?;
            self.check()?;
            self.vouch.take(&piece);
            at += piece.len() as u64;
            if at == span.to && self.vouch.needs_second_reading() {
                self.read_again(&ring_file, span).await?;
            }
            if sender.send(Ok(piece.into())).await.is_err() {
                break;
            }
        }
        ring_file.close().await
    }

    fn check(&mut self) -> io::Result<()> {
        let OpenFile { name, described, .. } = &*self.open;
        let is_still_named = || self.shared.origin.leads_to(name, &described.version);
        match self.vouch.look(Found::of(&self.file), is_still_named).keeps_bytes() {
            true => Ok(()),
            false => Err(io::Error::other("the file changed while it was sent")),
        }
    }

    async fn read_again(&mut self, ring_file: &tokio_uring::fs::File, span: Span) -> io::Result<()> {
        let mut second = SecondReading::default();
        let mut at = span.from;
        while at < span.to {
            let piece = read_piece(ring_file, at, span.to).await?;
            second.take(&piece);
            at += piece.len() as u64;
        }
        match self.vouch.confirms(second) {
            true => Ok(()),
            false => Err(io::Error::other("the file changed while it was sent")),
        }
    }
}

/// The next bytes of a file before `end`, at least one.
async fn read_piece(file: &tokio_uring::fs::File, at: u64, end: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
    let (result, mut piece) = file.read_at(Vec::with_capacity(length), at).await;
    let count = result?.min(length);
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    piece.truncate(count);
    Ok(piece)
}

/// The name is a directory's, which ends with a slash; the query stays with it.
fn redirect(name: &[u8], query: Option<&str>) -> Answer {
    let (mark, query) = query.map_or(("", ""), |query| ("?", query));
    let location = format!("/{}/{mark}{query}", crate::http::target::encode(name));
    Answer::problem(StatusCode::MOVED_PERMANENTLY, "this is a directory; its name ends with a slash")
        .with(header::LOCATION, location)
}
