//! What all requests of a run have in common, and how their responses are read.

use super::Fields;
use crate::{classify::Rule, endpoint::Endpoint};
use std::str::FromStr;

/// The method of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method(String);

/// Everything about a request but its target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    pub method: Method,
    pub fields: Fields,
    /// What is sent after the head; a request with `None` has no `Content-Length` either.
    pub content: Option<Vec<u8>>,
    /// Each request has a connection of its own.
    pub single_use: bool,
    /// What tells hits from misses.
    pub rule: Rule,
}

impl Default for Method {
    fn default() -> Self {
        Method("GET".to_owned())
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Method, String> {
        let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
        if !is_token {
            return Err(format!("`{}` is not a method: write GET, HEAD, PUT, POST, DELETE …", text.escape_debug()));
        }
        match text {
            // What follows the answer is no HTTP any more.
            "CONNECT" => Err("CONNECT asks for a tunnel, which is not measured here".into()),
            _ => Ok(Method(text.to_owned())),
        }
    }
}

impl Method {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its responses have no bodies, whatever their heads say.
    pub fn is_head(&self) -> bool {
        self.0 == "HEAD"
    }

    /// Whether twice is as good as once (RFC 9110, section 9.2.2), so that what a closed connection left unanswered may
    /// be sent again.
    pub fn is_idempotent(&self) -> bool {
        matches!(self.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
    }
}

impl Form {
    /// What follows the target in every request to `endpoint`.
    pub fn rest(&self, endpoint: &Endpoint) -> Vec<u8> {
        let close = if self.single_use && !self.fields.has("connection") { "Connection: close\r\n" } else { "" };
        let length = self.content.as_ref().map(|content| format!("Content-Length: {}\r\n", content.len()));
        let head = format!(" HTTP/1.1\r\n{}{close}{}\r\n", self.fields.text(endpoint), length.unwrap_or_default());
        let content = self.content.as_deref().unwrap_or_default();
        [head.as_bytes(), content].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(form: &Form) -> String {
        String::from_utf8(form.rest(&Endpoint::parse("127.0.0.1:80").unwrap())).unwrap()
    }

    #[test]
    fn contents_have_a_length_and_single_connections_are_announced() {
        let mut form = Form::default();
        assert_eq!(rest(&form), " HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n");
        form.content = Some(b"hello".to_vec());
        form.single_use = true;
        let expected = " HTTP/1.1\r\nHost: 127.0.0.1:80\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(rest(&form), expected);
        form.fields = Fields::parse(&["connection: Close".into()]).unwrap();
        assert_eq!(rest(&form).matches("lose").count(), 1);
        form.content = Some(Vec::new());
        assert!(rest(&form).contains("Content-Length: 0\r\n"));
    }

    #[test]
    fn methods_are_words() {
        for text in ["", "GET /", "P\r\nX", "CONNECT"] {
            assert!(text.parse::<Method>().is_err(), "{text:?}");
        }
        let method = |text: &str| text.parse::<Method>().unwrap();
        assert!(method("PUT").is_idempotent() && !method("POST").is_idempotent() && method("HEAD").is_head());
    }
}
