//! A request for what stands on another machine: served from what is stored of it, as far as HTTP's rules allow, or
//! from a fill that asks the origin.

use super::plan::{Plan, Shown, Source};
use super::refusal::Refusal;
use super::{Action, Ask, Exchange, LOST_ENTRIES_MAX, Terms};
use crate::cache::entry::Lease;
use crate::cache::flight::{Bypass, Failure, Flight, Progress};
use crate::cache::passes::Asker;
use crate::cache::permit::FillPermit;
use crate::cache::{Lookup, count_hit};
use crate::http::cache_status::{CacheStatus, Forward, Further};
use crate::http::hop;
use crate::http::request::Method;
use crate::limits;
use crate::origin::remote::{Passing, PassingBody};
use crate::version::freshness::Use;
use crate::version::stored::Stored;
use crate::wake::Waiter;
use std::ops::Range;
use std::sync::Arc;

/// How far a request is.
#[derive(Default)]
pub(super) enum State {
    /// Nothing is known of what it asks for.
    #[default]
    New,
    /// What is stored is served, though another request has it validated.
    Served(Lease),
    /// The origin is being asked: by another request's fill, if `collapsed`. So many of its interim responses were
    /// passed on.
    Following { fill: Arc<Flight>, collapsed: bool, told: usize },
}

/// What a lookup came to.
#[expect(clippy::large_enum_variant, reason = "most are plans, and none is kept; a hit allocates nothing")]
enum Next {
    /// Something to do.
    Do(Action),
    /// A fill to follow.
    Follow { fill: Arc<Flight>, collapsed: bool },
}

impl Exchange {
    /// Goes on with a request for what stands on another machine.
    pub(super) fn advance_remote(&mut self, terms: &Terms<'_>, ask: &Ask<'_>, waiter: &impl Fn() -> Waiter) -> Action {
        loop {
            let (fill, collapsed, told, is_late) = match std::mem::take(&mut self.remote) {
                State::New => match self.look_up_stored(terms, ask) {
                    Next::Do(action) => return action,
                    Next::Follow { fill, collapsed } => (fill, collapsed, 0, collapsed),
                },
                State::Served(lease) => return serve(terms, ask, lease, CacheStatus::Hit),
                State::Following { fill, collapsed, told } => (fill, collapsed, told, false),
            };
            let progress = fill.poll(None, waiter);
            // Looked for after that, so that whoever adds one finds the waiter.
            if !collapsed && let Some(head) = fill.interim(told) {
                self.remote = State::Following { fill, collapsed, told: told + 1 };
                return Action::Inform(head);
            }
            match progress {
                None => {
                    self.remote = State::Following { fill, collapsed, told };
                    return Action::Wait;
                }
                // The origin gave its answer before this request came, which may not have it then.
                Some(Progress::Arriving(lease) | Progress::Ready(lease) | Progress::Validated(lease))
                    if is_late && !may_have(terms, ask, &lease) =>
                {
                    return self.ask_alone(terms, ask, Forward::Stale);
                }
                Some(progress) => {
                    if let Some(action) = self.arrived(terms, ask, fill, collapsed, progress) {
                        return action;
                    }
                }
            }
        }
    }

    /// Step 2: what is stored under the request's name, or beside it for requests like this one.
    fn look_up_stored(&mut self, terms: &Terms<'_>, ask: &Ask<'_>) -> Next {
        if ask.wish.no_store {
            return Next::Do(self.ask_alone(terms, ask, Forward::Request));
        }
        let field = |name: &str| ask.fields.get(name);
        let Some(lease) = terms.cache.get(ask.name) else { return self.look_up_missing(terms, ask, ask.name) };
        let Some(stored) = lease.stored() else { return Next::Do(self.ask_alone(terms, ask, Forward::Bypass)) };
        let Some(vary) = stored.vary.as_ref().filter(|vary| !vary.matches(field)) else {
            return self.look_at_stored(terms, ask, lease, &stored);
        };
        self.forward = Forward::VaryMiss;
        let key = vary.key(ask.name, field);
        let Some(lease) = terms.cache.get(&key) else { return self.look_up_missing(terms, ask, &key) };
        match lease.stored() {
            Some(stored) if stored.vary.as_ref().is_none_or(|vary| vary.matches(field)) => {
                self.look_at_stored(terms, ask, lease, &stored)
            }
            Some(_) | None => Next::Do(self.ask_alone(terms, ask, Forward::VaryMiss)),
        }
    }

