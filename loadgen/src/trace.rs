//! Recorded sequences of requests, to be replayed.

use crate::requests::encode_target;
use anyhow::{Context, Result, bail};
use forebay::trace::{self, Name, Record, Request};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

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
    /// Told from the beginning of the file.
    Auto,
    /// libCacheSim's packed records: u32 time, u64 object, u32 size, i64 next access.
    OracleGeneral,
    /// Lines of `time,key,size`, time in seconds; or columns in another order, which a header names.
    Csv,
    /// The combined (or common) log format of web servers.
    AccessLog,
}

/// Reads a trace.
///
/// # Errors
/// Names the file and what in it is not the format.
pub fn load(file: &Path, format: Format) -> Result<Trace> {
    let input = File::open(file).with_context(|| format!("cannot read the trace {}", file.display()))?;
    read(BufReader::new(input), format).with_context(|| format!("the trace {}", file.display()))
}

fn read(input: impl BufRead, format: Format) -> Result<Trace> {
    let format = match format {
        Format::Auto => None,
        Format::OracleGeneral => Some(trace::Format::OracleGeneral),
        Format::Csv => Some(trace::Format::Csv),
        Format::AccessLog => Some(trace::Format::AccessLog),
    };
    let mut builder = Builder::default();
    trace::read(input, format, |record| match record {
        Record::Request(request) => builder.request(&request),
        // A line of a log that was cut off or garbled is one request less, not the end of the measurement.
        Record::Other | Record::Broken(_) => {
            builder.skipped += 1;
            Ok(())
        }
    })?;
    builder.finish()
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
    /// Objects are named by their decimal numbers, or by their path below the base of the URL.
    fn request(&mut self, request: &Request<'_>) -> Result<(), String> {
        let target = match request.name {
            Name::Number(number) => number.to_string(),
            Name::Text(text) => encode_target(String::from_utf8_lossy(text).trim_start_matches('/')),
        };
        let seconds = request.seconds.ok_or("it does not say when it was made, in seconds")?;
        self.add(seconds, &target, request.size)
    }

    fn add(&mut self, seconds: f64, target: &str, size: u64) -> Result<(), String> {
        let object = match self.index.get(target) {
            Some(&object) => object,
            None => {
                let object = u32::try_from(self.objects.len()).map_err(|_| "it has more than 4,294,967,295 objects")?;
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
    fn every_format_gives_names_sizes_and_times() {
        let mut binary = Vec::new();
        for (time, id, size) in [(7u32, 1u64 << 40, 100u32), (8, 3, 50), (9, 1 << 40, 120)] {
            binary.extend_from_slice(&time.to_le_bytes());
            binary.extend_from_slice(&id.to_le_bytes());
            binary.extend_from_slice(&size.to_le_bytes());
            binary.extend_from_slice(&(-1i64).to_le_bytes());
        }
        let trace = read(&binary[..], Format::Auto).unwrap();
        assert_eq!(trace.requests, [0, 1, 0]);
        assert_eq!(trace.times_ns, [0, 1_000_000_000, 2_000_000_000]);
        assert_eq!((trace.objects[0].target.as_str(), trace.objects[0].size), ("1099511627776", 120));

        let trace = read(&b"time,key,size\n0.5,/a b/c,10\n\n1.25,\"x,y\",20\n"[..], Format::Csv).unwrap();
        assert_eq!((trace.objects[0].target.as_str(), trace.objects[1].target.as_str()), ("a%20b/c", "x,y"));
        assert_eq!(trace.times_ns, [500_000_000, 1_250_000_000]);

        let log = "h - - [10/Oct/2000:13:55:36 -0700] \"GET /a%20b.gif?x=1 HTTP/1.0\" 200 2326 \"-\" \"curl\"\n\
            h - - [10/Oct/2000:13:55:35 -0700] \"GET /c HTTP/1.0\" 304 -\n\
            h - - [10/Oct/2000:13:55:36 -0700] \"GET /e HTTP/1.0\" 404 1\nnonsense\n";
        let trace = read(log.as_bytes(), Format::Auto).unwrap();
        assert_eq!((trace.skipped, &trace.requests[..]), (2, &[1, 0][..]));
        assert_eq!((trace.objects[0].target.as_str(), trace.objects[0].size), ("a%20b.gif", 2326));
    }

    #[test]
    fn what_cannot_be_replayed_is_named() {
        let error = |text: &str, format| format!("{:#}", read(text.as_bytes(), format).unwrap_err());
        for text in ["0,a,1\n0,a\n", "0,a,1\nx,a,1\n", "0,a,1\n0,a,-1\n", "0,a,1\nNaN,a,1\n"] {
            assert!(error(text, Format::Csv).contains("record 2"), "{text:?}");
        }
        assert!(error("a,1\n", Format::Auto).contains("record 1: it does not say when"));
        assert!(
            error("h - - [10/Oct/2000:13:55:36 -0700] \"GET /e HTTP/1.0\" 404 1\n", Format::Auto)
                .contains("no request")
        );
        assert!(error("cut", Format::OracleGeneral).contains("3 of its 24 bytes"));
        let none = load(Path::new("/nonexistent/none"), Format::Auto).unwrap_err();
        assert!(none.to_string().contains("none"));
    }

    /// A trace of a simulator's collection, where there is one.
    #[test]
    fn a_recorded_trace_reads_whole() {
        let Some(directory) = std::env::var_os("FOREBAY_TRACES") else { return };
        let trace = load(&Path::new(&directory).join("adaptsize.oracleGeneral"), Format::Auto).unwrap();
        assert_eq!((trace.requests.len(), trace.objects.len()), (66_987, 36_815));
    }
}
