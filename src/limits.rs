//! The fixed limits, together, with the relations between them. What users may choose is an option instead.

use std::time::Duration;

/// The page size that the arena's accounting assumes; checked at start.
pub const PAGE: u64 = 4096;

/// The folio size that large objects are populated with where the system gives it.
pub const FOLIO: u64 = 64 << 10;

/// Entries of a worker's submission queue. A turn that needs more submits in between.
pub const SUBMISSION_ENTRIES: u32 = 1024;

/// Entries of a worker's completion queue. Beyond them the kernel keeps completions aside, at a cost.
pub const COMPLETION_ENTRIES: u32 = 8192;

/// Receive buffers of a worker: how many receives can complete in one turn before some must be tried again.
pub const RECEIVE_BUFFERS: u16 = 1024;

/// Bytes of one receive buffer: many request heads, or a pipeline of sixteen.
pub const RECEIVE_BUFFER_BYTES: usize = 2048;

/// What a connection may have sent ahead of the answers before its receiving pauses.
pub const RECEIVED_AHEAD_BYTES: usize = 64 << 10;

/// Responses that one send carries at most.
pub const BATCH_RESPONSES: usize = 64;

/// Bytes that one send carries at most, the last response excepted.
pub const BATCH_BYTES: usize = 128 << 10;

/// Bytes that one connection may hand to its socket in one turn, so that others get theirs.
pub const TURN_BYTES: u64 = 2 << 20;

/// Bytes of a file that is streamed past the cache that are handed to the socket at a time.
pub const STREAM_WINDOW: u64 = 2 << 20;

/// Bytes of such a file that are looked up in the page cache at a time, if they are all there: it is not dropped so
/// soon after.
pub const STREAM_WARM: u64 = 8 << 20;

/// The last bytes of a file that is sent by reference from the page cache: they are let go when all others have left,
/// and the file was compared once more.
pub const HELD_BACK_BYTES: u64 = 4 << 10;

/// Bodies up to this many bytes are let go at once: the first flight of a fresh connection carries them.
pub const AT_ONCE_BYTES: u64 = 64 << 10;

/// Bytes that are read of a file that somebody may be writing to before its response begins, to know its version by.
pub const SAMPLE_BYTES: usize = 4 << 10;

/// The granularity of all timeouts.
pub const TICK: Duration = Duration::from_millis(250);

/// How long a connection that is closed after an error is still read from when nothing arrives, so that its answer is
/// not lost to a reset.
pub const LINGER: Duration = Duration::from_secs(2);
/// As long as bytes keep arriving, a refused upload is read on for this long at most, so that a client that sends all
/// of it before it reads still gets its answer.
pub const LINGER_MAX: Duration = Duration::from_secs(60);
/// Bytes that are read on of it at most.
pub const LINGER_BYTES: u64 = 1 << 30;

/// What is left of the body of a request that was answered without it is read up to so many bytes, so that the
/// connection can be kept. Of a longer one the end is not worth waiting for: a new connection costs less.
pub const UNREAD_BODY_BYTES: u64 = 1 << 20;
/// How long the response to such a request waits for the end of its body, at most: a client that sends it only after
/// the response, or never, should not wait long.
pub const UNREAD_BODY_TIME: Duration = Duration::from_secs(1);

/// Memory for the names of all directories that are being listed at the same time: more than a million names. A
/// directory with more is listed unsorted, as it is read.
pub const LISTING_BYTES: usize = 32 << 20;

/// Memory of the client for the names that one `fetch` takes from listings: more than a million of usual length.
pub const PLAN_BYTES: usize = 256 << 20;

/// Bytes of one entry of a listing that the client takes: a name in its two spellings, with every byte escaped, and
/// some facts.
pub const LISTED_ENTRY_BYTES: usize = 64 << 10;

/// How often a listing without files may be that of directories above it, too, before they count as a circle: trees of
/// equal directories are rare, but they exist. One with files is a circle the first time.
pub const SAME_LISTINGS: usize = 8;

/// Connections beyond the limit that are answered 503 and given time to read it, at the same time and by one worker;
/// more are answered and closed at once.
pub const REFUSED_AT_ONCE: usize = 256;

/// Bytes of a file's name (relative to the root), as the kernel limits paths.
pub const NAME_BYTES: usize = 4095;

/// How often the path of the root is looked at, at least: with longer revalidation intervals, too, a switched root is
/// served soon.
pub const FOLLOW_PERIOD: Duration = Duration::from_millis(250);

/// How often a thread does that at most; where the revalidation interval asks for more, everybody who needs the root
/// looks.
pub const FOLLOW_PERIOD_MIN: Duration = Duration::from_millis(5);

