use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::*;
use crate::limits::ACCESS_LOG_CALM;
use crate::metrics::counter::Read;

fn asked(target: &[u8]) -> Asked<'_> {
    let request = Request { method: "GET", target, protocol: "HTTP/1.1", referer: None, user_agent: None };
    Asked { peer: Peer::Unix, request: Some(request) }
}

/// A log that is written to a path, and what it counts.
struct Log {
    log: AccessLog,
    metrics: Arc<SharedMetrics>,
}

impl Log {
    fn open(path: &Path) -> Log {
        let metrics = Arc::<SharedMetrics>::default();
        let target = AccessLogTarget::File(path.to_owned());
        let log = AccessLog::open(target, AccessLogFormat::Combined, metrics.clone()).expect("the log can be opened");
        Log { log, metrics }
    }

    fn record(&self, target: &[u8]) {
        let mut record = self.log.begin(monotonic(), || asked(target));
        record.answered(200, Some(CacheStatus::Hit));
        record.sent(10);
        record.end(monotonic());
    }

    fn written(&self) -> u64 {
        self.metrics.access_log_lines.get()
    }

    fn dropped(&self) -> u64 {
        self.metrics.access_log_dropped.get()
    }

    fn held(&self) -> usize {
        self.log.0.as_ref().expect("it is on").queue.held.load(Ordering::Relaxed)
    }

    fn finish(&self) {
        self.log.finish(Instant::now() + Duration::from_secs(60));
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        thread::yield_now();
    }
}

fn make_pipe(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .expect("a pipe can be made");
}

#[test]
fn all_lines_reach_the_file_also_across_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
    let log = Log::open(&path);
    log.record(b"/before");
    fs::rename(&path, &moved).unwrap();
    log.log.reopen();
    until("the log is opened again", || path.exists());
    log.record(b"/after");
    log.finish();
    assert!(fs::read_to_string(&moved).unwrap().contains("/before"));
    assert!(fs::read_to_string(&path).unwrap().contains("/after"));
    assert_eq!((log.written(), log.dropped()), (2, 0));
    log.record(b"/late");
    assert_eq!((log.dropped(), log.held()), (1, 0));
}

#[test]
fn a_full_disk_costs_lines_not_requests() {
    let log = Log::open(Path::new("/dev/full"));
    let count = ACCESS_LOG_QUEUE as u64 * 2;
    for _ in 0..count {
        log.record(b"/");
    }
    log.finish();
    assert_eq!((log.written(), log.dropped(), log.held()), (0, count, 0));
}

#[test]
fn a_line_says_whether_the_response_was_aborted_and_what_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = AccessLog::open(AccessLogTarget::File(path.clone()), AccessLogFormat::Json, Arc::default()).unwrap();
    let mut whole = log.begin(1_000_000_000, || asked(b"/whole"));
    let mut aborted = log.begin(monotonic(), || asked(b"/aborted"));
    let unanswered = log.begin(monotonic(), || asked(b"/unanswered"));
    whole.answered(200, Some(CacheStatus::Hit));
    whole.sent(3);
    whole.sent(4);
    whole.end(3_500_000_000);
    aborted.answered(206, None);
    aborted.sent(5);
    drop(aborted);
    drop(unanswered);
    log.finish(Instant::now() + Duration::from_secs(60));
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("target"), ["/whole", "/aborted", "/unanswered"]);
    assert_eq!(of("status"), [200, 206, 499]);
    assert_eq!(of("bytes"), [7, 5, 0]);
    assert_eq!(of("aborted"), [false, true, true]);
    assert_eq!(lines[0]["seconds"], 2.5);
}

#[test]
fn a_log_that_is_off_asks_nothing_of_a_request() {
    let log = AccessLog::off();
    let mut record = log.begin(0, || unreachable!("nobody wants to know"));
    record.answered(200, None);
    record.sent(1);
    assert!(record.0.is_none());
    record.end(1);
}

#[test]
fn a_reader_that_takes_nothing_costs_lines_beyond_a_bound_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    make_pipe(&path);
    // It opens the pipe, and reads when the test says so.
    let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let log = Log::open(&path);
    let long = [b'x'; 12 << 10];
    let count = 5000;
    for _ in 0..count {
        log.record(&long);
        assert!(log.held() <= ACCESS_LOG_BYTES);
    }
    assert!(log.dropped() > count / 2, "{} of {count} long lines dropped", log.dropped());
    let begun = Instant::now();
    log.log.finish(begun + Duration::from_secs(2));
    assert!(begun.elapsed() < Duration::from_secs(30), "it does not wait for the reader for ever");
    assert_eq!((log.written() + log.dropped(), log.held()), (count, 0));
    let mut text = Vec::new();
    drop(log);
    let _ = reader.read_to_end(&mut text);
    assert!(text.len() <= 64 << 10, "what the pipe holds");
}

