//! `put`: files from here to the server, each checked there against the digest taken here.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use indicatif::ProgressBar;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::connection::{Activity, Connection, RequestBody};
use super::name::{NameError, RemoteName};
use super::report::{Done, Report};
use super::upload::{self, CONTENT_DIGEST, Source, Upload};
use super::{Error, Settings, file_error, jobs};
use crate::text;

/// From this many bytes on, the server is asked before they are sent (`Expect: 100-continue`), so that a refusal costs
/// nothing.
const EXPECT_FROM_BYTES: u64 = 1 << 20;
/// The server answers when the file is durable; flushing a large one may take many times longer than any other silence.
const FLUSH_PATIENCE: u32 = 10;

/// What is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A regular file.
    File(PathBuf),
    /// Standard input, of unknown length.
    Stdin,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::File(path) => f.write_str(&text::path(path)),
            Input::Stdin => f.write_str("standard input"),
        }
    }
}

/// One file to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What is put.
    pub input: Input,
    /// Its name on the server.
    pub name: RemoteName,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// Puts the files over up to `jobs` connections at a time; over one, in their order.
pub async fn put(settings: Arc<Settings>, orders: Vec<Order>, jobs: usize, report: Arc<Report>) {
    let reporter = report.clone();
    let work = async move |connection: &mut Connection, order: &Order| put_one(connection, order, &reporter).await;
    jobs::run("put", settings, orders, jobs, &report, work).await;
}

async fn put_one(connection: &mut Connection, order: &Order, report: &Report) -> Result<Done, Error> {
    let label = order.name.to_string();
    // The body's own error (a file that became shorter, say) reaches hyper's caller only as "the body failed".
    let failure = Arc::new(Mutex::new(None));
    let is_whole = Arc::new(AtomicBool::new(false));
    let (bar, response) = match &order.input {
        Input::File(path) => {
            let (file, len, digest) = {
                let (path, bar) = (path.clone(), report.bar(&format!("digest of {label}"), Some(0)));
                tokio::task::spawn_blocking(move || open(&path, &bar))
                    .await
                    .map_err(|error| Error::Local(format!("reading ended unexpectedly: {error}")))??
            };
            let bar = report.bar(&label, Some(len));
            let build = |activity: Activity| {
                // A file of its own position for each attempt.
                let mut file = file.try_clone().map_err(file_error("read", path))?;
                file.seek(SeekFrom::Start(0)).map_err(file_error("read", path))?;
                bar.set_position(0);
                let mut request =
                    request(Source::File { file, left: len }, bar.clone(), activity, len, &failure, &is_whole);
                request.headers_mut().insert(CONTENT_DIGEST, digest.clone());
                request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
                Ok(request)
            };
            (bar.clone(), send(connection, order, build).await)
        }
        Input::Stdin => {
            // Standard input can be read once only, so no connection that may have gone is tried.
            connection.close();
            let bar = report.bar(&label, None);
            let mut source = Some(upload::stream(io::stdin()));
            let build = |activity: Activity| {
                let source = source.take().ok_or_else(|| Error::Local("standard input was read already".to_owned()))?;
                let mut request = request(source, bar.clone(), activity, u64::MAX, &failure, &is_whole);
                request.headers_mut().insert(header::TRAILER, HeaderValue::from_static("Content-Digest"));
                Ok(request)
            };
            (bar.clone(), send(connection, order, build).await)
        }
    };
    let sent = bar.position();
    bar.finish_and_clear();
    let response = match response {
        Ok(response) => response,
        Err(error) => return Err(failure.lock().take().map_or(error, Error::Local)),
    };
    let verb = match response.status() {
        StatusCode::CREATED => "created",
        StatusCode::OK | StatusCode::NO_CONTENT => "replaced",
        _ => {
            let error = connection.refused(response).await;
            // Bytes of the body may not have been sent: what follows would be taken for them.
            connection.close();
            return Err(error);
        }
    };
    if !is_whole.load(Ordering::Relaxed) {
        connection.close();
        let status = response.status().as_u16();
        return Err(Error::Unexpected(format!(
            "the server answered {status} after {} of it, before it had the whole file",
            text::bytes(sent)
        )));
    }
    connection.words(response.into_body()).await;
    Ok(Done::with(verb, sent))
}

