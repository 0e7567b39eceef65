//! What the server counts, and how it is shown.
//!
//! [`catalogue`] is the one list of metrics with their help texts; [`WorkerMetrics`] is what a thread of the server
//! writes while it works, without a locked instruction; [`Metrics::render`] sums them into the text that
//! `/.forebay/metrics` serves.

pub mod catalogue;
pub mod counter;
pub mod labels;
pub mod text;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cache::stats::{Departure, Stats};
use catalogue as c;
use counter::{Counter, Family, Gauge, Histogram, HistogramValues, Label, Read, SharedCounter};
use labels::{
    ByClass, ByConnection, ByFill, ByOriginAnswer, ByRevalidation, ByStatus, ByTimeout, ByTransmit, ByZerocopy, Class,
    Connection, OriginAnswer, SharedByRemoval, SharedByUpload, Status,
};
use text::{Exposition, Samples};

/// The counters of one thread (a worker, or the control plane). Only that thread writes them.
#[derive(Debug, Default)]
#[repr(align(128))] // two threads' counters never share a cache line, nor the pair that the prefetcher fetches
pub struct WorkerMetrics {
    /// Requests answered, by what the cache said.
    pub requests: ByClass,
    /// Bytes of response bodies, by the class of their request.
    pub body_bytes: ByClass,
    /// Responses by status; [`WorkerMetrics::answered`] counts it together with `requests`.
    pub responses: ByStatus,
    /// Bytes handed to sockets, heads included.
    pub bytes_sent: Counter,
    /// Head received to head sent, of hits.
    pub hit_latency: Histogram,
    /// Head received to head sent, of misses.
    pub miss_latency: Histogram,
    /// Responses by how their body was sent.
    pub transmit_responses: ByTransmit,
    /// Body bytes by how they were sent.
    pub transmit_bytes: ByTransmit,
    /// Reports of zero-copy sends.
    pub zerocopy: ByZerocopy,
    /// Reads of files into the arena.
    pub fills: ByFill,
    /// Requests that joined a fill in progress.
    pub collapsed_waiters: Counter,
    /// Connections; the ones handed to the control plane are counted closed there.
    pub connections: ByConnection,
    /// Connections handed to the control plane.
    pub handoffs: Counter,
    /// io_uring_enter calls.
    pub ring_enters: Counter,
    /// Completions handled.
    pub ring_completions: Counter,
    /// Completions that did not fit the completion queue.
    pub ring_cq_overflows: Counter,
    /// Receives that found no provided buffer.
    pub ring_recv_enobufs: Counter,
    /// Comparisons of cached entries with the disk.
    pub revalidations: ByRevalidation,
    /// Waits given up.
    pub timeouts: ByTimeout,
}

impl WorkerMetrics {
    /// Counts one request answered with `status`.
    #[inline]
    pub fn answered(&self, class: Class, status: u16) {
        self.requests[class].one();
        self.responses[Status::of(status)].one();
    }
}

/// What the thread counts that asks a remote origin. Only that thread writes it.
#[derive(Debug, Default)]
pub struct OriginMetrics {
    /// Requests, by the origin's answer.
    pub answers: ByOriginAnswer,
    /// Body bytes received.
    pub body_bytes: Counter,
    /// Request to the head of its answer, for what was not cached.
    pub fetches: Histogram,
    /// The same for what was to be validated.
    pub validations: Histogram,
    /// Answers that broke off.
    pub broken: Counter,
    /// Fetches after which what is stale was served, since the origin failed.
    pub stale_served: Counter,
}

/// What is written by more than one thread, none of it on the way of a hit.
#[derive(Debug, Default)]
pub struct SharedMetrics {
    /// Entries that left the cache.
    pub evictions: SharedByRemoval,
    /// Files the policy refused.
    pub rejections: SharedCounter,
    /// Connections handed over and not taken up yet.
    pub control_queue: Gauge,
    /// Connections the control plane serves now.
    pub control_connections: Gauge,
    /// Uploads by outcome.
    pub uploads: SharedByUpload,
    /// Body bytes of uploads.
    pub upload_bytes: SharedCounter,
    /// Access log lines written.
    pub access_log_lines: SharedCounter,
    /// Access log lines dropped.
    pub access_log_dropped: SharedCounter,
}

