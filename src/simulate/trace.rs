//! A recorded sequence of requests, in 4 bytes for each request and 8 for each object.

use crate::text;
use crate::trace::{self, Format, Name, Record, TraceError};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::collections::HashSet;
use std::io::BufRead;

/// Requests for objects, which are numbered in order of appearance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The object of each request.
    pub requests: Vec<u32>,
    /// The bytes of each object: the most that any record says, since an object keeps one size.
    pub sizes: Vec<u64>,
    /// Records that are no request for a file, and were left out.
    pub skipped: u64,
}

impl Trace {
    /// The bytes of all objects together.
    pub fn footprint(&self) -> u64 {
        self.sizes.iter().sum()
    }
}

/// What the objects of a trace are called, to be looked up when it was replayed.
#[derive(Debug, Default)]
pub struct Names {
    numbers: HashMap<u64, u32, RandomState>,
    texts: HashMap<Box<[u8]>, u32, RandomState>,
}

impl Names {
    /// The names of these objects, ready to be shown, in one pass over all.
    pub fn of(&self, objects: &HashSet<u32>) -> HashMap<u32, String> {
        let wanted = |object: &u32| objects.contains(object);
        let numbers = self.numbers.iter().filter(|(_, object)| wanted(object));
        let texts = self.texts.iter().filter(|(_, object)| wanted(object));
        let numbers = numbers.map(|(number, object)| (*object, number.to_string()));
        numbers.chain(texts.map(|(text, object)| (*object, text::escape(text)))).collect()
    }
}

/// Reads a whole trace, and what its objects are called. Without a format, it is told from the first bytes.
///
/// # Errors
/// The trace is not in its format, holds no request, or cannot be read.
pub fn read(input: impl BufRead, format: Option<Format>) -> Result<(Trace, Names), TraceError> {
    let mut builder = Builder::default();
    trace::read(input, format, |record| match record {
        Record::Request(request) => builder.request(request.name, request.size),
        Record::Other => {
            builder.trace.skipped += 1;
            Ok(())
        }
        Record::Broken(wrong) => Err(wrong),
    })?;
    if builder.trace.requests.is_empty() { Err(TraceError::Empty) } else { Ok((builder.trace, builder.names)) }
}

/// Puts a trace together from requests for objects of any name.
#[derive(Default)]
struct Builder {
    trace: Trace,
    names: Names,
}

