//! libCacheSim's `oracleGeneral`: packed little-endian records of 24 bytes,
//! `u32 time_seconds, u64 object_id, u32 size_bytes, i64 next_access_index`.

use super::{Name, Record, Request, TraceError, Visit, wrong};
use std::io::{self, BufRead, Read};

/// Bytes of a record.
const RECORD: usize = 24;

pub(super) fn read(mut input: impl BufRead, visit: &mut impl Visit) -> Result<(), TraceError> {
    for record in 1.. {
        let mut bytes = [0; RECORD];
        let filled = read_whole(&mut input, &mut bytes)?;
        if filled == 0 {
            break;
        }
        if filled < RECORD {
            return Err(wrong(record, format!("the file ends after {filled} of its {RECORD} bytes")));
        }
        let [t0, t1, t2, t3, object @ .., s0, s1, s2, s3, _, _, _, _, _, _, _, _] = bytes;
        let name = Name::Number(u64::from_le_bytes(object));
        let size = u64::from(u32::from_le_bytes([s0, s1, s2, s3]));
        let seconds = Some(f64::from(u32::from_le_bytes([t0, t1, t2, t3])));
        visit(record, Record::Request(Request { name, size, seconds }))?;
    }
    Ok(())
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
