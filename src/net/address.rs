//! Where a server is: `host:port`, `http://host:port` or `unix:/path`, for the client's ADDR and the server's
//! `--listen`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of a server, parsed but not resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host (a name or an IP address, without brackets) and a port; port 0 makes sense for listening only.
    Tcp { host: String, port: u16 },
    /// The path of a Unix-domain stream socket.
    Unix(PathBuf),
}

/// What is wrong with the text of an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("no path after unix: (write unix:/run/forebay.sock)")]
    NoPath,
    #[error("the path of a Unix socket has at most 107 bytes, this one has {0}")]
    PathTooLong(usize),
    #[error("only plain http is spoken here; use http://HOST:PORT, or put a TLS proxy before it")]
    Scheme,
    #[error("an address ends after the port; give \"{0}\" as a name instead")]
    NotBare(String),
    #[error("no host before the port (write 127.0.0.1:8064, or [::]:8064)")]
    NoHost,
    #[error("no port (write HOST:PORT, such as 127.0.0.1:8064, or unix:/path)")]
    NoPort,
    #[error("\"{0}\" is not a port: a port is a number up to 65535")]
    Port(String),
    #[error("an IPv6 address needs brackets, as in [::1]:8064")]
    Brackets,
    #[error("\"{0}\" is not a host name or IP address")]
    Host(String),
    #[error("port 0 cannot be connected to")]
    PortZero,
}

/// The longest path that fits `sockaddr_un.sun_path` (108 bytes, unix(7)) with its terminating zero.
const UNIX_PATH_BYTES_MAX: usize = 107;

impl Address {
    /// Parses the address of a server to connect to: as [`FromStr`], and port 0 is refused.
    pub fn to_connect(text: &str) -> Result<Address, AddressError> {
        match text.parse()? {
            Address::Tcp { port: 0, .. } => Err(AddressError::PortZero),
            address => Ok(address),
        }
    }

    /// Whether only this machine can reach the address. A host name other than `localhost` counts as reachable from
    /// elsewhere.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Unix(_) => true,
            Address::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(ip) => ip.to_canonical().is_loopback(),
                Err(_) => host.eq_ignore_ascii_case("localhost"),
            },
        }
    }

    /// The value of a request's `Host` field (RFC 9112, section 3.2).
    pub fn host_field(&self) -> String {
        match self {
            Address::Unix(_) => "localhost".to_owned(),
            Address::Tcp { port: 80, .. } => {
                let full = self.to_string();
                full.strip_suffix(":80").unwrap_or(&full).to_owned()
            }
            Address::Tcp { .. } => self.to_string(),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err(AddressError::NoPath),
                len if len > UNIX_PATH_BYTES_MAX => Err(AddressError::PathTooLong(len)),
                _ => Ok(Address::Unix(PathBuf::from(path))),
            };
        }
        let (authority, is_url) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, true),
            Some(_) => return Err(AddressError::Scheme),
            None => (text, false),
        };
        let authority = match authority.find(['/', '?', '#']) {
            Some(at) if is_url && &authority[at..] == "/" => &authority[..at],
            Some(at) => return Err(AddressError::NotBare(authority[at..].trim_start_matches('/').to_owned())),
            None => authority,
        };
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or(AddressError::Brackets)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| AddressError::Host(host.to_owned()))?;
            (host, after)
        } else {
            let at = authority.find(':').unwrap_or(authority.len());
            (&authority[..at], &authority[at..])
        };
        if host.is_empty() {
            return Err(AddressError::NoHost);
        }
        if port.matches(':').count() > 1 {
            return Err(AddressError::Brackets);
        }
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if !host.chars().all(plain) {
            return Err(AddressError::Host(host.to_owned()));
        }
        let port = match port.strip_prefix(':') {
            None if is_url => 80,
            None | Some("") => return Err(AddressError::NoPort),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| AddressError::Port(digits.to_owned()))?
            }
            Some(other) => return Err(AddressError::Port(other.to_owned())),
        };
        Ok(Address::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Result<Address, AddressError> {
        Ok(Address::Tcp { host: host.to_owned(), port })
    }

    #[test]
    fn every_form_is_understood() {
        assert_eq!("127.0.0.1:8064".parse(), tcp("127.0.0.1", 8064));
        assert_eq!("http://files.example:8064".parse(), tcp("files.example", 8064));
        assert_eq!("HTTP://files.example:8064/".parse(), tcp("files.example", 8064));
        assert_eq!("http://files.example".parse(), tcp("files.example", 80));
        assert_eq!("[::1]:0".parse(), tcp("::1", 0));
        assert_eq!("unix:/run/x y".parse(), Ok(Address::Unix("/run/x y".into())));
    }

    #[test]
    fn every_mistake_is_named() {
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        assert_eq!(error("unix:"), AddressError::NoPath);
        assert_eq!(error(&format!("unix:/{}", "x".repeat(107))), AddressError::PathTooLong(108));
        assert_eq!(error("https://a:1"), AddressError::Scheme);
        assert_eq!(error("http://a:1/b/c"), AddressError::NotBare("b/c".into()));
        assert_eq!(error("a:1/b"), AddressError::NotBare("b".into()));
        assert_eq!(error(":8064"), AddressError::NoHost);
        assert_eq!(error(""), AddressError::NoHost);
        assert_eq!(error("localhost"), AddressError::NoPort);
        assert_eq!(error("localhost:"), AddressError::NoPort);
        assert_eq!(error("localhost:65536"), AddressError::Port("65536".into()));
        assert_eq!(error("localhost:+1"), AddressError::Port("+1".into()));
        assert_eq!(error("::1:80"), AddressError::NoHost);
        assert_eq!(error("fe80::1:80"), AddressError::Brackets);
        assert_eq!(error("[::1:80"), AddressError::Brackets);
        assert_eq!(error("[x]:80"), AddressError::Host("x".into()));
        assert_eq!(error("user@host:80"), AddressError::Host("user@host".into()));
        assert_eq!(error("a b:80"), AddressError::Host("a b".into()));
        assert_eq!(Address::to_connect("a:0"), Err(AddressError::PortZero));
    }

    #[test]
    fn text_round_trips_and_host_field_drops_the_default_port() {
        for text in ["127.0.0.1:8064", "[::1]:80", "unix:/run/x"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]:80".parse::<Address>().unwrap().host_field(), "[::1]");
        assert_eq!("a:8080".parse::<Address>().unwrap().host_field(), "a:8080");
        assert_eq!("unix:/x".parse::<Address>().unwrap().host_field(), "localhost");
    }

    #[test]
    fn local_means_this_machine_only() {
        let local = |text: &str| text.parse::<Address>().unwrap().is_local();
        assert!(local("127.8.9.1:1") && local("[::1]:1") && local("localhost:1") && local("unix:/x"));
        assert!(local("[::ffff:127.0.0.1]:1"));
        assert!(!local("0.0.0.0:1") && !local("[::]:1") && !local("10.0.0.1:1") && !local("files.example:1"));
    }
}
