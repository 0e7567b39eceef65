//! Who is on the other end of a connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, getpeername};

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// Its process is on this machine; it has no address of its own.
    Unix,
}

impl Peer {
    /// Asks the kernel whom a connected socket is connected to.
    ///
    /// # Errors
    /// ENOTCONN: the connection is gone already. Otherwise the socket is of no family that is listened on.
    pub fn of(socket: impl AsFd) -> io::Result<Peer> {
        let Some(address) = getpeername(socket)? else { return Ok(Peer::Unix) };
        if address.address_family() == AddressFamily::UNIX {
            return Ok(Peer::Unix);
        }
        Ok(Peer::Tcp(SocketAddr::try_from(address)?))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    #[test]
    fn peers_are_told_by_their_socket() {
        let (near, _far) = UnixStream::pair().unwrap();
        assert_eq!(Peer::of(&near).unwrap(), Peer::Unix);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, address) = listener.accept().unwrap();
        assert_eq!(Peer::of(&accepted).unwrap(), Peer::Tcp(address));
        assert_eq!(client.local_addr().unwrap(), address);
        assert!(Peer::of(&listener).is_err());
    }
}
