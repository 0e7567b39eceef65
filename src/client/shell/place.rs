//! The directory of the server that a session is in, which names are relative to.

use std::cell::RefCell;

use super::super::name::{NameError, RemoteName};

/// A directory of the server: its name from the root, without a slash at either end.
#[derive(Debug, Default)]
pub struct Place(RefCell<String>);

impl Place {
    /// What a typed name means from the root. `..` leads up, but not out; a slash at the end stays.
    pub fn resolve(&self, typed: &str) -> Result<String, NameError> {
        let start = self.0.borrow();
        let mut components: Vec<&str> = match typed.starts_with('/') {
            true => Vec::new(),
            false => start.split('/').filter(|component| !component.is_empty()).collect(),
        };
        for component in typed.split('/').filter(|component| !matches!(*component, "" | ".")) {
            match component {
                ".." => drop(components.pop().ok_or(NameError::Parent)?),
                component => components.push(component),
            }
        }
        let slash = if components.is_empty() || typed.ends_with('/') { "/" } else { "" };
        Ok(components.join("/") + slash)
    }

    /// The directory itself, as the beginning of the names in it: empty for the root.
    pub fn prefix(&self) -> String {
        match self.0.borrow().as_str() {
            "" => String::new(),
            directory => format!("{directory}/"),
        }
    }

    /// Goes to a directory.
    pub fn enter(&self, directory: &RemoteName) {
        *self.0.borrow_mut() = String::from_utf8_lossy(directory.as_bytes()).into_owned();
    }

    /// The directory's name.
    pub fn name(&self) -> RemoteName {
        RemoteName::directory(self.0.borrow().as_bytes()).expect("it was a name when it was entered")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_the_directory_and_stay_beneath_the_root() {
        let place = Place::default();
        let is = |typed: &str, meant: &str| assert_eq!(place.resolve(typed).unwrap(), meant, "{typed}");
        is("a//./b", "a/b");
        is("", "/");
        assert_eq!(place.resolve("../a"), Err(NameError::Parent));
        place.enter(&RemoteName::directory(b"docs/old").unwrap());
        is("a", "docs/old/a");
        is("a/", "docs/old/a/");
        is("", "docs/old");
        is("/a", "a");
        is("../a", "docs/a");
        is("..", "docs");
        is("../..", "/");
        assert_eq!(place.resolve("../../.."), Err(NameError::Parent));
        assert_eq!(place.prefix(), "docs/old/");
    }
}
