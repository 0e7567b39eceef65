//! What the server says about itself, on standard error.

use std::io::{self, Write};

use tracing_subscriber::filter::LevelFilter;

use crate::config::LogLevel;
use crate::text;

/// Sends messages from `level` on to standard error, for the rest of the process. Does nothing if that has been decided
/// before.
pub fn start(level: LogLevel) {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let logger = tracing_subscriber::fmt().with_max_level(level).with_writer(|| Escaped(io::stderr()));
    let _ = logger.with_target(false).try_init();
}

/// Lines with everything escaped that a terminal may obey, and that could make one message look like two. Messages come
/// whole, in one write each.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let text = message.strip_suffix(b"\n").unwrap_or(message);
        self.0.write_all(format!("{}\n", text::escape(text)).as_bytes())?;
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_that_controls_no_terminal() {
        let mut out = Escaped(Vec::new());
        out.write_all("WARN a\u{9b}31m\nforged \u{1b}[2J\u{202e}\n".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out.0).unwrap(), "WARN a\\u{9b}31m\\nforged \\u{1b}[2J\\u{202e}\n");
    }
}
