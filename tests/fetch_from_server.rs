//! `forebay fetch` from `forebay serve`: equal bytes, also after the client was killed and the file replaced in between.

mod support;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use support::upstream::{forebay, names, pattern, run};

/// A server on a Unix socket; killed when dropped.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn start(root: &Path, socket: &Path) -> Served {
        let address = format!("unix:{}", socket.display());
        let args = ["serve", root.to_str().unwrap(), "--listen", &address, "--workers", "2", "--arena", "1MiB"];
        let mut child = forebay(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the server to listen", || {
            assert_eq!(child.try_wait().unwrap(), None, "the server ended");
            std::os::unix::net::UnixStream::connect(socket).is_ok()
        });
        Served { child, address }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_tree_arrives_equal() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("root"), dir.path().join("out"));
    std::fs::create_dir_all(root.join("deep/er dir")).unwrap();
    let files: Vec<(String, Vec<u8>)> = [0, 1, 4095, 4096, 70_000, 1 << 20, 3_000_000]
        .into_iter()
        .flat_map(|len| [format!("{len}"), format!("deep/er dir/{len} %41+&.bin")].map(|name| (name, pattern(len))))
        .collect();
    for (name, bytes) in &files {
        std::fs::write(root.join(name), bytes).unwrap();
    }
    let server = Served::start(&root, &dir.path().join("socket"));
    let mut args = vec!["fetch", &server.address, "--output", out.to_str().unwrap(), "--jobs", "3", "missing"];
    args.extend(files.iter().map(|(name, _)| name.as_str()));
    for _cold_and_warm in 0..2 {
        let ran = run(&args);
        assert_eq!((ran.status, ran.stderr.lines().count()), (1, 1), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("forebay: fetch: missing: not found on the server (404)"), "{}", ran.stderr);
        for (name, bytes) in &files {
            assert!(std::fs::read(out.join(name)).unwrap() == *bytes, "{name}");
        }
    }
    assert_eq!(names(&out), names(&root), "nothing else is left there");
}

#[test]
fn a_killed_transfer_is_resumed_unless_the_file_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("root"), dir.path().join("out"));
    std::fs::create_dir(&root).unwrap();
    let bytes = pattern(16 << 20);
    std::fs::write(root.join("f"), &bytes).unwrap();
    let server = Served::start(&root, &dir.path().join("socket"));
    let fetch = ["fetch", &server.address, "f", "--output", out.to_str().unwrap()];
    let begin_and_kill = || {
        let mut child = forebay(&fetch).stdout(Stdio::null()).spawn().unwrap();
        let part = out.join(".f.forebay-part");
        until("some bytes", || part.metadata().is_ok_and(|part| part.len() > 0) || child.try_wait().unwrap().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        // On the fastest of machines it was done already.
        part.exists()
    };

    let is_partial = begin_and_kill();
    let ran = run(&fetch);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout.contains("resumed at"), is_partial, "{}", ran.stdout);
    assert!(std::fs::read(out.join("f")).unwrap() == bytes);

    begin_and_kill();
    let replacement: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
    std::fs::write(root.join("new"), &replacement).unwrap();
    std::fs::rename(root.join("new"), root.join("f")).unwrap();
    let ran = run(&fetch);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "fetched f (16.00 MiB)\n"));
    assert!(std::fs::read(out.join("f")).unwrap() == replacement);
    assert_eq!(names(&out), ["f"]);
}
