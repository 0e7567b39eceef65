//! The data plane: event loops that answer GET and HEAD of files, one to a thread, each on a ring of its own.
//!
//! * [`worker`]: the loop. A turn takes the completions that are there and handles each to its end.
//! * `connection`: what is known of a client between completions; `ledger`: what is owed of its responses.
//! * `receive`: bytes in; `answer`: requests become responses, as [`crate::exchange`] decides.
//! * `send`, `stream` and [`deliver`]: bytes out, from the arena and from files.
//! * `fetches`: files are read into the arena; `checks`: what is cached is compared with the disk.
//! * `overload`: what becomes of those for whom there is too little of something.
//! * `simulation`: the loop on a simulated kernel.

mod answer;
mod checks;
mod connection;
pub mod deliver;
mod fetches;
mod ledger;
mod overload;
mod receive;
mod send;
#[cfg(test)]
mod simulation;
mod stream;
#[cfg(any(test, feature = "simulation"))]
pub mod vopr;
pub mod worker;
