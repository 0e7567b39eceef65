//! Programs of others that tests run. Where one is not installed its test is skipped, and says so past the capture of
//! tests' output.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Seconds that a program may take.
const PATIENCE: &str = "120";

/// A command that runs this program, ended when it takes too long; `None`, said aloud, where it is not installed.
pub fn tool(name: &str) -> Option<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|dir| dir.join(name).is_file()) {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {name} is not installed");
        return None;
    }
    let mut command = Command::new("timeout");
    command.args([PATIENCE, name]).stdin(Stdio::null());
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env_remove(proxy);
    }
    Some(command)
}

/// Runs it, and fails the test with what it said if it fails.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    output
}

/// A page as it stands in a browser without a screen after `budget_ms` of its virtual time.
pub fn page_in_browser(url: &str, profile: &Path, width: u32, budget_ms: u32) -> Option<String> {
    let mut browser = tool("chromium")?;
    browser
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={width},900"))
        .arg(format!("--virtual-time-budget={budget_ms}"))
        .arg(url);
    Some(String::from_utf8(run(&mut browser).stdout).expect("a page"))
}
