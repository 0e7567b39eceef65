//! Ordinary clients, as Debian has them. Each is skipped, said aloud, where it is not installed; `.ci/run` installs
//! them.

mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Stdio;

use support::tools::{page_in_browser, run, tool};
use support::{Server, bytes, tree};

/// Names that are legal on Linux, and odd in URLs, in HTML, in shells or to somebody's decoder.
const ODD: &[&[u8]] = &[
    b"plain.txt",
    b"with space",
    b" leading",
    b"trailing ",
    b"100%",
    b"a%zz",
    b"hash#tag",
    b"what?is=this&that",
    b"amp&amp;semi;",
    b"\xc3\xbcml\xc3\xa4ut",
    b"e\xcc\x81 decomposed",
    b"\xe6\x97\xa5\xe6\x9c\xac",
    b"invalid \xff\xfe UTF-8",
    b"quo\"te",
    b"apos'trophe",
    b"back\\slash",
    b"-dash",
    b"--help",
    b"new\nline",
    b"tab\tin it",
    b"http: colon",
    b"<b>tag",
    b"[brackets]{braces}(parens)",
    b"star*",
    b"+plus+",
    b"@at,comma;semi=equals",
    b"$dollar`tick|pipe^caret",
    b"a..b",
    b"dot.",
];

/// A tree of files with these names, in directories with such names.
fn odd_tree(names: &[&[u8]]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (number, dir) in ["", "sub dir", "sub dir/50%25", "#hash?&x", "sub dir/\"<\u{fc}>'"].iter().enumerate() {
        let dir = root.path().join(dir);
        fs::create_dir_all(&dir).unwrap();
        for (at, name) in names.iter().enumerate() {
            // Different bytes and sizes, so that no two can be taken for each other; one of them is empty.
            fs::write(dir.join(OsStr::from_bytes(name)), bytes((number * 1000 + at) as u64, at * 97)).unwrap();
        }
    }
    root
}

/// The files of a tree, by their names.
fn files(root: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let names = tree(root).into_iter().filter(|name| root.join(name).is_file());
    names.map(|name| (name.clone().into_os_string().into_vec(), fs::read(root.join(name)).unwrap())).collect()
}

#[track_caller]
fn assert_mirrored(root: &Path, mirror: &Path) {
    let (expected, found) = (files(root), files(mirror));
    let show = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
    let missing: Vec<String> = expected.keys().filter(|name| !found.contains_key(*name)).map(show).collect();
    let surplus: Vec<String> = found.keys().filter(|name| !expected.contains_key(*name)).map(show).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing: {missing:?}, surplus: {surplus:?}");
    let differs = expected.iter().filter(|(name, body)| found[*name] != **body);
    let differs: Vec<String> = differs.map(|(name, _)| show(name)).collect();
    assert!(differs.is_empty(), "not the same bytes: {differs:?}");
    assert!(found.len() > 100, "{} files", found.len());
}

fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address())
}

#[test]
fn rclone_copies_a_tree_with_odd_names() {
    let Some(mut rclone) = tool("rclone") else { return };
    let (root, dir) = (odd_tree(&[ODD, &[b"~tilde", b"a%20b"]].concat()), tempfile::tempdir().unwrap());
    let server = Server::start(root.path(), &[]);
    rclone.args(["copy", ":http:", "--config", "/dev/null", "--http-url", &url(&server, "/")]);
    run(rclone.arg(dir.path().join("mirror")));
    assert_mirrored(root.path(), &dir.path().join("mirror"));
}

