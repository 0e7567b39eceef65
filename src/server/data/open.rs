//! A path that is being opened beneath the root, for a fill or a check.

use crate::limits;
use crate::origin::{Origin, Root, RootAbsent};
use crate::ring::kernel::Op;
use crate::ring::lent::Lent;
use io_uring::types::OpenHow;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// A path to open beneath the root.
pub(super) struct Open {
    root: Arc<Root>,
    /// When the root had been exchanged last, as far as was known: see [`Origin::exchanged`].
    exchanged: u64,
    path: Vec<u8>,
    how: OpenHow,
    pub attempts: u32,
    /// When it was asked for: what is found then may be another file by the time at which that is noticed.
    pub began: u64,
}

impl Open {
    pub fn new(origin: &Origin, name: &[u8], how: OpenHow) -> Result<Lent<Open>, RootAbsent> {
        // Read first: what is exchanged in between is then noticed.
        let exchanged = origin.exchanged();
        let root = origin.root()?;
        let mut path = Vec::with_capacity(name.len() + 1);
        path.extend_from_slice(name);
        path.push(0);
        Ok(Lent::new(Open { root, exchanged, path, how, attempts: 0, began: 0 }))
    }

    pub fn op(open: &mut Lent<Open>) -> Op {
        let root = open.root.as_raw_fd();
        let path = open.lend(|open| open.path.as_mut_ptr().cast());
        let how = open.lend_also(|open| &raw mut open.how);
        Op::Open { root, path, how }
    }

    /// Whether to open again: it failed for a reason that may have passed (the tree was renamed while the path was
    /// resolved, or a signal came), or the root was exchanged meanwhile, whatever was found in the earlier one.
    ///
    /// # Errors
    /// There is no root to open it in.
    pub fn is_worth_another(&mut self, result: i32, origin: &Origin) -> Result<bool, RootAbsent> {
        self.attempts += 1;
        let exchanged = origin.exchanged();
        if self.exchanged != exchanged {
            self.root = origin.root()?;
            self.exchanged = exchanged;
            return Ok(true);
        }
        Ok((result == -libc::EAGAIN || result == -libc::EINTR) && self.attempts < limits::OPEN_ATTEMPTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::{Directory, Policy};

    #[test]
    fn a_failure_that_may_pass_is_tried_again_for_a_while() {
        let root = tempfile::tempdir().unwrap();
        let origin = Origin::Directory(Directory::open(root.path(), Policy::default(), || 1).unwrap());
        let mut open = Open::new(&origin, b"a/b", origin.look_how()).unwrap();
        assert_eq!(open.path, b"a/b\0");
        assert_eq!(open.get_mut().is_worth_another(-libc::ENOENT, &origin), Ok(false));
        let mut open = Open::new(&origin, b"a", origin.open_how()).unwrap();
        for _ in 1..limits::OPEN_ATTEMPTS {
            assert_eq!(open.get_mut().is_worth_another(-libc::EAGAIN, &origin), Ok(true));
        }
        assert_eq!(open.get_mut().is_worth_another(-libc::EAGAIN, &origin), Ok(false), "not for ever");
    }
}
