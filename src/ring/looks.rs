//! Looks at files of slow storage: what a file is, asked through the ring.
//!
//! fstat(2) of a file on a network or FUSE file system may ask its server, and an event loop that waits for that serves
//! nobody. So where the root is on such a file system, the completion of an open or a read is kept until a STATX of the
//! same file has completed, too. The event loop then finds what it would have asked for.

use super::Completion;
use super::kernel::{Kind, Token};
use super::lent::Lent;
use crate::version::Found;
use io_uring::{opcode, squeue, types};
use slab::Slab;
use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether anything slow is served. Storage that was slow once is asked with care for ever: that costs a little, and no
/// more.
static IS_SLOW: AtomicBool = AtomicBool::new(false);

/// Says that files are served whose storage may let one wait even for what it says of them.
pub fn storage_is_slow() {
    IS_SLOW.store(true, Ordering::Release);
}

/// Whether [`storage_is_slow`] was called.
#[inline]
pub fn is_storage_slow() -> bool {
    IS_SLOW.load(Ordering::Acquire)
}

/// A completion that is kept, and the look that it waits for.
struct Look {
    kept: Completion,
    file: RawFd,
    stat: Lent<Box<libc::statx>>,
}

/// The looks of one event loop. Each belongs to an open or a read that is under way for the loop, so the loop's own
/// bounds hold.
#[derive(Default)]
pub(super) struct Looks {
    under_way: Slab<Look>,
    /// The files of reads that are under way, by their tokens.
    reads: HashMap<u64, RawFd>,
    /// What was found, for the completions that are handled now.
    found: Vec<(RawFd, io::Result<Found>)>,
}

impl Looks {
    /// A read of a file is submitted.
    pub fn reads(&mut self, token: Token, file: RawFd) {
        self.reads.insert(token.pack(), file);
    }

    /// What was found out about a file, if it was looked at.
    pub fn take(&mut self, file: RawFd) -> Option<io::Result<Found>> {
        let at = self.found.iter().position(|(looked_at, _)| *looked_at == file)?;
        Some(self.found.swap_remove(at).1)
    }

    /// Sorts what has completed since `from`: keeps what has to wait for a look, which `submit` is given, and brings
    /// back what has waited.
    ///
    /// # Errors
    /// Those of `submit`.
    pub fn sort(
        &mut self,
        batch: &mut Vec<Completion>,
        from: usize,
        mut submit: impl FnMut(squeue::Entry) -> io::Result<()>,
    ) -> io::Result<()> {
        self.found.clear();
        if !is_storage_slow() {
            return Ok(());
        }
        let mut kept_back = from;
        for at in from..batch.len() {
            let completion = match Token::unpack(batch[at].token) {
                Some(Token { kind: Kind::Look, index, .. }) => self.looked(index, batch[at].result),
                Some(Token { kind: Kind::FillOpen | Kind::FillRead | Kind::Check | Kind::Stream, .. }) => {
                    self.keep(&batch[at], &mut submit)?
                }
                _ => Some(batch[at]),
            };
            if let Some(completion) = completion {
                batch[kept_back] = completion;
                kept_back += 1;
            }
        }
        batch.truncate(kept_back);
        Ok(())
    }

    /// Keeps a completion until its file was looked at; gives back one that has no file to look at.
    fn keep(
        &mut self,
        completion: &Completion,
        submit: &mut impl FnMut(squeue::Entry) -> io::Result<()>,
    ) -> io::Result<Option<Completion>> {
        let read = self.reads.remove(&completion.token);
        if completion.result < 0 {
            return Ok(Some(*completion));
        }
        let file = match (read, Token::unpack(completion.token)) {
            (Some(file), _) => file,
            // It began before storage was known to be slow.
            (None, Some(Token { kind: Kind::FillRead | Kind::Stream, .. })) => return Ok(Some(*completion)),
            // An open, which brings its file.
            (None, _) => completion.result,
        };
        // SAFETY: all fields are integers, for which zero is valid.
        let stat: Box<libc::statx> = Box::new(unsafe { std::mem::zeroed() });
        let index = self.under_way.insert(Look { kept: *completion, file, stat: Lent::new(stat) });
        let into = self.under_way[index].stat.lend(|stat| &raw mut **stat);
        let entry = opcode::Statx::new(types::Fd(file), c"".as_ptr(), into.address().cast())
            .flags(libc::AT_EMPTY_PATH)
            .mask(libc::STATX_BASIC_STATS)
            .build();
        submit(entry.user_data(Token::new(Kind::Look, 0, index as u32).pack()))?;
        Ok(None)
    }

    /// A look has completed; gives back the completion that has waited for it.
    fn looked(&mut self, index: u32, result: i32) -> Option<Completion> {
        let mut look = self.under_way.try_remove(index as usize)?;
        look.stat.returned();
        let found = match result {
            0.. => Ok(Found::from_statx(look.stat.get_mut())),
            error => Err(io::Error::from_raw_os_error(-error)),
        };
        self.found.push((look.file, found));
        Some(look.kept)
    }
}
