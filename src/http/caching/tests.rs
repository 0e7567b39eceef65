//! The decisions in tables. What is in them follows the public suite of cache tests where that has a case.

use super::invalidation::{invalidated, is_safe};
use super::update::{is_stored, retain_stored, update};
use super::*;

/// Fields from lines.
fn fields(lines: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).unwrap();
        fields.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    fields
}

/// A time so many seconds from now, as it is written.
fn at(now: SystemTime, seconds: i64) -> String {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    httpdate::fmt_http_date(if seconds < 0 { now - distance } else { now + distance })
}

/// Any moment, on a whole second.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Fields in which `@7` stands for the date in seven seconds.
fn dated(lines: &str) -> HeaderMap {
    let mut text = String::new();
    let mut rest = lines;
    while let Some((before, after)) = rest.split_once('@') {
        let end = after.find(|letter: char| letter != '-' && !letter.is_ascii_digit()).unwrap_or(after.len());
        text.push_str(before);
        text.push_str(&at(now(), after[..end].parse().unwrap()));
        rest = &after[end..];
    }
    text.push_str(rest);
    fields(&text)
}

fn of(request: &str, status: u16, answer: &str) -> Option<Storable> {
    let times = Times { received: now(), delay: Duration::ZERO };
    storable(&Method::GET, &fields(request), StatusCode::from_u16(status).unwrap(), &dated(answer), times)
}

/// For how many seconds an answer is served without the origin being asked; `None` if it is not kept.
fn fresh(status: u16, answer: &str) -> Option<u64> {
    let found = of("", status, answer)?;
    Some(if found.no_cache { 0 } else { found.lifetime.saturating_sub(found.initial_age).as_secs() })
}

const FOREVER: u64 = 1 << 31;
const TAG: &str = "ETag: \"a\"\n";

#[test]
fn freshness_is_what_the_response_says() {
    for (answer, seconds) in [
        ("Cache-Control: max-age=3600", 3600),
        ("Cache-Control: max-age=0", 0),
        ("Cache-Control: max-age=2147483647", FOREVER - 1),
        ("Cache-Control: max-age=2147483648", FOREVER),
        ("Cache-Control: max-age=99999999999", FOREVER),
        ("Cache-Control: max-age=999999999999999999999999999", FOREVER),
        ("Cache-Control: max-age=3600\nDate: @-600", 3000),
        ("Cache-Control: max-age=3600\nDate: @600", 3600),
        ("Cache-Control: max-age=3600\nDate: foo", 3600),
        ("Cache-Control: max-age=3600\nExpires: @-7200\nDate: @0", 3600),
        ("Cache-Control: max-age=3600\nExpires: 0\nDate: @0", 3600),
        ("Cache-Control: max-age=0\nExpires: @3600\nDate: @0", 0),
        ("Cache-Control: foobar, max-age=3600", 3600),
        ("Cache-Control: MaX-aGe=3600", 3600),
        ("Cache-Control: s-maxage=3600", 3600),
        ("Cache-Control: max-age=3600, s-maxage=1", 1),
        ("Cache-Control: s-maxage=1, max-age=3600", 1),
        ("Cache-Control: max-age=3600\nCache-Control: s-maxage=1", 1),
        ("Cache-Control: max-age=0, s-maxage=3600\nExpires: @-10", 3600),
        ("Expires: @300\nDate: @0", 300),
        ("Expires: @300", 300),
        ("Expires: @10\nDate: foo", 10),
        ("Expires: @-300\nDate: @0", 0),
        ("Expires: @0\nDate: @0", 0),
        ("Expires: @300\nDate: @400", 0),
        ("Expires: @20\nDate: @10\nAge: 15", 0),
        ("Expires: @10\nDate: @-10\nAge: 25", 0),
        ("Expires: @300\nExpires: @400\nDate: @0", 0),
        ("Expires: @300\nExpires: @300\nDate: @0", 300),
        ("Cache-Control: public, max-age=60, must-revalidate", 60),
    ] {
        assert_eq!(fresh(200, &format!("{TAG}{answer}")), Some(seconds), "{answer:?}");
    }
}

