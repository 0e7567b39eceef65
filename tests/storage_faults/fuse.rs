//! A file system of the tests' own, in memory and through FUSE, whose storage fails as a test wants it to.
//!
//! What it is asked can be held back, for as long as the test likes: the thread that takes requests never waits, it
//! keeps the answers. Nothing is remembered by the kernel but the bytes of open files, so each look asks.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, MountOption,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request,
};

/// How long the kernel may believe what it was told.
const NOT_AT_ALL: Duration = Duration::ZERO;

/// What the storage can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Lookup,
    Attributes,
    Open,
    Read,
    List,
}

/// A file as it is now. What is written in place changes it, what is renamed over it takes its name.
#[derive(Debug, Clone)]
pub struct File {
    pub bytes: Vec<u8>,
    /// What is said of its length.
    pub size: u64,
    pub modified: SystemTime,
    /// From this offset on, reads fail with EIO.
    pub fails_at: Option<u64>,
}

impl File {
    pub fn new(bytes: Vec<u8>) -> File {
        // Long ago, so that a second look at what changed lately is not what a test sees.
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File { size: bytes.len() as u64, bytes, modified, fails_at: None }
    }

    /// One that lies about its length.
    pub fn claiming(bytes: Vec<u8>, size: u64) -> File {
        File { size, ..File::new(bytes) }
    }

    /// One that cannot be read from an offset on.
    pub fn failing(bytes: Vec<u8>, at: u64) -> File {
        File { fails_at: Some(at), ..File::new(bytes) }
    }
}

/// An answer that is not given yet.
type Held = Box<dyn FnOnce(&Tree) + Send>;

#[derive(Default)]
struct Tree {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, File>,
    is_gone: bool,
}

#[derive(Default)]
struct State {
    tree: Tree,
    /// What is held back: this question, about this file only if one is named, for reads from this offset on.
    stalled: Option<Stalled>,
    held: Vec<Held>,
}

struct Stalled {
    asked: Asked,
    name: Option<String>,
    from: u64,
}

/// The storage, mounted. It is unmounted when this is dropped, which has to be after the server has gone.
pub struct Storage {
    state: Arc<Mutex<State>>,
    session: Option<fuser::BackgroundSession>,
    mountpoint: tempfile::TempDir,
}

impl Storage {
    /// Mounts storage with these files. `None`: nothing of FUSE can be mounted here, which is said.
    pub fn mount(files: &[(&str, File)]) -> Option<Storage> {
        let mountpoint = tempfile::tempdir().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let mut config = fuser::Config::default();
        config.mount_options = vec![MountOption::RO, MountOption::FSName("forebay-test".to_owned())];
        let mounted = fuser::spawn_mount(Faulty(state.clone()), mountpoint.path(), &config);
        let session = match mounted {
            Ok(session) => session,
            Err(error) => {
                eprintln!("SKIPPED: no FUSE file system can be mounted here: {error}");
                return None;
            }
        };
        let storage = Storage { state, session: Some(session), mountpoint };
        files.iter().for_each(|(name, file)| storage.replace(name, file.clone()));
        Some(storage)
    }

    pub fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    /// A new file under this name, as a rename leaves it.
    pub fn replace(&self, name: &str, file: File) {
        let tree = &mut self.lock().tree;
        let inode = tree.files.last_key_value().map_or(2, |(inode, _)| inode + 1);
        tree.files.insert(inode, file);
        tree.names.insert(name.to_owned(), inode);
    }

    /// The file of this name becomes another in place.
    pub fn rewrite(&self, name: &str, file: File) {
        let tree = &mut self.lock().tree;
        let inode = tree.names[name];
        tree.files.insert(inode, file);
    }

    /// Holds back the answers to what is asked from now on, until what is returned is dropped.
    pub fn stall(&self, asked: Asked) -> Stall<'_> {
        self.hold(Stalled { asked, name: None, from: 0 })
    }

    /// Holds back the answers to questions about this file alone (without a name: the root), of reads those from an
    /// offset on.
    pub fn stall_file(&self, asked: Asked, name: &str, from: u64) -> Stall<'_> {
        self.hold(Stalled { asked, name: Some(name.to_owned()), from })
    }

    fn hold(&self, stalled: Stalled) -> Stall<'_> {
        let before = self.lock().stalled.replace(stalled);
        assert!(before.is_none(), "one stall at a time");
        Stall(self)
    }

    /// It is gone: whatever is asked from now on fails as when its process has died.
    pub fn disappear(&self) {
        self.lock().tree.is_gone = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // Lazily: the kernel may still be busy with what the server has left behind.
        let lazily = std::process::Command::new("umount").arg("--lazy").arg(self.path()).status();
        let is_unmounted = lazily.is_ok_and(|status| status.success());
        if let Some(session) = self.session.take() {
            let _ = if is_unmounted { session.join() } else { session.umount_and_join() };
        }
    }
}

