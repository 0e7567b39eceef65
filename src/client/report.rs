//! How a command tells what it does: one line for each thing done on standard output, one for each failure on standard
//! error, and bars while bytes move if standard error is a terminal. Whatever comes from elsewhere is shown escaped.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressFinish, ProgressStyle};
use parking_lot::Mutex;

use crate::text;

/// How the work on one file ended well: what its line says, and what the summary counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What was done, in one word: the beginning of the line.
    pub what: &'static str,
    /// The bytes of the file, if they are known.
    pub bytes: Option<u64>,
    /// What else there is to say.
    pub note: Option<String>,
}

impl Done {
    /// Done with a file of this many bytes.
    pub fn with(what: &'static str, bytes: u64) -> Done {
        Done { what, bytes: Some(bytes), note: None }
    }

    fn line(&self, name: &dyn Display) -> String {
        let facts: Vec<String> = self.bytes.map(text::bytes).into_iter().chain(self.note.clone()).collect();
        match facts.is_empty() {
            true => format!("{} {name}", self.what),
            false => format!("{} {name} ({})", self.what, facts.join(", ")),
        }
    }
}

/// How many files came to one end, and their bytes.
struct Count {
    what: &'static str,
    files: u64,
    bytes: Option<u64>,
}

/// Lines and bars of one command; shared by its concurrent transfers.
pub struct Report {
    bars: Option<MultiProgress>,
    has_lines: bool,
    begun: Instant,
    counts: Mutex<Vec<Count>>,
    failures: AtomicUsize,
    is_output_gone: AtomicBool,
    output_error: Mutex<Option<io::Error>>,
}

impl Default for Report {
    fn default() -> Report {
        Report::new()
    }
}

impl Report {
    /// A report to this process' standard output and standard error.
    pub fn new() -> Report {
        Report {
            bars: io::stderr().is_terminal().then(MultiProgress::new),
            has_lines: true,
            begun: Instant::now(),
            counts: Mutex::default(),
            failures: AtomicUsize::new(0),
            is_output_gone: AtomicBool::new(false),
            output_error: Mutex::new(None),
        }
    }

    /// A report that leaves standard output to the files themselves.
    pub fn without_lines() -> Report {
        Report { has_lines: false, ..Report::new() }
    }

    /// The work on a file ended well. When nobody reads standard output any more, the work goes on without lines.
    pub fn done(&self, name: &dyn Display, done: &Done) {
        self.count(done);
        if !self.has_lines || self.is_output_gone.load(Ordering::Relaxed) {
            return;
        }
        let line = text::escape(done.line(name).as_bytes());
        let written = self.aside(|| writeln!(io::stdout().lock(), "{line}"));
        if let Err(error) = written {
            self.is_output_gone.store(true, Ordering::Relaxed);
            if error.kind() != io::ErrorKind::BrokenPipe {
                *self.output_error.lock() = Some(error);
            }
        }
    }

    /// Something failed: the command's exit status will be 1.
    pub fn failure(&self, line: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.note(line);
    }

    fn count(&self, done: &Done) {
        let mut counts = self.counts.lock();
        let at = counts.iter().position(|count| count.what == done.what).unwrap_or(counts.len());
        if at == counts.len() {
            counts.push(Count { what: done.what, files: 0, bytes: None });
        }
        let count = &mut counts[at];
        count.files += 1;
        count.bytes = done.bytes.map(|bytes| count.bytes.unwrap_or(0).saturating_add(bytes)).or(count.bytes);
    }

    /// One line on standard error about all the files: how many, what was done with them, and how long it took.
    pub fn summary(&self) {
        let counts = self.counts.lock();
        let failed = self.failures.load(Ordering::Relaxed) as u64;
        let all = counts.iter().map(|count| count.files).sum::<u64>() + failed;
        let mut parts: Vec<String> = counts
            .iter()
            .map(|count| match count.bytes {
                Some(bytes) => format!("{} {} ({})", count.files, count.what, text::bytes(bytes)),
                None => format!("{} {}", count.files, count.what),
            })
            .collect();
        if failed > 0 {
            parts.push(format!("{failed} failed"));
        }
        let noun = if all == 1 { "file" } else { "files" };
        let colon = if parts.is_empty() { "" } else { ": " };
        let seconds = self.begun.elapsed().as_secs_f64();
        self.note(&format!("{all} {noun}{colon}{}, in {seconds:.1} s", parts.join(", ")));
    }

    /// A line on standard error that is not a failure.
    pub fn note(&self, line: &str) {
        // There is no other place to tell it when standard error is gone.
        let _ = self.aside(|| writeln!(io::stderr().lock(), "forebay: {}", text::escape(line.as_bytes())));
    }

    /// A bar for a transfer of `total` bytes; hidden without a terminal.
    pub fn bar(&self, label: &str, total: Option<u64>) -> ProgressBar {
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{msg:30!} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
            ),
            None => (ProgressBar::no_length(), "{msg:30!} {spinner} {binary_bytes} {binary_bytes_per_sec}"),
        };
        self.show(bar, label, template)
    }

    /// A bar for a number of files; hidden where there is one only.
    pub fn total(&self, files: usize) -> ProgressBar {
        match files {
            0 | 1 => ProgressBar::hidden(),
            _ => self.show(ProgressBar::new(files as u64), "all", "{msg:30!} [{bar:30}] {pos}/{len} files {eta}"),
        }
    }

    fn show(&self, bar: ProgressBar, label: &str, template: &str) -> ProgressBar {
        let Some(bars) = &self.bars else { return ProgressBar::hidden() };
        let style = ProgressStyle::with_template(template).expect("a fixed template").progress_chars("=> ");
        // A transfer that breaks drops its bar; nothing of it stays on the screen.
        let bar =
            bar.with_style(style).with_message(text::escape(label.as_bytes())).with_finish(ProgressFinish::AndClear);
        let bar = bars.add(bar);
        bar.tick();
        bar
    }

    /// How many failures there were; an error when lines could not be written, for example to a full disk.
    pub fn finish(&self) -> io::Result<usize> {
        match self.output_error.lock().take() {
            Some(error) => Err(error),
            None => Ok(self.failures.load(Ordering::Relaxed)),
        }
    }

    fn aside<R>(&self, write: impl FnOnce() -> R) -> R {
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}
