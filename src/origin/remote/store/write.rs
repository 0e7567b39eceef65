//! PUT and DELETE.
//!
//! A body of up to [`limits::STORE_PART_BYTES`] is one request to the store; a longer one is a multipart upload, of
//! which one part at a time is in memory: while it is sent nothing more is taken from the client. Stores make an upload
//! visible as a whole. One that breaks off is taken back, and the old object stays.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts as Head;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, MultipartUpload, ObjectMeta, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, UpdateVersion,
};
use tokio::sync::OwnedSemaphorePermit;

use super::super::{Answer, Body, Fault};
use super::answer::{CONDITION_FAILED, bare, of_error, text};
use super::read::entity_tag;
use super::transport::Operation;
use super::{Kind, Store};
use crate::http::conditional::{Comparison, names};
use crate::http::media;
use crate::limits;

/// The fields of a request that an object carries from then on.
const CARRIED: &[(HeaderName, Attribute)] = &[
    (header::CONTENT_TYPE, Attribute::ContentType),
    (header::CONTENT_ENCODING, Attribute::ContentEncoding),
    (header::CONTENT_LANGUAGE, Attribute::ContentLanguage),
    (header::CONTENT_DISPOSITION, Attribute::ContentDisposition),
    (header::CACHE_CONTROL, Attribute::CacheControl),
];

/// The state of the object under which a write may happen.
enum Condition {
    None,
    /// There must be none.
    Absent,
    /// It must be this version.
    Version(UpdateVersion),
}

impl Condition {
    /// The condition of a write where `present` is there now; `None` if it fails already. What a store cannot be asked
    /// (lists of tags, weak ones, `If-Match: *`) is decided here, and becomes a condition on what was found.
    fn of(fields: &HeaderMap, present: Option<&ObjectMeta>) -> Option<Condition> {
        let field = |name: HeaderName| fields.get(name).map(HeaderValue::as_bytes);
        let tag = present.and_then(|object| object.e_tag.as_deref()).and_then(entity_tag);
        let named = |list: &[u8], comparison| match &tag {
            Some(tag) => names(list, tag.as_bytes(), comparison),
            None => present.is_some() && list.trim_ascii() == b"*",
        };
        let found = || present.map_or(Condition::Absent, Condition::version);
        match (field(header::IF_MATCH), field(header::IF_NONE_MATCH)) {
            (Some(list), _) => named(list, Comparison::Strong).then(found),
            (None, Some(list)) => (!named(list, Comparison::Weak)).then(found),
            (None, None) => Some(Condition::None),
        }
    }

    fn version(object: &ObjectMeta) -> Condition {
        Condition::Version(UpdateVersion { e_tag: object.e_tag.clone(), version: object.version.clone() })
    }

    fn mode(&self) -> PutMode {
        match self {
            Condition::None => PutMode::Overwrite,
            Condition::Absent => PutMode::Create,
            Condition::Version(version) => PutMode::Update(version.clone()),
        }
    }

    /// The same as a field of the last request of a multipart upload, if that can have one.
    fn field(&self, kind: Kind) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match (kind, self) {
            // The field would have to be signed.
            (Kind::Azure, _) | (_, Condition::None) => return None,
            (Kind::Gcs, Condition::Absent) => (GENERATION, "0"),
            (Kind::Gcs, Condition::Version(version)) => (GENERATION, version.version.as_deref()?),
            (Kind::S3, Condition::Absent) => (header::IF_NONE_MATCH, "*"),
            (Kind::S3, Condition::Version(version)) => (header::IF_MATCH, version.e_tag.as_deref()?),
        };
        HeaderValue::from_str(value).ok().map(|value| (name, value))
    }

    /// Whether it holds where `present` is there now.
    fn holds(&self, present: Option<&ObjectMeta>) -> bool {
        match self {
            Condition::None => true,
            Condition::Absent => present.is_none(),
            Condition::Version(version) => present.is_some_and(|object| object.e_tag == version.e_tag),
        }
    }
}

/// How Google's store is told which version is meant.
const GENERATION: HeaderName = HeaderName::from_static("x-goog-if-generation-match");

