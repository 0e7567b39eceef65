//! The client: what `forebay fetch`, `list`, `put` and `shell` do, as a library over HTTP/1.1.

pub mod address;
