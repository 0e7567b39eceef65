//! How long a stored response may be used without asking its origin, as arithmetic (RFC 9111, 4.2; RFC 5861).

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// When a stored response is fresh, and what may be done with it when it no longer is. Times are in seconds, but for
/// the time of receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// When it was received, or last validated: monotonic nanoseconds.
    pub received: u64,
    /// Its age then (RFC 9111, 4.2.3).
    pub initial_age: u64,
    /// For how long it is fresh, counted from an age of zero.
    pub lifetime: u64,
    /// For how long beyond that it may be served while it is being validated.
    pub stale_while_revalidate: u64,
    /// For how long beyond that it may be served when the origin fails; `None`: as the server is set.
    pub stale_if_error: Option<u64>,
    /// What its origin asks for beyond that.
    pub reuse: Reuse,
}

/// What a stored response may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// For as long as it is fresh, and when it is stale as far as the request and the server allow it.
    Lenient,
    /// For as long as it is fresh (must-revalidate, proxy-revalidate, s-maxage).
    Strict,
    /// Only after the origin was asked (no-cache).
    Validated,
}

/// What a request says about the age of what it wants, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// It must not be older.
    pub max_age: Option<u64>,
    /// It must stay fresh for that long.
    pub min_fresh: Option<u64>,
    /// It may have been stale for that long.
    pub max_stale: Option<u64>,
    /// The origin is to be asked in any case.
    pub no_cache: bool,
    /// Nothing of it and of its response is to be stored.
    pub no_store: bool,
    /// The origin is not to be asked.
    pub only_if_cached: bool,
}

/// What may be done with a stored response now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It may be served.
    Serve,
    /// It may be served, while the origin is asked for the next request.
    ServeAndValidate,
    /// The origin is asked first.
    Validate,
}

impl Freshness {
    /// Its age `now` (monotonic nanoseconds), in seconds.
    pub fn age(&self, now: u64) -> u64 {
        self.initial_age.saturating_add(now.saturating_sub(self.received) / SECOND)
    }

    /// For how many seconds it stays fresh; negative, for how many it has been stale.
    pub fn ttl(&self, now: u64) -> i64 {
        let clamp = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        match self.reuse {
            Reuse::Validated => clamp(self.age(now)).saturating_neg(),
            Reuse::Lenient | Reuse::Strict => clamp(self.lifetime).saturating_sub(clamp(self.age(now))),
        }
    }

    /// What a request with this wish may have of it.
    pub fn allows(&self, wish: &Wish, now: u64) -> Use {
        let (age, is_fresh) = (self.age(now), self.ttl(now) > 0);
        // Ages are whole seconds: who asks for an age of zero wants what the origin has now.
        let is_too_old = wish.max_age.is_some_and(|most| age > most || most == 0);
        if wish.no_cache || self.reuse == Reuse::Validated || is_too_old {
            return Use::Validate;
        }
        if is_fresh {
            let stays = self.lifetime.saturating_sub(age);
            return if wish.min_fresh.is_some_and(|least| stays < least) { Use::Validate } else { Use::Serve };
        }
        let stale_for = age.saturating_sub(self.lifetime);
        match self.reuse {
            Reuse::Lenient if wish.min_fresh.is_none() && wish.max_stale.is_some_and(|most| stale_for <= most) => {
                Use::Serve
            }
            Reuse::Lenient if wish.min_fresh.is_none() && stale_for < self.stale_while_revalidate => {
                Use::ServeAndValidate
            }
            Reuse::Lenient | Reuse::Strict | Reuse::Validated => Use::Validate,
        }
    }

    /// Whether it may be served since the origin fails; `by_default` is for how many seconds that holds where the
    /// response does not say so itself.
    pub fn serves_errors(&self, by_default: u64, now: u64) -> bool {
        let grace = self.stale_if_error.unwrap_or(by_default);
        self.reuse == Reuse::Lenient && self.age(now).saturating_sub(self.lifetime) < grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh_for(lifetime: u64) -> Freshness {
        let received = 5 * SECOND;
        let (stale_while_revalidate, stale_if_error) = (0, None);
        Freshness { received, initial_age: 3, lifetime, stale_while_revalidate, stale_if_error, reuse: Reuse::Lenient }
    }

    #[test]
    fn age_grows_from_what_it_was_at_the_receipt() {
        let freshness = fresh_for(10);
        assert_eq!((freshness.age(5 * SECOND), freshness.age(7 * SECOND)), (3, 5));
        assert_eq!((freshness.ttl(5 * SECOND), freshness.ttl(15 * SECOND)), (7, -3));
        assert_eq!(freshness.age(0), 3, "a clock that runs backward makes nothing younger");
        assert!(Freshness { lifetime: u64::MAX, ..freshness }.ttl(5 * SECOND) > 0);
    }

    #[test]
    fn a_request_has_its_say() {
        let (freshness, now) = (fresh_for(10), 7 * SECOND);
        for (wish, expected) in [
            (Wish::default(), Use::Serve),
            (Wish { no_cache: true, ..Wish::default() }, Use::Validate),
            (Wish { max_age: Some(4), ..Wish::default() }, Use::Validate),
            (Wish { max_age: Some(5), ..Wish::default() }, Use::Serve),
            (Wish { min_fresh: Some(5), ..Wish::default() }, Use::Serve),
            (Wish { min_fresh: Some(6), ..Wish::default() }, Use::Validate),
        ] {
            assert_eq!(freshness.allows(&wish, now), expected, "{wish:?}");
        }
        assert_eq!(Freshness { reuse: Reuse::Validated, ..freshness }.allows(&Wish::default(), now), Use::Validate);
        let new = Freshness { initial_age: 0, received: now, ..freshness };
        let reload = Wish { max_age: Some(0), ..Wish::default() };
        assert_eq!(new.allows(&reload, now), Use::Validate, "less than a second is an age");
    }

    #[test]
    fn what_is_stale_is_served_as_far_as_it_may_be() {
        let now = 15 * SECOND; // stale for 3 seconds
        let freshness = fresh_for(10);
        let max_stale = |seconds| Wish { max_stale: Some(seconds), ..Wish::default() };
        assert_eq!(freshness.allows(&Wish::default(), now), Use::Validate);
        assert_eq!(freshness.allows(&max_stale(3), now), Use::Serve);
        assert_eq!(freshness.allows(&max_stale(2), now), Use::Validate);
        let graceful = Freshness { stale_while_revalidate: 4, ..freshness };
        assert_eq!(graceful.allows(&Wish::default(), now), Use::ServeAndValidate);
        assert_eq!(graceful.allows(&Wish::default(), now + SECOND), Use::Validate);
        let strict = Freshness { reuse: Reuse::Strict, ..graceful };
        assert_eq!(strict.allows(&max_stale(60), now), Use::Validate);
        assert!(freshness.serves_errors(4, now) && !freshness.serves_errors(3, now));
        assert!(Freshness { stale_if_error: Some(4), ..freshness }.serves_errors(0, now));
        assert!(!strict.serves_errors(60, now));
    }
}
