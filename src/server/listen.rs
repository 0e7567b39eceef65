//! Listening sockets. Each worker has its own on every TCP address (SO_REUSEPORT): the kernel spreads connections over
//! them. A Unix socket cannot be shared so; there, the workers accept from the same one, and so they do from a socket
//! that systemd opened.

use super::systemd::Inherited;
use crate::config::ServeOptions;
use crate::limits;
use crate::net::address::Address;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Everything that is listened on.
pub struct Listening {
    /// For each worker, its sockets.
    pub sockets: Vec<Vec<OwnedFd>>,
    /// The addresses, with the ports that the kernel chose.
    pub bound: Vec<Address>,
    /// Socket files, removed when the server stops.
    pub files: Vec<SocketFile>,
}

/// The file of a Unix socket of ours.
#[derive(Debug, Clone)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Removes it, unless another program has put its own in its place meanwhile.
    fn remove(&self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == (self.device, self.inode))
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Binds every address once for each worker.
///
/// # Errors
/// What is wrong with which address.
pub fn bind(addresses: &[Address], workers: usize) -> anyhow::Result<Listening> {
    let mut listening = Listening::new(workers);
    for address in addresses {
        let context = |error: io::Error| anyhow::anyhow!("cannot listen on {address}: {}", explain(&error, address));
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

fn explain(error: &io::Error, address: &Address) -> String {
    match (error.kind(), address) {
        (io::ErrorKind::AddrInUse, Address::Tcp { .. }) => "another server is listening there".into(),
        (io::ErrorKind::AddrInUse, Address::Unix(_)) => {
            "a running program has a socket there; stop it, or choose another path".into()
        }
        (io::ErrorKind::PermissionDenied, Address::Tcp { .. }) => {
            "not permitted (ports below 1024 need CAP_NET_BIND_SERVICE)".into()
        }
        (io::ErrorKind::PermissionDenied, Address::Unix(_)) => {
            "not permitted: the directory must be writable for this user, and a socket that is there must be its own"
                .into()
        }
        (io::ErrorKind::NotFound, Address::Unix(path)) => {
            format!("the directory {} does not exist", path.parent().unwrap_or(path).display())
        }
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
            match std::fs::symlink_metadata(path) {
                Ok(meta) if !meta.file_type().is_socket() => {
                    let text = "what is there is no socket; remove it, or choose another path";
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
                }
                Ok(_) if is_dead(&address)? => std::fs::remove_file(path)?,
                // A socket that is in use: the bind says so. Or nothing.
                Ok(_) | Err(_) => {}
            }
            socket.bind(&address)
        })?;
        socket.listen(limits::BACKLOG)?;
        self.share(&socket)?;
        self.bound.push(Address::Unix(path.into()));
        let meta = std::fs::symlink_metadata(path)?;
        self.files.push(SocketFile { path: path.into(), device: meta.dev(), inode: meta.ino() });
        Ok(())
    }
}

/// Removes the files of Unix sockets.
pub fn remove(files: &[SocketFile]) {
    files.iter().for_each(SocketFile::remove);
}

/// Whether the file of a Unix socket is one that a killed server left behind: nobody has bound it. A socket of another
/// type, one whose queue is full and one that is not ours to connect to are alive.
fn is_dead(address: &SockAddr) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    let refused = |result: io::Result<()>| result.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if !refused(probe.connect(address)) {
        return Ok(false);
    }
    // A stream socket that is bound and does not listen yet refuses, too. One of datagrams finds out: it cannot be
    // connected to a stream socket that lives (EPROTOTYPE), and is refused where there is none.
    let probe = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    Ok(refused(probe.connect(address)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_that_nobody_has_is_dead() {
        let dir = tempfile::tempdir().unwrap();
        for (kind, listens) in [
            (Type::STREAM, false),
            (Type::STREAM, true),
            (Type::DGRAM, false),
            (Type::SEQPACKET, false),
            (Type::SEQPACKET, true),
        ] {
            let path = dir.path().join(format!("{kind:?}{listens}"));
            let address = SockAddr::unix(&path).unwrap();
            let socket = Socket::new(Domain::UNIX, kind, None).unwrap();
            socket.bind(&address).unwrap();
            if listens {
                socket.listen(0).unwrap();
            }
            assert!(!is_dead(&address).unwrap(), "{kind:?} {listens}");
            let mut listening = Listening::new(1);
            assert!(listening.bind_unix(&path).is_err() && path.exists(), "{kind:?} {listens}");
            drop(socket);
            assert!(is_dead(&address).unwrap(), "{kind:?} {listens}");
        }
    }

    #[test]
    fn a_dead_socket_is_replaced_and_ours_alone_is_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let address = Address::Unix(path.clone());
        let listening = bind(std::slice::from_ref(&address), 1).unwrap();
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        remove(&listening.files);
        assert!(!path.exists());

        let listening = bind(&[address], 1).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another program's").unwrap();
        remove(&listening.files);
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_socket_stays_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for (path, expected) in [(file.clone(), "no socket"), (dir.path().join("no/s"), "does not exist")] {
            let error = bind(&[Address::Unix(path)], 1).err().expect("refused").to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"x");
    }
}