/// Names that are remembered to be missing where there is a fallback for them: 128 KiB. Of two that share a place, the
/// one that was looked for last is.
pub const MISSING_NAMES: usize = 4096;

/// Slices of one object that a response holds in the arena at the same time; a longer part of an object is sent slice
/// by slice.
pub const SLICES_HELD: usize = 4;

/// Ranges of one request; with more of them it is answered with the whole file.
pub const RANGES: usize = 64;

/// Bytes of header fields that all rules together may add: a file's head stays below twice that, whatever matches it.
pub const RULE_FIELDS_BYTES: usize = 16 << 10;

/// Different combinations of media type and further fields that files share the text of: some hundred types, and what
/// rules make of them.
pub const LABELS: usize = 4096;

/// Bytes of a file of rules.
pub const RULE_FILE_BYTES: u64 = 1 << 20;

/// Bytes of a page that stands for an error: it is sent by copy, in one batch with other responses.
pub const ERROR_PAGE_BYTES: u64 = 64 << 10;

/// Parts of a name that can be written: as many directories are created for it, and synced, at most. (A file system of
/// 1,900 levels in one path takes more than a second.)
pub const NAME_DEPTH: usize = 128;

/// How many names can be written at the same time, at most; two names that share a lock only wait for each other.
pub const WRITERS: usize = 256;

const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two());
const _: () =
    assert!(COMPLETION_ENTRIES >= 2 * SUBMISSION_ENTRIES, "every submission can complete, some of them twice");
const _: () = assert!(RECEIVED_AHEAD_BYTES >= RECEIVE_BUFFER_BYTES);
const _: () = assert!(FOLIO.is_multiple_of(PAGE));
const _: () = assert!(STREAM_WINDOW.is_multiple_of(FOLIO) && STREAM_WINDOW <= TURN_BYTES);
const _: () = assert!(STREAM_WINDOW <= STREAM_WARM);
const _: () = assert!(HELD_BACK_BYTES < AT_ONCE_BYTES);

/// Bytes that the cache may need for entries, index and policy before they are charged to the arena: enough for an
/// arena of 64 MiB full of files of 2 KiB. Arena and index together stay within the arena's size and twice this,
/// whatever the files are; the other half is for what the memory allocator makes of it.
pub const INDEX_BYTES: u64 = 8 << 20;

/// How often a fill tries to take the room that was made for it, before it is served uncached.
pub const RESERVE_ATTEMPTS: usize = 1000;

/// Objects up to this many bytes are packed in slabs and sent by copy; larger ones have pages of their own, which can
/// be sent by reference.
pub const PACKED_MAX: u64 = 12 << 10;

/// Memory that a batch keeps for the text of the next responses.
pub const SPARE_TEXT_BYTES: usize = 16 << 10;

/// Batches and receive buffers that a worker keeps for connections that become active.
pub const SPARES: usize = 256;

/// Bytes of a body that one copying send carries when the body does not fit a batch.
pub const COPY_BYTES: usize = 256 << 10;

/// Files up to this many bytes are copied to those who had them read, so that their pages can be reused in place.
pub const COPY_MISS_BYTES: u64 = 256 << 10;

/// Files from this many bytes on are sent from the page cache to those who had them read: what it takes to find out
/// whether they are there costs about as much as copying 16 KiB (measured beside copying: 16 KiB 1.0, 32 KiB 0.9, 64
/// KiB 0.82, 256 KiB 0.75, 1 MiB 0.66 of its CPU time).
pub const REFER_MIN_BYTES: u64 = 32 << 10;

const _: () = assert!(PACKED_MAX as usize <= BATCH_BYTES);
const _: () = assert!(PACKED_MAX < REFER_MIN_BYTES);

/// Bytes of a stream that are read at a time when they are not in the page cache, and up to which a file is not worth
/// sending by reference.
pub const STREAM_BUFFER_BYTES: usize = 64 << 10;

/// How long a file is kept cached without its bytes in a nearly full arena if nobody asks for it again. At most that
/// long what is cached depends on the page cache; and where 64 MiB last longer than this, every file is read after all.
pub const DEFER: Duration = Duration::from_millis(250);

/// Files that the cache keeps open at most: those that are cached without their bytes, and those that were.
pub const OPEN_FILES: usize = 16 << 10;

/// Descriptors that the server needs for itself: listeners, rings, files being opened and compared, answers to
/// connections that are one too many. Where there are few, half of them.
pub const OWN_DESCRIPTORS: usize = 256;

/// Memory put by for the time when the system gives no more, so that what was begun can be finished.
pub const HEAP_RESERVE_BYTES: usize = 8 << 20;

