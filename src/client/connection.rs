//! A keep-alive connection to the server, made when first needed and made again when it has gone.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Error, Settings};
use crate::net::address::Address;
use crate::text;

/// The body of a request.
pub type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// The most bytes of an answer's words that are read, and shown to the user.
const MESSAGE_BYTES_MAX: usize = 1024;
/// How long an answer's words may take to come, however steadily they drip.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(5);

/// One connection at a time, with requests one after the other.
pub struct Connection {
    settings: Arc<Settings>,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    open: Option<Open>,
}

/// An established connection and the task that moves its bytes.
struct Open {
    sender: SendRequest<RequestBody>,
    task: AbortHandle,
    /// Whether a response came over it already: the server may have closed it since, unnoticed.
    is_used: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// When bytes last moved, shared with a request body, so that a long upload does not count as silence.
#[derive(Debug, Clone)]
pub struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    fn new() -> Activity {
        Activity(Arc::new(Mutex::new(Instant::now())))
    }

    /// Bytes moved now.
    pub fn touch(&self) {
        *self.0.lock() = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock()
    }
}

impl Connection {
    /// Prepares a connection; nothing is sent yet.
    pub fn new(settings: Arc<Settings>) -> Result<Connection, Error> {
        let bad = |what: &str| Error::Local(format!("the {what} has characters that HTTP cannot carry"));
        let host = HeaderValue::from_str(&settings.address.host_field()).map_err(|_| bad("server's name"))?;
        let bearer = |token: &String| HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| bad("token"));
        let authorization = settings.token.as_ref().map(bearer).transpose()?.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Ok(Connection { settings, host, authorization, open: None })
    }

    /// Where the server is.
    pub fn address(&self) -> &Address {
        &self.settings.address
    }

    /// How long the server may be silent.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// Gives the connection up; the next request makes a new one.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Sends a GET with these additional fields, and returns the response's head with its body to come.
    pub async fn get(
        &mut self,
        target: &str,
        fields: &[(HeaderName, HeaderValue)],
    ) -> Result<Response<Incoming>, Error> {
        let build = |_| {
            let mut request = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
            *request.method_mut() = Method::GET;
            request.headers_mut().extend(fields.iter().cloned());
            Ok(request)
        };
        self.send(target, self.settings.timeout, build).await
    }

    /// Sends the request that `build` makes (its target, `Host` and credentials are filled in here), and returns the
    /// response's head. A connection that the server has closed while it was idle is replaced, and the request built
    /// again. `silence_max`: how long the server may take to answer, counted from the last touch of the activity that
    /// `build` is given.
    pub async fn send(
        &mut self,
        target: &str,
        silence_max: Duration,
        mut build: impl FnMut(Activity) -> Result<Request<RequestBody>, Error>,
    ) -> Result<Response<Incoming>, Error> {
        loop {
            let activity = Activity::new();
            let mut request = build(activity.clone())?;
            *request.uri_mut() =
                target.parse().map_err(|error| Error::Local(format!("{target} is not a request target: {error}")))?;
            let headers = request.headers_mut();
            headers.insert(header::HOST, self.host.clone());
            headers
                .insert(header::USER_AGENT, HeaderValue::from_static(concat!("forebay/", env!("CARGO_PKG_VERSION"))));
            if let Some(authorization) = &self.authorization {
                headers.insert(header::AUTHORIZATION, authorization.clone());
            }

            let open = self.ready().await?;
            let was_used = std::mem::replace(&mut open.is_used, true);
            let mut response = pin!(open.sender.send_request(request));
            let outcome = loop {
                let deadline = activity.last() + silence_max;
                match tokio::time::timeout_at(deadline, &mut response).await {
                    Ok(outcome) => break outcome,
                    Err(_) if activity.last() + silence_max > deadline => continue,
                    Err(_) => {
                        self.close();
                        return Err(Error::Silent { address: self.address().clone(), after: silence_max });
                    }
                }
            };
            match outcome {
                Ok(response) => return Ok(response),
                Err(error) => {
                    self.close();
                    let is_cut = error.is_canceled() || error.is_closed() || error.is_incomplete_message();
                    let is_stale = was_used && (is_cut || is_reset(&error));
                    if !is_stale {
                        return Err(self.broken(&error));
                    }
                }
            }
        }
    }

    /// A connection that takes a request now: the open one, or a new one.
    async fn ready(&mut self) -> Result<&mut Open, Error> {
        if let Some(open) = &mut self.open {
            // An unread response of before would keep it busy; hyper then closes it, so this cannot wait for long.
            match tokio::time::timeout(self.settings.timeout, open.sender.ready()).await {
                Ok(Ok(())) => {}
                _ => self.open = None,
            }
        }
        if self.open.is_none() {
            self.open = Some(self.connect().await?);
        }
        Ok(self.open.as_mut().expect("opened above"))
    }

    async fn connect(&self) -> Result<Open, Error> {
        let address = self.address();
        let timed_out = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let failed = |source| Error::Connect { address: address.clone(), source };
        match address {
            Address::Tcp { host, port } => {
                let socket = tokio::time::timeout(self.settings.timeout, TcpStream::connect((host.as_str(), *port)))
                    .await
                    .unwrap_or_else(|_| Err(timed_out()))
                    .map_err(failed)?;
                socket.set_nodelay(true).map_err(failed)?;
                self.handshake(TokioIo::new(socket)).await
            }
            Address::Unix(path) => {
                let socket = tokio::time::timeout(self.settings.timeout, UnixStream::connect(path))
                    .await
                    .unwrap_or_else(|_| Err(timed_out()))
                    .map_err(failed)?;
                self.handshake(TokioIo::new(socket)).await
            }
        }
    }

    async fn handshake<T>(&self, io: T) -> Result<Open, Error>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(io).await.map_err(|error| self.broken(&error))?;
        // How it ends is told to whoever waits for a response or its body.
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Open { sender, task, is_used: false })
    }

    /// The next piece of a response's body; None at its proper end.
    pub async fn chunk(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, Error> {
        loop {
            match tokio::time::timeout(self.settings.timeout, body.frame()).await {
                Err(_) => {
                    self.close();
                    return Err(Error::Silent { address: self.address().clone(), after: self.settings.timeout });
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => {
                    self.close();
                    return Err(self.broken(&error));
                }
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => continue,
                },
            }
        }
    }

    /// A whole body of at most `max` bytes.
    pub async fn body(&mut self, body: &mut Incoming, max: usize) -> Result<Vec<u8>, Error> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk(body).await? {
            if whole.len() + chunk.len() > max {
                self.close();
                return Err(Error::Unexpected(format!("the answer is longer than {}", text::bytes(max as u64))));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }

    /// Turns a response that is no success into an error that quotes the server's own words, where they are text.
    pub async fn refused(&mut self, response: Response<Incoming>) -> Error {
        let status = response.status();
        if status.is_redirection() {
            self.close();
            let to = response.headers().get(header::LOCATION).map_or(&b"nowhere"[..], HeaderValue::as_bytes);
            return Error::Unexpected(format!(
                "the server answered {}: it redirects to {}, which is not followed",
                status.as_u16(),
                text::escape(to)
            ));
        }
        let is_text = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"text/plain"));
        let words = self.words(response.into_body()).await;
        let message = if is_text { text::escape(words.trim_ascii()) } else { String::new() };
        Error::Refused { status, message }
    }

    /// The words that come with an answer, as far as they come soon. The connection is given up where there are more.
    pub async fn words(&mut self, mut body: Incoming) -> Vec<u8> {
        let time_max = MESSAGE_TIME_MAX.min(self.settings.timeout);
        let mut words = Vec::new();
        let read = async {
            while let Some(chunk) = self.chunk(&mut body).await? {
                words.extend_from_slice(&chunk);
                if words.len() > MESSAGE_BYTES_MAX {
                    return Ok(false);
                }
            }
            Ok::<bool, Error>(true)
        };
        let is_whole = tokio::time::timeout(time_max, read).await.is_ok_and(|read| read.unwrap_or(false));
        if !is_whole {
            self.close();
        }
        words.truncate(MESSAGE_BYTES_MAX);
        words
    }

    fn broken(&self, error: &hyper::Error) -> Error {
        let detail = match std::error::Error::source(error) {
            _ if error.is_incomplete_message() => "it was closed before the answer was whole".to_owned(),
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        Error::Broken { address: self.address().clone(), detail }
    }
}

/// Whether the connection was reset: what a close by the server looks like to a request that crosses it.
fn is_reset(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| {
        matches!(cause.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe)
    })
}