    /// Nothing is stored under the key, as far as is known.
    fn look_up_missing(&mut self, terms: &Terms<'_>, ask: &Ask<'_>, key: &[u8]) -> Next {
        if ask.wish.only_if_cached {
            return Next::Do(Action::Refuse(Refusal::NotCached));
        }
        if ask.method == Method::Head {
            return Next::Do(self.ask_alone(terms, ask, self.forward));
        }
        match terms.cache.find(key) {
            Lookup::Hit(lease) => match lease.stored() {
                Some(stored) => self.look_at_stored(terms, ask, lease, &stored),
                None => Next::Do(self.ask_alone(terms, ask, Forward::Bypass)),
            },
            // Its answer will probably be for the one who asked first.
            Lookup::Join(fill) if fill.stale().is_none() && terms.cache.is_passed(&fill, asker(ask), terms.now) => {
                Next::Do(self.ask_alone(terms, ask, self.forward))
            }
            Lookup::Join(fill) => self.join(terms, ask, fill),
            Lookup::Lead(permit) => Next::Do(self.begin_remote(permit)),
        }
    }

    /// Another request's fill is under way. What it is to replace is served meanwhile, if it may be.
    fn join(&mut self, terms: &Terms<'_>, ask: &Ask<'_>, fill: Arc<Flight>) -> Next {
        if let Some(stale) = fill.stale()
            && let Some(stored) = stale.stored()
            && stored.vary.as_ref().is_none_or(|vary| vary.matches(|name| ask.fields.get(name)))
        {
            match stored.freshness.allows(&ask.wish, terms.now) {
                Use::Serve | Use::ServeAndValidate => {
                    return Next::Do(serve(terms, ask, stale.clone(), CacheStatus::Hit));
                }
                Use::Validate => self.forward = Forward::Stale,
            }
        }
        follow(ask, fill)
    }

    /// Step 3: what is stored may be served at once, or while it is validated, or after that.
    fn look_at_stored(&mut self, terms: &Terms<'_>, ask: &Ask<'_>, lease: Lease, stored: &Stored) -> Next {
        let allowed = stored.freshness.allows(&ask.wish, terms.now);
        if allowed == Use::Serve || ask.wish.only_if_cached && allowed == Use::ServeAndValidate {
            return Next::Do(serve(terms, ask, lease, CacheStatus::Hit));
        }
        if ask.wish.only_if_cached {
            return Next::Do(Action::Refuse(Refusal::NotCached));
        }
        self.forward = if stored.freshness.ttl(terms.now) > 0 { Forward::Request } else { Forward::Stale };
        match (terms.cache.validate(&lease), allowed) {
            (Lookup::Lead(permit), Use::ServeAndValidate) => {
                self.remote = State::Served(lease);
                Next::Do(Action::Fill(permit))
            }
            (_, Use::ServeAndValidate) => Next::Do(serve(terms, ask, lease, CacheStatus::Hit)),
            (Lookup::Lead(permit), _) => Next::Do(self.begin_remote(permit)),
            (Lookup::Join(fill), _) => follow(ask, fill),
            // Validated a moment ago: so nobody asks the origin for ever.
            (Lookup::Hit(lease), _) => Next::Do(serve(terms, ask, lease, CacheStatus::Validated)),
        }
    }

    /// Asks the origin for this request alone; nothing of the answer is stored.
    fn ask_alone(&mut self, terms: &Terms<'_>, ask: &Ask<'_>, forward: Forward) -> Action {
        if ask.wish.only_if_cached {
            return Action::Refuse(Refusal::NotCached);
        }
        self.forward = forward;
        let bypass = if ask.method == Method::Head { Bypass::HeadOnly } else { Bypass::Private };
        self.begin_remote(terms.cache.aside(ask.name, bypass))
    }

    fn begin_remote(&mut self, permit: FillPermit) -> Action {
        self.remote = State::Following { fill: permit.fill().clone(), collapsed: false, told: 0 };
        Action::Fill(permit)
    }

    /// Step 4: what the origin was asked for is here, or on its way. `None`: it is not for this request, which goes on.
    fn arrived(
        &mut self,
        terms: &Terms<'_>,
        ask: &Ask<'_>,
        fill: Arc<Flight>,
        collapsed: bool,
        progress: Progress,
    ) -> Option<Action> {
        let forward = self.forward;
        let status = if collapsed { CacheStatus::Collapsed { forward } } else { CacheStatus::Stored { forward } };
        match progress {
            Progress::Arriving(lease) | Progress::Ready(lease) => {
                let Some(stored) = lease.stored() else { return Some(Action::PassOn(None)) };
                if stored.vary.as_ref().is_some_and(|vary| !vary.matches(|name| ask.fields.get(name))) {
                    return self.again(terms, ask);
                }
                let source = Source::Arena { lease, fill: Some(fill) };
                Some(plan(terms, ask, status, source, stored, !collapsed))
            }
            Progress::Validated(lease) => Some(serve(terms, ask, lease, CacheStatus::Validated)),
            Progress::Stale(lease) => Some(serve(terms, ask, lease, CacheStatus::HitStale)),
            // It was for the one who had it fetched. Each of the others asks for itself, and nobody waits for anybody.
            Progress::Passing(_) if collapsed => Some(self.ask_alone(terms, ask, Forward::Bypass)),
            Progress::Passing(passing) => Some(pass(ask, passing, forward)),
            Progress::Failed(failure) => Some(Action::Refuse(Refusal::of_failure(ask.name, failure, forward))),
            Progress::Opening
            | Progress::Filling(..)
            | Progress::Fetching(..)
            | Progress::Deferred(..)
            | Progress::Uncached(..) => {
                let failure = Failure::Remote(502);
                Some(Action::Refuse(Refusal::of_failure(ask.name, failure, forward)))
            }
        }
    }

