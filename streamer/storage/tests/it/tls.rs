//! `ca_file`: a private authority is trusted when it is named, and only then.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hardstorage_report::code;
use hardstorage_storage::{Created, Key, open};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::servers::{BUCKET, KEY, SECRET, Server, credentials, options};

struct Authority {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        Authority {
            pem,
            issuer: rcgen::Issuer::new(parameters, key),
        }
    }
}

/// TLS in front of a plain server.
async fn terminate(authority: &Authority, server: SocketAddr) -> SocketAddr {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &authority.issuer)
        .unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us hangs up.
                if let Ok(mut tls) = acceptor.accept(stream).await {
                    let mut plain = TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_authority() {
    let server = Server::minio().await;
    let authority = Authority::new();
    let address = terminate(&authority, server.address()).await;
    let directory = credentials(KEY, SECRET);
    let ca_file = directory.path().join("ca.pem");
    let other = Authority::new();
    let endpoint = format!("s3://{BUCKET}?endpoint=https://localhost:{}", address.port());
    let key = Key::new("tls").unwrap();

    // Both in one file, as bundles are.
    std::fs::write(&ca_file, format!("{}{}", other.pem, authority.pem)).unwrap();
    let trusted = format!("{endpoint}&ca_file={}", ca_file.display());
    let store = open(&trusted, &options(&directory)).await.unwrap();
    assert_eq!(
        store.put_new(&key, Bytes::from_static(b"x")).await.unwrap(),
        Created::Created
    );

    std::fs::write(&ca_file, &other.pem).unwrap();
    let store = open(&trusted, &options(&directory)).await.unwrap();
    let error = store.get(&key).await.unwrap_err();
    assert!(error.is(code::storage::UNREACHABLE), "{error:?}");
    assert!(
        error.hint_text().contains("ca_file"),
        "{error:?}: {}",
        error.hint_text()
    );
    // It will not trust it at the next try either.
    assert!(!error.message().contains("tries"), "{error}");
}
