//! What is asked of the machine outside of the rings: what files are, and what time it is.
//!
//! In a simulation all of it comes from a [`Simulated`] machine of the thread; else from the system.

use rustix::fs::Stat;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(any(test, feature = "simulation"))]
pub use simulation::{Simulated, simulate};

/// What an open file is (fstat).
///
/// # Errors
/// Those of fstat.
pub fn stat(fd: impl AsFd) -> io::Result<Stat> {
    #[cfg(any(test, feature = "simulation"))]
    if let Some(stat) = simulation::ask(|machine| machine.stat(std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd()))).flatten()
    {
        return stat;
    }
    Ok(rustix::fs::fstat(fd)?)
}

/// What a simulated root has under this name; `None` where the root is real.
pub fn simulated_name(name: &[u8]) -> Option<io::Result<Stat>> {
    #[cfg(any(test, feature = "simulation"))]
    return simulation::ask(|machine| machine.stat_name(name));
    #[cfg(not(any(test, feature = "simulation")))]
    {
        let _ = name;
        None
    }
}

/// Reads what can be had of a file without waiting (preadv2, RWF_NOWAIT).
///
/// # Errors
/// Those of preadv2.
pub fn read_now(fd: impl AsFd, into: &mut [u8], at: u64) -> io::Result<usize> {
    #[cfg(any(test, feature = "simulation"))]
    if let Some(read) =
        simulation::ask(|machine| machine.read_now(std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd()), into, at)).flatten()
    {
        return read;
    }
    let into = &mut [io::IoSliceMut::new(into)];
    Ok(rustix::io::preadv2(fd, into, at, rustix::io::ReadWriteFlags::NOWAIT)?)
}

/// The time since 1970, as the clock on the wall has it.
pub fn wall() -> Duration {
    #[cfg(any(test, feature = "simulation"))]
    if let Some(wall) = simulation::ask(|machine| machine.wall()) {
        return wall;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whether the times of files are this machine's own; `None` where that has to be found out.
pub fn simulated_clock_is_own() -> Option<bool> {
    #[cfg(any(test, feature = "simulation"))]
    return simulation::ask(|machine| machine.clock_is_own());
    #[cfg(not(any(test, feature = "simulation")))]
    None
}

/// The pages of this range of the arena were given back: what sockets still refer to stays as it is.
pub fn punched(offset: u64, len: u64) {
    #[cfg(any(test, feature = "simulation"))]
    simulation::ask(|machine| machine.punched(offset, len));
    #[cfg(not(any(test, feature = "simulation")))]
    let _ = (offset, len);
}

#[cfg(any(test, feature = "simulation"))]
mod simulation {
    use rustix::fs::Stat;
    use std::cell::RefCell;
    use std::io;
    use std::os::fd::RawFd;
    use std::rc::Rc;
    use std::time::Duration;

    /// A machine for tests.
    pub trait Simulated {
        /// `None`: the descriptor is a real one.
        fn stat(&self, fd: RawFd) -> Option<io::Result<Stat>>;
        fn stat_name(&self, name: &[u8]) -> io::Result<Stat>;
        /// `None`: the descriptor is a real one.
        fn read_now(&self, fd: RawFd, into: &mut [u8], at: u64) -> Option<io::Result<usize>>;
        fn wall(&self) -> Duration;
        fn clock_is_own(&self) -> bool;
        fn punched(&self, offset: u64, len: u64);
    }

    thread_local! {
        static MACHINE: RefCell<Option<Rc<dyn Simulated>>> = const { RefCell::new(None) };
    }

    /// From now on this machine is that of the thread; `None`: the real one.
    pub fn simulate(machine: Option<Rc<dyn Simulated>>) {
        MACHINE.set(machine);
    }

    pub fn ask<T>(question: impl FnOnce(&dyn Simulated) -> T) -> Option<T> {
        // The machine is not there any more when what the thread has left is dropped at its end.
        let machine = MACHINE.try_with(|machine| machine.borrow().clone()).ok().flatten()?;
        Some(question(&*machine))
    }
}
