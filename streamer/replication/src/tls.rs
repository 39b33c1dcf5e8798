//! TLS as libpq does it: what is verified for each `sslmode`, client certificates, the channel binding of SCRAM.
//!
//! - A root certificate file that exists is always used to check the chain, whatever the mode; `verify-ca` and
//!   `verify-full` fail without one. Only `verify-full` checks the host's name.
//! - All files are read again for each connection, so that a renewed certificate needs no restart.
//! - The cryptography is named here and never taken from the process, whose default another library may have set.

mod certificate;
mod verifier;

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use hardstorage_report::{Error, Result, Retry, code};
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use crate::conninfo::{RootCert, SslMode, TlsSettings, TlsVersion};
use verifier::{Roots, Verifier};

/// The protocol's registered name; servers from 17 on check it.
const ALPN: &[u8] = b"postgresql";

/// The settings of one handshake, with every file read.
pub(crate) struct Prepared {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    direct: bool,
    client_certificate: bool,
}

/// An established session.
pub(crate) struct Session {
    pub(crate) stream: TlsStream<TcpStream>,
    /// The hash for `tls-server-end-point`; `None` when the certificate's signature has no hash of its own (Ed25519).
    pub(crate) binding: Option<Vec<u8>>,
    /// Whether we had a certificate of our own to show.
    pub(crate) client_certificate: bool,
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(code::replication::TLS, message)
}

/// Reads the files and builds the configuration. Blocks on the file system.
pub(crate) fn prepare(settings: &TlsSettings, host: &str, address: std::net::IpAddr) -> Result<Prepared> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier::new(
        roots(settings)?,
        (settings.mode == SslMode::VerifyFull).then(|| host.to_owned()),
        provider.signature_verification_algorithms,
    );
    if settings.mode == SslMode::VerifyFull && host.is_empty() {
        return Err(
            refused("sslmode=verify-full needs the host's name").hint("name the server with host= beside hostaddr=")
        );
    }
    let client = client_certificate(settings)?;
    let client_certificate = client.is_some();
    let mut config = configuration(settings, provider, verifier, client)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = settings.server_name_indication;
    // The name goes into the handshake only; what the certificate must say is the verifier's matter. An address is
    // not sent.
    let server_name = ServerName::try_from(host.to_owned()).unwrap_or(ServerName::IpAddress(address.into()));
    Ok(Prepared {
        config: Arc::new(config),
        server_name,
        direct: settings.direct,
        client_certificate,
    })
}

