//! The server's own pages, beneath `/.forebay/`: what is cached, the metrics, whether it lives and is ready, and a
//! dashboard.

use std::rc::Rc;
use std::sync::LazyLock;

use hyper::StatusCode;
use hyper::header::{self, HeaderName, HeaderValue};
use serde::Serialize;

use super::answer::Answer;
use super::plane::ControlPlane;
use super::policy;
use super::pool::blocking;
use super::rates::{Sample, Series};
use crate::arena::layout::ClassUse;
use crate::cache::{EntrySnapshot, Snapshot};
use crate::metrics::counter::{Label, Read};
use crate::metrics::labels::Removal;
use crate::metrics::{ArenaGauges, text};
use crate::page;
use crate::ring::system::monotonic;
use crate::server::shared::Shared;
use crate::version::slices;

/// The dashboard: one page, with all it needs in it.
static DASHBOARD: LazyLock<String> = LazyLock::new(|| page::filled(include_str!("dashboard.html")));

/// What the dashboard may do: its own style and script, and ask this server.
static DASHBOARD_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy::of(&DASHBOARD, "; connect-src 'self'"));

/// Files in the dashboard's list of the most wanted.
const TOP_FILES: usize = 20;

/// Cells that a class of the arena is told in at most; beyond them neighbours share one.
const CELLS: usize = 512;

impl ControlPlane {
    /// Answers a GET or HEAD of `/.forebay/<page>`.
    pub async fn page(self: &Rc<Self>, page: &[u8]) -> Result<Answer, Answer> {
        let shared = self.shared.clone();
        match page {
            b"" => Ok(Answer::page("text/html; charset=utf-8", DASHBOARD.as_str())
                .with(header::CONTENT_SECURITY_POLICY, DASHBOARD_POLICY.clone())
                // A page of a served file that opens this one, or is opened by it, has no hold on it. The token is in
                // this page's memory alone, never in a storage that pages of this origin share.
                .with(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"))),
            b"health" => Ok(Answer::page("text/plain; charset=utf-8", "ok\n")),
            b"ready" => match blocking(move || shared.readiness.ready(&shared.origin)).await? {
                Ok(()) => Ok(Answer::page("text/plain; charset=utf-8", "ready\n")),
                Err(why) => Err(Answer::problem(StatusCode::SERVICE_UNAVAILABLE, why)),
            },
            b"cache" => json(blocking(move || serde_json::to_string(&CachePage::of(&snapshot(&shared)))).await?),
            b"metrics" => {
                let render = move || shared.metrics.render(&gauges(&snapshot(&shared)));
                Ok(Answer::page(text::CONTENT_TYPE, blocking(render).await?))
            }
            b"live" => {
                let series = self.rates.series();
                json(blocking(move || serde_json::to_string(&LivePage::of(&shared, series))).await?)
            }
            _ => {
                let text = "the server's own pages are /.forebay/, /.forebay/cache, /.forebay/metrics, /.forebay/health and \
                            /.forebay/ready";
                Err(Answer::problem(StatusCode::NOT_FOUND, text))
            }
        }
    }
}

/// JSON that may be shown on a terminal: names are whatever the tree holds.
fn json(body: serde_json::Result<String>) -> Result<Answer, Answer> {
    match body {
        Ok(body) => Ok(Answer::page("application/json", crate::text::json(&body).into_owned())),
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
            name: String::from_utf8_lossy(&slices::readable(&entry.name)).into_owned(),
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
    host: String,
    root: String,
    uptime_seconds: f64,
    arena: ArenaNumbers,
    entries: usize,
    connections: u64,
    workers: usize,
    hits: u64,
    misses: u64,
    others: u64,
    /// Responses whose status begins with 1, 2, 3, 4 and 5.
    statuses: [u64; 5],
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
            host: String::from_utf8_lossy(rustix::system::uname().nodename().to_bytes()).into_owned(),
            root: shared.options.origin.to_string(),
            uptime_seconds: metrics.started.elapsed().unwrap_or_default().as_secs_f64(),
            arena: ArenaNumbers::of(&snapshot),
            entries: snapshot.entries.len(),
            connections: metrics.connections_open(),
            workers: metrics.workers.len(),
            hits: now.hits,
            misses: now.misses,
            others: now.others,
            statuses: now.statuses,
            evictions: Removal::ALL.iter().map(|&why| (why.pairs(), metrics.shared.evictions[why].get())).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dashboard_needs_nothing_from_elsewhere() {
        for outside in ["http://", "https://", "src=", "@import", "<link"] {
            let found = DASHBOARD.replace("http://www.w3.org/2000/svg", "").contains(outside);
            assert!(!found, "{outside}");
        }
    }
}