/// Memory that the server takes beside the arena when all of it is busy: what is kept of cached files, and its reserve.
/// (Connections come on top.)
pub const OWN_MEMORY_BYTES: u64 = 2 * INDEX_BYTES + HEAP_RESERVE_BYTES as u64;

/// The smallest arena.
pub const ARENA_MIN: u64 = 1 << 20;

/// For how long there must have been enough of something before the log says that there is again.
pub const ALARM_OVER: Duration = Duration::from_secs(5);

/// For how long a remote origin that gave no answer is taken not to answer. Then it has to be asked again to know, and
/// a server that says it is not ready is sent no requests to ask for.
pub const ORIGIN_SILENCE: Duration = Duration::from_secs(5);

/// How long a file stays open at most after it was found under its name, if it is not cached any more. One that was
/// deleted takes room on the disk for that long.
pub const OPEN_TIME: Duration = Duration::from_secs(2);

/// For how long what was found to be in the page cache is taken to be there: it was used then, and the kernel drops
/// what has not been used for longest. Should it be dropped all the same, the worker that sends it waits for the
/// storage once.
pub const WARM: Duration = Duration::from_millis(20);

/// Fills that a worker has under way when it begins to read what was deferred and has stayed.
pub const FILLS_AT_LEISURE: usize = 4;

/// Bytes of a file that is not in the page cache that are sent from there at a time, as its storage brings them.
pub const FETCH_BYTES: u64 = 128 << 10;

/// Fetches in a row after which files that do not stay in the page cache are not fetched there for a while: their file
/// system has its own ways, or memory is short.
pub const USELESS_FETCHES: u32 = 3;

/// How long that while is. A fetch that is of no use costs a file its first bytes by reference, no more.
pub const FETCH_PAUSE: Duration = Duration::from_secs(10);

/// Second looks at the bytes of cached files that a worker has under way; a file beyond them is read anew instead.
pub const SECOND_LOOKS: usize = 16;

/// Bytes that a second look reads at a time. With the number above a worker needs 1 MiB for them at most.
pub const SECOND_LOOK_BYTES: usize = 64 << 10;

/// How far ahead of a fill's reads the kernel is told to read, where the file is not in the page cache.
pub const READ_AHEAD: u64 = 1 << 20;

/// How much of that is asked for at a time: one request to the storage is over before any of it can be sent (1 MiB
/// files, one client: 1.26 times as long in one piece).
pub const READ_AHEAD_PIECE: u64 = 256 << 10;

const _: () = assert!(READ_AHEAD.is_multiple_of(READ_AHEAD_PIECE) && READ_AHEAD_PIECE.is_multiple_of(FETCH_BYTES));

/// How far a stream reads through its buffer once its file was found not to be in the page cache.
pub const STREAM_COLD: u64 = 8 << 20;

/// Stream buffers that a worker keeps.
pub const SPARE_BUFFERS: usize = 16;

/// How often a file is opened that has no name any more when it is looked at: some file systems say that of all.
pub const NAMELESS_ATTEMPTS: u32 = 3;

/// How often an open is tried that failed because the tree was changing.
pub const OPEN_ATTEMPTS: u32 = 32;

/// Bytes of access log lines in memory at most, of responses in progress and of those that wait for the writer; more
/// lines are dropped. The lines of the 20,000 connections of `--max-connections` have room in it, at 400 bytes each.
pub const ACCESS_LOG_BYTES: usize = 8 << 20;

/// Access log lines that wait for their writer at most. An ordinary line takes some 400 bytes, so this many and the
/// budget above are about the same; the queue's own memory is 24 bytes for each.
pub const ACCESS_LOG_QUEUE: usize = 16 << 10;

/// How long the access log's writer rests after a batch of lines. With the queue above it keeps up with 1.6 million a
/// second.
pub const ACCESS_LOG_PAUSE: Duration = Duration::from_millis(10);

/// Bytes of lines that the access log's writer gathers for one write.
pub const ACCESS_LOG_WRITE_BYTES: usize = 64 << 10;

/// How long the reader of an access log that is a pipe or a terminal may take nothing before that is said.
pub const ACCESS_LOG_PATIENCE: Duration = Duration::from_secs(1);

/// How often a writer that waits for such a reader looks whether the log is to be opened again or to end.
pub const ACCESS_LOG_LOOK: Duration = Duration::from_millis(50);

/// How long no line must have been lost before lines that are lost are said again.
pub const ACCESS_LOG_CALM: Duration = Duration::from_secs(5);