#[test]
fn mistakes_make_nothing_fresh() {
    for (value, seconds) in [
        ("max-age=1800, max-age=1", 1),
        ("max-age=1, max-age=1800", 1),
        ("max-age=1800\nCache-Control: max-age=1", 1),
        ("max-age=\"3600\"", 3600),
        ("max-age=003600", 3600),
        ("max-age='3600'", 0),
        ("max-age=-3600", 0),
        ("max-age=3600.0", 0),
        ("max-age=3600a", 0),
        ("max-age=a3600", 0),
        ("max-age= 3600", 0),
        ("max-age=", 0),
        ("max-age", 0),
        ("max-age=\u{664}", 0),
        ("max-age=3600=3600", 0),
        ("extension=\"max-age=3600\", max-age=1", 1),
        ("max-age=1, extension=\"max-age=3600\"", 1),
        ("max-age=1, extension=\"\\\", max-age=3600\"", 1),
        ("extension=\"a, max-age=1", 0),
        (",, max-age=5 ,", 5),
        ("max-age=3600;public", 0),
    ] {
        assert_eq!(fresh(200, &format!("{TAG}Cache-Control: {value}")), Some(seconds), "{value:?}");
    }
    // A space before the sign makes it a directive that nobody knows.
    assert_eq!(fresh(200, &format!("{TAG}Cache-Control: max-age =3600")), Some(0));
    assert_eq!(fresh(200, &format!("{TAG}Cache-Control: \u{fe}\u{ff}, max-age=5")), Some(5));
}

#[test]
fn ages_are_read_as_they_come() {
    for (age, seconds) in [
        ("0", 3600),
        ("600", 3000),
        ("abc", 3600),
        ("-7200", 3600),
        ("600.0", 3600),
        ("600;foo=bar", 3600),
        ("", 3600),
        ("2147483647", 0),
        ("2147483649", 0),
        ("99999999999999999999999", 0),
        ("7200, 0", 0),
        ("0, 7200", 3600),
        ("7200\nAge: 0", 0),
        ("0\nAge: 7200", 3600),
    ] {
        let answer = format!("{TAG}Date: @0\nCache-Control: max-age=3600\nAge: {age}");
        assert_eq!(fresh(200, &answer), Some(seconds), "{age:?}");
    }
    let times = Times { received: now(), delay: Duration::from_secs(5) };
    let slow = dated("Date: @-7\nCache-Control: max-age=60\nAge: 3");
    let found = storable(&Method::GET, &HeaderMap::new(), StatusCode::OK, &slow, times).unwrap();
    assert_eq!(found.initial_age, Duration::from_secs(8), "what Age says, and the time that the answer took");
    let skewed = dated("Date: @-70\nCache-Control: max-age=90\nAge: 3");
    let found = storable(&Method::GET, &HeaderMap::new(), StatusCode::OK, &skewed, times).unwrap();
    assert_eq!(found.initial_age, Duration::from_secs(70), "the time since its date, if that is longer");
}

#[test]
fn dates_are_read_in_every_form_and_no_other() {
    for (expires, is_read) in [
        ("Tue, 19 Jan 2038 14:14:08 GMT", true),
        ("Sun, 21 Nov 2286 04:46:39 GMT", true),
        ("Thursday, 18-Aug-50 02:01:18 GMT", true),
        ("Thu Aug 18 02:01:18 2050", true),
        ("Thu Aug  8 02:01:18 2050", true),
        ("THU, 18 Aug 2050 02:01:18 GMT", true),
        ("Mon, 18 Aug 2050 02:01:18 GMT", true),
        ("Foo, 18 Aug 2050 02:01:18 GMT", false),
        ("Thu, 31 Jun 2050 02:01:18 GMT", false),
        ("Thu, 18 AUG 2050 02:01:18 GMT", true),
        ("Thu, 18 Aug 2050 02:01:18 gMT", true),
        ("Thu, 18 Aug 2050 02:01:18 UTC", false),
        ("Thu, 18 Aug 2050 02:01:18 AEST", false),
        ("Thu, 18 Aug 50 02:01:18 GMT", false),
        ("Thu 18 Aug 2050 02:01:18 GMT", false),
        ("Thu, 18  Aug  2050 02:01:18 GMT", false),
        ("Thu, 18-Aug-2050 02:01:18 GMT", false),
        ("Thu, 18 Aug 2050 02.01.18 GMT", false),
        ("Thu, 18 Aug 2050 2:01:18 GMT", false),
        ("0", false),
        ("-1", false),
        ("", false),
        ("GMT", false),
        ("\u{fc}", false),
    ] {
        let found = fresh(200, &format!("{TAG}Date: @0\nExpires: {expires}"));
        assert_eq!(found.map(|seconds| seconds > 0), Some(is_read), "{expires:?}");
    }
}