impl Stats for SharedMetrics {
    fn left(&self, why: Departure) {
        let label = match why {
            Departure::Room => labels::Removal::Room,
            Departure::Invalidated => labels::Removal::Invalidated,
            Departure::Replaced => labels::Removal::Replaced,
            Departure::Deleted => labels::Removal::Deleted,
        };
        self.evictions[label].one();
    }

    fn refused(&self) {
        self.rejections.one();
    }
}

/// The state of the cache at a scrape, which nobody counts as it goes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ArenaGauges {
    /// The budget, in bytes.
    pub capacity_bytes: u64,
    /// Budget in use, in bytes.
    pub resident_bytes: u64,
    /// Bytes of cached files.
    pub live_bytes: u64,
    /// Bytes that responses in progress hold.
    pub leased_bytes: u64,
    /// Cached files.
    pub entries: u64,
}

/// Everything the server counts.
#[derive(Debug)]
pub struct Metrics {
    /// One for each worker thread, in order.
    pub workers: Vec<Arc<WorkerMetrics>>,
    /// The control plane's own; written by its thread only.
    pub control: Arc<WorkerMetrics>,
    /// Those of the thread that asks a remote origin.
    pub origin: OriginMetrics,
    /// What several threads write.
    pub shared: Arc<SharedMetrics>,
    /// When the server started.
    pub started: SystemTime,
}

impl Metrics {
    /// Metrics for a server with `workers` worker threads, all at zero.
    pub fn new(workers: usize) -> Metrics {
        Metrics {
            workers: (0..workers).map(|_| Arc::default()).collect(),
            control: Arc::default(),
            origin: OriginMetrics::default(),
            shared: Arc::default(),
            started: SystemTime::now(),
        }
    }

    /// The counters of every thread.
    pub fn threads(&self) -> impl Iterator<Item = &WorkerMetrics> {
        self.workers.iter().chain([&self.control]).map(Arc::as_ref)
    }

    /// The sum of one number over all threads.
    pub fn sum(&self, number: impl Fn(&WorkerMetrics) -> u64) -> u64 {
        self.threads().map(number).sum()
    }

    /// The hit latencies and the miss latencies of all threads.
    pub fn latencies(&self) -> (HistogramValues, HistogramValues) {
        let (mut hits, mut misses) = (HistogramValues::default(), HistogramValues::default());
        for thread in self.threads() {
            hits.merge(&thread.hit_latency.read());
            misses.merge(&thread.miss_latency.read());
        }
        (hits, misses)
    }

    /// Connections open now. Threads are read one after the other, so the difference may be off by what happened
    /// meanwhile.
    pub fn connections_open(&self) -> u64 {
        let closed = self.sum(|t| t.connections[Connection::Closed].get());
        self.sum(|t| t.connections[Connection::Accepted].get()).saturating_sub(closed)
    }

