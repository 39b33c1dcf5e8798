//! How one gets in: the password from its file, and the authorities that TLS trusts.
//!
//! Both are read again each time, because a Secret may come late and certificates are renewed. A file that cannot be read
//! keeps nobody from streaming: it is an error of asking Patroni, like any other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hardstorage_report::{Error, Result, code};
use hyper::header::HeaderValue;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The file that holds the password, and nothing else.
    pub password_file: PathBuf,
}

fn refused(what: String) -> Error {
    Error::new(code::engine::PATRONI_AUTH, what)
}

impl Login {
    /// The header that says who asks.
    pub(super) async fn header(&self) -> Result<HeaderValue> {
        let file = self.password_file.display();
        let text = tokio::fs::read_to_string(&self.password_file)
            .await
            .map_err(|error| refused(format!("read {file}")).source(error))?;
        // Editors and `echo` leave a line feed that no password has.
        let password = text.trim_end_matches(['\n', '\r']);
        let login = BASE64_STANDARD.encode(format!("{}:{password}", self.user));
        let mut value = HeaderValue::from_str(&format!("Basic {login}"))
            .map_err(|error| refused(format!("{file} holds no password")).source(error))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// TLS that trusts this authority, or those of the system.
pub(super) async fn tls(authority: Option<&Path>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match authority {
        Some(file) => {
            let wrong = |what: &str| refused(format!("{}: {what}", file.display()));
            let pem = tokio::fs::read(file)
                .await
                .map_err(|error| wrong("it cannot be read").source(error))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|error| wrong("it is not PEM").source(error))?;
                roots
                    .add(certificate)
                    .map_err(|error| wrong("it holds something that is no certificate authority").source(error))?;
            }
            if roots.is_empty() {
                return Err(wrong("it holds no certificate"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    // Named here and never taken from the process, whose default another library may have set.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| refused("TLS cannot be set up".to_owned()).source(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
