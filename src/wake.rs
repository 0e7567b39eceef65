//! Who is told that something has moved on: a connection of an event loop, or a task of an async runtime.
//!
//! Whatever is waited for keeps [`Waiter`]s without knowing what waits; only the server knows how to reach them.

use std::task::Waker;

/// One who is told, once, that what it waits for has moved on.
#[derive(Debug, Clone)]
pub enum Waiter {
    /// A ring of the server, which takes the message as its own completion: what is in it is the affair of its event loop.
    Ring { worker: usize, message: u64 },
    /// A task of the control plane.
    Task(Waker),
}
