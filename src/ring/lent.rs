//! Memory lent to the kernel.
//!
//! An operation in flight reads or writes memory after the call that submitted it returned. [`Lent`] owns such memory
//! and makes the mistake impossible to turn into corruption: while lent it cannot be changed, and if its owner is
//! dropped meanwhile it is leaked instead of freed.

use std::mem::ManuallyDrop;
use std::ops::Deref;

/// A value at a fixed address that can be lent to the kernel for the duration of one operation.
pub struct Lent<T> {
    value: ManuallyDrop<Box<T>>,
    lent: bool,
}

/// A pointer into lent memory, for the fields of one submission. Only this module makes one.
#[derive(Debug, Clone, Copy)]
pub struct Loan<T>(*mut T);

impl<T> Loan<T> {
    /// The address, as the submission names it.
    pub(in crate::ring) fn address(self) -> *mut T {
        self.0
    }

    /// What was lent, for a kernel that is simulated in the same process.
    #[cfg(any(test, feature = "simulation"))]
    pub fn simulated(self) -> *mut T {
        self.0
    }
}

impl<T> Lent<T> {
    pub fn new(value: T) -> Lent<T> {
        Lent { value: ManuallyDrop::new(Box::new(value)), lent: false }
    }

    /// Lends what `part` points at (memory that the value owns or keeps alive) until [`Lent::returned`].
    ///
    /// # Panics
    /// If it is lent already: one operation at a time.
    pub fn lend<P>(&mut self, part: impl FnOnce(&mut T) -> *mut P) -> Loan<P> {
        assert!(!self.lent, "one operation at a time uses this memory");
        self.lent = true;
        Loan(part(&mut self.value))
    }

    /// Lends one part more of what is lent to the same operation.
    pub fn lend_also<P>(&mut self, part: impl FnOnce(&mut T) -> *mut P) -> Loan<P> {
        assert!(self.lent, "the operation has its first part already");
        Loan(part(&mut self.value))
    }

    /// The operation's last completion has arrived.
    pub fn returned(&mut self) {
        self.lent = false;
    }

    pub fn is_lent(&self) -> bool {
        self.lent
    }

    /// The value, to change it.
    ///
    /// # Panics
    /// While it is lent.
    pub fn get_mut(&mut self) -> &mut T {
        assert!(!self.lent, "memory in use by the kernel is not changed");
        &mut self.value
    }
}

impl<T> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        if !self.lent {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.value) }
        }
    }
}
