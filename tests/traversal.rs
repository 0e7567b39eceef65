//! Nothing outside the root is served, whatever the name, and nothing but regular files: no pipe, socket or device is
//! ever waited for.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use support::{Client, Server, target};

const SECRET: &str = "what lies outside";

/// The status and text of a response that must not be a file.
#[track_caller]
fn refused(server: &Server, target: &str) -> u16 {
    let mut client = server.connect();
    let response = client.get(target);
    assert!(!response.text().contains(SECRET), "{target} leads out");
    assert!(matches!(response.status, 400 | 403 | 404), "{target}: {} {}", response.status, response.text());
    assert_eq!(response.field("content-type"), Some("text/plain; charset=utf-8"), "{target}");
    assert!(!response.body.is_empty(), "{target}: it is said what was wrong");
    response.status
}

fn make(outside: &Path) -> std::path::PathBuf {
    std::fs::write(outside.join("secret"), SECRET).unwrap();
    let root = outside.join("root");
    std::fs::create_dir_all(root.join("sub/deep")).unwrap();
    std::fs::write(root.join("file"), "inside").unwrap();
    root
}

#[test]
fn no_path_leads_out() {
    let outside = tempfile::tempdir().unwrap();
    let root = make(outside.path());
    let server = Server::start(&root, &[]);
    for path in [
        "/../secret",
        "/sub/../../secret",
        "/sub/deep/../../../secret",
        "/./../secret",
        "//../secret",
        "/%2e%2e/secret",
        "/%2E%2E/secret",
        "/.%2e/secret",
        "/%2e./secret",
        "/..%2fsecret",
        "/%2e%2e%2fsecret",
        "/sub/..%2f..%2fsecret",
        "/sub%2f..%2f../secret",
        "http://test/../secret",
        "http://test/%2e%2e/secret",
    ] {
        assert_eq!(refused(&server, path), 400, "{path}");
    }
    // Nothing is decoded twice, and a backslash is a letter.
    for path in
        ["/%252e%252e/secret", "/..%255csecret", "/..\\secret", "/%c0%ae%c0%ae/secret", "/..;/secret", "/.../secret"]
    {
        assert_eq!(refused(&server, path), 404, "{path}");
    }
    for path in ["/file%00", "/%00", "/file%00.txt", "/sub%00/../file", "/%", "/%4", "/%zz", "/file%"] {
        assert_eq!(refused(&server, path), 400, "{path}");
    }
    let secret = outside.path().join("secret");
    assert_eq!(refused(&server, &format!("/{}", secret.display())), 404);
    assert_eq!(refused(&server, &format!("http://test{}", secret.display())), 404);
    assert_eq!(refused(&server, "/etc/passwd"), 404);
    // What stays inside is served.
    for path in [
        "/sub/../file",
        "/sub/deep/../../file",
        "/./file",
        "//file",
        "/%66ile",
        "http://elsewhere/file",
        "/file?../../secret",
    ] {
        assert_eq!(server.get(path).text(), "inside", "{path}");
    }
}

