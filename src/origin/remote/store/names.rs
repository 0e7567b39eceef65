//! Names in a store's listing that are no paths: with empty parts, `.` or `..` in them, or characters that no path has.
//!
//! Stores allow such keys. The crate refuses a whole page for one of them, so they are taken out of the page before it
//! is read. Nobody could ask for them here: a target with such parts is another's.

use std::borrow::Cow;

use object_store::path::Path;

/// The elements of a page that have a name, and where in them it is: as S3 and GCS have it, and as Azure does.
const NAMED: &[(&str, &str)] =
    &[("Contents", "Key"), ("CommonPrefixes", "Prefix"), ("Blob", "Name"), ("BlobPrefix", "Name")];

/// The page (XML) without the elements whose names are no paths; `None`: there are none of those.
pub(super) fn only_paths(page: &str) -> Option<String> {
    let mut paths: Option<String> = None;
    for (element, name) in NAMED {
        if let Some(kept) = without(paths.as_deref().unwrap_or(page), element, name) {
            paths = Some(kept);
        }
    }
    if paths.is_some() {
        tracing::debug!("a listing of the store has names that are no paths; they are left out");
    }
    paths
}

/// `None`: all of these elements have paths for names.
fn without(page: &str, element: &str, name: &str) -> Option<String> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let mut kept: Option<String> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(from) = page[at..].find(&open).map(|found| at + found) {
        let Some(to) = page[from..].find(&close).map(|found| from + found + close.len()) else { break };
        at = to;
        if between(&page[from..to], name).is_some_and(|name| !is_path(&unescaped(name))) {
            kept.get_or_insert_default().push_str(&page[copied..from]);
            copied = to;
        }
    }
    kept.map(|kept| kept + &page[copied..])
}

/// The text of the first element of this name.
fn between<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

fn is_path(name: &str) -> bool {
    !name.starts_with('/') && Path::parse(name).is_ok()
}

/// With characters for the numbers that stand for some. Named ones (`&amp;`) are no part of what decides.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains("&#") {
        return text.into();
    }
    let mut pieces = text.split("&#");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let character = piece.split_once(';').and_then(|(number, rest)| {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            Some((char::from_u32(code.ok()?)?, rest))
        });
        match character {
            Some((character, rest)) => out.extend([character].into_iter().chain(rest.chars())),
            None => out.extend(["&#", piece]),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_paths_are_left_out() {
        let object = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let prefix = |name: &str| format!("<CommonPrefixes>\n<Prefix>{name}</Prefix></CommonPrefixes>");
        let blob = |name: &str| format!("<Blobs><Blob><Name>{name}</Name></Blob></Blobs>");
        let (mut kept, mut page) = ("<R><Prefix>a/</Prefix>".to_owned(), "<R><Prefix>a/</Prefix>".to_owned());
        for (name, is_kept) in [
            ("a/b", true),
            ("a//b", false),
            ("a/", true),
            ("a//", false),
            ("/", false),
            ("/a", false),
            ("a/../b", false),
            ("a/./b", false),
            ("a&amp;b/&lt;c&gt;", true),
            ("a&#xA;b", false),
            ("a&#47;&#x2f;b", false),
            ("a&#xfffffffff;b&#", true),
            ("\u{65e5}\u{672c}&#x65E5;", true),
        ] {
            for element in [object(name), prefix(name), blob(name)] {
                page += &element;
                match (is_kept, element.starts_with("<Blobs>")) {
                    (true, _) => kept += &element,
                    (false, true) => kept += "<Blobs></Blobs>",
                    (false, false) => {}
                }
            }
        }
        assert_eq!(only_paths(&page), Some(kept));
        for whole in ["", "<Contents>", "<Contents><Key>a//b</Key>", "<Contents></Contents>", "</Contents><Contents>"] {
            assert_eq!(only_paths(whole), None, "{whole}");
        }
    }
}
