//! Clients, and what they hold against what they are sent: each byte is looked up in the history of its file.

use super::scenario::Scenario;
use crate::ring::world::disk::{Content, Disk, State};
use crate::ring::world::socket::Socket;
use crate::ring::world::{Dice, Fault, World};
use std::rc::Rc;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Get,
    Head,
    Put,
    Delete,
    /// A GET that only the control plane serves.
    GetWithBody,
    /// No request at all.
    Malformed,
}

#[derive(Debug, Clone)]
pub struct Asked {
    pub what: What,
    /// `None`: a name that nothing has.
    pub file: Option<usize>,
    /// The first byte, and the one after the last.
    pub range: Option<(u64, u64)>,
    pub closes: bool,
    /// Where it ends in what the client sends.
    pub end: u64,
}

/// Whether its client may be left without it, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Polite,
    /// Reads or sends little at a time.
    Slow,
    /// Stops reading, or sending, or both, and stays.
    Stalls,
    /// Goes away.
    Leaves,
    /// Completes a head at about the time that times it out.
    Dawdles,
}

/// A body on its way.
struct Body {
    left: u64,
    /// The next byte of the file.
    at: u64,
    /// Where the response ends in the stream.
    end: u64,
    /// What it may be.
    candidates: Vec<Rc<Content>>,
    /// It is of no one version, which is excusable or not.
    mixed: Option<bool>,
    /// Why, as far as that is known.
    told: String,
    received: u64,
}

pub struct Client {
    pub socket: u32,
    pub asked: Vec<Asked>,
    text: Vec<u8>,
    sent: usize,
    pub answered: usize,
    depth: usize,
    manner: Manner,
    /// When it stalls or leaves: after so many answers.
    until: usize,
    input: Vec<u8>,
    body: Option<Body>,
    /// Bytes of the stream that were read and understood.
    position: u64,
    /// It expects no more answers, but an end.
    is_final: bool,
    pub is_done: bool,
    pub has_stalled: bool,
    /// Until then it sends nothing.
    silent_until: u64,
}

fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

impl Client {
    pub fn connect(world: &mut World, scenario: &Scenario, dice: &mut Dice) -> Client {
        let room = match dice.below(4) {
            0 => 1 + dice.below(3000),
            1 => 1 + dice.below(100_000),
            _ => 200_000,
        };
        let worker = dice.below(scenario.workers);
        let socket = world.connect(worker, room);
        let mut asked: Vec<Asked> = Vec::new();
        let mut text = Vec::new();
        for _ in 0..1 + dice.below(scenario.requests) {
            if asked.last().is_some_and(|last| last.closes) {
                break;
            }
            let (one, words) = Client::ask(scenario, dice, &world.disk.borrow());
            text.extend_from_slice(&words);
            asked.push(Asked { end: text.len() as u64, ..one });
        }
        let manner = match dice.below(10) {
            0 if scenario.load.stalls => Manner::Stalls,
            1 if world.faults.has(Fault::Resets) => Manner::Leaves,
            2 | 3 => Manner::Slow,
            4 | 5 if scenario.load.stalls => Manner::Dawdles,
            _ => Manner::Polite,
        };
        let until = dice.below(asked.len());
        let depth = if dice.one_in(2) { 1 } else { 1 + dice.below(16) };
        Client {
            socket,
            asked,
            text,
            sent: 0,
            answered: 0,
            depth,
            manner,
            until,
            input: Vec::new(),
            body: None,
            position: 0,
            is_final: false,
            is_done: false,
            has_stalled: false,
            silent_until: 0,
        }
    }

    fn ask(scenario: &Scenario, dice: &mut Dice, disk: &Disk) -> (Asked, Vec<u8>) {
        let files = scenario.sizes.len();
        // The small ones are asked for more often.
        let file = dice.below(files).min(dice.below(files)).min(dice.below(files * 2));
        let mut asked = Asked { what: What::Get, file: Some(file), range: None, closes: false, end: 0 };
        if dice.one_in(12) {
            asked.file = None;
        }
        match dice.below(24) {
            0 | 1 => asked.what = What::Head,
            2 if scenario.load.control => asked.what = What::Put,
            3 if scenario.load.control && dice.one_in(2) => asked.what = What::Delete,
            4 if scenario.load.control => asked.what = What::GetWithBody,
            5 if scenario.load.malformed => asked.what = What::Malformed,
            6 => asked.closes = true,
            _ => {}
        }
        let name = match (asked.file, asked.what) {
            (Some(file), _) => format!("f{file}"),
            (None, What::Put | What::Delete) => {
                asked.file = Some(file);
                format!("f{file}")
            }
            (None, _) => "nothing".into(),
        };
        if let (What::Get, Some(file)) = (asked.what, asked.file)
            && dice.one_in(6)
        {
            let size = disk.size_of(file).unwrap_or(0) as usize;
            let from = dice.below(size + 2);
            asked.range = Some((from as u64, (from + 1 + dice.below((size - from.min(size)).max(1))) as u64));
        }
        let words = asked.words(&name, disk, dice);
        (asked, words)
    }

