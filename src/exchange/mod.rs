//! One request becomes one response: the steps between a parsed request and a plan of its response, without I/O.
//!
//! Both planes drive an [`Exchange`] through [`Exchange::advance`] and do what the returned [`Action`] says, each with
//! its own means: the data plane submits ring operations, the control plane awaits. What a request becomes is decided
//! here alone.
//!
//! 1. **Route** ([`route`]): the target is normalised, and names that are never served are refused.
//! 2. **Look up**: the cache knows the name ([`Action::Deliver`] or step 3), somebody is reading it (step 4), or nobody
//!    is ([`Action::Fill`], then step 4).
//! 3. **Check** ([`revalidate`]): what was not compared with the origin lately is compared before it is served
//!    ([`Action::Check`]); what will soon need that is compared meanwhile ([`Action::Refresh`]).
//! 4. **Follow** the fill until it is known what the file is ([`Action::Wait`]).
//! 5. **Evaluate** conditions and ranges against the version that was found.
//! 6. **Plan** ([`plan`]): head, range of the body, and where its bytes come from; or a [`Refusal`].
//! 7. **Negotiate** ([`variants`]): a precompressed variant of the file is sent instead, if there is one and it is
//!    preferred.
//!
//! What stands on another machine goes its own way from step 2 on ([`remote`]): what is stored of it is fresh for as
//! long as HTTP says, and checked by a conditional request of the fill.

pub mod fallback;
pub mod joined;
pub mod plan;
pub mod refusal;
mod remote;
pub mod revalidate;
pub mod route;
mod variants;
pub mod vouch;

use crate::cache::entry::Lease;
use crate::cache::eviction::Touch;
use crate::cache::flight::{Bypass, Failure, Flight, OpenFile, Progress};
use crate::cache::permit::FillPermit;
use crate::cache::residency::Resumed;
use crate::cache::{Cache, Lookup, count_hit};
use crate::http::cache_status::{CacheStatus, Forward};
use crate::http::conditional::Conditions;
use crate::http::encoding::Preferred;
use crate::http::request::{Fields, Method};
use crate::origin::remote::Passing;
use crate::planted::{self, Defect};
use crate::version::freshness::Wish;
use crate::wake::Waiter;
use fallback::Fallback;
use plan::{Plan, Source};
use refusal::Refusal;
use revalidate::Checked;
use std::sync::Arc;
use std::time::Duration;
use variants::Seeking;

/// A GET or HEAD of a file.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// [`Method::Get`] or [`Method::Head`].
    pub method: Method,
    /// The file's name, normalised.
    pub name: &'a [u8],
    pub role: Role,
    pub conditions: &'a Conditions<'a>,
    /// The codings that the client prefers; `None` where nothing is negotiated.
    pub preferred: Option<Preferred>,
    /// The origin of the page that asks, if the client says so.
    pub origin: Option<&'a [u8]>,
    /// All fields of the request.
    pub fields: Fields<'a>,
    /// What the request says about the age of what it wants.
    pub wish: Wish,
}

/// What a file is asked for as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Itself,
    /// As what stands for its directory; clients that take no pages get a listing instead, if there are listings.
    Index {
        or_listing: bool,
    },
}

/// What an exchange stands on: the cache, and what the plane that drives it can do.
pub struct Terms<'a> {
    pub cache: &'a Arc<Cache>,
    pub touch: &'a Touch,
    /// How long a cached file is served without a look at the origin.
    pub revalidate: Duration,
    /// When the origin's root was last exchanged: monotonic nanoseconds.
    pub exchanged: u64,
    /// The file that is served where there is none of the name asked for.
    pub fallback: Option<&'a Fallback>,
    /// The time of this step: monotonic nanoseconds.
    pub now: u64,
    /// Whether to send an open file while it is being read into the arena, rather than what is in the arena already.
    /// `None`: this plane sends from the arena only.
    pub refers: Option<&'a Refers>,
    /// The origin is on another machine.
    pub is_remote: bool,
}

/// Whether an open file is sent itself while it is read into this entry.
pub type Refers = dyn Fn(&OpenFile, &Lease) -> bool;

/// One request on its way. Dropping it is safe at any time: fills go on by themselves.
pub struct Exchange {
    forward: Forward,
    state: State,
    /// Entries that left the cache between their lookup and their use.
    lost: u8,
    /// Which of the names that the request may stand for is looked for.
    sought: Sought,
    /// When this exchange began to have the file looked for, if it is the one that did.
    looked: Option<u64>,
    /// The original is found, and a variant of it is looked for.
    seeking: Option<Box<Seeking>>,
    /// How far a request for what stands on another machine is.
    remote: remote::State,
}

