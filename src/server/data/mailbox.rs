//! What connections are told by others: that a fill they wait for has moved on, or that their turn has come again.
//!
//! A connection of this worker goes on after the completions of the present turn. One of another worker gets a message
//! to its ring, which is kept here until the kernel has delivered it: whoever waits for a lost message would wait for
//! ever.

use super::id::ConnectionId;
use crate::planted::{self, Defect};
use crate::ring::kernel::Token;
use slab::Slab;
use std::os::fd::RawFd;

/// A worker's outgoing messages, and those of its connections that go on by themselves.
#[derive(Default)]
pub(super) struct Mailbox {
    ready: Vec<ConnectionId>,
    /// Messages to other workers that are not known to be delivered. Each is about a connection, so their count bounds
    /// them.
    messages: Slab<Message>,
    /// Those of them that the kernel had no memory for: the next tick tries again.
    undelivered: Vec<u32>,
}

/// A message to another worker: its ring, and what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub ring: RawFd,
    pub token: Token,
}

impl Mailbox {
    /// The connection goes on without a completion of its own.
    pub fn push_ready(&mut self, id: ConnectionId) {
        self.ready.push(id);
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The connections that go on now. What becomes ready from here on waits for the next turn, so that none of them
    /// keeps the others waiting.
    pub fn take_ready(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.ready)
    }

    /// Keeps a message until it is delivered; returns the key to submit it by.
    pub fn post(&mut self, message: Message) -> u32 {
        self.messages.insert(message) as u32
    }

    pub fn message(&self, key: u32) -> Option<Message> {
        self.messages.get(key as usize).copied()
    }

    /// The kernel has done with the message of this key: delivered it, or not.
    pub fn complete(&mut self, key: u32, result: i32) {
        match -result {
            libc::ENOMEM | libc::EAGAIN | libc::EOVERFLOW if !planted::is(Defect::MessageDropped) => {
                self.undelivered.push(key);
            }
            // Delivered; or the addressee has gone, and its connections with it.
            _ => drop(self.messages.try_remove(key as usize)),
        }
    }

    /// The messages that are to be submitted once more.
    pub fn take_undelivered(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.undelivered)
    }

    /// Every message is delivered.
    pub fn is_delivered(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::kernel::Kind;

    #[test]
    fn a_message_is_kept_until_it_is_delivered() {
        let mut mailbox = Mailbox::default();
        let message = |index| Message { ring: 7, token: Token::new(Kind::Wake, 1, index) };
        let keys: Vec<u32> = (0..3).map(|index| mailbox.post(message(index))).collect();
        mailbox.complete(keys[0], 0);
        mailbox.complete(keys[1], -libc::ENOMEM);
        mailbox.complete(keys[2], -libc::EBADF);
        assert!(!mailbox.is_delivered());
        assert_eq!(mailbox.take_undelivered(), [keys[1]]);
        assert!(mailbox.take_undelivered().is_empty(), "each is tried again once");
        assert_eq!(mailbox.message(keys[1]), Some(message(1)));
        mailbox.complete(keys[1], 0);
        assert!(mailbox.is_delivered());
        mailbox.complete(keys[1], 0);
        assert_eq!(mailbox.message(keys[1]), None);
    }

    #[test]
    fn what_becomes_ready_meanwhile_waits_for_the_next_turn() {
        let mut mailbox = Mailbox::default();
        let id = |index| ConnectionId { index, generation: 1 };
        mailbox.push_ready(id(1));
        let now = mailbox.take_ready();
        mailbox.push_ready(id(2));
        assert_eq!(now, [id(1)]);
        assert_eq!(mailbox.take_ready(), [id(2)]);
        assert!(!mailbox.has_ready());
    }
}