impl Builder {
    fn request(&mut self, name: Name<'_>, size: u64) -> Result<(), String> {
        let known = match name {
            Name::Number(number) => self.names.numbers.get(&number),
            Name::Text(text) => self.names.texts.get(text),
        };
        let object = match known {
            Some(object) => *object,
            None => {
                let object = u32::try_from(self.trace.sizes.len())
                    .map_err(|_| "there are more than 4294967295 different objects".to_owned())?;
                match name {
                    Name::Number(number) => self.names.numbers.insert(number, object),
                    Name::Text(text) => self.names.texts.insert(text.into(), object),
                };
                self.trace.sizes.push(0);
                object
            }
        };
        let known = &mut self.trace.sizes[object as usize];
        *known = size.max(*known);
        self.trace.requests.push(object);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oracle(records: &[(u64, u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (time, (object, size)) in (0u32..).zip(records) {
            bytes.extend(time.to_le_bytes());
            bytes.extend(object.to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes.extend((-1i64).to_le_bytes());
        }
        bytes
    }

    fn trace(text: impl AsRef<[u8]>, format: Option<Format>) -> Trace {
        read(text.as_ref(), format).unwrap().0
    }

    fn error(text: impl AsRef<[u8]>, format: Option<Format>) -> String {
        read(text.as_ref(), format).unwrap_err().to_string()
    }

    #[test]
    fn every_format_reads_the_same_requests() {
        let expected = Trace { requests: vec![0, 1, 0, 2], sizes: vec![100, 7, 0], skipped: 0 };
        let binary = oracle(&[(u64::MAX, 90), (5, 7), (u64::MAX, 100), (9, 0)]);
        let rows = "1,a,90\n1,\"b\"\"x\",7\r\n2, a ,100\n3,c,0\n";
        let pairs = "a,90\nb,7\na,100\nc,0";
        let named = "Size,When,URL\n90,1,a\n7,1,b\n100,2,a\n0,2,c\n";
        let log = "h - - [1] \"GET /a?q=1 HTTP/1.1\" 206 90 \"-\" \"x\"\nh - u [1] \"GET /b HTTP/1.1\" 200 7\n\n\
                   h - - [2] \"GET /a HTTP/1.1\" 200 100 \"-\"\nh - - [2] \"GET /c HTTP/1.1\" 304 -\n";
        for format in [None, Some(Format::OracleGeneral)] {
            assert_eq!(trace(&binary, format), expected);
        }
        for format in [None, Some(Format::Csv)] {
            assert_eq!(trace(rows, format), expected);
            assert_eq!(trace(pairs, format), expected);
            assert_eq!(trace(named, format), expected);
        }
        for format in [None, Some(Format::AccessLog)] {
            assert_eq!(trace(log, format), expected);
        }
    }

    #[test]
    fn objects_have_their_names() {
        let named = |text: &[u8], object| read(text, None).unwrap().1.of(&HashSet::from([object])).remove(&object);
        assert_eq!(named(b"1,a,90\n1,b\x1b,7\n", 1), Some("b\\u{1b}".into()));
        assert_eq!(named(&oracle(&[(7, 90), (5, 7)]), 0), Some("7".into()));
        assert_eq!(named(b"1,a,90\n", 9), None);
    }

    #[test]
    fn what_is_no_request_for_a_file_is_left_out_of_an_access_log() {
        let log = "h - - [1] \"GET /a HTTP/1.1\" 200 9\nh - - [1] \"POST /a HTTP/1.1\" 200 9\n\
                   h - - [1] \"GET /b HTTP/1.1\" 404 9\nh - - [1] \"\\x16\\x03\\\"\" 400 0\nh - - [1] \"HEAD /a\" 200 \
                   -\n";
        assert_eq!(trace(log, None), Trace { requests: vec![0], sizes: vec![9], skipped: 4 });
    }

    #[test]
    fn broken_records_are_named() {
        let mut cut = oracle(&[(1, 1), (2, 2)]);
        cut.truncate(40);
        assert_eq!(error(cut, None), "record 2: the file ends after 16 of its 24 bytes");
        assert_eq!(error("1,a,5\n2,b,many\n", None), "record 2: \"many\" is not a size in bytes");
        assert_eq!(error("1,a,5\n2,b,-1\n", None), "record 2: \"-1\" is not a size in bytes");
        assert_eq!(error("1,a,5\n\n2\n", None), "record 2: 1 columns, where at least 3 are needed");
        assert!(error("when,who,what\n1,a,5", None).starts_with("record 1: no size in column 3, and no header either"));
        assert!(error("time,object,what\n1,a,5", None).contains("no column is named size"));
        let log = "h - - [1] \"GET /a HTTP/1.1\" 200 9\n\nh - - [1] \"GET /a HTTP/1.1\" OK 9\n";
        assert!(error(log, None).starts_with("record 3: no status after the request, in \"h - - [1]"));
        for (line, message) in [
            ("nothing", "no request in quotes"),
            ("h \"GET /a", "closing quote is missing"),
            ("h \"GET /a\" 200", "no size after the status"),
            ("h \"GET /a\" 200 x", "not a number of bytes"),
            ("h \"GET /a\" 99999999 5", "no such status"),
        ] {
            let error = error(line, Some(Format::AccessLog));
            assert!(error.starts_with("record 1: ") && error.contains(message), "{error}");
        }
    }

    #[test]
    fn what_is_no_trace_is_told_so() {
        assert_eq!(error("", None), "it holds no request");
        assert_eq!(error("time,object,size\n", None), "it holds no request");
        assert!(error("hello\nworld\n", None).starts_with("its format cannot be told"));
        assert!(error(b"\x28\xb5\x2f\xfd\x00", None).contains("<(zstdcat FILE)"));
        assert!(error(b"\x1f\x8b\x08", None).contains("<(zcat FILE)"));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            for format in [None, Some(Format::OracleGeneral), Some(Format::Csv), Some(Format::AccessLog)] {
                let _ = read(&bytes[..], format);
            }
        }
    }
}
