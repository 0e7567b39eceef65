//! What is read from the system: processor time, memory, cores, the page cache, the setting for large folios.

pub mod cores;
pub mod cpu;
pub mod folios;
pub mod memory;
pub mod pagecache;
