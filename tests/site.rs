//! What the operator says of the site: rules, fields, redirects, error pages, the fallback; on both planes, and read
//! again on SIGHUP.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{Response, Server, until};

struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new(files: &[(&str, &[u8])]) -> Site {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join("root").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Site { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.dir.path().join(name), text).unwrap();
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn rules_set_fields_on_misses_hits_parts_and_304s() {
    let site = Site::new(&[("assets/app.css", b"body{}"), ("a.txt", b"text"), ("old.html", b"<p>\xe4")]);
    let rules = site.file(
        "rules.toml",
        r#"
        [[rule]]
        match = "/assets/**"
        cache-control = "public, max-age=31536000, immutable"
        cors = { origin = "*" }
        [[rule]]
        match = "*.html"
        charset = "iso-8859-1"
        set = { Content-Security-Policy = "default-src 'self'" }
        remove = ["X-Content-Type-Options"]
        "#,
    );
    let server = Server::start(&site.root(), &["--rules", &rules, "--header", "*.txt: X-Note: a: b"]);
    for _ in 0..2 {
        for (plane, mut client) in server.planes() {
            let mut responses = vec![client.get("/assets/app.css"), client.request("HEAD", "/assets/app.css", &[])];
            let etag = responses[0].field("etag").unwrap().to_owned();
            responses.push(client.request("GET", "/assets/app.css", &[("If-None-Match", &etag)]));
            responses.push(client.request("GET", "/assets/app.css", &[("Range", "bytes=0-1")]));
            responses.push(client.request("GET", "/assets/app.css", &[("Range", "bytes=0-0,3-3")]));
            for response in &responses {
                let field = |name| response.field(name);
                assert_eq!(field("cache-control"), Some("public, max-age=31536000, immutable"), "{plane}");
                assert_eq!(field("access-control-allow-origin"), Some("*"), "{plane}");
                assert_eq!(field("x-content-type-options"), Some("nosniff"), "{plane}");
            }
            assert_eq!(responses[2].status, 304);
            let page = client.get("/old.html");
            assert_eq!(page.field("content-type"), Some("text/html; charset=iso-8859-1"));
            assert_eq!(page.field("content-security-policy"), Some("default-src 'self'"));
            assert_eq!(page.field("x-content-type-options"), None);
            assert_eq!(client.get("/a.txt").field("x-note"), Some("a: b"));
            assert_eq!(client.get("/a.txt").field("cache-control"), None);
        }
    }
}

#[test]
fn a_preflight_is_answered_where_a_rule_allows_it() {
    let site = Site::new(&[("api/x.json", b"{}"), ("y.json", b"{}")]);
    let rules = site.file(
        "rules.toml",
        "[[rule]]\nmatch = \"/api/**\"\ncors = { origin = \"https://a.example\", headers = [\"X-A\"], max-age = 60 }\n",
    );
    let server = Server::start(&site.root(), &["--rules", &rules]);
    let fields = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "GET")];
    let allowed = server.connect().request("OPTIONS", "/api/x.json", &fields);
    assert_eq!(allowed.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-methods", "GET, HEAD"),
        ("access-control-allow-headers", "X-A"),
        ("access-control-max-age", "60"),
        ("vary", "Origin"),
    ] {
        assert_eq!(allowed.field(name), Some(value));
    }
    let answer = server.get("/api/x.json");
    let mut varies = answer.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("vary"));
    assert!(varies.any(|(_, value)| value == "Origin"), "{:?}", answer.fields);
    assert_eq!(server.connect().request("OPTIONS", "/y.json", &fields).status, 403);
}

#[test]
fn each_of_several_origins_is_told_its_own() {
    let site = Site::new(&[("api/x.js", b"text"), ("api/x.js.gz", b"gzip")]);
    let rules = site.file(
        "rules.toml",
        r#"
        [[rule]]
        match = "/api/**"
        always = true
        cors = { origin = ["https://a.example", "https://b.example"], headers = ["X-A"] }
        "#,
    );
    let server = Server::start(&site.root(), &["--rules", &rules]);
    let origins = [
        (Some("https://a.example"), Some("https://a.example")),
        (Some("https://b.example"), Some("https://b.example")),
        (Some("https://c.example"), None),
        (Some("null"), None),
        (None, None),
    ];
    for (plane, mut client) in server.planes() {
        for (origin, told) in origins {
            for (target, accept, status) in [
                ("/api/x.js", "gzip", 200),
                ("/api/x.js", "", 200),
                ("/api/no", "", 404),
                ("/api", "", 301),
                ("/api/", "", 200),
            ] {
                let mut fields = vec![("Accept-Encoding", accept)];
                fields.extend(origin.map(|origin| ("Origin", origin)));
                let response = client.request("GET", target, &fields).expect(status);
                let what = format!("{plane} {origin:?} {target} {:?}", response.fields);
                assert_eq!(response.field("access-control-allow-origin"), told, "{what}");
                let varies = response
                    .fields
                    .iter()
                    .filter(|(name, value)| name.eq_ignore_ascii_case("vary") && value == "Origin");
                assert_eq!(varies.count(), 1, "{what}");
            }
        }
    }
    for (origin, told) in origins {
        let mut fields = vec![("Access-Control-Request-Method", "GET")];
        fields.extend(origin.map(|origin| ("Origin", origin)));
        let preflight = server.connect().request("OPTIONS", "/api/x.js", &fields);
        assert_eq!(preflight.status, if told.is_some() { 204 } else { 403 }, "{origin:?}");
        assert_eq!(preflight.field("access-control-allow-origin"), told);
    }
}