/// The names that one request may stand for, where there is a fallback. Each is looked for once there is no file of the
/// one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sought {
    /// The name asked for.
    Name,
    /// The directory that the name would have stood for: it is listed, even without an index file.
    Directory,
    Fallback,
}

/// How often a name is looked up again because its entry left the cache before it could be used; then the file is read
/// past the cache.
const LOST_ENTRIES_MAX: u8 = 2;

/// Where a request is.
enum State {
    /// Nothing is known of the name.
    New,
    /// The cached version is being compared with the origin.
    Checking { lease: Lease, checked: Option<Checked> },
    /// The cached version is known to be current.
    Current(Lease),
    /// The file of a deferred entry is being read, since this request asks for it.
    Resuming { lease: Lease, fill: Arc<Flight>, status: CacheStatus },
    /// The file is being opened and read; by another request's fill, if this one has `joined` it, and when.
    Following { fill: Arc<Flight>, joined: Option<u64> },
}

/// What the plane does next.
#[expect(clippy::large_enum_variant, reason = "most are plans, and none is kept; a hit allocates nothing")]
pub enum Action {
    /// Come back when the waiter is woken.
    Wait,
    /// Compare this version with the origin, say what was found with [`Exchange::checked`], and come back.
    Check(Lease),
    /// Compare this version with the origin without waiting for the outcome, and come back at once (refresh-ahead).
    Refresh(Lease),
    /// Begin this fill, and come back at once.
    Fill(FillPermit),
    /// Send this interim response, and come back at once.
    Inform(Arc<[u8]>),
    /// Send this response.
    Deliver(Plan),
    /// Send this instead of a file.
    Refuse(Refusal),
    /// The name is a directory's, or there is no file that stands for the directory.
    Directory,
    /// Have the control plane answer, which is able to pass bodies on as they come: with this answer of the origin, or
    /// by asking the origin for this request alone.
    PassOn(Option<Arc<Passing>>),
}

impl Default for Exchange {
    fn default() -> Exchange {
        Exchange {
            forward: Forward::UriMiss,
            state: State::New,
            lost: 0,
            sought: Sought::Name,
            looked: None,
            seeking: None,
            remote: remote::State::default(),
        }
    }
}

impl Exchange {
    /// The check that was asked for is over.
    pub fn checked(&mut self, outcome: Checked) {
        if let Some(seeking) = &mut self.seeking {
            return seeking.variant.checked(outcome);
        }
        if let State::Checking { checked, .. } = &mut self.state {
            *checked = Some(outcome);
        }
    }

    /// Goes on as far as possible. `waiter` is registered when the answer is [`Action::Wait`].
    pub fn advance(&mut self, terms: &Terms<'_>, ask: &Ask<'_>, waiter: impl Fn() -> Waiter) -> Action {
        if terms.is_remote {
            let action = self.advance_remote(terms, ask, &waiter);
            return if is_no_index(ask, &action) { Action::Directory } else { action };
        }
        let Some(fallback) = terms.fallback else {
            return match (ask.role, self.advance_with(terms, ask, &waiter)) {
                (Role::Index { .. }, Action::Refuse(Refusal::NotFound { .. })) => Action::Directory,
                (_, action) => action,
            };
        };
        if self.sought == Sought::Name {
            let action = self.seek_unless_missing(terms, ask, fallback, &waiter);
            match (ask.role, action) {
                (Role::Index { .. }, Action::Refuse(Refusal::NotFound { .. })) => {}
                (_, action) => return action,
            }
            *self = Exchange { sought: Sought::Directory, ..Exchange::default() };
        }
        if self.sought == Sought::Fallback {
            return self.advance_with(terms, &Ask { name: fallback.name(), role: Role::Itself, ..*ask }, &waiter);
        }
        let Some(end) = ask.name.iter().rposition(|&byte| byte == b'/') else { return Action::Directory };
        // It is only looked at.
        let directory = Ask { name: &ask.name[..end], role: Role::Itself, method: Method::Head, ..*ask };
        match self.seek_unless_missing(terms, &directory, fallback, &waiter) {
            // A name with a slash at its end is no file's.
            Action::Deliver(_) => {
                Action::Refuse(Refusal::of_failure(directory.name, Failure::NotFound, Forward::UriMiss))
            }
            action => action,
        }
    }

