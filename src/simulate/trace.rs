//! A recorded sequence of requests, in 4 bytes for each request and 8 for each object.

use hashbrown::HashMap;
use std::hash::Hash;

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

/// A trace with more objects than 32 bits can number.
#[derive(Debug, thiserror::Error)]
#[error("there are more than 4294967295 different objects")]
pub struct TooManyObjects;

/// Puts a trace together from requests for objects of any name.
#[derive(Debug)]
pub(super) struct Builder<Name> {
    trace: Trace,
    numbers: HashMap<Name, u32, foldhash::fast::RandomState>,
}

impl<Name: Hash + Eq> Builder<Name> {
    pub(super) fn new() -> Builder<Name> {
        Builder { trace: Trace::default(), numbers: HashMap::default() }
    }

    /// `owned` makes the name that is kept, for a name not seen before.
    pub(super) fn request<Borrowed>(
        &mut self,
        name: &Borrowed,
        size: u64,
        owned: impl FnOnce(&Borrowed) -> Name,
    ) -> Result<(), TooManyObjects>
    where
        Borrowed: Hash + hashbrown::Equivalent<Name> + ?Sized,
    {
        let object = match self.numbers.get(name) {
            Some(object) => *object,
            None => {
                let object = u32::try_from(self.trace.sizes.len()).map_err(|_| TooManyObjects)?;
                self.numbers.insert(owned(name), object);
                self.trace.sizes.push(0);
                object
            }
        };
        let known = &mut self.trace.sizes[object as usize];
        *known = size.max(*known);
        self.trace.requests.push(object);
        Ok(())
    }

    pub(super) fn skip(&mut self) {
        self.trace.skipped += 1;
    }

    pub(super) fn finish(self) -> Trace {
        self.trace
    }
}
