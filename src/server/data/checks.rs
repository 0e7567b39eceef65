//! Checks: comparisons of what is cached with the disk. They belong to the worker, not to a connection: whoever asked
//! may leave, and they go on.
//!
//! A check looks at what the name leads to now. If a [second look](Entry::needs_second_look) is due, it also reads the
//! file and compares it, byte for byte, with what is cached.
//!
//! [`Entry::needs_second_look`]: crate::cache::entry::Entry::needs_second_look

use super::id::ConnectionId;
use super::io::Io;
use super::open::Open;
use crate::cache::entry::Lease;
use crate::exchange::revalidate::{self, Checked};
use crate::limits;
use crate::origin::{Found, RootAbsent};
use crate::planted::{self, Defect};
use crate::ring::kernel::{Kernel, Kind, Op, Token};
use crate::ring::lent::Lent;
use slab::Slab;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The checks that a worker has under way. A connection waits for one at most, and an entry is refreshed by one at a
/// time, so the counts of both bound them.
#[derive(Default)]
pub(super) struct Checks {
    checks: Slab<Check>,
}

/// A comparison with the disk.
struct Check {
    lease: Lease,
    began: u64,
    /// The connection that waits for it, if one does.
    waits: Option<ConnectionId>,
    stage: Stage,
}

/// How far it is.
enum Stage {
    /// The name is being looked up.
    Opening { open: Lent<Open>, second_look: bool },
    /// The second look.
    Comparing(Comparison),
}

/// A file whose bytes are compared with those that are cached, as far as `at`.
struct Comparison {
    file: OwnedFd,
    piece: Lent<Box<[u8]>>,
    at: u64,
}

/// What a check does next.
enum Next {
    /// Opens the name (again), or reads the next piece.
    GoOn,
    /// Ends: this was found, and a second look, if there was one, found the same bytes or not.
    End { found: io::Result<Found>, same_bytes: Option<bool> },
}

impl Next {
    fn failed(error: io::Error) -> Next {
        Next::End { found: Err(error), same_bytes: None }
    }
}

impl Checks {
    #[cfg(any(test, feature = "simulation"))]
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    /// Looks whether the disk still holds what is cached; `waits` is the connection that waits for the answer. Returns
    /// the answer if it is known at once.
    pub fn begin<K: Kernel>(
        &mut self,
        io: &mut Io<K>,
        lease: Lease,
        waits: Option<ConnectionId>,
    ) -> io::Result<Option<Checked>> {
        let second_look = lease.needs_second_look(io.now);
        let origin = &io.shared.origin;
        let how = if second_look { origin.open_how() } else { origin.look_how() };
        let Ok(open) = Open::new(origin, lease.name(), how) else {
            lease.end_check(io.now, false);
            return Ok(Some(Checked::RootAbsent));
        };
        let stage = Stage::Opening { open, second_look };
        let key = self.checks.insert(Check { lease, began: io.now, waits, stage });
        self.go_on(io, key, Next::GoOn).map(|_| None)
    }

    /// The name of a check was looked up, or a piece of its file was read. Returns the answer for the connection that
    /// waits for it.
    pub fn complete<K: Kernel>(
        &mut self,
        io: &mut Io<K>,
        key: u32,
        result: i32,
    ) -> io::Result<Option<(ConnectionId, Checked)>> {
        let key = key as usize;
        let next = match self.checks.get_mut(key) {
            Some(Check { stage: Stage::Opening { .. }, .. }) => self.opened(io, key, result),
            Some(Check { lease, stage: Stage::Comparing(comparison), .. }) => match comparison.compare(lease, result) {
                Ok(None) => Next::GoOn,
                Ok(same_bytes) => Next::End { found: io.kernel.identify(comparison.file.as_fd()), same_bytes },
                Err(error) => Next::failed(error),
            },
            None => return Ok(None),
        };
        self.go_on(io, key, next)
    }

    fn go_on<K: Kernel>(
        &mut self,
        io: &mut Io<K>,
        key: usize,
        next: Next,
    ) -> io::Result<Option<(ConnectionId, Checked)>> {
        let Check { lease, stage, .. } = &mut self.checks[key];
        let op = match (next, stage) {
            (Next::End { found, same_bytes }, _) => return Ok(self.end(io, key, found, same_bytes)),
            (Next::GoOn, Stage::Opening { open, .. }) => Open::op(open),
            (Next::GoOn, Stage::Comparing(Comparison { file, piece, at })) => {
                let len = (lease.size() - *at).min(limits::SECOND_LOOK_BYTES as u64) as u32;
                let into = piece.lend(|piece| piece.as_mut_ptr());
                Op::Read { file: file.as_raw_fd(), into, len, offset: *at }
            }
        };
        io.kernel.submit(op, Token::new(Kind::Check, 0, key as u32))?;
        Ok(None)
    }

