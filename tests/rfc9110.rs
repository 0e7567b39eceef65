//! Conditions, ranges and negotiation as RFC 9110 has them: the cases of `rfc9110/cases.txt`, on both planes, which
//! say the same.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use support::{Client, Response, Server, request, request_with_body};

const CASES: &str = include_str!("rfc9110/cases.txt");

/// The fewest cases that the file must have: it does not shrink unseen.
const CASES_MIN: usize = 250;

const SECONDS: u64 = 784_111_777;
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

/// What is served: name, bytes, and how many seconds after [`DATE`] it was modified.
const FILES: &[(&str, &str, i64)] = &[
    ("a.txt", "0123456789", 0),
    ("empty.txt", "", 0),
    ("v.js", "the file as it is", 0),
    ("v.js.br", "in brotli", 60),
    ("v.js.zst", "in zstandard", 60),
    ("v.js.gz", "in gzip, say.", 60),
    ("g.css", "body { color: red }", 0),
    ("g.css.gz", "gzip again", 60),
    ("s.js", "newer than its variant", 0),
    ("s.js.br", "stale", -60),
    ("page/index.html", "<p>hello", 0),
    ("page/index.html.br", "a page in brotli", 60),
    ("dir/file", "x", 0),
];

/// The codings of variants: as they are named, the ending of their files, and the variable of their tags.
const CODINGS: [(&str, &str, &str); 3] = [("br", ".br", "$br"), ("zstd", ".zst", "$zst"), ("gzip", ".gz", "$gz")];

fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text, seconds) in FILES {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(SECONDS.checked_add_signed(*seconds).unwrap());
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }
    root
}

/// The name of the file that a target stands for.
fn file_of(target: &str) -> String {
    let name = target.trim_start_matches('/');
    if name.ends_with('/') { format!("{name}index.html") } else { name.to_owned() }
}

/// One line of the cases.
struct Case {
    line: String,
    target: String,
    fields: Vec<(String, String)>,
    status: u16,
    coding: Option<&'static str>,
    ranges: Vec<(usize, usize)>,
    media_type: Option<String>,
}

impl Case {
    fn parse(line: &str) -> Case {
        let (request, expected) = line.split_once("=>").unwrap_or_else(|| panic!("no => in {line:?}"));
        let mut parts = request.split(" | ");
        let target = parts.next().unwrap().trim().to_owned();
        let field = |part: &str| {
            let (name, value) = part.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
            (name.trim().to_owned(), value.trim().to_owned())
        };
        let mut words = expected.split_whitespace();
        let status = words.next().unwrap().parse().unwrap_or_else(|_| panic!("no status: {line:?}"));
        let mut case = Case {
            line: line.to_owned(),
            target,
            fields: parts.map(field).collect(),
            status,
            coding: None,
            ranges: Vec::new(),
            media_type: None,
        };
        for word in words {
            if let Some((coding, ..)) = CODINGS.iter().find(|(name, ..)| *name == word) {
                case.coding = Some(coding);
            } else if let Some(media_type) = word.strip_prefix("type=") {
                case.media_type = Some(media_type.to_owned());
            } else {
                let range = |range: &str| {
                    let (from, to) = range.split_once('-').unwrap_or_else(|| panic!("no range: {line:?}"));
                    (from.parse().unwrap(), to.parse().unwrap())
                };
                case.ranges = word.split(',').map(range).collect();
            }
        }
        assert_eq!(case.status == 206, !case.ranges.is_empty(), "{line}");
        case
    }

