//! The content-security policies of the server's own pages.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::HeaderValue;
use sha2::{Digest, Sha256};

/// A policy under which a page runs the one style and the one script that stand in it, by their hashes, and nothing
/// else; `more` are further directives.
pub(super) fn of(page: &str, more: &str) -> HeaderValue {
    let (style, script) = (hash(page, "style"), hash(page, "script"));
    let policy = format!(
        "default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'{more}"
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

/// The hash of what stands in the element of this name.
fn hash(page: &str, element: &str) -> String {
    let start = format!("<{element}>");
    let content = page.split_once(&start).and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
    let digest = Sha256::digest(content.map_or("", |(content, _)| content));
    format!("'sha256-{}'", BASE64_STANDARD.encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_runs_what_stands_in_it() {
        let policy = of("<style>a</style><script>b</script>", "; connect-src 'self'");
        let policy = policy.to_str().unwrap();
        // `printf a | openssl dgst -sha256 -binary | base64`
        assert!(policy.contains("style-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='"), "{policy}");
        assert!(policy.contains("script-src 'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0='"), "{policy}");
        assert!(policy.ends_with("connect-src 'self'") && !policy.contains("unsafe"), "{policy}");
    }
}