    /// Whether it waits for something that only the server can bring.
    pub fn waits(&self, socket: &Socket) -> bool {
        let is_served = self.answered < self.asked.len() && socket.received >= self.asked[self.answered].end;
        !self.is_done
            && !self.has_stalled
            && self.silent_until <= socket.progress
            && !socket.is_stalled
            && (is_served || self.body.is_some())
    }

    pub fn is_gone(&self, socket: &Socket) -> bool {
        socket.reset || socket.is_over()
    }

    /// Does something, or not; returns whether anything moved.
    pub fn act(&mut self, world: &mut World, judge: &Judge<'_>) -> bool {
        if self.is_done {
            return false;
        }
        let number = self.socket as usize;
        let reading = match self.manner {
            Manner::Slow => world.dice.below(2000),
            Manner::Stalls if self.has_stalled => 0,
            Manner::Polite | Manner::Stalls | Manner::Leaves | Manner::Dawdles => 64 << 10,
        };
        let before = self.input.len();
        if !world.sockets[number].reset {
            world.take_by_client(self.socket, reading, &mut self.input);
        }
        let mut moved = self.input.len() > before;
        if moved {
            self.digest(world, judge);
        }
        self.misbehave(world);
        moved |= self.send(world);
        let socket = &mut world.sockets[number];
        if self.answered == self.asked.len() && self.body.is_none() && !socket.client_done {
            socket.client_done = true;
            moved = true;
        }
        let is_left = self.has_stalled && socket.has_ended();
        if socket.reset || socket.is_over() || is_left {
            self.end(world, judge);
        }
        moved
    }

    fn misbehave(&mut self, world: &mut World) {
        if self.answered < self.until {
            return;
        }
        match self.manner {
            Manner::Stalls if !self.has_stalled && world.dice.one_in(8) => {
                self.has_stalled = true;
                world.sockets[self.socket as usize].is_stalled = true;
            }
            Manner::Leaves if world.dice.one_in(12) => {
                let is_rude = world.dice.one_in(2);
                let socket = &mut world.sockets[self.socket as usize];
                socket.client_done = true;
                socket.reset = is_rude;
                self.has_stalled = true;
            }
            _ => {}
        }
    }

    fn send(&mut self, world: &mut World) -> bool {
        let most = (self.answered + self.depth).min(self.asked.len());
        let to = self.asked[most - 1].end as usize;
        let socket = &world.sockets[self.socket as usize];
        let is_mute = self.has_stalled || socket.client_done || socket.closed || socket.shut;
        if is_mute || self.sent >= to || self.is_final || world.clock < self.silent_until {
            return false;
        }
        let left = to - self.sent;
        let len = match self.manner {
            Manner::Slow | Manner::Stalls if world.dice.one_in(2) => 1 + world.dice.below(left),
            Manner::Dawdles if world.dice.one_in(3) => {
                let tick = crate::limits::TICK.as_nanos() as usize;
                self.silent_until = world.clock + 2_000_000_000 - tick as u64 + world.dice.below(2 * tick) as u64;
                1 + world.dice.below(left)
            }
            _ => left,
        };
        let socket = &mut world.sockets[self.socket as usize];
        socket.to_server.extend(&self.text[self.sent..self.sent + len]);
        socket.progress = world.clock;
        self.sent += len;
        true
    }