/// A body in parts of one size, the last excepted.
struct Parts {
    body: Body,
    size: u64,
    /// What came beyond the end of the last part.
    rest: Bytes,
    is_over: bool,
}

impl Parts {
    /// The parts of a body that has this length, if that is known.
    fn of(body: Body, announced: Option<u64>) -> Parts {
        let needed = announced.unwrap_or_default().div_ceil(limits::STORE_PARTS);
        Parts { body, size: needed.max(limits::STORE_PART_BYTES), rest: Bytes::new(), is_over: false }
    }

    /// The next part; it is shorter than the others, or empty, only at the end.
    async fn next(&mut self) -> Result<PutPayload, Fault> {
        let mut part = Vec::new();
        let mut room = self.size;
        while room > 0 {
            if self.rest.is_empty() {
                match self.body.frame().await {
                    None => {
                        self.is_over = true;
                        break;
                    }
                    Some(frame) => self.rest = frame?.into_data().unwrap_or_default(),
                }
            }
            let taken = self.rest.split_to(self.rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            room -= taken.len() as u64;
            if !taken.is_empty() {
                part.push(taken);
            }
        }
        Ok(part.into_iter().collect())
    }
}

/// A multipart upload. Unless it is completed, nothing of it stays.
struct Upload(Option<Box<dyn MultipartUpload>>);

impl Upload {
    async fn add(&mut self, part: PutPayload) -> object_store::Result<()> {
        self.parts()?.put_part(part).await
    }

    async fn complete(mut self) -> object_store::Result<PutResult> {
        let completed = self.parts()?.complete().await?;
        self.0 = None;
        Ok(completed)
    }

    fn parts(&mut self) -> object_store::Result<&mut Box<dyn MultipartUpload>> {
        let over = || Error::Generic { store: "multipart", source: "the upload is over".into() };
        self.0.as_mut().ok_or_else(over)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(mut parts), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(async move {
            if let Err(error) = parts.abort().await {
                tracing::warn!("an upload broke off, and the store did not take it back: {error}");
            }
        });
    }
}

impl Store {
    /// Stores an object: 201 where there was none, 204 where it replaces one.
    pub(super) async fn put(&self, head: &Head, body: Body) -> Result<Answer, Fault> {
        let Some(key) = self.key(head) else {
            return Ok(text(StatusCode::BAD_REQUEST, "no object can have this name"));
        };
        let present = match self.present(&key).await? {
            Ok(present) => present,
            Err(answer) => return Ok(answer),
        };
        let Some(condition) = Condition::of(&head.headers, present.as_ref()) else {
            return Ok(text(StatusCode::PRECONDITION_FAILED, CONDITION_FAILED));
        };
        let attributes = attributes(&key, &head.headers);
        let announced = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let mut parts = Parts::of(body, announced);
        let _memory = self.memory(parts.size).await?;
        let first = parts.next().await?;
        let stored = match parts.is_over {
            true => self.put_at_once(&key, first, attributes, &condition).await,
            false => self.put_in_parts(&key, first, parts, attributes, &condition).await,
        };
        Ok(match stored? {
            Ok(result) => {
                let mut answer = bare(match present {
                    Some(_) => StatusCode::NO_CONTENT,
                    None => StatusCode::CREATED,
                });
                let tag = result.e_tag.as_deref().and_then(entity_tag);
                answer.headers_mut().extend(tag.map(|tag| (header::ETAG, tag)));
                answer
            }
            Err(answer) => answer,
        })
    }

    /// What is there now. The inner error is an answer instead.
    async fn present(&self, key: &Path) -> Result<Result<Option<ObjectMeta>, Answer>, Fault> {
        Ok(match self.look(key).await? {
            Ok(object) => Ok(Some(object)),
            Err(answer) if answer.status() == StatusCode::NOT_FOUND => Ok(None),
            Err(answer) => Err(answer),
        })
    }