/// Storage that does not answer, until this is dropped.
pub struct Stall<'a>(&'a Storage);

impl Stall<'_> {
    /// How many answers are held back.
    pub fn held(&self) -> usize {
        self.0.lock().held.len()
    }
}

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.stalled = None;
        let held = std::mem::take(&mut state.held);
        held.into_iter().for_each(|answer| answer(&state.tree));
    }
}

struct Faulty(Arc<Mutex<State>>);

impl Faulty {
    /// Answers, now or when the stall is over.
    fn when(&self, asked: Asked, inode: u64, end: u64, answer: impl FnOnce(&Tree) + Send + 'static) {
        let mut state = self.0.lock().unwrap();
        let is_held = state.stalled.as_ref().is_some_and(|stalled| {
            let is_meant = |name: &String| state.tree.names.get(name).unwrap_or(&1) == &inode;
            stalled.asked == asked && stalled.name.as_ref().is_none_or(is_meant) && end >= stalled.from
        });
        if is_held { state.held.push(Box::new(answer)) } else { answer(&state.tree) }
    }
}

impl Tree {
    /// Why something is not there.
    fn missing(&self) -> Errno {
        if self.is_gone { Errno::ENOTCONN } else { Errno::ENOENT }
    }

    fn attributes(&self, inode: u64) -> Option<FileAttr> {
        let (kind, size, modified) = match inode {
            1 if !self.is_gone => (FileType::Directory, 0, SystemTime::UNIX_EPOCH),
            _ if self.is_gone => return None,
            _ => self.files.get(&inode).map(|file| (FileType::RegularFile, file.size, file.modified))?,
        };
        Some(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(512),
            atime: modified,
            mtime: modified,
            ctime: modified,
            crtime: modified,
            kind,
            perm: if inode == 1 { 0o755 } else { 0o644 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Faulty {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_string_lossy().into_owned();
        let inode = self.0.lock().unwrap().tree.names.get(&name).copied().unwrap_or(0);
        self.when(Asked::Lookup, inode, 0, move |tree| {
            let found = tree.names.get(&name).and_then(|inode| tree.attributes(*inode));
            match found {
                Some(attributes) => reply.entry(&NOT_AT_ALL, &attributes, Generation(0)),
                None => reply.error(tree.missing()),
            }
        });
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let inode = u64::from(inode);
        self.when(Asked::Attributes, inode, 0, move |tree| match tree.attributes(inode) {
            Some(attributes) => reply.attr(&NOT_AT_ALL, &attributes),
            None => reply.error(tree.missing()),
        });
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.when(Asked::Open, inode.into(), 0, |tree| match tree.is_gone {
            true => reply.error(tree.missing()),
            false => reply.opened(FileHandle(0), FopenFlags::empty()),
        });
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let inode = u64::from(inode);
        self.when(Asked::Read, inode, offset + u64::from(size), move |tree| {
            let Some(file) = tree.files.get(&inode) else { return reply.error(Errno::EIO) };
            let end = offset + u64::from(size);
            if tree.is_gone || file.fails_at.is_some_and(|at| end > at) {
                return reply.error(Errno::EIO);
            }
            let at = |offset: u64| offset.min(file.bytes.len() as u64) as usize;
            reply.data(&file.bytes[at(offset)..at(end)]);
        });
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.when(Asked::List, inode.into(), 0, move |tree| {
            if tree.is_gone {
                return reply.error(tree.missing());
            }
            let names = tree.names.iter().map(|(name, inode)| (*inode, FileType::RegularFile, name.as_str()));
            let all = [(1, FileType::Directory, "."), (1, FileType::Directory, "..")].into_iter().chain(names);
            for (at, (inode, kind, name)) in all.enumerate().skip(offset as usize) {
                if reply.add(INodeNo(inode), at as u64 + 1, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }
}
