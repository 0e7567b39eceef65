//! Media types: by the ending of a name, by well-known names without one, and where neither tells, by the first bytes.

/// How many bytes of a file tell its type, or whether it declares its charset: as many as HTML has browsers look at.
pub const SNIFFED_BYTES: usize = 1024;

/// The media type of a file, as far as its name tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Without a charset, unless it was said by whoever configured it.
    essence: String,
    pub charset: Charset,
    /// The first bytes tell: see [`Media::content_type`].
    is_ambiguous: bool,
}

/// What is said of a text's charset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charset {
    /// Nothing.
    None,
    /// UTF-8, unless the text declares one itself.
    Utf8UnlessDeclared,
    /// This one.
    Named(String),
}

/// Endings that the table of registered types lacks, or has otherwise than people expect.
const ENDINGS: &[(&str, &str)] = &[
    ("ac", "text/plain"),
    ("adoc", "text/plain"),
    ("am", "text/plain"),
    ("apk", "application/vnd.android.package-archive"),
    ("avif", "image/avif"),
    ("bash", "text/x-shellscript"),
    ("bat", "text/plain"),
    ("c", "text/x-c"),
    ("cc", "text/x-c++"),
    ("cfg", "text/plain"),
    ("cjs", "text/javascript"),
    ("clj", "text/plain"),
    ("cmake", "text/plain"),
    ("conf", "text/plain"),
    ("cpp", "text/x-c++"),
    ("cs", "text/plain"),
    ("csr", "application/pkcs10"),
    ("d", "text/plain"),
    ("deb", "application/vnd.debian.binary-package"),
    ("desktop", "text/plain"),
    ("diff", "text/x-diff"),
    ("dockerfile", "text/plain"),
    ("el", "text/plain"),
    ("env", "text/plain"),
    ("erl", "text/plain"),
    ("ex", "text/plain"),
    ("exs", "text/plain"),
    ("fish", "text/plain"),
    ("flac", "audio/flac"),
    ("fs", "text/plain"),
    ("go", "text/x-go"),
    ("gradle", "text/plain"),
    ("graphql", "text/plain"),
    ("h", "text/x-c"),
    ("hcl", "text/plain"),
    ("hpp", "text/x-c++"),
    ("hs", "text/plain"),
    ("ini", "text/plain"),
    ("ipynb", "application/x-ipynb+json"),
    ("java", "text/x-java"),
    ("jl", "text/plain"),
    ("jsonl", "application/jsonl"),
    ("jsx", "text/javascript"),
    ("jxl", "image/jxl"),
    ("kt", "text/x-kotlin"),
    ("kts", "text/x-kotlin"),
    ("lock", "text/plain"),
    ("log", "text/plain"),
    ("lua", "text/x-lua"),
    ("lz4", "application/x-lz4"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4", "text/plain"),
    ("m4a", "audio/mp4"),
    ("m4s", "video/iso.segment"),
    ("map", "application/json"),
    ("md5", "text/plain"),
    ("mid", "audio/midi"),
    ("midi", "audio/midi"),
    ("mjs", "text/javascript"),
    ("ml", "text/plain"),
    ("mod", "text/plain"),
    ("mpd", "application/dash+xml"),
    ("ndjson", "application/x-ndjson"),
    ("nix", "text/plain"),
    ("obj", "model/obj"),
    ("org", "text/plain"),
    ("otf", "font/otf"),
    ("patch", "text/x-diff"),
    ("pl", "text/x-perl"),
    ("po", "text/plain"),
    ("properties", "text/plain"),
    ("proto", "text/plain"),
    ("ps1", "text/plain"),
    ("py", "text/x-python"),
    ("r", "text/plain"),
    ("rb", "text/x-ruby"),
    ("rpm", "application/x-rpm"),
    ("rs", "text/x-rust"),
    ("rst", "text/plain"),
    ("scala", "text/plain"),
    ("service", "text/plain"),
    ("sh", "text/x-shellscript"),
    ("sha1", "text/plain"),
    ("sha256", "text/plain"),
    ("sha512", "text/plain"),
    ("spec", "text/plain"),
    ("sql", "application/sql"),
    ("stl", "model/stl"),
    ("sum", "text/plain"),
    ("svelte", "text/plain"),
    ("swift", "text/plain"),
    ("tbz2", "application/x-bzip2"),
    ("textile", "text/plain"),
    ("tf", "text/plain"),
    ("tgz", "application/gzip"),
    ("toml", "application/toml"),
    ("tsx", "text/typescript"),
    ("txz", "application/x-xz"),
    ("tzst", "application/zstd"),
    ("usdz", "model/vnd.usdz+zip"),
    ("v", "text/plain"),
    ("vim", "text/plain"),
    ("vtt", "text/vtt"),
    ("vue", "text/plain"),
    ("webmanifest", "application/manifest+json"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xz", "application/x-xz"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zig", "text/plain"),
    ("zsh", "text/x-shellscript"),
    ("zst", "application/zstd"),
    ("zsync", "application/x-zsync"),
];

/// Names without an ending that are text wherever they are found.
const TEXTS: &[&str] = &[
    "authors",
    "brewfile",
    "build",
    "caddyfile",
    "changelog",
    "changes",
    "cname",
    "codeowners",
    "configure",
    "containerfile",
    "contributing",
    "copying",
    "copyright",
    "credits",
    "dockerfile",
    "doxyfile",
    "gemfile",
    "gnumakefile",
    "history",
    "inrelease",
    "install",
    "jenkinsfile",
    "justfile",
    "kbuild",
    "kconfig",
    "keys",
    "licence",
    "license",
    "maintainers",
    "makefile",
    "md5sums",
    "news",
    "notice",
    "packages",
    "pkgbuild",
    "procfile",
    "rakefile",
    "readme",
    "release",
    "security",
    "sha1sums",
    "sha256sums",
    "sha512sums",
    "tags",
    "thanks",
    "todo",
    "vagrantfile",
    "version",
    "workspace",
];

impl Media {
    /// A type that is not to be thought about: as it was written.
    pub fn exactly(content_type: &str) -> Media {
        Media { essence: content_type.to_owned(), charset: Charset::None, is_ambiguous: false }
    }

    fn of_essence(essence: &str) -> Media {
        // XML says its encoding itself, and is UTF-8 where it does not (RFC 7303, 3).
        let is_text = essence.starts_with("text/") && essence != "text/xml";
        let charset = if is_text { Charset::Utf8UnlessDeclared } else { Charset::None };
        Media { essence: essence.to_owned(), charset, is_ambiguous: false }
    }

    /// Whether [`Media::content_type`] depends on the first bytes.
    pub fn needs_content(&self) -> bool {
        self.is_ambiguous || (self.essence == "text/html" && self.charset == Charset::Utf8UnlessDeclared)
    }

    /// The value of Content-Type for a file that begins so.
    pub fn content_type(&self, start: &[u8]) -> String {
        let essence = match self.is_ambiguous && is_transport_stream(start) {
            true => return "video/mp2t".to_owned(),
            false => &self.essence,
        };
        match &self.charset {
            Charset::None => essence.clone(),
            Charset::Utf8UnlessDeclared if essence == "text/html" && declares_charset(start) => essence.clone(),
            Charset::Utf8UnlessDeclared => format!("{essence}; charset=utf-8"),
            Charset::Named(charset) => format!("{essence}; charset={charset}"),
        }
    }
}

/// The type of the file `name`.
pub fn of(name: &[u8]) -> Media {
    let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or(name);
    let last = String::from_utf8_lossy(last).to_ascii_lowercase();
    let Some((stem, ending)) = last.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) else {
        let is_text = TEXTS.binary_search(&&*last).is_ok();
        return Media::of_essence(if is_text { "text/plain" } else { "application/octet-stream" });
    };
    if ending == "ts" {
        // A program in TypeScript, or a piece of a film.
        return Media { is_ambiguous: true, ..Media::of_essence("text/typescript") };
    }
    if let Ok(found) = ENDINGS.binary_search_by_key(&ending, |(ending, _)| ending) {
        return Media::of_essence(ENDINGS[found].1);
    }
    match mime_guess::from_ext(ending).first_raw() {
        Some(essence) => Media::of_essence(essence),
        // README.old, Makefile.am and the like.
        None if TEXTS.binary_search(&stem).is_ok() => Media::of_essence("text/plain"),
        None => Media::of_essence("application/octet-stream"),
    }
}

