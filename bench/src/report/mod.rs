//! What is made from the results: verdicts, the table, the plots, and what the console shows.

pub mod console;
mod figures;
mod markdown;
mod plots;
mod ratios;
mod requirements;

use crate::results::Results;
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Writes the data with the verdicts, whole or not at all.
///
/// # Errors
/// Names the file.
pub fn save(results: &Results, file: &Path) -> Result<()> {
    let summary = requirements::check(results);
    let mut value = serde_json::to_value(results)?;
    value["requirements"] = serde_json::to_value(summary)?;
    let text = serde_json::to_string_pretty(&value)? + "\n";
    let partial = file.with_extension("json.partial");
    fs::write(&partial, text)
        .and_then(|()| fs::rename(&partial, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Writes the table and the plots beside the data; the files written.
///
/// # Errors
/// Names the file that could not be written.
pub fn write_pages(results: &Results, directory: &Path) -> Result<Vec<PathBuf>> {
    let plots = plots::plots(results);
    let names: Vec<&str> = plots.iter().map(|(name, _)| *name).collect();
    let table = ("results.md", markdown::page(results, &names));
    let write = |(name, text): (&str, String)| {
        let file = directory.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    };
    std::iter::once(table).chain(plots).map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::Metric, results::example};

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("results.json");
        let results = example::results(vec![example::case(
            "hits-4k",
            Metric::CpuPerRequest,
            &[("forebay", &[4.0]), ("nginx", &[6.0])],
        )]);
        save(&results, &file).expect("saved");
        assert_eq!(Results::load(&file).expect("loaded"), results);
        let text = fs::read_to_string(&file).expect("read");
        assert!(text.contains("\"requirements\""), "the verdicts are part of the data");
        fs::write(&file, text.replace("\"schema_version\": 1", "\"schema_version\": 99")).expect("written");
        assert!(Results::load(&file).expect_err("refused").to_string().contains("99"));
    }
}
