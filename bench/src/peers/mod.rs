//! The servers that are compared: which there are, and how each is started.

pub mod launch;
mod peer;

pub use peer::{Peer, Role};
