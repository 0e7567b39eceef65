//! Object stores as origins: S3 and what speaks its protocol, Google Cloud Storage, Azure.
//!
//! ```text
//! read      GET and HEAD: conditions and ranges go to the store, and are compared once more with what it answers
//! write     PUT and DELETE: one request, or a multipart upload that leaves nothing when it breaks off
//! listing   the names below a prefix, page by page
//! ```
//! The crate object_store knows the stores' protocols and where credentials come from; the connections are ours
//! ([`transport`]).

mod answer;
mod listing;
mod names;
mod read;
mod transport;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::list::PaginatedListStore;
use object_store::path::Path;
use object_store::{BackoffConfig, RetryConfig};
use tokio::sync::Semaphore;

use super::http::Bounds;
use super::tls::{self, NoAuthorities};
use super::{Answer, Ask, Fault};
use crate::limits;
use transport::Transport;

pub use listing::{Listed, Page};

/// How a store is reached.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The address of a store that speaks S3's protocol: `https://host:port`, or `http://`, which sends the bytes as
    /// they are.
    pub endpoint: Option<String>,
    /// Variables by which region, credentials and the like are given, as the tools of the stores' makers have them.
    pub environment: Vec<(String, String)>,
    /// A file of certificates that are believed instead of those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// What asking it may cost. What may be tried again is, whatever this says: the crate decides that.
    pub bounds: Bounds,
}

/// Why a store cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum NoStore {
    #[error("{0} is no address of a store; write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX")]
    Address(String),
    #[error("an endpoint ({0}) can be named for s3:// only")]
    Endpoint(String),
    #[error("the endpoint {0} is no address; write https://HOST:PORT, or http://HOST:PORT")]
    EndpointAddress(String),
    #[error("the store cannot be set up: {0}")]
    Setup(object_store::Error),
    #[error(transparent)]
    Authorities(#[from] NoAuthorities),
}

/// A part of an object store: the objects of one bucket whose keys begin with the prefix.
#[derive(Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    pages: Arc<dyn Pages>,
    prefix: Path,
    kind: Kind,
    /// Memory for the parts of uploads, in units of a part.
    parts: Arc<Semaphore>,
}

/// Whose protocol a store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    S3,
    Gcs,
    Azure,
}

/// A store whose names are listed page by page.
trait Pages: PaginatedListStore + std::fmt::Debug {}

impl<S: PaginatedListStore + std::fmt::Debug> Pages for S {}

impl Store {
    /// The store at `address`. Nothing is asked of it yet.
    pub fn open(address: &str, options: &StoreOptions) -> Result<Store, NoStore> {
        let not_one = || NoStore::Address(address.to_owned());
        let (scheme, rest) = address.split_once("://").ok_or_else(not_one)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = Path::parse(prefix).map_err(|_| not_one())?;
        if bucket.is_empty() || bucket.contains(['?', '#', '@', ':']) || rest.contains("//") {
            return Err(not_one());
        }
        match (scheme, &options.endpoint) {
            ("s3", _) => open_s3(bucket, options).map(|store| Store::new(store, prefix, Kind::S3)),
            ("gs", None) => open_gcs(bucket, options).map(|store| Store::new(store, prefix, Kind::Gcs)),
            ("az", None) => open_azure(bucket, options).map(|store| Store::new(store, prefix, Kind::Azure)),
            ("gs" | "az", Some(endpoint)) => Err(NoStore::Endpoint(endpoint.clone())),
            _ => Err(not_one()),
        }
    }

    fn new<S: ObjectStore + Pages>(store: S, prefix: Path, kind: Kind) -> Store {
        let objects = Arc::new(store);
        let pages = objects.clone();
        let parts = (limits::STORE_UPLOAD_BYTES / limits::STORE_PART_BYTES) as usize;
        Store { objects, pages, prefix, kind, parts: Arc::new(Semaphore::new(parts)) }
    }

    /// Answers a request as an HTTP server that had the store's objects would. The query is ignored.
    pub async fn send(&self, ask: Ask) -> Result<Answer, Fault> {
        // The body apart: it cannot be shared between threads, and who only reads the head need not care.
        let (head, body) = ask.into_parts();
        match head.method {
            Method::GET | Method::HEAD => self.read(&head).await,
            Method::PUT => self.put(&head, body).await,
            Method::DELETE => self.delete(&head).await,
            _ => {
                let mut answer =
                    answer::text(StatusCode::METHOD_NOT_ALLOWED, "an object store does not have this method");
                answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, PUT, DELETE"));
                Ok(answer)
            }
        }
    }

