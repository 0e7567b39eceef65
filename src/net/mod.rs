//! Where a server is, and who is on the other end of a connection.

pub mod address;
pub mod peer;