#[test]
fn no_link_leads_out() {
    let outside = tempfile::tempdir().unwrap();
    let root = make(outside.path());
    let secret = outside.path().join("secret");
    symlink(&secret, root.join("absolute")).unwrap();
    symlink("../secret", root.join("relative")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("/", root.join("slash")).unwrap();
    symlink(root.join("file"), root.join("absolute-inside")).unwrap();
    symlink("../../../secret", root.join("sub/deep/out")).unwrap();
    symlink("relative", root.join("twice")).unwrap();
    symlink("round", root.join("round")).unwrap();
    symlink("nowhere", root.join("broken")).unwrap();
    symlink(format!("/proc/self/root{}", secret.display()), root.join("magic")).unwrap();
    symlink("../../file", root.join("sub/deep/within")).unwrap();
    symlink("sub/deep", root.join("short")).unwrap();
    let server = Server::start(&root, &["--revalidate", "0s"]);
    let slash = format!("/slash{}", secret.display());
    for _ in 0..2 {
        for path in [
            "/absolute",
            "/relative",
            "/up/secret",
            "/up/root/file",
            &slash,
            "/absolute-inside",
            "/sub/deep/out",
            "/twice",
            "/round",
            "/broken",
            "/magic",
            "/short/out",
            "/file/",
            "/file/x",
            "/absolute/x",
        ] {
            if path == "/file/" {
                continue; // a directory's name: the control plane's
            }
            assert_eq!(refused(&server, path), 404, "{path}");
        }
        for path in ["/sub/deep/within", "/short/within"] {
            assert_eq!(server.get(path).text(), "inside", "{path}");
        }
    }
}

/// Someone moves directories about while names are resolved in them.
#[test]
fn no_race_leads_out() {
    let outside = tempfile::tempdir().unwrap();
    let root = make(outside.path());
    std::fs::create_dir(outside.path().join("elsewhere")).unwrap();
    std::fs::create_dir(root.join("a")).unwrap();
    std::fs::write(root.join("a/file"), "inside").unwrap();
    symlink("..", root.join("link")).unwrap();
    let server = Server::start(&root, &["--revalidate", "0s", "--workers", "2"]);
    let mut client = server.connect();
    for round in 0..300 {
        let (from, to) = (root.join("a"), outside.path().join("elsewhere/a"));
        match round % 2 {
            0 => std::fs::rename(&from, &to).unwrap(),
            _ => std::fs::rename(&to, &from).unwrap(),
        }
        // Links and real directories take turns under one name.
        let turning = root.join("turning");
        match round % 2 {
            0 => symlink("..", &turning).unwrap(),
            _ => std::fs::remove_file(&turning).unwrap(),
        }
        for path in ["/a/file", "/turning/secret", "/link/secret"] {
            let response = client.get(path);
            assert!(!response.text().contains(SECRET), "{path} led out");
            assert!(matches!(response.status, 200 | 404), "{path}: {}", response.status);
        }
    }
}

#[test]
fn only_regular_files_are_served() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let outside = tempfile::tempdir().unwrap();
    let root = make(outside.path());
    rustix::fs::mkfifoat(CWD, root.join("pipe"), Mode::RWXU).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    symlink("pipe", root.join("to-pipe")).unwrap();
    let has_device =
        mknodat(CWD, root.join("device"), FileType::CharacterDevice, Mode::RWXU, rustix::fs::makedev(1, 5)).is_ok();
    let server = Server::start(&root, &["--workers", "1"]);
    for _ in 0..3 {
        for name in ["pipe", "socket", "to-pipe"] {
            assert_eq!(refused(&server, &target(name)), 403, "{name}");
        }
        if has_device {
            assert_eq!(refused(&server, "/device"), 403);
        }
        assert_eq!(server.get("/file").text(), "inside", "nothing hangs");
    }
    let descriptors = server.descriptors();
    for _ in 0..50 {
        refused(&server, "/pipe");
    }
    support::until("all descriptors are closed", || server.descriptors() <= descriptors);
}

/// Roots that hold nothing but traps.
#[test]
fn devices_and_processes_as_roots() {
    let server = Server::start(Path::new("/dev"), &["--workers", "1"]);
    for name in ["zero", "null", "full", "random", "tty", "ptmx"] {
        if Path::new("/dev").join(name).exists() {
            refused(&server, &target(name));
        }
    }
    let server = Server::start(Path::new("/proc"), &["--workers", "1"]);
    for name in
        ["self/root/etc/passwd", "self/cwd/Cargo.toml", "self/exe", "self/fd/0", "self/fd/2", "1/root/etc/passwd"]
    {
        refused(&server, &target(name));
    }
}

#[test]
fn files_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let outside = tempfile::tempdir().unwrap();
    let root = make(outside.path());
    std::fs::set_permissions(root.join("file"), std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(root.join("file")).is_ok() {
        return; // root may read everything
    }
    let server = Server::start(&root, &[]);
    assert_eq!(refused(&server, "/file"), 403);
}

