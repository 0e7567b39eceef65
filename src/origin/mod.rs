//! The directory that is served.

mod identity;

pub use identity::{Identity, Opened};
