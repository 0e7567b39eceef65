//! Parts of objects that are cached in slices: slice by slice, each from the cache or through it.
//!
//! While one slice is sent the next is fetched. What a slow client waits for is at most these two.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::http::request::Parts;

use super::answer::{Content, PieceSender, pieces};
use super::filling::{Span, progress};
use super::plane::ControlPlane;
use crate::cache::entry::Lease;
use crate::cache::flight::{Bypass, Failure, Flight, Progress};
use crate::cache::{Lookup, count_hit};
use crate::exchange::plan::{self, Plan};
use crate::origin::remote::PassingBody;
use crate::server::fetcher::queue::{Asked, Fetch, Part};
use crate::version::slices::Slice;
use crate::version::stored::Stored;

/// An object, and the request that wants parts of it.
pub(super) struct Slices {
    plane: Rc<ControlPlane>,
    head: Lease,
    stored: Arc<Stored>,
    asked: Asked,
    /// The first slice, once it is known where it comes from.
    first: RefCell<Option<(Slice, Source)>>,
}

/// Where a slice comes from.
enum Source {
    Cache(Lease),
    /// A fill; one that this request has begun, if `is_own`.
    Fill {
        fill: Arc<Flight>,
        is_own: bool,
    },
}

impl Slices {
    /// The object that is to be sent to a request for `name`, if it is cached in slices.
    pub fn of(plane: &Rc<ControlPlane>, source: &plan::Source, name: &[u8], parts: &Parts) -> Option<Rc<Slices>> {
        let plan::Source::Slices { head, .. } = source else { return None };
        let asked = Asked { target: name.into(), fields: parts.headers.clone(), peer: parts.extensions.get().copied() };
        let (stored, first) = (head.stored()?, RefCell::default());
        Some(Rc::new(Slices { plane: plane.clone(), head: head.clone(), stored, asked, first }))
    }

    /// Waits until the first bytes of what is planned are there, or on their way.
    ///
    /// # Errors
    /// They cannot be had, and nothing was sent yet.
    pub async fn begin(&self, plan: &Plan) -> Result<(), Failure> {
        let parts = plan.parts.as_ref().and_then(|parts| parts.ranges().first()).map(|range| range.start);
        let at = parts.or_else(|| (!plan.body.is_empty()).then_some(plan.body.start));
        let Some(slice) = at.and_then(|at| self.stored.slice_of(at)) else { return Ok(()) };
        let source = self.find(&slice);
        if let Source::Fill { fill, .. } = &source
            && let Progress::Failed(failure @ (Failure::Changed | Failure::Remote(_))) = progress(fill, None).await
        {
            return Err(failure);
        }
        *self.first.borrow_mut() = Some((slice, source));
        Ok(())
    }

    /// A part of the object.
    pub fn content(self: &Rc<Self>, span: Span) -> Content {
        let (sender, content) = pieces(Some(span.to - span.from));
        let slices = self.clone();
        tokio_uring::spawn(async move {
            if let Err(error) = slices.send(span, &sender).await {
                let _ = sender.send(Err(error)).await;
            }
        });
        content
    }

    async fn send(&self, span: Span, sender: &PieceSender) -> io::Result<()> {
        let mut at = span.from;
        while at < span.to {
            let slice = self.slice(at)?;
            let begun = self.first.borrow_mut().take_if(|(begun, _)| *begun == slice);
            let source = begun.map_or_else(|| self.find(&slice), |(_, source)| source);
            if slice.range.end < span.to {
                // Nobody waits for it yet: it is found, or on its way, when it is wanted.
                self.find(&self.slice(slice.range.end)?);
            }
            let end = slice.range.end.min(span.to);
            self.send_slice(&slice, source, at..end, sender).await?;
            at = end;
        }
        Ok(())
    }

    fn slice(&self, at: u64) -> io::Result<Slice> {
        self.stored.slice_of(at).ok_or_else(|| io::Error::other("the object is not cached in slices"))
    }