#[test]
fn wget_mirrors_a_tree_with_odd_names() {
    let Some(mut wget) = tool("wget") else { return };
    // Not a%20b: wget decodes the names of its own files twice, from whichever server.
    let (root, dir) = (odd_tree(&[ODD, &[b"~tilde"]].concat()), tempfile::tempdir().unwrap());
    let server = Server::start(root.path(), &[]);
    wget.args(["--no-config", "-q", "--mirror", "-nH", "--restrict-file-names=nocontrol", "--no-iri", "-P"]);
    run(wget.arg(dir.path()).arg(url(&server, "/")).env("LC_ALL", "C"));
    // The pages that it found the names in.
    for name in tree(dir.path()).into_iter().filter(|name| name.ends_with("index.html")) {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    assert_mirrored(root.path(), dir.path());
}

#[test]
fn lftp_mirrors_a_tree_with_odd_names() {
    let Some(mut lftp) = tool("lftp") else { return };
    // Not ~tilde: lftp leaves such names out, from whichever server.
    let (root, dir) = (odd_tree(&[ODD, &[b"a%20b"]].concat()), tempfile::tempdir().unwrap());
    let server = Server::start(root.path(), &[]);
    let commands = format!("set net:max-retries 2; open {}; mirror / mirror; exit", url(&server, "/"));
    run(lftp.args(["--norc", "-c", &commands]).current_dir(dir.path()).env("HOME", dir.path()));
    assert_mirrored(root.path(), &dir.path().join("mirror"));
}

#[test]
fn curl_asks_for_parts_resumes_and_compares_tags() {
    if tool("curl").is_none() {
        return;
    }
    let curl = |args: &[&str]| run(tool("curl").unwrap().args(["-q", "-sS", "-f"]).args(args)).stdout;
    let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let body = bytes(1, 3_000_000);
    fs::write(root.path().join("file"), &body).unwrap();
    fs::write(root.path().join("empty"), "").unwrap();
    let server = Server::start(root.path(), &["--arena", "1MiB"]);
    let (file, empty) = (url(&server, "/file"), url(&server, "/empty"));
    assert_eq!(curl(&["-r", "10-19", &file]), body[10..20]);
    assert_eq!(curl(&["-r", "-7", &file]), body[body.len() - 7..]);
    let parts = String::from_utf8_lossy(&curl(&["-r", "0-9,100-109", &file])).into_owned();
    assert_eq!(parts.matches("Content-Range: bytes ").count(), 2, "{parts}");
    // A download goes on, one that is whole stays, and one of nothing does not fail.
    let local = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(local("part"), &body[..1_000_000]).unwrap();
    curl(&["-C", "-", "-o", &local("part"), &file]);
    assert!(fs::read(local("part")).unwrap() == body);
    curl(&["-C", "-", "-o", &local("none"), &empty]);
    let (tag, out) = (local("tag"), local("out"));
    let compare = ["--etag-save", &tag, "--etag-compare", &tag, "-w", "%{http_code}", "-o", &out, &file];
    assert_eq!(curl(&compare), b"200");
    assert_eq!(curl(&compare), b"304");
    assert_eq!(curl(&["-z", &local("part"), "-w", "%{http_code}", "-o", &out, &file]), b"304");
    let options = curl(&["-X", "OPTIONS", "--request-target", "*", "-D", "-", &url(&server, "/")]);
    assert!(String::from_utf8_lossy(&options).contains("Allow: GET, HEAD, OPTIONS\r\n"));
}

#[test]
fn curl_decodes_what_is_compressed() {
    let (Some(mut gzip), Some(mut curl)) = (tool("gzip"), tool("curl")) else { return };
    let root = tempfile::tempdir().unwrap();
    let body = "compressible ".repeat(1000);
    fs::write(root.path().join("a.txt"), &body).unwrap();
    run(gzip.arg("-k").arg(root.path().join("a.txt")));
    let server = Server::start(root.path(), &[]);
    let output = run(curl.args(["-q", "-sS", "-f", "--compressed", "-D", "/dev/stderr", &url(&server, "/a.txt")]));
    assert_eq!(output.stdout, body.as_bytes());
    let head = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(head.contains("Content-Encoding: gzip\r\n"), "{head}");
}

#[test]
fn aria2_fetches_in_pieces() {
    let Some(mut aria2) = tool("aria2c") else { return };
    let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let body = bytes(2, 5 << 20);
    fs::write(root.path().join("file"), &body).unwrap();
    let log = dir.path().join("log");
    let server = Server::start(root.path(), &["--access-log", log.to_str().unwrap()]);
    let options = ["--no-conf", "-q", "-x4", "-s4", "-k1M", "--file-allocation=none", "-o", "file"];
    run(aria2.args(options).arg(url(&server, "/file")).current_dir(dir.path()));
    assert!(fs::read(dir.path().join("file")).unwrap() == body);
    support::until("the log has the parts", || fs::read_to_string(&log).unwrap().matches(" 206 ").count() >= 2);
}

#[test]
fn zsync_fetches_what_has_changed() {
    let (Some(mut make), Some(mut zsync)) = (tool("zsyncmake"), tool("zsync")) else { return };
    let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let body = bytes(3, 3_000_000);
    fs::write(root.path().join("file"), &body).unwrap();
    run(make.args(["-u", "file", "-o", "file.zsync", "file"]).current_dir(root.path()));
    // The old version differs in three places: three ranges, in one request or several.
    let mut old = body.clone();
    for at in [100_000, 1_500_000, 2_900_000] {
        old[at..at + 100].fill(0);
    }
    fs::write(dir.path().join("old"), old).unwrap();
    let log = dir.path().join("log");
    let server = Server::start(root.path(), &["--access-log", log.to_str().unwrap()]);
    run(zsync.args(["-q", "-i", "old", "-o", "new", &url(&server, "/file.zsync")]).current_dir(dir.path()));
    assert!(fs::read(dir.path().join("new")).unwrap() == body);
    let sent = || -> u64 {
        let log = fs::read_to_string(&log).unwrap();
        let parts = log.lines().filter_map(|line| line.split_once("/file HTTP/1.1\" 206 ")?.1.split(' ').next());
        parts.map(|bytes| bytes.parse::<u64>().unwrap()).sum()
    };
    support::until("the log has the parts", || sent() > 0);
    assert!(sent() < 100_000, "{} bytes for three places", sent());
}

#[test]
fn lynx_reads_a_listing() {
    let Some(mut lynx) = tool("lynx") else { return };
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("dir/sub")).unwrap();
    fs::write(root.path().join("dir/a file & more.txt"), vec![0; 3000]).unwrap();
    let server = Server::start(root.path(), &[]);
    let page = run(lynx.args(["-dump", "-nolist", &url(&server, "/dir/")])).stdout;
    let page = String::from_utf8_lossy(&page).into_owned();
    let lines: Vec<&str> = page.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert!(lines.iter().any(|line| line.starts_with("Name") && line.ends_with("Modified (UTC)")), "{page}");
    let place = |text: &str| lines.iter().position(|line| line.starts_with(text)).unwrap_or_else(|| panic!("{page}"));
    assert!(place("../") < place("sub/") && place("sub/") < place("a file & more.txt"), "{page}");
    assert!(lines[place("a file")].contains("2.9 KiB"), "{page}");
}

