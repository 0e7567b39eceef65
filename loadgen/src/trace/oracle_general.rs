//! libCacheSim's `oracleGeneral`: packed little-endian records of 24 bytes,
//! `u32 time_seconds, u64 object_id, u32 size_bytes, i64 next_access_index`.

use super::Builder;
use anyhow::{Result, bail};

const RECORD_BYTES: usize = 24;

/// Objects are named by their decimal ids.
pub fn read(bytes: &[u8]) -> Result<Builder> {
    let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
    if !rest.is_empty() {
        bail!("is not oracleGeneral: its {} bytes are no multiple of {RECORD_BYTES}", bytes.len());
    }
    let mut builder = Builder::default();
    for record in records {
        let (time, rest) = record.split_first_chunk().expect("a record has 24 bytes");
        let (id, rest) = rest.split_first_chunk().expect("a record has 24 bytes");
        let (size, _) = rest.split_first_chunk().expect("a record has 24 bytes");
        let seconds = f64::from(u32::from_le_bytes(*time));
        builder.add(seconds, &u64::from_le_bytes(*id).to_string(), u64::from(u32::from_le_bytes(*size)))?;
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_packed_and_little_endian() {
        let mut bytes = Vec::new();
        for (time, id, size) in [(7u32, 1u64 << 40, 100u32), (8, 3, 50), (9, 1 << 40, 120)] {
            bytes.extend_from_slice(&time.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
            bytes.extend_from_slice(&size.to_le_bytes());
            bytes.extend_from_slice(&(-1i64).to_le_bytes());
        }
        let trace = read(&bytes).unwrap().finish().unwrap();
        assert_eq!(trace.requests, [0, 1, 0]);
        assert_eq!(trace.times_ns, [0, 1_000_000_000, 2_000_000_000]);
        assert_eq!((trace.objects[0].target.as_str(), trace.objects[0].size), ("1099511627776", 120));
        assert!(read(&bytes[1..]).is_err());
        assert!(read(&[]).unwrap().finish().is_err());
    }

    /// A trace of a simulator's collection, where there is one.
    #[test]
    fn a_recorded_trace_reads_whole() {
        let Some(directory) = std::env::var_os("FOREBAY_TRACES") else { return };
        let bytes = std::fs::read(std::path::Path::new(&directory).join("adaptsize.oracleGeneral")).unwrap();
        let trace = read(&bytes).unwrap().finish().unwrap();
        assert_eq!((trace.requests.len(), trace.objects.len()), (66_987, 36_815));
    }
}