    /// The slice as it is cached, or the fill that brings it, which is begun if nobody has.
    fn find(&self, slice: &Slice) -> Source {
        let cache = &self.plane.shared.cache;
        match cache.find(&slice.key(self.head.name(), &self.stored)) {
            Lookup::Hit(lease) => Source::Cache(lease),
            Lookup::Join(fill) => Source::Fill { fill, is_own: false },
            Lookup::Lead(permit) => {
                let fill = permit.fill().clone();
                self.fetch(Fetch::of_part(permit, &self.asked, self.part(slice)));
                Source::Fill { fill, is_own: true }
            }
        }
    }

    /// Has the slice fetched for this request alone.
    fn fetch_alone(&self, slice: &Slice) -> Arc<Flight> {
        let permit = self.plane.shared.cache.aside(&slice.key(self.head.name(), &self.stored), Bypass::NoRoom);
        let fill = permit.fill().clone();
        self.fetch(Fetch::of_part(permit, &self.asked, self.part(slice)));
        fill
    }

    fn part(&self, slice: &Slice) -> Part {
        Part { head: self.head.clone(), stored: self.stored.clone(), slice: slice.clone() }
    }

    fn fetch(&self, fetch: Fetch) {
        if let Some(fetcher) = self.plane.shared.fetcher() {
            self.plane.shared.wake(fetcher.fetch(fetch));
        }
    }

    /// Sends these bytes of the object, which are the slice's.
    async fn send_slice(
        &self,
        slice: &Slice,
        source: Source,
        wanted: std::ops::Range<u64>,
        sender: &PieceSender,
    ) -> io::Result<()> {
        // Counted from the slice's beginning from here on.
        let (mut at, end) = (wanted.start - slice.range.start, wanted.end - slice.range.start);
        let (mut fill, mut is_own) = match source {
            Source::Cache(lease) => {
                count_hit(&self.plane.touch, &lease);
                return send(sender, Bytes::from_owner(lease), at, end).await.map(drop);
            }
            Source::Fill { fill, is_own } => (fill, is_own),
        };
        while at < end {
            match progress(&fill, Some(at)).await {
                Progress::Arriving(lease) | Progress::Ready(lease) => {
                    let to = end.min(lease.filled());
                    at = send(sender, Bytes::from_owner(lease), at, to).await?;
                }
                // There is no room for it. It came for whoever began the fill, and others have it fetched for
                // themselves.
                Progress::Passing(passing) if is_own => match &passing.body {
                    PassingBody::Whole(bytes) => at = send(sender, bytes.clone(), at, end).await?,
                    PassingBody::Coming(body) => {
                        let body = body.lock().take().ok_or(io::ErrorKind::UnexpectedEof)?;
                        return pass(body, at, end, sender).await;
                    }
                },
                // Nor was it fetched to its end for others who have gone.
                Progress::Passing(_) | Progress::Failed(Failure::Io(_)) if fill.aside().is_none() => {
                    (fill, is_own) = (self.fetch_alone(slice), true);
                }
                Progress::Failed(Failure::Changed) => {
                    return Err(io::Error::other("the object has changed at its origin while it was sent"));
                }
                _ => return Err(io::Error::other("the origin did not send all of the object")),
            }
        }
        Ok(())
    }
}

/// Sends `at..end` of some bytes, and returns how far it came.
async fn send(sender: &PieceSender, bytes: Bytes, at: u64, end: u64) -> io::Result<u64> {
    let part = at as usize..end as usize;
    if part.end > bytes.len() || part.start > part.end {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    sender.send(Ok(bytes.slice(part))).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
    Ok(end)
}

/// Sends `at..end` of a body that comes.
async fn pass(mut body: crate::origin::remote::Body, mut at: u64, end: u64, sender: &PieceSender) -> io::Result<()> {
    let mut place = 0;
    while at < end {
        let frame = body.frame().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        let Ok(piece) = frame.map_err(io::Error::other)?.into_data() else { continue };
        let length = piece.len() as u64;
        let (from, to) = (at.clamp(place, place + length) - place, end.clamp(place, place + length) - place);
        if from < to {
            at = place + send(sender, piece, from, to).await?;
        }
        place += length;
    }
    Ok(())
}