    /// The fields with their variables put in.
    fn fields(&self, tags: &Tags) -> Vec<(String, String)> {
        let tag_of = |suffix: &str| tags.get(&(file_of(&self.target) + suffix)).cloned().unwrap_or_default();
        let put = |value: &str| {
            let mut value = value.replace("$date", DATE).replace("$earlier", EARLIER).replace("$later", LATER);
            for (variable, suffix) in [("$tag", ""), ("$br", ".br"), ("$zst", ".zst"), ("$gz", ".gz")] {
                if value.contains(variable) {
                    let tag = tag_of(suffix);
                    assert!(!tag.is_empty(), "{variable} of nothing: {}", self.line);
                    value = value.replace(variable, &tag);
                }
            }
            value
        };
        self.fields.iter().map(|(name, value)| (name.clone(), put(value))).collect()
    }

    /// The representation that is sent, or described.
    fn representation(&self) -> (String, Vec<u8>) {
        let suffix = self.coding.map_or("", |own| CODINGS.iter().find(|(name, ..)| *name == own).unwrap().1);
        let name = file_of(&self.target) + suffix;
        let found = FILES.iter().find(|(own, ..)| *own == name);
        let (_, text, _) = found.unwrap_or_else(|| panic!("nothing is served as {name}: {}", self.line));
        (name, text.as_bytes().to_vec())
    }

    fn check(&self, method: &str, response: &Response, tags: &Tags, at: &str) {
        let what = format!("{at} {method} {}\n{:?}\n{}", self.line, response.fields, response.text());
        // A HEAD is answered as the GET, but knows no ranges (14.2).
        let ignores_range = method == "HEAD" && matches!(self.status, 206 | 416);
        // A GET of several ranges is about the file as it is, its HEAD about the file in a coding: that is another
        // line's.
        let several = self.fields.iter().any(|(name, value)| name == "Range" && value.contains(','));
        if ignores_range && several {
            return;
        }
        let status = if ignores_range { 200 } else { self.status };
        assert_eq!(response.status, status, "{what}");
        assert!(response.field("date").is_some() || status == 400, "{what}");
        if let Some(media_type) = &self.media_type {
            assert!(response.field("content-type").unwrap().starts_with(media_type.as_str()), "{what}");
            return;
        }
        if !matches!(status, 200 | 206 | 304 | 412 | 416) {
            return;
        }
        let (name, bytes) = self.representation();
        assert_eq!(response.field("etag"), tags.get(&name).map(String::as_str), "{what}");
        assert!(response.field("last-modified").is_some(), "{what}");
        let is_varied = FILES.iter().any(|(own, ..)| own.starts_with(&format!("{}.", file_of(&self.target))));
        if is_varied {
            assert!(response.field("vary").unwrap().contains("Accept-Encoding"), "{what}");
        }
        let expected = match status {
            200 | 206 => {
                assert_eq!(response.field("content-encoding"), self.coding, "{what}");
                assert!(response.field("content-type").is_some(), "{what}");
                if status == 200 { bytes } else { self.parts(response, &bytes, &what) }
            }
            304 => {
                for absent in ["content-type", "content-length", "content-range"] {
                    assert!(response.field(absent).is_none(), "{absent}: {what}");
                }
                Vec::new()
            }
            _ => {
                let range = format!("bytes */{}", bytes.len());
                assert_eq!(response.field("content-range"), (status == 416).then_some(&*range), "{what}");
                Vec::new()
            }
        };
        match method {
            "HEAD" => assert!(response.body.is_empty(), "{what}"),
            _ => assert_eq!(response.body, expected, "{what}"),
        }
        if status != 304 {
            assert_eq!(response.length(), expected.len(), "{what}");
        }
    }

