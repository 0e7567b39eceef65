//! Work on many files at a time: a queue of orders, and a bounded number of connections that take from it.

use std::collections::VecDeque;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::{JoinSet, LocalSet};

use super::connection::Connection;
use super::report::{Done, Report};
use super::{Error, Settings};

/// Does `work` for every order, over up to `jobs` connections at a time, and reports each as `verb: order`. An order
/// that fails does not stop the others, unless they would fail the same way.
pub async fn run<O, W>(
    verb: &'static str,
    settings: Arc<Settings>,
    orders: Vec<O>,
    jobs: usize,
    report: &Arc<Report>,
    work: W,
) where
    O: Display + 'static,
    W: AsyncFn(&mut Connection, &O) -> Result<Done, Error> + 'static,
{
    let jobs = jobs.clamp(1, orders.len().max(1));
    let total = report.total(orders.len());
    let shared = Rc::new((Mutex::new(VecDeque::from(orders)), work));
    let tasks = LocalSet::new();
    let mut workers = JoinSet::new();
    for _ in 0..jobs {
        let (settings, shared, report, total) = (settings.clone(), shared.clone(), report.clone(), total.clone());
        let worker = async move {
            let (queue, work) = &*shared;
            let mut connection = match Connection::new(settings) {
                Ok(connection) => connection,
                Err(error) => return report.failure(&format!("{verb}: {error}")),
            };
            loop {
                let Some(order) = queue.lock().pop_front() else { return };
                match work(&mut connection, &order).await {
                    Ok(done) => report.done(&order, &done),
                    Err(error) => fail(verb, &order, &error, queue, &report),
                }
                total.inc(1);
            }
        };
        workers.spawn_local_on(worker, &tasks);
    }
    let ended = async {
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended {
                report.failure(&format!("{verb}: a transfer ended unexpectedly: {error}"));
            }
        }
    };
    tasks.run_until(ended).await;
    total.finish_and_clear();
}

/// Reports a failure, and gives up the other orders where they could not go better.
fn fail<O: Display>(verb: &str, order: &O, error: &Error, queue: &Mutex<VecDeque<O>>, report: &Report) {
    if matches!(error, Error::Output(source) if source.kind() == std::io::ErrorKind::BrokenPipe) {
        // Who read standard output has seen enough.
        return queue.lock().clear();
    }
    report.failure(&format!("{verb}: {order}: {error}"));
    if let Error::Connect { .. } | Error::Output(_) = error {
        let rest = std::mem::take(&mut *queue.lock());
        if !rest.is_empty() {
            report.failure(&format!("{verb}: {} more not tried", rest.len()));
        }
    }
}