    /// Looks for a name, unless it was found missing lately.
    fn seek_unless_missing(
        &mut self,
        terms: &Terms<'_>,
        ask: &Ask<'_>,
        fallback: &Fallback,
        waiter: &impl Fn() -> Waiter,
    ) -> Action {
        let is_new = matches!(self.state, State::New) && self.seeking.is_none();
        if is_new && fallback.is_missing(ask.name, terms.revalidate, terms.exchanged, terms.now) {
            return Action::Refuse(Refusal::of_failure(ask.name, Failure::NotFound, Forward::UriMiss));
        }
        let action = self.advance_with(terms, ask, waiter);
        if let (Action::Refuse(Refusal::NotFound { .. }), Some(looked)) = (&action, self.looked) {
            fallback.note_missing(ask.name, looked);
        }
        action
    }

    /// Whether the fallback is served instead of the file that was refused, from the next step on.
    pub fn fall_back(&mut self, terms: &Terms<'_>) -> bool {
        let falls_back = terms.fallback.is_some() && self.sought != Sought::Fallback;
        if falls_back {
            *self = Exchange { sought: Sought::Fallback, ..Exchange::default() };
        }
        falls_back
    }

    fn advance_with(&mut self, terms: &Terms<'_>, ask: &Ask<'_>, waiter: &impl Fn() -> Waiter) -> Action {
        if let Some(seeking) = self.seeking.take() {
            return self.seek(terms, ask, seeking, waiter);
        }
        match self.find(terms, ask, waiter) {
            Action::Deliver(plan) => self.negotiate(terms, ask, plan, waiter),
            action => action,
        }
    }

    /// Steps 2 to 6 for the name itself.
    fn find(&mut self, terms: &Terms<'_>, ask: &Ask<'_>, waiter: &impl Fn() -> Waiter) -> Action {
        loop {
            let action = match std::mem::replace(&mut self.state, State::New) {
                State::New => self.look_up(terms, ask),
                State::Checking { lease, checked: None } => {
                    self.state = State::Checking { lease, checked: None };
                    Some(Action::Wait)
                }
                State::Checking { lease, checked: Some(checked) } if checked.may_be_served() => {
                    self.hit(terms, ask, lease, CacheStatus::HitRevalidated)
                }
                State::Checking { checked: Some(Checked::RootAbsent), .. } => {
                    Some(Action::Refuse(Refusal::of_failure(ask.name, Failure::RootAbsent, self.forward)))
                }
                State::Checking { .. } => {
                    self.forward = Forward::Stale;
                    self.look_up_again(terms, ask)
                }
                State::Current(lease) => self.hit(terms, ask, lease, CacheStatus::Hit),
                State::Resuming { lease, fill, status } => Some(resumed(terms, ask, lease, fill, status)),
                State::Following { fill, joined } => self.follow(terms, ask, fill, joined, waiter),
            };
            if let Some(action) = action {
                return action;
            }
        }
    }

    /// Step 2.
    fn look_up(&mut self, terms: &Terms<'_>, ask: &Ask<'_>) -> Option<Action> {
        if ask.method == Method::Head {
            return match terms.cache.get(ask.name) {
                Some(lease) => self.look_at(terms, ask, lease),
                None => Some(self.bypass(terms, ask, Bypass::HeadOnly)),
            };
        }
        match terms.cache.find(ask.name) {
            Lookup::Hit(lease) => self.look_at(terms, ask, lease),
            Lookup::Join(fill) => {
                self.state = State::Following { fill, joined: Some(terms.now) };
                None
            }
            Lookup::Lead(permit) => Some(self.begin(terms, permit)),
        }
    }

    /// Step 2 once more: what was found has been given up meanwhile.
    fn look_up_again(&mut self, terms: &Terms<'_>, ask: &Ask<'_>) -> Option<Action> {
        if self.lost == LOST_ENTRIES_MAX {
            return Some(self.bypass(terms, ask, Bypass::Changed));
        }
        self.lost += 1;
        self.look_up(terms, ask)
    }

