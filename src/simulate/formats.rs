//! The formats in which a trace can be given.
//!
//! | format | a record | a request for |
//! |---|---|---|
//! | `oracleGeneral` | 24 bytes, little-endian: `u32` time, `u64` object, `u32` size, `i64` next access | every record |
//! | `csv` | `time,object,size` or `object,size`, or columns named by a header | every record |
//! | `access-log` | a line of the Common or Combined Log Format | a `GET` answered 200, 206 or 304 |
//!
//! Sources: libCacheSim's `oracleGeneral` reader; RFC 4180; Apache's `mod_log_config`, whose format nginx and others share.

use super::trace::{Builder, TooManyObjects, Trace};
use std::io::{self, BufRead, Read};

/// How a trace is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// libCacheSim's binary records of 24 bytes
    OracleGeneral,
    /// Lines of time,object,size or object,size, or with a header that names the columns
    Csv,
    /// A web server's log in the Common or Combined Log Format
    AccessLog,
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error("record {record}: {wrong}")]
    Record { record: u64, wrong: String },
    #[error("it is compressed ({0}); give the decompressed trace, for instance by a pipe: --trace <({0}cat FILE)")]
    Compressed(&'static str),
    #[error(
        "its format cannot be told from its beginning; say which it is with --format oracleGeneral, csv or access-log"
    )]
    UnknownFormat,
    #[error("it holds no request")]
    Empty,
}

/// Bytes of an `oracleGeneral` record.
const ORACLE_RECORD: usize = 24;

/// Reads a whole trace. Without a format, it is told from the first bytes.
pub fn read(mut input: impl BufRead, format: Option<Format>) -> Result<Trace, TraceError> {
    let start = input.fill_buf()?;
    let compressed = [("gz", &b"\x1f\x8b"[..]), ("zstd", b"\x28\xb5\x2f\xfd"), ("xz", b"\xfd7zXZ")];
    if let Some((name, _)) = compressed.iter().find(|(_, magic)| start.starts_with(magic)) {
        return Err(TraceError::Compressed(if *name == "gz" { "z" } else { name }));
    }
    if start.is_empty() {
        return Err(TraceError::Empty);
    }
    let trace = match format.map_or_else(|| guess(start), Ok)? {
        Format::OracleGeneral => oracle_general(input)?,
        Format::Csv => csv(input)?,
        Format::AccessLog => access_log(input)?,
    };
    if trace.requests.is_empty() { Err(TraceError::Empty) } else { Ok(trace) }
}

fn guess(start: &[u8]) -> Result<Format, TraceError> {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if start.contains(&0) {
        Ok(Format::OracleGeneral)
    } else if LogLine::parse(line).is_ok() {
        Ok(Format::AccessLog)
    } else if line.contains(&b',') {
        Ok(Format::Csv)
    } else {
        Err(TraceError::UnknownFormat)
    }
}

fn wrong(record: u64, wrong: impl Into<String>) -> TraceError {
    TraceError::Record { record, wrong: wrong.into() }
}

fn numbered(record: u64) -> impl Fn(TooManyObjects) -> TraceError {
    move |error| wrong(record, error.to_string())
}

fn oracle_general(mut input: impl BufRead) -> Result<Trace, TraceError> {
    let mut trace = Builder::<u64>::new();
    for record in 1.. {
        let mut bytes = [0; ORACLE_RECORD];
        let filled = read_whole(&mut input, &mut bytes)?;
        if filled == 0 {
            break;
        }
        if filled < ORACLE_RECORD {
            return Err(wrong(record, format!("the file ends after {filled} of its {ORACLE_RECORD} bytes")));
        }
        let [_, _, _, _, object @ .., _, _, _, _, _, _, _, _, _, _, _, _] = bytes;
        let [.., s0, s1, s2, s3, _, _, _, _, _, _, _, _] = bytes;
        let object = u64::from_le_bytes(object);
        let size = u64::from(u32::from_le_bytes([s0, s1, s2, s3]));
        trace.request(&object, size, |object| *object).map_err(numbered(record))?;
    }
    Ok(trace.finish())
}

