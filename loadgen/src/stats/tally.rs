//! What one worker counts during one interval, and how such counts add up.

use super::{Class, Failure, Failures, Latencies};
use std::collections::BTreeMap;

/// Counts and latencies of one class of responses.
#[derive(Debug, Clone, Default)]
pub struct ClassTally {
    /// Successful responses.
    pub requests: u64,
    /// Body bytes of successful responses.
    pub bytes: u64,
    /// Failed requests. Those without a response head stand under [`Class::Unclassified`].
    pub failures: Failures,
    /// Those of kind [`Failure::Status`], by the status of the response: at most the 900 numbers of three digits.
    pub statuses: BTreeMap<u16, u64>,
    /// From the intended start to the last byte. Empty in a closed loop, where it equals `service`.
    corrected: Latencies,
    /// From the actual send to the last byte.
    pub service: Latencies,
    /// From the actual send to the first byte.
    pub first_byte: Latencies,
}

impl ClassTally {
    /// From the intended start to the last byte.
    pub fn latency(&self) -> &Latencies {
        // A request has a start of its own only where a schedule gave it one; then every request has.
        if self.corrected.count() > 0 { &self.corrected } else { &self.service }
    }

    /// Adds another tally of the same run.
    pub fn merge(&mut self, other: &ClassTally) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.failures.merge(&other.failures);
        for (&status, count) in &other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.corrected.merge(&other.corrected);
        self.service.merge(&other.service);
        self.first_byte.merge(&other.first_byte);
    }

    fn clear(&mut self) {
        self.requests = 0;
        self.bytes = 0;
        self.failures = Failures::default();
        self.statuses.clear();
        self.corrected.clear();
        self.service.clear();
        self.first_byte.clear();
    }
}

/// How well an open-loop schedule was kept.
#[derive(Debug, Clone, Default)]
pub struct ScheduleTally {
    /// Slots whose time came.
    pub intended: u64,
    /// Slots whose request was sent.
    pub sent: u64,
    /// Slots sent only after waiting for a connection that was free.
    pub late: u64,
    /// Slots never sent: the run ended first.
    pub dropped: u64,
    /// Actual minus intended send time of the slots that found a free connection: the generator's own error.
    pub error: Latencies,
}

impl ScheduleTally {
    fn merge(&mut self, other: &ScheduleTally) {
        self.intended += other.intended;
        self.sent += other.sent;
        self.late += other.late;
        self.dropped += other.dropped;
        self.error.merge(&other.error);
    }
}

/// Everything that is counted.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    classes: [ClassTally; 3],
    pub schedule: ScheduleTally,
    /// Requests sent again because the server closed the connection in front of them.
    pub retried: u64,
    /// Connections established.
    pub connections: u64,
}

/// One successful response, times in nanoseconds on the run's clock.
#[derive(Debug, Clone, Copy)]
pub struct Success {
    pub class: Class,
    pub body_bytes: u64,
    /// The intended start, where a schedule set one.
    pub intended_ns: Option<u64>,
    pub sent_ns: u64,
    pub first_byte_ns: u64,
    pub last_byte_ns: u64,
}

impl Tally {
    /// Records a successful response.
    #[inline]
    pub fn success(&mut self, response: Success) {
        let tally = &mut self.classes[response.class as usize];
        tally.requests += 1;
        tally.bytes += response.body_bytes;
        if let Some(intended_ns) = response.intended_ns {
            tally.corrected.record(response.last_byte_ns.saturating_sub(intended_ns));
        }
        tally.service.record(response.last_byte_ns.saturating_sub(response.sent_ns));
        tally.first_byte.record(response.first_byte_ns.saturating_sub(response.sent_ns));
    }

    /// Records a failed request, with the status that failed it, if one did.
    pub fn failure(&mut self, class: Class, kind: Failure, status: Option<u16>) {
        let tally = &mut self.classes[class as usize];
        tally.failures.count(kind);
        if let Some(status) = status {
            *tally.statuses.entry(status).or_default() += 1;
        }
    }

    /// The counts of one class.
    pub fn class(&self, class: Class) -> &ClassTally {
        &self.classes[class as usize]
    }

    /// The counts of all classes together.
    pub fn total(&self) -> ClassTally {
        let mut total = self.classes[0].clone();
        self.classes[1..].iter().for_each(|class| total.merge(class));
        total
    }

    /// Successful responses of all classes.
    pub fn requests(&self) -> u64 {
        self.classes.iter().map(|class| class.requests).sum()
    }

    /// Failed requests of all classes.
    pub fn failures(&self) -> u64 {
        self.classes.iter().map(|class| class.failures.sum()).sum()
    }

    /// Adds another tally of the same run.
    pub fn merge(&mut self, other: &Tally) {
        self.classes.iter_mut().zip(&other.classes).for_each(|(mine, theirs)| mine.merge(theirs));
        self.schedule.merge(&other.schedule);
        self.retried += other.retried;
        self.connections += other.connections;
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.classes.iter_mut().for_each(ClassTally::clear);
        let mut error = std::mem::take(&mut self.schedule.error);
        error.clear();
        self.schedule = ScheduleTally { error, ..ScheduleTally::default() };
        self.retried = 0;
        self.connections = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(class: Class, intended_ns: Option<u64>, last_byte_ns: u64) -> Success {
        Success { class, body_bytes: 10, intended_ns, sent_ns: 1_000, first_byte_ns: 1_500, last_byte_ns }
    }

    #[test]
    fn latency_counts_from_the_intended_start_and_service_from_the_send() {
        let mut tally = Tally::default();
        tally.success(response(Class::Miss, Some(200), 2_000));
        let miss = tally.class(Class::Miss);
        assert_eq!((miss.latency().max(), miss.service.max(), miss.first_byte.max()), (1_800, 1_000, 500));
    }

    #[test]
    fn without_a_schedule_latency_is_the_service_time() {
        let mut tally = Tally::default();
        tally.success(response(Class::Hit, None, 2_000));
        assert_eq!(tally.class(Class::Hit).latency().max(), 1_000);
    }

    #[test]
    fn totals_are_the_sum_of_the_classes() {
        let mut tally = Tally::default();
        for class in Class::ALL {
            tally.success(response(class, None, 2_000));
            tally.failure(class, Failure::Status, Some(404));
            tally.failure(class, Failure::Reset, None);
        }
        let total = tally.total();
        assert_eq!((total.requests, total.bytes, total.failures.status, total.service.count()), (3, 30, 3, 3));
        assert_eq!((total.failures.sum(), total.statuses), (6, BTreeMap::from([(404, 3)])));
        let mut twice = tally.clone();
        twice.merge(&tally);
        assert_eq!((twice.requests(), twice.failures()), (6, 12));
        assert_eq!(twice.total().statuses, BTreeMap::from([(404, 6)]));
        twice.clear();
        assert_eq!((twice.requests(), twice.failures(), twice.total().service.count()), (0, 0, 0));
        assert!(twice.total().statuses.is_empty());
    }
}