    /// Step 3: what is cached is served at once if it was found current lately, and else after a look at the origin.
    fn look_at(&mut self, terms: &Terms<'_>, ask: &Ask<'_>, lease: Lease) -> Option<Action> {
        match revalidate::due(lease.checked(), terms.revalidate, terms.exchanged, terms.now) {
            revalidate::Due::Now => {
                self.state = State::Checking { lease: lease.clone(), checked: None };
                Some(Action::Check(lease))
            }
            revalidate::Due::Soon if lease.begin_check() => {
                self.state = State::Current(lease.clone());
                Some(Action::Refresh(lease))
            }
            revalidate::Due::Soon | revalidate::Due::Later => self.hit(terms, ask, lease, CacheStatus::Hit),
        }
    }

    /// Serves what is cached. `None`: it has left the cache unread meanwhile.
    fn hit(&mut self, terms: &Terms<'_>, ask: &Ask<'_>, lease: Lease, status: CacheStatus) -> Option<Action> {
        if lease.is_whole() || ask.method == Method::Head {
            count_hit(terms.touch, &lease);
            return Some(Action::Deliver(Plan::new(ask, status, Source::Arena { lease, fill: None })));
        }
        let action = match terms.cache.resume(&lease, terms.now) {
            Some(Resumed::Begun(permit)) => {
                self.state = State::Resuming { lease: lease.clone(), fill: permit.fill().clone(), status };
                Action::Fill(permit)
            }
            Some(Resumed::Joined(fill)) => resumed(terms, ask, lease.clone(), fill, status),
            None if lease.is_whole() => {
                Action::Deliver(Plan::new(ask, status, Source::Arena { lease: lease.clone(), fill: None }))
            }
            None => {
                self.forward = Forward::Stale;
                return self.look_up_again(terms, ask);
            }
        };
        count_hit(terms.touch, &lease);
        Some(action)
    }

    /// Reads the file for this request alone, past the cache.
    fn bypass(&mut self, terms: &Terms<'_>, ask: &Ask<'_>, bypass: Bypass) -> Action {
        self.begin(terms, terms.cache.aside(ask.name, bypass))
    }

    fn begin(&mut self, terms: &Terms<'_>, permit: FillPermit) -> Action {
        self.looked = Some(terms.now);
        self.state = State::Following { fill: permit.fill().clone(), joined: None };
        Action::Fill(permit)
    }

    /// Step 4.
    fn follow(
        &mut self,
        terms: &Terms<'_>,
        ask: &Ask<'_>,
        fill: Arc<Flight>,
        joined: Option<u64>,
        waiter: &impl Fn() -> Waiter,
    ) -> Option<Action> {
        let Some(progress) = progress_of(&fill, terms, waiter) else {
            self.state = State::Following { fill, joined };
            return Some(Action::Wait);
        };
        if joined.is_some_and(|joined| is_outdated(terms, &fill, &progress, joined)) {
            // Whoever asks from now on has the file opened anew.
            terms.cache.detach(&fill);
            return self.look_up_again(terms, ask);
        }
        let collapsed = joined.is_some();
        let forward = self.forward;
        let status = match collapsed {
            true => CacheStatus::Collapsed { forward },
            false => CacheStatus::Stored { forward },
        };
        let source = match progress {
            Progress::Opening
            | Progress::Arriving(_)
            | Progress::Validated(_)
            | Progress::Stale(_)
            | Progress::Passing(_) => {
                unreachable!("a fill that is being opened is no news, and a file is no response of a remote origin")
            }
            // Who had the file read can have it from the page cache at once, while the arena is filled.
            Progress::Filling(lease, file)
                if !collapsed && terms.refers.is_some_and(|refers| refers(&file, &lease)) =>
            {
                Source::File { file, fill: Some((lease, fill)) }
            }
            // What the page cache has of it already is sent from there, to all who ask.
            Progress::Fetching(lease, file) => Source::File { file, fill: Some((lease, fill)) },
            // Who joined another's fill is the second to ask; and who sends from the arena needs it there.
            Progress::Deferred(lease, file) if collapsed || terms.refers.is_none() => {
                return self.resume(terms, ask, lease, file, fill, status);
            }
            Progress::Deferred(lease, file) => Source::File { file, fill: Some((lease, fill)) },
            Progress::Ready(lease)
                if lease.described().is_some()
                    && joined.is_some_and(|joined| is_late(terms, lease.checked(), joined)) =>
            {
                return self.look_at(terms, ask, lease);
            }
            Progress::Filling(lease, _) | Progress::Ready(lease) => Source::Arena { lease, fill: Some(fill) },
            Progress::Uncached(file, bypass) => {
                let status = CacheStatus::Uncached { forward, reason: bypass.into() };
                return Some(Action::Deliver(Plan::new(ask, status, Source::File { file, fill: None })));
            }
            // Once more, past the cache: a file that is being written can still be read.
            Progress::Failed(Failure::Changed) if fill.aside().is_none() => {
                return Some(self.bypass(terms, ask, Bypass::Changed));
            }
            Progress::Failed(Failure::IsDirectory) => return Some(Action::Directory),
            Progress::Failed(failure) => return Some(Action::Refuse(Refusal::of_failure(ask.name, failure, forward))),
        };
        Some(Action::Deliver(Plan::new(ask, status, source)))
    }

