//! What is said of files beyond their own: header fields, media types, redirects, by patterns of their names.
//!
//! Rules come from a file (`--rules`) and from `--header`. They apply in order, a later one over an earlier one. What
//! they say of a name is put together when its file is opened, and kept with it: a hit costs the same with rules and
//! without.

mod file;
pub mod glob;

use crate::http::media::{self, Charset};
use glob::Glob;
use std::fmt::Write;

pub use file::RuleError;

/// All rules, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

/// What is said of the names that match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rule {
    globs: Vec<Glob>,
    content_type: Option<String>,
    charset: Option<Charset>,
    edits: Vec<Edit>,
    cors: Option<Cors>,
    /// The edits are of every response about the name, whether a file is sent or not.
    always: bool,
    redirect: Option<Redirect>,
}

/// A change of the header fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// In place of all fields of this name.
    Set(String, String),
    /// Beside them.
    Append(String, String),
    Remove(String),
}

/// Which pages of other origins may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// `*` alone, or origins.
    origins: Vec<String>,
    /// Methods and header fields that a preflight permits, and for how many seconds.
    methods: String,
    headers: String,
    max_age: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Redirect {
    /// A path or an URL; `$1` stands for what the pattern's final `*` or `**` stands for.
    to: String,
    status: u16,
}

/// Where a name has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub status: u16,
    /// The new place, percent-encoded, without the query of the request.
    pub location: String,
}

/// What is said of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The media type, and how its charset is found.
    pub media: media::Media,
    /// Further fields, each a line with its CRLF: those for every response, and those that only go with a body.
    pub fields: String,
    pub content_fields: String,
    /// Origins one of which is named to who asks from it, in Access-Control-Allow-Origin.
    pub origins: Vec<String>,
}

impl Rules {
    /// The rules of a file's text and of the `--header` options, which come after.
    ///
    /// # Errors
    /// The first thing that is wrong, with the number of its line.
    pub fn parse(text: &str, headers: &[String]) -> Result<Rules, RuleError> {
        let mut rules = file::parse(text)?;
        for header in headers {
            rules.push(file::parse_header(header)?);
        }
        file::check_size(&rules)?;
        Ok(Rules(rules))
    }

    fn of<'r>(&'r self, name: &'r [u8]) -> impl Iterator<Item = &'r Rule> {
        self.0.iter().filter(move |rule| rule.globs.iter().any(|glob| glob.matches(name)))
    }

    /// What is said of the file `name`.
    pub fn describe(&self, name: &[u8]) -> Description {
        let mut media = media::of(name);
        let mut fields = vec![("X-Content-Type-Options".to_owned(), "nosniff".to_owned())];
        let mut origins = Vec::new();
        for rule in self.of(name) {
            if let Some(content_type) = &rule.content_type {
                media = media::Media::exactly(content_type);
            }
            if let Some(charset) = &rule.charset {
                media.charset = charset.clone();
            }
            for edit in rule.all_edits(None) {
                if edit.name().eq_ignore_ascii_case(ALLOW_ORIGIN) {
                    origins.clear();
                }
                edit.apply(&mut fields);
            }
            if let Some(cors) = rule.cors.as_ref().filter(|cors| cors.origins.len() > 1) {
                origins.clone_from(&cors.origins);
            }
        }
        let mut description = Description { media, fields: String::new(), content_fields: String::new(), origins };
        for (name, value) in fields {
            let lines = if is_content(&name) { &mut description.content_fields } else { &mut description.fields };
            let _ = write!(lines, "{name}: {value}\r\n");
        }
        description
    }

    /// What is changed in responses about the name that send no file (errors, redirects and listings), where they were
    /// asked for from this origin.
    pub fn always(&self, name: &[u8], origin: Option<&[u8]>) -> Vec<Edit> {
        // Looked at first: nearly no rule is so, and patterns cost more.
        let rules = self.0.iter().filter(|rule| rule.always && rule.globs.iter().any(|glob| glob.matches(name)));
        rules.flat_map(|rule| rule.all_edits(origin)).filter(|edit| !is_content(edit.name())).collect()
    }

    /// Where the name has moved, if a rule says so; the last one counts.
    pub fn moved(&self, name: &[u8]) -> Option<Moved> {
        let rule = self.of(name).filter(|rule| rule.redirect.is_some()).last()?;
        let redirect = rule.redirect.as_ref()?;
        let rest = rule.globs.iter().find(|glob| glob.matches(name))?.rest(name);
        let location = redirect.to.replace("$1", &encode(rest.unwrap_or_default()));
        Some(Moved { status: redirect.status, location })
    }

