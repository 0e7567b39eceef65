//! The server's own pages, beneath `/.forebay/`: what is cached, the metrics, whether it lives, and a dashboard.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use serde::Serialize;

use super::answer::Answer;
use super::route::{Lane, blocking};
use crate::arena::layout::ClassUse;
use crate::cache::{EntrySnapshot, Snapshot};
use crate::metrics::counter::{BOUNDS, HistogramValues, Label, Read, bound_seconds};
use crate::metrics::labels::{Class, Eviction};
use crate::metrics::{ArenaGauges, Metrics, text};
use crate::ring::system::monotonic;
use crate::server::shared::Shared;

/// The dashboard: one page, with all it needs in it.
const DASHBOARD: &str = include_str!("dashboard.html");

/// What the dashboard may do: its own style and script, and ask this server.
const DASHBOARD_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How often the counters are noted for the dashboard.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// How many of these are kept: five minutes.
const SAMPLES: usize = 300;

/// Files in the dashboard's list of the most wanted.
const TOP_FILES: usize = 20;

/// Cells that a class of the arena is told in at most; beyond them neighbours share one.
const CELLS: usize = 512;

impl Lane {
    /// Answers a GET or HEAD of `/.forebay/<page>`.
    pub async fn page(self: &Rc<Self>, page: &[u8]) -> Result<Answer, Answer> {
        let shared = self.shared.clone();
        match page {
            b"" => Ok(Answer::page("text/html; charset=utf-8", DASHBOARD)
                .with(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DASHBOARD_POLICY))),
            b"health" => Ok(Answer::page("text/plain; charset=utf-8", "ok\n")),
            b"cache" => json(blocking(move || serde_json::to_vec(&CachePage::of(&snapshot(&shared)))).await?),
            b"metrics" => {
                let render = move || shared.metrics.render(&gauges(&snapshot(&shared)));
                Ok(Answer::page(text::CONTENT_TYPE, blocking(render).await?))
            }
            b"live" => {
                let series = self.rates.series();
                json(blocking(move || serde_json::to_vec(&LivePage::of(&shared, series))).await?)
            }
            _ => {
                let text =
                    "the server's own pages are /.forebay/, /.forebay/cache, /.forebay/metrics and /.forebay/health";
                Err(Answer::problem(StatusCode::NOT_FOUND, text))
            }
        }
    }
}

fn json(body: serde_json::Result<Vec<u8>>) -> Result<Answer, Answer> {
    match body {
        Ok(body) => Ok(Answer::page("application/json", body)),
        Err(error) => Err(Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, error)),
    }
}

fn snapshot(shared: &Shared) -> Snapshot {
    shared.cache.snapshot(monotonic())
}

fn gauges(snapshot: &Snapshot) -> ArenaGauges {
    ArenaGauges {
        capacity_bytes: snapshot.usage.capacity_bytes,
        resident_bytes: snapshot.usage.resident_bytes,
        live_bytes: snapshot.usage.live_bytes,
        leased_bytes: snapshot.leased_bytes,
        entries: snapshot.entries.len() as u64,
    }
}

/// `/.forebay/cache`; part of what scripts may rely on.
#[derive(Serialize)]
struct CachePage {
    arena: ArenaNumbers,
    entries: Vec<CachedFile>,
}

#[derive(Serialize)]
struct ArenaNumbers {
    capacity_bytes: u64,
    resident_bytes: u64,
    live_bytes: u64,
    leased_bytes: u64,
}

#[derive(Serialize)]
struct CachedFile {
    name: String,
    size: u64,
    hits: u64,
    age_seconds: f64,
}

impl CachePage {
    /// Entries are sorted by name, so that two pages can be compared.
    fn of(snapshot: &Snapshot) -> CachePage {
        let mut entries: Vec<CachedFile> = snapshot.entries.iter().map(CachedFile::of).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        CachePage { arena: ArenaNumbers::of(snapshot), entries }
    }
}

impl ArenaNumbers {
    fn of(snapshot: &Snapshot) -> ArenaNumbers {
        let ArenaGauges { capacity_bytes, resident_bytes, live_bytes, leased_bytes, .. } = gauges(snapshot);
        ArenaNumbers { capacity_bytes, resident_bytes, live_bytes, leased_bytes }
    }
}

