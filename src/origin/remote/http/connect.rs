//! A connection to the origin: TCP, and TLS on it.

use crate::origin::remote::Fault;
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whom to connect to.
pub struct Endpoint {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Endpoint {
    /// With `tls`, the origin must prove to be `host`.
    ///
    /// # Errors
    /// No certificate can be for that host.
    pub fn new(host: &str, port: u16, tls: Option<ClientConfig>) -> Result<Endpoint, InvalidDnsNameError> {
        let secure = |mut config: ClientConfig| {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok((TlsConnector::from(Arc::new(config)), ServerName::try_from(host.to_owned())?))
        };
        Ok(Endpoint { host: host.to_owned(), port, tls: tls.map(secure).transpose()? })
    }

    /// Connects, within `limit` for everything: the name, TCP, and TLS.
    ///
    /// # Errors
    /// It cannot be reached, is too slow, or does not prove who it is.
    pub async fn connect(&self, limit: Duration) -> Result<Wire, Fault> {
        let late = |_| Fault::TimedOut { waited_for: "accepted a connection", limit };
        tokio::time::timeout(limit, self.reach(limit)).await.map_err(late)?
    }

    async fn reach(&self, limit: Duration) -> Result<Wire, Fault> {
        let unreachable = |error: io::Error| Fault::Unreachable(format!("{}:{}: {error}", self.host, self.port));
        let addresses: Vec<SocketAddr> =
            tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(unreachable)?.collect();
        let stream = first_of(&addresses, limit).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let received = Arc::new(AtomicBool::new(false));
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some((connector, name)) => {
                Stream::Tls(Box::new(connector.connect(name.clone(), stream).await.map_err(unreachable)?))
            }
        };
        Ok(Wire { stream, received })
    }
}

/// Connects to the first address that accepts; each has its share of the time, so that one that swallows everything
/// does not keep the others from being tried.
async fn first_of(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::other("the name has no address");
    for address in addresses {
        last = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
    }
    Err(last)
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that remembers whether anything came.
pub struct Wire {
    stream: Stream,
    received: Arc<AtomicBool>,
}

impl Wire {
    /// Set when bytes come; whoever asks something clears it before.
    pub fn received(&self) -> Arc<AtomicBool> {
        self.received.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if buf.filled().len() > before {
            self.received.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
