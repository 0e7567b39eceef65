//! Patterns of names.
//!
//! `*` stands for any characters but a slash, `**` for any at all, `?` for one that is no slash, `[a-z]` and `[!a-z]`
//! for one of these (or not), `{a,b}` for one of the two, and a backslash takes the next character as it is. `/**/`
//! stands for a single slash, too, and `/**` at the end for nothing: `/a/**` is `/a` and all in it. A pattern without a
//! slash matches the last part of a name, wherever it stands.

/// A pattern, as the alternatives that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    alternatives: Vec<Vec<Token>>,
    /// It has no slash: the last part of a name is what it is compared with.
    is_last_part: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// One byte that is no slash.
    Any,
    /// One of these, or none of these.
    Class {
        ranges: Vec<(u8, u8)>,
        is_negated: bool,
    },
    /// Any bytes but slashes.
    Star,
    /// Any bytes.
    Stars,
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    #[error("the pattern is empty")]
    Empty,
    #[error("the pattern has more than {LENGTH_MAX} bytes")]
    TooLong,
    #[error("the pattern stands for more than {ALTERNATIVES_MAX} others: use fewer {{a,b}} and /**/")]
    TooMany,
    #[error("the pattern has a {0} without its end")]
    Open(char),
}

const LENGTH_MAX: usize = 512;
const ALTERNATIVES_MAX: usize = 64;

impl Glob {
    /// # Errors
    /// [`GlobError`].
    pub fn parse(pattern: &str) -> Result<Glob, GlobError> {
        if pattern.is_empty() {
            return Err(GlobError::Empty);
        }
        if pattern.len() > LENGTH_MAX {
            return Err(GlobError::TooLong);
        }
        let is_last_part = !pattern.contains('/');
        let anchored = pattern.strip_prefix('/').unwrap_or(pattern);
        let mut texts = vec![anchored.to_owned()];
        expand(&mut texts, split_braces)?;
        expand(&mut texts, split_directories)?;
        let alternatives = texts.iter().map(|text| tokens(text.as_bytes())).collect::<Result<_, _>>()?;
        Ok(Glob { alternatives, is_last_part })
    }

    /// Whether it matches a name, which has no slash at its start.
    pub fn matches(&self, name: &[u8]) -> bool {
        let text = self.text(name);
        self.alternatives.iter().any(|tokens| {
            let directory = tokens.strip_suffix(&[Token::Byte(b'/'), Token::Stars]).filter(|tokens| !tokens.is_empty());
            matches(tokens, text) || directory.is_some_and(|tokens| matches(tokens, text))
        })
    }

    /// What the final `*` or `**` of the pattern stands for in a name that it matches; `None` if it does not end so, or
    /// has others.
    pub fn rest<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let [tokens] = &self.alternatives[..] else { return None };
        let (last, before) = tokens.split_last()?;
        let is_plain = before.iter().all(|token| matches!(token, Token::Byte(_) | Token::Any | Token::Class { .. }));
        (is_plain && matches!(last, Token::Star | Token::Stars)).then(|| self.text(name).get(before.len()..))?
    }

    /// Whether [`Glob::rest`] says something.
    pub fn has_rest(&self) -> bool {
        self.rest(&[b'x'; LENGTH_MAX]).is_some()
    }

    fn text<'n>(&self, name: &'n [u8]) -> &'n [u8] {
        match self.is_last_part {
            true => name.rsplit(|&byte| byte == b'/').next().unwrap_or(name),
            false => name,
        }
    }
}

/// Replaces each text by what `split` makes of it until there is nothing to split.
fn expand(
    texts: &mut Vec<String>,
    split: impl Fn(&str) -> Result<Option<Vec<String>>, GlobError>,
) -> Result<(), GlobError> {
    let mut at = 0;
    while at < texts.len() {
        match split(&texts[at])? {
            None => at += 1,
            Some(parts) => drop(texts.splice(at..=at, parts)),
        }
        if texts.len() > ALTERNATIVES_MAX {
            return Err(GlobError::TooMany);
        }
    }
    Ok(())
}

/// The alternatives of the first `{a,b}`.
fn split_braces(text: &str) -> Result<Option<Vec<String>>, GlobError> {
    let bytes = text.as_bytes();
    let Some(open) = unescaped(bytes, b'{', 0) else { return Ok(None) };
    let (mut depth, mut from, mut parts) = (0, open + 1, Vec::new());
    let mut at = open;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'{' => depth += 1,
            b',' if depth == 1 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    parts.push(&text[from..at]);
                    let whole = |part: &&str| format!("{}{part}{}", &text[..open], &text[at + 1..]);
                    return Ok(Some(parts.iter().map(whole).collect()));
                }
            }
            _ => {}
        }
        at += 1;
    }
    Err(GlobError::Open('{'))
}

/// With and without the first `**/` that stands for whole directories.
fn split_directories(text: &str) -> Result<Option<Vec<String>>, GlobError> {
    // What has been split is marked, so that it is not split again.
    const DONE: &str = "**\\/";
    let at = if text.starts_with("**/") { Some(0) } else { text.find("/**/").map(|at| at + 1) };
    Ok(at.map(|at| {
        let (before, after) = (&text[..at], &text[at + 3..]);
        vec![format!("{before}{after}"), format!("{before}{DONE}{after}")]
    }))
}

