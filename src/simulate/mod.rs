//! `forebay simulate`: what a policy and an arena of some size would do for a recorded sequence of requests.
//!
//! A trace is read once, into a few bytes for each request, and replayed through the policies and the arena's
//! accounting that the server uses. What is left out is everything that needs time: fills that overlap, revalidation,
//! clients that go away.

pub mod curve;
pub mod explain;
pub mod page;
pub mod plot;
pub mod replay;
pub mod report;
pub mod trace;