    async fn put_at_once(
        &self,
        key: &Path,
        body: PutPayload,
        attributes: Attributes,
        condition: &Condition,
    ) -> Result<Result<PutResult, Answer>, Fault> {
        let operation = Operation::default();
        let options = PutOptions { mode: condition.mode(), attributes, ..PutOptions::default() };
        let stored = operation.scope(self.objects.put_opts(key, body, options)).await;
        outcome(stored, &operation)
    }

    async fn put_in_parts(
        &self,
        key: &Path,
        first: PutPayload,
        mut parts: Parts,
        attributes: Attributes,
        condition: &Condition,
    ) -> Result<Result<PutResult, Answer>, Fault> {
        let operation = Operation::completed_if(condition.field(self.kind));
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let mut upload = match operation.scope(self.objects.put_multipart_opts(key, options)).await {
            Ok(parts) => Upload(Some(parts)),
            Err(error) => return of_error(&error, &operation).map(Err),
        };
        let mut part = first;
        for _ in 0..limits::STORE_PARTS {
            if part.content_length() > 0
                && let Err(error) = operation.scope(upload.add(part)).await
            {
                return of_error(&error, &operation).map(Err);
            }
            if parts.is_over {
                // Once more, where the store is not asked in the same step, or ignores it.
                if !matches!(condition, Condition::None) {
                    let present = match self.present(key).await? {
                        Ok(present) => present,
                        Err(answer) => return Ok(Err(answer)),
                    };
                    if !condition.holds(present.as_ref()) {
                        return Ok(Err(text(StatusCode::PRECONDITION_FAILED, CONDITION_FAILED)));
                    }
                }
                return outcome(operation.scope(upload.complete()).await, &operation);
            }
            part = parts.next().await?;
        }
        let most = limits::STORE_PARTS * parts.size;
        let reason = format!("an upload whose length is not said may have {most} bytes; say it in Content-Length");
        Ok(Err(text(StatusCode::PAYLOAD_TOO_LARGE, reason)))
    }

    /// Waits until there is memory for a part of this size.
    async fn memory(&self, size: u64) -> Result<OwnedSemaphorePermit, Fault> {
        let units = size.div_ceil(limits::STORE_PART_BYTES).min(limits::STORE_UPLOAD_BYTES / limits::STORE_PART_BYTES);
        let memory = Arc::clone(&self.parts).acquire_many_owned(u32::try_from(units).unwrap_or(1)).await;
        memory.map_err(|_closed| Fault::Busy)
    }

    /// Deletes an object: 204, or 404 where there is none.
    pub(super) async fn delete(&self, head: &Head) -> Result<Answer, Fault> {
        let Some(key) = self.key(head) else { return Ok(text(StatusCode::NOT_FOUND, "no object can have this name")) };
        let present = match self.look(&key).await? {
            Ok(object) => object,
            Err(answer) => return Ok(answer),
        };
        if Condition::of(&head.headers, Some(&present)).is_none() {
            return Ok(text(StatusCode::PRECONDITION_FAILED, CONDITION_FAILED));
        }
        let operation = Operation::default();
        match operation.scope(object_store::ObjectStoreExt::delete(&*self.objects, &key)).await {
            Ok(()) => Ok(bare(StatusCode::NO_CONTENT)),
            Err(error) => of_error(&error, &operation),
        }
    }
}

fn outcome(stored: object_store::Result<PutResult>, operation: &Operation) -> Result<Result<PutResult, Answer>, Fault> {
    match stored {
        Ok(result) => Ok(Ok(result)),
        Err(error) => of_error(&error, operation).map(Err),
    }
}

/// What the object carries: the fields that were sent, and a type in any case.
fn attributes(key: &Path, fields: &HeaderMap) -> Attributes {
    let mut attributes = Attributes::new();
    let by_name = media::of(key.as_ref().as_bytes()).content_type(b"");
    attributes.insert(Attribute::ContentType, by_name.into());
    for (name, attribute) in CARRIED {
        if let Some(value) = fields.get(name).and_then(|value| value.to_str().ok()) {
            attributes.insert(attribute.clone(), value.to_owned().into());
        }
    }
    attributes
}