fn unescaped(bytes: &[u8], wanted: u8, from: usize) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            byte if byte == wanted => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

fn tokens(bytes: &[u8]) -> Result<Vec<Token>, GlobError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let token = match bytes[at] {
            b'\\' => {
                at += 1;
                Token::Byte(*bytes.get(at).ok_or(GlobError::Open('\\'))?)
            }
            b'?' => Token::Any,
            b'*' if bytes.get(at + 1) == Some(&b'*') => {
                at += 1;
                Token::Stars
            }
            b'*' => Token::Star,
            b'[' => {
                // A bracket right at the start stands for itself.
                let end = unescaped(bytes, b']', at + 2).ok_or(GlobError::Open('['))?;
                let class = class(&bytes[at + 1..end]);
                at = end;
                class
            }
            byte => Token::Byte(byte),
        };
        tokens.push(token);
        at += 1;
    }
    Ok(tokens)
}

fn class(inner: &[u8]) -> Token {
    let is_negated = matches!(inner.first(), Some(b'!' | b'^'));
    let inner = &inner[usize::from(is_negated)..];
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < inner.len() {
        match (inner.get(at + 1), inner.get(at + 2)) {
            (Some(b'-'), Some(&to)) => {
                ranges.push((inner[at], to));
                at += 3;
            }
            _ => {
                ranges.push((inner[at], inner[at]));
                at += 1;
            }
        }
    }
    Token::Class { ranges, is_negated }
}

/// Follows all ways through the tokens at once, so that no pattern takes more than its length times that of the name.
fn matches(tokens: &[Token], text: &[u8]) -> bool {
    let mut now = vec![false; tokens.len() + 1];
    now[0] = true;
    skip_stars(tokens, &mut now);
    for &byte in text {
        let mut next = vec![false; tokens.len() + 1];
        for (at, token) in tokens.iter().enumerate().filter(|(at, _)| now[*at]) {
            match token {
                Token::Byte(own) => next[at + 1] |= *own == byte,
                Token::Any => next[at + 1] |= byte != b'/',
                Token::Class { ranges, is_negated } => {
                    let is_in = ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte));
                    next[at + 1] |= is_in != *is_negated && byte != b'/';
                }
                Token::Star => next[at] |= byte != b'/',
                Token::Stars => next[at] = true,
            }
        }
        skip_stars(tokens, &mut next);
        now = next;
    }
    now[tokens.len()]
}

/// Stars stand for nothing, too.
fn skip_stars(tokens: &[Token], states: &mut [bool]) {
    for (at, token) in tokens.iter().enumerate() {
        if states[at] && matches!(token, Token::Star | Token::Stars) {
            states[at + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_people_expect() {
        for (pattern, name, expected) in [
            ("*.css", "a.css", true),
            ("*.css", "a/b/c.css", true),
            ("*.css", "a.css/b", false),
            ("/*.css", "a.css", true),
            ("/*.css", "a/b.css", false),
            ("/a/*", "a/b", true),
            ("/a/*", "a/b/c", false),
            ("/a/**", "a/b/c", true),
            ("/a/**", "a/", true),
            ("/a/**", "a", true),
            ("/a/**", "ab", false),
            ("/a/**", "", false),
            ("{a,b}/**", "b", true),
            ("/a/*", "a", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("**/x.txt", "x.txt", true),
            ("**/x.txt", "a/b/x.txt", true),
            ("/**", "anything/at/all", true),
            ("/**", "", true),
            ("*.{js,css}", "a.js", true),
            ("*.{js,c{ss,sv}}", "a.csv", true),
            ("*.{js,css}", "a.png", false),
            ("?.txt", "a.txt", true),
            ("?.txt", "ab.txt", false),
            ("[a-c]?[!x].t", "abz.t", true),
            ("[a-c]?[!x].t", "abx.t", false),
            ("[]]", "]", true),
            ("\\*.txt", "*.txt", true),
            ("\\*.txt", "a.txt", false),
            ("/a?b", "a/b", false),
            ("/\u{fc}*", "\u{fc}ber", true),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(Glob::parse(pattern).unwrap().matches(name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for (pattern, expected) in [
            ("", GlobError::Empty),
            ("a{b", GlobError::Open('{')),
            ("[a", GlobError::Open('[')),
            ("a\\", GlobError::Open('\\')),
            (&"x".repeat(513), GlobError::TooLong),
            (&"{a,b}".repeat(7), GlobError::TooMany),
        ] {
            assert_eq!(Glob::parse(pattern), Err(expected), "{pattern}");
        }
    }

    #[test]
    fn the_rest_is_what_the_last_star_stands_for() {
        for (pattern, name, expected) in [
            ("/old/**", "old/a/b", Some("a/b")),
            ("/old/*", "old/", Some("")),
            ("/old/**", "old/", Some("")),
            ("/o?d/**", "old/a", Some("a")),
            ("/old", "old", None),
            ("/*/x/**", "a/x/b", None),
        ] {
            let glob = Glob::parse(pattern).unwrap();
            assert!(glob.matches(name.as_bytes()));
            assert_eq!(glob.rest(name.as_bytes()), expected.map(str::as_bytes), "{pattern}");
            assert_eq!(glob.has_rest(), expected.is_some(), "{pattern}");
        }
    }
}
