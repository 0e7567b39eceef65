//! What the server says about itself, on standard error.

use tracing_subscriber::filter::LevelFilter;

use crate::config::LogLevel;

/// Sends messages from `level` on to standard error, for the rest of the process. Does nothing if that has been decided before.
pub fn start(level: LogLevel) {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let logger = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_ansi(ansi);
    let _ = logger.with_target(false).try_init();
}
