//! Threads for what may block (looks at the disk, syncs), where it holds nobody up.
//!
//! One is there from the start: so what has to be done is done, one after the other, when the system gives no more
//! threads. Others come when all are busy, and go when there is nothing to do.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;

use hyper::StatusCode;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::answer::Answer;
use crate::limits;

thread_local! {
    /// The control plane's: it has one thread, and so has its pool.
    static POOL: OnceCell<Pool> = const { OnceCell::new() };
}

type Job = Box<dyn FnOnce() + Send>;

/// The threads of a control plane. Those that are idle end with it.
struct Pool(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    wakes: Condvar,
}

/// There are never more jobs than connections, each of which waits for its own.
#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    is_closed: bool,
    /// No further thread could be started the last time.
    is_short: bool,
}

/// Starts the pool of the calling thread.
///
/// # Errors
/// Its first thread cannot be started.
pub(super) fn start() -> io::Result<()> {
    let pool = Pool(Arc::default());
    pool.0.state.lock().threads = 1;
    pool.add_thread()?;
    POOL.with(|own| own.set(pool)).map_err(|_| io::Error::other("this thread has a pool already"))
}

/// Runs what may block.
///
/// # Errors
/// The work panicked, which is answered like any other failure of the origin.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Answer> {
    let (report, done) = oneshot::channel();
    POOL.with(|pool| pool.get().map(|pool| pool.run(Box::new(move || drop(report.send(work()))))));
    done.await.map_err(|_| {
        tracing::error!("work on the origin failed");
        Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "the server failed; its log says more")
    })
}

impl Pool {
    fn run(&self, job: Job) {
        let mut state = self.0.state.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.0.wakes.notify_one();
            return;
        }
        if state.threads >= limits::BLOCKING_THREADS {
            return;
        }
        state.threads += 1;
        drop(state);
        let added = self.add_thread();
        let mut state = self.0.state.lock();
        let was_short = std::mem::replace(&mut state.is_short, added.is_err());
        if let Err(error) = added {
            state.threads -= 1;
            if !was_short {
                tracing::warn!(
                    "no thread can be started: {error} (ulimit -u, TasksMax=); requests wait for their turn"
                );
            }
        }
    }

    fn add_thread(&self) -> io::Result<()> {
        let inner = self.0.clone();
        let body = move || inner.work();
        thread::Builder::new().name("blocking".into()).stack_size(limits::BLOCKING_STACK_BYTES).spawn(body)?;
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.state.lock().is_closed = true;
        self.0.wakes.notify_all();
    }
}

impl Inner {
    fn work(&self) {
        while let Some(job) = self.next() {
            // The one who waits learns of it by the report that never comes.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(job));
        }
    }

    /// The next job; `None` when this thread is not needed any more.
    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let waited = match state.is_closed {
                true => true,
                false => self.wakes.wait_for(&mut state, limits::BLOCKING_IDLE).timed_out(),
            };
            state.idle -= 1;
            let is_last = state.threads == 1;
            if state.is_closed && state.jobs.is_empty() || waited && !is_last && state.jobs.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn one_thread_does_it_all_if_there_are_no_more() {
        let pool = Pool(Arc::default());
        // As if all that may be were there.
        pool.0.state.lock().threads = limits::BLOCKING_THREADS;
        pool.add_thread().unwrap();
        let (report, done) = channel();
        for number in 0..100 {
            let report = report.clone();
            pool.run(Box::new(move || {
                report.send(number).unwrap();
                assert!(number != 50, "a job that fails takes no thread with it");
            }));
        }
        drop(report);
        assert_eq!(done.iter().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn others_come_when_all_are_busy() {
        let pool = Pool(Arc::default());
        pool.0.state.lock().threads = 1;
        pool.add_thread().unwrap();
        let (hold, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let (report, done) = channel();
        pool.run(Box::new(move || {
            let _ = held.lock().recv();
        }));
        for number in 0..3 {
            let report = report.clone();
            pool.run(Box::new(move || report.send(number).unwrap()));
            assert_eq!(done.recv().unwrap(), number);
        }
        drop(hold);
    }
}
