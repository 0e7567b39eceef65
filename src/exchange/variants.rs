//! Step 7, for a file that is about to be delivered: its precompressed variants.
//!
//! A variant of `name` is the file `name.br`, `name.zst` or `name.gz` beside it: an entry of the cache like any other,
//! with its own version, whose response describes the original in a coding. Which of them are missing is known by the
//! original's entry until that is compared with the origin again, so variants appear with the original's checks, and
//! change and go with their own.

use super::joined::Joined;
use super::plan::{Plan, Shown, Source};
use super::{Action, Ask, Exchange, Terms};
use crate::cache::entry::Lease;
use crate::http::conditional::Conditions;
use crate::http::encoding::{Coding, Negotiated, Preferred};
use crate::http::response::Content;
use crate::wake::Waiter;

/// A search for a variant that waits for something.
pub(super) struct Seeking {
    /// The response from the original, if there is no variant.
    plan: Plan,
    /// When the original had been found current as the search began.
    checked: u64,
    /// Preferred codings that are done with.
    done: usize,
    /// The exchange of the variant being looked at.
    pub(super) variant: Exchange,
}

impl Exchange {
    /// The response that the client likes best of those there are for the original of `plan`.
    pub(super) fn negotiate(
        &mut self,
        terms: &Terms<'_>,
        ask: &Ask<'_>,
        mut plan: Plan,
        waiter: &impl Fn() -> Waiter,
    ) -> Action {
        // What is a variant itself has none.
        let is_variant = Coding::ALL.iter().any(|coding| ask.name.ends_with(coding.suffix().as_bytes()));
        let Some(preferred) = ask.preferred.filter(|_| !is_variant) else { return Action::Deliver(plan) };
        plan.negotiated.by_coding = true;
        // A body of several parts would be in the coding as a whole: such are those of the file as it is.
        let is_part = matches!(plan.content, Content::Part { .. } | Content::Parts { .. } | Content::Unsatisfiable);
        if (is_part && asks_for_parts(ask.conditions)) || preferred.codings().is_empty() {
            return Action::Deliver(plan);
        }
        let checked = plan.source.lease().map_or(0, |lease| lease.checked());
        let mut seeking = Seeking { plan, checked, done: 0, variant: Exchange::default() };
        match seeking.go_on(terms, ask, preferred, waiter) {
            None => Action::Deliver(seeking.plan),
            Some(Action::Deliver(variant)) => Action::Deliver(variant),
            Some(action) => {
                self.seeking = Some(Box::new(seeking));
                action
            }
        }
    }

    /// Goes on with a search that waited.
    pub(super) fn seek(
        &mut self,
        terms: &Terms<'_>,
        ask: &Ask<'_>,
        mut seeking: Box<Seeking>,
        waiter: &impl Fn() -> Waiter,
    ) -> Action {
        let preferred = ask.preferred.unwrap_or(Preferred::of(None));
        match seeking.go_on(terms, ask, preferred, waiter) {
            None => Action::Deliver(seeking.plan),
            Some(Action::Deliver(variant)) => Action::Deliver(variant),
            Some(action) => {
                self.seeking = Some(seeking);
                action
            }
        }
    }
}

impl Seeking {
    /// The response from the best variant, or what has to be done to find it; `None` if there is none to be had.
    fn go_on(
        &mut self,
        terms: &Terms<'_>,
        ask: &Ask<'_>,
        preferred: Preferred,
        waiter: &impl Fn() -> Waiter,
    ) -> Option<Action> {
        let range = ask.conditions.range.filter(|_| !asks_for_parts(ask.conditions));
        let conditions = Conditions { range, ..*ask.conditions };
        while let Some(&coding) = preferred.codings().get(self.done) {
            let original = self.plan.source.lease();
            if !original.is_some_and(|lease| lease.is_missing(coding.number())) {
                let name = Joined::new(&[ask.name, coding.suffix().as_bytes()]);
                let ask = Ask { name: name.bytes(), preferred: None, conditions: &conditions, ..*ask };
                match self.variant.find(terms, &ask, waiter) {
                    Action::Deliver(variant) if variant.is_variant_of(&self.plan) => {
                        return Some(Action::Deliver(variant.in_coding(coding, &self.plan)));
                    }
                    Action::Deliver(_) => {}
                    Action::Refuse(_) | Action::Directory => {
                        // Whoever joined another's look may have been told of an older time than the original's.
                        let is_own = self.variant.looked.is_some_and(|looked| looked >= self.checked);
                        if let Some(original) = original.filter(|_| is_own) {
                            original.note_missing(coding.number(), self.checked);
                        }
                    }
                    action => return Some(action),
                }
            }
            self.variant = Exchange::default();
            self.done += 1;
        }
        None
    }
}

/// Whether the request is for several ranges.
fn asks_for_parts(conditions: &Conditions<'_>) -> bool {
    conditions.range.is_some_and(|range| range.contains(&b','))
}

impl Plan {
    /// Whether this is a file that can stand for the other one: not made before it, and told from it by its entity tag.
    fn is_variant_of(&self, original: &Plan) -> bool {
        match (self.file(), original.file()) {
            (Some(own), Some(other)) => own.version.mtime_ns >= other.version.mtime_ns && *own.etag() != *other.etag(),
            _ => false,
        }
    }

    /// This response, as one about the original in a coding.
    fn in_coding(mut self, coding: Coding, original: &Plan) -> Plan {
        self.negotiated = Negotiated { coding: Some(coding), ..original.negotiated };
        if let (Some(own), Some(other)) = (self.file(), original.file()) {
            self.described = Shown::Coded(own.encoding(other));
        }
        self
    }
}

impl Source {
    /// The entry of the cache that is sent, or being read.
    fn lease(&self) -> Option<&Lease> {
        match self {
            Source::Arena { lease, .. } | Source::File { fill: Some((lease, _)), .. } => Some(lease),
            Source::Slices { head, .. } => Some(head),
            Source::File { fill: None, .. } | Source::Passing(_) => None,
        }
    }
}
