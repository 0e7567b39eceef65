//! PUT and DELETE: straight at the origin, past the cache. See [`crate::origin::upload`] for how a file gets its name.

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};

use super::answer::{Answer, Content};
use super::parts::{OwnedConditions, field};
use super::plane::ControlPlane;
use super::pool::blocking;
use super::request_body::RequestBody;
use crate::cache::stats::Departure;
use crate::exchange::refusal::is_passing;
use crate::http::digest;
use crate::metrics::labels::{Timeout, Upload as Outcome};
use crate::origin::error::WriteError;
use crate::origin::upload::Upload;
use crate::ring::system::monotonic;
use crate::server::shared::Shared;

impl ControlPlane {
    /// Stores the body under `name`.
    pub async fn put(self: &Rc<Self>, name: &[u8], parts: &Parts, body: RequestBody) -> Result<Answer, Answer> {
        let mut account = Account { plane: self.clone(), outcome: Outcome::Aborted };
        let result = self.store(name, parts, body).await;
        account.outcome = match &result {
            Ok(_) => Outcome::Stored,
            Err(answer) if answer.status == StatusCode::REQUEST_TIMEOUT => Outcome::Aborted,
            Err(answer) if answer.status == StatusCode::INSUFFICIENT_STORAGE => Outcome::Failed,
            Err(answer) if answer.status.is_server_error() => Outcome::Failed,
            Err(_) => Outcome::Refused,
        };
        result
    }

    async fn store(self: &Rc<Self>, name: &[u8], parts: &Parts, mut body: RequestBody) -> Result<Answer, Answer> {
        if parts.headers.contains_key(header::CONTENT_RANGE) {
            let text = "a part of a file cannot be stored: PUT takes no Content-Range";
            return Err(Answer::problem(StatusCode::BAD_REQUEST, text));
        }
        let expected = expected_digest(&parts.headers)?;
        let limit = self.shared.options.max_upload_bytes;
        let announced = body.size_hint().exact();
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        let conditions = OwnedConditions::of(parts);
        // Once before the body is asked for, to spare the client sending it in vain; again when it is there.
        let (shared, owned) = (self.shared.clone(), name.to_vec());
        let begun = blocking(move || -> Result<Upload, WriteError> {
            let upload = shared.origin.local()?.begin_upload(&owned)?;
            let present = upload.present()?;
            conditions.permits_write(present.as_ref()).then_some(upload).ok_or(WriteError::ConditionFailed)
        });
        let upload = begun.await?.map_err(refusal)?;

        self.receive(&mut body, &upload, limit, announced, expected).await?;

        let turn = self.turn(name).await;
        let conditions = OwnedConditions::of(parts);
        let (shared, owned) = (self.shared.clone(), name.to_vec());
        let stored = blocking(move || {
            // Here and not after the answer, which may be for nobody: what is cached must go in any case.
            let _turn = turn;
            let directory = shared.origin.local()?;
            let stored = upload.commit(directory, &|present| conditions.permits_write(present));
            forget(&shared, &owned, Departure::Replaced);
            stored
        });
        let stored = stored.await?.map_err(refusal)?;
        let status = if stored.created { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
        Ok(Answer::new(status, Content::Empty).with(header::ETAG, stored.identity.etag().to_string()))
    }

    /// Writes the body to the file and makes it durable.
    async fn receive(
        &self,
        body: &mut RequestBody,
        upload: &Upload,
        limit: u64,
        announced: Option<u64>,
        expected: Option<[u8; 32]>,
    ) -> Result<(), Answer> {
        let file = upload.file().try_clone().map_err(|error| refusal(error.into()))?;
        let file = tokio_uring::fs::File::from_std(file);
        // A chunked body may bring its digest afterwards, in a trailer.
        let mut digest = (expected.is_some() || announced.is_none()).then(Sha256::new);
        let mut trailed = None;
        let mut received = 0u64;
        while let Some(frame) = self.frame(body).await? {
            let piece = match frame.into_data() {
                Ok(piece) => piece,
                Err(frame) => {
                    trailed = frame.trailers_ref().map_or(Ok(None), expected_digest)?;
                    continue;
                }
            };
            let length = piece.len() as u64;
            self.shared.metrics.shared.upload_bytes.add(length);
            if received.saturating_add(length) > limit {
                return Err(too_large(limit));
            }
            if let Some(digest) = &mut digest {
                digest.update(&piece);
            }
            if length > 0 {
                let (result, _) = file.write_all_at(piece, received).await;
                result.map_err(|error| refusal(error.into()))?;
            }
            received += length;
        }
        if announced.is_some_and(|length| length != received) {
            return Err(Answer::problem(StatusCode::BAD_REQUEST, "the body is shorter than its Content-Length says"));
        }
        let is = digest.map(|digest| <[u8; 32]>::from(digest.finalize()));
        if [expected, trailed].iter().flatten().any(|expected| is != Some(*expected)) {
            let text = "the body is not what its Content-Digest says; nothing was stored";
            return Err(Answer::problem(StatusCode::BAD_REQUEST, text));
        }
        file.sync_all().await.map_err(|error| refusal(error.into()))?;
        file.close().await.map_err(|error| refusal(error.into()))
    }

    /// The next frame of a body (data or trailers); None at its end.
    async fn frame(&self, body: &mut RequestBody) -> Result<Option<Frame<Bytes>>, Answer> {
        match tokio::time::timeout(self.shared.options.idle_timeout, body.frame()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(frame))) => Ok(Some(frame)),
            Ok(Some(Err(error))) => {
                let text = format!("the body ended before it was whole: {error}");
                Err(Answer::problem(StatusCode::BAD_REQUEST, text))
            }
            Err(_elapsed) => {
                self.shared.metrics.control.timeouts[Timeout::Body].one();
                Err(Answer::problem(StatusCode::REQUEST_TIMEOUT, "the rest of the body did not come"))
            }
        }
    }

    /// Deletes the file `name`.
    pub async fn delete(self: &Rc<Self>, name: &[u8], parts: &Parts) -> Result<Answer, Answer> {
        let turn = self.turn(name).await;
        let conditions = OwnedConditions::of(parts);
        let (shared, owned) = (self.shared.clone(), name.to_vec());
        let deleted = blocking(move || {
            let _turn = turn;
            let deleted = shared.origin.local()?.delete(&owned, &|present| conditions.permits_write(present));
            forget(&shared, &owned, Departure::Deleted);
            deleted
        });
        deleted.await?.map_err(refusal)?;
        Ok(Answer::new(StatusCode::NO_CONTENT, Content::Empty))
    }
}

