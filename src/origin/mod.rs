//! What stands behind the cache: a directory of this machine, or an [origin on another one](remote).
//!
//! # The directory that is served
//!
//! Everything is opened relative to the root's descriptor with openat2 and [`RESOLVE`], so that no name and no symbolic
//! link leads out of the root, whatever happens to the tree meanwhile: that is the kernel's promise, not a check of
//! ours. The root itself may be exchanged meanwhile ([`Directory::follow`]). Names are bytes, relative, without a
//! leading slash, already decoded and normalised; the root's own name is empty.
//!
//! Writes are atomic and durable ([`upload`]): a name holds the whole old or the whole new file, also after a crash.

pub mod directory;
pub mod error;
pub mod identity;
pub mod names;
mod place;
pub mod remote;
pub mod root;
mod served;
pub mod staging;
pub mod upload;

use crate::machine;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{OFlags, ResolveFlags};

use crate::version::Version;
use io_uring::types::OpenHow;

pub use crate::version::Found;
pub use names::Visibility;
pub use remote::Remote;
pub use root::{Root, RootAbsent};
pub use served::{Directory, Followed};

/// How every name is resolved that is written to: beneath the root, symbolic links included, and never through /proc's
/// magic ones. Names that are read are resolved so too, unless [`Symlinks`] says otherwise.
pub const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Which symbolic links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Symlinks {
    /// All, wherever they lead; what is read through one may lie outside the root. Writes stay beneath it.
    Follow,
    /// Those that lead to something beneath the root, absolute ones excluded.
    #[default]
    SameRoot,
    /// None.
    None,
}

/// What of a directory is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    pub symlinks: Symlinks,
    /// Hidden names are served, too: see [`names`].
    pub hidden: bool,
}

impl Policy {
    /// Whether a name is served, by its form.
    #[inline]
    pub fn serves(&self, name: &[u8]) -> bool {
        match names::visibility(name) {
            Visibility::Visible => true,
            Visibility::Hidden => self.hidden,
            Visibility::Reserved => false,
        }
    }

    fn resolve_reads(&self) -> ResolveFlags {
        match self.symlinks {
            Symlinks::Follow => ResolveFlags::NO_MAGICLINKS,
            Symlinks::SameRoot => RESOLVE,
            Symlinks::None => RESOLVE.union(ResolveFlags::NO_SYMLINKS),
        }
    }

    fn resolve_writes(&self) -> ResolveFlags {
        RESOLVE.union(self.resolve_reads())
    }
}

/// How a file is opened to be served. Non-blocking, so that a pipe without a writer cannot hold the opener up; no
/// controlling terminal, should a name lead to one.
pub const READ_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// How a place is looked at without opening what is there.
const LOOK_FLAGS: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// openat2 gives up with EAGAIN when the tree is being renamed while it resolves a `..` in a symbolic link; that often
/// it is tried again.
const RESOLVE_TRIES: usize = 32;

/// What stands behind the cache.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one")]
pub enum Origin {
    /// A directory of this machine.
    Directory(Directory),
    /// An HTTP server or an object store.
    Remote(Arc<Remote>),
}

impl Origin {
    /// The directory, if it is one.
    pub fn directory(&self) -> Option<&Directory> {
        match self {
            Origin::Directory(directory) => Some(directory),
            Origin::Remote(_) => None,
        }
    }

    /// The directory, where there must be one.
    ///
    /// # Errors
    /// [`RootAbsent`]: the origin is a remote one.
    pub fn local(&self) -> Result<&Directory, RootAbsent> {
        self.directory().ok_or(RootAbsent)
    }

    /// The origin on another machine, if it is one.
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        match self {
            Origin::Directory(_) => None,
            Origin::Remote(remote) => Some(remote),
        }
    }

    /// What of it is served. A remote origin decides that itself.
    #[inline]
    pub fn policy(&self) -> Policy {
        match self {
            Origin::Directory(directory) => directory.policy(),
            Origin::Remote(_) => Policy { hidden: true, ..Policy::default() },
        }
    }

    /// See [`Directory::root`].
    ///
    /// # Errors
    /// [`RootAbsent`]: always, of a remote origin.
    pub fn root(&self) -> Result<Arc<Root>, RootAbsent> {
        self.local()?.root()
    }

    /// See [`Directory::exchanged`].
    #[inline]
    pub fn exchanged(&self) -> u64 {
        self.directory().map_or(0, Directory::exchanged)
    }

    /// See [`Directory::leads_to`].
    pub fn leads_to(&self, name: &[u8], file: &Version) -> bool {
        self.directory().is_some_and(|directory| directory.leads_to(name, file))
    }

    /// The `how` of an openat2 submitted to a ring, to open a file for reading as [`Directory::open_any`] does.
    pub fn open_how(&self) -> OpenHow {
        OpenHow::new().flags(u64::from(READ_FLAGS.bits())).resolve(self.policy().resolve_reads().bits())
    }

    /// The `how` of an openat2 submitted to a ring, to look at what a name names without opening it.
    pub fn look_how(&self) -> OpenHow {
        OpenHow::new().flags(u64::from(LOOK_FLAGS.bits())).resolve(self.policy().resolve_reads().bits())
    }
}

