//! What went wrong on a connection, as those are told who wait for the answer.

use crate::origin::remote::Fault;
use std::error::Error;

/// What hyper found wrong. If the client's part of the request broke off, that is said.
pub fn broken(error: &hyper::Error) -> Fault {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(found) = cause {
        if let Some(fault) = found.downcast_ref::<Fault>() {
            return fault.clone();
        }
        cause = found.source();
    }
    if error.is_parse_too_large() {
        return Fault::Broken("its head is too long, or has too many fields".into());
    }
    if error.is_body_write_aborted() {
        return Fault::Request("it is shorter than it was said to be".into());
    }
    match error.source() {
        Some(source) => Fault::Broken(format!("{error}: {source}")),
        None => Fault::Broken(error.to_string()),
    }
}
