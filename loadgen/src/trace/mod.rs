//! Recorded sequences of requests, to be replayed.

mod access_log;
mod csv;
mod oracle_general;

use anyhow::{Context, Result, bail};
use std::{collections::HashMap, fs, path::Path};

/// One object that a trace asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The path below the base of the URL, without a leading slash, as it stands in a request line.
    pub target: String,
    /// The largest size in bytes that the trace gives it.
    pub size: u64,
}

/// A recorded sequence of requests.
#[derive(Debug, Default, PartialEq)]
pub struct Trace {
    pub objects: Vec<Object>,
    /// Indices into `objects`, in order of time.
    pub requests: Vec<u32>,
    /// When each request was made: nanoseconds after the first.
    pub times_ns: Vec<u64>,
    /// Lines that are no request for a file (other methods, failed requests …).
    pub skipped: u64,
}

/// The formats that traces are read in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// By the name of the file: `.oracleGeneral`, `.csv`, otherwise an access log.
    Auto,
    /// libCacheSim's packed records: u32 time, u64 object, u32 size, i64 next access.
    OracleGeneral,
    /// Lines of `time,key,size`, time in seconds.
    Csv,
    /// The combined (or common) log format of web servers.
    AccessLog,
}

/// Reads a trace.
///
/// # Errors
/// Names the file and what in it is not the format.
pub fn load(file: &Path, format: Format) -> Result<Trace> {
    let bytes = fs::read(file).with_context(|| format!("cannot read the trace {}", file.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let format = match format {
        Format::Auto if name.contains("oracleGeneral") => Format::OracleGeneral,
        Format::Auto if name.ends_with(".csv") => Format::Csv,
        Format::Auto => Format::AccessLog,
        chosen => chosen,
    };
    let read = match format {
        Format::OracleGeneral => oracle_general::read(&bytes),
        Format::Csv => csv::read(&bytes),
        Format::AccessLog | Format::Auto => access_log::read(&bytes),
    };
    let trace = read.and_then(Builder::finish).with_context(|| format!("the trace {}", file.display()))?;
    Ok(trace)
}

/// Collects requests in any order of time.
#[derive(Default)]
struct Builder {
    objects: Vec<Object>,
    index: HashMap<String, u32>,
    /// Seconds, and the object.
    requests: Vec<(f64, u32)>,
    skipped: u64,
}

impl Builder {
    fn add(&mut self, seconds: f64, target: &str, size: u64) -> Result<()> {
        let object = match self.index.get(target) {
            Some(&object) => object,
            None => {
                let object = u32::try_from(self.objects.len()).context("it has more than 4,294,967,295 objects")?;
                self.objects.push(Object { target: target.to_owned(), size });
                self.index.insert(target.to_owned(), object);
                object
            }
        };
        let known = &mut self.objects[object as usize].size;
        *known = size.max(*known);
        self.requests.push((seconds, object));
        Ok(())
    }

    fn finish(mut self) -> Result<Trace> {
        if self.requests.is_empty() {
            bail!("has no request ({} lines skipped)", self.skipped);
        }
        self.requests.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(Trace {
            times_ns: spread(&self.requests),
            requests: self.requests.iter().map(|&(_, object)| object).collect(),
            objects: self.objects,
            skipped: self.skipped,
        })
    }
}

/// Times in nanoseconds after the first. Whole seconds are all that most formats keep: requests of the same instant are
/// spread evenly over the second that it names.
fn spread(requests: &[(f64, u32)]) -> Vec<u64> {
    let first = requests[0].0.floor();
    let mut times_ns = Vec::with_capacity(requests.len());
    for together in requests.chunk_by(|a, b| a.0 == b.0) {
        let whole = together[0].0.fract() == 0.0;
        for index in 0..together.len() {
            let within = if whole { index as f64 / together.len() as f64 } else { 0.0 };
            times_ns.push(((together[0].0 - first + within) * 1e9) as u64);
        }
    }
    // A fraction may fall among those that a whole second was spread to.
    times_ns.sort_unstable();
    times_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_second_are_spread_over_it() {
        let mut builder = Builder::default();
        for (seconds, target, size) in [(11.0, "b", 5), (10.0, "a", 7), (10.0, "b", 9), (11.5, "a", 1)] {
            builder.add(seconds, target, size).unwrap();
        }
        let trace = builder.finish().unwrap();
        assert_eq!(trace.times_ns, [0, 500_000_000, 1_000_000_000, 1_500_000_000]);
        let names: Vec<&str> =
            trace.requests.iter().map(|&object| trace.objects[object as usize].target.as_str()).collect();
        assert_eq!(names, ["a", "b", "b", "a"]);
        assert_eq!(trace.objects.iter().map(|object| object.size).max(), Some(9));
    }

    #[test]
    fn the_format_follows_from_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("t.csv");
        fs::write(&file, "0,a,1\n").unwrap();
        assert_eq!(load(&file, Format::Auto).unwrap().requests.len(), 1);
        assert!(load(&file, Format::OracleGeneral).is_err());
        let error = load(&directory.path().join("none"), Format::Auto).unwrap_err();
        assert!(error.to_string().contains("none"));
    }
}
