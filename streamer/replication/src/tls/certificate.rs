//! What is read out of the server's certificate itself: the hash for channel binding, its key, its names and dates.

use std::net::IpAddr;

use hardstorage_report::{Error, Result, code};
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use x509_parser::prelude::*;
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// Parses a certificate of any version, which the TLS library's own parser does not.
pub(super) fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

/// The hash of `tls-server-end-point` (RFC 5929, section 4.1): of the whole certificate, with the hash function of its
/// signature, SHA-256 in place of MD5 and SHA-1. `None` for signatures without a hash function of their own.
pub(super) fn end_point_hash(der: &[u8]) -> Result<Option<Vec<u8>>> {
    let unreadable = || Error::new(code::replication::TLS, "the server's certificate cannot be read");
    let certificate = parse(der).ok_or_else(unreadable)?;
    let algorithm = &certificate.signature_algorithm;
    let mut oid = algorithm.algorithm.to_id_string();
    if let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) = SignatureAlgorithm::try_from(algorithm) {
        oid = parameters.hash_algorithm_oid().to_id_string();
    }
    Ok(match oid.as_str() {
        // RSA, ECDSA and DSA with MD5 and SHA-1; SHA-1 alone, the default of PSS.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" | "1.2.840.10040.4.3"
        | "1.3.14.3.2.26"
        // With SHA-256.
        | "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" | "2.16.840.1.101.3.4.3.2" | "2.16.840.1.101.3.4.2.1" => {
            Some(Sha256::digest(der).to_vec())
        }
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" | "2.16.840.1.101.3.4.3.1" | "2.16.840.1.101.3.4.2.4" => {
            Some(Sha224::digest(der).to_vec())
        }
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
            Some(Sha384::digest(der).to_vec())
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
            Some(Sha512::digest(der).to_vec())
        }
        _ => None,
    })
}

/// Whether the certificate is for this host, by libpq's rules: a name matches a dNSName, an address an iPAddress; the
/// common name counts only when there is no alternative name of that kind. `Err` holds the names that it is for.
pub(super) fn is_for(certificate: &X509Certificate<'_>, host: &str) -> Result<(), Vec<String>> {
    let address: Option<IpAddr> = host.parse().ok();
    let mut of_our_kind = false;
    let mut seen = Vec::new();
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => {
                of_our_kind |= address.is_none();
                if address.is_none() && name_matches(name, host) {
                    return Ok(());
                }
                seen.push((*name).to_owned());
            }
            GeneralName::IPAddress(bytes) => {
                of_our_kind |= address.is_some();
                let named = ip(bytes);
                if named.is_some() && named == address {
                    return Ok(());
                }
                seen.extend(named.map(|ip| ip.to_string()));
            }
            _ => {}
        }
    }
    if !of_our_kind {
        // libpq takes the first common name.
        if let Some(name) = certificate
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
        {
            if name_matches(name, host) {
                return Ok(());
            }
            seen.push(name.to_owned());
        }
    }
    Err(seen)
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// Case-insensitive; `*.` at the start stands for exactly one label.
fn name_matches(pattern: &str, host: &str) -> bool {
    if pattern.contains('\0') {
        return false;
    }
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(suffix), Some((label, domain))) = (pattern.strip_prefix("*."), host.split_once('.')) else {
        return false;
    };
    // An address is never matched by a wildcard.
    !label.is_empty() && !suffix.is_empty() && suffix.eq_ignore_ascii_case(domain) && host.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_wildcards() {
        for (pattern, host, matches) in [
            ("db1.example.com", "DB1.example.com", true),
            ("*.example.com", "db1.example.com", true),
            ("*.example.com", "a.db1.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.0.0.1", "127.0.0.1", false),
            ("*", "localhost", false),
            ("db*.example.com", "db1.example.com", false),
            ("db1.example.com\0.evil", "db1.example.com", false),
        ] {
            assert_eq!(name_matches(pattern, host), matches, "{pattern} {host}");
        }
    }

    /// The hashes are OpenSSL's, of certificates that it made.
    #[test]
    fn the_golden_end_point_hashes() {
        for (der, expected) in [
            (
                include_bytes!("testdata/rsa-sha1.der").as_slice(),
                "79f38fae7848016eb2a7b7ef3e8a940c2a0b830904673bdc5af335a9860d1944",
            ),
            (
                include_bytes!("testdata/rsa-sha256.der"),
                "876ad3b3d9862aa1feec501eed0f56552625d899d691ded3760de2bc91ec0fb2",
            ),
            (
                include_bytes!("testdata/rsa-sha512.der"),
                "151b7fa9af1288c4afa3d7ee05864f553199fd05d51a5ba3e89e144b6223ea9dcbbdb71a8f2394d97fa587f18dba45fe274b28b7335ef8732da045cfc0a4955b",
            ),
            (
                include_bytes!("testdata/rsa-pss-sha384.der"),
                "b804fe39dae9da29a011358032210642a0c9b1ce211d04e11cbcc9838291495c8bd64ea7fc820c9992bc4ab3e24ff7bb",
            ),
            (
                include_bytes!("testdata/ecdsa-sha224.der"),
                "f3219b9c9f7439ae6809f7f025ae761fe1ed89c5e714239a232f4dac",
            ),
            (
                include_bytes!("testdata/ecdsa-sha256.der"),
                "02dc1bf31c882f258239ff38f12e66223f9bb40ed8be5ebd7e15bb81a5428795",
            ),
            (
                include_bytes!("testdata/ecdsa-sha384.der"),
                "ddf2f6e5efb0c323e933f19d9f0d1d340838f6fc46df13a8889f48bc733f6bbedf258e2a1abfc5685f546cf7b015efa2",
            ),
        ] {
            let hash = end_point_hash(der).unwrap().unwrap();
            let shown = hash
                .iter()
                .fold(String::new(), |shown, byte| format!("{shown}{byte:02x}"));
            assert_eq!(shown, expected);
        }
        assert_eq!(end_point_hash(include_bytes!("testdata/ed25519.der")).unwrap(), None);
        assert!(end_point_hash(b"x").unwrap_err().is(code::replication::TLS));
    }

    #[test]
    fn the_common_name_counts_without_an_alternative_name() {
        let der = include_bytes!("testdata/ecdsa-sha256.der");
        let certificate = parse(der).unwrap();
        assert_eq!(is_for(&certificate, "ecdsa-sha256"), Ok(()));
        assert_eq!(is_for(&certificate, "other"), Err(vec!["ecdsa-sha256".to_owned()]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(der in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = end_point_hash(&der);
        }
    }
}