/// Time that the access log has to write what is queued when the server ends and `--drain` is over already.
pub const ACCESS_LOG_GRACE: Duration = Duration::from_millis(250);

/// How long a limit must not have been reached before it is said again that it is.
pub const NOTICE_CALM: Duration = Duration::from_secs(30);

/// How much nicer than the workers the control plane is: at 10 the scheduler gives it a tenth of a core that both could
/// use whole (weights of 110 and 1024), so that uploads cost hits no more than that.
pub const CONTROL_NICE: i32 = 10;

/// Threads of the control plane for what may block: so many looks at the disk and syncs are under way at the same time.
pub const BLOCKING_THREADS: usize = 128;

/// Their stacks: what runs there has its buffers on the heap.
pub const BLOCKING_STACK_BYTES: usize = 512 << 10;

/// How long one that has nothing to do waits for more.
pub const BLOCKING_IDLE: Duration = Duration::from_secs(10);

/// Fetches that wait for the thread that asks a remote origin: more than connections can be waiting, as a rule.
pub const FETCHES: usize = 32 << 10;

/// Bytes of what is kept of a response beside its body: what says more is passed on without being stored. It counts as
/// part of what the entry costs.
pub const STORED_HEAD_BYTES: usize = 32 << 10;

/// Names that are remembered to have uncacheable answers: 128 KiB. Of two that share a place, the one whose answer came
/// last is.
pub const PASSES: usize = 4096;

/// For how long: Varnish's default, too. One that is not known any more has those who ask for it wait once for the
/// first one's answer.
pub const PASS_TIME: Duration = Duration::from_secs(120);

/// Bytes of the head of an interim response (103 Early Hints) that is passed on, and how many of them of one request
/// are: more are left out.
pub const INTERIM_BYTES: usize = 8 << 10;
pub const INTERIM_RESPONSES: usize = 8;

/// Bytes that are collected of bodies of a remote origin whose length is not known before their end, of all of them
/// together.
pub const COLLECTED_BYTES: usize = 16 << 20;

/// Bytes of a body up to which an answer that is not stored is passed on at once, by the data plane.
pub const PASSED_AT_ONCE_BYTES: usize = 64 << 10;

/// Connections that may wait to be accepted; the kernel lowers it to net.core.somaxconn.
pub const BACKLOG: i32 = 4096;

/// How long an address may be taken before that is said: a killed server's ring outlives its process by some
/// milliseconds, more on a busy machine.
pub const BIND_PATIENCE: Duration = Duration::from_secs(2);

/// Between two tries to bind.
pub const BIND_PAUSE: Duration = Duration::from_millis(20);

/// Bytes of a part of an upload to an object store, and up to which it is one request: each upload holds one part in
/// memory, so that a part can be sent again. S3 takes no parts below 5 MiB, and no more than 10,000.
pub const STORE_PART_BYTES: u64 = 8 << 20;

/// Parts of one upload to an object store; a longer body has larger parts, if its length is known.
pub const STORE_PARTS: u64 = 10_000;

/// Bytes of parts in memory of all uploads to object stores; further uploads wait, and their clients with them.
pub const STORE_UPLOAD_BYTES: u64 = 4 * STORE_PART_BYTES;

/// Servers to which connections are kept for one object store: itself, and those who give credentials.
pub const STORE_SERVERS: usize = 8;

/// Bytes of what a store answers that is no object: errors, and pages of listings, which have 1,000 names of 1 KiB each
/// at most.
pub const STORE_TEXT_BYTES: u64 = 8 << 20;

/// How often a request that an object store failed is sent again, and for how long.
pub const STORE_RETRIES: usize = 2;
pub const STORE_RETRY_TIME: Duration = Duration::from_secs(10);

const _: () = assert!(STORE_PART_BYTES >= 5 << 20 && STORE_UPLOAD_BYTES >= STORE_PART_BYTES);

/// Fields of an answer of an HTTP origin. hyper refuses one with more.
pub const ORIGIN_FIELDS: usize = 256;

/// Bytes that are read of an origin's answer at a time at least, and that each connection to it may hold.
pub const ORIGIN_BUFFER_BYTES: usize = 64 << 10;

/// How long a connection to an origin is kept that nobody uses: most servers close theirs after 5 to 75 seconds, and
/// one that is closed meanwhile costs a try.
pub const ORIGIN_KEEP: Duration = Duration::from_secs(60);

/// How long an origin may take to accept what was sent after it has answered; then its connection is closed.
pub const ORIGIN_SETTLE: Duration = Duration::from_secs(1);

/// Before an origin is asked the second time; twice that before the third.
pub const ORIGIN_RETRY_PAUSE: Duration = Duration::from_millis(50);
