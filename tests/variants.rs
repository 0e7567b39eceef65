//! Precompressed variants: what stands beside a file is sent to those who prefer it, on both planes, and follows the
//! disk.

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use support::{Client, Response, Server, request, until};

const PLAIN: &[u8] = b"the file as it is, in all its length";
const BROTLI: &[u8] = b"\x01in brotli";
const GZIP: &[u8] = b"\x1f\x8bin gzip, say";

fn age(path: &Path, seconds: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn write(root: &Path, name: &str, bytes: &[u8], seconds: u64) {
    // Under its name it is whole from the first moment.
    let (path, made) = (root.join(name), root.join("made"));
    fs::write(&made, bytes).unwrap();
    age(&made, seconds);
    fs::rename(made, path).unwrap();
}

fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "a.js", PLAIN, 1000);
    write(root.path(), "a.js.br", BROTLI, 900);
    write(root.path(), "a.js.gz", GZIP, 900);
    write(root.path(), "plain.css", PLAIN, 1000);
    root
}

fn get(client: &mut Client, target: &str, accepts: &str, more: &[(&str, &str)]) -> Response {
    let fields = [&[("Accept-Encoding", accepts)], more].concat();
    client.request("GET", target, &fields)
}

fn coding(response: &Response) -> Option<&str> {
    response.field("Content-Encoding")
}

#[test]
fn the_best_variant_is_sent_and_described_as_the_file_in_a_coding() {
    let root = tree();
    let server = Server::start(root.path(), &["--revalidate", "1h"]);
    for (_, mut client) in server.planes() {
        for round in 0..3 {
            for (accepts, expected, body) in [
                ("br;q=1, gzip;q=0.8", Some("br"), BROTLI),
                ("gzip, deflate", Some("gzip"), GZIP),
                ("zstd, gzip;q=0.1", Some("gzip"), GZIP),
                ("br;q=0.5, gzip", Some("gzip"), GZIP),
                ("*", Some("br"), BROTLI),
                ("zstd", None, PLAIN),
                ("identity, br;q=0.5", None, PLAIN),
                ("br;q=0", None, PLAIN),
                ("", None, PLAIN),
            ] {
                let response = get(&mut client, "/a.js", accepts, &[]);
                assert_eq!((response.status, coding(&response)), (200, expected), "{accepts:?}");
                assert_eq!(response.body, body, "{accepts:?}");
                assert_eq!(response.field("Vary"), Some("Accept-Encoding"), "{accepts:?}");
                let media_type = response.field("Content-Type").unwrap().to_owned();
                assert!(media_type.contains("javascript"), "{media_type}");
                assert!(round == 0 || response.is_hit(), "{accepts:?}: {}", response.cache_status());
            }
        }
        let without = client.get("/a.js");
        assert_eq!((coding(&without), without.field("Vary")), (None, Some("Accept-Encoding")));
        assert_eq!(without.body, PLAIN);
        // The variant under its own name is a file like any other.
        let own = get(&mut client, "/a.js.br", "br", &[]);
        assert_eq!((coding(&own), &own.body[..]), (None, BROTLI));
        assert_eq!(get(&mut client, "/plain.css", "br, gzip, zstd", &[]).body, PLAIN);
    }
}

#[test]
fn conditions_and_ranges_are_those_of_the_variant() {
    let root = tree();
    let server = Server::start(root.path(), &["--revalidate", "1h"]);
    for (_, mut client) in server.planes() {
        let plain = client.get("/a.js").field("ETag").unwrap().to_owned();
        let variant = get(&mut client, "/a.js", "br", &[]).field("ETag").unwrap().to_owned();
        assert!(variant.starts_with('"') && variant != plain);
        let fresh = get(&mut client, "/a.js", "br", &[("If-None-Match", &variant)]);
        assert_eq!((fresh.status, fresh.field("Vary")), (304, Some("Accept-Encoding")));
        assert_eq!(get(&mut client, "/a.js", "br", &[("If-None-Match", &plain)]).body, BROTLI);
        let part = get(&mut client, "/a.js", "br", &[("Range", "bytes=1-2")]);
        assert_eq!((part.status, coding(&part), &part.body[..]), (206, Some("br"), &BROTLI[1..3]));
        let range = format!("bytes 1-2/{}", BROTLI.len());
        assert_eq!(part.field("Content-Range"), Some(&range[..]));
        let stale = get(&mut client, "/a.js", "br", &[("Range", "bytes=1-2"), ("If-Range", &plain)]);
        assert_eq!((stale.status, &stale.body[..]), (200, BROTLI));
        let parts = get(&mut client, "/a.js", "br", &[("Range", "bytes=0-1,4-5")]);
        assert_eq!((parts.status, coding(&parts)), (206, None));
        assert_eq!(get(&mut client, "/a.js", "br", &[("If-Match", &plain)]).status, 412);
        let head = client.request("HEAD", "/a.js", &[("Accept-Encoding", "br")]);
        assert_eq!((head.status, coding(&head), head.length()), (200, Some("br"), BROTLI.len()));
    }
}

