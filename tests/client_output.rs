//! `forebay fetch --output -`: files to standard output, and nothing else.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use support::upstream::{Reply, Server, file, forebay, names, pattern};

#[test]
fn standard_output_gets_the_bytes_and_nothing_else() {
    let bytes = pattern(3_000_000);
    let whole = bytes.clone();
    let server = Server::start(move |request| match (request.target.as_str(), request.field("range")) {
        ("/big", None) => file(request, &whole).cut(1_000_000),
        ("/big", _) => file(request, &whole),
        ("/small", _) => file(request, b"small"),
        _ => Reply::text("404 Not Found", "no such file\n"),
    });
    let dir = tempfile::tempdir().unwrap();
    let output =
        forebay(&["fetch", &server.addr(), "-o", "-", "big", "missing", "small"]).current_dir(&dir).output().unwrap();
    assert!(output.stdout == [&bytes[..], b"small"].concat(), "{} bytes", output.stdout.len());
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "forebay: fetch: missing: not found on the server (404): no such file\n");
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn standard_output_never_gets_a_mixture() {
    let turn = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        // Another version with every answer, and each breaks off.
        let body = pattern(1000 + turn.fetch_add(1, Ordering::SeqCst));
        file(request, &body).cut(100)
    });
    let output = forebay(&["fetch", &server.addr(), "--output", "-", "f"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(1), pattern(100)));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("is only its beginning"), "{stderr}");
}

#[test]
fn a_reader_of_standard_output_may_leave() {
    let server = Server::start(|request| file(request, &pattern(5_000_000)));
    let mut command = forebay(&["fetch", &server.addr(), "-o", "-", "a", "b", "c"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = forebay(&["fetch", &server.addr(), "-o", "-", "a", "b"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("a: cannot write to standard output: No space left") && stderr.contains("1 more not tried")
    );
}