#[test]
fn names_of_any_length_are_answered() {
    let outside = tempfile::tempdir().unwrap();
    let root = make(outside.path());
    let server = Server::start(&root, &[]);
    let mut client: Client = server.connect();
    for (len, status) in [(255, 404), (256, 404), (4000, 404), (4095, 404), (4096, 414), (9000, 414)] {
        let response = client.get(&format!("/{}", "x".repeat(len)));
        assert_eq!(response.status, status, "{len}");
    }
    let deep = "/x".repeat(2047);
    assert_eq!(client.get(&deep).status, 404);
    assert_eq!(client.get("/file").text(), "inside", "the connection is still in step");
}

#[test]
fn hidden_names_are_not_served_listed_or_written() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for name in [".git/config", "sub/.env", ".well-known/acme", "sub/file", ".forebay/own", "x"] {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), "text").unwrap();
    }
    symlink(".", root.join("link")).unwrap();
    let put = |server: &Server, target: &str| {
        let mut client = server.connect();
        client.send(format!("PUT {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\ny"));
        client.response("PUT").status
    };
    let plain = Server::start(root, &["--allow-writes"]);
    let hidden = Server::start(root, &["--allow-writes", "--hidden"]);
    for target in
        ["/.git/config", "/.git/", "/.git", "/sub/.env", "/sub/%2eenv", "/x/../.git/config", "/link/.git/config"]
    {
        for method in ["GET", "HEAD"] {
            assert_eq!(plain.connect().request(method, target, &[]).status, 404, "{method} {target}");
            let status = hidden.connect().request("HEAD", target, &[]).status;
            assert!(matches!(status, 200 | 301), "{target}: {status}");
        }
    }
    assert_eq!((put(&plain, "/sub/.new"), put(&plain, "/.new/a"), put(&hidden, "/sub/.new")), (403, 403, 201));
    for server in [&plain, &hidden] {
        for target in ["/link/.forebay/own", "/link/link/.forebay/own", "/link/.forebay/", "/sub/.forebay/own"] {
            assert_eq!(server.get(target).status, 404, "{target}");
            assert_eq!(put(server, target.trim_end_matches('/')), 403, "{target}");
        }
        assert_eq!(server.get("/.well-known/acme").status, 200);
        assert_eq!(put(server, "/.well-known/new"), if server.pid() == plain.pid() { 201 } else { 204 });
    }
    let listing = |server: &Server, target: &str| {
        let mut client = server.connect();
        client
            .send(format!("GET {target} HTTP/1.1\r\nHost: t\r\nAccept: application/json\r\nConnection: close\r\n\r\n"));
        String::from_utf8_lossy(&client.rest()).into_owned()
    };
    let (shown, all) = (listing(&plain, "/"), listing(&hidden, "/"));
    assert!(shown.contains(".well-known") && !shown.contains(".git") && !shown.contains(".forebay\""), "{shown}");
    assert!(all.contains(".git") && !all.contains(".forebay\""), "{all}");
    assert!(!listing(&plain, "/sub/").contains(".env"));
}

#[test]
fn links_are_followed_as_far_as_the_option_says() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), "in").unwrap();
    fs::write(dir.path().join("outside"), "out").unwrap();
    symlink("file", root.join("within")).unwrap();
    symlink(dir.path().join("outside"), root.join("beyond")).unwrap();
    for (option, within, beyond) in [("follow", 200, 200), ("same-root", 200, 404), ("none", 404, 404)] {
        let server = Server::start(&root, &["--symlinks", option]);
        for method in ["GET", "HEAD", "GET"] {
            let status = |target| server.connect().request(method, target, &[]).status;
            assert_eq!((status("/file"), status("/within"), status("/beyond")), (200, within, beyond), "{option}");
        }
    }
    // The default.
    let server = Server::start(&root, &[]);
    assert_eq!((server.get("/within").status, server.get("/beyond").status), (200, 404));
}