fn configuration(
    settings: &TlsSettings,
    provider: Arc<CryptoProvider>,
    verifier: Verifier,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig> {
    let mut versions = Vec::new();
    if settings.max == TlsVersion::Tls13 {
        versions.push(&rustls::version::TLS13);
    }
    if settings.min == TlsVersion::Tls12 {
        versions.push(&rustls::version::TLS12);
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| refused("no TLS version is left to use").source(error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match client {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            refused("the client's certificate and key cannot be used together")
                .hint("check that sslcert and sslkey belong together")
                .source(error)
        }),
    }
}

/// The authorities to trust; `None` when nothing is verified.
fn roots(settings: &TlsSettings) -> Result<Option<Roots>> {
    let demanded = matches!(settings.mode, SslMode::VerifyCa | SslMode::VerifyFull);
    let missing = |what: String| {
        refused(what).hint("name the authority's certificate with sslrootcert=FILE, or use sslrootcert=system")
    };
    match &settings.root {
        RootCert::None if demanded => Err(missing(
            "no root certificate file is named, and there is no home directory".into(),
        )),
        RootCert::None => Ok(None),
        RootCert::System => {
            let found = rustls_native_certs::load_native_certs();
            let roots = Roots::new(found.certs);
            if roots.is_empty() {
                let error = missing("the system's root certificates cannot be read".into());
                return Err(match found.errors.into_iter().next() {
                    Some(cause) => error.source(cause),
                    None => error,
                });
            }
            Ok(Some(roots))
        }
        RootCert::File(path) => {
            let Some(text) = read(path, "root certificate file")? else {
                return if demanded {
                    Err(missing(format!(
                        "root certificate file {} does not exist",
                        path.display()
                    )))
                } else {
                    Ok(None)
                };
            };
            let roots = Roots::new(certificates(&text, path, "root certificate file")?);
            if roots.is_empty() {
                return Err(refused(format!(
                    "root certificate file {} holds no usable certificate",
                    path.display()
                )));
            }
            Ok(Some(roots))
        }
    }
}

/// Our certificate and key, when there is a certificate file.
fn client_certificate(
    settings: &TlsSettings,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>> {
    let Some(path) = &settings.certificate else {
        return Ok(None);
    };
    let Some(text) = read(path, "client certificate file")? else {
        return Ok(None);
    };
    let chain = certificates(&text, path, "client certificate file")?;
    if chain.is_empty() {
        return Err(refused(format!(
            "client certificate file {} holds no certificate",
            path.display()
        )));
    }
    let no_key = || {
        refused(format!(
            "there is a client certificate, {}, but no key to it",
            path.display()
        ))
        .hint("name the key with sslkey=FILE, or use no certificate with sslcertmode=disable")
    };
    let key_path = settings.key.as_deref().ok_or_else(no_key)?;
    let key = Zeroizing::new(read(key_path, "client key file")?.ok_or_else(no_key)?);
    check_key_permissions(key_path)?;
    if contains(&key, b"ENCRYPTED") {
        return Err(refused(format!("client key file {} is encrypted", key_path.display()))
            .hint("use a key without passphrase and mode 0600; sslpassword is not supported"));
    }
    let key = PrivateKeyDer::from_pem_slice(&key)
        .or_else(|_| PrivateKeyDer::try_from(key.to_vec()).map_err(|_| rustls::pki_types::pem::Error::NoItemsFound))
        .map_err(|error| {
            refused(format!("client key file {} holds no usable key", key_path.display())).source(error)
        })?;
    Ok(Some((chain, key)))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// As libpq: ours and 0600 or stricter, or root's and 0640 or stricter.
fn check_key_permissions(path: &Path) -> Result<()> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| refused(format!("client key file {} cannot be read", path.display())).source(error))?;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if !metadata.is_file() || metadata.mode() & forbidden != 0 {
        return Err(
            refused(format!("client key file {} can be read by others", path.display()))
                .hint("chmod 600 the key file, or 640 if root owns it"),
        );
    }
    Ok(())
}

/// A file's bytes; `None` when it is not there.
fn read(path: &Path, what: &str) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(refused(format!("{what} {} cannot be read", path.display())).source(error)),
    }
}

fn certificates(text: &[u8], path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| refused(format!("{what} {} is not valid PEM", path.display())).source(error))
}

impl Prepared {
    /// Whether TLS begins without asking.
    pub(crate) fn is_direct(&self) -> bool {
        self.direct
    }

    /// The handshake. The server's certificate is verified before this returns.
    pub(crate) async fn handshake(self, stream: TcpStream) -> Result<Session> {
        let connector = TlsConnector::from(self.config);
        let stream = connector
            .connect(self.server_name, stream)
            .await
            .map_err(handshake_failed)?;
        let (_, session) = stream.get_ref();
        if self.direct && session.alpn_protocol() != Some(ALPN) {
            return Err(
                refused("the server did not confirm the protocol of a direct TLS connection")
                    .hint("sslnegotiation=direct needs PostgreSQL 17 or newer"),
            );
        }
        let binding = match session.peer_certificates() {
            Some([certificate, ..]) => certificate::end_point_hash(certificate)?,
            _ => None,
        };
        Ok(Session {
            binding,
            client_certificate: self.client_certificate,
            stream,
        })
    }
}

/// The verifier's own words where it has some, else the library's.
fn handshake_failed(error: std::io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            let reason = match reason {
                rustls::CertificateError::Other(other) => other.0.to_string(),
                rustls::CertificateError::UnknownIssuer => {
                    "it is not signed by an authority in the root certificate file".to_owned()
                }
                other => other.to_string(),
            };
            refused(format!("the server's certificate is not accepted: {reason}"))
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            refused(format!("the server ended the TLS handshake with the alert {alert:?}"))
                .hint("the server refuses the client certificate or has no TLS version in common; its log knows more")
        }
        Some(other) => refused(format!("the TLS handshake failed: {other}")),
        // The other side closed or reset the connection: no word about certificates.
        None => refused("the connection ended during the TLS handshake")
            .retry(Retry::Now)
            .source(error),
    }
}
