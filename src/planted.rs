//! Defects that are planted on purpose, one at a time, to see whether the machinery that looks for defects finds them.
//! What is shipped has none of them: there [`is`] is always false, and nothing is left of it.

macro_rules! defects {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// A defect; what it says is what goes wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Defect {
            $($(#[doc = $doc])* $name,)*
        }

        #[cfg(any(test, feature = "simulation"))]
        impl Defect {
            /// All of them, and what each does.
            pub const ALL: &[(Defect, &str)] = &[$((Defect::$name, concat!($($doc),*)),)*];
        }
    };
}

defects! {
    /// The deadline of a head outlives it: one that is completed at the tick that times it out is answered twice.
    StaleDeadline,
    /// A change of ctime alone passes: a file that is rewritten, its mtime put back, stays cached.
    CtimeIgnored,
    /// A file that was overwritten by a longer one passes for one that grew.
    GrowthUnproven,
    /// What is sent by reference is not compared again before its last bytes.
    NoLastLook,
    /// The last bytes do not wait until those that were sent by reference have left.
    LastBytesEarly,
    /// What was read soon after a change is not compared once more when it has settled.
    NoSecondLook,
    /// What a stream knows of the version that it began with is taken from a file that has changed since.
    SampleOfLaterVersion,
    /// A fill shows what it has read before it has compared the file's version.
    FillUncompared,
    /// A stream sends what it has read without comparing the file's version.
    StreamUncompared,
    /// A check that could not be made counts as one that found the same.
    FailedCheckConfirms,
    /// A name that is removed goes on being filled by a read that began before.
    RemovalMissesFills,
    /// What is cached is served for twice the revalidation interval.
    StaleForLonger,
    /// The memory of a zero-copy send is given back before its notification.
    ZeroCopyReturnedEarly,
    /// Memory that was sent by reference is rewritten in place.
    ReferencedMemoryReused,
    /// Budget is given back before the memory.
    BudgetBeforeMemory,
    /// Those of the same worker who wait for a fill are not told that it has moved on.
    WaitersUntold,
    /// A message for which the kernel had no memory is dropped.
    MessageDropped,
    /// A message that was left for the next tick is not looked for.
    MissedMailUnread,
    /// Used-up receive buffers end a connection.
    NoBuffersEnds,
    /// A short read counts as a whole one.
    ShortReadWhole,
    /// A short send by reference counts as a whole one.
    ShortSendWhole,
    /// A response to HEAD has a body.
    HeadWithBody,
    /// A connection that is handed over does not give its place back.
    PlaceKept,
    /// A drain leaves connections alone that wait for something.
    DrainForgetsBusy,
    /// A client that takes no bytes is waited for without end.
    SendWithoutEnd,
    /// A connection that idles is kept without end.
    IdleWithoutEnd,
    /// An accept that has ended is not begun again.
    AcceptNotRearmed,
    /// A check leaves its file open.
    CheckLeavesFileOpen,
    /// A read that is interrupted fails.
    InterruptFails,
    /// What is checked counts from when that is noticed, not from when it was looked at.
    CheckedWhenNoticed,
    /// A fill is joined however long ago its file was opened.
    JoinedWhenever,
    /// The failure of a fill is told to whoever joined it, however long ago its name was looked up.
    FailureJoinedWhenever,
    /// A response is begun while another is on its way.
    ResponsesOvertake,
    /// A connection that leaves for the control plane forgets the end of what it was sent ahead.
    HandOffLosesBytes,
    /// A fill that fails stays in the index.
    FailedFillStays,
    /// The connection of a client that has gone is kept.
    ResetKept,
}

/// Whether this defect is planted in this thread.
#[cfg(not(any(test, feature = "simulation")))]
#[inline(always)]
pub const fn is(_: Defect) -> bool {
    false
}

#[cfg(any(test, feature = "simulation"))]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

/// Whether this defect is planted in this thread.
#[cfg(any(test, feature = "simulation"))]
#[inline]
pub fn is(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}

/// Plants a defect in this thread, or takes the one out that is there.
#[cfg(any(test, feature = "simulation"))]
pub fn plant(defect: Option<Defect>) {
    PLANTED.set(defect);
}
