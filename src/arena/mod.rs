//! The arena: one memory-mapped memfd, whose resident pages are what is budgeted.

pub mod layout;
