//! Too little of something: connections, descriptors, memory. Who is connected is served on as far as possible; who comes is told.

use super::worker::Worker;
use crate::arena::heap;
use crate::http::response::{Persistence, Problem};
use crate::limits;
use crate::metrics::labels::{Class, Connection as Step};
use crate::ring::kernel::Kernel;
use crate::server::access_log::Asked;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

impl<K: Kernel> Worker<K> {
    /// What there is too little of for anything new.
    pub(super) fn overload(&self) -> Option<Overload> {
        heap::is_low().then_some(Overload::Memory)
    }

    /// No connection could be accepted. Without a descriptor for it, those that wait are answered nevertheless, one by one, with the
    /// reserve; the listener is armed again by the next tick.
    pub(super) fn not_accepted(&mut self, listener: u32, errno: i32) {
        let is_exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS].contains(&errno);
        let Some(listener) = self.listeners.get(listener as usize) else { return };
        if !is_exhausted {
            return;
        }
        let listener = listener.socket.as_raw_fd();
        self.raise(Overload::Descriptors);
        drop(self.reserve.take());
        for _ in 0..limits::REFUSED_AT_ONCE {
            let Ok(socket) = self.kernel.accept_now(listener) else { break };
            self.dismiss(socket, Overload::Descriptors);
        }
        self.reserve = open_reserve();
    }

    /// Answers a connection for which there is no place, and closes it at once.
    pub(super) fn dismiss(&mut self, socket: RawFd, overload: Overload) {
        let mut record =
            self.shared.access_log.begin(self.now, || Asked { peer: self.kernel.peer(socket), request: None });
        record.answered(503, None);
        let mut answer = Vec::new();
        let problem = overload.problem(self.shared.connections.limit());
        problem.write(&mut answer, true, &self.date, Persistence::Close);
        self.kernel.dismiss(socket, &answer);
        self.metrics.connections[Step::Refused].one();
        self.metrics.answered(Class::Other, 503);
        self.metrics.bytes_sent.add(answer.len() as u64);
        self.metrics.body_bytes[Class::Other].add(problem.body_bytes() as u64);
        record.sent(problem.body_bytes() as u64);
        record.end(self.now);
    }

    /// Says in the log that there is too little of something, if that is news.
    pub(super) fn raise(&self, overload: Overload) {
        let limit = self.shared.connections.limit();
        let alarms = &self.shared.alarms;
        let alarm = match overload {
            // The count of those that are refused says it: see `notices`.
            Overload::Connections => return,
            Overload::Descriptors => &alarms.descriptors,
            Overload::Memory => &alarms.memory,
        };
        alarm.raise(self.now, || tracing::warn!("{}; new connections are answered 503", overload.describe(limit)));
    }
}

/// What there may be too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overload {
    Connections,
    Descriptors,
    Memory,
}

impl Overload {
    /// What is lacking; `limit` is that of connections.
    fn describe(self, limit: usize) -> String {
        match self {
            Overload::Connections => format!("all {limit} connections are in use"),
            Overload::Descriptors => "no descriptor is left (ulimit -n, LimitNOFILE=, fs.file-max)".into(),
            Overload::Memory => "no memory is left (ulimit -v)".into(),
        }
    }

    /// The answer to what there is too little for.
    pub fn problem(self, limit: usize) -> Problem {
        Problem::new(503, format!("{}; try again", self.describe(limit))).with_field("Retry-After: 1")
    }
}

/// A descriptor that is of no other use.
pub(super) fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}
