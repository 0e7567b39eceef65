//! A client that reads HTTP/1.1 to the letter.

use super::{PATIENCE, Place};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection to a server.
pub struct Client {
    stream: Stream,
    /// Received and not read yet.
    ahead: Vec<u8>,
}

/// A response's head.
#[derive(Debug, Clone)]
pub struct Head {
    pub version: String,
    pub status: u16,
    /// As sent, in order.
    pub fields: Vec<(String, String)>,
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Response {
    pub head: Head,
    pub body: Vec<u8>,
}

impl std::ops::Deref for Response {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Fails the test, with the whole response, if the status is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{:?} {}", self.fields, self.text());
        self
    }
}

impl Head {
    /// The value of a field.
    ///
    /// # Panics
    /// If it is there twice.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {:?}", self.fields);
        value
    }

    pub fn cache_status(&self) -> &str {
        self.field("cache-status").unwrap_or("")
    }

    pub fn is_hit(&self) -> bool {
        self.cache_status() == "forebay; hit"
    }

    pub fn length(&self) -> usize {
        self.field("content-length").expect("a length").parse().expect("a number")
    }

    fn has_body(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }
}

impl Client {
    pub fn to(address: SocketAddr) -> Client {
        Client::connect(&Place::Tcp(address))
    }

    pub fn connect(place: &Place) -> Client {
        match place {
            Place::Tcp(address) => Client::of_tcp(TcpStream::connect(address).expect("connects")),
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).expect("connects");
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                Client { stream: Stream::Unix(stream), ahead: Vec::new() }
            }
        }
    }

    /// A connection whose receive buffer holds about `bytes`, so that a reader that stalls soon stalls the sender.
    pub fn narrow(address: SocketAddr, bytes: usize) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect(&address.into()).expect("connects");
        Client::of_tcp(socket.into())
    }

    fn of_tcp(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream: Stream::Tcp(stream), ahead: Vec::new() }
    }

    /// The socket.
    pub fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(_) => panic!("not a TCP connection"),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).expect("the server takes what is sent");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Ends the sending side.
    pub fn finish(&mut self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        if let Stream::Tcp(stream) = self.stream {
            socket2::Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }

    pub fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[])
    }

    /// A request with these fields beside Host.
    pub fn request(&mut self, method: &str, target: &str, fields: &[(&str, &str)]) -> Response {
        self.send(request(method, target, fields));
        self.response(method)
    }

    /// A request whose head begins with `head` (the request line without its version, then fields), and its final
    /// response.
    pub fn ask(&mut self, head: &str, body: &[u8]) -> Response {
        self.send(request_with_body(head, body));
        self.final_response(head.split(' ').next().unwrap_or_default())
    }

    /// The next response that is not an interim one.
    pub fn final_response(&mut self, method: &str) -> Response {
        loop {
            let response = self.response(method);
            if response.status >= 200 {
                return response;
            }
        }
    }

    /// The next response, to a request of this method.
    pub fn response(&mut self, method: &str) -> Response {
        self.try_response(method).unwrap_or_else(|error| panic!("no whole response: {error}"))
    }

    /// As [`Client::response`]; an error if the connection ends or stalls before the response is whole.
    pub fn try_response(&mut self, method: &str) -> io::Result<Response> {
        let head = self.try_head()?;
        let mut body = Vec::new();
        if method != "HEAD" && head.has_body() {
            if head.field("transfer-encoding") == Some("chunked") {
                body = self.chunked()?;
            } else {
                body.resize(head.length(), 0);
                self.read_exact(&mut body)?;
            }
        }
        Ok(Response { head, body })
    }

    /// A chunked body without extensions and trailers.
    pub fn chunked(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(0);
                let last = line.len() - 1;
                self.read_exact(&mut line[last..])?;
            }
            let size = std::str::from_utf8(&line).expect("a chunk's size").trim_end();
            let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("no chunk's size: {size:?}"));
            let from = body.len();
            body.resize(from + size + 2, 0);
            self.read_exact(&mut body[from..])?;
            assert!(body.ends_with(b"\r\n"), "a chunk ends with its line");
            body.truncate(from + size);
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// The head of the next response.
    pub fn head(&mut self) -> Head {
        self.try_head().unwrap_or_else(|error| panic!("no response: {error}"))
    }

    pub fn try_head(&mut self) -> io::Result<Head> {
        let mut searched = 0;
        let end = loop {
            if let Some(at) = self.ahead[searched..].windows(4).position(|four| four == b"\r\n\r\n") {
                break searched + at;
            }
            searched = self.ahead.len().saturating_sub(3);
            assert!(self.ahead.len() < 64 << 10, "this is no head: {:?}", String::from_utf8_lossy(&self.ahead[..200]));
            if self.receive(16 << 10)? == 0 {
                let error = format!("the connection ended after {:?}", String::from_utf8_lossy(&self.ahead));
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
            }
        };
        let text = String::from_utf8(self.ahead[..end].to_vec()).expect("heads are text");
        self.ahead.drain(..end + 4);
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap();
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap().to_owned();
        assert!(version.starts_with("HTTP/1."), "this is no status line: {line:?}");
        let status = words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no status: {line:?}"));
        assert!(words.next().is_some_and(|reason| !reason.is_empty()), "no reason: {line:?}");
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("this is no field: {line:?}"));
            assert!(!name.is_empty() && !name.contains(' '), "this is no field: {line:?}");
            (name.to_owned(), value.to_owned())
        };
        Ok(Head { version, status, fields: lines.map(field).collect() })
    }

    /// Reads this many bytes of a body.
    pub fn body(&mut self, len: usize) -> Vec<u8> {
        let mut body = vec![0; len];
        self.read_exact(&mut body).unwrap_or_else(|error| panic!("no whole body: {error}"));
        body
    }

    pub fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        let ahead = self.ahead.len().min(into.len());
        into[..ahead].copy_from_slice(&self.ahead[..ahead]);
        self.ahead.drain(..ahead);
        match &mut self.stream {
            Stream::Tcp(stream) => stream.read_exact(&mut into[ahead..]),
            Stream::Unix(stream) => stream.read_exact(&mut into[ahead..]),
        }
    }

    /// Everything until the server ends its side. A reset is an end, too.
    pub fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.receive(64 << 10) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("the connection is still open: {error}"),
            }
        }
        std::mem::take(&mut self.ahead)
    }

    /// That the server ends the connection without a further byte.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "instead of the end: {:?}", String::from_utf8_lossy(&rest[..rest.len().min(300)]));
    }

    /// Whether the server has ended the connection and left nothing to read.
    pub fn is_over(&mut self) -> bool {
        self.ahead.is_empty() && matches!(self.receive(1), Ok(0) | Err(_))
    }

    /// Bytes that have arrived and were not read yet, without waiting.
    pub fn has_arrived(&mut self) -> bool {
        let Stream::Tcp(stream) = &self.stream else { panic!("not a TCP connection") };
        stream.set_nonblocking(true).unwrap();
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        !self.ahead.is_empty() || matches!(peeked, Ok(1))
    }

    fn receive(&mut self, len: usize) -> io::Result<usize> {
        let have = self.ahead.len();
        self.ahead.resize(have + len, 0);
        let read = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut self.ahead[have..]),
            Stream::Unix(stream) => stream.read(&mut self.ahead[have..]),
        };
        self.ahead.truncate(have + *read.as_ref().unwrap_or(&0));
        read
    }
}

/// The bytes of a request without a body.
pub fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// The bytes of a request whose head begins with `head` (the request line without its version, then fields); a body
/// gets its Content-Length.
pub fn request_with_body(head: &str, body: &[u8]) -> Vec<u8> {
    let (line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut bytes = format!("{line} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    if !fields.is_empty() {
        bytes.extend_from_slice(format!("{}\r\n", fields.trim_end()).as_bytes());
    }
    if !body.is_empty() || line.starts_with("PUT ") {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}
