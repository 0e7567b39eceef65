//! The thread that asks a remote origin for what is not cached, or no longer fresh.
//!
//! A fetch is a fill: it belongs to nobody's connection. It writes what comes into the arena, wakes those who follow,
//! and publishes it. What is not to be stored is passed on to the one request that it was asked for
//! ([`Passing`](crate::origin::remote::Passing)).
//!
//! What bounds it: [`limits::FETCHES`] wait for this thread. As many are under way as the origin may be asked at the
//! same time, and may wait for that ([`RemoteOptions`](crate::origin::remote::RemoteOptions)). Bodies go into memory
//! that the arena has reserved, or that [`limits::COLLECTED_BYTES`] counts.

mod answer;
mod describe;
pub mod queue;
mod slice_fills;
mod slices;

use super::shared::Shared;
use crate::limits;
use crate::origin::remote::Remote;
use queue::Fetches;
use std::io;
use std::sync::Arc;
use std::thread;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

/// Starts the thread.
///
/// # Errors
/// The thread or its runtime cannot be had.
pub fn spawn(shared: Arc<Shared>, remote: Arc<Remote>, fetches: Fetches) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = move || {
        let tasks = LocalSet::new();
        runtime.block_on(tasks.run_until(run(shared, remote, fetches)));
    };
    thread::Builder::new().name("fetcher".into()).spawn(body)?;
    Ok(())
}

/// Takes fetches up for as long as anybody may ask for some.
async fn run(shared: Arc<Shared>, remote: Arc<Remote>, mut fetches: Fetches) {
    let collecting = Arc::new(Semaphore::new(limits::COLLECTED_BYTES));
    while let Some(fetch) = fetches.0.recv().await {
        let fetch = if shared.options.token_reads { fetch.without_authorization() } else { fetch };
        let answering =
            answer::Answering { shared: shared.clone(), remote: remote.clone(), collecting: collecting.clone() };
        tokio::task::spawn_local(answering.fetch(fetch));
    }
}
