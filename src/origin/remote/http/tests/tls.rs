//! TLS to an origin: whom it is spoken with, and what its end means.

use super::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::PathBuf;
use std::sync::Arc;

/// A certificate for localhost and 127.0.0.1, and its key.
fn identity(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/support/tls", name].iter().collect()
}

/// An origin that speaks TLS, and answers every connection's first request so; whether it ends it as TLS is ended is up
/// to `says_goodbye`.
fn start(host: &str, answer: &'static str, says_goodbye: bool) -> Scripted {
    let chain = CertificateDer::pem_file_iter(identity("certificate.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(identity("key.pem")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    Scripted::start_on(host, move |_, Peered(stream)| {
        let session = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut tls = rustls::StreamOwned::new(session, stream);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match tls.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        tls.write_all(answer.as_bytes()).unwrap();
        tls.flush().unwrap();
        if says_goodbye {
            tls.conn.send_close_notify();
            tls.flush().unwrap();
        }
    })
}

fn upstream(origin: &Scripted, host: &str, ca: &str) -> Upstream {
    let location = format!("https://{host}:{}", origin.address.port()).parse().unwrap();
    let options = UpstreamOptions { location, ca: Some(identity(ca)), ..origin.options() };
    Upstream::new(options).unwrap()
}

#[test]
fn an_origin_proves_who_it_is() {
    let origin = start("127.0.0.1", OK, true);
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(outcome(&upstream(&origin, host, "certificate.pem"), get("/")).as_deref(), Ok("ok"), "{host}");
    }
    let other = start("127.0.0.2", OK, true);
    let stranger = outcome(&upstream(&other, "127.0.0.2", "certificate.pem"), get("/"));
    assert!(matches!(&stranger, Err(Fault::Unreachable(text)) if text.contains("certificate")), "{stranger:?}");
    let untrusted = outcome(&upstream(&origin, "127.0.0.1", "other.pem"), get("/"));
    assert!(matches!(&untrusted, Err(Fault::Unreachable(text)) if text.contains("certificate")), "{untrusted:?}");
}

#[test]
fn a_body_that_ends_with_its_connection_ends_as_tls_does() {
    let answer = "HTTP/1.0 200 OK\r\n\r\nok";
    let whole = start("127.0.0.1", answer, true);
    assert_eq!(outcome(&upstream(&whole, "localhost", "certificate.pem"), get("/")).as_deref(), Ok("ok"));
    let cut = start("127.0.0.1", answer, false);
    let result = outcome(&upstream(&cut, "localhost", "certificate.pem"), get("/"));
    assert!(matches!(result, Err(Fault::Broken(_))), "{result:?}");
}

#[test]
fn an_origin_that_does_not_speak_tls_is_unreachable_or_too_late() {
    let plain = Scripted::start(|_, mut peer| peer.send(OK));
    let result = outcome(&upstream(&plain, "localhost", "certificate.pem"), get("/"));
    assert!(matches!(result, Err(Fault::Unreachable(_))), "{result:?}");
    let silent = Scripted::start(|_, mut peer| drop(peer.until_closed()));
    let mut options = silent.options();
    options.location = format!("https://{}", silent.address).parse().unwrap();
    options.ca = Some(identity("certificate.pem"));
    options.bounds.connect_timeout = SHORT;
    let result = outcome(&Upstream::new(options).unwrap(), get("/"));
    assert_eq!(result, Err(Fault::TimedOut { waited_for: "accepted a connection", limit: SHORT }));
}

#[test]
fn certificates_that_are_none_are_named() {
    let refused = |ca: PathBuf| {
        let location = "https://localhost".parse().unwrap();
        let options = UpstreamOptions { ca: Some(ca), ..UpstreamOptions::new(location) };
        Upstream::new(options).err().unwrap().to_string()
    };
    let absent = refused("/nonexistent/ca.pem".into());
    assert!(absent.starts_with("the certificates of /nonexistent/ca.pem cannot be read: "), "{absent}");
    let key = refused(identity("key.pem"));
    assert!(key.ends_with("key.pem holds no certificate; it must have one or more, in PEM"), "{key}");
}
