//! The classes that responses are told apart by.

/// How a response was served, by the server's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// From the cache of the server that answered.
    Hit,
    /// Forwarded to the origin: stored, collapsed onto another request, too large to store …
    Miss,
    /// The response did not say (no `Cache-Status`).
    Unclassified,
}

impl Class {
    /// Every class, in the order in which they are reported and indexed.
    pub const ALL: [Class; 3] = [Class::Hit, Class::Miss, Class::Unclassified];

    /// The name in reports and file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Hit => "hit",
            Class::Miss => "miss",
            Class::Unclassified => "unclassified",
        }
    }
}
