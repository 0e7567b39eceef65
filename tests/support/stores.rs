//! Real object stores: moto as the reference of S3, rclone as one that ignores conditions, azurite for Azure.
//!
//! They are Python and Node programs, which `.ci/run` installs in the folder that FOREBAY_TEST_STORES names. Without it
//! the tests that need them say so and are skipped.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use forebay::origin::remote::http::Bounds;
use forebay::origin::remote::store::{Store, StoreOptions};
use forebay::origin::remote::{Answer, Body, Fault, empty};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use sha2::{Digest, Sha256};

use super::PATIENCE;

/// A store that runs.
pub struct Backing {
    child: Child,
    /// `http://127.0.0.1:port`
    pub endpoint: String,
    _folder: tempfile::TempDir,
}

impl Drop for Backing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bucket that every one of them has.
pub const BUCKET: &str = "bucket";

/// moto: S3 as its makers' documentation has it, in memory.
pub fn moto() -> Option<Backing> {
    let mut command = Command::new(program("bin/moto_server")?);
    command.args(["-H", "127.0.0.1", "-p", "0"]);
    let store = start(command, tempfile::tempdir().unwrap(), "Running on ")?;
    let answer = raw(&store.endpoint, &format!("PUT /{BUCKET} HTTP/1.1\r\nHost: s3\r\nContent-Length: 0\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Some(store)
}

/// rclone: S3 in front of a directory, without conditions.
pub fn rclone() -> Option<Backing> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
    let mut command = Command::new(program("bin/rclone")?);
    command.args(["serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", "key,secret", "--config", "/dev/null"]);
    command.arg(folder.path());
    start(command, folder, "Starting s3 server on [")
}

/// azurite: Azure's blobs, without what its makers send home.
pub fn azurite() -> Option<Backing> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("node");
    command.arg(program("node_modules/.bin/azurite-blob")?).args(["--blobPort", "0", "--skipApiVersionCheck"]);
    command.args(["--disableTelemetry", "--silent", "--location"]).arg(folder.path());
    let store = start(command, folder, "successfully listens on ")?;
    make_container(&store);
    Some(store)
}

/// The account that every azurite has; its key is public.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Makes the container, which takes a signature (shared key).
fn make_container(store: &Backing) {
    let (date, version) = (httpdate::fmt_http_date(std::time::SystemTime::now()), "2021-08-06");
    let fields = format!("x-ms-date:{date}\nx-ms-version:{version}\n");
    let signed = format!("PUT{}{fields}/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container", "\n".repeat(12));
    let signature = BASE64_STANDARD.encode(hmac(&BASE64_STANDARD.decode(ACCOUNT_KEY).unwrap(), signed.as_bytes()));
    let request = format!(
        "PUT /{ACCOUNT}/{BUCKET}?restype=container HTTP/1.1\r\nHost: azurite\r\nContent-Length: 0\r\n\
         x-ms-date: {date}\r\nx-ms-version: {version}\r\nAuthorization: SharedKey {ACCOUNT}:{signature}\r\n\r\n"
    );
    let answer = raw(&store.endpoint, &request);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

/// HMAC-SHA-256 (RFC 2104) with a key of a block at most.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |with: u8| (0..64).map(|at| key.get(at).unwrap_or(&0) ^ with).collect::<Vec<u8>>();
    let inner = Sha256::digest([&pad(0x36), text].concat());
    Sha256::digest([&pad(0x5c)[..], &inner].concat()).to_vec()
}

/// The variables by which a server reaches azurite.
pub fn azure_environment(store: &Backing) -> Vec<(String, String)> {
    [
        ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.to_owned()),
        ("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY.to_owned()),
        ("AZURE_STORAGE_ENDPOINT", format!("{}/{ACCOUNT}", store.endpoint)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// The variables by which a server reaches a store of S3.
pub fn environment() -> Vec<(String, String)> {
    [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_REGION", "us-east-1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

fn program(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("FOREBAY_TEST_STORES").map(PathBuf::from);
    let found = folder.map(|folder| folder.join(name)).filter(|path| path.exists());
    if found.is_none() {
        // Past what the test harness captures.
        let _ = std::io::stderr().write_all(format!("SKIPPED: {name} is not in FOREBAY_TEST_STORES\n").as_bytes());
    }
    found
}

/// Starts a store, and waits until it says where it listens.
fn start(mut command: Command, folder: tempfile::TempDir, before: &'static str) -> Option<Backing> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir(folder.path());
    let mut child = command.spawn().expect("the store's program can be started");
    let (says, said) = mpsc::channel();
    let outputs: [Box<dyn Read + Send>; 2] =
        [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
    for output in outputs {
        let says = says.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once(before) {
                    let end = rest.find([']', ' ', '\u{1b}']).unwrap_or(rest.len());
                    let _ = says.send(rest[..end].trim_end_matches('/').to_owned());
                }
            }
        });
    }
    let endpoint = said.recv_timeout(PATIENCE).expect("the store says where it listens");
    Some(Backing { child, endpoint, _folder: folder })
}

/// Sends a request as it is, and reads the answer's head.
pub fn raw(endpoint: &str, request: &str) -> String {
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn options(endpoint: &str) -> StoreOptions {
    StoreOptions {
        endpoint: Some(endpoint.to_owned()),
        environment: environment(),
        authorities: None,
        bounds: Bounds { connections: 8, ..Bounds::default() },
    }
}

pub fn open(backing: &Backing) -> Store {
    Store::open(&format!("s3://{BUCKET}/some/prefix"), &options(&backing.endpoint)).unwrap()
}

pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer that was read to its end.
pub struct Answered {
    pub status: u16,
    pub fields: hyper::HeaderMap,
    pub body: Bytes,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = String::from_utf8_lossy(&self.body[..self.body.len().min(200)]);
        write!(f, "{} {:?} {} bytes: {start:?}", self.status, self.fields, self.body.len())
    }
}

impl Answered {
    #[track_caller]
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Answered {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

pub async fn read(answer: Answer) -> Result<Answered, Fault> {
    let (head, body) = answer.into_parts();
    Ok(Answered { status: head.status.as_u16(), fields: head.headers, body: body.collect().await?.to_bytes() })
}

pub async fn ask(
    store: &Store,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: Body,
) -> Result<Answered, Fault> {
    let request = Request::builder().method(method).uri(target);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    read(store.send(request.body(body).unwrap()).await?).await
}

pub async fn get(store: &Store, target: &str, fields: &[(&str, &str)]) -> Answered {
    ask(store, "GET", target, fields, empty()).await.unwrap()
}

pub async fn put(store: &Store, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Answered {
    ask(store, "PUT", target, fields, whole(body.to_vec())).await.unwrap()
}

/// A server in front of a part of this store's bucket.
pub fn serve(backing: &Backing, args: &[&str]) -> super::Server {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(["serve", &format!("s3://{BUCKET}/some/prefix"), "--listen", "127.0.0.1:0"]);
    command.args(["--s3-endpoint", &backing.endpoint]).args(args).envs(environment());
    super::Server::spawn(command, 1)
}