/// Packets of 188 bytes, each of which begins with the same byte (ISO/IEC 13818-1).
fn is_transport_stream(start: &[u8]) -> bool {
    const PACKET: usize = 188;
    start.len() > PACKET && start.iter().step_by(PACKET).all(|&byte| byte == 0x47)
}

/// Whether a page of HTML says its own charset: by a byte order mark, or by a `meta` element with an attribute
/// `charset`, or an `http-equiv` whose content has one (HTML, 13.2.3.2, as far as it matters here).
fn declares_charset(start: &[u8]) -> bool {
    if [&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| start.starts_with(mark)) {
        return true;
    }
    let lower = start[..start.len().min(SNIFFED_BYTES)].to_ascii_lowercase();
    let mut rest = &lower[..];
    while let Some(at) = find(rest, b"<meta") {
        rest = &rest[at + 5..];
        let end = rest.iter().position(|&byte| byte == b'>').unwrap_or(rest.len());
        if find(&rest[..end], b"charset").is_some() {
            return true;
        }
    }
    // XHTML that is served as HTML.
    lower.starts_with(b"<?xml") && find(&lower[..lower.len().min(200)], b"encoding").is_some()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_that_people_expect() {
        assert!(ENDINGS.is_sorted() && TEXTS.is_sorted());
        for (name, expected) in [
            ("a/b.PNG", "image/png"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.svg", "image/svg+xml"),
            ("a.xml", "text/xml"),
            ("README", "text/plain; charset=utf-8"),
            ("sub/LICENSE", "text/plain; charset=utf-8"),
            ("Makefile", "text/plain; charset=utf-8"),
            ("Makefile.am", "text/plain; charset=utf-8"),
            ("README.md", "text/markdown; charset=utf-8"),
            ("main.go", "text/x-go; charset=utf-8"),
            ("fix.diff", "text/x-diff; charset=utf-8"),
            ("a.tar.zst", "application/zstd"),
            ("a.rpm", "application/x-rpm"),
            ("a.tgz", "application/gzip"),
            ("a.tar.gz", "application/gzip"),
            ("go.mod", "text/plain; charset=utf-8"),
            ("configure.ac", "text/plain; charset=utf-8"),
            ("a.tar.xz.sha256", "text/plain; charset=utf-8"),
            ("guide.rst", "text/plain; charset=utf-8"),
            ("a.cjs", "text/javascript; charset=utf-8"),
            ("a.otf", "font/otf"),
            ("dists/stable/Release", "text/plain; charset=utf-8"),
            ("live.m3u8", "application/vnd.apple.mpegurl"),
            ("noextension", "application/octet-stream"),
            (".html", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
        ] {
            let media = of(name.as_bytes());
            assert!(!media.needs_content(), "{name}");
            assert_eq!(media.content_type(b""), expected, "{name}");
        }
        assert_eq!(of(b"\xff.css").content_type(b""), "text/css; charset=utf-8");
    }

    #[test]
    fn films_and_programs_share_an_ending() {
        let media = of(b"a.ts");
        assert!(media.needs_content());
        let film: Vec<u8> = (0..1024).map(|at| if at % 188 == 0 { 0x47 } else { 0 }).collect();
        assert_eq!(media.content_type(&film), "video/mp2t");
        assert_eq!(media.content_type(b"Gets: const x = 1;"), "text/typescript; charset=utf-8");
        assert_eq!(media.content_type(b""), "text/typescript; charset=utf-8");
    }

    #[test]
    fn a_page_that_declares_its_charset_is_believed() {
        let media = of(b"a.html");
        assert!(media.needs_content());
        for (start, declares) in [
            ("<!doctype html><meta charset=iso-8859-1>", true),
            ("<META HTTP-EQUIV='Content-Type' CONTENT='text/html; Charset=latin1'>", true),
            ("\u{feff}<p>", true),
            ("<?xml version='1.0' encoding='latin1'?><html>", true),
            ("<!doctype html><meta name=viewport content=x><p>charset", false),
            ("<p>hello", false),
            ("", false),
        ] {
            let expected = if declares { "text/html" } else { "text/html; charset=utf-8" };
            assert_eq!(media.content_type(start.as_bytes()), expected, "{start}");
        }
        let late = format!("{}<meta charset=latin1>", " ".repeat(1024));
        assert_eq!(media.content_type(late.as_bytes()), "text/html; charset=utf-8");
    }
}
