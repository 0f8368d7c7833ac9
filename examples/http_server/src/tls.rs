//! TLS by rustls, with ring.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A configuration from a certificate chain and its private key, both PEM.
pub(crate) fn configure(cert: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let explain = |path: &Path, error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| explain(cert, &error))?;
    if chain.is_empty() {
        return Err(explain(cert, &"there is no certificate in it"));
    }
    let key_of = PrivateKeyDer::from_pem_file(key).map_err(|error| explain(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key_of)
        .map_err(|error| explain(key, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
