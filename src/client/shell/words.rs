//! The words of a line, quoted as in a Unix shell: `'...'` takes everything as it is, `"..."` all but `\"` and `\\`,
//! and outside quotes a backslash takes the next character as it is.

/// A line whose last quote is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a quote {0} is not closed")]
pub struct Unclosed(pub char);

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Where it begins in the line, in bytes, its quote included.
    pub start: usize,
    /// What it says, without quotes.
    pub text: String,
}

/// The words of a line up to an unclosed quote, and that quote, if any.
pub fn scan(line: &str) -> (Vec<Word>, Option<Unclosed>) {
    let mut words: Vec<Word> = Vec::new();
    let mut in_word = false;
    let mut quote = None;
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            in_word = false;
            continue;
        }
        if !in_word {
            in_word = true;
            words.push(Word { start: at, text: String::new() });
        }
        let text = &mut words.last_mut().expect("begun above").text;
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '\\') => text.extend(chars.next().map(|(_, next)| next)),
            (Some('"'), '\\') if matches!(chars.peek(), Some((_, '"' | '\\'))) => {
                text.extend(chars.next().map(|(_, next)| next));
            }
            (_, c) => text.push(c),
        }
    }
    (words, quote.map(Unclosed))
}

/// The words of a whole line.
pub fn split(line: &str) -> Result<Vec<String>, Unclosed> {
    match scan(line) {
        (words, None) => Ok(words.into_iter().map(|word| word.text).collect()),
        (_, Some(unclosed)) => Err(unclosed),
    }
}

/// Whether a text must be quoted to be one word that means itself.
pub fn needs_quotes(text: &str) -> bool {
    text.is_empty() || !text.chars().all(|c| c.is_alphanumeric() || "-_./~+,:@%=".contains(c))
}

/// The word that means this text, in quotes.
pub fn quote(text: &str) -> String {
    format!("{}'", open_quote(text))
}

/// [`quote`] without the closing quote, for a word that goes on.
pub fn open_quote(text: &str) -> String {
    format!("'{}", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let words = |line: &str| split(line).unwrap();
        assert_eq!(words("  fetch  a.txt\t'b c'  "), ["fetch", "a.txt", "b c"]);
        assert_eq!(words(r#"put "a \"b\" \c" d\ e ''"#), ["put", r#"a "b" \c"#, "d e", ""]);
        assert_eq!(words(r"a'b'\'c'd'"), ["ab'cd"]);
        assert_eq!(words(""), Vec::<String>::new());
        assert_eq!(split("fetch 'a b"), Err(Unclosed('\'')));
        assert_eq!(split("fetch \"a"), Err(Unclosed('"')));
        assert_eq!(words("end\\"), ["end"]);
    }

    #[test]
    fn the_last_word_tells_where_it_begins() {
        let (words, unclosed) = scan("fetch 'my do");
        assert_eq!((words[1].clone(), unclosed), (Word { start: 6, text: "my do".into() }, Some(Unclosed('\''))));
    }

    proptest! {
        #[test]
        fn a_quoted_text_is_one_word_that_means_it(text: String, other: String) {
            let line = format!("{} {}", quote(&text), quote(&other));
            prop_assert_eq!(split(&line).unwrap(), vec![text.clone(), other]);
            prop_assert_eq!(split(&(open_quote(&text) + "'")).unwrap(), vec![text.clone()]);
            if !needs_quotes(&text) {
                prop_assert_eq!(split(&text).unwrap(), vec![text]);
            }
        }
    }
}