#[test]
fn fields_that_always_hold_go_with_errors_redirects_and_listings() {
    let site = Site::new(&[("dir/a.txt", b"text")]);
    let rules = site.file(
        "rules.toml",
        r#"
        [[rule]]
        match = "/**"
        always = true
        set = { Strict-Transport-Security = "max-age=1", Content-Language = "en", Content-Security-Policy = "default-src 'self'" }
        append = { Vary = "X-A" }
        cors = { origin = "*" }
        [[rule]]
        match = "/**"
        set = { X-File = "1" }
        [[rule]]
        match = "/old"
        redirect = { to = "/new" }
        "#,
    );
    let server = Server::start(&site.root(), &["--rules", &rules]);
    for (plane, mut client) in server.planes() {
        for (target, status) in [
            ("/dir/a.txt", 200),
            ("/missing", 404),
            ("/.git/config", 404),
            ("/missing/", 404),
            ("/old", 301),
            ("/dir", 301),
            ("/dir/", 200),
            ("/", 200),
        ] {
            for method in ["GET", "HEAD"] {
                let response = client.request(method, target, &[]).expect(status);
                let what = format!("{plane} {method} {target} {:?}", response.fields);
                assert_eq!(response.field("strict-transport-security"), Some("max-age=1"), "{what}");
                assert_eq!(response.field("access-control-allow-origin"), Some("*"), "{what}");
                assert_eq!(response.field("content-security-policy"), Some("default-src 'self'"), "{what}");
                let varies =
                    response.fields.iter().filter(|(name, value)| name.eq_ignore_ascii_case("vary") && value == "X-A");
                assert_eq!(varies.count(), 1, "{what}");
                let is_file = target.ends_with(".txt");
                assert_eq!(response.field("x-file").is_some(), is_file, "{what}");
                assert_eq!(response.field("content-language").is_some(), is_file, "{what}");
            }
        }
        // The server's own pages keep their own.
        assert!(client.get("/.forebay/").field("strict-transport-security").is_none(), "{plane}");
    }
}

#[test]
fn what_has_moved_is_redirected_with_its_query() {
    let site = Site::new(&[("old/still-here", b"x"), ("new/a", b"y")]);
    let rules = site.file(
        "rules.toml",
        "[[rule]]\nmatch = \"/old/**\"\nredirect = { to = \"/new/$1\", status = 308 }\n\
         [[rule]]\nmatch = \"/blog\"\nredirect = { to = \"https://blog.example/\" }\n",
    );
    let server = Server::start(&site.root(), &["--rules", &rules]);
    for (plane, mut client) in server.planes() {
        for (target, status, location) in [
            ("/old/a", 308, Some("/new/a")),
            ("/old/a%20b?x=1&y=%20", 308, Some("/new/a%20b?x=1&y=%20")),
            ("/blog", 301, Some("https://blog.example/")),
            ("/old/still-here", 200, None),
            ("/nowhere", 404, None),
        ] {
            let response = client.get(target);
            assert_eq!((response.status, response.field("location")), (status, location), "{plane} {target}");
        }
    }
}

#[test]
fn pages_stand_for_errors() {
    let site = Site::new(&[("a.txt", b"text")]);
    let page = site.file("404.html", "<!doctype html><meta charset=utf-8><p>Not here");
    let server = Server::start(&site.root(), &["--error-page", &format!("404={page}")]);
    for (plane, mut client) in server.planes() {
        for target in ["/no", "/no/", "/.git/config"] {
            let missing = client.get(target);
            assert_eq!((missing.status, missing.field("content-type")), (404, Some("text/html")), "{plane} {target}");
            assert!(missing.text().ends_with("<p>Not here"), "{plane} {target}");
            let head = client.request("HEAD", target, &[]);
            assert_eq!((head.status, head.length()), (404, missing.body.len()), "{plane} {target}");
        }
        assert_eq!(client.request("GET", "/a.txt", &[("Range", "bytes=9-")]).status, 416, "{plane}");
        assert_eq!(client.get("/a.txt").status, 200, "{plane}");
    }
}

