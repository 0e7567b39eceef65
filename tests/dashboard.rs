//! The dashboard in a real browser without a screen (Debian's chromium). Skipped, said aloud, where there is none.

mod support;

use std::fs;
use std::path::Path;

use support::tools::page_in_browser;
use support::{Server, bytes};

/// The page as it stands after `budget_ms` of the browser's virtual time; None where there is no browser.
fn dump(address: &str, profile: &Path, width: u32, budget_ms: u32) -> Option<String> {
    page_in_browser(&format!("http://{address}/.forebay/"), profile, width, budget_ms)
}

/// The text of the element with this id.
fn text<'p>(page: &'p str, id: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {page}"));
    let (_, rest) = rest.split_once('>').unwrap();
    rest.split_once('<').unwrap().0
}

#[test]
fn it_shows_what_the_server_does() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let names = ["popular <b>&.txt", "small", "large.bin"];
    for (name, length) in names.into_iter().zip([5_000, 300, 400_000]) {
        fs::write(root.join(name), bytes(1, length)).unwrap();
    }
    let server = Server::start(&root, &["--revalidate", "1h"]);
    let ask = || {
        for target in ["/popular%20%3Cb%3E%26.txt", "/popular%20%3Cb%3E%26.txt", "/small", "/large.bin"] {
            server.get(target).expect(200);
        }
    };
    ask();
    // Until the counters were noted twice with requests in between.
    support::until("a second with traffic in the series", || {
        ask();
        let live = server.get("/.forebay/live").json();
        live["series"]["hits"].as_array().unwrap().iter().any(|hits| hits.as_u64() > Some(0))
    });
    let Some(page) = dump(&server.address().to_string(), &dir.path().join("profile"), 1200, 5_000) else { return };
    assert!(text(&page, "state").contains("live"), "{}", text(&page, "state"));
    assert!(text(&page, "ratio").ends_with('%'), "{}", text(&page, "ratio"));
    assert!(text(&page, "hit-latency").ends_with('s'), "{}", text(&page, "hit-latency"));
    assert_eq!(text(&page, "entries"), "3");
    assert!(text(&page, "title").starts_with(root.to_str().unwrap()), "{}", text(&page, "title"));
    assert!(text(&page, "hit-latency-note").contains("99 %: "), "{}", text(&page, "hit-latency-note"));
    let (_, statuses) = page.split_once("id=\"statuses\"").unwrap();
    assert!(statuses.starts_with("><tr><td>2xx</td><td>"), "{}", &statuses[..60]);
    let (_, evictions) = page.split_once("id=\"evictions\"").unwrap();
    assert!(evictions.starts_with("><tr><td>none yet</td>"), "{}", &evictions[..60]);
    assert!(page.contains("popular &lt;b&gt;&amp;.txt"), "names are shown as text");
    assert!(!page.contains("popular <b>"), "and never as markup");
    for chart in ["chart-ratio", "chart-bytes", "chart-requests", "chart-latency", "chart-errors"] {
        let (_, rest) = page.split_once(&format!("id=\"{chart}\"")).unwrap();
        let (drawing, _) = rest.split_once("</svg>").unwrap();
        assert!(drawing.contains("<path") && drawing.contains("<text"), "{chart} is drawn: {drawing}");
    }
    let (_, arena) = page.split_once("id=\"classes\"").unwrap();
    let (arena, _) = arena.split_once("</section>").unwrap();
    assert_eq!(arena.matches("class=\"class\"").count(), 4, "three sizes, and what is not in use: {arena}");
    assert!(arena.contains("1 file in 392 KiB"), "{arena}");
    // A tile is a 1024th of the arena, 64 KiB: six for the large file, one for each small one.
    assert_eq!(arena.matches("hits/s").count(), 8, "{arena}");
}

#[test]
fn it_asks_for_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let (root, token) = (dir.path().join("root"), dir.path().join("token"));
    fs::create_dir(&root).unwrap();
    fs::write(&token, "s3cret").unwrap();
    let server = Server::start(&root, &["--token-reads", "--token-file", token.to_str().unwrap()]);
    let Some(page) = dump(&server.address().to_string(), &dir.path().join("profile"), 400, 3_000) else { return };
    assert_eq!(text(&page, "state"), "needs a token");
    assert!(page.contains("id=\"ask\" open"), "the dialog is shown");
}