    /// The body of a 206: one range, or several parts.
    fn parts(&self, response: &Response, bytes: &[u8], what: &str) -> Vec<u8> {
        let size = bytes.len();
        if let [(from, to)] = self.ranges[..] {
            let range = format!("bytes {from}-{to}/{size}");
            assert_eq!(response.field("content-range"), Some(&*range), "{what}");
            return bytes[from..=to].to_vec();
        }
        assert!(response.field("content-range").is_none(), "{what}");
        let boundary = response.field("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=");
        let boundary = boundary.unwrap_or_else(|| panic!("{what}"));
        let media_type = if self.target.ends_with(".js") { "text/javascript" } else { "text/plain" };
        let mut body = Vec::new();
        for &(from, to) in &self.ranges {
            let head = format!(
                "\r\n--{boundary}\r\nContent-Type: {media_type}; charset=utf-8\r\n\
                 Content-Range: bytes {from}-{to}/{size}\r\n\r\n"
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(&bytes[from..=to]);
        }
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        body
    }
}

/// The entity tags of all files, by their names.
type Tags = BTreeMap<String, String>;

fn tags(server: &Server, root: &Path) -> Tags {
    let tag = |name: &str| server.get(&format!("/{name}")).expect(200).field("etag").unwrap().to_owned();
    let tags: Tags = FILES.iter().map(|(name, ..)| ((*name).to_owned(), tag(name))).collect();
    let different: std::collections::BTreeSet<&String> = tags.values().collect();
    assert_eq!(different.len(), FILES.len(), "each file of {} has its own: {tags:?}", root.display());
    tags
}

#[test]
fn every_case_holds_on_both_planes() {
    let root = tree();
    let server = Server::start(root.path(), &[]);
    let tags = tags(&server, root.path());
    let lines = CASES.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let cases: Vec<Case> = lines.map(Case::parse).collect();
    assert!(cases.len() >= CASES_MIN, "only {} cases", cases.len());
    let mut control = server.control_plane();
    for case in &cases {
        let fields = case.fields(&tags);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        for method in ["GET", "HEAD"] {
            let once = request(method, &case.target, &fields);
            // On a fresh connection, twice in one piece: the data plane's, as far as it serves such requests.
            let mut data: Client = server.connect();
            data.send([&once[..], &once[..]].concat());
            for at in ["data plane, first", "data plane, second"] {
                case.check(method, &data.response(method), &tags, at);
            }
            control.send(&once);
            case.check(method, &control.response(method), &tags, "control plane");
        }
    }
}

/// Everything that a connection says until it ends. Of the heads, what HTTP gives no meaning to is made the same: the
/// time of day, the order of the fields and how their names are spelled, which the control plane's HTTP library
/// decides.
fn said(mut client: Client, requests: &[u8]) -> String {
    client.send(requests);
    client.finish();
    let mut said = String::new();
    let mut head: Option<Vec<String>> = None;
    for line in String::from_utf8_lossy(&client.rest()).split_inclusive("\r\n") {
        match &mut head {
            Some(fields) if line == "\r\n" => {
                fields.sort();
                said.extend(fields.drain(..).chain([line.to_owned()]));
                head = None;
            }
            Some(fields) => {
                let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("this is no field: {line:?}"));
                let value = if name == "Date" { "now\r\n" } else { value };
                fields.push(format!("{}: {value}", name.to_ascii_lowercase()));
            }
            None => {
                said.push_str(line);
                head = line.contains("HTTP/1.").then(Vec::new);
            }
        }
    }
    said
}

/// What is said to a client of HTTP/1.0, whether its version is answered, and its connection's end announced, or not.
fn as_to_old(said: &str) -> String {
    said.replace("HTTP/1.0 ", "HTTP/1.1 ").replace("connection: close\r\n", "")
}

