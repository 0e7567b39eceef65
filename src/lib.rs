//! Forebay: a file server with a fixed memory-mapped cache in front of its storage and an io_uring data plane.

pub mod arena;
pub mod cache;
pub mod chart;
pub mod cli;
pub mod client;
pub mod config;
pub mod exchange;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod net;
pub mod origin;
pub mod ring;
pub mod rules;
pub mod server;
pub mod simulate;
pub mod text;
pub mod trace;
pub mod transmit;
pub mod units;
pub mod version;
pub mod wake;
