//! Too little of something: connections, descriptors, memory. Who is connected is served on as far as possible; who
//! comes is told.

use crate::http::response::Problem;

/// What there may be too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overload {
    Connections,
    Descriptors,
    Memory,
}

impl Overload {
    /// What is lacking; `limit` is that of connections.
    pub fn describe(self, limit: usize) -> String {
        match self {
            Overload::Connections => format!("all {limit} connections are in use"),
            Overload::Descriptors => "no descriptor is left (ulimit -n, LimitNOFILE=, fs.file-max)".into(),
            Overload::Memory => "no memory is left (ulimit -v)".into(),
        }
    }

    /// The answer to what there is too little for.
    pub fn problem(self, limit: usize) -> Problem {
        Problem::new(503, format!("{}; try again", self.describe(limit))).with_field("Retry-After: 1")
    }
}