#[test]
fn a_browser_shows_listings_and_sites() {
    if tool("chromium").is_none() {
        return;
    }
    let (root, dir) = (odd_tree(ODD), tempfile::tempdir().unwrap());
    fs::create_dir(root.path().join("site")).unwrap();
    let page = "<!doctype html><title>s</title><link rel=stylesheet href=s.css><p id=p>no<script src=s.js></script>";
    for (name, text) in [
        ("index.html", page),
        ("s.css", "p { color: rgb(1, 2, 3) }"),
        ("s.js", "p.textContent = getComputedStyle(p).color + navigator.userAgent.slice(0, 0)"),
    ] {
        fs::write(root.path().join("site").join(name), text).unwrap();
    }
    // As precompressed sites have it: the browser is sent what it decodes itself.
    let mut gzip = tool("gzip").unwrap();
    run(gzip.arg("-k").arg(root.path().join("site/s.js")));
    let server = Server::start(root.path(), &[]);
    let show = |path: &str| page_in_browser(&url(&server, path), &dir.path().join("profile"), 800, 3000).unwrap();
    let listing = show("/");
    // The script ran under the page's policy: there is a filter, and heads that sort.
    assert!(listing.contains("type=\"search\"") && listing.contains("aria-sort=\"ascending\""), "{listing}");
    assert_eq!(listing.matches("<tr><td><a href=\"./").count(), ODD.len() + 3, "{listing}");
    assert!(listing.find("./site/\"") < listing.find("./%2Bplus%2B"), "directories first: {listing}");
    assert!(!listing.contains("<b>tag"), "names are text");
    assert!(show("/site/").contains("rgb(1, 2, 3)"), "the page, its style and its script");
}

#[test]
fn wget_resumes_and_skips_what_is_the_same() {
    let (Some(mut resume), Some(mut again)) = (tool("wget"), tool("wget")) else { return };
    let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let body = bytes(4, 2_000_000);
    fs::write(root.path().join("file"), &body).unwrap();
    fs::File::create(dir.path().join("file")).unwrap().write_all(&body[..700_000]).unwrap();
    let server = Server::start(root.path(), &[]);
    let file = url(&server, "/file");
    run(resume.args(["--no-config", "-q", "-c", &file]).current_dir(dir.path()));
    assert!(fs::read(dir.path().join("file")).unwrap() == body);
    let output = run(again.args(["--no-config", "-N", &file]).current_dir(dir.path()).stdout(Stdio::null()));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("304"), "{said}");
}
