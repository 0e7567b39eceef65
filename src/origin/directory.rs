//! What a directory holds.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Dir, FileType, OFlags};

use super::{Directory, LOOK_FLAGS, Policy, READ_FLAGS, Root};
use crate::version::Found;
use crate::version::{http_time, nanoseconds};

/// One thing in a directory that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the directory.
    pub name: Vec<u8>,
    /// What it is; what a symbolic link within the root leads to.
    pub kind: EntryKind,
    /// When it was last modified, in whole seconds between 1970 and 9999, if anybody knows.
    pub modified: Option<SystemTime>,
}

/// The kinds of things that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of so many bytes.
    File { size: u64 },
    /// A directory.
    Directory,
}

/// In which order the entries of a directory come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By their names, bytewise.
    ByName,
    /// Directories first, each kind by its names. Symbolic links stand among the files, since where they lead is not
    /// known yet.
    DirectoriesFirst,
}

/// Whether there is memory for more names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    Granted,
    /// Others hold too much of it.
    Busy,
    /// One directory may not have so much.
    TooLarge,
}

/// An open directory. Each entry is looked at when it is asked for, so that a huge directory can be shown piece by
/// piece.
#[derive(Debug)]
pub struct Names {
    root: Arc<Root>,
    /// The directory's own name.
    place: Vec<u8>,
    directory: OwnedFd,
    policy: Policy,
    held: Held,
}

/// The names of a directory.
#[derive(Debug)]
enum Held {
    /// All of them, one after the other, and where each stands, in their order: in two blocks, since one for each name
    /// would cost several times as much, and be kept by the allocator.
    Sorted { text: Vec<u8>, spans: Vec<Span>, next: usize },
    /// None: they are too many, and come in the order in which the file system has them.
    Unsorted(Dir),
}

/// Where a name stands in the text of all.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: u32,
    /// No name has more bytes (NAME_MAX).
    length: u8,
    is_directory: bool,
}

const _: () = assert!(size_of::<Span>() == 8);

impl Span {
    fn of<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        &text[self.from as usize..self.from as usize + usize::from(self.length)]
    }
}

impl Directory {
    /// Reads the names in a directory. `grow` is asked from time to time, and at the end, whether so many bytes of
    /// memory may be taken in all; `None` if others hold too much of it. A directory that is too large for it is shown
    /// unsorted, from no memory.
    ///
    /// # Errors
    /// As openat2 and getdents have it: ENOENT, ENOTDIR, EACCES …
    pub fn names(
        &self,
        place: &[u8],
        order: Order,
        mut grow: impl FnMut(usize) -> Growth,
    ) -> io::Result<Option<Names>> {
        let root = self.root()?;
        let directory = root.resolve_read(place, READ_FLAGS | OFlags::DIRECTORY)?;
        let (mut text, mut spans) = (Vec::new(), Vec::new());
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let mut entries = Dir::read_from(&directory)?;
        let mut growth = Growth::Granted;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && self.policy().serves(name) {
                let from = u32::try_from(text.len()).map_err(too_large)?;
                let length = u8::try_from(name.len()).map_err(too_large)?;
                text.extend_from_slice(name);
                spans.push(Span { from, length, is_directory: entry.file_type() == FileType::Directory });
                if spans.len().is_multiple_of(NAMES_AT_ONCE) {
                    growth = grow(bytes_of(&text, &spans));
                }
            }
            if growth != Growth::Granted {
                break;
            }
        }
        if growth == Growth::Granted {
            growth = grow(bytes_of(&text, &spans));
        }
        let (place, policy) = (place.to_vec(), self.policy());
        match growth {
            Growth::Granted => {}
            Growth::Busy => return Ok(None),
            Growth::TooLarge => {
                entries.rewind();
                return Ok(Some(Names { root, place, directory, policy, held: Held::Unsorted(entries) }));
            }
        }
        let comes_later = |span: &Span| order == Order::DirectoriesFirst && !span.is_directory;
        spans.sort_unstable_by_key(|span| (comes_later(span), span.of(&text)));
        text.shrink_to_fit();
        spans.shrink_to_fit();
        Ok(Some(Names { root, place, directory, policy, held: Held::Sorted { text, spans, next: 0 } }))
    }
}

/// Names that are read before it is asked whether there is memory for more.
const NAMES_AT_ONCE: usize = 1024;

/// Bytes of memory that names take.
fn bytes_of(text: &[u8], spans: &[Span]) -> usize {
    text.len() + size_of_val(spans)
}

impl Names {
    /// Whether its names are held in memory, in their order.
    pub fn are_sorted(&self) -> bool {
        matches!(self.held, Held::Sorted { .. })
    }

