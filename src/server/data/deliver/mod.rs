//! How bytes leave: by copy, by reference, or by zero-copy send.
//!
//! * *copy*: one SENDMSG of heads and bodies ([`batch`]); best for small objects, where the kernel's copy is cheap and
//!   everything else is not. The lease ends with the completion.
//! * *reference*: sendfile(2) from the memfd, without blocking; the socket then holds the arena's pages themselves. The
//!   lease ends when the last byte is handed over, and the pages are replaced, never rewritten, afterwards.
//! * *zerocopy*: SEND_ZC ([`zero`]); for real links, where it saves the copy. On loopback the kernel copies late, which
//!   costs more than copying early. The lease ends with the notification.

// Sends by reference and SEND_ZC read memory of ours while we go on.
#![allow(unsafe_code)]

pub mod batch;
pub mod buffer;
pub mod zero;

use crate::cache::entry::Lease;
use crate::cache::flight::OpenFile;
use crate::config::Transmit;
use crate::limits;

/// How one body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Copy,
    Reference,
    ZeroCopy,
}

/// Whether a file may be sent from the page cache, by reference, to the one who asked for it first, instead of from the
/// arena.
pub fn may_refer(setting: Transmit, file: &OpenFile, lease: &Lease) -> bool {
    matches!(setting, Transmit::Auto | Transmit::Splice) && file.is_settled && lease.reference().is_some()
}

/// Whether it is worth doing so while it is being read into the arena anyway: then the arena's own pages stay
/// unreferenced, and the client does not wait for the copy.
pub fn refers_to(setting: Transmit, file: &OpenFile, lease: &Lease) -> bool {
    let is_worthwhile = setting == Transmit::Splice || lease.size() >= limits::REFER_MIN_BYTES;
    is_worthwhile && may_refer(setting, file, lease)
}

/// Chooses for one body. Objects that share their pages with others are always copied: their memory is rewritten in
/// place. So is, unless told otherwise, what was asked for the first time (`is_miss`): most of it is not asked for
/// again before it is evicted, and pages that were never referred to need not be replaced, which costs more than the
/// copy.
pub fn choose(setting: Transmit, lease: &Lease, is_miss: bool, zerocopy_works: bool) -> Mode {
    if lease.reference().is_none() {
        return Mode::Copy;
    }
    match setting {
        Transmit::Auto if is_miss && lease.size() <= limits::COPY_MISS_BYTES => Mode::Copy,
        Transmit::Auto | Transmit::Splice => Mode::Reference,
        Transmit::Zerocopy if zerocopy_works => Mode::ZeroCopy,
        Transmit::Copy | Transmit::Zerocopy => Mode::Copy,
    }
}
