//! Object stores that fail, lie or break off, and what a client is told.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use forebay::origin::remote::store::{Store, StoreOptions};
use forebay::origin::remote::{Fault, empty};
use support::assert_same;
use support::stores::{Answered, BUCKET, ask, get, options};
use support::upstream::{self, Reply, Then};

/// A scripted store: what it answers to a request for its one object.
async fn scripted(
    script: impl Fn(&upstream::Request) -> Reply + Send + Sync + 'static,
    fields: &[(&str, &str)],
) -> (Result<Answered, Fault>, Vec<upstream::Request>) {
    let server = upstream::Server::start(script);
    let mut options = options(&format!("http://{}", server.addr()));
    options.bounds.first_byte_timeout = Duration::from_millis(700);
    options.bounds.idle_timeout = Duration::from_millis(700);
    let store = Store::open(&format!("s3://{BUCKET}"), &options).unwrap();
    (ask(&store, "GET", "/object", fields, empty()).await, server.requests())
}

const CONTENT: &[u8] = b"0123456789";

fn error(status: &str, code: &str, fields: &[(&str, &str)]) -> Reply {
    Reply::new(status, fields, format!("<Error><Code>{code}</Code><Message>text</Message></Error>").as_bytes())
}

#[tokio::test]
async fn what_a_store_refuses_is_said_in_http_s_terms() {
    for (status, code, expected, text) in [
        ("403 Forbidden", "InvalidAccessKeyId", 403, "(InvalidAccessKeyId)"),
        ("401 Unauthorized", "Whatever", 403, "(Whatever)"),
        ("400 Bad Request", "ExpiredToken", 403, "(ExpiredToken)"),
        ("400 Bad Request", "InvalidRequest", 502, "400 Bad Request (InvalidRequest)"),
        ("404 Not Found", "NoSuchKey", 404, "no such object"),
        ("404 Not Found", "NoSuchBucket", 404, "no such bucket"),
        ("412 Precondition Failed", "PreconditionFailed", 412, "condition"),
        ("503 Slow Down", "SlowDown", 503, "(SlowDown)"),
        ("429 Too Many Requests", "Throttling", 429, "(Throttling)"),
        ("500 Internal Server Error", "InternalError", 502, "500 Internal Server Error (InternalError)"),
        ("504 Gateway Timeout", "Slow", 504, "too slow"),
        ("500 Internal Server Error", "no\r\nword", 502, "(no reason given)"),
    ] {
        let (answer, _) = scripted(move |_| error(status, code, &[]), &[]).await;
        let answer = answer.unwrap().expect(expected);
        assert!(String::from_utf8_lossy(&answer.body).contains(text), "{answer:?}");
        let retry_after = if matches!(expected, 429 | 503) { "1" } else { "" };
        assert_eq!(answer.field("retry-after"), retry_after, "{status}");
    }
    let (answer, requests) = scripted(|_| error("503 Slow Down", "SlowDown", &[("Retry-After", "17")]), &[]).await;
    assert_eq!(answer.unwrap().expect(503).field("retry-after"), "17");
    assert_eq!(requests.len(), 3, "what may pass is tried again, and not for ever");
    let elsewhere = [("x-amz-bucket-region", "eu-west-3")];
    let (answer, _) = scripted(move |_| error("301 Moved Permanently", "PermanentRedirect", &elsewhere), &[]).await;
    let answer = answer.unwrap().expect(502);
    assert!(String::from_utf8_lossy(&answer.body).contains("eu-west-3, which AWS_REGION must name"), "{answer:?}");
}

fn object(tag: &str, body: &[u8]) -> Reply {
    Reply::new("200 OK", &[("ETag", tag), ("Last-Modified", upstream::LAST_MODIFIED)], body)
}