impl CachedFile {
    fn of(entry: &EntrySnapshot) -> CachedFile {
        CachedFile {
            name: String::from_utf8_lossy(&entry.name).into_owned(),
            size: entry.size,
            hits: entry.hits,
            age_seconds: entry.age_seconds,
        }
    }
}

/// `/.forebay/live`: what the dashboard draws. Not part of the contract; it may change with the page.
#[derive(Serialize)]
struct LivePage {
    version: &'static str,
    uptime_seconds: f64,
    arena: ArenaNumbers,
    entries: usize,
    connections: u64,
    workers: usize,
    hits: u64,
    misses: u64,
    others: u64,
    evictions: Vec<(&'static str, u64)>,
    classes: Vec<ClassPicture>,
    top: Vec<CachedFile>,
    series: Series,
}

impl LivePage {
    fn of(shared: &Shared, series: Series) -> LivePage {
        let snapshot = snapshot(shared);
        let metrics = &shared.metrics;
        let mut top: Vec<&EntrySnapshot> = snapshot.entries.iter().collect();
        top.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.name.cmp(&b.name)));
        let top = top.into_iter().take(TOP_FILES).map(CachedFile::of).collect();
        let now = Sample::of(metrics);
        LivePage {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: metrics.started.elapsed().unwrap_or_default().as_secs_f64(),
            arena: ArenaNumbers::of(&snapshot),
            entries: snapshot.entries.len(),
            connections: metrics.connections_open(),
            workers: metrics.workers.len(),
            hits: now.hits,
            misses: now.misses,
            others: now.others,
            evictions: Eviction::ALL.iter().map(|&why| (why.pairs(), metrics.shared.evictions[why].get())).collect(),
            classes: ClassPicture::all(&snapshot),
            top,
            series,
        }
    }
}

/// One size class of the arena: its numbers, and what lies in it in the order of addresses.
#[derive(Serialize)]
struct ClassPicture {
    slot_bytes: u64,
    packed: bool,
    slots: u64,
    live: u64,
    resident_bytes: u64,
    /// Bytes, files, and hits a second since they were read, of neighbours that share a cell.
    cells: Vec<(u64, usize, f64)>,
}

impl ClassPicture {
    /// All classes in use.
    fn all(snapshot: &Snapshot) -> Vec<ClassPicture> {
        let classes = &snapshot.usage.classes;
        // A file lies in the smallest slot of its kind that takes it; the packed classes come first.
        let mut held: Vec<Vec<&EntrySnapshot>> = vec![Vec::new(); classes.len()];
        for entry in &snapshot.entries {
            let takes = |class: &ClassUse| class.live > 0 && class.slot_bytes >= entry.size;
            if let Some(number) = classes.iter().position(takes) {
                held[number].push(entry);
            }
        }
        let pictures = classes.iter().zip(held).filter(|(class, _)| class.resident_bytes > 0);
        pictures.map(|(class, held)| ClassPicture::of(class, held)).collect()
    }

