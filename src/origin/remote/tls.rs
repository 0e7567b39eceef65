//! TLS to origins: whose certificates are believed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why there are no certificates to check an origin by.
#[derive(Debug, thiserror::Error)]
pub enum NoAuthorities {
    #[error("the certificates of {0} cannot be read: {1}")]
    Unreadable(PathBuf, rustls::pki_types::pem::Error),
    #[error("{0} holds no certificate; it must have one or more, in PEM")]
    Empty(PathBuf),
    #[error("a certificate of {0} cannot be used: {1}")]
    Unusable(PathBuf, rustls::Error),
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// How connections to origins are made safe: origins must show a certificate that an authority in the PEM file
/// `authorities` vouches for, or one that the system trusts if there is no such file.
pub fn client(authorities: Option<&Path>) -> Result<ClientConfig, NoAuthorities> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            let unreadable = |error| NoAuthorities::Unreadable(path.to_owned(), error);
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                let added = roots.add(certificate.map_err(unreadable)?);
                added.map_err(|error| NoAuthorities::Unusable(path.to_owned(), error))?;
            }
            if roots.is_empty() {
                return Err(NoAuthorities::Empty(path.to_owned()));
            }
        }
        // Single certificates that are too odd to be read are no reason to trust none of the others. Where there are
        // none at all, no origin is believed, and each request says so.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(NoAuthorities::Setup)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
