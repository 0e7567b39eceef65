//! The data plane: event loops that answer GET and HEAD of files, one to a thread, each on a ring of its own.
//!
//! * [`worker`]: the loop. A turn takes the completions that are there and hands each to the table that it belongs to.
//! * The tables: `connections`, `fetches` (files are read into the arena), `checks` (what is cached is compared with
//!   the disk), `mailbox` (who goes on because of what another did). `io` is what all of them work with.
//! * `connection`: what is known of a client between completions; `serving`: it goes on as far as it can.
//! * `receive`: bytes in; `answer`: requests become responses, as [`crate::exchange`] decides; `patience`: deadlines.
//! * `send`, `body` and [`deliver`]: bytes out, from the arena (`resident`) and from files (`stream`); `ledger`: what
//!   is owed of each response; `pool`: memory that only active connections need.
//! * `listeners`, `overload`: who comes, and what becomes of those for whom there is too little of something.
//! * `simulation`: the loop on a simulated kernel.

mod answer;
mod body;
mod checks;
mod connection;
mod connections;
mod deferrals;
pub mod deliver;
mod fetches;
mod id;
mod io;
mod ledger;
mod listeners;
mod mailbox;
mod open;
mod overload;
mod patience;
mod pool;
mod receive;
mod resident;
mod send;
mod serving;
#[cfg(test)]
mod simulation;
mod stream;
#[cfg(any(test, feature = "simulation"))]
pub mod vopr;
pub mod worker;
