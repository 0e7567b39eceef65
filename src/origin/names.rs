//! Which names are served, by their form alone.

use super::staging;

/// The directory name that the server keeps for its own pages, in the root; it is served, listed and written nowhere.
pub const RESERVED: &[u8] = b".forebay";

/// A hidden name that is served all the same: where sites say things about themselves (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// What a name is to those who ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// It is served.
    Visible,
    /// A part of it begins with a dot: as users of Unix expect, it is not shown unless that is asked for.
    Hidden,
    /// A part of it is the server's own, wherever it stands (a link may lead from there to the root): never served.
    Reserved,
}

/// Says so for a name relative to the root.
pub fn visibility(name: &[u8]) -> Visibility {
    let mut found = Visibility::Visible;
    // Names with a dot at the start of a part are rare, and this is asked of every request.
    if !name.starts_with(b".") && !name.windows(2).any(|two| two == b"/.") {
        return found;
    }
    for part in name.split(|&byte| byte == b'/').filter(|part| part.starts_with(b".")) {
        if part == RESERVED || staging::is_hidden(part) {
            return Visibility::Reserved;
        }
        if part != WELL_KNOWN {
            found = Visibility::Hidden;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_name_counts() {
        for (name, expected) in [
            ("", Visibility::Visible),
            ("a/b.c", Visibility::Visible),
            (".well-known/acme", Visibility::Visible),
            ("a/.well-known", Visibility::Visible),
            (".git/config", Visibility::Hidden),
            ("a/.env", Visibility::Hidden),
            (".well-known/.x", Visibility::Hidden),
            (".well-knownx", Visibility::Hidden),
            (".forebayx", Visibility::Hidden),
            (".forebay", Visibility::Reserved),
            ("link/.forebay/x", Visibility::Reserved),
            (".git/.forebay", Visibility::Reserved),
            ("a/.forebay-upload-0123456789abcdef.tmp", Visibility::Reserved),
            (".forebay-upload-0123456789abcdef.tmp/x", Visibility::Reserved),
            (".forebay-upload-0.tmp", Visibility::Hidden),
        ] {
            assert_eq!(visibility(name.as_bytes()), expected, "{name}");
        }
    }
}