#[test]
fn without_a_word_a_tenth_of_its_age_is_fresh_for_a_day_at_most() {
    for (answer, seconds) in [
        ("Last-Modified: @-100\nDate: @0", Some(10)),
        ("Last-Modified: @-100", Some(10)),
        ("Last-Modified: @-864000\nDate: @0", Some(86_400)),
        ("Last-Modified: @-86400000\nDate: @0", Some(86_400)),
        ("Last-Modified: @100\nDate: @0", Some(0)),
        ("Last-Modified: foo\nDate: @0", Some(0)),
        ("Last-Modified: @-86400\nDate: @0\nSet-Cookie: a=b", Some(0)),
        ("Last-Modified: @-86400\nDate: @0\nPragma: no-cache", Some(0)),
        ("Last-Modified: @-86400\nDate: @0\nPragma: other", Some(8_640)),
        ("Last-Modified: @-86400\nCache-Control: foo\nPragma: no-cache", Some(8_640)),
        ("Date: @0", None),
        ("", None),
        ("ETag: \"a\"", Some(0)),
    ] {
        assert_eq!(fresh(200, answer), seconds, "{answer:?}");
    }
    for (status, is_kept) in [
        (200, true),
        (201, false),
        (202, false),
        (203, true),
        (204, true),
        (206, false),
        (299, false),
        (300, true),
        (301, true),
        (302, false),
        (304, false),
        (307, false),
        (308, true),
        (400, false),
        (403, false),
        (404, true),
        (405, true),
        (410, true),
        (414, true),
        (500, false),
        (501, true),
        (502, false),
        (503, false),
        (504, false),
        (599, false),
    ] {
        assert_eq!(fresh(status, "Last-Modified: @-86400\nDate: @0").is_some(), is_kept, "{status}");
    }
    assert_eq!(fresh(599, "Last-Modified: @-86400\nDate: @0\nCache-Control: public"), Some(8_640));
    // What is said counts for every status.
    for status in [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599] {
        assert_eq!(fresh(status, "Cache-Control: max-age=100"), Some(100), "{status}");
        assert_eq!(fresh(status, "Expires: @100"), Some(100), "{status}");
    }
    for status in [206, 304] {
        assert_eq!(fresh(status, "Cache-Control: max-age=100"), None, "{status}");
    }
}

#[test]
fn some_responses_are_not_kept() {
    for (answer, is_kept) in [
        ("Cache-Control: private, max-age=3600", false),
        ("Cache-Control: max-age=3600, PRIVATE", false),
        ("Cache-Control: private=\"\", max-age=3600", false),
        ("Cache-Control: private=\"not a name\", max-age=3600", false),
        ("Cache-Control: No-StOrE", false),
        ("Cache-Control: max-age=10000, no-store\nExpires: @10000", false),
        ("Cache-Control: max-age=10000, no-store, must-understand", true),
        ("Cache-Control: x=\"no-store\", max-age=10000", true),
        ("Cache-Control: max-age=0", false),
        ("Cache-Control: no-cache", false),
        ("Cache-Control: max-age=0\nETag: \"a\"", true),
        ("Cache-Control: no-cache\nETag: \"a\"", true),
        ("Cache-Control: max-age=0, stale-while-revalidate=5", true),
        ("Cache-Control: max-age=0, stale-if-error=5", true),
        ("Cache-Control: max-age=0, stale-while-revalidate=5, must-revalidate", false),
        ("Cache-Control: max-age=9\nSet-Cookie: a=b", true),
        ("Cache-Control: max-age=9\nVary: *", false),
        ("Cache-Control: max-age=9\nVary: , *", false),
        ("Cache-Control: max-age=9\nVary: Foo, *", false),
        ("Cache-Control: max-age=9\nVary: Foo\nVary: *", false),
        ("Cache-Control: max-age=9\nVary: a b", false),
    ] {
        assert_eq!(of("", 200, answer).is_some(), is_kept, "{answer:?}");
    }
    assert!(of("", 599, "Cache-Control: max-age=3600, no-store, must-understand").is_none());
    assert!(of("", 599, "Cache-Control: max-age=3600, must-understand").is_none());
    assert!(of("Cache-Control: no-store", 200, "Cache-Control: max-age=9").is_none());
    let times = Times { received: now(), delay: Duration::ZERO };
    for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
        let answer = fields("Cache-Control: max-age=9");
        assert_eq!(storable(&method, &HeaderMap::new(), StatusCode::OK, &answer, times), None, "{method}");
    }
}

#[test]
fn what_one_user_was_told_is_kept_only_if_others_may_have_it() {
    for (value, is_kept) in [
        ("max-age=9", false),
        ("max-age=9, public", true),
        ("max-age=9, must-revalidate", true),
        ("max-age=9, proxy-revalidate", true),
        ("s-maxage=9", true),
        ("max-age=9, private", false),
    ] {
        let found = of("Authorization: Basic Zm9v", 200, &format!("Cache-Control: {value}"));
        assert_eq!(found.is_some(), is_kept, "{value:?}");
    }
}