/// What both planes are asked beside the cases: a method, a target, and further lines of a head.
const REQUESTS: &[&str] = &[
    "GET /.forebay/health",
    "GET /.forebay/none",
    "GET /",
    "GET /\r\nAccept: text/plain",
    "GET /dir",
    "GET /dir/",
    "GET /dir/\r\nAccept: application/json",
    "GET /a.txt/",
    "GET /a.txt/b",
    "GET /a.txt?query",
    "GET /dir?query",
    "GET http://localhost/a.txt",
    "GET http://localhost/missing",
    "GET /missing\r\nAccept: text/html",
    "GET /.hidden",
    "GET /../a.txt",
    "GET /%2e%2e/x",
    "GET /a%00",
    "GET /%zz",
    "GET a.txt",
    "GET *",
    "GET /a.txt\r\nExpect: 100-continue",
    "GET /a.txt\r\nExpect: something",
    "GET /a.txt\r\nConnection: close",
    "GET /missing\r\nConnection: close",
    "GET /a.txt\r\nOrigin: http://elsewhere.example",
    "GET /sw.js\r\nService-Worker: script",
    "GET /a.txt\r\nContent-Length: 5\r\nContent-Length: 6",
    "GET /a.txt\r\nTransfer-Encoding: gzip",
    "GET /a.txt\r\nHost: other",
    "GET /a.txt\r\nBad Name: x",
    "OPTIONS /a.txt",
    "OPTIONS /dir/",
    "OPTIONS *",
    "POST /a.txt",
    "PATCH /missing",
    "DELETE /a.txt",
    "PUT /a.txt",
    "TRACE /a.txt",
    "get /a.txt",
];

#[test]
fn both_planes_say_the_same() {
    let root = tree();
    let long = "x".repeat(20_000);
    // Of each pair of files, one is read first by the data plane, the other by the control plane.
    let firsts =
        ["GET /$", "HEAD /$", "GET /$\r\nRange: bytes=1-3", "GET /$\r\nRange: bytes=99-", "GET /$\r\nIf-Match: \"x\""];
    for (number, (plane, length)) in (0..firsts.len()).flat_map(|at| [(at, 10), (at, 200_000)]).enumerate() {
        for name in [format!("d{number}.{plane}"), format!("c{number}.{plane}")] {
            let path = root.path().join(name);
            fs::write(&path, support::bytes(1, length)).unwrap();
            let time = UNIX_EPOCH + Duration::from_secs(SECONDS);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
    }
    let server = Server::start(root.path(), &["--revalidate", "1h"]);
    let tags = tags(&server, root.path());
    let mut heads: Vec<String> = REQUESTS.iter().map(|&head| head.to_owned()).collect();
    heads.push(format!("GET /{long}"));
    heads.push(format!("GET /a.txt\r\nX-Long: {long}"));
    for case in CASES.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).map(Case::parse) {
        let fields: String = case.fields(&tags).iter().map(|(name, value)| format!("\r\n{name}: {value}")).collect();
        heads.extend(["GET", "HEAD"].map(|method| format!("{method} {}{fields}", case.target)));
    }
    // Whether the connection goes on is told by a second request.
    let twice = |head: &str| [request_with_body(head, b""), request("GET", "/a.txt", &[])].concat();
    let old = |head: &str| String::from_utf8(request_with_body(head, b"")).unwrap().replacen("HTTP/1.1", "HTTP/1.0", 1);
    let mut different = Vec::new();
    let mut compare = |head: &str, [data, control]: [Vec<u8>; 2], same: fn(&str) -> String| {
        let [data, control] = [(server.connect(), data), (server.control_plane(), control)]
            .map(|(client, requests)| same(&said(client, &requests)));
        assert!(!data.is_empty(), "{head}");
        if data != control {
            different.push(format!("{head:.200}\n--- data plane:\n{data:.1500}\n--- control plane:\n{control:.1500}"));
        }
    };
    for head in &heads {
        compare(head, [twice(head), twice(head)], str::to_owned);
    }
    for head in ["GET /a.txt", "HEAD /a.txt", "GET /missing", "GET /a.txt\r\nConnection: keep-alive"] {
        compare(head, [old(head).into(), old(head).into()], as_to_old);
    }
    for number in 0..2 * firsts.len() {
        let head = firsts[number / 2];
        let ask = |plane: char| request_with_body(&head.replace('$', &format!("{plane}{number}.{}", number / 2)), b"");
        compare(head, [ask('d'), ask('c')], str::to_owned);
    }
    let (count, all) = (different.len(), different.join("\n\n"));
    assert_eq!(count, 0, "the planes answer differently:\n{all}");
}
