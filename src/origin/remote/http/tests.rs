//! The client against origins that do as a script says, also as no good server would.

use super::*;
use crate::origin::remote::{Body, empty};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::{Method, Request, StatusCode};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Duration;

mod tls;

/// How long what never comes is waited for.
const SHORT: Duration = Duration::from_millis(80);

/// An origin: `script` is given each connection with its number. It ends with the process at the latest.
struct Scripted {
    address: SocketAddr,
}

impl Scripted {
    fn start(script: impl Fn(usize, Peered) + Send + Sync + 'static) -> Scripted {
        Scripted::start_on("127.0.0.1", script)
    }

    fn start_on(host: &str, script: impl Fn(usize, Peered) + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let script = std::sync::Arc::new(script);
            for (number, stream) in listener.incoming().enumerate() {
                let (script, stream) = (script.clone(), stream.unwrap());
                std::thread::spawn(move || script(number, Peered(stream)));
            }
        });
        Scripted { address }
    }

    fn options(&self) -> UpstreamOptions {
        let mut options = UpstreamOptions::new(format!("http://{}", self.address).parse().unwrap());
        options.bounds.retries = 0;
        options
    }

    fn upstream(&self) -> Upstream {
        Upstream::new(self.options()).unwrap()
    }

    fn bounded(&self, bounds: impl FnOnce(&mut Bounds)) -> Upstream {
        let mut options = self.options();
        bounds(&mut options.bounds);
        Upstream::new(options).unwrap()
    }
}

/// An origin's end of a connection.
struct Peered(TcpStream);