    /// Everything in the Prometheus text format.
    pub fn render(&self, arena: &ArenaGauges) -> String {
        let mut out = Exposition::default();
        out.metric(&c::BUILD_INFO).labelled(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        out.metric(&c::START_TIME).value(started);
        self.render_traffic(&mut out);
        self.render_cache(&mut out, arena);
        self.render_origin(&mut out);
        self.render_connections(&mut out);
        self.render_control(&mut out);
        out.finish()
    }

    fn render_traffic(&self, out: &mut Exposition) {
        self.family(out.metric(&c::REQUESTS), |t| &t.requests);
        self.family(out.metric(&c::BODY_BYTES), |t| &t.body_bytes);
        self.family(out.metric(&c::RESPONSES), |t| &t.responses);
        out.metric(&c::BYTES_SENT).value(self.sum(|t| t.bytes_sent.get()));
        let (hits, misses) = self.latencies();
        let mut latency = out.metric(&c::HEAD_LATENCY);
        latency.histogram("class=\"hit\"", &hits);
        latency.histogram("class=\"miss\"", &misses);
        let mut by_worker = out.metric(&c::WORKER_REQUESTS);
        let requests = |t: &WorkerMetrics| Class::ALL.iter().map(|&class| t.requests[class].get()).sum::<u64>();
        for (number, worker) in self.workers.iter().enumerate() {
            by_worker.labelled(&format!("worker=\"{number}\""), requests(worker));
        }
        by_worker.labelled("worker=\"control\"", requests(&self.control));
        self.family(out.metric(&c::TRANSMIT_RESPONSES), |t| &t.transmit_responses);
        self.family(out.metric(&c::TRANSMIT_BYTES), |t| &t.transmit_bytes);
        self.family(out.metric(&c::ZEROCOPY), |t| &t.zerocopy);
    }

    fn render_cache(&self, out: &mut Exposition, arena: &ArenaGauges) {
        out.metric(&c::ARENA_CAPACITY).value(arena.capacity_bytes);
        out.metric(&c::ARENA_RESIDENT).value(arena.resident_bytes);
        out.metric(&c::ARENA_LIVE).value(arena.live_bytes);
        out.metric(&c::ARENA_LEASED).value(arena.leased_bytes);
        out.metric(&c::CACHE_ENTRIES).value(arena.entries);
        shared_family(out.metric(&c::EVICTIONS), &self.shared.evictions);
        out.metric(&c::REJECTIONS).value(self.shared.rejections.get());
        self.family(out.metric(&c::FILLS), |t| &t.fills);
        out.metric(&c::COLLAPSED).value(self.sum(|t| t.collapsed_waiters.get()));
        self.family(out.metric(&c::REVALIDATIONS), |t| &t.revalidations);
    }

    fn render_origin(&self, out: &mut Exposition) {
        let origin = &self.origin;
        let mut answers = out.metric(&c::ORIGIN_ANSWERS);
        for &answer in OriginAnswer::ALL {
            answers.labelled(answer.pairs(), origin.answers[answer].get());
        }
        out.metric(&c::ORIGIN_BYTES).value(origin.body_bytes.get());
        let mut latency = out.metric(&c::ORIGIN_LATENCY);
        latency.histogram("kind=\"fetch\"", &origin.fetches.read());
        latency.histogram("kind=\"validation\"", &origin.validations.read());
        out.metric(&c::ORIGIN_BROKEN).value(origin.broken.get());
        out.metric(&c::STALE_SERVED).value(origin.stale_served.get());
    }

    fn render_connections(&self, out: &mut Exposition) {
        self.family(out.metric(&c::CONNECTIONS), |t| &t.connections);
        out.metric(&c::CONNECTIONS_OPEN).value(self.connections_open());
        out.metric(&c::HANDOFFS).value(self.sum(|t| t.handoffs.get()));
        self.family(out.metric(&c::TIMEOUTS), |t| &t.timeouts);
        out.metric(&c::RING_ENTERS).value(self.sum(|t| t.ring_enters.get()));
        out.metric(&c::RING_COMPLETIONS).value(self.sum(|t| t.ring_completions.get()));
        out.metric(&c::RING_OVERFLOWS).value(self.sum(|t| t.ring_cq_overflows.get()));
        out.metric(&c::RING_ENOBUFS).value(self.sum(|t| t.ring_recv_enobufs.get()));
    }

    fn render_control(&self, out: &mut Exposition) {
        let shared = &self.shared;
        out.metric(&c::CONTROL_QUEUE).value(shared.control_queue.get());
        out.metric(&c::CONTROL_CONNECTIONS).value(shared.control_connections.get());
        shared_family(out.metric(&c::UPLOADS), &shared.uploads);
        out.metric(&c::UPLOAD_BYTES).value(shared.upload_bytes.get());
        out.metric(&c::ACCESS_LOG_LINES).value(shared.access_log_lines.get());
        out.metric(&c::ACCESS_LOG_DROPPED).value(shared.access_log_dropped.get());
    }

    /// One sample for each value of the label, summed over all threads.
    fn family<L: Label, const N: usize>(
        &self,
        mut samples: Samples<'_>,
        family: impl Fn(&WorkerMetrics) -> &Family<Counter, L, N>,
    ) {
        for &label in L::ALL {
            samples.labelled(label.pairs(), self.sum(|thread| family(thread)[label].get()));
        }
    }
}

fn shared_family<L: Label, const N: usize>(mut samples: Samples<'_>, family: &Family<SharedCounter, L, N>) {
    for &label in L::ALL {
        samples.labelled(label.pairs(), family[label].get());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::metrics::labels::{Removal, Transmit};

    /// `name{labels} value` lines of an exposition.
    fn samples(text: &str) -> BTreeMap<String, f64> {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').expect("a series and a value");
                (series.to_owned(), value.parse().expect("a number"))
            })
            .collect()
    }