#[test]
fn a_pipe_that_nobody_reads_yet_keeps_the_first_lines_for_its_reader() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    make_pipe(&path);
    let log = Log::open(&path);
    log.record(b"/first");
    until("the line is written", || log.written() == 1);
    let mut lines = BufReader::new(File::open(&path).unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("/first"));
    log.record(b"/second");
    assert!(lines.next().unwrap().unwrap().contains("/second"));
    // Its reader goes, and another comes.
    drop(lines);
    log.record(b"/third");
    let mut lines = BufReader::new(File::open(&path).unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("/third"));
    assert_eq!(log.dropped(), 0);
}

#[test]
fn a_file_that_was_deleted_is_made_again_and_one_that_cannot_be_costs_lines() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    let path = folder.join("log");
    fs::create_dir(&folder).unwrap();
    let log = Log::open(&path);
    log.record(b"/1");
    until("the first line is written", || log.written() == 1);
    fs::remove_file(&path).unwrap();
    log.record(b"/2");
    until("the second line is written", || log.written() == 2);
    assert!(fs::read_to_string(&path).unwrap().contains("/2"));
    fs::remove_dir_all(&folder).unwrap();
    log.record(b"/3");
    until("the third line is lost", || log.dropped() == 1);
    fs::create_dir(&folder).unwrap();
    log.record(b"/4");
    until("the fourth line is written", || log.written() == 3);
    assert!(fs::read_to_string(&path).unwrap().contains("/4"));
}

#[test]
fn a_line_that_was_torn_is_finished_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    make_pipe(&path);
    let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let log = Log::open(&path);
    // One line that the pipe does not take whole.
    log.record(&[b'x'; 100 << 10]);
    let mut text = Vec::new();
    let mut read = |text: &mut Vec<u8>| {
        let mut chunk = [0; 4096];
        if let Ok(len) = reader.read(&mut chunk) {
            text.extend_from_slice(&chunk[..len]);
        }
    };
    until("the line is begun", || {
        read(&mut text);
        !text.is_empty()
    });
    // The writer gives the rest up for now, and the log is the same one still.
    log.log.reopen();
    until("the flag is seen", || !log.log.0.as_ref().unwrap().queue.reopens.load(Ordering::Relaxed));
    log.record(b"/next");
    until("both lines are written", || {
        read(&mut text);
        log.written() == 2
    });
    log.finish();
    while text.iter().filter(|&&byte| byte == b'\n').count() < 2 {
        read(&mut text);
    }
    let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].ends_with(b"\" 200 10 \"-\" \"-\"") && lines[1].starts_with(b"unix: "), "no line is torn");
    assert_eq!(log.dropped(), 0);
}

#[test]
fn a_flag_that_is_set_while_lines_are_taken_is_not_slept_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    make_pipe(&path);
    let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let target = AccessLogTarget::File(path);
    let sink = Sink::open(&target).unwrap();
    let (queue, messages) = Queue::new(Arc::default());
    let mut writer = Writer::new(queue.clone(), target, AccessLogFormat::Combined, sink);
    assert_eq!(writer.patience(), ACCESS_LOG_CALM);
    // One line that the pipe does not take whole: the turn is in the midst of its messages until it is read.
    let pending = Queue::begin(&queue, 0, &asked(&[b'x'; 100 << 10])).expect("there is room for it");
    pending.send(0, false);
    let messages = thread::scope(|scope| {
        let writer = &mut writer;
        let turn = scope.spawn(move || (writer.turn(&messages), messages));
        let mut chunk = [0; 4096];
        until("the line is begun", || reader.read(&mut chunk).is_ok_and(|len| len > 0));
        queue.ends.set(Instant::now() + Duration::from_secs(60)).expect("it is set once");
        queue.wake_writer();
        until("the line is written", || {
            let _ = reader.read(&mut chunk);
            turn.is_finished()
        });
        let (flow, messages) = turn.join().expect("it does not panic");
        assert!(flow.is_continue(), "it had looked at the flag before");
        messages
    });
    assert_eq!(writer.patience(), Duration::ZERO, "the message that tells of the flag was taken with the line");
    assert!(writer.turn(&messages).is_break());
    assert_eq!((queue.metrics.access_log_lines.get(), queue.metrics.access_log_dropped.get()), (1, 0));
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [dir.path(), &socket, &dir.path().join("missing/log")] {
        let target = AccessLogTarget::File(path.to_owned());
        assert!(AccessLog::open(target, AccessLogFormat::Combined, Arc::default()).is_err(), "{}", path.display());
    }
    let mut file = File::create(dir.path().join("log")).unwrap();
    file.write_all(b"earlier\n").unwrap();
    let log = Log::open(&dir.path().join("log"));
    log.record(b"/later");
    log.finish();
    let text = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(text.starts_with("earlier\nunix:"), "it is appended to");
}