#[tokio::test]
async fn a_store_that_breaks_off_breaks_the_answer_off() {
    // It never sends the end, whoever asks again.
    let (answer, requests) = scripted(|_| object("\"a\"", CONTENT).cut(4), &[]).await;
    assert!(matches!(answer, Err(Fault::Broken(_))), "{answer:?}");
    assert!(requests.len() <= 4, "{requests:?}");
    // It has another object when it is asked for the rest.
    let changed = |request: &upstream::Request| match request.field("range") {
        None => object("\"a\"", CONTENT).cut(4),
        Some(_) => {
            Reply::new("206 Partial Content", &[("ETag", "\"b\""), ("Content-Range", "bytes 4-9/10")], b"abcdef")
        }
    };
    let (answer, _) = scripted(changed, &[]).await;
    assert!(matches!(answer, Err(Fault::Broken(_))), "{answer:?}");
    // It has the rest when it is asked again: that is the object.
    let resumed = |request: &upstream::Request| match request.field("range") {
        None => object("\"a\"", CONTENT).cut(4),
        Some(_) => {
            Reply::new("206 Partial Content", &[("ETag", "\"a\""), ("Content-Range", "bytes 4-9/10")], b"456789")
        }
    };
    let (answer, _) = scripted(resumed, &[]).await;
    assert_same(&answer.unwrap().expect(200).body, CONTENT, "the object in two pieces");
    let (answer, _) = scripted(|_| object("\"a\"", CONTENT).cut(4).then(Then::Stall), &[]).await;
    assert!(matches!(answer, Err(Fault::TimedOut { .. } | Fault::Broken(_))), "{answer:?}");
    let (answer, _) = scripted(|_| Reply::raw("").then(Then::Stall), &[]).await;
    assert_eq!(answer.as_ref().unwrap_err().status(), 504, "{answer:?}");
    for garbage in [&b"SSH-2.0-OpenSSH\r\n"[..], b"HTTP/1.1 200 OK\r\nContent-Le", b""] {
        let (answer, _) = scripted(move |_| Reply::raw(garbage).then(Then::Close), &[]).await;
        assert_eq!(answer.as_ref().unwrap_err().status(), 502, "{answer:?}");
    }
    // An error as long as it likes takes no memory.
    let long = |_: &upstream::Request| Reply::new("400 Bad Request", &[], &vec![b'x'; 9 << 20]);
    let (answer, _) = scripted(long, &[]).await;
    assert_eq!(answer.map_or_else(|fault| fault.status(), |answer| answer.status), 502);
}

#[tokio::test]
async fn conditions_that_a_store_ignores_hold_all_the_same() {
    let range = ("range", "bytes=2-4");
    for (fields, status, body) in [
        (vec![("if-none-match", "\"x\", \"a\"")], 304, &b""[..]),
        (vec![("if-none-match", "\"x\"")], 200, CONTENT),
        (vec![("if-modified-since", upstream::LAST_MODIFIED)], 304, b""),
        (vec![("if-match", "\"x\"")], 412, b"the object is not as the request's condition wants it\n"),
        (vec![("if-match", "\"x\""), range], 412, b"the object is not as the request's condition wants it\n"),
        // It knows no ranges, either; then all of it is an answer, if it is the right version.
        (vec![range], 200, CONTENT),
        (vec![("if-match", "\"a\""), range], 200, CONTENT),
    ] {
        let (answer, _) = scripted(|_| object("\"a\"", CONTENT), &fields).await;
        let answer = answer.unwrap().expect(status);
        assert_eq!((&*answer.body, answer.field("content-range")), (body, ""), "{fields:?}");
    }
    // A part that is not what was asked for is no answer.
    let wrong = |_: &upstream::Request| {
        Reply::new("206 Partial Content", &[("ETag", "\"a\""), ("Content-Range", "bytes 0-2/10")], b"012")
    };
    let (answer, _) = scripted(wrong, &[range]).await;
    assert!(matches!(answer, Err(Fault::Broken(_))), "{answer:?}");
    // A tag without quotes gets some.
    let (answer, _) = scripted(|_| object("a", CONTENT), &[]).await;
    assert_eq!(answer.unwrap().field("etag"), "\"a\"");
}