async fn send(
    connection: &mut Connection,
    order: &Order,
    build: impl FnMut(Activity) -> Result<Request<RequestBody>, Error>,
) -> Result<hyper::Response<hyper::body::Incoming>, Error> {
    let patience = connection.timeout().saturating_mul(FLUSH_PATIENCE).min(Duration::from_secs(86_400));
    connection.send(&order.name.target(), patience, build).await
}

/// A PUT with this body; from [`EXPECT_FROM_BYTES`] on it waits for the server's word.
fn request(
    source: Source,
    bar: ProgressBar,
    activity: Activity,
    len: u64,
    failure: &Arc<Mutex<Option<String>>>,
    is_whole: &Arc<AtomicBool>,
) -> Request<RequestBody> {
    let (go, expect) = match len >= EXPECT_FROM_BYTES {
        true => {
            let (go, wait) = oneshot::channel();
            (Some(go), Some(wait))
        }
        false => (None, None),
    };
    let failure = failure.clone();
    let body = Upload::new(source, bar, activity, expect, is_whole.clone()).map_err(move |error| {
        *failure.lock() = Some(error.to_string());
        error
    });
    let mut request = Request::new(body.boxed_unsync());
    *request.method_mut() = Method::PUT;
    if let Some(go) = go {
        request.headers_mut().insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        let go = Mutex::new(Some(go));
        hyper::ext::on_informational(&mut request, move |response| {
            if response.status() == StatusCode::CONTINUE
                && let Some(go) = go.lock().take()
            {
                // The body may have been given up meanwhile.
                let _ = go.send(());
            }
        });
    }
    request
}

/// Opens a file, and takes its length and digest. Blocks on the disk.
fn open(path: &Path, bar: &ProgressBar) -> Result<(File, u64, HeaderValue), Error> {
    let mut file = File::open(path).map_err(file_error("open", path))?;
    let metadata = file.metadata().map_err(file_error("read", path))?;
    if !metadata.is_file() {
        return Err(Error::Local(format!("{} is not a regular file", text::path(path))));
    }
    bar.set_length(metadata.len());
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut len = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(&buffer[..read]);
                len += read as u64;
                bar.set_position(len);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(file_error("read", path)(error)),
        }
    }
    Ok((file, len, upload::content_digest(hash)))
}

/// What is wrong with what is to be put.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("{0} is a directory; add --recursive to put all that is in it")]
    Directory(String),
    #[error("{0} is not a regular file")]
    Special(String),
    #[error("standard input has no name of its own; give it one with --as NAME")]
    Unnamed,
    #[error("{path}: {source}")]
    Name { path: String, source: NameError },
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: io::Error },
}

/// The orders for what was typed: `-` is standard input, a directory is everything beneath it. A file goes to `target`
/// if that names a file, else to its own name beneath `target`.
pub fn orders(typed: &Path, target: &Target, recursive: bool, report: &Report) -> Result<Vec<Order>, OrderError> {
    if typed.as_os_str() == "-" {
        return match target {
            Target::File(name) => Ok(vec![Order { input: Input::Stdin, name: name.clone() }]),
            Target::Directory(_) => Err(OrderError::Unnamed),
        };
    }
    let shown = text::path(typed);
    let metadata = typed.metadata().map_err(|source| OrderError::Read { path: shown.clone(), source })?;
    let root = match (target, typed.file_name()) {
        (Target::File(name), _) => name.path().to_owned(),
        (Target::Directory(directory), Some(name)) => directory.path().join(name),
        // "." and "..": what is in them, without a directory of that name.
        (Target::Directory(directory), None) => directory.path().to_owned(),
    };
    let order = |path: PathBuf, name: &Path| {
        let name = RemoteName::parse(name);
        let name = name.map_err(|source| OrderError::Name { path: text::path(&path), source })?;
        Ok(Order { input: Input::File(path), name })
    };
    if metadata.is_file() {
        return Ok(vec![order(typed.to_owned(), &root)?]);
    }
    if !metadata.is_dir() {
        return Err(OrderError::Special(shown));
    }
    if !recursive {
        return Err(OrderError::Directory(shown));
    }
    let mut found = Vec::new();
    walk(typed, &mut found, report);
    found
        .into_iter()
        .map(|path| {
            let beneath = path.strip_prefix(typed).expect("found beneath it").to_owned();
            order(path, &root.join(beneath))
        })
        .collect()
}