impl Directory {
    /// Opens what `name` names for reading, whatever it is.
    ///
    /// # Errors
    /// As openat2 has it: ENOENT, ENOTDIR, EACCES, EXDEV (it leads out of the root), ELOOP, ENXIO … Or [`RootAbsent`].
    pub fn open_any(&self, name: &[u8]) -> io::Result<(File, Found)> {
        let fd = self.resolve(name, READ_FLAGS)?;
        let found = Found::of(&fd)?;
        Ok((File::from(fd), found))
    }

    /// What `name` names, without opening it.
    ///
    /// # Errors
    /// As [`Directory::open_any`], but permission to read the file is not needed.
    pub fn look(&self, name: &[u8]) -> io::Result<Found> {
        if let Some(stat) = machine::simulated_name(name) {
            return Ok(Found::from_stat(&stat?));
        }
        Found::of(self.resolve(name, LOOK_FLAGS)?)
    }

    /// # Errors
    /// As openat2 has it, or [`RootAbsent`].
    fn resolve(&self, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        Ok(self.root()?.resolve_read(name, flags)?)
    }
}

/// The directory part and the last segment of a name.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&name[..slash], &name[slash + 1..]),
        None => (b"", name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// An origin for tests.
    pub(super) fn open(root: &Path) -> Directory {
        open_with(root, Policy::default())
    }

    pub(super) fn open_with(root: &Path, policy: Policy) -> Directory {
        Directory::open(root, policy, crate::ring::system::monotonic).unwrap()
    }

    #[test]
    fn links_are_followed_as_far_as_the_policy_says() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/file"), "x").unwrap();
        fs::write(dir.path().join("outside"), "x").unwrap();
        symlink("sub/file", root.join("within")).unwrap();
        symlink("sub", root.join("link")).unwrap();
        symlink(dir.path().join("outside"), root.join("out")).unwrap();
        symlink(dir.path(), root.join("up")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
        let names = ["sub/file", "within", "link/file", "out", "up/outside", "magic"];
        for (symlinks, readable) in [(Symlinks::Follow, 5), (Symlinks::SameRoot, 3), (Symlinks::None, 1)] {
            let origin = open_with(&root, Policy { symlinks, hidden: false });
            for (number, name) in names.iter().enumerate() {
                assert_eq!(origin.open_any(name.as_bytes()).is_ok(), number < readable, "{symlinks:?} {name}");
                assert_eq!(origin.look(name.as_bytes()).is_ok(), number < readable, "{symlinks:?} {name}");
            }
            // Nothing is written outside the root in any case.
            assert!(origin.begin_upload(b"up/new").is_err(), "{symlinks:?}");
            assert!(origin.delete(b"up/outside", &|_| true).is_err(), "{symlinks:?}");
            assert_eq!(origin.begin_upload(b"link/new").is_ok(), symlinks != Symlinks::None, "{symlinks:?}");
        }
        assert!(dir.path().join("outside").exists());
    }

    #[test]
    fn no_name_leads_out_of_the_root() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("file"), "hello").unwrap();
        symlink("../secret", root.join("up")).unwrap();
        symlink(outside.path().join("secret"), root.join("absolute")).unwrap();
        symlink("../file", root.join("sub/within")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("magic")).unwrap();
        symlink("loop", root.join("loop")).unwrap();

        let origin = open(&root);
        for name in ["../secret", "up", "absolute", "magic", "loop", "sub/../../secret", "/etc/passwd", "file/", "no"] {
            let opened = origin.open_any(name.as_bytes());
            assert!(opened.is_err(), "{name}: {opened:?}");
            assert!(origin.look(name.as_bytes()).is_err(), "{name}");
        }
        for name in ["file", "sub/within"] {
            let (_, found) = origin.open_any(name.as_bytes()).unwrap();
            assert!(matches!(found, Found::File(Version { size: 5, .. })), "{name}: {found:?}");
        }
        assert_eq!(origin.look(b"").unwrap(), Found::Directory);
        assert_eq!(origin.look(b"sub").unwrap(), Found::Directory);
    }

    #[test]
    fn a_pipe_without_a_writer_does_not_block() {
        let root = tempfile::tempdir().unwrap();
        rustix::fs::mkfifoat(CWD, root.path().join("pipe"), Mode::RUSR).unwrap();
        let (_, found) = open(root.path()).open_any(b"pipe").unwrap();
        assert_eq!(found, Found::Special);
    }

    #[test]
    fn names_split_at_their_last_slash() {
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
    }
}