    /// Looks at so many of the next entries, leaving out those that cannot be asked for; `None` after the last.
    ///
    /// # Errors
    /// Those of getdents, for a directory that is read as it is shown.
    pub fn next(&mut self, count: usize) -> io::Result<Option<Vec<Entry>>> {
        let mut found = Vec::new();
        let Names { root, place, directory, policy, held } = self;
        let mut look = |name: &[u8]| found.extend(entry(root, place, directory, name));
        match held {
            Held::Sorted { spans, next, .. } if *next >= spans.len() => return Ok(None),
            Held::Sorted { text, spans, next } => {
                let to = next.saturating_add(count).min(spans.len());
                spans[*next..to].iter().for_each(|span| look(span.of(text)));
                *next = to;
            }
            Held::Unsorted(entries) => {
                for read in 0..count {
                    let Some(next) = entries.read() else {
                        return Ok((read > 0).then_some(found));
                    };
                    let next = next?;
                    let name = next.file_name().to_bytes();
                    if name != b"." && name != b".." && policy.serves(name) {
                        look(name);
                    }
                }
            }
        }
        Ok(Some(found))
    }
}

/// Looks at one entry; None for what cannot be asked for: special files, links that lead nowhere or out of the
/// root, and what has gone since its name was read.
fn entry(root: &Root, place: &[u8], directory: &OwnedFd, name: &[u8]) -> Option<Entry> {
    let mut stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        let target = root.resolve_read(&join(place, name), LOOK_FLAGS).ok()?;
        stat = rustix::fs::fstat(target).ok()?;
    }
    let kind = match Found::from_stat(&stat) {
        Found::File(identity) => EntryKind::File { size: identity.size },
        Found::Directory => EntryKind::Directory,
        Found::Special => return None,
    };
    let modified = Some(http_time(nanoseconds(stat.st_mtime, 0)));
    Some(Entry { name: name.to_vec(), kind, modified })
}

/// The name of `segment` in the directory `place`.
pub(super) fn join(place: &[u8], segment: &[u8]) -> Vec<u8> {
    if place.is_empty() { segment.to_vec() } else { [place, b"/", segment].concat() }
}

#[cfg(test)]
mod tests {
    use super::super::{Policy, Symlinks};
    use super::*;
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    #[test]
    fn entries_are_sorted_and_only_what_can_be_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("sub/.forebay")).unwrap();
        fs::create_dir(root.join(".forebay")).unwrap();
        fs::write(dir.path().join("outside"), "x").unwrap();
        fs::write(root.join("sub/file"), "12345").unwrap();
        fs::write(root.join("b"), "1").unwrap();
        fs::write(root.join(OsStr::from_bytes(b"a\xff\n")), "22").unwrap();
        fs::write(root.join(".forebay-upload-0123456789abcdef.tmp"), "half").unwrap();
        symlink("sub/file", root.join("link")).unwrap();
        symlink("../outside", root.join("out")).unwrap();
        symlink("nowhere", root.join("broken")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), rustix::fs::Mode::RUSR).unwrap();

        let origin = super::super::tests::open(&root);
        let granted = |_| Growth::Granted;
        let rest = |mut names: Names, step: usize| {
            std::iter::from_fn(|| names.next(step).unwrap()).flatten().collect::<Vec<Entry>>()
        };
        let names = || origin.names(b"", Order::ByName, granted).unwrap().unwrap();
        let all = rest(names(), usize::MAX);
        let shown: Vec<(&[u8], EntryKind)> = all.iter().map(|e| (&e.name[..], e.kind)).collect();
        assert_eq!(
            shown,
            [
                (&b"a\xff\n"[..], EntryKind::File { size: 2 }),
                (b"b", EntryKind::File { size: 1 }),
                (b"link", EntryKind::File { size: 5 }),
                (b"sub", EntryKind::Directory),
            ]
        );
        let ordered = rest(origin.names(b"", Order::DirectoriesFirst, granted).unwrap().unwrap(), usize::MAX);
        assert_eq!(ordered.iter().map(|e| &e.name[..]).collect::<Vec<_>>(), [&b"sub"[..], b"a\xff\n", b"b", b"link"]);
        assert_eq!(rest(names(), 1), all);
        // One that is too large comes in another order.
        let unsorted = origin.names(b"", Order::ByName, |_| Growth::TooLarge).unwrap().unwrap();
        assert!(names().are_sorted() && !unsorted.are_sorted());
        let mut unsorted = rest(unsorted, 2);
        unsorted.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(unsorted, all);
        let listed = |policy, place: &[u8]| {
            let names =
                super::super::tests::open_with(&root, policy).names(place, Order::ByName, granted).unwrap().unwrap();
            rest(names, 9)
                .into_iter()
                .map(|entry| String::from_utf8_lossy(&entry.name).into_owned())
                .collect::<Vec<_>>()
        };
        for name in [".hidden", ".well-known"] {
            fs::write(root.join("sub").join(name), "x").unwrap();
        }
        // What is the server's own is so everywhere, and what is hidden may be shown.
        assert_eq!(listed(Policy::default(), b"sub"), [".well-known", "file"]);
        assert_eq!(listed(Policy { hidden: true, ..Policy::default() }, b"sub"), [".hidden", ".well-known", "file"]);
        assert!(!listed(Policy { symlinks: Symlinks::None, hidden: false }, b"").contains(&"link".to_owned()));
        assert!(listed(Policy { symlinks: Symlinks::Follow, hidden: false }, b"").contains(&"out".to_owned()));
        assert!(
            origin.names(b"b", Order::ByName, granted).is_err() && origin.names(b"no", Order::ByName, granted).is_err()
        );
        assert!(origin.names(b"", Order::ByName, |_| Growth::Busy).unwrap().is_none(), "no room");
    }
}
