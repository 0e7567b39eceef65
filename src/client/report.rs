//! How a command tells what it does: one line for each thing done on standard output, one for each failure on standard error, and bars
//! while bytes move if standard error is a terminal. Whatever comes from elsewhere is shown escaped.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use indicatif::{MultiProgress, ProgressBar, ProgressFinish, ProgressStyle};
use parking_lot::Mutex;

use crate::text;

/// Lines and bars of one command; shared by its concurrent transfers.
pub struct Report {
    bars: Option<MultiProgress>,
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
            failures: AtomicUsize::new(0),
            is_output_gone: AtomicBool::new(false),
            output_error: Mutex::new(None),
        }
    }

    /// Something was done. When nobody reads standard output any more, the work goes on without lines.
    pub fn line(&self, line: &str) {
        let line = text::escape(line.as_bytes());
        if self.is_output_gone.load(Ordering::Relaxed) {
            return;
        }
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

    /// A line on standard error that is not a failure.
    pub fn note(&self, line: &str) {
        // There is no other place to tell it when standard error is gone.
        let _ = self.aside(|| writeln!(io::stderr().lock(), "forebay: {}", text::escape(line.as_bytes())));
    }

    /// A bar for a transfer of `total` bytes; hidden without a terminal.
    pub fn bar(&self, label: &str, total: Option<u64>) -> ProgressBar {
        let Some(bars) = &self.bars else { return ProgressBar::hidden() };
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{msg:30!} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
            ),
            None => (ProgressBar::no_length(), "{msg:30!} {spinner} {binary_bytes} {binary_bytes_per_sec}"),
        };
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
