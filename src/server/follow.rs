//! The thread that looks where the path of the root leads, so that nobody else has to: see [`Directory::follow`].

use super::shared::Shared;
use crate::config::{ServeOptions, Source};
use crate::limits;
use crate::origin::remote::Remote;
use crate::origin::{Directory, Followed, Origin};
use crate::ring::looks::is_storage_slow;
use crate::ring::system::monotonic;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// The running thread, if one is needed.
/// The thread ends when this is dropped. It is not waited for: its file system may hang.
pub(super) struct Follower(#[allow(dead_code, reason = "dropping it is its use")] Option<SyncSender<()>>);

/// How often the path is looked at: a fraction of the revalidation interval, as what was checked just before an
/// exchange is served until the exchange is noticed. `None`: that would be too often for a thread.
fn period(revalidate: Duration) -> Option<Duration> {
    let period = (revalidate / 4).min(limits::FOLLOW_PERIOD);
    (period >= limits::FOLLOW_PERIOD_MIN).then_some(period)
}

/// Opens what is to be served.
///
/// # Errors
/// Those of [`Directory::open`] and [`Remote::open`].
pub(super) fn open(options: &ServeOptions) -> anyhow::Result<Origin> {
    match &options.origin {
        Source::Directory(path) => {
            let directory = Directory::open(path, options.policy, monotonic)?;
            let follows = period(options.revalidate).is_some() || is_storage_slow();
            Ok(Origin::Directory(if follows { directory } else { directory.following_at_once() }))
        }
        Source::Remote(remote) => Ok(Origin::Remote(Arc::new(Remote::open(remote).map_err(anyhow::Error::msg)?))),
    }
}

/// Starts the thread.
///
/// # Errors
/// It cannot be started.
pub(super) fn spawn(shared: Arc<Shared>) -> io::Result<Follower> {
    // On slow storage nobody else may be made to wait for a look, however short the interval is.
    let period = period(shared.options.revalidate).or(is_storage_slow().then_some(limits::FOLLOW_PERIOD_MIN));
    let period = period.filter(|_| shared.origin.directory().is_some());
    let Some(period) = period else { return Ok(Follower(None)) };
    let (stop, stopped) = sync_channel(0);
    let body = move || {
        let mut is_known = true;
        while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
            let Some(directory) = shared.origin.directory() else { return };
            match directory.follow() {
                Followed::Unknown(error) => {
                    if std::mem::replace(&mut is_known, false) {
                        tracing::warn!("{} cannot be looked at: {error}", directory.path().display());
                    }
                }
                Followed::Same | Followed::Exchanged | Followed::Lost | Followed::Absent => is_known = true,
            }
        }
    };
    thread::Builder::new().name("root".into()).spawn(body)?;
    Ok(Follower(Some(stop)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_looked_at_several_times_an_interval() {
        assert_eq!(period(Duration::from_secs(1)), Some(Duration::from_millis(250)));
        assert_eq!(period(Duration::from_secs(3600)), Some(limits::FOLLOW_PERIOD));
        assert_eq!(period(Duration::from_millis(40)), Some(Duration::from_millis(10)));
        assert_eq!((period(Duration::from_millis(1)), period(Duration::ZERO)), (None, None));
    }
}
