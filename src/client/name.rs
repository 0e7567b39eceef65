//! The name of a file on the server: bytes relative to its ROOT, which become a request target there and a path here.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::http::target;
use crate::text;

/// A name without `.`, `..`, empty components or a leading slash, so that it stays beneath whatever directory it is
/// joined to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemoteName(Arc<[u8]>);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("a name must not contain \"..\": names start at the server's root")]
    Parent,
    #[error("a name must not contain a zero byte")]
    Zero,
    #[error("the name ends with a slash, so it means a directory; give the name of a file")]
    Directory,
}

impl RemoteName {
    /// Reads a name as typed. A leading slash, doubled slashes and `.` components mean nothing and are dropped.
    pub fn parse(typed: impl AsRef<OsStr>) -> Result<RemoteName, NameError> {
        let typed = typed.as_ref().as_bytes();
        if typed.ends_with(b"/") {
            return Err(NameError::Directory);
        }
        match RemoteName::directory(typed)? {
            name if name.0.is_empty() => Err(NameError::Empty),
            name => Ok(name),
        }
    }

    /// Reads the name of a directory, where the empty name is the root.
    pub fn directory(typed: &[u8]) -> Result<RemoteName, NameError> {
        if typed.contains(&0) {
            return Err(NameError::Zero);
        }
        let mut name = Vec::with_capacity(typed.len());
        for component in typed.split(|&byte| byte == b'/').filter(|component| !matches!(*component, b"" | b".")) {
            if component == b".." {
                return Err(NameError::Parent);
            }
            if !name.is_empty() {
                name.push(b'/');
            }
            name.extend_from_slice(component);
        }
        Ok(RemoteName(name.into()))
    }

    /// The request target of the file.
    pub fn target(&self) -> String {
        format!("/{}", target::encode(&self.0))
    }

    /// The request target of the directory of this name, with the slash at its end.
    pub fn directory_target(&self) -> String {
        if self.0.is_empty() { "/".to_owned() } else { self.target() + "/" }
    }

    /// The path beneath a local directory: relative, and made of plain components only.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The server's root.
    pub fn root() -> RemoteName {
        RemoteName(Arc::from([]))
    }

    /// Whether it is the server's root, which is a directory only.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of what is called `component` in the directory of this name.
    pub fn child(&self, component: &[u8]) -> Result<RemoteName, NameError> {
        RemoteName::directory(&[&self.0, component].join(&b'/'))
    }

    /// The name's components.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for RemoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::escape(&self.0))
    }
}

impl fmt::Debug for RemoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteName(\"{self}\")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    #[test]
    fn names_are_brought_to_one_form() {
        let name = |typed: &str| RemoteName::parse(typed).map(|name| name.to_string());
        assert_eq!(name("a/b.txt"), Ok("a/b.txt".into()));
        assert_eq!(name("/a//./b.txt"), Ok("a/b.txt".into()));
        assert_eq!(name("..."), Ok("...".into()));
        assert_eq!(name("a/../b"), Err(NameError::Parent));
        assert_eq!(name(".."), Err(NameError::Parent));
        assert_eq!(name("a/"), Err(NameError::Directory));
        assert_eq!(name(""), Err(NameError::Empty));
        assert_eq!(name("."), Err(NameError::Empty));
    }

    #[test]
    fn targets_carry_any_byte() {
        let name = RemoteName::parse(OsStr::from_bytes(b"d/a b?%#\xff+~.txt")).unwrap();
        assert_eq!(name.target(), "/d/a%20b%3F%25%23%FF%2B~.txt");
        assert_eq!(RemoteName::directory(b"/").unwrap().directory_target(), "/");
        assert_eq!(RemoteName::directory(b"d/e/").unwrap().directory_target(), "/d/e/");
    }

    proptest! {
        #[test]
        fn no_name_leaves_the_directory_it_is_joined_to(typed in "[./a\\x00]{0,12}|.{0,20}") {
            if let Ok(name) = RemoteName::parse(&typed) {
                prop_assert!(name.path().components().all(|c| matches!(c, Component::Normal(_))));
                prop_assert!(name.path().components().count() > 0);
                prop_assert_eq!(RemoteName::parse(name.path()).unwrap(), name);
            }
        }
    }
}
