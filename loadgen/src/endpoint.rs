//! Where the server is: `host:port`, `http://host:port/base` or `unix:/path`.

use anyhow::{Context, Result, bail};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

/// A server, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    /// The value of the Host field.
    pub host: String,
    /// The path of the URL, beginning with a slash.
    pub path: String,
}

/// What to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A blocking byte stream.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Endpoint {
    /// Reads and resolves a URL.
    ///
    /// # Errors
    /// Says what is wrong with the URL, or that its host has no address.
    pub fn parse(url: &str) -> Result<Endpoint> {
        Endpoint::at(url, None)
    }

    /// The same, where it is known what to connect to: the URL's host need have no address then.
    ///
    /// # Errors
    /// As those of [`Endpoint::parse`].
    pub fn at(url: &str, known: Option<Address>) -> Result<Endpoint> {
        if let Some(path) = url.strip_prefix("unix:") {
            if !path.starts_with('/') {
                bail!("`{url}` is not a URL: write unix:/path/to/socket");
            }
            let address = known.unwrap_or_else(|| Address::Unix(path.into()));
            return Ok(Endpoint { address, host: "localhost".into(), path: "/".into() });
        }
        if url.starts_with("https://") {
            bail!("`{url}`: TLS is not spoken here; put a proxy in front that ends it, or measure without");
        }
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if rest.contains("://") || authority.is_empty() || authority.contains('@') {
            bail!("`{url}` is not a URL: write http://host:port/path, host:port or unix:/path/to/socket");
        }
        let address = known.map_or_else(|| resolve(url, authority), Ok)?;
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Endpoint {
            address,
            host: authority.to_owned(),
            path: format!("{slash}{}", crate::requests::encode_target(path)),
        })
    }

    /// The base that names are joined to: the path up to its last slash.
    pub fn base(&self) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        &path[..path.rfind('/').map_or(0, |at| at + 1)]
    }

    /// A blocking connection with a time limit on every step.
    ///
    /// # Errors
    /// Those of connecting, with the address.
    pub fn connect(&self, limit: Duration) -> Result<Box<dyn Stream>> {
        let connected: io::Result<Box<dyn Stream>> = match &self.address {
            Address::Tcp(address) => TcpStream::connect_timeout(address, limit).and_then(|stream| {
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }),
            Address::Unix(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }),
        };
        connected.with_context(|| format!("cannot connect to {}", self.address))
    }
}

/// The first address of a host with or without a port.
fn resolve(url: &str, authority: &str) -> Result<Address> {
    // A colon inside the brackets of an IPv6 address begins no port.
    let has_port = authority.rsplit_once(':').is_some_and(|(host, _)| !host.starts_with('[') || host.ends_with(']'));
    let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let address = with_port
        .to_socket_addrs()
        .with_context(|| format!("`{url}`: the address {with_port} cannot be resolved"))?
        .next()
        .with_context(|| format!("`{url}`: {with_port} has no address"))?;
    Ok(Address::Tcp(address))
}

impl Address {
    /// A socket of the right kind, not yet connected, and the address to connect it to.
    ///
    /// # Errors
    /// Those of making the socket, and a socket path that is too long.
    pub fn socket(&self) -> io::Result<(Socket, SockAddr)> {
        match self {
            Address::Tcp(address) => {
                let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
                socket.set_tcp_nodelay(true)?;
                Ok((socket, (*address).into()))
            }
            Address::Unix(path) => Ok((Socket::new(Domain::UNIX, Type::STREAM, None)?, SockAddr::unix(path)?)),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_read_as_written() {
        for (url, address, host, path, base) in [
            ("127.0.0.1:8064", "127.0.0.1:8064", "127.0.0.1:8064", "/", "/"),
            ("http://127.0.0.1:8064/a/b?c#d", "127.0.0.1:8064", "127.0.0.1:8064", "/a/b?c", "/a/"),
            ("http://127.0.0.1/x y/", "127.0.0.1:80", "127.0.0.1", "/x%20y/", "/x%20y/"),
            ("http://[::1]:81", "[::1]:81", "[::1]:81", "/", "/"),
            ("http://[::1]", "[::1]:80", "[::1]", "/", "/"),
            ("[::1]:81?q", "[::1]:81", "[::1]:81", "/?q", "/"),
            ("unix:/run/f.sock", "unix:/run/f.sock", "localhost", "/", "/"),
        ] {
            let endpoint = Endpoint::parse(url).unwrap();
            let read = (endpoint.address.to_string(), endpoint.host.as_str(), endpoint.path.as_str(), endpoint.base());
            assert_eq!(read, (address.to_owned(), host, path, base), "{url}");
        }
        for url in ["", "http://", "https://a/", "ftp://a/", "unix:relative", "http://u@127.0.0.1/", "127.0.0.1:99999"]
        {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }
}