    fn opened<K: Kernel>(&mut self, io: &mut Io<K>, key: usize, result: i32) -> Next {
        let Check { lease, stage: Stage::Opening { open, second_look }, .. } = &mut self.checks[key] else {
            return Next::GoOn;
        };
        open.returned();
        let file = (result >= 0).then(|| io.kernel.adopt(result));
        let file = match (open.get_mut().is_worth_another(result, &io.shared.origin), file) {
            (Ok(true), _) => return Next::GoOn,
            (Err(RootAbsent), _) => return Next::failed(RootAbsent.into()),
            (Ok(false), None) => return Next::failed(io::Error::from_raw_os_error(-result)),
            (Ok(false), Some(file)) => file,
        };
        let found = io.kernel.identify(file.as_fd());
        match found {
            Ok(Found::File(version)) if *second_look && lease.is_current(&version) => {}
            found => return Next::End { found, same_bytes: None },
        }
        if lease.size() == 0 {
            return Next::End { found, same_bytes: Some(true) };
        }
        if self.count_second_looks() >= limits::SECOND_LOOKS {
            // It is read anew instead.
            return Next::End { found, same_bytes: Some(false) };
        }
        let piece = Lent::new(vec![0; limits::SECOND_LOOK_BYTES].into());
        self.checks[key].stage = Stage::Comparing(Comparison { file, piece, at: 0 });
        Next::GoOn
    }

    fn count_second_looks(&self) -> usize {
        self.checks.iter().filter(|(_, check)| matches!(check.stage, Stage::Comparing(_))).count()
    }

    fn end<K: Kernel>(
        &mut self,
        io: &mut Io<K>,
        key: usize,
        found: io::Result<Found>,
        same_bytes: Option<bool>,
    ) -> Option<(ConnectionId, Checked)> {
        let Check { lease, began, waits, stage } = self.checks.remove(key);
        if planted::is(Defect::CheckLeavesFileOpen) {
            std::mem::forget(stage);
        }
        let checked = revalidate::conclude(&io.shared.cache, &lease, began, found, same_bytes);
        io.metrics.revalidations[checked.into()].one();
        waits.map(|id| (id, checked))
    }
}

impl Comparison {
    /// A piece was read, or could not be. Returns whether all bytes are those of `lease`, once that is known.
    fn compare(&mut self, lease: &Lease, result: i32) -> io::Result<Option<bool>> {
        let Comparison { file, piece, at } = self;
        piece.returned();
        match result {
            read @ 1.. if lease.bytes()[*at as usize..].starts_with(&piece[..read as usize]) => *at += read as u64,
            // Other bytes, or fewer.
            0.. => return Ok(Some(false)),
            error if error == -libc::EINTR => {}
            // As for a fill: without O_NONBLOCK, a kernel worker thread does the waiting.
            error if error == -libc::EAGAIN => rustix::fs::fcntl_setfl(file, rustix::fs::OFlags::empty())?,
            error => return Err(io::Error::from_raw_os_error(-error)),
        }
        Ok((*at == lease.size()).then_some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::{cache, cached};

    const PIECE: i32 = limits::SECOND_LOOK_BYTES as i32;

    fn comparison(bytes: u8) -> Comparison {
        let file = std::fs::File::open("/dev/null").unwrap().into();
        let mut piece = Lent::new(vec![bytes; limits::SECOND_LOOK_BYTES].into_boxed_slice());
        piece.lend(|piece| piece.as_mut_ptr());
        Comparison { file, piece, at: 0 }
    }

    #[test]
    fn a_second_look_ends_with_the_last_byte_or_the_first_difference() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, _) = cache();
        let lease = cached(&cache, directory.path(), b"a", limits::SECOND_LOOK_BYTES as u64 + 10);
        let mut alike = comparison(0);
        for result in [PIECE, -libc::EINTR, -libc::EAGAIN, 4] {
            assert!(matches!(alike.compare(&lease, result), Ok(None)), "{result}");
        }
        assert!(matches!(alike.compare(&lease, 6), Ok(Some(true))));
        assert!(matches!(comparison(1).compare(&lease, PIECE), Ok(Some(false))), "other bytes");
        assert!(matches!(comparison(0).compare(&lease, 0), Ok(Some(false))), "fewer bytes");
        let mut longer = comparison(0);
        assert!(matches!(longer.compare(&lease, PIECE), Ok(None)));
        assert!(matches!(longer.compare(&lease, 11), Ok(Some(false))), "more bytes");
        assert_eq!(comparison(0).compare(&lease, -libc::EIO).unwrap_err().raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn second_looks_are_counted_among_all_checks() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, _) = cache();
        let lease = cached(&cache, directory.path(), b"a", 10);
        let mut checks = Checks::default();
        for number in 0..limits::SECOND_LOOKS {
            assert_eq!(checks.count_second_looks(), number);
            let stage = Stage::Comparing(comparison(0));
            checks.checks.insert(Check { lease: lease.clone(), began: 1, waits: None, stage });
        }
        assert!(!checks.is_empty());
        assert_eq!(checks.count_second_looks(), limits::SECOND_LOOKS);
    }
}