#[test]
fn the_terms_are_kept_with_the_response() {
    let found = of(
        "",
        200,
        "Cache-Control: max-age=60, stale-while-revalidate=30, stale-if-error=600, no-cache=\"a, X-B\", private=\"c\"
         ETag: abc
         Last-Modified: @-100
         Vary: Foo, ,accept
         Vary: foo, X-Baz",
    );
    let names = |names: &[&'static str]| names.iter().map(|name| HeaderName::from_static(name)).collect::<Vec<_>>();
    let expected = Storable {
        lifetime: Duration::from_secs(60),
        initial_age: Duration::ZERO,
        must_revalidate: false,
        no_cache: false,
        stale_while_revalidate: Duration::from_secs(30),
        stale_if_error: Some(Duration::from_secs(600)),
        vary: names(&["accept", "foo", "x-baz"]),
        etag: Some(HeaderValue::from_static("abc")),
        last_modified: Some(HeaderValue::try_from(at(now(), -100)).unwrap()),
        left_out: names(&["a", "x-b", "c"]),
    };
    assert_eq!(found, Some(expected));
    for value in ["must-revalidate, max-age=2", "proxy-revalidate, max-age=2", "s-maxage=2"] {
        assert!(of("", 200, &format!("Cache-Control: {value}")).unwrap().must_revalidate, "{value}");
    }
    assert!(of("", 200, "Cache-Control: max-age=9, No-CaChE\nETag: \"a\"").unwrap().no_cache);
    assert_eq!(of("", 200, "ETag: \"a\"\nETag: \"b\"\nCache-Control: max-age=9").unwrap().etag, None, "which one?");
}

#[test]
fn directives_for_such_caches_come_first() {
    for (answer, seconds) in [
        ("CDN-Cache-Control: max-age=3600", Some(3600)),
        ("CDN-Cache-Control: max-age=99999999999", Some(FOREVER)),
        ("CDN-Cache-Control: max-age=3600\nDate: @0\nAge: 7200", Some(0)),
        ("CDN-Cache-Control: foobar, max-age=3600", Some(3600)),
        ("CDN-Cache-Control: max-age=3600\nExpires: @-10000", Some(3600)),
        ("CDN-Cache-Control: max-age=0\nExpires: @10000", Some(0)),
        ("CDN-Cache-Control: max-age=3600\nCache-Control: max-age=1", Some(3600)),
        ("CDN-Cache-Control: max-age=1\nCache-Control: max-age=3600", Some(1)),
        ("CDN-Cache-Control: private\nCache-Control: max-age=10000", None),
        ("CDN-Cache-Control: no-store\nCache-Control: max-age=10000", None),
        ("CDN-Cache-Control: no-cache\nCache-Control: max-age=10000\nExpires: @10000", Some(0)),
        ("CDN-Cache-Control: max-age=10000\nCache-Control: no-store", Some(10_000)),
        ("CDN-Cache-Control: no-store=?0, max-age=5", Some(5)),
        ("CDN-Cache-Control: max-age=5\nCDN-Cache-Control: max-age=7", Some(7)),
        // Broken ones do not count.
        ("CDN-Cache-Control: max-age=10000, &&&&&\nCache-Control: no-store", None),
        ("CDN-Cache-Control: max-age=\"10000\"\nCache-Control: no-store", None),
        ("CDN-Cache-Control: max-age=10000.5\nCache-Control: no-store", None),
        ("CDN-Cache-Control: max-age\nCache-Control: max-age=4", Some(4)),
        ("CDN-Cache-Control: max-age =100\nCache-Control: max-age=4", Some(4)),
        ("CDN-Cache-Control: max-age= 100\nCache-Control: max-age=4", Some(4)),
        ("CDN-Cache-Control: MaX-aGe=100\nCache-Control: max-age=4", Some(4)),
        ("CDN-Cache-Control:\nCache-Control: max-age=4", Some(4)),
        ("CDN-Cache-Control: max-age=-5\nCache-Control: max-age=4", Some(0)),
    ] {
        assert_eq!(fresh(200, &format!("{TAG}{answer}")), seconds, "{answer:?}");
    }
}

#[test]
fn requests_say_what_they_want() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let none = Directives::default();
    for (request, expected) in [
        ("", none),
        ("Cache-Control: no-cache", Directives { no_cache: true, ..none }),
        ("Pragma: No-Cache", Directives { no_cache: true, ..none }),
        ("Pragma: other", none),
        ("Pragma: no-cache\nCache-Control: foo", none),
        ("Cache-Control: no-store, only-if-cached", Directives { no_store: true, only_if_cached: true, ..none }),
        ("Cache-Control: max-age=0", Directives { max_age: seconds(0), ..none }),
        ("Cache-Control: max-age=600\nCache-Control: max-age=60", Directives { max_age: seconds(60), ..none }),
        ("Cache-Control: max-age=x", Directives { max_age: seconds(0), ..none }),
        ("Cache-Control: min-fresh=20", Directives { min_fresh: seconds(20), ..none }),
        ("Cache-Control: min-fresh=x", none),
        ("Cache-Control: max-stale=1000", Directives { max_stale: seconds(1000), ..none }),
        ("Cache-Control: max-stale", Directives { max_stale: seconds(FOREVER), ..none }),
        ("Cache-Control: max-stale=x", none),
        ("Cache-Control: stale-if-error=7", Directives { stale_if_error: seconds(7), ..none }),
    ] {
        assert_eq!(Directives::of(&fields(request)), expected, "{request:?}");
    }
}

