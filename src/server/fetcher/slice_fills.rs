//! Fills of what describes an object that is cached in slices, and of its slices: see [`slices`](super::slices).

use super::answer::{Answering, next};
use super::describe::{self, Judged};
use super::queue::Part;
use super::slices::skipping;
use crate::cache::Lookup;
use crate::cache::entry::Lease;
use crate::cache::flight::Failure;
use crate::cache::permit::FillPermit;
use crate::cache::stats::Departure;
use crate::http::request::Method;
use crate::origin::remote::{Ask, Body, Fault};
use crate::ring::system::monotonic;
use crate::version::slices::Slice;
use crate::version::stored::Stored;
use hyper::http::response::Parts;
use hyper::{HeaderMap, StatusCode};
use std::sync::Arc;

impl Answering {
    /// Stores what describes an object of `size` bytes, and one slice of it, with whose first byte the body begins.
    pub(super) async fn store_slice(
        self,
        permit: FillPermit,
        asked: &HeaderMap,
        (parts, body): (Parts, Body),
        judged: Judged,
        size: u64,
        slice: Slice,
    ) {
        let mut stored = describe::describe(&permit, asked, &parts, size, judged);
        stored.slice = self.shared.remote_options().map(|options| options.slice);
        let stored = Arc::new(stored);
        let head = match permit.reserve_response(stored.clone(), monotonic()) {
            Ok(head) => head,
            Err(_) => return self.shared.wake(permit.fail(Failure::Remote(503))),
        };
        // Before anybody hears of the object, so that those who do find its slice on the way.
        let filling = match self.shared.cache.find(&slice.key(permit.name(), &stored)) {
            Lookup::Lead(permit) => self.reserve_slice(&permit, &stored, &slice).map(|entry| (permit, entry)),
            Lookup::Hit(_) | Lookup::Join(_) => None,
        };
        self.shared.wake(permit.publish(head));
        if let Some((permit, entry)) = filling {
            self.fill_slice(permit, entry, body, 0).await;
        }
    }

    fn reserve_slice(&self, permit: &FillPermit, stored: &Stored, slice: &Slice) -> Option<Lease> {
        let entry = permit.reserve_response(Arc::new(describe::slice(stored, slice)), monotonic()).ok()?;
        self.shared.wake(permit.arrive(&entry));
        Some(entry)
    }

    /// Stores a slice from a body in which `before` bytes come before it.
    async fn fill_slice(&self, permit: FillPermit, entry: Lease, body: Body, before: u64) {
        let mut body = skipping(body, before);
        loop {
            let fault = match next(&mut body).await {
                Some(Ok(piece)) => {
                    let left = usize::try_from(entry.size() - entry.filled()).unwrap_or(usize::MAX);
                    self.shared.metrics.origin.body_bytes.add(piece.len() as u64);
                    let mut waiters = permit.append(&entry, &piece[..piece.len().min(left)]);
                    if entry.is_whole() {
                        // Whoever is told of the last byte finds the slice stored.
                        waiters.extend(permit.publish(entry));
                        return self.shared.wake(waiters);
                    }
                    self.shared.wake(waiters);
                    continue;
                }
                Some(Err(fault)) => fault,
                None => Fault::Broken("it is shorter than it said".into()),
            };
            return self.broken(permit, &entry, &fault);
        }
    }

    /// Fetches a slice of an object that is known.
    pub(super) async fn fetch_slice(self, permit: FillPermit, ask: Ask, part: Part) {
        let answer = match self.send(ask).await {
            Ok(answer) => answer,
            Err(fault) => return self.failed(permit, &fault),
        };
        let (parts, body) = answer.into_parts();
        if parts.status.is_server_error() || parts.status == StatusCode::TOO_MANY_REQUESTS {
            self.shared.origin_fails(part.head.name(), &parts.status);
            return self.shared.wake(permit.fail(Failure::Remote(parts.status.as_u16())));
        }
        let Some(before) = part.is_answered_by(&parts) else {
            // What describes it is of an earlier version: whoever asks from now on is told of the present one.
            self.shared.cache.remove_entry(&part.head, Departure::Invalidated);
            return self.shared.wake(permit.fail(Failure::Changed));
        };
        match self.reserve_slice(&permit, &part.stored, &part.slice) {
            Some(entry) => self.fill_slice(permit, entry, body, before).await,
            None => {
                self.pass_on(permit, Method::Get, parts, skipping(body, before)).await;
            }
        }
    }
}
