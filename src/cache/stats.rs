//! What the cache tells of itself, to whoever counts.

/// Why an entry left the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// To make room for another file.
    Room,
    /// The file at the origin was found changed.
    Invalidated,
    /// An upload replaced the file.
    Replaced,
    /// The file was deleted, through the server or at the origin.
    Deleted,
}

/// Counts. Called by any thread, and never on the way of a hit.
pub trait Stats: Send + Sync {
    /// An entry left the cache.
    fn left(&self, why: Departure);

    /// The policy would not make room for a file.
    fn refused(&self);
}