#[test]
fn variants_follow_the_disk() {
    let root = tree();
    let server = Server::start(root.path(), &["--revalidate", "50ms"]);
    let root = root.path();
    for (_, mut client) in server.planes() {
        write(root, "b", PLAIN, 1000);
        let mut until_body = |what: &str, accepts: &str, body: &[u8]| {
            until(what, || get(&mut client, "/b", accepts, &[]).body == body);
        };
        until_body("no variant", "br, gzip", PLAIN);
        write(root, "b.gz", GZIP, 900);
        until_body("a variant appears", "br, gzip", GZIP);
        write(root, "b.br", BROTLI, 900);
        until_body("a better one appears", "br, gzip", BROTLI);
        let other: Vec<u8> = BROTLI.iter().rev().copied().collect();
        write(root, "b.br", &other, 800);
        until_body("it is replaced by one of the same length", "br, gzip", &other);
        write(root, "b", b"a newer file", 100);
        until_body("both are older than their original", "br, gzip", b"a newer file");
        write(root, "b.gz", GZIP, 50);
        until_body("one of them is made again", "br, gzip", GZIP);
        fs::remove_file(root.join("b.gz")).unwrap();
        until_body("it goes", "br, gzip", b"a newer file");
        fs::remove_file(root.join("b")).unwrap();
        fs::remove_file(root.join("b.br")).unwrap();
    }
}

/// The rule of a public comparison of servers for those that cache: two seconds after a file and its variants were
/// replaced by others of the same length, nobody gets the old ones.
#[test]
fn a_release_of_the_same_lengths_is_served_within_two_seconds() {
    let root = tree();
    let server = Server::start(root.path(), &[]);
    let kinds = [("identity", "a.js", PLAIN), ("br", "a.js.br", BROTLI), ("gzip", "a.js.gz", GZIP)];
    let mut planes = server.planes();
    let mut old: Vec<Vec<u8>> = kinds.iter().map(|(_, _, body)| body.to_vec()).collect();
    for in_place in [false, true] {
        for (_, client) in &mut planes {
            for ((accepts, ..), body) in kinds.iter().zip(&old) {
                until("it is cached", || get(client, "/a.js", accepts, &[]).is_hit());
                assert_eq!(get(client, "/a.js", accepts, &[]).body, *body);
            }
        }
        let new: Vec<Vec<u8>> = old.iter().map(|body| body.iter().rev().copied().collect()).collect();
        for ((_, name, _), body) in kinds.iter().zip(&new) {
            match in_place {
                false => write(root.path(), name, body, 0),
                true => fs::write(root.path().join(name), body).unwrap(),
            }
        }
        // Asked for all the time, so that what was found current is found so again and again.
        let replaced = Instant::now();
        while replaced.elapsed() < Duration::from_secs(2) {
            for (_, client) in &mut planes {
                kinds.iter().for_each(|(accepts, ..)| drop(get(client, "/a.js", accepts, &[])));
            }
        }
        for (plane, client) in &mut planes {
            for ((accepts, ..), body) in kinds.iter().zip(&new) {
                let response = get(client, "/a.js", accepts, &[]);
                assert_eq!(response.body, *body, "{plane} {accepts} in place: {in_place}");
            }
        }
        old = new;
    }
}

#[test]
fn a_variant_is_nothing_without_its_original() {
    let root = tree();
    write(root.path(), "gone.br", BROTLI, 1);
    fs::create_dir(root.path().join("plain.css.br")).unwrap();
    write(root.path(), "empty", b"", 1000);
    write(root.path(), "empty.br", b"", 900);
    let server = Server::start(root.path(), &[]);
    for (_, mut client) in server.planes() {
        assert_eq!(get(&mut client, "/gone", "br", &[]).status, 404);
        assert_eq!(get(&mut client, "/plain.css", "br", &[]).body, PLAIN, "a directory is no variant");
        assert_eq!(get(&mut client, "/empty", "br", &[]).body, b"");
    }
}

#[test]
fn many_at_once_get_what_they_asked_for() {
    let root = tree();
    let server = Server::start(root.path(), &["--revalidate", "0", "--workers", "2"]);
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    let kinds = [("br", BROTLI), ("gzip", GZIP), ("identity", PLAIN)];
    for client in &mut clients {
        for (accepts, _) in kinds.iter().cycle().take(30) {
            client.send(request("GET", "/a.js", &[("Accept-Encoding", accepts)]));
        }
    }
    for client in &mut clients {
        for (accepts, body) in kinds.iter().cycle().take(30) {
            assert_eq!(client.response("GET").body, *body, "{accepts}");
        }
    }
}

#[test]
fn they_can_be_turned_off() {
    let root = tree();
    let server = Server::start(root.path(), &["--no-precompressed"]);
    for (_, mut client) in server.planes() {
        let response = get(&mut client, "/a.js", "br, gzip", &[]);
        assert_eq!((coding(&response), response.field("Vary")), (None, None));
        assert_eq!(response.body, PLAIN);
    }
}
