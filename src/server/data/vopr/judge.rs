//! What is held against the responses: which versions of a file they may be of, and which refusals there may be.

use super::request::{Asked, Manner, What};
use super::scenario::Scenario;
use crate::ring::world::disk::{Content, Disk, State};
use crate::ring::world::socket::Socket;
use crate::ring::world::{Fault, World};
use std::rc::Rc;

pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// What holds for all clients of a run.
pub struct Judge<'a> {
    pub scenario: &'a Scenario,
    pub is_draining: bool,
}

impl Judge<'_> {
    /// When the server had received the whole request.
    pub fn received(&self, asked: &Asked, socket: &Socket) -> u64 {
        let receipt = socket.receipts.iter().find(|(position, _)| *position >= asked.end);
        receipt.map_or(u64::MAX, |&(_, time)| time)
    }

    fn grace(&self) -> u64 {
        self.scenario.revalidate.as_nanos() as u64
    }

    /// Whether a request that arrived then may be answered with this.
    fn allows(&self, state: &State, received: u64, look_failed: u64) -> bool {
        let oldest = received.saturating_sub(self.grace());
        let is_recent = state.until >= oldest || state.unseen_until >= oldest;
        // Where the storage could not say, what is cached is served on; but everyone who asks has it looked at again.
        received < state.barred && (is_recent || look_failed >= received)
    }

    pub fn is_unseen(&self, file: usize, received: u64, world: &World) -> bool {
        let oldest = received.saturating_sub(self.grace());
        world.disk.borrow().history[file].iter().any(|state| state.unseen_until >= oldest)
    }

    /// The versions that a response may be of, and the first byte of its body; checks the status on the way.
    pub fn candidates(
        &self,
        asked: &Asked,
        socket: &Socket,
        status: u16,
        head: &str,
        length: u64,
        world: &World,
    ) -> (u64, Vec<Rc<Content>>) {
        let received = self.received(asked, socket);
        let is_refusal = matches!(status, 400 | 408 | 500 | 503 | 505);
        assert!(is_refusal || received < u64::MAX, "an answer to what was not received: {head}{asked:?}");
        let disk = world.disk.borrow();
        let states: Vec<&State> = match asked.file {
            Some(file) => {
                let failed = disk.look_failed[file];
                disk.history[file].iter().filter(|state| self.allows(state, received, failed)).collect()
            }
            None => Vec::new(),
        };
        let sizes = |wanted: &dyn Fn(u64) -> bool| -> Vec<Rc<Content>> {
            states.iter().filter_map(|state| state.content.clone()).filter(|content| wanted(content.size)).collect()
        };
        let is_read = matches!(asked.what, What::Get | What::Head | What::GetWithBody);
        match status {
            200 | 206 if is_read => {
                let (from, found) = match (status, asked.range) {
                    (206, Some((from, to))) => {
                        let whole: u64 = field(head, "Content-Range")
                            .and_then(|range| range.rsplit('/').next()?.parse().ok())
                            .expect("a length of the whole");
                        assert_eq!(length, to.min(whole) - from, "the part that was asked for: {head}{asked:?}");
                        (from, sizes(&|size| size == whole))
                    }
                    (200, None) => (0, sizes(&|size| size == length)),
                    // Nothing has no ranges.
                    (200, Some(_)) if length == 0 => (0, sizes(&|size| size == 0)),
                    _ => panic!("{head}{asked:?}"),
                };
                let has_body = asked.what != What::Head && length > 0;
                let told = || self.told(asked, &disk, socket, head);
                assert!(has_body || !found.is_empty(), "of no version that may be served: {}", told());
                (from, found)
            }
            416 => {
                let (from, _) = asked.range.expect("a range was asked for");
                assert!(!sizes(&|size| size <= from).is_empty(), "the range is there: {head}{asked:?}");
                (0, Vec::new())
            }
            404 => {
                let is_absent = asked.file.is_none() || states.iter().any(|state| state.content.is_none());
                assert!(is_absent, "the file is there: {}", self.told(asked, &disk, socket, head));
                (0, Vec::new())
            }
            200 | 201 | 204 if matches!(asked.what, What::Put | What::Delete) => (0, Vec::new()),
            400 | 505 => {
                assert_eq!(asked.what, What::Malformed, "{head}{asked:?}");
                (0, Vec::new())
            }
            408 => (0, Vec::new()),
            500 | 503 => {
                assert!(self.may_refuse(status), "{head}{asked:?}");
                (0, Vec::new())
            }
            _ => panic!("{head}{asked:?}"),
        }
    }

    pub fn told(&self, asked: &Asked, disk: &Disk, socket: &Socket, head: &str) -> String {
        let received = self.received(asked, socket);
        let Some(file) = asked.file else { return String::new() };
        let show = |state: &State| {
            let content = state.content.as_ref().map(|content| (content.size, content.blocks.first().copied()));
            format!(
                "{content:?} from {} until {} barred {} unseen {}",
                state.from, state.until, state.barred, state.unseen_until
            )
        };
        let mut told: Vec<String> = disk.history[file].iter().rev().take(6).map(show).collect();
        told.push(format!(
            "received {received}, a look failed at {}, answered {} {head}",
            disk.look_failed[file], disk.clock
        ));
        format!("{asked:?}\n{}", told.join("\n"))
    }

    fn may_refuse(&self, status: u16) -> bool {
        let Scenario { faults, load, max_connections, clients, .. } = self.scenario;
        let short = [Fault::NoDescriptors, Fault::NoDescriptorsToAccept];
        let broken = [Fault::BadReads, Fault::BadOpens];
        let is_crowded = max_connections < clients;
        match status {
            503 => is_crowded || load.in_place || short.iter().any(|&fault| faults.has(fault)) || self.is_draining,
            _ => broken.iter().any(|&fault| faults.has(fault)),
        }
    }

    /// A 408 is for heads that did not come in time.
    pub fn late(&self, requests: &[Asked], answered: usize, socket: &Socket, head: &str, now: u64) {
        let excuses = [Fault::Stops, Fault::Reordering, Fault::Ticks];
        if excuses.iter().any(|&fault| self.scenario.faults.has(fault)) {
            // The thread was late, or saw the tick before what came before it.
            return;
        }
        let asked = &requests[answered];
        let begin = answered.checked_sub(1).map_or(0, |before| requests[before].end);
        let began = socket.receipts.iter().find(|(position, _)| *position > begin).map_or(0, |&(_, time)| time);
        let (time, tick) = (2_000_000_000, crate::limits::TICK.as_nanos() as u64);
        let whole = self.received(asked, socket).min(now);
        assert!(whole.saturating_sub(began) + tick >= time, "the head was in time: {head}{asked:?}");
        assert!(began > 0, "no head was begun: {head}");
    }

    /// Whether a connection may end before all is answered.
    pub fn may_break(&self, manner: Manner, socket: &Socket) -> bool {
        let is_slow = manner != Manner::Polite || socket.is_stalled;
        self.is_draining || !self.scenario.is_gentle() || is_slow
    }
}
