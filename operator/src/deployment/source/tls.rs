//! How a connection is secured, from the words of a spec. Pure.

use std::net::IpAddr;

use hardstorage_crds::{Tls, TlsMode};

use crate::access::{HostAccess, SourceAccess, SslMode};

/// Puts TLS into an access; the error is a sentence.
pub fn secure(access: &mut SourceAccess, tls: Option<&Tls>) -> Result<(), String> {
    let Some(tls) = tls else { return Ok(()) };
    access.ssl = match &tls.mode {
        TlsMode::VerifyFull => SslMode::VerifyFull,
        TlsMode::VerifyCA => SslMode::VerifyCa,
        TlsMode::Require => SslMode::Require,
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Other(word) => return Err(format!("tls.mode {word} is not known to this version")),
    };
    access.ca.clone_from(&tls.ca_ref);
    access.certificate = tls.certificate_secret_ref.as_ref().map(|secret| secret.name.clone());
    let Some(wanted) = tls.server_name.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    for host in &mut access.hosts {
        *host = renamed(host, wanted)?;
    }
    Ok(())
}

/// A host whose certificate has another name. libpq's `host` is what the certificate is compared with, and `hostaddr`,
/// where to connect, holds addresses only.
fn renamed(host: &HostAccess, wanted: &str) -> Result<HostAccess, String> {
    if host.name == wanted {
        return Ok(host.clone());
    }
    let address = host.address.clone().or_else(|| {
        let is_address = host.name.parse::<IpAddr>().is_ok();
        is_address.then(|| host.name.clone())
    });
    let Some(address) = address else {
        return Err(format!(
            "tls.serverName {wanted} is not the name of the host {}, and only a host given by its address can have a \
             certificate of another name: write the address, or a certificate with that name",
            host.name
        ));
    };
    Ok(HostAccess {
        name: wanted.to_owned(),
        address: Some(address),
        port: host.port,
    })
}
