//! Comma-separated values (RFC 4180): `time,object,size` or `object,size`, or columns in any order that a header names.
//! A name with a comma in it stands in quotes.

use super::{Name, Record, Request, TraceError, Visit, number, wrong};
use std::io::BufRead;

/// Which columns of a CSV file hold what.
#[derive(Debug, Clone, Copy)]
struct Columns {
    object: usize,
    size: usize,
    time: Option<usize>,
}

impl Columns {
    const OBJECT: &[&str] = &["object", "object_id", "obj_id", "id", "key", "name", "path", "url"];
    const TIME: &[&str] = &["time", "timestamp", "when", "seconds"];
    const SIZE: &[&str] = &["size", "object_size", "obj_size", "bytes", "length", "size_bytes"];

    /// From a header, if this is one: a row whose would-be size is not a number.
    fn from_header(row: &::csv::ByteRecord) -> Option<Result<Columns, String>> {
        let plain = Columns::from_count(row.len());
        if row.get(plain.size).is_some_and(|size| number(size).is_some()) {
            return None;
        }
        let position = |names: &[&str]| {
            let is_named =
                |cell: &[u8]| names.iter().any(|name| cell.trim_ascii().eq_ignore_ascii_case(name.as_bytes()));
            row.iter().position(is_named)
        };
        let column = |names, what| {
            position(names).ok_or_else(|| {
                format!("no size in column {}, and no header either: no column is named {what}", plain.size + 1)
            })
        };
        let time = position(Self::TIME);
        let columns = column(Self::OBJECT, "object (or id, key, name, path, url)").and_then(|object| {
            column(Self::SIZE, "size (or bytes, length)").map(|size| Columns { object, size, time })
        });
        Some(columns)
    }

    /// Without a header: `object,size`, or `time,object,size` and perhaps more.
    fn from_count(columns: usize) -> Columns {
        if columns <= 2 {
            Columns { object: 0, size: 1, time: None }
        } else {
            Columns { object: 1, size: 2, time: Some(0) }
        }
    }
}

pub(super) fn read(input: impl BufRead, visit: &mut impl Visit) -> Result<(), TraceError> {
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input);
    let mut columns = None;
    let mut row = ::csv::ByteRecord::new();
    let mut record = 0;
    while reader.read_byte_record(&mut row).map_err(|error| csv_error(record + 1, error))? {
        record += 1;
        let Columns { object, size, time } = match columns {
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
        let name = Name::Text(name.trim_ascii());
        let seconds = time.and_then(|time| row.get(time)).and_then(seconds);
        visit(record, Record::Request(Request { name, size, seconds }))?;
    }
    Ok(())
}

fn csv_error(record: u64, error: ::csv::Error) -> TraceError {
    match error.into_kind() {
        ::csv::ErrorKind::Io(error) => TraceError::Io(error),
        other => wrong(record, format!("not CSV: {other:?}")),
    }
}

fn seconds(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok().filter(|seconds: &f64| seconds.is_finite())
}