    /// What a preflight (an OPTIONS with Access-Control-Request-Method) of the name from this origin is answered with,
    /// as lines.
    pub fn preflight(&self, name: &[u8], origin: Option<&[u8]>) -> Option<String> {
        let cors = self.of(name).filter_map(|rule| rule.cors.as_ref()).last()?;
        let allowed = cors.allowed(origin)?;
        let mut lines = format!(
            "Access-Control-Allow-Origin: {}\r\nAccess-Control-Allow-Methods: {}\r\nAccess-Control-Max-Age: {}\r\n",
            allowed, cors.methods, cors.max_age
        );
        if !cors.headers.is_empty() {
            let _ = write!(lines, "Access-Control-Allow-Headers: {}\r\n", cors.headers);
        }
        if allowed != "*" {
            lines.push_str("Vary: Origin\r\n");
        }
        Some(lines)
    }
}

impl Rule {
    /// For a request from this origin.
    fn all_edits(&self, origin: Option<&[u8]>) -> impl Iterator<Item = Edit> {
        self.edits.iter().cloned().chain(self.cors.iter().flat_map(move |cors| cors.edits(origin)))
    }
}

/// Whether a field describes a body.
fn is_content(name: &str) -> bool {
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-"))
        && !name.eq_ignore_ascii_case("content-security-policy")
}

impl Edit {
    fn name(&self) -> &str {
        match self {
            Edit::Set(name, _) | Edit::Append(name, _) | Edit::Remove(name) => name,
        }
    }

    /// Changes fields, each a name and a value.
    pub fn apply(&self, fields: &mut Vec<(String, String)>) {
        match self {
            Edit::Set(name, value) => {
                fields.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
                fields.push((name.clone(), value.clone()));
            }
            Edit::Append(name, value) => fields.push((name.clone(), value.clone())),
            Edit::Remove(name) => fields.retain(|(own, _)| !own.eq_ignore_ascii_case(name)),
        }
    }
}

/// The field that says which pages of other origins may read a response.
const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";

impl Cors {
    /// What the field names to a page of this origin: the only one that there is, or its own among several.
    fn allowed(&self, origin: Option<&[u8]>) -> Option<&str> {
        match &self.origins[..] {
            [only] => Some(only),
            several => several.iter().find(|own| Some(own.as_bytes()) == origin).map(String::as_str),
        }
    }

    fn edits(&self, origin: Option<&[u8]>) -> Vec<Edit> {
        let allowed = self.allowed(origin);
        let mut edits = vec![match allowed {
            Some(allowed) => Edit::Set(ALLOW_ORIGIN.into(), allowed.into()),
            None => Edit::Remove(ALLOW_ORIGIN.into()),
        }];
        if allowed != Some("*") {
            edits.push(Edit::Append("Vary".into(), "Origin".into()));
        }
        edits
    }
}

