//! What is fuzzed, and what has to hold: each function takes any bytes, and panics where something does not.
//!
//! `fuzz/` runs them under libFuzzer. The tests here run them over the corpus that is kept there, and over mutations of
//! it. An oracle is a second reading of the same bytes: a plain reference written apart from the code, another
//! program's parser (hyper, `serde_json`), or the same code with the bytes in other pieces.

mod bodies;
mod fields;
mod lists;
mod names;
mod requests;
mod streams;
mod texts;

pub use bodies::{chunked, response};
pub use fields::{conditions, content_digest, range};
pub use lists::{accept_encoding, cache_control, vary};
pub use names::{glob, host, target};
pub use requests::requests;
pub use texts::{access_log, listing, rules, trace};

/// Splits the first byte off: into how many bytes the rest is cut, at least one.
fn stepped(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&step, rest) = bytes.split_first()?;
    Some((usize::from(step).max(1), rest))
}

#[cfg(test)]
mod tests;
