//! What is measured: classes of responses, kinds of failures, latencies, and how far measurements scatter.

pub mod class;
pub mod failure;
pub mod latencies;
pub mod sample;
pub mod spread;
pub mod tally;

pub use class::Class;
pub use failure::{Failure, Failures};
pub use latencies::{Latencies, Percentiles};
pub use sample::Sample;
pub use tally::{ClassTally, ScheduleTally, Tally};
