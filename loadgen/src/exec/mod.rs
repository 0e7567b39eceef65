//! Sends requests and receives responses: one ring, one schedule and one set of connections per thread.
//!
//! ```text
//! run ── thread ── worker ──┬── schedule     when the next request is meant to start
//!                           ├── connections  what was sent and is awaited, response parsers
//!                           └── wire         the ring: connect, send, multishot receive
//! ```

mod collector;
mod connection;
pub mod plan;
pub mod run;
mod schedule;
mod shared;
mod wire;
mod worker;

pub use collector::Progress;
pub use plan::{Arrivals, Pace, Plan, Stage};
pub use run::{Ended, Outcome, run};
