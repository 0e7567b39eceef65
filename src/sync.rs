//! The locks and atomic numbers of what threads share.
//!
//! With the feature `shuttle` they are those of a scheduler that tries one order of steps after the other, in one
//! thread: `cache/models.rs` and `server/models.rs` run the cache and the server's shared state on it. It takes all
//! atomic accesses for sequentially consistent, so orders of memory are not among what it tries.

#[cfg(not(feature = "shuttle"))]
pub use parking_lot::{Mutex, RwLock};
#[cfg(feature = "shuttle")]
pub use scheduled::{Mutex, RwLock};
#[cfg(feature = "shuttle")]
pub use shuttle::sync::atomic;
#[cfg(not(feature = "shuttle"))]
pub use std::sync::atomic;

/// Defects of the kind that only threads at the same instant meet, planted to see whether the models find them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Race {
    /// Who waits for a fill is taken from its list before the fill has moved on.
    WaitersTakenEarly,
    /// A fill is begun by whoever found nothing, without a second look under the lock.
    FillsBegunTwice,
    /// A check is claimed by a look and a store.
    CheckClaimedTwice,
    /// A fill that is published is put into the index without a look whether it still is there.
    RemovedPublished,
    /// A place is looked for, and taken afterwards.
    PlaceTakenAfterLook,
    /// The list of messages that were not delivered is read, and emptied afterwards.
    MailEmptiedAfterRead,
}

/// Whether this race is planted.
#[cfg(not(feature = "shuttle"))]
#[inline(always)]
pub const fn is_planted(_: Race) -> bool {
    false
}

#[cfg(feature = "shuttle")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Race>> = const { std::cell::Cell::new(None) };
}

/// Whether this race is planted.
#[cfg(feature = "shuttle")]
pub fn is_planted(race: Race) -> bool {
    PLANTED.get() == Some(race)
}

/// Plants a race in this thread, which runs all that are scheduled on it.
#[cfg(feature = "shuttle")]
pub fn plant(race: Option<Race>) {
    PLANTED.set(race);
}

#[cfg(feature = "shuttle")]
mod scheduled {
    use shuttle::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};
    use std::sync::PoisonError;

    /// A lock with the interface of parking_lot's.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Mutex<T> {
            Mutex(shuttle::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// A lock with the interface of parking_lot's.
    #[derive(Debug, Default)]
    pub struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub fn new(value: T) -> RwLock<T> {
            RwLock(shuttle::sync::RwLock::new(value))
        }

        pub fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