impl Peered {
    /// The next request's head; empty if the client has gone.
    fn head(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return String::new(),
            }
        }
        String::from_utf8(head).unwrap()
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref());
    }

    /// Waits until the client has closed the connection.
    fn until_closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest);
        rest
    }

    /// Answers every request so.
    fn answer_all(mut self, answer: &str) {
        while !self.head().is_empty() {
            self.send(answer);
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn ask(method: Method, target: &str, body: Body) -> Ask {
    Request::builder().method(method).uri(target).body(body).unwrap()
}

fn get(target: &str) -> Ask {
    ask(Method::GET, target, empty())
}

fn full(bytes: &'static [u8]) -> Body {
    http_body_util::Full::new(Bytes::from_static(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// A body whose pieces come through a channel, of a length that nobody knows.
struct Trickle(tokio::sync::mpsc::Receiver<Result<Bytes, Fault>>);

impl hyper::body::Body for Trickle {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

type Pieces = tokio::sync::mpsc::Sender<Result<Bytes, Fault>>;

fn trickle() -> (Pieces, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    (sender, Trickle(receiver).boxed_unsync())
}

/// All of an answer's body.
async fn text(answer: Answer) -> Result<String, Fault> {
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

/// What becomes of one request.
fn outcome(upstream: &Upstream, ask: Ask) -> Result<String, Fault> {
    run(async { text(upstream.send(ask).await?).await })
}

#[test]
fn a_request_is_made_the_servers_own() {
    let (heads, seen) = mpsc::channel();
    let origin = Scripted::start(move |_, mut peer| {
        heads.send(peer.head()).unwrap();
        peer.send("HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 2\r\nLocation: /base/x\r\nContent-Length: 0\r\n\r\n");
    });
    let mut options = origin.options();
    options.location = format!("http://{}/base/", origin.address).parse().unwrap();
    options.host = Some(HeaderValue::from_static("origin.example"));
    options.fields = vec![(header::AUTHORIZATION, HeaderValue::from_static("Key k"))];
    let upstream = Upstream::new(options).unwrap();
    let mut ask = get("/a%20b?c=/../d");
    for (name, value) in [
        ("Host", "client.example"),
        ("Authorization", "Basic client"),
        ("Connection", "x-own, keep-alive"),
        ("X-Own", "1"),
        ("Upgrade", "h2c"),
        ("Expect", "100-continue"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Via", "1.0 before"),
        ("X-Other", "1"),
    ] {
        ask.headers_mut().append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    ask.extensions_mut().insert(Peer::Tcp("[::ffff:192.0.2.9]:1".parse().unwrap()));
    let answer = run(upstream.send(ask)).unwrap();
    let mut names: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "location", "x-end"]);
    assert_eq!(answer.headers()[header::LOCATION], "/x", "named as it is found here");
    let head = seen.recv().unwrap();
    let mut lines: Vec<&str> = head.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "GET /base/a%20b?c=/../d HTTP/1.1");
    lines.sort_unstable();
    let instance = format!("Cdn-Loop: {}", hop::instance());
    let mut expected = vec![
        "Authorization: Key k",
        instance.as_str(),
        "Host: origin.example",
        "Via: 1.0 before",
        "Via: 1.1 forebay",
        "X-Forwarded-For: 192.0.2.1, 192.0.2.9",
        "X-Forwarded-Host: client.example",
        "X-Forwarded-Proto: http",
        "X-Other: 1",
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn a_request_that_has_come_back_is_refused_and_one_of_another_cache_is_not() {
    let origin = Scripted::start(|_, peer| peer.answer_all(OK));
    let upstream = origin.upstream();
    let with_loop = |value: &str| {
        let mut ask = get("/");
        ask.headers_mut().append(CDN_LOOP, HeaderValue::from_str(value).unwrap());
        ask
    };
    assert_eq!(outcome(&upstream, with_loop(&format!("x; y=1, {} ,z", hop::instance()))), Err(Fault::Looped));
    assert_eq!(outcome(&upstream, with_loop("forebay; instance=0, other")).as_deref(), Ok("ok"));
}

#[test]
fn a_field_of_one_connection_only_cannot_be_added() {
    let mut options = UpstreamOptions::new("http://localhost".parse().unwrap());
    options.fields = vec![(header::CONNECTION, HeaderValue::from_static("close"))];
    assert!(matches!(Upstream::new(options), Err(UpstreamError::Field(_))));
}

#[test]
fn connections_are_kept_for_the_next_request() {
    let origin = Scripted::start(|number, mut peer| {
        loop {
            match peer.head().split(' ').next().unwrap() {
                "GET" => peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}")),
                "HEAD" => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"),
                _ => return,
            }
        }
    });
    let upstream = origin.upstream();
    run(async {
        for _ in 0..5 {
            assert_eq!(text(upstream.send(get("/")).await.unwrap()).await.as_deref(), Ok("0"));
        }
        assert_eq!(upstream.usage(), Usage { open: 1, kept: 1, waiting: 0 });
        let (first, second) = (upstream.send(get("/")).await.unwrap(), upstream.send(get("/")).await.unwrap());
        assert_eq!(upstream.usage(), Usage { open: 2, kept: 0, waiting: 0 });
        assert_eq!(text(second).await.as_deref(), Ok("1"));
        drop(first);
        assert_eq!(upstream.usage(), Usage { open: 1, kept: 1, waiting: 0 }, "what was not read to its end is closed");
        let head = upstream.send(ask(Method::HEAD, "/", empty())).await.unwrap();
        assert_eq!(head.headers()[header::CONTENT_LENGTH], "1");
        let body = head.into_body();
        assert!(hyper::body::Body::is_end_stream(&body), "an answer without a body is over with its head");
        assert!(text(upstream.send(get("/")).await.unwrap()).await.is_ok());
        assert!(upstream.usage().open <= 2, "{:?}", upstream.usage());
    });
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced() {
    let origin = Scripted::start(|number, mut peer| {
        peer.head();
        peer.send(OK);
        // As a server that has just lost patience: the request arrives, and nothing is answered.
        if number == 0 {
            peer.head();
        } else {
            peer.answer_all(OK);
        }
    });
    let upstream = origin.upstream();
    run(async {
        for _ in 0..3 {
            assert_eq!(text(upstream.send(get("/")).await.unwrap()).await.as_deref(), Ok("ok"));
        }
    });
}

#[test]
fn a_request_that_may_have_been_acted_on_is_not_sent_again() {
    for (method, body) in [(Method::POST, empty()), (Method::PUT, full(b"x"))] {
        let origin = Scripted::start(|_, mut peer| {
            peer.head();
            peer.send(OK);
            peer.head();
        });
        let upstream = origin.bounded(|bounds| bounds.retries = 3);
        run(async {
            assert_eq!(text(upstream.send(get("/")).await.unwrap()).await.as_deref(), Ok("ok"));
            let result = upstream.send(ask(method.clone(), "/", body)).await;
            assert!(matches!(result, Err(Fault::Broken(_))), "{method}: {:?}", result.err());
        });
    }
}

#[test]
fn what_is_safe_is_tried_again_so_often() {
    let (connections, count) = mpsc::channel();
    let origin = Scripted::start(move |number, mut peer| {
        connections.send(number).unwrap();
        peer.head();
    });
    let upstream = origin.bounded(|bounds| bounds.retries = 2);
    assert!(matches!(outcome(&upstream, get("/")), Err(Fault::Broken(_))));
    assert_eq!(count.try_iter().count(), 3);
    assert!(matches!(outcome(&upstream, ask(Method::POST, "/", empty())), Err(Fault::Broken(_))));
    assert_eq!(count.try_iter().count(), 1);
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let (connections, count) = mpsc::channel();
    let origin = Scripted::start(move |number, mut peer| {
        connections.send(number).unwrap();
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nContent-Le");
    });
    let upstream = origin.bounded(|bounds| bounds.retries = 2);
    assert!(matches!(outcome(&upstream, get("/")), Err(Fault::Broken(_))));
    assert_eq!(count.try_iter().count(), 1);
}

#[test]
fn an_origin_that_is_not_there_is_unreachable() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let upstream = Upstream::new(UpstreamOptions::new(format!("http://{nobody}").parse().unwrap())).unwrap();
    let fault = outcome(&upstream, get("/")).unwrap_err();
    assert!(matches!(&fault, Fault::Unreachable(text) if text.contains(&nobody.to_string())), "{fault}");
    assert_eq!(fault.status(), 502);
    assert_eq!(upstream.usage(), Usage { open: 0, kept: 0, waiting: 0 });
}

#[test]
fn an_origin_that_says_nothing_is_too_late_in_every_phase() {
    let origin = Scripted::start(|_, mut peer| {
        let head = peer.head();
        if head.starts_with("GET /body") {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok");
        } else if head.starts_with("GET /part") {
            peer.send("HTTP/1.1 200 OK\r\nConte");
        }
        peer.until_closed();
    });
    let upstream = origin.bounded(|bounds| (bounds.first_byte_timeout, bounds.idle_timeout) = (SHORT, SHORT));
    let answered = Fault::TimedOut { waited_for: "answered", limit: SHORT };
    assert_eq!(outcome(&upstream, get("/nothing")), Err(answered.clone()));
    assert_eq!(outcome(&upstream, get("/part")), Err(answered));
    run(async {
        let mut body = upstream.send(get("/body")).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ok");
        for _ in 0..2 {
            let fault = body.frame().await.unwrap().unwrap_err();
            assert_eq!(fault, Fault::TimedOut { waited_for: "sent any more of its answer", limit: SHORT });
        }
        assert!(!hyper::body::Body::is_end_stream(&body), "it never looks whole");
    });
    assert_eq!(upstream.usage().open, 0);
}

#[test]
fn what_is_no_answer_is_said_to_be_broken() {
    let too_many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(300));
    let too_long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(10_000));
    for answer in [
        "garbage\r\n\r\n",
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokXX0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok",
        &too_many,
        &too_long,
    ] {
        let sent = answer.to_owned();
        let origin = Scripted::start(move |_, mut peer| {
            peer.head();
            peer.send(&sent);
        });
        let result = outcome(&origin.bounded(|bounds| bounds.head_bytes = 8 << 10), get("/"));
        assert!(matches!(result, Err(Fault::Broken(_))), "{answer:.80?}: {result:?}");
    }
}

#[test]
fn what_follows_an_answer_is_no_answer_to_the_next_request() {
    let origin = Scripted::start(|number, mut peer| {
        peer.head();
        if number == 0 {
            peer.send([OK, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"].concat());
            peer.until_closed();
        } else {
            peer.send(OK);
        }
    });
    let upstream = origin.upstream();
    run(async {
        assert_eq!(text(upstream.send(get("/a")).await.unwrap()).await.as_deref(), Ok("ok"));
        assert_eq!(text(upstream.send(get("/b")).await.unwrap()).await.as_deref(), Ok("ok"));
    });
}

#[test]
fn answers_come_whole_with_what_belongs_to_them() {
    let origin = Scripted::start(|_, mut peer| {
        peer.head();
        peer.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        peer.send("HTTP/1.1 203 Fine\r\nTransfer-Encoding: Chunked\r\nContent-Length: 1\r\nTrailer: Digest\r\n\r\n");
        peer.send("2;x=y\r\nok\r\n1\r\n!\r\n0\r\nDigest: d\r\nTransfer-Encoding: x\r\n\r\n");
    });
    let upstream = origin.upstream();
    run(async {
        let answer = upstream.send(get("/")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NON_AUTHORITATIVE_INFORMATION);
        assert_eq!(answer.headers().len(), 1, "{:?}", answer.headers());
        assert!(answer.extensions().get::<EndsWithConnection>().is_none());
        let whole = answer.into_body().collect().await.unwrap();
        let trailers = whole.trailers().cloned().unwrap();
        assert_eq!(trailers.len(), 1, "{trailers:?}");
        assert_eq!(trailers["digest"], "d");
        assert_eq!(whole.to_bytes(), "ok!");
    });
}

#[test]
fn a_body_that_ends_with_its_connection_is_marked() {
    let origin = Scripted::start(|_, mut peer| {
        peer.head();
        peer.send("HTTP/1.0 200 OK\r\n\r\nthat is all");
    });
    let upstream = origin.upstream();
    run(async {
        let answer = upstream.send(get("/")).await.unwrap();
        assert_eq!(answer.extensions().get(), Some(&EndsWithConnection));
        assert_eq!(text(answer).await.as_deref(), Ok("that is all"));
        assert_eq!(upstream.usage(), Usage { open: 0, kept: 0, waiting: 0 });
    });
}

#[test]
fn so_many_are_asked_and_so_many_wait() {
    let origin = Scripted::start(|_, peer| peer.answer_all(OK));
    let upstream = origin.bounded(|bounds| (bounds.connections, bounds.queue) = (1, 1));
    run(async {
        let first = upstream.send(get("/")).await.unwrap();
        let mut second = std::pin::pin!(upstream.send(get("/")));
        tokio::select! {
            biased;
            _ = &mut second => panic!("there is only one connection"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(upstream.usage(), Usage { open: 1, kept: 0, waiting: 1 });
        assert_eq!(upstream.send(get("/")).await.map(|_| ()), Err(Fault::Busy));
        assert_eq!(text(first).await.as_deref(), Ok("ok"));
        assert_eq!(text(second.await.unwrap()).await.as_deref(), Ok("ok"));
        assert_eq!(upstream.usage(), Usage { open: 1, kept: 1, waiting: 0 });
    });
}

#[test]
fn who_waits_too_long_is_told() {
    let origin = Scripted::start(|_, peer| peer.answer_all(OK));
    let upstream = origin.bounded(|bounds| (bounds.connections, bounds.queue_timeout) = (1, SHORT));
    run(async {
        let first = upstream.send(get("/")).await.unwrap();
        assert_eq!(upstream.send(get("/")).await.map(|_| ()), Err(Fault::Busy));
        assert_eq!(upstream.usage().waiting, 0);
        drop(first);
        assert_eq!(text(upstream.send(get("/")).await.unwrap()).await.as_deref(), Ok("ok"));
    });
}

#[test]
fn the_limit_is_for_all_runtimes_together() {
    let (closed, is_closed) = mpsc::channel();
    let origin = Scripted::start(move |number, mut peer| {
        while !peer.head().is_empty() {
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}"));
        }
        closed.send(number).unwrap();
    });
    let upstream = origin.bounded(|bounds| bounds.connections = 1);
    let [first, second] =
        [(), ()].map(|()| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    let one = || async { text(upstream.send(get("/")).await.unwrap()).await.unwrap() };
    assert_eq!(first.block_on(one()), "0");
    assert_eq!(first.block_on(one()), "0");
    assert_eq!(second.block_on(one()), "1");
    let displaced = loop {
        first.block_on(tokio::task::yield_now());
        match is_closed.try_recv() {
            Ok(number) => break number,
            Err(error) => assert_eq!(error, mpsc::TryRecvError::Empty),
        }
    };
    assert_eq!(displaced, 0, "the first runtime's connection made room");
    assert_eq!(second.block_on(one()), "1");
    assert_eq!(upstream.usage(), Usage { open: 1, kept: 1, waiting: 0 });
}

#[test]
fn a_body_whose_connection_is_given_up_is_not_whole() {
    for framing in ["Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "Content-Length: 9\r\n\r\nok", "\r\nok"] {
        let origin = Scripted::start(move |_, mut peer| {
            peer.head();
            peer.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
            peer.until_closed();
        });
        let upstream = origin.upstream();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut body = runtime.block_on(upstream.send(get("/"))).unwrap().into_body();
        assert_eq!(runtime.block_on(body.frame()).unwrap().unwrap().into_data().unwrap(), "ok");
        drop(runtime);
        let result = run(body.frame());
        assert!(matches!(result, Some(Err(Fault::Broken(_)))), "{framing:?}: {result:?}");
    }
}

#[test]
fn a_request_that_breaks_off_is_never_ended_as_if_it_were_whole() {
    let (rest, seen) = mpsc::channel();
    let origin = Scripted::start(move |_, mut peer| {
        peer.head();
        rest.send(peer.until_closed()).unwrap();
    });
    let upstream = origin.upstream();
    run(async {
        let (pieces, body) = trickle();
        pieces.send(Ok(Bytes::from_static(b"some"))).await.unwrap();
        let broken = Fault::Request("the client has gone".into());
        let sent = async { pieces.send(Err(broken.clone())).await.unwrap() };
        let (result, ()) = tokio::join!(upstream.send(ask(Method::POST, "/", body)), sent);
        assert_eq!(result.map(|_| ()), Err(broken));
    });
    let rest = seen.recv().unwrap();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
}

#[test]
fn a_slow_client_is_not_taken_for_a_slow_origin() {
    let origin = Scripted::start(|_, mut peer| {
        peer.head();
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            let mut byte = [0];
            peer.0.read_exact(&mut byte).unwrap();
            body.push(byte[0]);
        }
        peer.send(OK);
    });
    let upstream = origin.bounded(|bounds| bounds.first_byte_timeout = SHORT * 5);
    run(async {
        let (pieces, body) = trickle();
        let slowly = async move {
            tokio::time::sleep(SHORT * 10).await;
            pieces.send(Ok(Bytes::from_static(b"some"))).await.unwrap();
        };
        let (result, ()) = tokio::join!(upstream.send(ask(Method::POST, "/", body)), slowly);
        assert_eq!(text(result.unwrap()).await.as_deref(), Ok("ok"));
    });
}

#[test]
fn an_origin_may_refuse_before_it_has_read_everything() {
    let origin = Scripted::start(|_, mut peer| {
        peer.head();
        peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
        peer.until_closed();
    });
    let upstream = origin.upstream();
    run(async {
        let (pieces, body) = trickle();
        let answer = upstream.send(ask(Method::POST, "/", body)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(text(answer).await.as_deref(), Ok("no"));
        drop(pieces);
    });
}