    /// Takes what was read for what it is.
    fn digest(&mut self, world: &World, judge: &Judge<'_>) {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        loop {
            if let Some(body) = &mut self.body {
                let len = (rest.len() as u64).min(body.left) as usize;
                body.take(&rest[..len], world, self.socket, judge, self.position, &self.asked[self.answered]);
                rest = &rest[len..];
                self.position += len as u64;
                if body.left > 0 {
                    break;
                }
                let body = self.body.take();
                let asked = &self.asked[self.answered];
                // What became of the file in the end may have hidden what was written before.
                let is_unseen =
                    |body: &Body| asked.file.is_some_and(|file| judge.is_unseen(file, body.received, world));
                let body = body.filter(|body| body.mixed == Some(false) && !is_unseen(body));
                let now = || {
                    asked.file.map(|file| {
                        judge.told(
                            asked,
                            &world.disk.borrow(),
                            &world.sockets[self.socket as usize],
                            &format!("file {file}"),
                        )
                    })
                };
                let told = body.map(|body| format!("{}\nin the end: {}", body.told, now().unwrap_or_default()));
                assert!(
                    told.is_none(),
                    "a response of no version that may be served ended cleanly: {asked:?} {}",
                    told.unwrap_or_default()
                );
                self.next();
                continue;
            }
            let Some(end) = find_end(rest) else {
                assert!(rest.len() < 32 << 10, "a head without an end");
                break;
            };
            let head = std::str::from_utf8(&rest[..end]).expect("heads are text");
            self.position += end as u64;
            self.head(head, world, judge);
            rest = &rest[end..];
        }
        self.input = rest.to_vec();
    }

    fn next(&mut self) {
        self.is_final |= self.answered < self.asked.len() && self.asked[self.answered].closes;
        self.answered = (self.answered + 1).min(self.asked.len());
    }

    fn head(&mut self, head: &str, world: &World, judge: &Judge<'_>) {
        let status: u16 = head.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
        let length: u64 = field(head, "Content-Length").map_or(0, |length| length.parse().expect("a length"));
        let says_close = field(head, "Connection") == Some("close");
        assert!(!self.is_final, "a response after the last one: {head}");
        let socket = &world.sockets[self.socket as usize];
        let Some(asked) = self.asked.get(self.answered) else {
            // Nothing was asked that is not answered: only a refusal may come, on a connection that has been too long
            // for somebody.
            panic!("more was sent than was asked for: {head}");
        };
        if status == 408 {
            judge.late(self, socket, head);
        }
        let (from, candidates) = judge.candidates(asked, socket, status, head, length, world);
        self.is_final |= says_close;
        let has_body = asked.what != What::Head && ![204, 304].contains(&status);
        let left = if has_body { length } else { 0 };
        if left == 0 {
            return self.next();
        }
        let end = self.position + left;
        let is_of_a_file = matches!(status, 200 | 206);
        let mixed = candidates.is_empty().then_some(!is_of_a_file);
        let told = if is_of_a_file { judge.told(asked, &world.disk.borrow(), socket, head) } else { String::new() };
        let received = judge.received(asked, socket);
        self.body = Some(Body { left, at: from, end, candidates, mixed, told, received });
    }

    /// The connection is over for this client.
    fn end(&mut self, world: &World, judge: &Judge<'_>) {
        self.is_done = true;
        let socket = &world.sockets[self.socket as usize];
        let is_whole = self.body.is_none() && (self.answered == self.asked.len() || self.is_final);
        let is_excused = socket.reset || self.has_stalled || judge.may_break(self, socket);
        assert!(
            is_whole || is_excused,
            "the connection ended after {} of {} answers, {}: {:?}",
            self.answered,
            self.asked.len(),
            if self.body.is_some() { "within one" } else { "between two" },
            self.asked.get(self.answered)
        );
    }
}