/// A part of a path as an URL has it.
fn encode(path: &[u8]) -> String {
    let mut encoded = String::new();
    for &byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => encoded.push(byte as char),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        Rules::parse(text, &[]).unwrap()
    }

    #[test]
    fn later_rules_come_over_earlier_ones() {
        let rules = Rules::parse(
            r#"
            [[rule]]
            match = "/assets/**"
            cache-control = "max-age=60"
            set = { X-A = "1", Content-Language = "en" }
            [[rule]]
            match = ["*.css", "*.js"]
            set = { x-a = "2" }
            append = { Link = ["</a>", "</b>"] }
            remove = ["X-Content-Type-Options"]
            "#,
            &["/assets/new/**: Cache-Control: no-store".to_owned()],
        )
        .unwrap();
        let fields = |name: &str| {
            let description = rules.describe(name.as_bytes());
            (description.fields, description.content_fields)
        };
        let nosniff = "X-Content-Type-Options: nosniff\r\n";
        assert_eq!(fields("index.html"), (nosniff.to_owned(), String::new()));
        assert_eq!(fields("assets/a.css").0, "Cache-Control: max-age=60\r\nx-a: 2\r\nLink: </a>\r\nLink: </b>\r\n");
        assert_eq!(fields("assets/a.css").1, "Content-Language: en\r\n");
        assert_eq!(fields("assets/new/a.png").0, format!("{nosniff}X-A: 1\r\nCache-Control: no-store\r\n"));
    }

    #[test]
    fn media_types_can_be_overridden() {
        let rules = rules(
            "[[rule]]\nmatch = \"*.htm\"\ncharset = \"iso-8859-1\"\n[[rule]]\nmatch = \"/bin/*\"\ncontent-type = \"x/y; a=b\"\n\
             [[rule]]\nmatch = \"*.csv\"\ncharset = \"none\"\n",
        );
        for (name, expected) in [
            ("a.htm", "text/html; charset=iso-8859-1"),
            ("bin/tool.txt", "x/y; a=b"),
            ("a.csv", "text/csv"),
            ("a.txt", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(rules.describe(name.as_bytes()).media.content_type(b""), expected, "{name}");
        }
    }

    #[test]
    fn redirects_carry_the_rest_along() {
        let rules = rules(
            "[[rule]]\nmatch = \"/old/**\"\nredirect = { to = \"/new/$1\" }\n\
             [[rule]]\nmatch = \"/blog\"\nredirect = { to = \"https://blog.example/\", status = 308 }\n",
        );
        assert_eq!(rules.moved(b"old/a b/c"), Some(Moved { status: 301, location: "/new/a%20b/c".into() }));
        assert_eq!(rules.moved(b"blog").unwrap(), Moved { status: 308, location: "https://blog.example/".into() });
        assert_eq!(rules.moved(b"old").unwrap().location, "/new/");
        assert_eq!(rules.moved(b"older"), None);
    }

    #[test]
    fn some_rules_hold_for_what_is_no_file_too() {
        let rules = rules(
            "[[rule]]\nmatch = \"/**\"\nalways = true\nset = { X-A = \"1\", Content-Language = \"en\" }\n\
             [[rule]]\nmatch = \"/a/**\"\nset = { X-B = \"2\" }\n\
             [[rule]]\nmatch = \"/a/**\"\nalways = true\nremove = [\"X-A\"]\ncors = { origin = \"*\" }\n",
        );
        let set = |name: &str, value: &str| Edit::Set(name.into(), value.into());
        assert_eq!(rules.always(b"", None), [set("X-A", "1")]);
        let remove = Edit::Remove("X-A".into());
        assert_eq!(rules.always(b"a/b", None), [set("X-A", "1"), remove, set("Access-Control-Allow-Origin", "*")]);
        assert!(rules.describe(b"a/b").fields.contains("X-B: 2"));
    }

    #[test]
    fn pages_of_other_origins_are_told_what_they_may() {
        let rules = rules(
            "[[rule]]\nmatch = \"/api/**\"\ncors = { origin = \"https://a.example\", headers = [\"X-A\"] }\n\
             [[rule]]\nmatch = \"/font/*\"\ncors = { origin = \"*\" }\n",
        );
        let fields = rules.describe(b"api/x").fields;
        assert!(fields.contains("Access-Control-Allow-Origin: https://a.example\r\nVary: Origin\r\n"), "{fields}");
        assert!(rules.preflight(b"api/x", None).unwrap().contains("Access-Control-Allow-Headers: X-A\r\n"));
        assert!(rules.preflight(b"font/x", None).unwrap().starts_with("Access-Control-Allow-Origin: *\r\n"));
        assert_eq!(rules.preflight(b"x", None), None);
    }

    #[test]
    fn several_origins_are_told_their_own() {
        let rules = rules(
            "[[rule]]\nmatch = \"/api/**\"\nalways = true\ncors = { origin = [\"https://a.example\", \"https://b.example\"] }\n\
             [[rule]]\nmatch = \"/api/open/**\"\ncors = { origin = \"*\" }\n\
             [[rule]]\nmatch = \"/api/own/**\"\nset = { access-control-allow-origin = \"https://c.example\" }\n",
        );
        let described = |name: &[u8]| {
            let Description { fields, origins, .. } = rules.describe(name);
            (fields.matches("Allow-Origin").count() + fields.matches("allow-origin").count(), origins.len())
        };
        assert_eq!(described(b"api/x"), (0, 2));
        assert!(rules.describe(b"api/x").fields.contains("Vary: Origin\r\n"));
        assert_eq!(described(b"api/open/x"), (1, 0));
        assert_eq!(described(b"api/own/x"), (1, 0));
        let preflight = |origin: &[u8]| rules.preflight(b"api/x", Some(origin));
        assert!(
            preflight(b"https://b.example").unwrap().starts_with("Access-Control-Allow-Origin: https://b.example\r\n")
        );
        assert_eq!((preflight(b"https://c.example"), rules.preflight(b"api/x", None)), (None, None));
        let set = Edit::Set(ALLOW_ORIGIN.into(), "https://a.example".into());
        let vary = Edit::Append("Vary".into(), "Origin".into());
        assert_eq!(rules.always(b"api/x", Some(b"https://a.example")), [set, vary.clone()]);
        assert_eq!(rules.always(b"api/x", Some(b"https://A.example")), [Edit::Remove(ALLOW_ORIGIN.into()), vary]);
    }
}