    /// The key of the object that a request is about; `None` if there can be no such object.
    fn key(&self, head: &Parts) -> Option<Path> {
        let decoded = percent_encoding::percent_decode_str(head.uri.path()).decode_utf8().ok()?;
        let name = decoded.strip_prefix('/')?;
        (!name.is_empty() && !name.ends_with('/')).then_some(())?;
        Path::parse(format!("{}/{name}", self.prefix)).ok()
    }
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.objects, self.prefix)
    }
}

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: limits::STORE_RETRIES,
        retry_timeout: limits::STORE_RETRY_TIME,
    }
}

/// Gives those variables whose names begin with `prefix`, and that the crate knows, to `set`.
fn configure<Key: std::str::FromStr, Builder>(
    options: &StoreOptions,
    prefix: &str,
    builder: Builder,
    set: impl Fn(Builder, Key, &str) -> Builder,
) -> Builder {
    let variables = options.environment.iter().filter(|(name, value)| name.starts_with(prefix) && !value.is_empty());
    variables.fold(builder, |builder, (name, value)| match name.to_ascii_lowercase().parse() {
        Ok(key) => set(builder, key, value),
        Err(_) => builder,
    })
}

fn transport(options: &StoreOptions, is_anonymous: bool) -> Result<Transport, NoStore> {
    let tls = tls::client(options.authorities.as_deref())?;
    // The crate tries again itself.
    let bounds = Bounds { retries: 0, ..options.bounds.clone() };
    Ok(Transport::new(tls, bounds, is_anonymous))
}

fn open_s3(bucket: &str, options: &StoreOptions) -> Result<object_store::aws::AmazonS3, NoStore> {
    let mut builder =
        configure(options, "AWS_", AmazonS3Builder::new(), |builder, key, value| builder.with_config(key, value));
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint.as_str());
    }
    let given = |key: &AmazonS3ConfigKey| builder.get_config_value(key);
    let endpoint = given(&AmazonS3ConfigKey::S3Endpoint).or_else(|| given(&AmazonS3ConfigKey::Endpoint));
    if let Some(endpoint) = &endpoint {
        let is_one = endpoint.parse::<hyper::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some() && uri.query().is_none()
        });
        is_one.then_some(()).ok_or_else(|| NoStore::EndpointAddress(endpoint.clone()))?;
    }
    let says_style =
        options.environment.iter().any(|(name, _)| name.eq_ignore_ascii_case("AWS_VIRTUAL_HOSTED_STYLE_REQUEST"));
    if !says_style {
        // A certificate for *.s3.REGION.amazonaws.com is none for a name with further dots. Other stores seldom have
        // names for their buckets.
        builder = builder.with_virtual_hosted_style_request(endpoint.is_none() && !bucket.contains('.'));
    }
    let is_anonymous = given_as_true(builder.get_config_value(&AmazonS3ConfigKey::SkipSignature));
    builder
        .with_bucket_name(bucket)
        .with_disable_bulk_delete(true)
        .with_retry(retries())
        .with_http_connector(transport(options, is_anonymous)?)
        .build()
        .map_err(NoStore::Setup)
}

fn open_gcs(bucket: &str, options: &StoreOptions) -> Result<object_store::gcp::GoogleCloudStorage, NoStore> {
    let builder = configure(options, "GOOGLE_", GoogleCloudStorageBuilder::new(), |builder, key, value| {
        builder.with_config(key, value)
    });
    let is_anonymous = given_as_true(builder.get_config_value(&GoogleConfigKey::SkipSignature));
    builder
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_http_connector(transport(options, is_anonymous)?)
        .build()
        .map_err(NoStore::Setup)
}

fn open_azure(container: &str, options: &StoreOptions) -> Result<object_store::azure::MicrosoftAzure, NoStore> {
    let builder = configure(options, "AZURE_", MicrosoftAzureBuilder::new(), |builder, key, value| {
        builder.with_config(key, value)
    });
    let is_anonymous = given_as_true(builder.get_config_value(&AzureConfigKey::SkipSignature));
    builder
        .with_container_name(container)
        .with_retry(retries())
        .with_http_connector(transport(options, is_anonymous)?)
        .build()
        .map_err(NoStore::Setup)
}

fn given_as_true(value: Option<String>) -> bool {
    value.is_some_and(|value| value == "true")
}
