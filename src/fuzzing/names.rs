//! Names: of files in targets, of hosts, and patterns of names, each against a plain reference.

use crate::client::name::RemoteName;
use crate::http::host::{self, Authority, Kind};
use crate::http::target::{self, Target};
use crate::limits;
use crate::rules::glob::Glob;
use arbitrary::{Result, Unstructured};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What a target names, by the book: RFC 9112, 3.2, and RFC 3986, 5.2.4, one byte after the other.
fn named(raw: &[u8]) -> Option<(&'static str, Vec<u8>)> {
    let mut rest = raw;
    if rest.first() != Some(&b'/') {
        let lower = raw.to_ascii_lowercase();
        let scheme = ["http://", "https://"].iter().find(|scheme| lower.starts_with(scheme.as_bytes()))?;
        rest = &raw[scheme.len()..];
        let mut authority = 0;
        while authority < rest.len() && !b"/?#".contains(&rest[authority]) {
            authority += 1;
        }
        if authority == 0 {
            return None;
        }
        rest = &rest[authority..];
    }
    let mut path = Vec::new();
    let mut bytes = rest.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'?' | b'#' => break,
            b'%' => {
                let mut digit = || (bytes.next()? as char).to_digit(16);
                path.push((digit()? * 16 + digit()?) as u8);
            }
            byte => path.push(byte),
        }
    }
    let (mut segments, mut is_directory) = (Vec::<Vec<u8>>::new(), true);
    for segment in path.split(|&byte| byte == b'/') {
        is_directory = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()?),
            other => segments.push(other.to_vec()),
        }
    }
    let name = segments.join(&b'/');
    if name.contains(&0) || path.contains(&0) || name.len() > limits::NAME_BYTES {
        return None;
    }
    if segments.first().is_some_and(|first| first == target::RESERVED) {
        return Some(("reserved", segments[1..].join(&b'/')));
    }
    Some((if is_directory || name.is_empty() { "directory" } else { "file" }, name))
}

fn parts<'t>(target: &'t Target<'_>) -> (&'static str, &'t [u8]) {
    match target {
        Target::File(name) => ("file", name),
        Target::Directory(name) => ("directory", name),
        Target::Reserved(name) => ("reserved", name),
    }
}

/// A request target.
pub fn target(raw: &[u8]) {
    let parsed = Target::parse(raw);
    assert_eq!(parsed.as_ref().ok().map(parts), named(raw).as_ref().map(|(kind, name)| (*kind, &name[..])));
    if let Ok(form) = target::origin_form(raw) {
        assert!(parsed == Target::parse(form) || raw.first() != Some(&b'/'), "as a remote origin is asked for it");
        assert!(form.first() == Some(&b'/') && !form.contains(&b'#'));
    }
    let Ok(Target::File(name)) = parsed else { return };
    let written = RemoteName::directory(&name).expect("a name is one for the client, too");
    assert_eq!(Target::parse(written.target().as_bytes()), Ok(Target::File(name.as_ref().into())));
    assert!(written.target().bytes().all(|byte| byte.is_ascii_graphic()));
}

/// A Host field, and the authority of a target.
pub fn host(bytes: &[u8]) {
    let parsed = Authority::parse(bytes);
    assert_eq!(parsed.is_some() || bytes.is_empty(), host::is_valid(bytes));
    let reference = std::str::from_utf8(bytes).ok().and_then(authority);
    assert_eq!(parsed.map(|found| (found.host, found.port, found.kind)), reference);
    if let Some(found) = parsed {
        assert!(found.is_same(&found, None) && found.is_same(&found, Some(80)));
        // Wherever it is written, it is the same one.
        let target = [b"http://", bytes, b"/x"].concat();
        assert_eq!(host::effective(&target, Some(b"other")), Some(bytes));
    }
    if let Some(effective) = host::effective(bytes, None) {
        assert!(!effective.iter().any(|byte| b"/?#".contains(byte)));
    }
}

/// `host[:port]` by the grammar of RFC 3986, 3.2, from its end.
fn authority(text: &str) -> Option<(&str, Option<u16>, Kind)> {
    let is_port = |port: &str| port.chars().all(|digit| digit.is_ascii_digit());
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if is_port(port) && (!host.contains(':') || host.ends_with(']')) => (host, port),
        _ => (text, ""),
    };
    let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok().then_some((address, port, Kind::Address));
    }
    let is_sub_delim = |c: char| "!$&'()*+,;=".contains(c);
    let is_unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let is_name = !host.is_empty() && host.chars().all(|c| is_unreserved(c) || is_sub_delim(c) || c == '%');
    let kind = if host.parse::<Ipv4Addr>().is_ok() { Kind::Address } else { Kind::Name };
    is_name.then_some((host, port, kind))
}

/// A part of a pattern.
#[derive(Debug, Clone)]
enum Piece {
    Byte(u8),
    Any,
    Class(bool, Vec<(u8, u8)>),
    Star,
    /// `/**/`
    Directories,
    Either(Vec<Vec<u8>>),
}

const LETTERS: &[u8] = b"ab.c";

