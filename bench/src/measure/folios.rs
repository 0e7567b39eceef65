//! The kernel's setting for 64 KiB folios in shared memory, set for the runs and restored after them.

use crate::processes;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

const SETTING: &str = "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/shmem_enabled";

/// How the setting was found, and whether it can be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `None`: this kernel has no such setting.
    pub value: Option<String>,
    /// Root can set it. Otherwise servers run with what was found.
    pub settable: bool,
}

/// The setting; as found again when dropped.
#[derive(Debug)]
pub struct Folios {
    path: PathBuf,
    found: Found,
}

impl Folios {
    /// Looks at the setting, and sees to it that it is restored however this process ends (but for SIGKILL).
    pub fn find() -> Folios {
        Folios::at(Path::new(SETTING))
    }

    fn at(path: &Path) -> Folios {
        let value = fs::read_to_string(path).ok().and_then(|text| Some(chosen(&text)?.to_owned()));
        // Writing what is there changes nothing, and tells whether it is allowed.
        let settable = value.as_ref().is_some_and(|value| fs::write(path, value).is_ok());
        if let (true, Some(value)) = (settable, &value) {
            processes::restore_at_exit(path.to_owned(), value.clone());
        }
        Folios { path: path.to_owned(), found: Found { value, settable } }
    }

    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Whether servers that ask for large folios get them from now on: `advise` or `never`. Nothing where it is not
    /// settable.
    pub fn set(&self, large: bool) {
        if self.found.settable
            && let Err(error) = processes::change(&self.path, if large { "advise" } else { "never" })
        {
            eprintln!("bench: cannot set {}: {error}", self.path.display());
        }
    }
}

impl Drop for Folios {
    fn drop(&mut self) {
        if self.found.settable {
            processes::restore_now(&self.path);
        }
    }
}

/// The word in brackets: `always inherit [advise] never`.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_word_is_found() {
        assert_eq!(chosen("always inherit within_size advise [never]\n"), Some("never"));
        assert_eq!(chosen("always [advise] never"), Some("advise"));
        assert_eq!(chosen("never"), None);
        assert_eq!(chosen(""), None);
    }

    #[test]
    fn a_kernel_without_the_setting_is_left_alone() {
        let folios = Folios::at(Path::new("/nonexistent/setting"));
        assert_eq!(*folios.found(), Found { value: None, settable: false });
        folios.set(true);
    }

    #[test]
    fn the_setting_is_changed_for_the_time_of_the_run() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("shmem_enabled");
        fs::write(&file, "always inherit within_size advise [never]\n").expect("written");
        let read = || fs::read_to_string(&file).expect("read");
        let folios = Folios::at(&file);
        folios.set(true);
        assert_eq!(read(), "advise");
        drop(folios);
        assert_eq!(read(), "never");
    }
}
