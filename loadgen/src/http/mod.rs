//! As much of HTTP/1.1 (RFC 9112) as a client of file servers needs: response heads, body framing, cache classes.

pub mod cache_status;
pub mod chunked;
pub mod response;