#[test]
fn the_fallback_is_served_where_there_is_no_file() {
    let site = Site::new(&[("index.html", b"<p>app"), ("real.txt", b"real")]);
    let server = Server::start(&site.root(), &["--fallback", "/index.html"]);
    for (plane, mut client) in server.planes() {
        for _ in 0..2 {
            for target in ["/app/route", "/app/route/", "/x?y", "/index.html"] {
                let response: Response = client.get(target);
                assert_eq!((response.status, &*response.text()), (200, "<p>app"), "{plane} {target}");
                assert_eq!(response.field("content-type"), Some("text/html; charset=utf-8"));
            }
            assert_eq!(client.get("/real.txt").text(), "real", "{plane}");
            assert_eq!(client.get("/.git/config").status, 404, "{plane}");
        }
    }
    fs::create_dir(site.root().join("docs")).unwrap();
    fs::write(site.root().join("docs/guide.txt"), "guide").unwrap();
    for (plane, mut client) in server.planes() {
        let listing = client.request("GET", "/docs/", &[("Accept", "text/html")]);
        assert!(listing.expect(200).text().contains("guide.txt"), "{plane}");
        assert_eq!(client.get("/real.txt/").text(), "<p>app", "{plane}");
    }
    fs::remove_file(site.root().join("index.html")).unwrap();
    until("the fallback to be gone", || server.get("/app/route").status == 404);
}

