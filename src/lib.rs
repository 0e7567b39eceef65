//! Forebay: a file server with a fixed memory-mapped cache in front of its storage and an io_uring data plane.
//!
//! The layers, lowest first; a module imports what is in its own folder and in lower layers (`tests/tidy.rs` holds
//! that):
//!
//! 0. [`machine`], [`planted`], [`sync`]: the machine outside of the rings, defects for tests to find, locks.
//! 1. [`limits`], [`units`], [`version`], [`net`], [`wake`], [`text`]: words that all others use.
//! 2. [`ring`], [`http`], [`trace`], [`chart`], [`page`]: the kernel, the protocol, recorded requests, pictures, what
//!    pages share.
//! 3. [`arena`], [`origin`]: the cache's memory, and what is served.
//! 4. [`cache`]: what is kept, and what has to go. It knows no protocol and no server.
//! 5. [`exchange`], [`metrics`], [`config`], [`simulate`]: what a request becomes, without I/O; counts; options.
//! 6. [`server`], [`client`]: whatever does I/O. The server has two planes: workers that serve hits and misses
//!    on a ring of their own, and one thread for everything else.
//! 7. [`cli`]: the command lines, and the only place that knows clap. Beside it, in tests only: `fuzzing`, what is
//!    fuzzed.
//!
//! docs/architecture.md follows a hit, a miss and an upload through them.

pub mod arena;
pub mod cache;
pub mod chart;
pub mod cli;
pub mod client;
pub mod config;
pub mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod http;
pub mod limits;
pub mod machine;
pub mod metrics;
pub mod net;
pub mod origin;
pub mod page;
pub mod planted;
pub mod ring;
pub mod rules;
pub mod server;
pub mod simulate;
pub mod sync;
pub mod text;
pub mod trace;
pub mod units;
pub mod version;
pub mod wake;
