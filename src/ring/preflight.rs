//! Why io_uring cannot be used here, and what to do about it.
//!
//! io_uring is refused in three ways that look alike to a program: by the sysctl `kernel.io_uring_disabled`, by a
//! seccomp profile (Docker and containerd block it by default), and by a kernel that lacks it or a part of it.

use io_uring::{Probe, opcode};
use std::io;

/// The oldest kernel that has everything the data plane needs (Debian 12's).
pub const OLDEST_KERNEL: &str = "6.1";

/// io_uring cannot be used: the cause and the remedy in one line.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The sysctl forbids it, to all (2) or to processes outside a group (1).
    #[error(
        "io_uring is switched off on this machine (kernel.io_uring_disabled is {value}): \
         run `sysctl kernel.io_uring_disabled=0`, or for the value 1 add this user to the group in kernel.io_uring_group"
    )]
    Disabled { value: u8 },
    /// The kernel has it, yet the call is not permitted: a seccomp filter.
    #[error(
        "io_uring_setup is not permitted ({source}) although the kernel allows it: most likely a container's seccomp profile; \
         start the container with a profile that permits io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Filtered { source: io::Error },
    /// No io_uring at all.
    #[error("this kernel ({release}) has no io_uring: Forebay needs Linux {OLDEST_KERNEL} or newer")]
    Missing { release: String },
    /// A flag of the setup is unknown.
    #[error(
        "this kernel ({release}) does not know the io_uring setup flags SINGLE_ISSUER and DEFER_TASKRUN: \
         Forebay needs Linux {OLDEST_KERNEL} or newer"
    )]
    OldSetup { release: String },
    /// An operation is unknown.
    #[error(
        "this kernel ({release}) lacks the io_uring operation {operation}: Forebay needs Linux {OLDEST_KERNEL} or newer"
    )]
    OldOperation { release: String, operation: &'static str },
    /// The limit on locked memory, counted by kernels before 5.12 and by some hardened ones.
    #[error(
        "io_uring cannot allocate its rings ({source}): raise the memory limit of this service (ulimit -l, MemoryMax)"
    )]
    Memory { source: io::Error },
    /// The limit on open files.
    #[error("io_uring cannot be set up ({source}): raise the limit on open files (ulimit -n)")]
    Descriptors { source: io::Error },
    /// Anything else.
    #[error("io_uring cannot be set up: {source}")]
    Other { source: io::Error },
}

impl Refusal {
    /// Names the cause of a failed io_uring_setup.
    pub fn of_setup(error: io::Error) -> Refusal {
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        Refusal::classify(error, disabled.as_deref(), kernel_release())
    }

    fn classify(error: io::Error, disabled: Option<&str>, release: String) -> Refusal {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => match disabled.and_then(|text| text.trim().parse().ok()) {
                Some(value @ 1..) => Refusal::Disabled { value },
                _ => Refusal::Filtered { source: error },
            },
            // A seccomp profile may also answer "no such call"; a kernel with the sysctl file (6.6) does have the call.
            Some(libc::ENOSYS) if disabled.is_some() => Refusal::Filtered { source: error },
            Some(libc::ENOSYS) => Refusal::Missing { release },
            Some(libc::EINVAL) => Refusal::OldSetup { release },
            Some(libc::ENOMEM) => Refusal::Memory { source: error },
            Some(libc::EMFILE | libc::ENFILE) => Refusal::Descriptors { source: error },
            _ => Refusal::Other { source: error },
        }
    }
}

/// The operations without which the data plane cannot run.
const REQUIRED: [(u8, &str); 9] = [
    (opcode::AcceptMulti::CODE, "ACCEPT"),
    (opcode::RecvMulti::CODE, "RECV"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::OpenAt2::CODE, "OPENAT2"),
    (opcode::Read::CODE, "READ"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::MsgRingData::CODE, "MSG_RING"),
    (opcode::Timeout::CODE, "TIMEOUT"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
];

/// What the kernel offers beyond what is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// SEND_ZC is there: the transmit mode `zerocopy` can be used.
    pub zerocopy: bool,
}

/// Sets up a small ring and asks the kernel what it can do.
///
/// # Errors
/// The first thing that is missing.
pub fn check() -> Result<Offer, Refusal> {
    let ring = super::Ring::new(8, 16)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|source| Refusal::Other { source })?;
    for (code, operation) in REQUIRED {
        if !probe.is_supported(code) {
            return Err(Refusal::OldOperation { release: kernel_release(), operation });
        }
    }
    super::buffers::BufferRing::register(&ring, 0, 1, 64)
        .map_err(|_| Refusal::OldOperation { release: kernel_release(), operation: "REGISTER_PBUF_RING" })?;
    Ok(Offer { zerocopy: probe.is_supported(opcode::SendZc::CODE) })
}

/// The running kernel's release, such as `6.1.0-18-amd64`.
fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "unknown".into(), |text| text.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(errno: i32, disabled: Option<&str>) -> String {
        Refusal::classify(io::Error::from_raw_os_error(errno), disabled, "5.4.0".into()).to_string()
    }

    #[test]
    fn each_cause_is_told_apart_and_names_its_remedy() {
        assert!(classified(libc::EPERM, Some("2\n")).contains("sysctl kernel.io_uring_disabled=0"));
        assert!(classified(libc::EPERM, Some("0\n")).contains("seccomp"));
        assert!(classified(libc::EPERM, None).contains("seccomp"));
        assert!(classified(libc::ENOSYS, Some("0\n")).contains("seccomp"));
        assert!(classified(libc::ENOSYS, None).contains("has no io_uring"));
        assert!(classified(libc::EINVAL, None).contains("DEFER_TASKRUN"));
        assert!(classified(libc::ENOMEM, None).contains("memory"));
        assert!(classified(libc::EMFILE, None).contains("ulimit -n"));
    }

    #[test]
    fn this_machine_passes_or_says_why_not() {
        match check() {
            Ok(_) => {}
            Err(refusal) => panic!("the tests need io_uring: {refusal}"),
        }
    }
}