    /// What was fetched for another request answers others than this one: it is looked up once more.
    fn again(&mut self, terms: &Terms<'_>, ask: &Ask<'_>) -> Option<Action> {
        self.lost += 1;
        if self.lost <= LOST_ENTRIES_MAX {
            return None;
        }
        Some(self.ask_alone(terms, ask, Forward::VaryMiss))
    }
}

/// Whose answers may be waited for: what is said to those who prove who they are may not be for others.
fn asker(ask: &Ask<'_>) -> Asker {
    Asker::of(ask.fields.get("authorization").is_some())
}

/// Waits for another request's fill; not so a request that the fill itself has made, by way of an origin that leads
/// back here.
fn follow(ask: &Ask<'_>, fill: Arc<Flight>) -> Next {
    if ask.fields.get("cdn-loop").is_some_and(|passed| hop::has_come_back(&passed)) {
        return Next::Do(Action::Refuse(Refusal::Remote { status: 508 }));
    }
    Next::Follow { fill, collapsed: true }
}

/// Whether a request may have what is stored, or is being stored, as it is.
fn may_have(terms: &Terms<'_>, ask: &Ask<'_>, lease: &Lease) -> bool {
    lease.stored().is_some_and(|stored| stored.freshness.allows(&ask.wish, terms.now) != Use::Validate)
}

/// Serves what is stored.
fn serve(terms: &Terms<'_>, ask: &Ask<'_>, lease: Lease, status: CacheStatus) -> Action {
    let Some(stored) = lease.stored() else { return Action::PassOn(None) };
    count_hit(terms.touch, &lease);
    plan(terms, ask, status, Source::Arena { lease, fill: None }, stored, status == CacheStatus::Validated)
}

/// Steps 5 and 6.
fn plan(
    terms: &Terms<'_>,
    ask: &Ask<'_>,
    status: CacheStatus,
    source: Source,
    stored: Arc<Stored>,
    was_asked: bool,
) -> Action {
    let (age, ttl) = (stored.freshness.age(terms.now), stored.freshness.ttl(terms.now));
    let origin_status = match status {
        CacheStatus::Validated => Some(304),
        _ => Some(stored.status).filter(|_| was_asked),
    };
    let mut plan = Plan::described(ask, status, source, Shown::Response { stored: stored.clone(), age });
    plan.further = Further { ttl: Some(ttl), origin_status };
    if stored.slice.is_some()
        && let Source::Arena { lease, .. } = plan.source
    {
        let (is_cached, held) = match &plan.parts {
            None => held(terms, &lease, &stored, &plan.body),
            Some(parts) => {
                let is_cached = |range| held(terms, &lease, &stored, range).0;
                (parts.ranges().iter().all(is_cached), Vec::new())
            }
        };
        if !is_cached && status == CacheStatus::Hit {
            plan.cache_status = CacheStatus::Stored { forward: Forward::Partial };
        }
        plan.source = Source::Slices { head: lease, held };
    }
    Action::Deliver(plan)
}

/// Whether these bytes of an object are all cached; and the slices that have them, if they are and are few. (The search
/// ends with what the arena can hold.)
fn held(terms: &Terms<'_>, head: &Lease, stored: &Stored, body: &Range<u64>) -> (bool, Vec<Lease>) {
    let mut held = Vec::new();
    let mut at = body.start;
    while at < body.end {
        let slice = stored.slice_of(at);
        let cached = slice.as_ref().and_then(|slice| terms.cache.get(&slice.key(head.name(), stored)));
        let (Some(slice), Some(cached)) = (slice, cached.filter(|cached| cached.is_whole())) else {
            return (false, Vec::new());
        };
        if held.len() <= limits::SLICES_HELD {
            held.push(cached);
        }
        at = slice.range.end;
    }
    if held.len() > limits::SLICES_HELD {
        return (true, Vec::new());
    }
    held.iter().for_each(|slice| count_hit(terms.touch, slice));
    (true, held)
}

/// Passes on what the origin answered for this request alone: at once, or where that can be done as it comes.
fn pass(ask: &Ask<'_>, passing: Arc<Passing>, forward: Forward) -> Action {
    if matches!(passing.body, PassingBody::Coming(_)) {
        return Action::PassOn(Some(passing));
    }
    let reason = Bypass::Private.into();
    let status = CacheStatus::Uncached { forward, reason };
    let origin_status = Some(passing.head.status);
    let stored = Arc::new(passing.head.clone());
    let age = stored.freshness.initial_age;
    let mut plan = Plan::described(ask, status, Source::Passing(passing), Shown::Response { stored, age });
    plan.further = Further { ttl: None, origin_status };
    Action::Deliver(plan)
}
