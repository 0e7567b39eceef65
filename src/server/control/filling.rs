//! What a fill brings, sent as it comes.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;

use super::answer::{Content, PieceSender, pieces};
use crate::cache::flight::{Flight, Progress};
use crate::wake::Waiter;

/// The part of a file that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub from: u64,
    pub to: u64,
}

/// From the cache while the file is being read into it.
pub(super) fn filling(fill: Arc<Flight>, span: Span) -> Content {
    let (sender, content) = pieces(Some(span.to - span.from));
    tokio_uring::spawn(async move {
        if let Err(error) = follow(&fill, span, &sender).await {
            let _ = sender.send(Err(error)).await;
        }
    });
    content
}

/// Sends what a fill has read as it goes on.
async fn follow(fill: &Flight, span: Span, sender: &PieceSender) -> io::Result<()> {
    let mut at = span.from;
    while at < span.to {
        let lease = match progress(fill, Some(at)).await {
            Progress::Filling(lease, _) | Progress::Arriving(lease) | Progress::Ready(lease) => lease,
            Progress::Failed(_)
            | Progress::Uncached(..)
            | Progress::Fetching(..)
            | Progress::Deferred(..)
            | Progress::Validated(_)
            | Progress::Stale(_)
            | Progress::Passing(_)
            | Progress::Opening => {
                return Err(io::Error::other("the file could not be read to its end, or changed meanwhile"));
            }
        };
        let filled = Bytes::from_owner(lease);
        let to = span.to.min(filled.len() as u64);
        if to > at {
            if sender.send(Ok(filled.slice(at as usize..to as usize))).await.is_err() {
                return Ok(());
            }
            at = to;
        }
    }
    Ok(())
}

/// Waits until a fill is further than `seen`.
pub(super) async fn progress(fill: &Flight, seen: Option<u64>) -> Progress {
    poll_fn(|cx| match fill.poll(seen, || Waiter::Task(cx.waker().clone())) {
        Some(progress) => Poll::Ready(progress),
        None => Poll::Pending,
    })
    .await
}
