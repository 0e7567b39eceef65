//! The seam to io_uring.
//!
//! * [`Ring`]: one ring of one thread, set up with what the running kernel offers.
//! * [`preflight`]: why a ring cannot be had here, and what to do about it.
//! * [`buffers`]: the provided-buffer ring that multishot receives pick from.
//! * [`kernel`]: what an event loop asks of the kernel, as a trait, so that the same loop runs on a simulated kernel.
//! * [`system`]: that trait on the real kernel; the only place that prepares submissions.

// The kernel reads and writes at the addresses that submissions carry.
#![allow(unsafe_code)]

pub mod buffers;
pub mod kernel;
pub mod lent;
pub mod looks;
pub mod notifier;
pub mod preflight;
mod residency;
#[cfg(any(test, feature = "simulation"))]
pub mod simulated;
pub mod system;
#[cfg(any(test, feature = "simulation"))]
pub mod world;

use io_uring::{IoUring, squeue, types};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

pub use preflight::Refusal;

/// One completion, copied out of the completion queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The `user_data` of the submission (or of the message, for MSG_RING).
    pub token: u64,
    /// What the operation returned: a count or a descriptor, or a negative errno.
    pub result: i32,
    /// IORING_CQE_F_* flags.
    pub flags: u32,
}

impl Completion {
    /// More completions of the same submission will follow (multishot operations, zero-copy notifications).
    pub fn more(&self) -> bool {
        io_uring::cqueue::more(self.flags)
    }

    /// The provided buffer that holds the received bytes.
    pub fn buffer(&self) -> Option<u16> {
        io_uring::cqueue::buffer_select(self.flags)
    }

    /// The second completion of a zero-copy send: the kernel no longer reads the memory.
    pub fn is_notification(&self) -> bool {
        io_uring::cqueue::notif(self.flags)
    }
}

/// One ring of one thread. It must be created on the thread that uses it (SINGLE_ISSUER).
pub struct Ring {
    ring: IoUring,
    /// Submissions that the kernel would not take yet, the oldest first. Each belongs to a connection, a fill or a
    /// check, whose counts bound it.
    backlog: VecDeque<squeue::Entry>,
    overflows: u64,
}

/// How long to leave a kernel alone that has no memory for a submission.
const NO_MEMORY_PAUSE: Duration = Duration::from_millis(1);

