//! An HTTP server as the origin: requests are made the server's own, answers are freed of what was meant for this
//! connection only.
//!
//! - `location`: the URL that a user types
//! - `pool`: connections, kept and bounded
//! - `connect`: one connection; TLS
//! - `body`: bodies on their way
//! - `fault`: what went wrong

mod body;
mod connect;
mod fault;
mod location;
mod pool;
#[cfg(test)]
mod tests;

use crate::http::{hop, interim};
use crate::net::peer::Peer;
use crate::origin::remote::tls::{self, NoAuthorities};
use crate::origin::remote::{Answer, Ask, Fault, Interim};
pub use connect::Endpoint;
use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};
pub use location::{Location, LocationError};
pub use pool::{Bounds, EndsWithConnection, Pool, Usage};
use std::path::PathBuf;

/// Through which caches a request came (RFC 8586).
const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// For whom a request is forwarded, by the custom that servers know.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// An HTTP origin as a user describes it.
#[derive(Debug, Clone)]
pub struct UpstreamOptions {
    pub location: Location,
    /// What the origin sees as Host; without it, what the URL names.
    pub host: Option<HeaderValue>,
    /// Fields that every request carries, in place of the client's of the same names.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// Certificates that the origin's is checked against, in PEM; without it, those that the system trusts.
    pub ca: Option<PathBuf>,
    pub bounds: Bounds,
}

impl UpstreamOptions {
    pub fn new(location: Location) -> UpstreamOptions {
        UpstreamOptions { location, host: None, fields: Vec::new(), ca: None, bounds: Bounds::default() }
    }
}

/// Why an origin cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error(transparent)]
    Trust(#[from] NoAuthorities),
    #[error("{0:?} can stand in no certificate")]
    Name(String),
    #[error("{0:?} cannot be sent as a Host field")]
    Host(String),
    #[error("the field {0} concerns one connection only and cannot be added to requests")]
    Field(HeaderName),
}

/// The client for an HTTP origin. One serves all threads; see [`Pool`].
pub struct Upstream {
    location: Location,
    host: HeaderValue,
    fields: Vec<(HeaderName, HeaderValue)>,
    pool: Pool,
}

impl Upstream {
    /// # Errors
    /// An option cannot be used.
    pub fn new(options: UpstreamOptions) -> Result<Upstream, UpstreamError> {
        let UpstreamOptions { location, host, fields, ca, bounds } = options;
        let tls = if location.tls { Some(tls::client(ca.as_deref())?) } else { None };
        let endpoint = Endpoint::new(&location.host, location.port, tls)
            .map_err(|_| UpstreamError::Name(location.host.clone()))?;
        let of_location =
            || HeaderValue::from_str(&location.authority).map_err(|_| UpstreamError::Host(location.authority.clone()));
        let host = host.map_or_else(of_location, Ok)?;
        if let Some((name, _)) = fields.iter().find(|(name, _)| hop::is_hop_by_hop(name)) {
            return Err(UpstreamError::Field(name.clone()));
        }
        Ok(Upstream { location, host, fields, pool: Pool::new(endpoint, bounds) })
    }

    /// Where the origin is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    pub fn usage(&self) -> Usage {
        self.pool.usage()
    }

    /// Asks the origin. The request is the client's: with its target and its fields, of which those that concern the
    /// client's connection only are left out here, and with the client's [`Peer`] as an extension if the origin is to
    /// know it. `Expect` is left out, too: whoever reads the body of the request has told the client to go on.
    ///
    /// The answer is the origin's, whatever its status, without fields that concern its connection only. Where Location
    /// and Content-Location name the origin's own URL, they have the path by which clients find the same here. If the
    /// body ends with the connection, the extension [`EndsWithConnection`] says so.
    ///
    /// # Errors
    /// There is no answer; the body of an answer that breaks off ends with a [`Fault`], too, never as if it were whole.
    pub async fn send(&self, ask: Ask) -> Result<Answer, Fault> {
        let (mut parts, body) = ask.into_parts();
        parts.uri = self.location.target(&parts.uri).map_err(Fault::Target)?;
        let fields = &mut parts.headers;
        hop::strip(fields);
        enter_loop(fields)?;
        hop::add_via(fields, parts.version);
        parts.version = hyper::Version::HTTP_11;
        if let Some(peer) = parts.extensions.get::<Peer>() {
            forwarded_for(fields, *peer);
        }
        // hyper says how long the body is.
        for name in [header::EXPECT, header::CONTENT_LENGTH] {
            fields.remove(name);
        }
        fields.insert(header::HOST, self.host.clone());
        for (name, _) in &self.fields {
            fields.remove(name);
        }
        for (name, value) in &self.fields {
            fields.append(name, value.clone());
        }
        let wants = parts.extensions.remove::<Interim>();
        let mut ask = Ask::from_parts(parts, body);
        if let Some(wants) = wants {
            hyper::ext::on_informational(&mut ask, move |answer| {
                if let Some(head) = interim::head(answer.status(), answer.headers()) {
                    wants.tell(head.into());
                }
            });
        }
        let mut answer = self.pool.send(ask).await?;
        hop::strip(answer.headers_mut());
        self.name_outward(answer.headers_mut());
        Ok(answer)
    }

    /// Names pages of the origin as they are found here, where the origin names them by its own URL.
    fn name_outward(&self, fields: &mut HeaderMap) {
        let host = self.host.to_str().unwrap_or_default();
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            let reference = fields.get(&name).and_then(|reference| reference.to_str().ok());
            let named = reference.and_then(|reference| self.location.outward(reference, host));
            if let Some(named) = named.and_then(|named| HeaderValue::try_from(named).ok()) {
                fields.insert(name, named);
            }
        }
    }
}

/// Adds this server to the caches that the request came through.
///
/// # Errors
/// It is among them.
fn enter_loop(fields: &mut HeaderMap) -> Result<(), Fault> {
    if fields.get_all(CDN_LOOP).iter().any(|value| hop::has_come_back(value.as_bytes())) {
        return Err(Fault::Looped);
    }
    fields.append(CDN_LOOP, HeaderValue::from_static(hop::instance()));
    Ok(())
}

/// Tells the origin whom the request is forwarded for, after those who did so before.
fn forwarded_for(fields: &mut HeaderMap, peer: Peer) {
    let Peer::Tcp(address) = peer else { return };
    let before: Vec<&[u8]> = fields.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    let own = address.ip().to_canonical().to_string();
    let all = [before, vec![own.as_bytes()]].concat().join(&b", "[..]);
    if let Ok(all) = HeaderValue::from_bytes(&all) {
        fields.insert(X_FORWARDED_FOR, all);
    }
    if !fields.contains_key(X_FORWARDED_PROTO) {
        fields.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !fields.contains_key(X_FORWARDED_HOST)
        && let Some(host) = fields.get(header::HOST).cloned()
    {
        fields.insert(X_FORWARDED_HOST, host);
    }
}