    fn of(class: &ClassUse, mut held: Vec<&EntrySnapshot>) -> ClassPicture {
        held.sort_by_key(|entry| entry.offset);
        let cells = held.chunks(held.len().div_ceil(CELLS).max(1)).map(|neighbours| {
            let bytes = neighbours.iter().map(|entry| entry.size).sum();
            let heat = neighbours.iter().map(|entry| entry.hits as f64 / entry.age_seconds.max(1.0)).sum();
            (bytes, neighbours.len(), heat)
        });
        ClassPicture {
            slot_bytes: class.slot_bytes,
            packed: class.packed,
            slots: class.slots,
            live: class.live,
            resident_bytes: class.resident_bytes,
            cells: cells.collect(),
        }
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    hits: u64,
    misses: u64,
    others: u64,
    body_bytes: u64,
    hit_latency: HistogramValues,
    miss_latency: HistogramValues,
}

impl Sample {
    fn of(metrics: &Metrics) -> Sample {
        let (hit_latency, miss_latency) = metrics.latencies();
        let mut sample = Sample { hit_latency, miss_latency, ..Sample::default() };
        for &class in Class::ALL {
            let requests = metrics.sum(|thread| thread.requests[class].get());
            sample.body_bytes += metrics.sum(|thread| thread.body_bytes[class].get());
            match class {
                Class::Hit | Class::HitRevalidated => sample.hits += requests,
                Class::Other => sample.others += requests,
                _ => sample.misses += requests,
            }
        }
        sample
    }
}

/// The last minutes, second by second.
#[derive(Debug, Default)]
pub(super) struct Rates(RefCell<VecDeque<Sample>>);

/// What happened in each second that is kept, oldest first. Latencies are in seconds; None where there was none.
#[derive(Debug, Default, Serialize)]
struct Series {
    interval_seconds: f64,
    hits: Vec<u64>,
    misses: Vec<u64>,
    body_bytes: Vec<u64>,
    hit_p50: Vec<Option<f64>>,
    hit_p99: Vec<Option<f64>>,
    miss_p50: Vec<Option<f64>>,
    miss_p99: Vec<Option<f64>>,
}

impl Rates {
    /// Notes the counters once a second, for ever.
    pub async fn sample(&self, shared: Arc<Shared>) {
        let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
        loop {
            interval.tick().await;
            let mut samples = self.0.borrow_mut();
            samples.push_back(Sample::of(&shared.metrics));
            if samples.len() > SAMPLES + 1 {
                samples.pop_front();
            }
        }
    }

    fn series(&self) -> Series {
        let mut series = Series { interval_seconds: SAMPLE_INTERVAL.as_secs_f64(), ..Series::default() };
        let samples = self.0.borrow();
        for (before, after) in samples.iter().zip(samples.iter().skip(1)) {
            series.hits.push(after.hits.saturating_sub(before.hits));
            series.misses.push(after.misses.saturating_sub(before.misses));
            series.body_bytes.push(after.body_bytes.saturating_sub(before.body_bytes));
            let hits = difference(&before.hit_latency, &after.hit_latency);
            let misses = difference(&before.miss_latency, &after.miss_latency);
            series.hit_p50.push(quantile(&hits, 0.5));
            series.hit_p99.push(quantile(&hits, 0.99));
            series.miss_p50.push(quantile(&misses, 0.5));
            series.miss_p99.push(quantile(&misses, 0.99));
        }
        series
    }
}

fn difference(before: &HistogramValues, after: &HistogramValues) -> [u64; BOUNDS + 1] {
    std::array::from_fn(|k| after.buckets[k].saturating_sub(before.buckets[k]))
}

/// A quantile in seconds, by linear interpolation in its bucket, as Prometheus has it.
fn quantile(buckets: &[u64; BOUNDS + 1], q: f64) -> Option<f64> {
    let total: u64 = buckets.iter().sum();
    let rank = q * total as f64;
    let mut below = 0;
    for (k, &count) in buckets.iter().enumerate() {
        if count > 0 && (below + count) as f64 >= rank {
            let lower = if k == 0 { 0.0 } else { bound_seconds(k - 1) };
            let upper = if k < BOUNDS { bound_seconds(k) } else { lower };
            return Some(lower + (upper - lower) * (rank - below as f64) / count as f64);
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::counter::Histogram;

    #[test]
    fn quantiles_lie_in_the_bucket_of_their_rank() {
        let histogram = Histogram::default();
        assert_eq!(quantile(&histogram.read().buckets, 0.5), None);
        for _ in 0..98 {
            histogram.record(3_000);
        }
        for _ in 0..2 {
            histogram.record(1_000_000);
        }
        let buckets = histogram.read().buckets;
        let (p50, p99) = (quantile(&buckets, 0.5).unwrap(), quantile(&buckets, 0.99).unwrap());
        assert!(p50 > 2e-6 && p50 <= 4e-6, "{p50}");
        assert!(p99 > 512e-6 && p99 <= 1024e-6, "{p99}");
    }

    #[test]
    fn the_dashboard_needs_nothing_from_elsewhere() {
        for outside in ["http://", "https://", "src=", "@import", "<link"] {
            let found = DASHBOARD.replace("http://www.w3.org/2000/svg", "").contains(outside);
            assert!(!found, "{outside}");
        }
    }
}
