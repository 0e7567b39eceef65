//! Living under systemd: listening sockets it opened for us, and telling it that we are ready.
//! (sd_listen_fds(3), sd_notify(3).) Elsewhere all of this does nothing.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

/// A listening socket that systemd opened and passed on.
#[derive(Debug)]
pub enum Inherited {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Inherited {
    /// Whether only this machine can reach the socket.
    pub fn is_local(&self) -> bool {
        match self {
            Inherited::Tcp(socket) => {
                socket.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
            }
            Inherited::Unix(_) => true,
        }
    }
}

/// The sockets passed by LISTEN_FDS, in order; none when not started by a socket unit. To be called once, before other
/// threads.
///
/// # Errors
/// One of them is no listening stream socket, which names the remedy.
pub fn inherited() -> io::Result<Vec<Inherited>> {
    let mut passed = listenfd::ListenFd::from_env();
    (0..passed.len())
        .map(|number| {
            if let Ok(Some(socket)) = passed.take_tcp_listener(number) {
                return Ok(Inherited::Tcp(socket));
            }
            if let Ok(Some(socket)) = passed.take_unix_listener(number) {
                return Ok(Inherited::Unix(socket));
            }
            let text = format!(
                "socket {number} passed by LISTEN_FDS is no listening stream socket; use ListenStream= in the socket unit"
            );
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        })
        .collect()
}

/// What systemd is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Requests are answered from now on.
    Ready,
    /// The server is finishing.
    Stopping,
}

/// Tells systemd, if NOTIFY_SOCKET says that it wants to know. A failure is logged: the service manager's trouble is
/// not the clients'.
pub fn notify(state: State) {
    let state = match state {
        State::Ready => sd_notify::NotifyState::Ready,
        State::Stopping => sd_notify::NotifyState::Stopping,
    };
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("systemd could not be notified: {error}");
    }
}