/// Counts an upload when it is over; a client that goes away drops the request, and this, midway.
struct Account {
    plane: Rc<ControlPlane>,
    outcome: Outcome,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.plane.shared.metrics.shared.uploads[self.outcome].one();
    }
}

/// Drops what is known of a name that was written to.
fn forget(shared: &Shared, name: &[u8], why: Departure) {
    shared.cache.remove(name, why);
    if let Some(fallback) = &shared.fallback {
        // And so are the directories that it made.
        let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        slashes.chain([name.len()]).for_each(|end| fallback.note_written(&name[..end], monotonic()));
    }
}

/// What the body's SHA-256 must be, if the client says (RFC 9530, 2).
pub(super) fn expected_digest(headers: &HeaderMap) -> Result<Option<[u8; 32]>, Answer> {
    let refuse = |text: &str| {
        Answer::problem(StatusCode::BAD_REQUEST, text)
            .with(HeaderName::from_static("want-content-digest"), HeaderValue::from_static("sha-256=10"))
    };
    let Some(value) = field(headers, HeaderName::from_static("content-digest")) else { return Ok(None) };
    digest::sha256(&value).map(Some).map_err(|error| refuse(&error.to_string()))
}

fn too_large(limit: u64) -> Answer {
    Answer::problem(StatusCode::PAYLOAD_TOO_LARGE, format!("an upload may have {limit} bytes (--max-upload)"))
}

/// The answer to a write that did not happen.
fn refusal(error: WriteError) -> Answer {
    let status = match &error {
        WriteError::IsDirectory | WriteError::ParentNotDirectory | WriteError::Special => StatusCode::CONFLICT,
        WriteError::NotFound => StatusCode::NOT_FOUND,
        WriteError::ConditionFailed => StatusCode::PRECONDITION_FAILED,
        WriteError::NameTooLong => StatusCode::URI_TOO_LONG,
        WriteError::TooDeep(_) => StatusCode::BAD_REQUEST,
        WriteError::RootExchanged | WriteError::RootAbsent(_) => StatusCode::SERVICE_UNAVAILABLE,
        WriteError::Denied(_) => StatusCode::FORBIDDEN,
        WriteError::NoSpace(_) | WriteError::TooLarge(_) => StatusCode::INSUFFICIENT_STORAGE,
        WriteError::Io(error) if error.raw_os_error().is_some_and(is_passing) => StatusCode::SERVICE_UNAVAILABLE,
        WriteError::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status.is_server_error() {
        tracing::warn!("a write failed: {error}");
    }
    match status {
        StatusCode::SERVICE_UNAVAILABLE => Answer::problem(status, error).retry_soon(),
        _ => Answer::problem(status, error),
    }
}

impl From<io::Error> for Answer {
    fn from(error: io::Error) -> Answer {
        refusal(error.into())
    }
}
