//! Uploads to a file system that is full, out of inodes or read-only: a clear answer, and nothing left behind.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Response, Server};

/// A server whose root is a tmpfs of its own, mounted with these options in a namespace of its own. `None`: this
/// process may not mount, which is said.
fn serve(mountpoint: &Path, options: &str) -> Option<Server> {
    let unshare = |then: &str| {
        let script = format!("mount -t tmpfs -o \"$1\" tmpfs \"$2\" && {then}");
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh", options]).arg(mountpoint);
        command
    };
    if !unshare("true").status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no file system can be mounted here (unshare --map-root-user --mount)");
        return None;
    }
    let mut command = unshare("shift 2 && exec \"$@\"");
    command.arg(env!("CARGO_BIN_EXE_forebay")).arg("serve").arg(mountpoint);
    command.args(["--listen", "127.0.0.1:0", "--allow-writes"]);
    Some(Server::spawn(command, 1))
}

fn put(server: &Server, target: &str, body: &[u8]) -> Response {
    let mut client = server.connect();
    client.send(format!("PUT {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len()));
    // The answer may come before all of it is taken.
    let _ = client.try_send(body);
    client.response("PUT")
}

/// What lies in the root, as the server sees it.
fn tree(server: &Server, mountpoint: &Path) -> Vec<PathBuf> {
    let root = PathBuf::from(format!("/proc/{}/root{}", server.pid(), mountpoint.display()));
    let mut found = Vec::new();
    let mut pending = vec![root.clone()];
    while let Some(place) = pending.pop() {
        for entry in std::fs::read_dir(&place).expect("the server's root is to be seen") {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path.clone());
            }
            found.push(path.strip_prefix(&root).unwrap().to_owned());
        }
    }
    found.sort();
    found
}

#[test]
fn a_full_disk_costs_the_upload_only() {
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = serve(dir.path(), "size=1m,nr_inodes=24") else { return };
    assert_eq!(put(&server, "/before", b"1").status, 201);
    for target in ["/big", "/new/deep/big", "/before"] {
        let refused = put(&server, target, &support::bytes(1, 4 << 20));
        assert_eq!(refused.status, 507, "{target}: {}", refused.text());
        assert!(refused.text().contains("space"), "{}", refused.text());
        assert_eq!(tree(&server, dir.path()), [Path::new("before")], "{target}");
    }
    // There is room for the file, and none for all its directories.
    let deep = format!("/{}/x", vec!["d"; 60].join("/"));
    let refused = put(&server, &deep, b"x");
    assert_eq!((refused.status, tree(&server, dir.path())), (507, vec![PathBuf::from("before")]));
    assert_eq!(put(&server, "/small", &support::bytes(2, 100_000)).status, 201);
    assert_eq!(server.get("/before").text(), "1");
}

#[test]
fn a_read_only_root_is_said_to_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = serve(dir.path(), "size=1m,ro") else { return };
    let refused = put(&server, "/a", b"x");
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("Read-only"), "{}", refused.text());
    assert!(tree(&server, dir.path()).is_empty());
}