    /// The file that was to be read later is wanted by a second request.
    fn resume(
        &mut self,
        terms: &Terms<'_>,
        ask: &Ask<'_>,
        lease: Lease,
        file: Arc<OpenFile>,
        fill: Arc<Flight>,
        status: CacheStatus,
    ) -> Option<Action> {
        match terms.cache.resume(&lease, terms.now) {
            Some(Resumed::Begun(permit)) => {
                self.state = State::Resuming { lease, fill: permit.fill().clone(), status };
                Some(Action::Fill(permit))
            }
            Some(Resumed::Joined(fill)) => Some(resumed(terms, ask, lease, fill, status)),
            None if lease.is_whole() => {
                Some(Action::Deliver(Plan::new(ask, status, Source::Arena { lease, fill: None })))
            }
            // The open file still is what it was found to be, or its sending finds out.
            None if terms.refers.is_some() => {
                Some(Action::Deliver(Plan::new(ask, status, Source::File { file, fill: Some((lease, fill)) })))
            }
            None => self.look_up_again(terms, ask),
        }
    }
}

/// Whether a store has no object that stands for a directory: there is none of that name, or it is a directory itself.
fn is_no_index(ask: &Ask<'_>, action: &Action) -> bool {
    let status = match action {
        Action::Deliver(plan) => plan.representation().status(),
        Action::PassOn(Some(passing)) => passing.head.status,
        _ => return false,
    };
    ask.role != Role::Itself && matches!(status, 308 | 404)
}

/// Whether the file of a fill that was `joined` then may have been another one by that time, or have come to be:
/// storage can be slow, and what was found before the join is good for the interval of revalidation only.
fn is_outdated(terms: &Terms<'_>, fill: &Flight, progress: &Progress, joined: u64) -> bool {
    match progress {
        // There may be a file by now, or one that can be read.
        Progress::Failed(_) => !planted::is(Defect::FailureJoinedWhenever) && is_late(terms, fill.looked(), joined),
        Progress::Filling(_, file)
        | Progress::Fetching(_, file)
        | Progress::Deferred(_, file)
        | Progress::Uncached(file, _) => is_late(terms, file.found(), joined) && !file.is_same(terms.now),
        // What comes from another machine is fresh as that says.
        Progress::Arriving(_) | Progress::Validated(_) | Progress::Stale(_) | Progress::Passing(_) => false,
        Progress::Opening | Progress::Ready(_) => false,
    }
}

/// Whether what was found under its name at `found` was good no more when it was asked for.
fn is_late(terms: &Terms<'_>, found: u64, asked: u64) -> bool {
    let interval = u64::try_from(terms.revalidate.as_nanos()).unwrap_or(u64::MAX);
    !planted::is(Defect::JoinedWhenever) && found.saturating_add(interval) < asked
}

/// How far the fill is, if that decides something; else its waiter is registered.
fn progress_of(fill: &Flight, terms: &Terms<'_>, waiter: &impl Fn() -> Waiter) -> Option<Progress> {
    match fill.poll(None, waiter)? {
        // Who sends from the arena waits for what comes after.
        Progress::Fetching(lease, _) if terms.refers.is_none() => fill.poll(Some(lease.size()), waiter),
        progress => Some(progress),
    }
}

/// The response from an entry whose bytes are being read now.
fn resumed(terms: &Terms<'_>, ask: &Ask<'_>, lease: Lease, fill: Arc<Flight>, status: CacheStatus) -> Action {
    let source = match fill.reading() {
        Some((_, file)) if terms.refers.is_some() => Source::File { file, fill: Some((lease, fill)) },
        _ => Source::Arena { lease, fill: Some(fill) },
    };
    Action::Deliver(Plan::new(ask, status, source))
}
