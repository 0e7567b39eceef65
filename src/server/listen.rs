//! Listening sockets. Each worker has its own on every TCP address (SO_REUSEPORT): the kernel spreads connections over
//! them. A Unix socket cannot be shared so; there, the workers accept from the same one, and so they do from a socket that
//! systemd opened.

use super::systemd::Inherited;
use crate::config::ServeOptions;
use crate::limits;
use crate::net::address::Address;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Everything that is listened on.
pub struct Listening {
    /// For each worker, its sockets.
    pub sockets: Vec<Vec<OwnedFd>>,
    /// The addresses, with the ports that the kernel chose.
    pub bound: Vec<Address>,
    /// Socket files, removed when the server stops.
    pub files: Vec<PathBuf>,
}

/// Binds every address once for each worker.
///
/// # Errors
/// What is wrong with which address.
pub fn bind(addresses: &[Address], workers: usize) -> anyhow::Result<Listening> {
    let mut listening = Listening::new(workers);
    for address in addresses {
        let context = |error: io::Error| anyhow::anyhow!("cannot listen on {address}: {}", explain(&error));
        match address {
            Address::Tcp { host, port } => {
                for resolved in (host.as_str(), *port).to_socket_addrs().map_err(context)? {
                    listening.bind_tcp(resolved).map_err(context)?;
                }
            }
            Address::Unix(path) => listening.bind_unix(path).map_err(context)?,
        }
    }
    Ok(listening)
}

/// Takes over the sockets that systemd opened, each for all workers.
///
/// # Errors
/// Writes are allowed to anybody who can reach one of them; or it cannot be used.
pub fn adopt(inherited: Vec<Inherited>, options: &ServeOptions) -> anyhow::Result<Listening> {
    let mut listening = Listening::new(options.workers);
    for socket in inherited {
        if options.allow_writes && options.token_file.is_none() && !socket.is_local() {
            anyhow::bail!(
                "--allow-writes on a socket that is reachable from elsewhere (LISTEN_FDS) needs --token-file"
            );
        }
        let (socket, address) = match socket {
            Inherited::Tcp(socket) => {
                let address = socket.local_addr()?;
                let socket = Socket::from(socket);
                socket.set_tcp_nodelay(true)?;
                (socket, Address::Tcp { host: address.ip().to_string(), port: address.port() })
            }
            Inherited::Unix(socket) => {
                let path = socket.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
                (Socket::from(socket), Address::Unix(path))
            }
        };
        listening.share(&socket)?;
        listening.bound.push(address);
    }
    Ok(listening)
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another server is listening there".into(),
        io::ErrorKind::PermissionDenied => "not permitted (ports below 1024 need CAP_NET_BIND_SERVICE)".into(),
        _ => error.to_string(),
    }
}

impl Listening {
    fn new(workers: usize) -> Listening {
        Listening { sockets: (0..workers).map(|_| Vec::new()).collect(), bound: Vec::new(), files: Vec::new() }
    }

    /// All workers accept from the one socket.
    fn share(&mut self, socket: &Socket) -> io::Result<()> {
        for sockets in &mut self.sockets {
            sockets.push(socket.try_clone()?.into());
        }
        Ok(())
    }

    fn bind_tcp(&mut self, mut address: SocketAddr) -> io::Result<()> {
        if address.port() != 0 {
            // SO_REUSEPORT would let a second server take half of the first one's connections unnoticed.
            drop(while_taken(|| tcp_socket(address, false))?);
        }
        for sockets in &mut self.sockets {
            let socket = tcp_socket(address, true)?;
            if let Some(bound) = socket.local_addr()?.as_socket() {
                address = bound;
            }
            socket.listen(limits::BACKLOG)?;
            sockets.push(socket.into());
        }
        self.bound.push(Address::Tcp { host: address.ip().to_string(), port: address.port() });
        Ok(())
    }

    fn bind_unix(&mut self, path: &Path) -> io::Result<()> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let address = SockAddr::unix(path)?;
        while_taken(|| {
            // A file that a killed server left behind answers no connection.
            let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
            if is_socket && Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(&address).is_err() {
                std::fs::remove_file(path)?;
            }
            socket.bind(&address)
        })?;
        socket.listen(limits::BACKLOG)?;
        self.share(&socket)?;
        self.bound.push(Address::Unix(path.into()));
        self.files.push(path.into());
        Ok(())
    }

    /// Removes the socket files.
    pub fn clean(&self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Tries again for a while when the address is taken: the ring of a server that was killed is taken down by the kernel
/// after the process is gone, and its accepts keep the old socket alive until then.
fn while_taken<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + limits::BIND_PATIENCE;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(limits::BIND_PAUSE);
            }
            result => return result,
        }
    }
}

fn tcp_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it: no system call for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
