//! The few requests that the harness sends itself: to see a server answer, and to check its bytes against the files.

use crate::{plan::ACCEPT_ENCODING, statics};
use anyhow::{Context, Result, bail, ensure};
use forebay::http::reader::{Event, Reader};
use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a server on this machine, with time-outs.
///
/// # Errors
/// Nothing listens there.
pub fn connect(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn send(stream: &mut TcpStream, path: &str, connection: &str) -> Result<()> {
    send_with(stream, path, &format!("Connection: {connection}\r\n"))
}

fn send_with(stream: &mut TcpStream, path: &str, fields: &str) -> Result<()> {
    let request = format!("GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).context("cannot send the request")
}

/// Whether the server answers with a 200: returns as soon as its head is there.
///
/// # Errors
/// It does not.
pub fn first_byte(port: u16, path: &str) -> Result<()> {
    let mut stream = connect(port)?;
    send(&mut stream, path, "close")?;
    let mut answered = false;
    receive(&mut stream, |part| {
        answered |= matches!(part, Part::Head { .. });
        Ok(!answered)
    })
}

/// The body of `path`.
///
/// # Errors
/// No 200 with a whole body.
pub fn get(port: u16, path: &str) -> Result<Vec<u8>> {
    let mut stream = connect(port)?;
    send(&mut stream, path, "close")?;
    let mut body = Vec::new();
    receive(&mut stream, |part| {
        if let Part::Body(bytes) = part {
            body.extend_from_slice(bytes);
        }
        Ok(true)
    })?;
    Ok(body)
}

/// Sends a request on an open connection and shows the body as it arrives, until `each` has seen enough.
///
/// # Errors
/// No 200, or what `each` refuses.
pub fn watch(stream: &mut TcpStream, path: &str, mut each: impl FnMut(&[u8]) -> Result<bool>) -> Result<()> {
    send(stream, path, "keep-alive")?;
    receive(stream, |part| match part {
        Part::Body(bytes) => each(bytes),
        Part::Field { .. } | Part::Head { .. } => Ok(true),
    })
}

/// Sends a request, given whole but for its blank line, with `body`, and returns the status and the body of the answer.
///
/// # Errors
/// No whole response.
pub fn exchange(stream: &mut TcpStream, head: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(body)).context("cannot send")?;
    let (mut answered, mut received) = (0, Vec::new());
    receive_any(stream, |part| {
        match part {
            Part::Head { status, .. } => answered = status,
            Part::Body(bytes) => received.extend_from_slice(bytes),
            Part::Field { .. } => {}
        }
        Ok(true)
    })?;
    Ok((answered, received))
}

/// One request on a connection that stays open; the body is read and thrown away.
///
/// # Errors
/// No 200 with a whole body.
pub fn get_and_keep(stream: &mut TcpStream, path: &str) -> Result<()> {
    send(stream, path, "keep-alive")?;
    receive(stream, |_| Ok(true))
}

/// Fetches `path` and compares every byte of the body with `file`.
///
/// # Errors
/// Where they differ.
pub fn verify(port: u16, path: &str, file: &Path) -> Result<()> {
    compare(port, path, file).with_context(|| format!("the body of /{path}"))
}

/// Fetches `path` as a client does that takes variants, and compares what its body decodes to with `file`.
///
/// # Errors
/// No variant was sent, or its bytes are not the file's.
pub fn verify_variant(port: u16, path: &str, file: &Path) -> Result<()> {
    let compare = || -> Result<()> {
        let mut stream = connect(port)?;
        let fields = format!("Accept-Encoding: {ACCEPT_ENCODING}\r\nConnection: close\r\n");
        send_with(&mut stream, path, &fields)?;
        let (mut coding, mut body) = (String::new(), Vec::new());
        receive(&mut stream, |part| {
            match part {
                Part::Field { name, value } if name.eq_ignore_ascii_case("content-encoding") => {
                    coding = String::from_utf8_lossy(value).trim().to_ascii_lowercase();
                }
                Part::Body(bytes) => body.extend_from_slice(bytes),
                Part::Field { .. } | Part::Head { .. } => {}
            }
            Ok(true)
        })?;
        let expected = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        ensure!(!coding.is_empty(), "no variant was sent, although there is one");
        ensure!(statics::decode(&coding, &body)? == expected, "the {coding} variant is not the file's");
        Ok(())
    };
    compare().with_context(|| format!("the body of /{path}"))
}

fn compare(port: u16, path: &str, file: &Path) -> Result<()> {
    let mut stream = connect(port)?;
    send(&mut stream, path, "close")?;
    let mut expected = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let size = expected.metadata()?.len();
    let (mut at, mut wanted) = (0, Vec::new());
    let compared = receive(&mut stream, |part| {
        match part {
            Part::Field { .. } => {}
            Part::Head { length, .. } => {
                let length = length.context("the response has no Content-Length")?;
                ensure!(length == size, "it is announced with {length} bytes, and the file has {size}");
            }
            Part::Body(got) => {
                wanted.resize(got.len(), 0);
                let same = expected.read_exact(&mut wanted).is_ok() && got == wanted;
                ensure!(same, "it differs from the file within the {} bytes after {at}", got.len());
                at += got.len() as u64;
            }
        }
        Ok(true)
    });
    compared.with_context(|| format!("after {at} of {size} bytes"))
}

/// What arrives of a response.
enum Part<'a> {
    /// Before the head.
    Field {
        name: &'a str,
        value: &'a [u8],
    },
    /// `length`: of the body, where it is announced.
    Head {
        status: u16,
        length: Option<u64>,
    },
    Body(&'a [u8]),
}

/// Receives one response, which must be a 200, and shows its parts until `each` has seen enough.
fn receive(stream: &mut TcpStream, mut each: impl FnMut(Part<'_>) -> Result<bool>) -> Result<()> {
    receive_any(stream, |part| {
        if let Part::Head { status, .. } = part {
            ensure!(status == 200, "the status is {status}");
        }
        each(part)
    })
}

/// Receives one response of any status, and shows its parts until `each` has seen enough.
fn receive_any(stream: &mut TcpStream, mut each: impl FnMut(Part<'_>) -> Result<bool>) -> Result<()> {
    let (mut reader, mut buffer) = (Reader::default(), vec![0; 64 << 10]);
    loop {
        let received = read(stream, &mut buffer)?;
        ensure!(received > 0, "the connection ended before the response did");
        let mut input = &buffer[..received];
        loop {
            let mut refused = None;
            let mut field = |name: &str, value: &[u8]| {
                if let Err(error) = each(Part::Field { name, value }) {
                    refused = Some(error);
                }
            };
            let event = reader.step(&mut input, &mut field);
            refused.map_or(Ok(()), Err)?;
            let goes_on = match event {
                Event::More => break,
                Event::Head(head) => each(Part::Head { status: head.status, length: head.length })?,
                Event::Body(bytes) => each(Part::Body(bytes))?,
                Event::End => return Ok(()),
                Event::Malformed => bail!("the response is not HTTP"),
            };
            if !goes_on {
                return Ok(());
            }
        }
    }
}

fn read(stream: &mut TcpStream, into: &mut [u8]) -> Result<usize> {
    loop {
        match stream.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.context("cannot read the response"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    /// Answers each connection with the next of `responses`.
    fn serve(responses: Vec<Vec<u8>>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            for response in responses {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).expect("a request") > 0);
                stream.write_all(&response).expect("sent");
            }
        });
        port
    }

    fn response(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
        [format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n").as_bytes(), body].concat()
    }

    #[test]
    fn bodies_are_compared_to_the_last_byte() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        let body: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&file, &body).expect("written");
        let mut wrong = body.clone();
        *wrong.last_mut().expect("a byte") ^= 1;
        let port = serve(vec![
            response("200 OK", body.len(), &body),
            response("200 OK", body.len(), &wrong),
            response("200 OK", body.len(), &body[..100]),
            response("200 OK", 100, &body[..100]),
            response("404 Not Found", body.len(), &body),
        ]);
        verify(port, "file", &file).expect("the same");
        for expected in ["differs", "after 100 of 300000 bytes", "announced with 100", "status is 404"] {
            let error = format!("{:#}", verify(port, "file", &file).expect_err(expected));
            assert!(error.contains(expected) && error.contains("/file"), "{error}");
        }
    }

    #[test]
    fn a_variant_must_be_sent_and_decode_to_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        statics::make(directory.path(), &directory.path().join("list")).expect("made");
        let (file, read) =
            (directory.path().join("index.html"), |name: &str| std::fs::read(directory.path().join(name)));
        let coded = |coding: &str, body: &[u8]| {
            let status = format!("200 OK\r\nContent-Encoding: {coding}");
            response(&status, body.len(), body)
        };
        let (plain, br) = (read("index.html").expect("there"), read("index.html.br").expect("there"));
        let port = serve(vec![
            coded("br", &br),
            coded("GZIP", &read("index.html.gz").expect("there")),
            response("200 OK", plain.len(), &plain),
            coded("gzip", &br),
            coded("br", &read("about.html.br").expect("there")),
        ]);
        verify_variant(port, "index.html", &file).expect("brotli");
        verify_variant(port, "index.html", &file).expect("gzip");
        for expected in ["no variant was sent", "not gzip", "is not the file's"] {
            let error = format!("{:#}", verify_variant(port, "index.html", &file).expect_err(expected));
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_connection_can_be_kept() {
        let port = serve(vec![response("200 OK", 5, b"hello"), response("200 OK", 9, b"short")]);
        get_and_keep(&mut connect(port).expect("connected"), "x").expect("whole");
        assert!(get_and_keep(&mut connect(port).expect("connected"), "x").is_err());
    }

    #[test]
    fn a_silent_port_is_an_error() {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        assert!(first_byte(port, "x").is_err());
    }
}
