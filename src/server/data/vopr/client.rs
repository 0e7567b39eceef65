//! Clients, and what they hold against what they are sent: each byte is looked up in the history of its file.

use super::judge::{Judge, field};
use super::request::{Asked, Manner, What};
use super::scenario::Scenario;
use crate::limits;
use crate::ring::world::disk::{Content, Disk};
use crate::ring::world::socket::Socket;
use crate::ring::world::{Dice, Fault, World};
use std::rc::Rc;

/// Answers after which a client plays for time no more: a run has to end.
const PLAYED: usize = 8;

/// A body on its way.
struct Body {
    len: u64,
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
            6 if scenario.load.stalls => Manner::Halves,
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
            Manner::Polite | Manner::Stalls | Manner::Leaves | Manner::Dawdles | Manner::Halves => 64 << 10,
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
        let to = match (self.manner, self.asked.get(self.answered + 1)) {
            (Manner::Halves, Some(next)) if self.answered < PLAYED => next.end as usize - 4,
            _ => self.asked[most - 1].end as usize,
        };
        let socket = &world.sockets[self.socket as usize];
        let is_mute = self.has_stalled || socket.client_done || socket.closed || socket.shut;
        if is_mute || self.sent >= to || self.is_final || world.clock < self.silent_until {
            return false;
        }
        let left = to - self.sent;
        let len = match self.manner {
            Manner::Slow | Manner::Stalls if world.dice.one_in(2) => 1 + world.dice.below(left),
            Manner::Dawdles if self.answered < PLAYED && world.dice.one_in(3) => {
                let tick = crate::limits::TICK.as_nanos() as usize;
                self.silent_until = world.clock + 2_000_000_000 - tick as u64 + world.dice.below(2 * tick) as u64;
                1 + world.dice.below(left)
            }
            Manner::Halves if self.answered < PLAYED => {
                self.silent_until = world.clock + 900_000_000;
                left
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
            judge.late(&self.asked, self.answered, socket, head, world.clock);
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
        let told = if is_of_a_file { head.to_owned() } else { String::new() };
        let received = judge.received(asked, socket);
        self.body = Some(Body { len: left, left, at: from, end, candidates, mixed, told, received });
    }

    /// The connection is over for this client.
    fn end(&mut self, world: &World, judge: &Judge<'_>) {
        self.is_done = true;
        let socket = &world.sockets[self.socket as usize];
        let is_whole = self.body.is_none() && (self.answered == self.asked.len() || self.is_final);
        let is_excused = socket.reset || self.has_stalled || judge.may_break(self.manner, socket);
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
            // The last bytes of a longer body wait until all that were handed over by reference have left.
            let may_be_late = match self.len > limits::AT_ONCE_BYTES {
                true => self.end - limits::HELD_BACK_BYTES,
                false => 0,
            };
            let was_on_its_way = |touch: &crate::ring::world::socket::Touched| {
                touch.handed >= self.end
                    && touch.from < self.end
                    && touch.from >= may_be_late
                    && reaches(self.end - self.left - bytes.len() as u64, self.end)
            };
            let is_excused = touched.iter().any(was_on_its_way) || judge.is_unseen(file, self.received, world);
            self.mixed = Some(is_excused);
            let history = &world.disk.borrow().history[file];
            let like =
                history.iter().filter(|state| state.content.as_ref().is_some_and(|content| content.is_at(at, bytes)));
            self.told = judge.told(asked, &world.disk.borrow(), &world.sockets[socket as usize], &self.told);
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
