//! The names below a prefix, page by page.

use std::borrow::Cow;
use std::time::SystemTime;

use object_store::list::PaginatedListOptions;
use object_store::path::Path;

use super::super::{Answer, Fault};
use super::Store;
use super::answer::of_error;
use super::transport::Operation;

/// One thing that a directory of a store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name in the directory, without a slash at the end.
    pub name: String,
    /// `None` for a directory.
    pub object: Option<Object>,
}

/// What a listing says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub size: u64,
    pub modified: SystemTime,
}

/// A page of a directory.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub listed: Vec<Listed>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<String>,
}

impl Store {
    /// The directory `name` (without a slash at either end; empty for the root) from the page `from` on. Its names come
    /// in the store's order, which is by bytes; directories and objects of a page apart. The inner error is an answer
    /// instead.
    pub async fn list(&self, name: &[u8], from: Option<String>) -> Result<Result<Page, Answer>, Fault> {
        let name = std::str::from_utf8(name).ok();
        let directory = name.and_then(|name| Path::parse(format!("{}/{name}", self.prefix)).ok());
        let Some(directory) = directory else { return Ok(Ok(Page::default())) };
        let prefix = (!directory.is_root()).then(|| format!("{directory}/"));
        let options = PaginatedListOptions {
            delimiter: Some(Cow::Borrowed("/")),
            page_token: from,
            ..PaginatedListOptions::default()
        };
        let operation = Operation::for_listing();
        let listed = operation.scope(self.pages.list_paginated(prefix.as_deref(), options)).await;
        let found = match listed {
            Ok(found) => found,
            Err(error) => return of_error(&error, &operation).map(Err),
        };
        let name = |path: &Path| path.as_ref().strip_prefix(prefix.as_deref().unwrap_or_default()).map(str::to_owned);
        let directories = found.result.common_prefixes.iter();
        let directories = directories.filter_map(|path| Some(Listed { name: name(path)?, object: None }));
        // An object with the directory's own name is a mark that some programs leave; its key is outside the prefix.
        let objects = found.result.objects.iter().filter_map(|meta| {
            let object = Object { size: meta.size, modified: meta.last_modified.into() };
            Some(Listed { name: name(&meta.location)?, object: Some(object) })
        });
        Ok(Ok(Page { listed: directories.chain(objects).collect(), next: found.page_token }))
    }

    /// Whether there are objects whose keys begin with this one and a slash, as far as the store says.
    pub(super) async fn has_beneath(&self, key: &Path) -> bool {
        let options = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        let prefix = format!("{key}/");
        let listed = Operation::for_listing().scope(self.pages.list_paginated(Some(&prefix), options)).await;
        listed.is_ok_and(|found| !found.result.objects.is_empty() || !found.result.common_prefixes.is_empty())
    }
}
