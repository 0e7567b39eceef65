//! The few requests that the harness sends itself: to see a server answer, and to check its bytes against the files.

use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest head of a response.
const HEAD_MAX: usize = 16 << 10;

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
    let request = format!("GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes()).context("cannot send the request")
}

/// Whether the server answers with a 200: returns as soon as its head is there.
///
/// # Errors
/// It does not.
pub fn first_byte(port: u16, path: &str) -> Result<()> {
    let mut stream = connect(port)?;
    send(&mut stream, path, "close")?;
    read_head(&mut stream)?;
    Ok(())
}

/// One request on a connection that stays open; the body is read and thrown away.
///
/// # Errors
/// No 200 with a whole body.
pub fn get_and_keep(stream: &mut TcpStream, path: &str) -> Result<()> {
    send(stream, path, "keep-alive")?;
    let head = read_head(stream)?;
    let mut left = head.length - head.body.len() as u64;
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = read(stream, &mut buffer[..room])?;
        ensure!(read > 0, "the body ended {left} bytes early");
        left -= read as u64;
    }
    Ok(())
}

/// Fetches `path` and compares every byte of the body with `file`.
///
/// # Errors
/// Where they differ.
pub fn verify(port: u16, path: &str, file: &Path) -> Result<()> {
    compare(port, path, file).with_context(|| format!("the body of /{path}"))
}

fn compare(port: u16, path: &str, file: &Path) -> Result<()> {
    let mut stream = connect(port)?;
    send(&mut stream, path, "close")?;
    let head = read_head(&mut stream)?;
    let mut expected = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let size = expected.metadata()?.len();
    ensure!(head.length == size, "it is announced with {} bytes, and the file has {size}", head.length);
    let (mut got, mut wanted) = (head.body, Vec::new());
    let mut at = 0;
    loop {
        wanted.resize(got.len(), 0);
        let same = expected.read_exact(&mut wanted).is_ok() && got == wanted;
        ensure!(same, "it differs from the file within the {} bytes after {at}", got.len());
        at += got.len() as u64;
        if at >= size {
            return Ok(());
        }
        got.resize(usize::try_from(size - at).unwrap_or(usize::MAX).min(256 << 10), 0);
        let read = read(&mut stream, &mut got)?;
        ensure!(read > 0, "it ended after {at} of {size} bytes");
        got.truncate(read);
    }
}

/// What came first.
struct Head {
    /// Of the body, in bytes.
    length: u64,
    /// What of the body came with the head.
    body: Vec<u8>,
}

fn read_head(stream: &mut TcpStream) -> Result<Head> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = read(stream, &mut chunk)?;
        ensure!(read > 0, "the connection ended before the head did");
        bytes.extend_from_slice(&chunk[..read]);
        if let Some(head) = parse_head(&bytes)? {
            return Ok(head);
        }
        ensure!(bytes.len() < HEAD_MAX, "the head is longer than {HEAD_MAX} bytes");
    }
}

/// `None` while the head is not whole.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes).context("the response is not HTTP")? else {
        return Ok(None);
    };
    match response.code {
        Some(200) => {}
        code => bail!("the status is {}", code.unwrap_or(0)),
    }
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
    let length = length.context("the response has no Content-Length")?;
    let body = bytes[end..].to_vec();
    ensure!(body.len() as u64 <= length, "more than the announced {length} bytes came");
    Ok(Some(Head { length, body }))
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
        for expected in ["differs", "ended after 100", "announced with 100", "status is 404"] {
            let error = format!("{:#}", verify(port, "file", &file).expect_err(expected));
            assert!(error.contains(expected) && error.contains("/file"), "{error}");
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
