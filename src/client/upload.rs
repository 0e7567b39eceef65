//! The body of an upload: a file's bytes, read as the connection takes them, held back until the server says that it
//! wants them.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::connection::Activity;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// How long the bytes are held back for `100 Continue`; a server may well not know it (RFC 9110, section 10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// `Content-Digest` (RFC 9530).
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// A `Content-Digest` value for a finished hash.
pub fn content_digest(hash: Sha256) -> HeaderValue {
    let value = format!("sha-256=:{}:", STANDARD.encode(hash.finalize()));
    HeaderValue::from_str(&value).expect("base64 is visible ASCII")
}

/// Where the bytes come from.
pub enum Source {
    /// A file of which exactly this many bytes are still to be sent.
    File { file: File, left: u64 },
    /// A stream of unknown length, read in a thread of its own: its bytes, hashed as they go by.
    Stream { pieces: tokio::sync::mpsc::Receiver<io::Result<Bytes>>, hash: Option<Sha256> },
}

/// The body.
pub struct Upload {
    source: Source,
    bar: ProgressBar,
    activity: Activity,
    hold: Option<Hold>,
    /// Set once all of it was handed out.
    is_whole: Arc<AtomicBool>,
}

/// Waiting for `100 Continue`.
struct Hold {
    go: oneshot::Receiver<()>,
    /// None once the server has refused: the bytes are not wanted then, however long one waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// A body from `source`. With `go`, nothing is sent before it fires, or before it has not fired for a while.
    /// `is_whole` tells when all of it was handed out.
    pub fn new(
        source: Source,
        bar: ProgressBar,
        activity: Activity,
        go: Option<oneshot::Receiver<()>>,
        is_whole: Arc<AtomicBool>,
    ) -> Upload {
        is_whole.store(matches!(source, Source::File { left: 0, .. }), Ordering::Relaxed);
        let hold = go.map(|go| Hold { go, timer: Some(Box::pin(tokio::time::sleep(CONTINUE_WAIT))) });
        Upload { source, bar, activity, hold, is_whole }
    }
}

/// Reads a stream in a thread of its own, as far ahead as the connection lets it.
pub fn stream(mut reader: impl Read + Send + 'static) -> Source {
    let (sender, pieces) = tokio::sync::mpsc::channel(4);
    std::thread::spawn(move || {
        loop {
            let piece = read_chunk(&mut reader, CHUNK_BYTES);
            let is_last = matches!(&piece, Ok(bytes) if bytes.is_empty()) || piece.is_err();
            if sender.blocking_send(piece).is_err() || is_last {
                return;
            }
        }
    });
    Source::Stream { pieces, hash: Some(Sha256::new()) }
}

/// One read of up to `max` bytes; empty at the end.
fn read_chunk(reader: &mut impl Read, max: usize) -> io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(max);
    loop {
        match reader.read(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer.freeze());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(hold) = self.hold.as_mut().filter(|hold| hold.timer.is_some()) {
            match Pin::new(&mut hold.go).poll(context) {
                Poll::Ready(Ok(())) => self.hold = None,
                Poll::Ready(Err(_gone)) => hold.timer = None,
                Poll::Pending => {}
            }
        }
        if let Some(hold) = &mut self.hold {
            // A final answer came first: the connection is given up once it has been read.
            let Some(timer) = &mut hold.timer else { return Poll::Pending };
            ready!(timer.as_mut().poll(context));
            self.hold = None;
        }
        let this = &mut *self;
        let piece = match &mut this.source {
            Source::File { left: 0, .. } => return Poll::Ready(None),
            Source::File { file, left } => {
                let max = CHUNK_BYTES.min(usize::try_from(*left).unwrap_or(CHUNK_BYTES));
                let bytes = read_chunk(file, max)?;
                if bytes.is_empty() {
                    let short = "the file became shorter while it was sent";
                    return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, short))));
                }
                *left -= bytes.len() as u64;
                this.is_whole.store(*left == 0, Ordering::Relaxed);
                bytes
            }
            Source::Stream { pieces, hash } => {
                let bytes = match ready!(pieces.poll_recv(context)) {
                    Some(piece) => piece?,
                    None => return Poll::Ready(None),
                };
                if bytes.is_empty() {
                    let Some(hash) = hash.take() else { return Poll::Ready(None) };
                    this.is_whole.store(true, Ordering::Relaxed);
                    let trailers = HeaderMap::from_iter([(CONTENT_DIGEST, content_digest(hash))]);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                if let Some(hash) = hash {
                    hash.update(&bytes);
                }
                bytes
            }
        };
        this.activity.touch();
        this.bar.inc(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::File { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::File { left, .. } => SizeHint::with_exact(*left),
            Source::Stream { .. } => SizeHint::default(),
        }
    }
}