#[tokio::test]
async fn what_an_object_carries_is_passed_on() {
    for (sent, expected) in [
        (vec![], "text/css; charset=utf-8"),
        (vec![("Content-Type", "binary/octet-stream")], "text/css; charset=utf-8"),
        (vec![("Content-Type", "application/octet-stream")], "application/octet-stream"),
    ] {
        let server = upstream::Server::start(move |_| {
            let fields = [
                &sent[..],
                &[("ETag", "\"a\""), ("Content-Encoding", "aws-chunked, gzip"), ("Content-Disposition", "attachment")],
                &[("Cache-Control", "max-age=60"), ("x-amz-meta-secret", "1"), ("Set-Cookie", "a=b")],
            ];
            Reply::new("200 OK", &fields.concat(), CONTENT)
        });
        let store = Store::open("s3://b", &options(&format!("http://{}", server.addr()))).unwrap();
        let answer = get(&store, "/a.css", &[]).await.expect(200);
        assert_eq!(answer.field("content-type"), expected);
        assert_eq!(answer.field("content-encoding"), "gzip");
        assert_eq!((answer.field("content-disposition"), answer.field("cache-control")), ("attachment", "max-age=60"));
        assert_eq!((answer.field("x-amz-meta-secret"), answer.field("set-cookie")), ("", ""));
        let requests = server.requests();
        assert_eq!(requests[0].target, "/b/a.css", "named in the path");
        assert!(requests[0].field("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 Credential=key/"));
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_had_are_the_reason_that_is_given() {
    let broker = upstream::Server::start(|_| Reply::text("404 Not Found", "no role"));
    let mut options = options("http://127.0.0.1:9");
    options.environment = vec![("AWS_METADATA_ENDPOINT".into(), format!("http://{}", broker.addr()))];
    let store = Store::open("s3://b", &options).unwrap();
    let answer = ask(&store, "GET", "/a", &[], empty()).await;
    assert!(matches!(&answer, Err(Fault::Credentials(_))), "{answer:?}");
    drop(broker);
    let answer = ask(&store, "GET", "/a", &[], empty()).await;
    assert!(matches!(&answer, Err(Fault::Credentials(_))), "{answer:?}");
}

#[tokio::test]
async fn a_store_that_is_not_there_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = Store::open("s3://b", &options(&format!("http://{free}"))).unwrap();
    let answer = ask(&store, "GET", "/a", &[], empty()).await;
    assert!(matches!(&answer, Err(Fault::Unreachable(_))), "{answer:?}");
}

#[test]
fn addresses_that_are_none_say_what_to_write() {
    let options = options("http://127.0.0.1:9");
    for address in ["s3://", "s3:///a", "ftp://a", "bucket", "s3://a@b/c", "s3://a/../b", "s3://a//b", "s3://a?b"] {
        let error = Store::open(address, &options).unwrap_err().to_string();
        assert!(error.contains("write s3://BUCKET/PREFIX"), "{address}: {error}");
    }
    let error = Store::open("gs://bucket", &options).unwrap_err().to_string();
    assert!(error.contains("for s3:// only"), "{error}");
    for endpoint in ["127.0.0.1:9", "ftp://a", "http://a/?b", ""] {
        let options = StoreOptions { endpoint: Some(endpoint.to_owned()), ..options.clone() };
        let error = Store::open("s3://a", &options).unwrap_err().to_string();
        assert!(error.contains("http://HOST:PORT"), "{endpoint}: {error}");
    }
    let options = StoreOptions { authorities: Some("/dev/null".into()), ..options };
    let error = Store::open("s3://a", &options).unwrap_err().to_string();
    assert!(error.contains("/dev/null holds no certificate"), "{error}");
}

#[tokio::test]
async fn connections_are_bounded_and_those_who_wait_are_served() {
    let backing = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (backing.clone(), most.clone());
    let server = upstream::Server::start(move |_| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        now.fetch_sub(1, Ordering::SeqCst);
        object("\"a\"", CONTENT)
    });
    let mut options = options(&format!("http://{}", server.addr()));
    options.bounds.connections = 2;
    let store = Arc::new(Store::open("s3://b", &options).unwrap());
    let mut reads = tokio::task::JoinSet::new();
    for number in 0..12 {
        let store = store.clone();
        reads.spawn(async move { get(&store, &format!("/{number}"), &[]).await.expect(200).body });
    }
    while let Some(read) = reads.join_next().await {
        assert_eq!(read.unwrap(), CONTENT);
    }
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)), "{most:?} at the same time");
}
