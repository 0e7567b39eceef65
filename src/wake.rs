//! Who is told that something has moved on: a connection of an event loop, or a task of an async runtime.
//!
//! Whatever is waited for keeps [`Waiter`]s without knowing what waits; only the server knows how to reach them.

use foldhash::fast::FixedState;
use std::collections::HashSet;
use std::task::Waker;

/// Those who are told, each of them once however often it asked.
#[derive(Debug, Default)]
pub struct Waiters {
    rings: HashSet<(usize, u64), FixedState>,
    tasks: Vec<Waker>,
}

impl Waiters {
    pub fn insert(&mut self, waiter: Waiter) {
        match waiter {
            Waiter::Ring { worker, message } => drop(self.rings.insert((worker, message))),
            // A task is few among many: those of one plane that wait for one thing.
            Waiter::Task(waker) if self.tasks.iter().any(|known| known.will_wake(&waker)) => {}
            Waiter::Task(waker) => self.tasks.push(waker),
        }
    }

    /// So many messages to rings, and nobody else.
    pub fn are_rings(&self, count: usize) -> bool {
        self.rings.len() == count && self.tasks.is_empty()
    }

    /// All of them, to be told now.
    pub fn take(&mut self) -> Vec<Waiter> {
        let rings =
            std::mem::take(&mut self.rings).into_iter().map(|(worker, message)| Waiter::Ring { worker, message });
        rings.chain(std::mem::take(&mut self.tasks).into_iter().map(Waiter::Task)).collect()
    }
}

/// Reaches those who wait, from any thread.
pub trait Wake: Send + Sync {
    fn wake(&self, waiters: Vec<Waiter>);
}

/// One who is told, once, that what it waits for has moved on.
#[derive(Debug, Clone)]
pub enum Waiter {
    /// A ring of the server, which takes the message as its own completion: what is in it is the affair of its event
    /// loop.
    Ring { worker: usize, message: u64 },
    /// A task of the control plane.
    Task(Waker),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_often_is_told_once() {
        let mut waiters = Waiters::default();
        for _ in 0..1000 {
            waiters.insert(Waiter::Ring { worker: 1, message: 7 });
            waiters.insert(Waiter::Task(Waker::noop().clone()));
        }
        assert!(!waiters.are_rings(1));
        assert_eq!(waiters.take().len(), 2);
        waiters.insert(Waiter::Ring { worker: 1, message: 7 });
        assert!(waiters.are_rings(1));
        assert_eq!((waiters.take().len(), waiters.take().len()), (1, 0));
    }
}
