//! The SDK's client, configured for a store: no retries of its own, TLS as asked, checksums that the server takes.

use std::path::Path;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{IdentityCache, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use hardstorage_report::{Error, Result, code};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::credentials::CredentialsDir;
use crate::{Checksum, Credentials, S3Location};

const CONNECT: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) async fn build(location: &S3Location, credentials: &Credentials) -> Result<Client> {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    if let Some(region) = &location.region {
        loader = loader.region(Region::new(region.clone()));
    } else if location.endpoint.is_some() {
        // Servers other than AWS have one region, and most call it this; asking the instance for its own would be slow.
        loader = loader.region(Region::new("us-east-1"));
    }
    if let Credentials::Directory(directory) = credentials {
        // Looked at for every request: a rotated secret must not need a restart.
        loader = loader
            .credentials_provider(CredentialsDir::new(directory.clone()))
            .identity_cache(IdentityCache::no_cache());
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        return Err(
            Error::new(code::usage::URL, "no region is known for the bucket").hint("add ?region=REGION to the URL")
        );
    }
    // The environment or the profile may name an endpoint too.
    let elsewhere = location.endpoint.as_deref().or(shared.endpoint_url());
    let checksum = location.checksum.unwrap_or(match elsewhere {
        Some(_) => Checksum::WhenRequired,
        None => Checksum::WhenSupported,
    });
    let plain = elsewhere.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(location.path_style.unwrap_or(elsewhere.is_some()))
        .http_client(http_client(location.ca_file.as_deref(), plain).await?);
    if let Some(endpoint) = &location.endpoint {
        config = config.endpoint_url(endpoint);
    }
    config = match checksum {
        Checksum::WhenRequired => config
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired),
        Checksum::WhenSupported => config
            .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
            .response_checksum_validation(ResponseChecksumValidation::WhenSupported),
    };
    Ok(Client::from_conf(config.build()))
}

async fn http_client(ca_file: Option<&Path>, plain: bool) -> Result<SharedHttpClient> {
    let trust = match ca_file {
        Some(file) => TrustStore::empty().with_pem_certificate(certificates(file).await?),
        // A container may have no certificates at all, and needs none for this.
        None if plain => TrustStore::empty(),
        None => TrustStore::default(),
    };
    let context = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|error| Error::new(code::usage::URL, "TLS cannot be set up").source(error))?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build_https())
}

/// Reads and checks the file here, because the SDK ends the process over a certificate it cannot parse.
async fn certificates(file: &Path) -> Result<Vec<u8>> {
    let wrong = |what: &str| Error::new(code::usage::URL, format!("ca_file {}: {what}", file.display()));
    let pem = tokio::fs::read(file)
        .await
        .map_err(|error| wrong("it cannot be read").source(error))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong("it is not PEM").source(error))?;
        roots
            .add(certificate)
            .map_err(|error| wrong("it holds something that is no certificate authority").source(error))?;
    }
    if roots.is_empty() {
        return Err(wrong("it holds no certificate"));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for content in [
            "",
            "not a certificate",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(file.path(), content).unwrap();
            let error = certificates(file.path()).await.unwrap_err();
            assert!(error.is(code::usage::URL), "{content:?}: {error}");
        }
        assert!(
            certificates(Path::new("/does/not/exist"))
                .await
                .unwrap_err()
                .is(code::usage::URL)
        );
    }
}