    #[test]
    fn each_metric_of_the_catalogue_is_exposed_once_with_help_and_type() {
        let text = Metrics::new(2).render(&ArenaGauges::default());
        let exposed: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        let expected: Vec<String> = c::ALL.iter().map(|m| format!("{} {}", m.name, m.kind.as_str())).collect();
        assert_eq!(exposed, expected);
        for metric in c::ALL {
            assert!(metric.help.len() > 10 && metric.help.ends_with('.'), "{} needs a help text", metric.name);
            assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)));
            assert_eq!(metric.kind == c::Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        }
        let names: BTreeSet<_> = c::ALL.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), c::ALL.len(), "a name is there twice");
    }

    #[test]
    fn each_metric_is_documented() {
        let page = include_str!("../../docs/metrics.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `forebay_")).collect();
        let expected: Vec<String> =
            c::ALL.iter().map(|m| format!("| `{}` | {} | {} |", m.name, m.kind.as_str(), m.help)).collect();
        assert_eq!(rows, expected, "docs/metrics.md must list the catalogue, in its order and words");
    }

    #[test]
    fn each_label_is_documented() {
        let page = include_str!("../../docs/metrics.md");
        let text = Metrics::new(1).render(&ArenaGauges::default());
        let series = samples(&text).into_keys().filter_map(|series| {
            let (_, labels) = series.trim_end_matches('}').split_once('{')?;
            let labels = labels.split(",le=").next().unwrap_or(labels);
            (!labels.starts_with("version=")).then(|| format!("`{labels}`"))
        });
        let missing: BTreeSet<String> = series.filter(|labels| !page.contains(labels)).collect();
        assert!(missing.is_empty(), "docs/metrics.md must explain every series: {missing:?}");
    }

    #[test]
    fn threads_are_summed() {
        let metrics = Metrics::new(2);
        metrics.workers[0].answered(Class::Hit, 200);
        metrics.workers[1].answered(Class::Hit, 206);
        metrics.workers[1].answered(Class::MissStored, 200);
        metrics.control.answered(Class::Other, 207);
        metrics.workers[0].hit_latency.record(1_500);
        metrics.workers[1].hit_latency.record(1_000_000);
        metrics.workers[1].transmit_bytes[Transmit::Reference].add(70_000);
        metrics.workers[0].connections[Connection::Accepted].add(3);
        metrics.control.connections[Connection::Closed].one();
        metrics.shared.evictions[Removal::Room].add(5);

        let arena = ArenaGauges { capacity_bytes: 67_108_864, resident_bytes: 4096, ..ArenaGauges::default() };
        let samples = samples(&metrics.render(&arena));
        for (series, value) in [
            ("forebay_requests_total{class=\"hit\",detail=\"fresh\"}", 2.0),
            ("forebay_requests_total{class=\"miss\",detail=\"stored\"}", 1.0),
            ("forebay_responses_total{status=\"200\"}", 2.0),
            ("forebay_responses_total{status=\"other\"}", 1.0),
            ("forebay_worker_requests_total{worker=\"1\"}", 2.0),
            ("forebay_worker_requests_total{worker=\"control\"}", 1.0),
            ("forebay_head_seconds_bucket{class=\"hit\",le=\"0.000001\"}", 0.0),
            ("forebay_head_seconds_bucket{class=\"hit\",le=\"0.000002\"}", 1.0),
            ("forebay_head_seconds_bucket{class=\"hit\",le=\"+Inf\"}", 2.0),
            ("forebay_head_seconds_count{class=\"hit\"}", 2.0),
            ("forebay_head_seconds_sum{class=\"hit\"}", 0.0010015),
            ("forebay_transmit_bytes_total{mode=\"reference\"}", 70_000.0),
            ("forebay_connections_open", 2.0),
            ("forebay_evictions_total{reason=\"room\"}", 5.0),
            ("forebay_arena_capacity_bytes", 67_108_864.0),
            ("forebay_arena_resident_bytes", 4096.0),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series}");
        }
    }
}
