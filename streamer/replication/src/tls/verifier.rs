//! Which server certificates are accepted.
//!
//! Own verifier, because libpq's rules are not the web's: the chain without the name (verify-ca), nothing at all
//! (require without a root file), a self-signed server certificate that is its own root file (the usual way to make one
//! by `openssl req -x509`), and the common name where there is no alternative name.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_parser::time::ASN1Time;

use super::certificate;

/// Trusted certificates.
#[derive(Debug)]
pub(super) struct Roots {
    store: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    pub(super) fn new(certificates: Vec<CertificateDer<'static>>) -> Roots {
        let mut store = RootCertStore::empty();
        // A bundle may hold certificates that no chain can end in; the others count.
        store.add_parsable_certificates(certificates.iter().cloned());
        Roots { store, certificates }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.store.is_empty()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Verifier {
    roots: Option<Roots>,
    host: Option<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Why a certificate is refused, in words of ours.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn refuse(reason: impl Into<String>) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(reason.into())))))
}

impl Verifier {
    /// Checks the chain when there are roots, and the name when there is a host.
    pub(super) fn new(roots: Option<Roots>, host: Option<String>, algorithms: WebPkiSupportedAlgorithms) -> Verifier {
        Verifier {
            roots,
            host,
            algorithms,
        }
    }

    fn check_chain(
        &self,
        roots: &Roots,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if roots
            .certificates
            .iter()
            .any(|root| root.as_ref() == end_entity.as_ref())
        {
            return check_dates(end_entity, now);
        }
        let certificate = ParsedCertificate::try_from(end_entity).map_err(|error| {
            if certificate::parse(end_entity).is_some_and(|parsed| parsed.version().0 != 2) {
                refuse("it is an X.509 certificate older than version 3; make it anew with a subjectAltName")
            } else {
                error
            }
        })?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots.store, intermediates, now, self.algorithms.all)
    }
}

/// The dates of a certificate that is trusted by itself.
fn check_dates(der: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let parsed = certificate::parse(der).ok_or_else(|| refuse("it cannot be read"))?;
    let now = i64::try_from(now.as_secs())
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    match now {
        Some(now) if now < parsed.validity().not_before => Err(CertificateError::NotValidYet.into()),
        Some(now) if now > parsed.validity().not_after => Err(CertificateError::Expired.into()),
        Some(_) => Ok(()),
        None => Err(refuse("the clock cannot be read")),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            self.check_chain(roots, end_entity, intermediates, now)?;
        }
        if let Some(host) = &self.host {
            let parsed = certificate::parse(end_entity).ok_or_else(|| refuse("it cannot be read"))?;
            certificate::is_for(&parsed, host).map_err(|names| {
                let names = if names.is_empty() {
                    "no name at all".to_owned()
                } else {
                    names.join(", ")
                };
                refuse(format!("it is for {names}, not for {host}"))
            })?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // By the bare key: old certificates (version 1) have a key too, and sslmode=require asks for no more.
        let parsed = certificate::parse(cert).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let key = SubjectPublicKeyInfoDer::from(parsed.tbs_certificate.subject_pki.raw);
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
