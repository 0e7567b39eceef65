//! The cache: what is kept in the arena, and what has to go when it is full.

pub mod eviction;
