//! Where io_uring is forbidden, one line says by what, and what to do: by a seccomp filter, or for want of memory that
//! may be locked. The third way, the sysctl, belongs to the whole machine: `.ci/kernels` tries it in an emulated one.

mod support;

use std::process::{Command, Output};
use support::Server;

/// Denies a system call to the program that follows, with EPERM: FILTER NUMBER PROGRAM…
const FILTER: &str = r#"
import ctypes, os, struct, sys
number = int(sys.argv[1])
code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
program = b"".join(struct.pack("HBBI", *one) for one in code)
memory = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
filter = Filter(len(code), ctypes.addressof(memory))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(filter), 0, 0):
    sys.exit(99)
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// What the server says when io_uring_setup (425 on every architecture) is denied; `None` where that cannot be done.
fn filtered(args: &[&str]) -> Option<Output> {
    let mut command = Command::new("python3");
    command.args(["-c", FILTER, "425", env!("CARGO_BIN_EXE_forebay")]).args(args);
    let output = command.output().ok().filter(|output| output.status.code() != Some(99));
    if output.is_none() {
        eprintln!("SKIPPED: no system call can be denied here (python3, seccomp)");
    }
    output
}

#[test]
fn a_seccomp_filter_is_named_with_the_remedy() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().to_str().unwrap();
    let Some(output) = filtered(&["serve", root, "--listen", "127.0.0.1:0"]) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("seccomp") && said.contains("io_uring_setup"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

/// What needs no ring works all the same.
#[test]
fn the_client_needs_no_io_uring() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a"), "of a server").unwrap();
    let server = Server::start(root.path(), &[]);
    let address = server.address().to_string();
    let Some(output) = filtered(&["fetch", &address, "a", "--output", "-"]) else { return };
    assert_eq!(output.stdout, b"of a server", "{}", String::from_utf8_lossy(&output.stderr));
}

/// Without locked memory a server either serves, as on kernels that do not count a ring as such, or says what is too
/// little.
#[test]
fn a_limit_on_locked_memory_is_no_riddle() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a"), "served").unwrap();
    std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new("sh");
    // Root may lock as much as it likes.
    let drop = match rustix::process::getuid().is_root() {
        true => "setpriv --reuid 65534 --clear-groups --inh-caps=-all --bounding-set=-all",
        false => "",
    };
    let script = format!("ulimit -l 0 && exec {drop} \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_forebay"), "serve"]).arg(root.path());
    let serves = |command: &mut Command| {
        command.args(["--listen", "127.0.0.1:0", "--workers", "1", "--arena", "4MiB"]);
        command.stderr(std::process::Stdio::piped()).spawn()
    };
    let Ok(mut child) = serves(&mut command) else { return eprintln!("SKIPPED: no shell") };
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    let (mut line, mut all) = (String::new(), String::new());
    while std::io::BufRead::read_line(&mut said, &mut line).unwrap() > 0 && !line.contains(" on 127.0.0.1:") {
        all.push_str(&line);
        line.clear();
    }
    if let Some((_, address)) = line.trim_end().rsplit_once(" on ") {
        let address = address.trim_start_matches("http://").parse().unwrap();
        assert_eq!(support::Client::to(address).get("/a").expect(200).text(), "served");
        child.kill().unwrap();
        child.wait().unwrap();
    } else if all.contains("setpriv") || all.contains("Permission denied") {
        eprintln!("SKIPPED: no other user can be had here: {all}");
        child.wait().unwrap();
    } else {
        assert!(!child.wait().unwrap().success() && all.contains("memory"), "{all}");
    }
}