fn letter(input: &mut Unstructured<'_>) -> Result<u8> {
    input.choose(LETTERS).copied()
}

fn piece(input: &mut Unstructured<'_>, before: Option<&Piece>) -> Result<Piece> {
    let word = |input: &mut Unstructured<'_>| (0..input.int_in_range(0..=2)?).map(|_| letter(input)).collect();
    Ok(match input.int_in_range(0..=9)? {
        0 if !matches!(before, Some(Piece::Star)) => Piece::Star,
        1 => Piece::Any,
        2 => {
            let is_negated = input.arbitrary()?;
            let ranges = (0..input.int_in_range(1..=2)?).map(|_| Ok((letter(input)?, letter(input)?)));
            Piece::Class(is_negated, ranges.collect::<Result<_>>()?)
        }
        3 => Piece::Either((0..input.int_in_range(1..=3)?).map(|_| word(input)).collect::<Result<_>>()?),
        4 => Piece::Directories,
        5 => Piece::Byte(b'/'),
        _ => Piece::Byte(letter(input)?),
    })
}

fn written(pieces: &[Piece]) -> String {
    let mut pattern = String::new();
    for piece in pieces {
        match piece {
            Piece::Byte(byte) => pattern.push(char::from(*byte)),
            Piece::Any => pattern.push('?'),
            Piece::Star => pattern.push('*'),
            Piece::Directories => pattern.push_str("/**/"),
            Piece::Class(is_negated, ranges) => {
                pattern.push_str(if *is_negated { "[!" } else { "[" });
                for (from, to) in ranges {
                    pattern.extend([char::from(*from), '-', char::from(*to)]);
                }
                pattern.push(']');
            }
            Piece::Either(words) => {
                let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
                pattern.push_str(&format!("{{{}}}", words.join(",")));
            }
        }
    }
    pattern
}

/// Whether the pieces match all of a name, by trying everything.
fn fits(pieces: &[Piece], name: &[u8]) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return name.is_empty() };
    let one =
        |is_it: &dyn Fn(u8) -> bool| name.split_first().is_some_and(|(byte, after)| is_it(*byte) && fits(rest, after));
    match piece {
        Piece::Byte(own) => one(&|byte| byte == *own),
        Piece::Any => one(&|byte| byte != b'/'),
        Piece::Class(is_negated, ranges) => {
            one(&|byte| byte != b'/' && ranges.iter().any(|(from, to)| byte >= *from && byte <= *to) != *is_negated)
        }
        Piece::Star => {
            (0..=name.len()).take_while(|&at| at == 0 || name[at - 1] != b'/').any(|at| fits(rest, &name[at..]))
        }
        Piece::Directories => {
            let slashes = (0..name.len()).filter(|&at| name[at] == b'/');
            name.first() == Some(&b'/') && slashes.into_iter().any(|at| fits(rest, &name[at + 1..]))
        }
        Piece::Either(words) => {
            words.iter().any(|word| name.strip_prefix(&word[..]).is_some_and(|name| fits(rest, name)))
        }
    }
}

/// A pattern and a name.
pub fn glob(bytes: &[u8]) {
    let _ = globbed(&mut Unstructured::new(bytes));
    // Any text is a pattern, or is refused.
    let (pattern, name) = bytes.split_at(bytes.len() / 2);
    if let Ok(glob) = Glob::parse(&String::from_utf8_lossy(pattern)) {
        assert!(glob.rest(name).is_none_or(|rest| name.ends_with(rest)));
        let _ = glob.matches(name);
    }
}

fn globbed(input: &mut Unstructured<'_>) -> Result<()> {
    let mut pieces = Vec::new();
    for _ in 0..input.int_in_range(1..=6)? {
        let next = piece(input, pieces.last())?;
        let is_slash = |piece: &Piece| matches!(piece, Piece::Byte(b'/') | Piece::Directories);
        // Two slashes in a row are no name's; a leading one is no part of the pattern.
        let follows_slash = pieces.last().is_none_or(is_slash);
        // An empty alternative may bring stars or slashes together, which then mean something else.
        let is_either = matches!(next, Piece::Either(_))
            && pieces.last().is_none_or(|last| !matches!(last, Piece::Byte(b'a'..=b'c')));
        if !(is_either || follows_slash && is_slash(&next)) {
            pieces.push(next);
        }
    }
    if pieces.iter().any(|piece| matches!(piece, Piece::Either(_))) {
        pieces.push(Piece::Byte(b'a'));
    }
    let name: Vec<u8> = (0..input.int_in_range(0..=8)?)
        .map(|_| if input.ratio(1, 4)? { Ok(b'/') } else { letter(input) })
        .collect::<Result<_>>()?;
    let pattern = written(&pieces);
    let Ok(glob) = Glob::parse(&pattern) else { return Ok(()) };
    let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let compared = if pattern.contains('/') { &name[..] } else { last };
    assert_eq!(glob.matches(&name), fits(&pieces, compared), "{pattern:?} and {:?}", String::from_utf8_lossy(&name));
    Ok(())
}