#[test]
fn a_304_changes_what_it_says_and_nothing_of_the_bytes() {
    let mut stored = fields(
        "Cache-Control: max-age=1\nETag: \"a\"\nContent-Length: 36\nContent-Encoding: gzip\nX-Kept: 1\nSet-Cookie: a=1
         Set-Cookie: b=1\nContent-Type: text/plain",
    );
    update(
        &mut stored,
        &fields(
            "Cache-Control: max-age=3600\nContent-Length: 10\nContent-Encoding: br\nContent-Range: x\nX-New: 2
             X-New: 3\nSet-Cookie: a=2\nConnection: close\nAge: 5\nContent-Type: text/html",
        ),
    );
    let expected = fields(
        "Cache-Control: max-age=3600\nETag: \"a\"\nContent-Length: 36\nContent-Encoding: gzip\nX-Kept: 1\nSet-Cookie: a=2
         Content-Type: text/html\nX-New: 2\nX-New: 3",
    );
    assert_eq!(stored, expected);
}

#[test]
fn some_fields_are_not_kept() {
    let mut message = fields(
        "Connection: a\nKeep-Alive: 1\nProxy-Authenticate: x\nProxy-Authentication-Info: x\nProxy-Authorization: x
         Proxy-Connection: x\nTE: x\nTransfer-Encoding: chunked\nUpgrade: x\nAge: 5\nX-Left: 1\nSet-Cookie: a=b\nDate: x",
    );
    retain_stored(&mut message, &[HeaderName::from_static("x-left")]);
    assert_eq!(message, fields("Set-Cookie: a=b\nDate: x"));
    assert!(is_stored(&header::CONTENT_LENGTH));
}

#[test]
fn what_changes_something_makes_stale_what_it_names() {
    let of = |method: &str, status: u16, target: &str, answer: &str| {
        let (method, status) = (method.parse().unwrap(), StatusCode::from_u16(status).unwrap());
        invalidated(&method, &target.parse().unwrap(), status, &fields(answer), &["own.example", "[::1]:80"])
    };
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"] {
        assert_eq!(of(method, 200, "/a/b?c=d", ""), ["/a/b?c=d"], "{method}");
        assert_eq!(of(method, 303, "/a", ""), ["/a"], "{method}");
        assert!(of(method, 500, "/a", "Location: /b").is_empty() && of(method, 404, "/a", "").is_empty(), "{method}");
    }
    for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
        assert!(of(method, 200, "/a", "Location: /b").is_empty(), "{method}");
        assert!(is_safe(&method.parse().unwrap()));
    }
    for (reference, target) in [
        ("/x?y#z", Some("/x?y")),
        ("x", Some("/a/x")),
        ("./x/./y/../z", Some("/a/x/z")),
        ("../../..", Some("/")),
        ("../x/", Some("/x/")),
        ("?q=1", Some("/a/b?q=1")),
        ("", Some("/a/b")),
        ("http://OWN.example/x", Some("/x")),
        ("https://own.example?x", Some("/?x")),
        ("//[::1]:80/x", Some("/x")),
        ("http://own.example:81/x", None),
        ("http://other.example/x", None),
        ("//other.example/x", None),
        ("ftp://own.example/x", None),
        ("x?y=http://other/", Some("/a/x?y=http://other/")),
        ("/x?y=/../z", Some("/x?y=/../z")),
    ] {
        for name in ["Location", "Content-Location"] {
            let mut expected = vec!["/a/b?c"];
            expected.extend(target);
            expected.sort_unstable();
            assert_eq!(of("POST", 201, "/a/b?c", &format!("{name}: {reference}")), expected, "{reference:?}");
        }
    }
}