impl Ring {
    /// Sets up a ring with `entries` submission entries and `completions` completion entries (powers of two).
    ///
    /// SINGLE_ISSUER and DEFER_TASKRUN: completions are posted only when this thread enters the kernel to wait, in one
    /// batch, without interrupting it. NO_SQARRAY (6.6) saves an indirection and is used where the kernel has it.
    ///
    /// # Errors
    /// A [`Refusal`] that names the cause and the remedy.
    pub fn new(entries: u32, completions: u32) -> Result<Ring, Refusal> {
        let build = |no_sqarray: bool| {
            let mut builder = IoUring::builder();
            builder.setup_cqsize(completions).setup_single_issuer().setup_defer_taskrun();
            builder.setup_taskrun_flag().setup_submit_all().dontfork();
            if no_sqarray {
                builder.setup_no_sqarray();
            }
            builder.build(entries)
        };
        let ring = match build(true) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(false),
            other => other,
        };
        Ok(Ring { ring: ring.map_err(Refusal::of_setup)?, backlog: VecDeque::new(), overflows: 0 })
    }

    /// Queues one submission; if the queue is full, what is queued is submitted first. What the kernel does not take
    /// for now (its completions are to be taken first, or it has no memory) waits for the next turn.
    ///
    /// # Safety
    /// Whatever the entry points to must stay valid until the operation's last completion.
    ///
    /// # Errors
    /// Those of io_uring_enter that say that the ring cannot be used.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        if self.backlog.is_empty() {
            // SAFETY: the caller vouches for what the entry points to.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            Ring::quiet(self.ring.submit())?;
        }
        self.backlog.push_back(entry.clone());
        self.catch_up();
        Ok(())
    }

    /// Queues what waits, as far as there is room.
    fn catch_up(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: who pushed the entry vouched for what it points to.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    /// Submits what is queued and waits until at least `want` completions are there, in one io_uring_enter.
    /// An interrupted wait is success: the caller looks at what has completed.
    ///
    /// # Errors
    /// Those of io_uring_enter, except EINTR, EBUSY (completions wait to be taken) and EAGAIN (no memory: tried again).
    pub fn submit_and_wait(&mut self, want: usize) -> io::Result<()> {
        self.catch_up();
        Ring::quiet(self.ring.submit_and_wait(want))?;
        // Set as long as the kernel keeps completions aside for which the queue has no room.
        if self.ring.submission().cq_overflow() {
            self.overflows += 1;
        }
        Ok(())
    }

    /// As [`Ring::submit_and_wait`], but waits no longer than `limit`.
    ///
    /// # Errors
    /// Those of io_uring_enter, except EINTR, EBUSY and ETIME.
    pub fn submit_and_wait_for(&mut self, want: usize, limit: Duration) -> io::Result<()> {
        let limit = types::Timespec::from(limit);
        let args = types::SubmitArgs::new().timespec(&limit);
        Ring::quiet(self.ring.submitter().submit_with_args(want, &args))
    }

    fn quiet(result: io::Result<usize>) -> io::Result<()> {
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EBUSY | libc::ETIME) => Ok(()),
                Some(libc::EAGAIN) => {
                    std::thread::sleep(NO_MEMORY_PAUSE);
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// Moves all completions that are there to the end of `batch`.
    pub fn completions(&mut self, batch: &mut Vec<Completion>) {
        batch.extend(self.ring.completion().map(|entry| Completion {
            token: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    /// How often the completion queue was found to have overflowed since the last call. The kernel keeps the
    /// completions aside; none is lost.
    pub fn take_overflows(&mut self) -> u64 {
        std::mem::take(&mut self.overflows)
    }

    /// The underlying ring, for registrations.
    pub fn submitter(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use io_uring::opcode;

    #[test]
    fn what_the_kernel_does_not_take_waits_in_order() {
        let mut ring = Ring::new(4, 8).unwrap();
        let entries = (0..4).map(|token| opcode::Nop::new().build().user_data(token));
        ring.backlog.extend(entries);
        // SAFETY: it points to no memory.
        unsafe { ring.push(&opcode::Nop::new().build().user_data(4)) }.unwrap();
        assert_eq!(ring.backlog.len(), 1, "as many as there are places were queued");
        let mut batch = Vec::new();
        while batch.len() < 5 {
            ring.submit_and_wait(1).unwrap();
            ring.completions(&mut batch);
        }
        assert_eq!(batch.iter().map(|completion| completion.token).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_overflow_of_completions_is_counted_and_loses_none() {
        let mut ring = Ring::new(4, 8).unwrap();
        for token in 0..40 {
            // SAFETY: it points to no memory.
            unsafe { ring.push(&opcode::Nop::new().build().user_data(token)) }.unwrap();
        }
        let mut tokens = Vec::new();
        let mut batch = Vec::new();
        while tokens.len() < 40 {
            ring.submit_and_wait(1).unwrap();
            ring.completions(&mut batch);
            tokens.extend(batch.drain(..).map(|completion| completion.token));
        }
        tokens.sort_unstable();
        assert!(tokens.into_iter().eq(0..40));
        assert!(ring.take_overflows() > 0);
        assert_eq!(ring.take_overflows(), 0);
    }

    #[test]
    fn a_busy_kernel_is_no_failure() {
        for errno in [libc::EBUSY, libc::EAGAIN, libc::EINTR, libc::ETIME] {
            assert!(Ring::quiet(Err(io::Error::from_raw_os_error(errno))).is_ok(), "{errno}");
        }
        assert!(Ring::quiet(Err(io::Error::from_raw_os_error(libc::EBADF))).is_err());
    }
}
