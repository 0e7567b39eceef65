//! A body that does not leave with its head.

use super::resident::Resident;
use super::send::{Sender, Sent};
use super::stream::{Next, Stream};
use crate::ring::kernel::Kernel;
use std::io;

/// Where the rest of a body comes from.
pub(super) enum Body {
    /// The arena.
    Arena(Resident),
    /// A file that is not cached, or not yet.
    File(Stream),
}

impl Body {
    /// Sends the next bytes.
    pub fn step<K: Kernel>(&mut self, sender: &mut Sender<'_, K>) -> io::Result<Sent> {
        match self {
            Body::Arena(resident) => resident.step(sender),
            Body::File(stream) => {
                let next = stream.step(sender)?;
                Ok(self.go_on(next))
            }
        }
    }

    /// A read of the file is over.
    pub fn read<K: Kernel>(&mut self, sender: &mut Sender<'_, K>, result: i32) -> Sent {
        match self {
            Body::Arena(_) => Sent::Broken,
            Body::File(stream) => {
                let next = stream.read(sender, result);
                self.go_on(next)
            }
        }
    }

    fn go_on(&mut self, next: Next) -> Sent {
        match next {
            Next::Sent(sent) => sent,
            Next::Resident(resident) => {
                *self = Body::Arena(resident);
                Sent::Moved
            }
        }
    }
}
