//! What is still owed of each response that was begun on a connection, so that what was sent is accounted for when it
//! was sent, and a response that ended too early is logged as aborted.

use crate::metrics::WorkerMetrics;
use crate::metrics::labels::Class;
use crate::server::access_log::Record;
use std::collections::VecDeque;

/// The responses of one connection that are not over, the oldest first. A record whose response never ends is dropped
/// with it, and logs that.
#[derive(Default)]
pub(super) struct Ledger(VecDeque<Owed>);

/// One response: its head and body, as far as they were not handed to the socket yet.
struct Owed {
    head: u64,
    body: u64,
    class: Class,
    record: Record,
}

impl Ledger {
    /// A response of so many bytes was begun.
    pub fn begin(&mut self, head: u64, body: u64, class: Class, record: Record) {
        self.0.push_back(Owed { head, body, class, record });
    }

    /// The socket took so many bytes more; `now` is asked when a response has ended.
    pub fn sent(&mut self, bytes: u64, metrics: &WorkerMetrics, now: impl Fn() -> u64) {
        metrics.bytes_sent.add(bytes);
        let mut left = bytes;
        while let Some(owed) = self.0.front_mut() {
            let head = left.min(owed.head);
            let body = (left - head).min(owed.body);
            owed.head -= head;
            owed.body -= body;
            left -= head + body;
            if body > 0 {
                metrics.body_bytes[owed.class].add(body);
                owed.record.sent(body);
            }
            if owed.head + owed.body > 0 {
                return;
            }
            if let Some(Owed { record, .. }) = self.0.pop_front() {
                record.end(now());
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it has memory, and nothing to keep in it.
    pub fn is_spare(&self) -> bool {
        self.0.is_empty() && self.0.capacity() > 0
    }

    pub fn has_memory(&self) -> bool {
        self.0.capacity() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::metrics::counter::Read;

    #[test]
    fn bytes_are_counted_as_they_leave() {
        let metrics = Metrics::new(1).workers[0].clone();
        let counted = |class: Class| metrics.body_bytes[class].get();
        let mut ledger = Ledger::default();
        ledger.begin(10, 100, Class::Hit, Record::default());
        ledger.begin(10, 0, Class::Other, Record::default());
        ledger.begin(10, 50, Class::Other, Record::default());
        ledger.sent(5, &metrics, || 0);
        assert_eq!(counted(Class::Hit), 0);
        ledger.sent(6, &metrics, || 0);
        assert_eq!(counted(Class::Hit), 1);
        // The rest of it, the next one, and a part of the last.
        ledger.sent(99 + 10 + 30, &metrics, || 0);
        assert_eq!((counted(Class::Hit), counted(Class::Other)), (100, 20));
        assert!(!ledger.is_spare(), "one response is owed in part");
        ledger.sent(30, &metrics, || 0);
        assert_eq!(counted(Class::Other), 50);
        assert!(ledger.is_spare());
        assert_eq!(metrics.bytes_sent.get(), 180);
    }
}