/// Fills `bytes` as far as the input goes, and says how far.
fn read_whole(input: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match input.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Which columns of a CSV file hold what.
#[derive(Debug, Clone, Copy)]
struct Columns {
    object: usize,
    size: usize,
}

impl Columns {
    const OBJECT: &[&str] = &["object", "object_id", "obj_id", "id", "key", "name", "path", "url"];
    const SIZE: &[&str] = &["size", "object_size", "obj_size", "bytes", "length", "size_bytes"];

    /// From a header, if this is one: a row whose would-be size is not a number.
    fn from_header(row: &::csv::ByteRecord) -> Option<Result<Columns, String>> {
        let plain = Columns::from_count(row.len());
        if row.get(plain.size).is_some_and(|size| number(size).is_some()) {
            return None;
        }
        let column = |names: &[&str], what| {
            let is_named =
                |cell: &[u8]| names.iter().any(|name| cell.trim_ascii().eq_ignore_ascii_case(name.as_bytes()));
            row.iter().position(is_named).ok_or_else(|| {
                format!("no size in column {}, and no header either: no column is named {what}", plain.size + 1)
            })
        };
        let columns = column(Self::OBJECT, "object (or id, key, name, path, url)")
            .and_then(|object| column(Self::SIZE, "size (or bytes, length)").map(|size| Columns { object, size }));
        Some(columns)
    }

    /// Without a header: `object,size`, or `time,object,size` and perhaps more.
    fn from_count(columns: usize) -> Columns {
        if columns <= 2 { Columns { object: 0, size: 1 } } else { Columns { object: 1, size: 2 } }
    }
}

fn csv(input: impl BufRead) -> Result<Trace, TraceError> {
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input);
    let mut trace = Builder::<Box<[u8]>>::new();
    let mut columns = None;
    let mut row = ::csv::ByteRecord::new();
    let mut record = 0;
    while reader.read_byte_record(&mut row).map_err(|error| csv_error(record + 1, error))? {
        record += 1;
        let Columns { object, size } = match columns {
            Some(columns) => columns,
            None => match Columns::from_header(&row) {
                Some(named) => {
                    columns = Some(named.map_err(|message| wrong(record, message))?);
                    continue;
                }
                None => *columns.insert(Columns::from_count(row.len())),
            },
        };
        let (Some(name), Some(bytes)) = (row.get(object), row.get(size)) else {
            let least = object.max(size) + 1;
            return Err(wrong(record, format!("{} columns, where at least {least} are needed", row.len())));
        };
        let size = number(bytes).ok_or_else(|| {
            wrong(record, format!("\"{}\" is not a size in bytes", String::from_utf8_lossy(bytes).escape_debug()))
        })?;
        trace.request(name.trim_ascii(), size, |name| name.into()).map_err(numbered(record))?;
    }
    Ok(trace.finish())
}

fn csv_error(record: u64, error: ::csv::Error) -> TraceError {
    match error.into_kind() {
        ::csv::ErrorKind::Io(error) => TraceError::Io(error),
        other => wrong(record, format!("not CSV: {other:?}")),
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

/// What a line of an access log says.
#[derive(Debug, PartialEq, Eq)]
struct LogLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    status: u16,
    /// Of the body; none for `-`.
    bytes: Option<u64>,
}

impl<'a> LogLine<'a> {
    /// `host ident user [time] "METHOD target VERSION" status bytes`, and whatever follows.
    fn parse(line: &'a [u8]) -> Result<LogLine<'a>, &'static str> {
        let opened = line.iter().position(|byte| *byte == b'"').ok_or("no request in quotes")?;
        let rest = &line[opened + 1..];
        let closed = closing_quote(rest).ok_or("the request's closing quote is missing")?;
        let (request, rest) = (&rest[..closed], &rest[closed + 1..]);
        let mut fields = rest.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let status = fields.next().and_then(number).ok_or("no status after the request")?;
        let status = u16::try_from(status).ok().filter(|status| (100..600).contains(status)).ok_or("no such status")?;
        let bytes = match fields.next().ok_or("no size after the status")? {
            b"-" => None,
            bytes => Some(number(bytes).ok_or("the size is not a number of bytes")?),
        };
        let mut words = request.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Ok(LogLine { method, target, status, bytes })
    }

    /// The file asked for, if this is a request that a cache of files would have answered.
    fn file(&self) -> Option<&'a [u8]> {
        let answered = matches!(self.status, 200 | 206 | 304);
        let path = self.target.split(|byte| matches!(byte, b'?' | b'#')).next().filter(|path| !path.is_empty())?;
        (self.method == b"GET" && answered).then_some(path)
    }
}

/// The first quote that no backslash escapes.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    })
}

fn access_log(mut input: impl BufRead) -> Result<Trace, TraceError> {
    let mut trace = Builder::<Box<[u8]>>::new();
    let mut line = Vec::new();
    for record in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let parsed = LogLine::parse(&line).map_err(|message| {
            let shown: String = String::from_utf8_lossy(&line).trim().chars().take(80).collect();
            wrong(record, format!("{message}, in \"{}\"", shown.escape_debug()))
        })?;
        match parsed.file() {
            // A 304 has no body: the size is known from another answer, or taken as nothing.
            Some(path) => {
                trace.request(path, parsed.bytes.unwrap_or(0), |path| path.into()).map_err(numbered(record))?
            }
            None => trace.skip(),
        }
    }
    Ok(trace.finish())
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
        read(text.as_ref(), format).unwrap()
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
    fn what_is_no_request_for_a_file_is_left_out_of_an_access_log() {
        let log = "h - - [1] \"GET /a HTTP/1.1\" 200 9\nh - - [1] \"POST /a HTTP/1.1\" 200 9\n\
                   h - - [1] \"GET /b HTTP/1.1\" 404 9\nh - - [1] \"\\x16\\x03\\\"\" 400 0\nh - - [1] \"HEAD /a\" 200 -\n";
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
