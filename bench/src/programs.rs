//! Where the programs are: peers on PATH, Forebay and its load generator beside this one.

use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Where servers are installed; not on everybody's PATH.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// The program `name` on PATH, or where servers are installed.
pub fn find(name: &str) -> Option<PathBuf> {
    let path: OsString = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(SYSTEM_DIRECTORIES.map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The project's own programs.
#[derive(Debug, Clone)]
pub struct Own {
    pub forebay: PathBuf,
    pub loadgen: PathBuf,
}

/// The given programs, or else those of this workspace, built by cargo so that what is measured is what the sources
/// say.
///
/// # Errors
/// They cannot be built.
pub fn own(forebay: Option<&Path>, loadgen: Option<&Path>) -> Result<Own> {
    let given = |file: &Path| match is_program(file) {
        // Servers run in directories of their own.
        true => fs::canonicalize(file).with_context(|| format!("cannot find {}", file.display())),
        false => bail!("{} is not a program", file.display()),
    };
    if let (Some(forebay), Some(loadgen)) = (forebay, loadgen) {
        return Ok(Own { forebay: given(forebay)?, loadgen: given(loadgen)? });
    }
    let target = target_directory()?;
    build(&target)?;
    let release = target.join("release");
    Ok(Own {
        forebay: forebay.map_or_else(|| Ok(release.join("forebay")), given)?,
        loadgen: loadgen.map_or_else(|| Ok(release.join("loadgen")), given)?,
    })
}

/// Cargo's target directory: this program is `<target>/<profile>/bench`.
///
/// # Errors
/// This program cannot say where it is.
pub fn target_directory() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where this program is")?;
    let target = own.parent().and_then(Path::parent);
    Ok(target.with_context(|| format!("{} is not in a target directory", own.display()))?.to_owned())
}

/// The workspace that this program was built from.
pub fn workspace() -> PathBuf {
    let member =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    member.parent().map_or_else(|| member.clone(), Path::to_owned)
}

fn build(target: &Path) -> Result<()> {
    eprintln!("bench: building forebay and loadgen");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--release", "--package", "forebay", "--package", "loadgen", "--target-dir"])
        .arg(target)
        .current_dir(workspace())
        .status()
        .context("cannot run cargo; name built programs with --forebay and --loadgen")?;
    if !status.success() {
        bail!("forebay and loadgen could not be built");
    }
    Ok(())
}

/// What a program says about its version: the first line that it prints.
pub fn version(program: &Path, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else { return String::new() };
    // Some say it on standard error.
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_and_others_are_not() {
        assert!(find("sh").is_some_and(|file| file.is_absolute()));
        assert_eq!(find("no-program-has-this-name"), None);
        // A file, but no program.
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let error = own(Some(&manifest), Some(&manifest)).expect_err("refused").to_string();
        assert!(error.contains("Cargo.toml is not a program"), "{error}");
    }

    #[test]
    fn a_version_is_one_line() {
        assert!(version(&find("sh").expect("a shell"), "--version").lines().count() <= 1);
        assert_eq!(version(Path::new("/nonexistent"), "-v"), "");
    }
}
