//! Which connection something is about.

use crate::ring::kernel::{Kind, Token};
use std::fmt;

/// A connection of a worker: its place, and which of the users of that place it is. What is late for one that has gone
/// reaches nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionId {
    pub index: u32,
    pub generation: u32,
}

impl ConnectionId {
    /// The connection that a token is about.
    pub fn of(token: Token) -> ConnectionId {
        ConnectionId { index: token.index, generation: token.generation }
    }

    /// For an operation of this connection, or a message to it.
    pub fn token(self, kind: Kind) -> Token {
        Token::new(kind, self.generation, self.index)
    }
}

/// As logs name it.
impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.index.fmt(f)
    }
}
