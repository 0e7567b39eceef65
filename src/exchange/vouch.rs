//! Whether what is sent of an open file, while others may write to it, is one version of it.
//!
//! What was read is compared before it is sent, and the last bytes of a response wait for the last comparison. So a
//! response that nobody can vouch for breaks off before its end.
//!
//! A log that is sent while it grows is the one change that is let pass, and only where its bytes prove it: some were
//! read before it grew, and all that was sent is read a second time before the last bytes are let go. If both readings
//! agree, the response is what the file began with at the moment between them. (The times of a file move before its
//! size does, so growth begins as a change like any other.)

use crate::cache::flight::OpenFile;
use crate::origin::Found;
use crate::planted::{self, Defect};
use crate::version::{Change, Version};
use sha2::{Digest, Sha256};
use std::io;

/// The witness of one response.
pub struct Vouch {
    /// The version that the head announced.
    began: Version,
    /// What that version is known to begin with, until those bytes have been taken.
    sample: Vec<u8>,
    /// Of all bytes that were taken; `None`: they are not seen, so that no change can be let pass.
    taken: Option<Box<Sha256>>,
    /// Bytes of the version that began are known: a sample, or what was taken before the first change.
    has_evidence: bool,
    /// The file was changed, and is not shorter.
    is_doubtful: bool,
    /// How long it was found to be last.
    size: u64,
}

/// The second reading.
#[derive(Default)]
pub struct SecondReading(Sha256);

impl Vouch {
    /// Of a response from an open file that begins with byte `at`. One that was left alone for long may be sent by
    /// reference.
    pub fn of(file: &OpenFile, at: u64) -> Vouch {
        match file.is_settled {
            true => Vouch::unseen(file.described.version),
            false => Vouch::seen(file.described.version, sample_of(file, at)),
        }
    }

    /// Of a response whose bytes nobody will see, as they are sent by reference.
    fn unseen(began: Version) -> Vouch {
        let size = began.size;
        Vouch { began, sample: Vec::new(), taken: None, has_evidence: false, is_doubtful: false, size }
    }

    /// Of a response all of whose bytes will be shown to [`Vouch::take`]. The version that began has `sample` at the
    /// response's first byte, as far as that is known.
    fn seen(began: Version, sample: Vec<u8>) -> Vouch {
        let has_evidence = !sample.is_empty();
        Vouch { sample, taken: Some(Box::default()), has_evidence, ..Vouch::unseen(began) }
    }

    /// What became of the file, which was found like this now. [`Change::Same`] also where a second reading will
    /// decide.
    pub fn look(&mut self, found: io::Result<Found>, is_still_named: impl FnOnce() -> bool) -> Change {
        let Ok(Found::File(now)) = found else { return Change::Different };
        self.size = now.size;
        let may_have_grown =
            self.has_evidence && self.taken.is_some() && now.is_same_file(&self.began) && now.size >= self.began.size;
        if self.is_doubtful {
            return if may_have_grown { Change::Same } else { Change::Different };
        }
        match self.began.compare(&now, is_still_named) {
            Change::Grown | Change::Different if may_have_grown => {
                self.is_doubtful = true;
                Change::Same
            }
            change => change,
        }
    }

    /// These are the next bytes of the response.
    pub fn take(&mut self, bytes: &[u8]) {
        let sampled = self.sample.len().min(bytes.len());
        if self.sample[..sampled] != bytes[..sampled] {
            // Whatever it is now, it is not the version that began.
            self.taken = None;
        }
        self.sample.drain(..sampled);
        if let Some(taken) = &mut self.taken {
            taken.update(bytes);
        }
        self.has_evidence = true;
    }

    /// All bytes of the response have been taken: whether they must be read a second time before the last of them are
    /// sent.
    pub fn needs_second_reading(&self) -> bool {
        self.is_doubtful
    }

    /// The second reading is over; whether it was like the first.
    pub fn confirms(&mut self, second: SecondReading) -> bool {
        let has_grown = self.size > self.began.size;
        let agrees = self.taken.take().is_some_and(|taken| has_grown && taken.finalize() == second.0.finalize());
        let agrees = agrees || planted::is(Defect::GrowthUnproven);
        self.is_doubtful = !agrees;
        agrees
    }
}

