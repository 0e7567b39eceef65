//! The values of options that are a choice of a few: their names on the command line, and what the help says of each.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::cache::eviction::Eviction;
use crate::config::{AccessLogFormat, LogLevel, Transmit};
use crate::origin::Symlinks;
use crate::trace::Format;

/// Implements [`ValueEnum`] for a type of a lower layer, which knows nothing of command lines.
macro_rules! choices {
    ($type:ty { $($variant:ident: $name:expr, $help:literal $(or $alias:literal)?;)* }) => {
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$variant),*]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(match self {
                    $(Self::$variant => PossibleValue::new($name).help($help)$(.alias($alias))?,)*
                })
            }
        }
    };
}

choices!(Eviction {
    Gdc: Eviction::Gdc.as_str(), "What saves the least for its bytes: hits, size and the cost of a miss (the default)";
    LargerFirst: Eviction::LargerFirst.as_str(),
        "One file larger than the one asked for; if there is none, the least recently used until there is room";
    Lru: Eviction::Lru.as_str(), "The least recently used";
    S3Fifo: Eviction::S3Fifo.as_str(), "Two queues: what is not asked for again soon does not get far (SOSP 2023)";
    Sieve: Eviction::Sieve.as_str(), "One queue and a hand that passes over what was hit (NSDI 2024)";
});

choices!(Transmit {
    Auto: "auto", "By size and peer, as measured";
    Copy: "copy", "One copying send";
    Splice: "splice", "The cache's pages by reference, without a copy";
    Zerocopy: "zerocopy", "SEND_ZC: for real links; it cannot win on loopback";
});

choices!(Symlinks {
    Follow: "follow", "All, also those that lead out of the root; writes stay within it";
    SameRoot: "same-root", "Those that lead to something within the root, and are not absolute";
    None: "none", "None";
});

choices!(AccessLogFormat {
    Combined: "combined", "The combined log format, as Apache and nginx write it";
    Json: "json", "One JSON object a line";
});

choices!(LogLevel {
    Off: "off", "Nothing";
    Error: "error", "What failed";
    Warn: "warn", "What is not as it should be";
    Info: "info", "Start, stop, and what was found at start";
    Debug: "debug", "Connections and decisions";
    Trace: "trace", "Everything";
});

choices!(Format {
    OracleGeneral: "oracleGeneral", "libCacheSim's binary records of 24 bytes" or "oracle-general";
    Csv: "csv", "Lines of time,object,size or object,size, or with a header that names the columns";
    AccessLog: "access-log", "A web server's log in the Common or Combined Log Format";
});
