//! Conditions, ranges and negotiation as RFC 9110 has them: the cases of `rfc9110/cases.txt`, on both planes.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use support::{Client, Response, Server, request};

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
        // A GET of several ranges is about the file as it is, its HEAD about the file in a coding: that is another line's.
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
