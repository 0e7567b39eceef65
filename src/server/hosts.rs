//! Which names the server answers to, and which pages may write to it. Used by both planes.
//!
//! A web page whose own name is made to resolve to this server (DNS rebinding) sends requests that the browser takes
//! for the page's own, with the page's name in Host. So a write that no token guards needs a Host that no page can have
//! chosen, and must not be one that a page of another origin asks for.

use crate::http::host::{Authority, Kind};
use crate::net::peer::Peer;
use crate::text;

/// The names given with `--host`, in lower case.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Vec<String>);

/// Why a request is refused for the sake of its Host, or of the page that asked for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    #[error(
        "this server does not answer to the Host {0:?}; use its address or localhost, or name the host with --host when the \
         server is started"
    )]
    Host(String),
    #[error(
        "a page of another site asked for this write (Sec-Fetch-Site: {0}); only this server's own pages and other programs \
         may write without a token (--token-file)"
    )]
    Site(String),
    #[error(
        "a page of another origin asked for this write (Origin: {0}); only this server's own pages and other programs may write \
         without a token (--token-file)"
    )]
    Origin(String),
}

/// The fields of a write that say who asked for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asker<'a> {
    /// The Host field, or what overrides it.
    pub host: Option<&'a [u8]>,
    pub origin: Option<&'a [u8]>,
    /// Sec-Fetch-Site, as browsers send it.
    pub site: Option<&'a [u8]>,
}

impl Hosts {
    /// The server answers to these names, to addresses, and to localhost; to every name if there are none.
    pub fn new(names: &[String]) -> Hosts {
        Hosts(names.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect())
    }

    /// Whether a request for this Host is answered at all. Requests without one are not a browser's.
    #[inline]
    pub fn admits(&self, host: Option<&[u8]>) -> bool {
        self.0.is_empty() || host.is_none_or(|host| self.knows(host))
    }

    /// # Errors
    /// The refusal of a request that is not admitted.
    pub fn admit(&self, host: Option<&[u8]>) -> Result<(), Stranger> {
        if self.admits(host) { Ok(()) } else { Err(stranger(host)) }
    }

    /// Whether a write that needs no token may go ahead. No page reaches a Unix socket, and the names that a proxy in
    /// front of it answers to are the proxy's business; but a page of another origin may reach the proxy.
    ///
    /// # Errors
    /// Why not.
    pub fn admit_write(&self, asker: &Asker<'_>, peer: Peer) -> Result<(), Stranger> {
        if peer != Peer::Unix && !asker.host.is_some_and(|host| self.knows(host)) {
            return Err(stranger(asker.host));
        }
        // Same-site is not enough: that is another port of this host, or a neighbour in its domain.
        if let Some(site) = asker.site
            && !matches!(site, b"same-origin" | b"none")
        {
            return Err(Stranger::Site(text::escape(site)));
        }
        match asker.origin {
            Some(origin) if !self.is_own(origin, asker.host) => Err(Stranger::Origin(text::escape(origin))),
            _ => Ok(()),
        }
    }

    fn knows(&self, host: &[u8]) -> bool {
        Authority::parse(host).is_some_and(|host| {
            host.kind == Kind::Address || host.is_name("localhost") || self.0.iter().any(|name| host.is_name(name))
        })
    }

    /// Whether an Origin is that of this server's own pages: the host of the request, or (behind a proxy that changes
    /// Host) the default port of a name given with `--host`.
    fn is_own(&self, origin: &[u8], host: Option<&[u8]>) -> bool {
        let (default, rest) = match (origin.strip_prefix(b"http://"), origin.strip_prefix(b"https://")) {
            (Some(rest), _) => (80, rest),
            (_, Some(rest)) => (443, rest),
            _ => return false,
        };
        let Some(origin) = Authority::parse(rest) else { return false };
        let is_host = host.and_then(Authority::parse).is_some_and(|host| origin.is_same(&host, Some(default)));
        is_host || (origin.port.unwrap_or(default) == default && self.0.iter().any(|name| origin.is_name(name)))
    }
}

fn stranger(host: Option<&[u8]>) -> Stranger {
    Stranger::Host(text::escape(host.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(hosts: &Hosts, host: &str, origin: Option<&str>, site: Option<&str>) -> Result<(), Stranger> {
        let asker =
            Asker { host: Some(host.as_bytes()), origin: origin.map(str::as_bytes), site: site.map(str::as_bytes) };
        hosts.admit_write(&asker, Peer::Tcp("127.0.0.1:1".parse().unwrap()))
    }

    #[test]
    fn a_page_that_was_rebound_cannot_write() {
        let (none, named) = (Hosts::new(&[]), Hosts::new(&["Files.Example".into()]));
        for host in ["127.0.0.1:8064", "[::1]:8064", "localhost:8064", "LOCALHOST", "192.168.1.5"] {
            assert!(write(&none, host, None, None).is_ok() && write(&named, host, None, None).is_ok(), "{host}");
        }
        for host in ["evil.example", "evil.example:8064", "127.0.0.1.evil.example", "", "localhost.evil.example", "a/b"]
        {
            assert!(matches!(write(&none, host, None, None), Err(Stranger::Host(_))), "{host}");
        }
        assert!(
            write(&named, "files.example:80", None, None).is_ok() && write(&none, "files.example", None, None).is_err()
        );
        let asker = Asker { host: Some(b"anything"), ..Asker::default() };
        assert!(none.admit_write(&asker, Peer::Unix).is_ok());
        assert!(none.admit_write(&Asker { origin: Some(b"http://evil.example"), ..asker }, Peer::Unix).is_err());
    }

    #[test]
    fn a_page_of_another_origin_cannot_write() {
        let (none, named) = (Hosts::new(&[]), Hosts::new(&["files.example".into()]));
        for (origin, own) in [
            ("http://127.0.0.1:8064", true),
            ("http://127.0.0.1:3000", false),
            ("http://127.0.0.1", false),
            ("https://evil.example", false),
            ("null", false),
            ("file://", false),
            ("", false),
        ] {
            assert_eq!(write(&none, "127.0.0.1:8064", Some(origin), None).is_ok(), own, "{origin}");
        }
        assert!(write(&none, "127.0.0.1", Some("http://127.0.0.1:80"), Some("same-origin")).is_ok());
        for (origin, own) in [("https://files.example", true), ("https://files.example:8443", false)] {
            assert_eq!(write(&named, "127.0.0.1:8064", Some(origin), None).is_ok(), own, "{origin}");
        }
        for (site, own) in
            [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false), ("x", false)]
        {
            assert_eq!(write(&none, "localhost", None, Some(site)).is_ok(), own, "{site}");
        }
    }

    #[test]
    fn with_names_reads_need_one_of_them_or_an_address() {
        let (none, named) = (Hosts::new(&[]), Hosts::new(&["files.example".into()]));
        for (host, known) in
            [("files.example:1", true), ("10.0.0.1", true), ("localhost", true), ("other", false), ("", false)]
        {
            assert!(none.admits(Some(host.as_bytes())));
            assert_eq!(named.admits(Some(host.as_bytes())), known, "{host}");
        }
        assert!(named.admits(None), "HTTP/1.0");
    }
}
