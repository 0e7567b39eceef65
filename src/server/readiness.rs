//! Whether a balancer should send requests here: `/.forebay/ready`. That the server lives is another question
//! (`/.forebay/health`).

use crate::origin::Origin;
use crate::ring::system::monotonic;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Why no requests should be sent here now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// The server was told to stop.
    #[error("the server is stopping")]
    Stopping,
    /// The directory that is served is gone.
    #[error("the directory that is served is gone")]
    RootAbsent,
    /// The remote origin gave no answer when it was asked last, and that was just now.
    #[error("the origin does not answer")]
    OriginSilent,
}

/// What only the server itself knows of its readiness.
#[derive(Debug, Default)]
pub struct Readiness {
    is_stopping: AtomicBool,
}

impl Readiness {
    /// The server was told to stop.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Whether requests should be sent here. It asks no remote origin. It may look where the path of the directory
    /// leads, which may block.
    ///
    /// # Errors
    /// [`Unready`].
    pub fn ready(&self, origin: &Origin) -> Result<(), Unready> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err(Unready::Stopping);
        }
        match origin.remote() {
            Some(remote) if remote.is_silent(monotonic()) => Err(Unready::OriginSilent),
            Some(_) => Ok(()),
            None => origin.root().map(drop).map_err(|_| Unready::RootAbsent),
        }
    }
}
