//! Under systemd: sockets passed on, readiness told, and the files in deploy/.

mod support;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::{Client, PATIENCE};

/// A server that was passed a socket as systemd does it; killed when dropped.
struct Activated(Child);

impl Activated {
    fn start(root: &Path, socket: OwnedFd, notify: &Path, args: &str) -> Activated {
        // The socket comes as standard input and is made descriptor 3, and the shell becomes the server, with its
        // process id.
        let script = format!("LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve \"$1\" {args} 3<&0 </dev/null");
        let child = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_forebay")])
            .arg(root)
            .env("NOTIFY_SOCKET", notify)
            .stdin(Stdio::from(socket))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Activated(child)
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_passed_socket_is_served_and_readiness_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), "hello").unwrap();
    let notified = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut text = [0; 100];
        let length = notified.recv(&mut text).expect("the server tells its state");
        String::from_utf8_lossy(&text[..length]).trim().to_owned()
    };

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    // A connection that was there before the server.
    let mut early = Client::to(address);
    let server = Activated::start(&root, listener.into(), &dir.path().join("notify"), "--workers 2");
    assert_eq!(told(), "READY=1");
    assert_eq!(early.ask("GET /a", b"").expect(200).text(), "hello");
    for _ in 0..20 {
        assert_eq!(Client::to(address).ask("GET /a", b"").expect(200).text(), "hello");
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&server.0), rustix::process::Signal::TERM).unwrap();
    assert_eq!(told(), "STOPPING=1");
    drop(server);

    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let _server = Activated::start(&root, listener.into(), &dir.path().join("notify"), "");
    assert_eq!(told(), "READY=1");
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
}

#[test]
fn a_passed_socket_that_anybody_could_write_through_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (socket, expected) in [
        (OwnedFd::from(TcpListener::bind("0.0.0.0:0").unwrap()), "needs --token-file"),
        (OwnedFd::from(UnixDatagram::unbound().unwrap()), "ListenStream="),
    ] {
        let mut server = Activated::start(dir.path(), socket, &dir.path().join("none"), "--allow-writes");
        let mut said = String::new();
        std::io::Read::read_to_string(&mut server.0.stderr.take().unwrap(), &mut said).unwrap();
        assert_eq!(server.0.wait().unwrap().code(), Some(1));
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn the_seccomp_profile_permits_io_uring_and_denies_the_rest() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/seccomp.json")).unwrap();
    let profile: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let allowed: Vec<&str> = profile["syscalls"]
        .as_array()
        .unwrap()
        .iter()
        .inspect(|group| assert_eq!(group["action"], "SCMP_ACT_ALLOW"))
        .flat_map(|group| group["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()))
        .collect();
    for needed in [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "openat2",
        "memfd_create",
        "sendfile",
        "linkat",
        "cachestat",
        "fadvise64",
        "setpriority",
    ] {
        assert!(allowed.contains(&needed), "{needed}");
    }
    for never in ["mount", "ptrace", "bpf", "setns", "unshare", "init_module", "keyctl", "chroot"] {
        assert!(!allowed.contains(&never), "{never}");
    }
}

#[test]
fn the_units_are_sound() {
    let Ok(found) = Command::new("systemd-analyze").arg("--version").output() else {
        eprintln!("SKIPPED: systemd-analyze is not installed");
        return;
    };
    assert!(found.status.success());
    let dir = tempfile::tempdir().unwrap();
    for unit in ["forebay.service", "forebay.socket"] {
        let text = fs::read_to_string(format!("{}/deploy/{unit}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        // The program is where the unit says only once it is installed.
        let text = text.replace("ExecStart=forebay", concat!("ExecStart=", env!("CARGO_BIN_EXE_forebay")));
        fs::write(dir.path().join(unit), text).unwrap();
    }
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(["forebay.service", "forebay.socket"].map(|unit| dir.path().join(unit)))
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !complaints.contains("forebay"), "{complaints}");
}
