//! The files of a run: how many, how large, and what is in them.

pub mod body;
pub mod make;
pub mod sizes;