/// What the version that the file was found to be has at byte `at`. Nothing, if the file has changed since: then the
/// bytes may be those of a later version.
fn sample_of(file: &OpenFile, at: u64) -> Vec<u8> {
    let sample = file.sample(at);
    let now = Version::of(&file.fd).ok().flatten();
    let is_same = now.is_some_and(|now| file.described.version.compare(&now, || false).keeps_bytes());
    if is_same || planted::is(Defect::SampleOfLaterVersion) { sample } else { Vec::new() }
}

impl SecondReading {
    pub fn take(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn version(size: u64) -> Version {
        Version { dev: 1, ino: 1, size, mtime_ns: size as i64, ctime_ns: size as i64, links: 1 }
    }

    fn look(vouch: &mut Vouch, now: Version) -> Change {
        vouch.look(Ok(Found::File(now)), || true)
    }

    fn second(bytes: &[u8]) -> SecondReading {
        let mut second = SecondReading::default();
        bytes.chunks(3).for_each(|piece| second.take(piece));
        second
    }

    /// A file that was overwritten by a longer one before it was sampled has not grown.
    #[test]
    fn a_sample_of_a_later_version_proves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, _) = crate::cache::testing::cache();
        let permit = crate::cache::testing::lead(&cache, b"a");
        let mut file = Arc::into_inner(crate::cache::testing::open(directory.path(), &permit, 100)).unwrap();
        file.is_settled = false;
        let look = |file: &OpenFile| {
            let mut vouch = Vouch::of(file, 0);
            std::fs::write(directory.path().join("a"), [7; 300]).unwrap();
            vouch.look(Found::of(&file.fd), || true)
        };
        assert_eq!(look(&file), Change::Same, "it may have grown: a second reading will tell");
        std::fs::write(directory.path().join("a"), [1; 200]).unwrap();
        assert!(!look(&file).keeps_bytes());
    }

    #[test]
    fn growth_passes_if_the_second_reading_agrees() {
        for (again, agrees) in [(&b"0123456789"[..], true), (b"0123456780", false)] {
            let mut vouch = Vouch::seen(version(10), Vec::new());
            vouch.take(b"01234");
            assert!(!vouch.needs_second_reading());
            assert_eq!(look(&mut vouch, Version { mtime_ns: 11, ..version(10) }), Change::Same, "its times move first");
            vouch.take(b"56789");
            assert_eq!(look(&mut vouch, version(12)), Change::Same, "it goes on growing");
            assert_eq!(look(&mut vouch, version(9)), Change::Different);
            assert_eq!(look(&mut vouch, version(12)), Change::Same);
            assert!(vouch.needs_second_reading());
            assert_eq!(vouch.confirms(second(again)), agrees);
        }
    }

    #[test]
    fn what_did_not_grow_does_not_pass() {
        let mut vouch = Vouch::seen(version(10), Vec::new());
        vouch.take(b"0123456789");
        assert_eq!(look(&mut vouch, Version { mtime_ns: 11, ..version(10) }), Change::Same);
        assert!(!vouch.confirms(second(b"0123456789")), "written to, who knows where");
    }

    #[test]
    fn what_was_read_before_it_grew_is_the_evidence() {
        let mut vouch = Vouch::seen(version(10), Vec::new());
        assert_eq!(look(&mut vouch, version(11)), Change::Grown, "there is none");
        for (bytes, passes) in [(b"0123456789", true), (b"0x23456789", false)] {
            let mut vouch = Vouch::seen(version(10), b"012".to_vec());
            assert_eq!(look(&mut vouch, version(11)), Change::Same);
            vouch.take(&bytes[..2]);
            vouch.take(&bytes[2..]);
            assert_eq!(look(&mut vouch, version(12)).keeps_bytes(), passes);
            assert_eq!(vouch.confirms(second(bytes)), passes);
        }
    }

    #[test]
    fn growth_does_not_pass_unseen() {
        let mut vouch = Vouch::unseen(version(10));
        vouch.take(b"0123456789");
        assert_eq!(look(&mut vouch, version(11)), Change::Grown);
        assert!(!vouch.needs_second_reading());
        let gone = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(vouch.look(Err(gone), || true), Change::Different);
    }
}