#[test]
fn applications_of_one_page_and_of_other_origins_stay_on_the_data_plane() {
    let site = Site::new(&[("index.html", b"<p>app"), ("api/x.json", b"{}"), ("y.json", b"{}")]);
    let rules = site.file("rules.toml", "[[rule]]\nmatch = \"/api/**\"\ncors = { origin = \"https://a.example\" }\n");
    let server = Server::start(&site.root(), &["--rules", &rules, "--fallback", "index.html"]);
    // Those who ask for the metrics are handed over themselves.
    let handoffs = || server.sample("forebay_handoffs_total");
    let before = handoffs();
    let mut client = server.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/app/route/").expect(200).text(), "<p>app");
        for (target, status) in [("/api/x.json", 204), ("/api/none/", 204), ("/y.json", 403)] {
            let fields = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "GET")];
            let preflight = client.request("OPTIONS", target, &fields);
            assert_eq!(preflight.status, status, "{target}");
            assert_eq!(preflight.field("content-length").is_some(), status == 403, "{target}");
        }
        assert_eq!(client.get("/api/x.json").expect(200).text(), "{}");
    }
    assert_eq!(handoffs(), before + 1);
    // Without the question of a browser it is about the methods.
    assert_eq!(client.request("OPTIONS", "/y.json", &[]).expect(204).field("allow"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(handoffs(), before + 3);
}

#[test]
fn what_is_missing_is_not_looked_for_again_and_again() {
    let site = Site::new(&[("index.html", b"<p>app")]);
    let options = ["--fallback", "index.html", "--revalidate", "1h", "--allow-writes"];
    let server = Server::start(&site.root(), &options);
    let fills = || server.sample("forebay_fills_total{event=\"started\"}");
    for (plane, mut client) in server.planes() {
        let route = format!("/route/{plane}");
        assert_eq!(client.get(&route).text(), "<p>app");
        let before = fills();
        for _ in 0..10 {
            assert_eq!(client.get(&route).expect(200).text(), "<p>app");
        }
        assert_eq!(fills(), before, "{plane}");
        // What is put there is served at once.
        server.put(&route, b"put").expect(201);
        assert_eq!(client.get(&route).text(), "put", "{plane}");
        server.delete(&route).expect(204);
        assert_eq!(client.get(&route).text(), "<p>app", "{plane}");
        let directory = format!("/directory/{plane}/");
        assert_eq!(client.get(&directory).text(), "<p>app");
        let before = fills();
        for _ in 0..10 {
            assert_eq!(client.get(&directory).expect(200).text(), "<p>app");
        }
        assert_eq!(fills(), before, "{plane}");
        server.put(&format!("{directory}in/it"), b"put").expect(201);
        let listing = client.request("GET", &directory, &[("Accept", "text/html")]);
        assert!(listing.text().contains("in/"), "{plane}: {}", listing.text());
    }
    // And what appears by other ways, within --revalidate.
    let server = Server::start(&site.root(), &["--fallback", "index.html", "--revalidate", "20ms"]);
    let mut client = server.connect();
    assert_eq!(client.get("/new").text(), "<p>app");
    fs::write(site.root().join("new"), "new").unwrap();
    until("the file is served", || client.get("/new").text() == "new");
}

#[test]
fn what_has_moved_has_moved_with_a_fallback_too() {
    let site = Site::new(&[("index.html", b"<p>app"), ("old/still-here", b"x")]);
    let rules = site.file("rules.toml", "[[rule]]\nmatch = \"/old/**\"\nredirect = { to = \"/new/$1\" }\n");
    let server = Server::start(&site.root(), &["--rules", &rules, "--fallback", "index.html"]);
    for (plane, mut client) in server.planes() {
        for _ in 0..2 {
            for (target, status) in [("/old/a", 301), ("/old/a/", 301), ("/old/still-here", 200), ("/new/a", 200)] {
                assert_eq!(client.get(target).status, status, "{plane} {target}");
            }
        }
    }
}

#[test]
fn types_and_charsets_are_told_by_name_and_content() {
    let film: Vec<u8> = (0..4096).map(|at| if at % 188 == 0 { 0x47 } else { 1 }).collect();
    let site = Site::new(&[
        ("declared.html", b"<!doctype html><meta charset=latin1><p>\xe4"),
        ("plain.html", b"<p>hello"),
        ("empty.html", b""),
        ("film.ts", &film),
        ("program.ts", b"const x = 1"),
        ("README", b"text"),
        ("main.go", b"package main"),
        ("feed.xml", b"<?xml version='1.0' encoding='latin1'?>"),
        ("data", b"\0"),
    ]);
    let server = Server::start(&site.root(), &[]);
    for _ in 0..2 {
        for (plane, mut client) in server.planes() {
            for (name, kind) in [
                ("declared.html", "text/html"),
                ("plain.html", "text/html; charset=utf-8"),
                ("empty.html", "text/html; charset=utf-8"),
                ("film.ts", "video/mp2t"),
                ("program.ts", "text/typescript; charset=utf-8"),
                ("README", "text/plain; charset=utf-8"),
                ("main.go", "text/x-go; charset=utf-8"),
                ("feed.xml", "text/xml"),
                ("data", "application/octet-stream"),
            ] {
                for method in ["GET", "HEAD"] {
                    let response = client.request(method, &format!("/{name}"), &[]);
                    assert_eq!(response.field("content-type"), Some(kind), "{plane} {method} {name}");
                    assert_eq!(response.field("x-content-type-options"), Some("nosniff"), "{plane} {name}");
                }
            }
        }
    }
}

#[test]
fn sighup_reads_rules_and_pages_again_and_describes_what_is_cached_anew() {
    let site = Site::new(&[("a.txt", b"text")]);
    let rule = |value: &str| format!("[[rule]]\nmatch = \"*\"\ncache-control = \"max-age={value}\"\n");
    let rules = site.file("rules.toml", &rule("1"));
    let page = site.file("404.txt", "first");
    let args = ["--rules", &rules, "--error-page", &format!("404={page}"), "--revalidate", "1h"];
    let server = Server::start(&site.root(), &args);
    let said = || server.get("/a.txt").field("cache-control").map(str::to_owned);
    assert_eq!(said().as_deref(), Some("max-age=1"));
    assert!(server.get("/a.txt").is_hit());
    site.file("rules.toml", &rule("2"));
    site.file("404.txt", "second");
    server.signal(rustix::process::Signal::HUP);
    until("the new rules to hold", || said().as_deref() == Some("max-age=2"));
    assert_eq!(server.get("/no").text(), "second");
    // What is wrong is said, and changes nothing.
    site.file("rules.toml", "[[rule]]\nmatch = \"*\"\nset = { Date = \"x\" }\n");
    server.signal(rustix::process::Signal::HUP);
    until("the server to complain", || server.stderr().contains("line 3"));
    assert_eq!(said().as_deref(), Some("max-age=2"));
}

#[test]
fn what_is_wrong_is_said_at_start() {
    let site = Site::new(&[]);
    fs::create_dir_all(site.root()).unwrap();
    let start = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.arg("serve").arg(site.root()).args(["--listen", "127.0.0.1:0"]).args(args);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let rules = site.file("rules.toml", "[[rule]]\nmatch = \"[\"\n");
    let missing = Path::new(&rules).with_file_name("no.toml").to_str().unwrap().to_owned();
    for (args, status, expected) in [
        (["--rules", &rules], 1, "rules.toml: line 2"),
        (["--rules", &missing], 1, "no.toml cannot be read"),
        (["--rules", "/"], 1, "it is no file"),
        (["--header", "*.css Cache-Control"], 1, "PATTERN: Name: value"),
        (["--header", "*: Content-Length: 1"], 1, "server's own"),
        (["--error-page", "404=/no/such/page"], 1, "/no/such/page cannot be read"),
        (["--error-page", "200=x"], 2, "from 400 to 599"),
        (["--fallback", "../x"], 2, "in the root"),
    ] {
        let (found, said) = start(&args);
        assert!(found == status && said.contains(expected), "{args:?}: {found} {said}");
    }
}
