//! HTTP/1.1 (RFC 9110, 9112) as far as a file server needs it; a file for each concept of the standard.
//!
//! Both planes use these: the data plane on the bytes it received, the control plane on what hyper parsed.

pub mod accept;
pub mod cache_status;
pub mod caching;
pub mod chunked;
pub mod conditional;
pub mod date;
pub mod digest;
pub mod encoding;
pub mod framing;
pub mod hop;
pub mod host;
pub mod interim;
pub mod media;
pub mod multipart;
pub mod range;
pub mod reader;
pub mod representation;
pub mod request;
pub mod response;
pub mod target;
