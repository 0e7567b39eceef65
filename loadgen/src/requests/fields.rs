//! The header fields that every request of a run carries.

use crate::endpoint::Endpoint;
use anyhow::{Result, bail};

/// What is sent with every request beside its target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// In place of the URL's own.
    host: Option<String>,
    /// Whole lines, without their ends.
    lines: Vec<String>,
}

impl Fields {
    /// Reads `Name: value` texts. A `Host` among them replaces that of the URL.
    ///
    /// # Errors
    /// A text that is no header field, a second `Host`, and the fields that say how long a message is.
    pub fn parse(headers: &[String]) -> Result<Fields> {
        let mut fields = Fields::default();
        for header in headers {
            let Some((name, value)) = header.split_once(':').filter(|(name, value)| is_token(name) && is_text(value))
            else {
                bail!("`{}` is not a header: write `Name: value`", header.escape_debug());
            };
            match name.to_ascii_lowercase().as_str() {
                "host" if fields.host.is_some() => {
                    bail!("`{header}`: a request has one Host, and there is one already")
                }
                "host" => fields.host = Some(value.trim().to_owned()),
                "content-length" | "transfer-encoding" => {
                    bail!("`{header}`: how long a request is follows from its body and cannot be set")
                }
                _ => fields.lines.push(header.clone()),
            }
        }
        Ok(fields)
    }

    /// The lines of a request to `endpoint` after the first one, without the empty line at the end.
    pub fn text(&self, endpoint: &Endpoint) -> String {
        let host = self.host.as_deref().unwrap_or(&endpoint.host);
        let lines: String = self.lines.iter().map(|line| format!("{line}\r\n")).collect();
        format!("Host: {host}\r\n{lines}")
    }

    /// Whether a field of this name is among them.
    pub fn has(&self, name: &str) -> bool {
        self.lines.iter().any(|line| line.split(':').next().is_some_and(|other| other.eq_ignore_ascii_case(name)))
    }
}

/// Whether a name is a token (RFC 9110, section 5.6.2).
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whether a value can stand in a header field: no control characters but tabs.
fn is_text(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(headers: &[&str]) -> Result<String> {
        let headers: Vec<String> = headers.iter().map(|&header| header.to_owned()).collect();
        Ok(Fields::parse(&headers)?.text(&Endpoint::parse("127.0.0.1:80")?))
    }

    #[test]
    fn a_host_replaces_that_of_the_url() {
        assert_eq!(text(&["X: y"]).unwrap(), "Host: 127.0.0.1:80\r\nX: y\r\n");
        assert_eq!(text(&["hOsT:  www.example.org ", "X: y"]).unwrap(), "Host: www.example.org\r\nX: y\r\n");
        assert_eq!(text(&["Host:"]).unwrap(), "Host: \r\n", "an empty one is valid, and may be what is tested");
        assert!(text(&["Host: a", "host: b"]).unwrap_err().to_string().contains("one Host"));
    }

    #[test]
    fn what_would_break_the_framing_is_refused() {
        for header in ["X", ": y", "X y: z", "X: y\r\nZ: 1", "X: \0", "X\n: y"] {
            assert!(text(&[header]).unwrap_err().to_string().contains("Name: value"), "{header:?}");
        }
        for header in ["Content-Length: 5", "transfer-encoding: chunked"] {
            assert!(text(&[header]).unwrap_err().to_string().contains("follows from its body"), "{header}");
        }
    }
}