impl Asked {
    fn words(&self, name: &str, disk: &Disk, dice: &mut Dice) -> Vec<u8> {
        let mut fields = String::from("Host: localhost\r\n");
        if let Some((from, to)) = self.range {
            fields += &format!("Range: bytes={from}-{}\r\n", to - 1);
        }
        if self.closes {
            fields += "Connection: close\r\n";
        }
        if dice.one_in(6) {
            fields += &format!("X-Padding: {}\r\n", "x".repeat(dice.below(3000)));
        }
        let (method, body) = match self.what {
            What::Get => ("GET", None),
            What::Head => ("HEAD", None),
            What::Delete => ("DELETE", None),
            What::GetWithBody => ("GET", Some(1 + dice.below(30))),
            What::Put => {
                let size = self.file.and_then(|file| disk.size_of(file)).unwrap_or(1000).min(20_000);
                ("PUT", Some(super::writer::another_size(dice, size) as usize))
            }
            What::Malformed => {
                return [&b"GET /f1\x01 HTTP/1.1\r\n\r\n"[..], b"GET / HTTP/7.7\r\n\r\n"][dice.below(2)].into();
            }
        };
        if let Some(body) = body {
            fields += &format!("Content-Length: {body}\r\n");
        }
        let mut words = format!("{method} /{name} HTTP/1.1\r\n{fields}\r\n").into_bytes();
        // A body that would be a request, if somebody took it for one.
        words.extend(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".iter().cycle().take(body.unwrap_or(0)));
        words
    }
}

impl Body {
    fn take(&mut self, bytes: &[u8], world: &World, socket: u32, judge: &Judge<'_>, position: u64, asked: &Asked) {
        let at = self.at;
        self.left -= bytes.len() as u64;
        self.at += bytes.len() as u64;
        let Some(file) = asked.file.filter(|_| !self.candidates.is_empty() || self.mixed == Some(false)) else {
            return;
        };
        if self.mixed.is_none() {
            if self.candidates.iter().any(|content| content.is_at(at, bytes)) {
                self.candidates.retain(|content| content.is_at(at, bytes));
                return;
            }
            let touched = &world.sockets[socket as usize].touched;
            let reaches = |from, to| from < position + bytes.len() as u64 && to > position;
            let was_on_its_way = |touch: &crate::ring::world::socket::Touched| {
                touch.handed >= self.end
                    && touch.from < self.end
                    && reaches(self.end - self.left - bytes.len() as u64, self.end)
            };
            let is_excused = touched.iter().any(was_on_its_way) || judge.is_unseen(file, self.received, world);
            self.mixed = Some(is_excused);
            let history = &world.disk.borrow().history[file];
            let like =
                history.iter().filter(|state| state.content.as_ref().is_some_and(|content| content.is_at(at, bytes)));
            self.told += &format!(
                ", from byte {at} on {} bytes (the response ends at {}, this is {position}, touched {:?}) are like {:?}",
                bytes.len(),
                self.end,
                touched.iter().rev().take(4).collect::<Vec<_>>(),
                like.map(|state| (state.from, state.until)).collect::<Vec<_>>()
            );
        }
        // Of this file and this place, at least, whichever version.
        let skip = at.next_multiple_of(8) - at;
        for (number, word) in bytes.get(skip as usize..).unwrap_or(&[]).chunks_exact(8).enumerate() {
            let word = u64::from_be_bytes(word.try_into().unwrap_or_default());
            let index = (at + skip) / 8 + number as u64;
            assert_eq!((word >> 56, word & 0xFFFF_FFFF), (file as u64 + 1, index), "bytes of another file or place");
        }
    }
}

/// What holds for all clients of a run.
pub struct Judge<'a> {
    pub scenario: &'a Scenario,
    pub is_draining: bool,
}

impl Judge<'_> {
    /// When the server had received the whole request.
    fn received(&self, asked: &Asked, socket: &Socket) -> u64 {
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
        // Where the storage could not say, what is cached is served on.
        received < state.barred && (is_recent || look_failed >= oldest && look_failed > 0)
    }

    fn is_unseen(&self, file: usize, received: u64, world: &World) -> bool {
        let oldest = received.saturating_sub(self.grace());
        world.disk.borrow().history[file].iter().any(|state| state.unseen_until >= oldest)
    }

    /// The versions that a response may be of, and the first byte of its body; checks the status on the way.
    fn candidates(
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

    fn told(&self, asked: &Asked, disk: &Disk, socket: &Socket, head: &str) -> String {
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
    fn late(&self, client: &Client, socket: &Socket, head: &str) {
        let excuses = [Fault::Stops, Fault::Reordering, Fault::Ticks];
        if excuses.iter().any(|&fault| self.scenario.faults.has(fault)) {
            // The thread was late, or saw the tick before what came before it.
            return;
        }
        let asked = &client.asked[client.answered];
        let begin = client.answered.checked_sub(1).map_or(0, |before| client.asked[before].end);
        let began = socket.receipts.iter().find(|(position, _)| *position > begin).map_or(0, |&(_, time)| time);
        let (time, tick) = (2_000_000_000, crate::limits::TICK.as_nanos() as u64);
        let whole = self.received(asked, socket);
        assert!(
            whole == u64::MAX || whole.saturating_sub(began) + tick >= time,
            "the head was in time: {head}{asked:?}"
        );
        assert!(began > 0, "no head was begun: {head}");
    }

    /// Whether a connection may end before all is answered.
    fn may_break(&self, client: &Client, socket: &Socket) -> bool {
        let is_slow = client.manner != Manner::Polite || socket.is_stalled;
        self.is_draining || !self.scenario.is_gentle() || is_slow
    }
}
