//! The one list of every metric the server exposes: name, type and help. docs/metrics.md carries the same list for
//! people; a test keeps the two equal, and another that each metric listed is also exposed.

/// Prometheus metric type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// As the `# TYPE` line says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric as users see it. Units are in the name: `_bytes`, `_seconds`, `_total`.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($constant:ident: $kind:ident $name:literal, $help:literal;)+) => {
        $(#[doc = $help] pub const $constant: Metric = Metric { name: $name, kind: Kind::$kind, help: $help };)+

        /// Every metric, in the order it is exposed.
        pub const ALL: &[&Metric] = &[$(&$constant,)+];
    };
}

catalogue! {
    BUILD_INFO: Gauge "forebay_build_info", "Always 1; the version is a label.";
    START_TIME: Gauge "forebay_start_time_seconds", "Unix time at which the server started.";

    REQUESTS: Counter "forebay_requests_total", "Requests answered, by what the cache said (class) and why (detail).";
    BODY_BYTES: Counter "forebay_response_body_bytes_total", "Bytes of response bodies, by the class and detail of the request: the hit class over all is the byte hit ratio.";
    RESPONSES: Counter "forebay_responses_total", "Responses sent, by status.";
    BYTES_SENT: Counter "forebay_sent_bytes_total", "Bytes handed to sockets, heads included.";
    HEAD_LATENCY: Histogram "forebay_head_seconds", "Time from a whole request head received to its response head handed to the socket, for hits and misses of the data plane.";
    WORKER_REQUESTS: Counter "forebay_worker_requests_total", "Requests answered by each worker; the control plane is worker \"control\".";

    TRANSMIT_RESPONSES: Counter "forebay_transmit_responses_total", "Responses by how their body was sent.";
    TRANSMIT_BYTES: Counter "forebay_transmit_bytes_total", "Body bytes by how they were sent.";
    ZEROCOPY: Counter "forebay_zerocopy_sends_total", "Zero-copy sends by what the kernel reported of them.";

    ARENA_CAPACITY: Gauge "forebay_arena_capacity_bytes", "The arena's budget of physical memory.";
    ARENA_RESIDENT: Gauge "forebay_arena_resident_bytes", "Budget in use: at least the arena's physical pages, never more than its capacity.";
    ARENA_LIVE: Gauge "forebay_arena_live_bytes", "Bytes of cached files in the arena.";
    ARENA_LEASED: Gauge "forebay_arena_leased_bytes", "Bytes of files that a response in progress keeps from being evicted or freed.";
    CACHE_ENTRIES: Gauge "forebay_cache_entries", "Files in the cache.";
    EVICTIONS: Counter "forebay_evictions_total", "Entries that left the cache, by reason.";
    REJECTIONS: Counter "forebay_admission_rejections_total", "Files the eviction policy would not make room for.";
    FILLS: Counter "forebay_fills_total", "Reads of a file into the arena, by event.";
    COLLAPSED: Counter "forebay_collapsed_waiters_total", "Requests that waited for a fill another request had begun.";
    REVALIDATIONS: Counter "forebay_revalidations_total", "Comparisons of a cached file with the disk, by outcome.";

    ORIGIN_ANSWERS: Counter "forebay_origin_answers_total", "Requests to a remote origin, by its answer.";
    ORIGIN_BYTES: Counter "forebay_origin_body_bytes_total", "Body bytes that a remote origin has sent.";
    ORIGIN_LATENCY: Histogram "forebay_origin_head_seconds", "Time from a request to a remote origin to the head of its answer.";
    ORIGIN_BROKEN: Counter "forebay_origin_broken_total", "Answers of a remote origin that broke off.";
    STALE_SERVED: Counter "forebay_stale_served_total", "Fetches after which what is stale was served, since the origin failed.";

    CONNECTIONS: Counter "forebay_connections_total", "Connections, by event.";
    CONNECTIONS_OPEN: Gauge "forebay_connections_open", "Connections open now, on both planes.";
    HANDOFFS: Counter "forebay_handoffs_total", "Connections that moved to the control plane.";
    TIMEOUTS: Counter "forebay_timeouts_total", "Waits given up, by what was waited for.";

    RING_ENTERS: Counter "forebay_ring_enters_total", "io_uring_enter system calls of the workers.";
    RING_COMPLETIONS: Counter "forebay_ring_completions_total", "Completions the workers handled.";
    RING_OVERFLOWS: Counter "forebay_ring_cq_overflows_total", "Times a completion queue was found full, so that the kernel kept completions aside.";
    RING_ENOBUFS: Counter "forebay_ring_recv_enobufs_total", "Receives that ended because no provided buffer was free, and were armed again.";

    CONTROL_QUEUE: Gauge "forebay_control_queue", "Connections handed to the control plane that it has not taken up yet.";
    CONTROL_CONNECTIONS: Gauge "forebay_control_connections", "Connections the control plane serves now.";
    UPLOADS: Counter "forebay_uploads_total", "Uploads, by outcome.";
    UPLOAD_BYTES: Counter "forebay_upload_bytes_total", "Body bytes of uploads received, stored or not.";
    ACCESS_LOG_LINES: Counter "forebay_access_log_lines_total", "Access log lines written.";
    ACCESS_LOG_DROPPED: Counter "forebay_access_log_dropped_total", "Access log lines dropped because the queue was full or the file could not be written.";
}
