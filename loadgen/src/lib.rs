//! `loadgen` measures a file server over HTTP/1.1: the latency of cache hits and of misses apart, by the server's own
//! `Cache-Status`, and honestly under load, counted from when a request was meant to start.
//!
//! * [`requests`] says what is asked for, [`trace`] and [`corpus`] where names and files come from;
//! * [`exec`] sends and receives, [`classify`] tells hits from misses;
//! * [`stats`] counts.
//!
//! A run writes its data first (`--json`); tables, comparisons and pages are made from that.

pub mod classify;
pub mod cli;
pub mod commands;
pub mod corpus;
pub mod endpoint;
pub mod exec;
pub mod find;
pub mod report;
pub mod requests;
pub mod stats;
pub mod trace;
pub use forebay::units;
