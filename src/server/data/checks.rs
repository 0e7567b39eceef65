//! Checks: comparisons of what is cached with the disk. They belong to the worker, not to a connection: whoever asked may leave,
//! and they go on.
//!
//! A check looks at what the name leads to now. If a [second look](Entry::needs_second_look) is due, it also reads the file and
//! compares it, byte for byte, with what is cached.
//!
//! [`Entry::needs_second_look`]: crate::cache::entry::Entry::needs_second_look

use super::connection::Wait;
use super::fetches::Open;
use super::worker::Worker;
use crate::cache::entry::Lease;
use crate::exchange::revalidate::{self, Checked};
use crate::limits;
use crate::origin::{Found, RootAbsent};
use crate::planted::{self, Defect};
use crate::ring::Completion;
use crate::ring::kernel::{Kernel, Kind, Op, Token};
use crate::ring::lent::Lent;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A comparison with the disk.
pub(super) struct Check {
    lease: Lease,
    began: u64,
    /// The connection that waits for it, if it does: index and generation.
    waits: Option<(u32, u32)>,
    stage: Stage,
}

/// How far it is.
enum Stage {
    /// The name is being looked up.
    Opening { open: Lent<Open>, second_look: bool },
    /// The file's bytes are compared with those that are cached, as far as `at`.
    Comparing { file: OwnedFd, piece: Lent<Box<[u8]>>, at: u64 },
}

impl<K: Kernel> Worker<K> {
    /// Looks whether the disk still holds what is cached; `waits` is the connection that waits for the answer.
    pub(super) fn begin_check(&mut self, lease: Lease, waits: Option<u32>) -> io::Result<()> {
        let waits = waits.map(|index| (index, self.connections[index as usize].generation));
        let second_look = lease.needs_second_look(self.now);
        let origin = &self.shared.origin;
        let how = if second_look { origin.open_how() } else { origin.look_how() };
        let Ok(open) = Open::new(origin, lease.name(), how) else {
            lease.end_check(self.now, false);
            self.answer_check(waits, Checked::RootAbsent);
            return Ok(());
        };
        let stage = Stage::Opening { open, second_look };
        let key = self.checks.insert(Check { lease, began: self.now, waits, stage });
        self.open_for_check(key)
    }

    fn open_for_check(&mut self, key: usize) -> io::Result<()> {
        let Stage::Opening { open, .. } = &mut self.checks[key].stage else { return Ok(()) };
        let op = Open::op(open);
        self.kernel.submit(op, Token::new(Kind::Check, 0, key as u32))
    }

    /// The name was looked up, or a piece of the file was read.
    pub(super) fn check_completed(&mut self, key: u32, completion: &Completion) -> io::Result<()> {
        let key = key as usize;
        match self.checks.get(key).map(|check| &check.stage) {
            Some(Stage::Opening { .. }) => self.check_opened(key, completion.result),
            Some(Stage::Comparing { .. }) => self.piece_read(key, completion.result),
            None => Ok(()),
        }
    }

    fn check_opened(&mut self, key: usize, result: i32) -> io::Result<()> {
        let Stage::Opening { open, .. } = &mut self.checks[key].stage else { return Ok(()) };
        open.returned();
        let file = (result >= 0).then(|| self.kernel.adopt(result));
        let again = open.get_mut().is_worth_another(result, &self.shared.origin);
        let file = match (again, file) {
            (Ok(true), _) => return self.open_for_check(key),
            (Err(RootAbsent), _) => return self.end_check(key, Err(RootAbsent.into()), None),
            (Ok(false), None) => return self.end_check(key, Err(io::Error::from_raw_os_error(-result)), None),
            (Ok(false), Some(file)) => file,
        };
        let found = self.kernel.identify(file.as_fd());
        let Some(Check { lease, stage: Stage::Opening { second_look: true, .. }, .. }) = self.checks.get(key) else {
            return self.end_check(key, found, None);
        };
        match found {
            Ok(Found::File(version)) if lease.is_current(&version) => {}
            found => return self.end_check(key, found, None),
        }
        let is_second_look = |check: &Check| matches!(check.stage, Stage::Comparing { .. });
        if self.checks.iter().filter(|(_, check)| is_second_look(check)).count() >= limits::SECOND_LOOKS {
            // It is read anew instead.
            return self.end_check(key, found, Some(false));
        }
        let piece = Lent::new(vec![0; limits::SECOND_LOOK_BYTES].into());
        self.checks[key].stage = Stage::Comparing { file, piece, at: 0 };
        self.read_piece(key)
    }

    fn read_piece(&mut self, key: usize) -> io::Result<()> {
        let Some(Check { lease, stage: Stage::Comparing { file, piece, at }, .. }) = self.checks.get_mut(key) else {
            return Ok(());
        };
        if *at == lease.size() {
            let found = self.kernel.identify(file.as_fd());
            return self.end_check(key, found, Some(true));
        }
        let len = (lease.size() - *at).min(limits::SECOND_LOOK_BYTES as u64) as u32;
        let into = piece.lend(|piece| piece.as_mut_ptr());
        let op = Op::Read { file: file.as_raw_fd(), into, len, offset: *at };
        self.kernel.submit(op, Token::new(Kind::Check, 0, key as u32))
    }

    fn piece_read(&mut self, key: usize, result: i32) -> io::Result<()> {
        let Some(Check { lease, stage: Stage::Comparing { file, piece, at }, .. }) = self.checks.get_mut(key) else {
            return Ok(());
        };
        piece.returned();
        match result {
            read @ 1.. if lease.bytes()[*at as usize..].starts_with(&piece[..read as usize]) => *at += read as u64,
            // Other bytes, or fewer.
            0.. => {
                let found = self.kernel.identify(file.as_fd());
                return self.end_check(key, found, Some(false));
            }
            error if error == -libc::EINTR => {}
            error if error == -libc::EAGAIN => {
                // As for a fill: without O_NONBLOCK, a kernel worker thread does the waiting.
                if let Err(error) = rustix::fs::fcntl_setfl(&*file, rustix::fs::OFlags::empty()) {
                    return self.end_check(key, Err(error.into()), None);
                }
            }
            error => return self.end_check(key, Err(io::Error::from_raw_os_error(-error)), None),
        }
        self.read_piece(key)
    }

    fn end_check(&mut self, key: usize, found: io::Result<Found>, same_bytes: Option<bool>) -> io::Result<()> {
        let Check { lease, began, waits, stage } = self.checks.remove(key);
        if planted::is(Defect::CheckLeavesFileOpen) {
            std::mem::forget(stage);
        }
        let checked = revalidate::conclude(&self.shared.cache, &lease, began, found, same_bytes);
        self.metrics.revalidations[checked.into()].one();
        self.answer_check(waits, checked);
        Ok(())
    }

    /// Tells the connection that waits. It goes on after this turn's completions: whoever began the check may be in the middle
    /// of it.
    fn answer_check(&mut self, waits: Option<(u32, u32)>, checked: Checked) {
        let Some((index, generation)) = waits else { return };
        if let Some(connection) = self.connections.get_mut(index as usize)
            && connection.generation == generation
            && let Wait::Exchange(exchange) = &mut connection.wait
        {
            exchange.checked(checked);
            self.ready.push((index, generation));
        }
    }
}
