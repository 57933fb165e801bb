//! The throw-away CA and the certificate that the local cloud shows. The keys live in memory only.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A server's TLS configuration and the CA, in PEM, that clients have to trust: for loopback, for `*.aliyuncs.com`, for the
/// products' hosts in `regions` and for `names`.
///
/// # Errors
/// Only where keys cannot be made.
pub(super) fn throw_away(
    regions: &[String],
    names: &[String],
) -> Result<(Arc<ServerConfig>, String), Box<dyn std::error::Error + Send + Sync>> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "appsnap local cloud, throw-away CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut all: Vec<String> = ["localhost", "127.0.0.1", "*.aliyuncs.com"].map(str::to_owned).into();
    for region in regions {
        all.push(format!("*.{region}.aliyuncs.com"));
        all.push(format!("*.{region}.fc.aliyuncs.com"));
    }
    all.extend_from_slice(names);
    let mut own = CertificateParams::new(all)?;
    own.distinguished_name.push(DnType::CommonName, "appsnap local cloud");
    own.use_authority_key_identifier_extension = true; // OpenSSL 3 in strict mode asks for it
    let key = KeyPair::generate()?;
    let certificate = own.signed_by(&key, &authority)?;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), authority.pem()))
}