/// Leaves out what would replace another file of the same command, and reports it.
pub fn without_clashes(orders: Vec<Order>, report: &Report) -> Vec<Order> {
    let mut inputs = HashMap::new();
    let is_alone = |order: &Order| match inputs.entry(order.name.clone()).or_insert_with(|| order.input.clone()) {
        first if *first == order.input => true,
        first => {
            report.failure(&format!("put: {order}: {} would replace {}; not put", order.input, first));
            false
        }
    };
    orders.into_iter().filter(is_alone).collect()
}

/// Where files go on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To this name.
    File(RemoteName),
    /// Beneath this directory, which may be the root, under their own names.
    Directory(RemoteName),
}

impl Target {
    /// What was typed: a directory if it ends in a slash, else a file.
    pub fn parse(typed: impl AsRef<OsStr>) -> Result<Target, NameError> {
        let typed = typed.as_ref();
        match typed.as_bytes() {
            b"" => Err(NameError::Empty),
            bytes if bytes.ends_with(b"/") => RemoteName::directory(bytes).map(Target::Directory),
            _ => RemoteName::parse(typed).map(Target::File),
        }
    }
}

/// Collects the regular files beneath a directory, sorted. Links to files count as files; links to directories are not
/// followed, since they may lead in circles. What cannot be read is reported, and the rest is collected.
fn walk(directory: &Path, found: &mut Vec<PathBuf>, report: &Report) {
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        let failed = |path: &Path, error: io::Error| report.failure(&format!("put: {}: {error}", text::path(path)));
        let entries = match directory.read_dir() {
            Ok(entries) => entries,
            Err(error) => {
                failed(&directory, error);
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    failed(&directory, error);
                    break;
                }
            };
            let path = entry.path();
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            match path.metadata() {
                Ok(metadata) if metadata.is_file() => found.push(path),
                Ok(metadata) if metadata.is_dir() && !is_link => pending.push(path),
                Ok(metadata) if metadata.is_dir() => {
                    report.note(&format!("put: {}: a link to a directory, skipped", text::path(&path)));
                }
                Ok(_) => report.note(&format!("put: {}: not a regular file, skipped", text::path(&path))),
                Err(error) => failed(&path, error),
            }
        }
    }
    found.sort();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RemoteName {
        RemoteName::directory(text.as_bytes()).unwrap()
    }

    fn names(orders: Vec<Order>) -> Vec<String> {
        orders.into_iter().map(|order| order.name.to_string()).collect()
    }

    #[test]
    fn files_and_trees_get_the_names_one_expects() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("sub/empty")).unwrap();
        std::fs::write(tree.join("b"), "").unwrap();
        std::fs::write(tree.join("sub/a"), "").unwrap();
        std::os::unix::fs::symlink(&tree, tree.join("sub/loop")).unwrap();
        std::os::unix::fs::symlink("a", tree.join("sub/link")).unwrap();
        let report = Report::new();
        let root = Target::Directory(name(""));
        let orders = |typed: &Path, target: &Target| orders(typed, target, true, &report).map(names).unwrap();
        assert_eq!(orders(&tree, &root), ["tree/b", "tree/sub/a", "tree/sub/link"]);
        assert_eq!(orders(&tree.join("."), &root), ["tree/b", "tree/sub/a", "tree/sub/link"]);
        assert_eq!(orders(&tree.join("sub/.."), &root), ["b", "sub/a", "sub/link"]);
        assert_eq!(
            orders(&tree, &Target::Directory(name("x/y"))),
            ["x/y/tree/b", "x/y/tree/sub/a", "x/y/tree/sub/link"]
        );
        assert_eq!(orders(&tree, &Target::File(name("z"))), ["z/b", "z/sub/a", "z/sub/link"]);
        assert_eq!(orders(&tree.join("b"), &Target::File(name("c/d"))), ["c/d"]);
        assert_eq!(report.finish().unwrap(), 0, "a link that is skipped is no failure");
    }

    #[test]
    fn what_cannot_be_put_is_said() {
        let report = Report::new();
        let root = Target::Directory(name(""));
        let error = |typed: &str| orders(Path::new(typed), &root, false, &report).unwrap_err().to_string();
        assert!(error("/").contains("--recursive"));
        assert!(error("-").contains("--as NAME"));
        assert!(error("/dev/null").contains("not a regular file"));
        assert!(error("/nonexistent").contains("No such file"));
    }
}
