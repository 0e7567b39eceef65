//! Zero-copy sends in flight.

use crate::cache::entry::Lease;
use crate::ring::lent::{Lent, Loan};

/// One SEND_ZC: the lease lives until the kernel's notification.
pub struct ZeroSend {
    lease: Lease,
}

impl ZeroSend {
    pub fn new(lease: Lease) -> Lent<ZeroSend> {
        Lent::new(ZeroSend { lease })
    }

    /// Lends `len` bytes from `at` of the file.
    pub fn lend(send: &mut Lent<ZeroSend>, at: u64, len: u32) -> Loan<u8> {
        send.lend(|send| send.lease.bytes()[at as usize..][..len as usize].as_ptr().cast_mut())
    }
}
