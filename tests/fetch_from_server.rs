//! `forebay fetch` from `forebay serve`: equal bytes, also after the client was killed and the file replaced in
//! between.

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
        let args = [
            "serve",
            root.to_str().unwrap(),
            "--listen",
            &address,
            "--workers",
            "2",
            "--arena",
            "1MiB",
            "--allow-writes",
        ];
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
fn a_whole_tree_is_mirrored_and_only_what_changed_is_fetched_again() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("root"), dir.path().join("out"));
    let odd: &[&[u8]] =
        &[b"a", b"\xff\xfe", b"new\nline", b"per%20cent", b"q?u#e&r;y", b"*star[1]", b"back\\slash", b" sp ", b"-r"];
    for directory in ["", "sub", "sub/d\u{e9}ep er", "sub/*"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
        for (len, name) in odd.iter().enumerate() {
            std::fs::write(root.join(directory).join(OsStr::from_bytes(name)), pattern(len * 1000)).unwrap();
        }
    }
    // A link that leads in a circle is listed as a directory, with the same in it for ever.
    std::os::unix::fs::symlink(".", root.join("sub/circle")).unwrap();
    let server = Served::start(&root, &dir.path().join("socket"));
    let fetch = ["fetch", &server.address, "-r", "/", "-o", out.to_str().unwrap(), "--jobs", "3"];
    let ran = run(&fetch);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!((ran.status, lines.len()), (1, 2), "{}", ran.stderr);
    assert!(lines[0].starts_with("forebay: fetch: sub/circle/: ") && lines[0].contains("in a circle"), "{lines:?}");
    assert!(lines[1].starts_with("forebay: 37 files: 36 fetched (140.62 KiB), 1 failed, in "), "{lines:?}");
    std::fs::remove_file(root.join("sub/circle")).unwrap();
    let same = |directory: &str| {
        for name in odd {
            let name = std::path::Path::new(directory).join(OsStr::from_bytes(name));
            let (here, there) = (out.join(&name), root.join(&name));
            assert_eq!(std::fs::read(&here).unwrap(), std::fs::read(&there).unwrap(), "{name:?}");
            let seconds = |path: &Path| {
                let modified = path.metadata().unwrap().modified().unwrap();
                modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
            };
            assert_eq!(seconds(&here), seconds(&there), "{name:?}");
        }
    };
    ["", "sub", "sub/d\u{e9}ep er", "sub/*"].into_iter().for_each(same);

    std::fs::write(out.join("a"), "touched here").unwrap();
    let changed = dir.path().join("changed");
    std::fs::write(&changed, "changed there").unwrap();
    assert_eq!(run(&["put", &server.address, changed.to_str().unwrap(), "--as", "sub/-r"]).status, 0);
    let ran = run(&fetch);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("36 files: ") && ran.stderr.contains("34 unchanged ("), "{}", ran.stderr);
    assert!(ran.stderr.contains("2 fetched (13 B)"), "{}", ran.stderr);
    ["", "sub"].into_iter().for_each(same);
}

#[test]
fn what_is_deleted_is_gone_if_it_is_what_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    for name in ["a", "b b", "c"] {
        std::fs::write(root.join(name), name).unwrap();
    }
    let server = Served::start(&root, &dir.path().join("socket"));
    let ran = run(&["delete", &server.address, "a", "b b", "missing"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, "deleted a\ndeleted b b\n"));
    assert!(ran.stderr.starts_with("forebay: delete: missing: not found on the server (404)"), "{}", ran.stderr);
    let ran = run(&["delete", &server.address, "c", "--if-match", "\"other\""]);
    assert_eq!((ran.status, names(&root)), (1, vec!["c".to_owned()]), "{}", ran.stderr);
    assert!(ran.stderr.contains("412 Precondition Failed"), "{}", ran.stderr);
    let ran = run(&["delete", &server.address, "c", "--if-match", "*"]);
    assert_eq!((ran.status, names(&root)), (0, vec![]), "{}", ran.stderr);
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

    std::fs::remove_file(out.join("f")).unwrap();
    begin_and_kill();
    let replacement: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
    std::fs::write(root.join("new"), &replacement).unwrap();
    std::fs::rename(root.join("new"), root.join("f")).unwrap();
    let ran = run(&fetch);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "fetched f (16.00 MiB)\n"));
    assert!(std::fs::read(out.join("f")).unwrap() == replacement);
    assert_eq!(names(&out), ["f"]);
}
