//! List files: one path a line, below the base of the URL, optionally followed by a tab and the file's size in bytes.

use super::{Item, encode_target};
use anyhow::{Context, Result, bail};
use std::{fs, path::Path};

/// Reads a list file. Blank lines and lines that begin with `#` do not count.
///
/// # Errors
/// Names the file, and the line that is wrong.
pub fn load(file: &Path) -> Result<Vec<Item>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the list {}", file.display()))?;
    parse(&text).with_context(|| format!("the list {}", file.display()))
}

fn parse(text: &str) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (path, size) = match line.split_once('\t') {
            Some((path, size)) => match size.parse() {
                Ok(size) => (path, Some(size)),
                Err(_) => bail!("line {}: `{size}` is not a size in bytes", number + 1),
            },
            None => (line, None),
        };
        items.push(Item { target: encode_target(path.trim_start_matches('/')), size });
    }
    if items.is_empty() {
        bail!("names no path");
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_optional() {
        let items = parse("# heading\n/a b\t7\n\nc%20d\n").unwrap();
        let item = |target: &str, size| Item { target: target.into(), size };
        assert_eq!(items, [item("a%20b", Some(7)), item("c%20d", None)]);
        assert!(parse("a\tmany\n").unwrap_err().to_string().contains("line 1"));
        assert!(parse("\n").is_err());
    }
}
