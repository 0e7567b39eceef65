//! What all connections of the control plane share.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::answer::Answer;
use super::parts::circumstances;
use super::rates::Rates;
use super::room::Listings;
use crate::cache::eviction::Touch;
use crate::exchange::refusal::Refusal;
use crate::http::target::Target;
use crate::limits;
use crate::server::shared::Shared;

/// What all connections of the control plane share.
pub(super) struct ControlPlane {
    pub shared: Arc<Shared>,
    pub touch: Touch,
    /// Writers of one name take turns: each name has one of these locks, chosen by its hash.
    pub writers: Vec<Arc<Mutex<()>>>,
    /// What the dashboard shows over time.
    pub rates: Rates,
    pub listings: Listings,
}

impl ControlPlane {
    pub fn new(shared: Arc<Shared>) -> ControlPlane {
        ControlPlane {
            touch: shared.cache.touch(),
            writers: (0..limits::WRITERS).map(|_| Arc::default()).collect(),
            rates: Rates::default(),
            listings: Listings::default(),
            shared,
        }
    }

    /// The target of a request that is no read.
    pub fn target<'p>(&self, parts: &'p Parts) -> Result<Target<'p>, Answer> {
        let target = Target::parse(parts.uri.path().as_bytes()).map_err(Refusal::Malformed);
        target.map_err(|refusal| self.shared.site.said().answer(&refusal, circumstances(parts)).into())
    }

    /// Reads need the token where that is configured; not so the page that asks for it, nor the words whether the
    /// server lives and is ready.
    pub fn admit_read(&self, target: &Target<'_>, headers: &HeaderMap) -> Result<(), Answer> {
        let is_open = matches!(target, Target::Reserved(page) if matches!(&page[..], b"" | b"health" | b"ready"));
        let authorization = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        if is_open || self.shared.guard.admits_read(authorization) { Ok(()) } else { Err(unauthorized(authorization)) }
    }

    /// Waits until nobody else commits a write to `name`.
    pub(super) async fn turn(&self, name: &[u8]) -> OwnedMutexGuard<()> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        self.writers[(hasher.finish() % limits::WRITERS as u64) as usize].clone().lock_owned().await
    }
}

/// RFC 6750, 3: without credentials only the scheme is named, else what is wrong with them.
pub(super) fn unauthorized(authorization: Option<&[u8]>) -> Answer {
    let (challenge, text) = match authorization {
        None => ("Bearer realm=\"forebay\"", "this needs a token: Authorization: Bearer <token>"),
        Some(_) => ("Bearer realm=\"forebay\", error=\"invalid_token\"", "this is not the token"),
    };
    Answer::problem(StatusCode::UNAUTHORIZED, text).with(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}
