//! The root directory, which may be exchanged while it is served: a symbolic link in its path is switched, or another
//! tree is renamed into its place.
//!
//! [`Directory::follow`] looks where the path leads now. It is called at regular intervals by one thread, and by every
//! write before it acknowledges anything. What was found in an earlier root is recognised by its time:
//! [`Directory::exchanged`] is later.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rustix::io::Errno;

use super::Policy;
use super::place::Unsettled;
use super::root::{Root, RootAbsent};

/// What a look at the path of the root found.
#[derive(Debug)]
pub enum Followed {
    /// The root that was served before.
    Same,
    /// Another directory, which is served from now on.
    Exchanged,
    /// No directory; there was one before.
    Lost,
    /// No directory, as at the last look.
    Absent,
    /// Nothing certain: this process lacks something, or the storage fails. What was served before still is.
    Unknown(io::Error),
}

/// On cache lines of its own: every hit reads it, and misses write to what stands near it.
#[derive(Debug)]
#[repr(align(128))]
struct Time(AtomicU64);

/// The directory that is served.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    policy: Policy,
    root: RwLock<Option<Arc<Root>>>,
    exchanged: Time,
    clock: fn() -> u64,
    /// The path is followed by everybody who needs the root, instead of at intervals.
    at_once: bool,
    pub(super) unsettled: Unsettled,
}

impl Directory {
    /// Opens the directory to serve. `clock` tells the time of [`Directory::exchanged`].
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, EACCES and the like, of `path` itself.
    pub fn open(path: &Path, policy: Policy, clock: fn() -> u64) -> io::Result<Directory> {
        let root = Root::open(path, policy)?;
        // A relative path leads to one directory for ever, whatever its name is by now: the working directory of a
        // process is no name. The absolute path is followed, if it leads to the same place and this process may walk
        // it.
        let absolute = std::path::absolute(path)
            .ok()
            .filter(|absolute| rustix::fs::stat(absolute).is_ok_and(|stat| root.is(&stat)));
        Ok(Directory {
            path: absolute.unwrap_or_else(|| path.to_owned()),
            policy,
            root: RwLock::new(Some(Arc::new(root))),
            exchanged: Time(AtomicU64::new(0)),
            clock,
            at_once: false,
            unsettled: Unsettled::default(),
        })
    }

    /// Follows the path whenever the root is needed, too: for intervals that are too short for a thread.
    pub fn following_at_once(self) -> Directory {
        Directory { at_once: true, ..self }
    }

    /// What of it is served.
    #[inline]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The path that is followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that names are relative to now.
    ///
    /// # Errors
    /// [`RootAbsent`].
    pub fn root(&self) -> Result<Arc<Root>, RootAbsent> {
        if self.at_once {
            self.follow();
        }
        self.root.read().clone().ok_or(RootAbsent)
    }

    /// Whether `root` still is the one that is served.
    pub fn is_present(&self, root: &Arc<Root>) -> bool {
        self.root.read().as_ref().is_some_and(|present| Arc::ptr_eq(present, root))
    }

    /// When the root was last exchanged or lost: what was found at this time or before it was perhaps found in another
    /// root.
    #[inline]
    pub fn exchanged(&self) -> u64 {
        self.exchanged.0.load(Ordering::Acquire)
    }

    /// Looks where the path of the root leads, and serves that from now on.
    pub fn follow(&self) -> Followed {
        let present = self.root.read().clone();
        match rustix::fs::stat(&self.path) {
            Ok(stat) => {
                if let Some(root) = &present
                    && root.is(&stat)
                {
                    return Followed::Same;
                }
            }
            Err(errno) => return self.lose(present.as_ref(), errno.into()),
        }
        match Root::open(&self.path, self.policy) {
            Ok(root) => {
                // Two may have looked at the same time: an exchange for the same directory is harmless.
                self.exchange(Some(Arc::new(root)));
                tracing::info!("another directory is at {} now, and is served", self.path.display());
                Followed::Exchanged
            }
            Err(error) => self.lose(present.as_ref(), error),
        }
    }

    fn lose(&self, present: Option<&Arc<Root>>, error: io::Error) -> Followed {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            _ if present.is_none() => Followed::Absent,
            // Only these say that no directory is there, or that it may not be looked at. Whatever else fails (a file
            // system whose server is away, a disk that cannot be read, no descriptors) evicts nothing.
            errno if !errno.is_some_and(says_absent) => Followed::Unknown(error),
            _ => {
                self.exchange(None);
                tracing::warn!("{} is gone, and requests are answered 503: {error}", self.path.display());
                Followed::Lost
            }
        }
    }

    fn exchange(&self, root: Option<Arc<Root>>) {
        // In this order: who saw the earlier root and reads the clock before that has an earlier time.
        *self.root.write() = root;
        self.exchanged.0.store((self.clock)(), Ordering::Release);
    }
}

/// Whether an error says that a path leads to no directory that may be served.
fn says_absent(errno: Errno) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NAMETOOLONG, Errno::STALE, Errno::ACCESS, Errno::PERM]
        .contains(&errno)
}

#[cfg(test)]
mod tests {
    use super::super::tests::open;
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn size(origin: &Directory, name: &[u8]) -> Option<u64> {
        match origin.look(name) {
            Ok(super::super::Found::File(identity)) => Some(identity.size),
            _ => None,
        }
    }

    #[test]
    fn a_switched_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        for (version, text) in [("v1", "1"), ("v2", "22")] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("a"), text).unwrap();
        }
        let current = dir.path().join("current");
        symlink("v1", &current).unwrap();
        let origin = open(&current);
        let first = origin.root().unwrap();
        assert!(matches!(origin.follow(), Followed::Same));
        assert_eq!((size(&origin, b"a"), origin.exchanged()), (Some(1), 0));

        symlink("v2", dir.path().join("next")).unwrap();
        fs::rename(dir.path().join("next"), &current).unwrap();
        assert!(matches!(origin.follow(), Followed::Exchanged));
        assert_eq!(size(&origin, b"a"), Some(2));
        assert!(origin.exchanged() > 0 && !origin.is_present(&first));
        assert!(matches!(origin.follow(), Followed::Same));
    }

    #[test]
    fn a_root_that_is_gone_is_absent_until_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let (root, aside) = (dir.path().join("root"), dir.path().join("aside"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), "1").unwrap();
        let origin = open(&root);
        fs::rename(&root, &aside).unwrap();
        assert!(matches!(origin.follow(), Followed::Lost) && matches!(origin.follow(), Followed::Absent));
        assert!(RootAbsent::caused(&origin.look(b"a").unwrap_err()));
        fs::write(&root, "a file").unwrap();
        assert!(matches!(origin.follow(), Followed::Absent));
        fs::remove_file(&root).unwrap();
        fs::rename(&aside, &root).unwrap();
        assert!(matches!(origin.follow(), Followed::Exchanged));
        assert_eq!(size(&origin, b"a"), Some(1));
    }
}
