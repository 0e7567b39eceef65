//! Small servers that behave as a test says, and the load generator run against them.
#![allow(dead_code)] // every test file uses a part of this

use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// What a server does about a request.
pub enum Reply {
    Send(Vec<u8>),
    SendThenClose(Vec<u8>),
    /// One byte at a time.
    Drip(Vec<u8>),
    /// Waits before sending.
    Late(Duration, Vec<u8>),
    /// Never answers.
    Nothing,
}

/// A server on a port of its own, until the test's process ends.
pub struct Server {
    pub address: String,
    /// The paths requested, in order of arrival.
    pub seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers each request by its path and its number on this server, from 0.
    pub fn start(reply: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Server {
        Server::on(TcpListener::bind("127.0.0.1:0").unwrap(), reply)
    }

    pub fn on(listener: TcpListener, reply: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Server {
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, reply) = (seen.clone(), Arc::new(reply));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, reply) = (log.clone(), reply.clone());
                thread::spawn(move || converse(stream, &log, &*reply));
            }
        });
        Server { address, seen }
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// Serves one connection until the client leaves.
pub fn converse(
    mut stream: impl Read + Write,
    seen: &Mutex<Vec<String>>,
    reply: &(impl Fn(&str, usize) -> Reply + ?Sized),
) {
    let (mut pending, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        while let Some(end) = pending.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(pending.drain(..end + 4).collect()).unwrap();
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let number = {
                let mut seen = seen.lock().unwrap();
                seen.push(path.clone());
                seen.len() - 1
            };
            let (bytes, close) = match reply(&path, number) {
                Reply::Send(bytes) => (bytes, false),
                Reply::SendThenClose(bytes) => (bytes, true),
                Reply::Drip(bytes) => {
                    if bytes.iter().any(|byte| stream.write_all(&[*byte]).is_err()) {
                        return;
                    }
                    continue;
                }
                Reply::Late(wait, bytes) => {
                    thread::sleep(wait);
                    (bytes, false)
                }
                Reply::Nothing => continue,
            };
            if stream.write_all(&bytes).is_err() || close {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => pending.extend_from_slice(&buffer[..read]),
        }
    }
}

/// A 200 with a body and one more field.
pub fn ok(field: &str, body: &[u8]) -> Vec<u8> {
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{field}\r\n", body.len()).into_bytes();
    response.extend_from_slice(body);
    response
}

pub fn loadgen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output().unwrap()
}

/// Runs `loadgen run` and reads what it measured; also its exit status.
pub fn run(arguments: &[&str]) -> (Value, i32) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run.json");
    let mut all = vec!["run", "--json", file.to_str().unwrap()];
    all.extend_from_slice(arguments);
    let output = loadgen(&all);
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (serde_json::from_str(&text).unwrap(), output.status.code().unwrap())
}

/// A connection accepted and then left alone, so that tests can do as they like.
pub fn accept_raw(listener: TcpListener, each: impl Fn(TcpStream) + Send + 'static) -> String {
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || listener.incoming().flatten().for_each(each));
    address
}
