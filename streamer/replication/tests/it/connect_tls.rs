//! TLS against real servers: what is verified when, client certificates, channel binding, certificates that change.

use std::fs;
use std::path::Path;

use hardstorage_e2e::{Cluster, Scratch};
use hardstorage_replication::ConnInfo;
use hardstorage_report::code::replication as codes;
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};

use crate::certificates::{Authority, Pair, self_signed, write_private};
use crate::login::{accepted, install, log_in, log_in_from, refused, tls_server};

/// Files of the client.
struct Files {
    scratch: Scratch,
    own: Authority,
}

impl Files {
    fn new(server: &Authority) -> Files {
        let scratch = Scratch::new();
        let own = Authority::new("clients", &PKCS_ECDSA_P256_SHA256);
        fs::write(scratch.path("ca.crt"), &server.pem).unwrap();
        fs::write(
            scratch.path("other.crt"),
            Authority::new("other", &PKCS_ECDSA_P256_SHA256).pem,
        )
        .unwrap();
        Files { scratch, own }
    }

    fn path(&self, name: &str) -> String {
        self.scratch.path(name).display().to_string()
    }

    /// Writes `<name>.crt` and `<name>.key`, and gives the keywords that use them.
    fn keywords(&self, name: &str, pair: &Pair) -> String {
        let (certificate, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        fs::write(&certificate, &pair.certificate).unwrap();
        write_private(Path::new(&key), &pair.key);
        format!("sslcert={certificate} sslkey={key}")
    }
}

fn base(cluster: &Cluster, user: &str, more: &str) -> String {
    format!("hostaddr={} user={user} password=secret {more}", cluster.address().ip())
}

#[tokio::test]
async fn tls_on_15() {
    tls(15).await;
}

#[tokio::test]
async fn tls_on_18() {
    tls(18).await;
}

async fn tls(major: u16) {
    let authority = Authority::new("servers", &PKCS_ECDSA_P256_SHA256);
    let files = Files::new(&authority);
    let cluster = tls_server(
        major,
        |address| authority.issue("server", &["db1.test", "*.wild.test", address]),
        &files.own.pem,
    );
    modes(&cluster).await;
    verification(&cluster, &files).await;
    client_certificates(&cluster, &files).await;
    negotiation(&cluster, major).await;
}

/// Which of the two kinds of connection each mode takes.
async fn modes(cluster: &Cluster) {
    for (mode, user, encrypted) in [
        ("disable", "plainonly", Some(false)),
        ("disable", "sslonly", None),
        ("allow", "plainonly", Some(false)),
        ("allow", "sslonly", Some(true)),
        ("prefer", "sslonly", Some(true)),
        ("prefer", "plainonly", Some(false)),
        ("require", "sslonly", Some(true)),
        ("require", "plainonly", None),
    ] {
        let what = format!("sslmode={mode} user={user}");
        let result = log_in(&base(cluster, user, &format!("sslmode={mode}"))).await;
        if let Some(encrypted) = encrypted {
            let connected = accepted(result, &what);
            assert_eq!(connected.encrypted, encrypted, "{what}");
            let sql = format!("SELECT ssl FROM pg_stat_ssl WHERE pid = {}", connected.process_id);
            assert_eq!(cluster.value(&sql), if encrypted { "t" } else { "f" }, "{what}");
        } else {
            let error = refused(result, codes::HBA, &what);
            assert_eq!(
                error.hint_text().contains("hostssl"),
                mode == "disable",
                "{}",
                error.hint_text()
            );
        }
    }
    // A wrong password is not sent a second time over the other kind.
    refused(
        log_in(&base(cluster, "sslonly", "password=wrong")).await,
        codes::AUTH,
        "wrong password",
    );
    let failed = |log: &str| {
        log.matches("28P01")
            .count()
            .max(log.matches("password authentication failed").count())
    };
    assert_eq!(failed(&cluster.log()), 1, "{}", cluster.log());
    for version in ["TLSv1.2", "TLSv1.3"] {
        let keywords = format!("sslmode=require ssl_min_protocol_version={version} ssl_max_protocol_version={version}");
        let connected = accepted(log_in(&base(cluster, "sslonly", &keywords)).await, version);
        let sql = format!("SELECT version FROM pg_stat_ssl WHERE pid = {}", connected.process_id);
        assert_eq!(cluster.value(&sql), version);
    }
}

async fn verification(cluster: &Cluster, files: &Files) {
    let (ca, other) = (files.path("ca.crt"), files.path("other.crt"));
    let ip = cluster.address().ip().to_string();
    for (keywords, good) in [
        (format!("sslmode=verify-ca sslrootcert={ca}"), true),
        (format!("sslmode=verify-ca sslrootcert={ca} host=other.test"), true),
        (format!("sslmode=verify-full sslrootcert={ca} host=db1.test"), true),
        (format!("sslmode=verify-full sslrootcert={ca} host=DB1.test"), true),
        (format!("sslmode=verify-full sslrootcert={ca} host=a.wild.test"), true),
        (format!("sslmode=verify-full sslrootcert={ca} host={ip}"), true),
        (format!("sslmode=verify-full sslrootcert={ca} host=db2.test"), false),
        (
            format!("sslmode=verify-full sslrootcert={ca} host=a.b.wild.test"),
            false,
        ),
        // The common name does not count beside alternative names.
        (format!("sslmode=verify-full sslrootcert={ca} host=server"), false),
        (format!("sslmode=verify-full sslrootcert={ca}"), false),
        (format!("sslmode=verify-ca sslrootcert={other}"), false),
        (format!("sslmode=verify-full sslrootcert={other} host=db1.test"), false),
        ("sslmode=verify-ca".to_owned(), false),
        (
            format!("sslmode=verify-ca sslrootcert={}", files.path("missing.crt")),
            false,
        ),
        // Not even ours is in the system's list.
        ("sslrootcert=system host=db1.test".to_owned(), false),
        // A file that is there is used, whatever the mode.
        (format!("sslmode=require sslrootcert={ca}"), true),
        (format!("sslmode=require sslrootcert={other}"), false),
        (
            format!("sslmode=require sslrootcert={}", files.path("missing.crt")),
            true,
        ),
        ("sslmode=require".to_owned(), true),
    ] {
        let result = log_in(&base(cluster, "sslonly", &keywords)).await;
        if good {
            assert!(accepted(result, &keywords).encrypted);
        } else {
            refused(result, codes::TLS, &keywords);
        }
    }
    let keywords = format!("sslmode=verify-full sslrootcert={ca} host=db2.test");
    let error = refused(
        log_in(&base(cluster, "sslonly", &keywords)).await,
        codes::TLS,
        "another name",
    );
    assert!(
        error.to_string().contains("db1.test") && error.to_string().contains("db2.test"),
        "{error}"
    );
    // The home directory's own file.
    let home = Scratch::new();
    fs::create_dir(home.path(".postgresql")).unwrap();
    let root = home.path(".postgresql/root.crt");
    let conninfo = base(cluster, "sslonly", "sslmode=require");
    accepted(log_in_from(home.root(), &conninfo).await, "no root.crt");
    fs::copy(&other, &root).unwrap();
    refused(
        log_in_from(home.root(), &conninfo).await,
        codes::TLS,
        "a foreign root.crt",
    );
    fs::write(&root, "nothing").unwrap();
    refused(
        log_in_from(home.root(), &conninfo).await,
        codes::TLS,
        "an empty root.crt",
    );
    fs::copy(&ca, &root).unwrap();
    accepted(log_in_from(home.root(), &conninfo).await, "its root.crt");
    accepted(
        log_in_from(home.root(), &base(cluster, "sslonly", "sslmode=verify-ca")).await,
        "its root.crt",
    );
}

async fn client_certificates(cluster: &Cluster, files: &Files) {
    let own = files.keywords("own", &files.own.issue("certuser", &[]));
    let log_in_with = |user: &str, keywords: &str| {
        let conninfo = base(cluster, user, &format!("sslmode=require {keywords}"));
        async move { log_in(&conninfo).await }
    };
    accepted(log_in_with("certuser", &own).await, "cert");
    accepted(log_in_with("clientcert", &own).await, "clientcert=verify-ca");
    // Whether a line asks for more than we have, only the person can tell: the hint has both.
    let error = refused(log_in_with("certuser", "").await, codes::HBA, "no certificate");
    assert!(error.hint_text().contains("sslcert"), "{}", error.hint_text());
    let error = refused(
        log_in_with("certuser", &format!("{own} sslcertmode=disable")).await,
        codes::HBA,
        "disabled",
    );
    assert!(error.hint_text().contains("sslcert"), "{}", error.hint_text());
    let error = refused(
        log_in_with("certuser", &files.keywords("wrong", &files.own.issue("somebody", &[]))).await,
        codes::AUTH,
        "another name",
    );
    assert!(!error.hint_text().is_empty());
    let foreign = Authority::new("foreign", &PKCS_ECDSA_P256_SHA256);
    refused(
        log_in_with("certuser", &files.keywords("foreign", &foreign.issue("certuser", &[]))).await,
        codes::TLS,
        "an authority that the server does not know",
    );

    // Renewed on disk: the next connection shows the new one, without any restart.
    let rotating = files.keywords("rotating", &files.own.issue("certuser", &[]));
    accepted(log_in_with("certuser", &rotating).await, "before");
    files.keywords("rotating", &files.own.issue("somebody", &[]));
    refused(log_in_with("certuser", &rotating).await, codes::AUTH, "after");
    files.keywords("rotating", &files.own.issue("certuser", &[]));
    accepted(log_in_with("certuser", &rotating).await, "and back");

    // Files that do not do.
    let key = files.scratch.path("own.key");
    let text = fs::read_to_string(&key).unwrap();
    write_private(&key, &files.own.issue("certuser", &[]).key);
    refused(log_in_with("certuser", &own).await, codes::TLS, "another's key");
    write_private(
        &key,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let error = refused(log_in_with("certuser", &own).await, codes::TLS, "an encrypted key");
    assert!(error.hint_text().contains("passphrase"), "{}", error.hint_text());
    write_private(&key, &text);
    open_to_all(&key);
    let error = refused(
        log_in_with("certuser", &own).await,
        codes::TLS,
        "a key that others can read",
    );
    assert!(error.hint_text().contains("chmod"), "{}", error.hint_text());
    fs::remove_file(&key).unwrap();
    refused(log_in_with("certuser", &own).await, codes::TLS, "no key");
    let missing = format!("sslcert={} sslkey={}", files.path("no.crt"), files.path("no.key"));
    refused(
        log_in_with("certuser", &missing).await,
        codes::HBA,
        "a certificate file that is not there is none",
    );
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

async fn negotiation(cluster: &Cluster, major: u16) {
    let direct = log_in(&base(
        cluster,
        "sslonly",
        "sslmode=require sslnegotiation=direct connect_timeout=20",
    ))
    .await;
    if major >= 17 {
        assert!(accepted(direct, "direct").encrypted);
    } else {
        assert!(direct.is_err(), "a server without direct TLS");
    }
    accepted(
        log_in(&base(cluster, "sslonly", "sslmode=require host=db1.test sslsni=0")).await,
        "no server name",
    );
}

/// SCRAM bound to certificates with every kind of signature, and to one that cannot be bound to.
#[tokio::test]
async fn channel_binding() {
    let algorithms: [(&SignatureAlgorithm, bool); 3] = [
        (&PKCS_ECDSA_P256_SHA256, true),
        (&PKCS_ECDSA_P384_SHA384, true),
        (&PKCS_ED25519, false),
    ];
    let mut cluster: Option<Cluster> = None;
    for (algorithm, bindable) in algorithms {
        let authority = Authority::new("servers", algorithm);
        let pair = authority.issue("server", &["db1.test"]);
        let cluster = match &mut cluster {
            Some(cluster) => {
                install(cluster, &pair);
                cluster.restart();
                cluster
            }
            None => cluster.insert(tls_server(18, |_| pair, &authority.pem)),
        };
        let log_in_with = |user: &str, binding: &str| {
            log_in_owned(base(
                cluster,
                user,
                &format!("sslmode=require channel_binding={binding}"),
            ))
        };
        accepted(log_in_with("sslonly", "disable").await, "disable");
        if bindable {
            accepted(log_in_with("sslonly", "prefer").await, "prefer");
            accepted(log_in_with("sslonly", "require").await, "require");
        } else {
            refused(
                log_in_with("sslonly", "require").await,
                codes::AUTH,
                "nothing to bind to",
            );
        }
        refused(
            log_in_with("md5user", "require").await,
            codes::AUTH,
            "md5 cannot be bound",
        );
        refused(
            log_in_with("clear", "require").await,
            codes::AUTH,
            "a password cannot be bound",
        );
        refused(
            log_in_with("trusted", "require").await,
            codes::AUTH,
            "trust cannot be bound",
        );
        let plain = base(cluster, "scram", "sslmode=disable channel_binding=require");
        refused(log_in(&plain).await, codes::AUTH, "no TLS to bind to");
    }
}

async fn log_in_owned(conninfo: String) -> hardstorage_report::Result<hardstorage_replication::Connected> {
    log_in(&conninfo).await
}

/// The certificate that everybody makes first: it vouches for itself, is marked as an authority and has only a common name.
#[tokio::test]
async fn a_self_signed_certificate_is_its_own_root() {
    let pair = self_signed("db1.test");
    let authority = Authority::new("clients", &PKCS_ECDSA_P256_SHA256);
    let scratch = Scratch::new();
    let root = scratch.path("root.crt");
    fs::write(&root, &pair.certificate).unwrap();
    let cluster = tls_server(18, |_| pair, &authority.pem);
    let keywords = |mode: &str, host: &str| {
        base(
            &cluster,
            "sslonly",
            &format!("sslmode={mode} host={host} sslrootcert={}", root.display()),
        )
    };
    accepted(log_in(&keywords("verify-ca", "db2.test")).await, "verify-ca");
    accepted(log_in(&keywords("verify-full", "db1.test")).await, "verify-full");
    refused(
        log_in(&keywords("verify-full", "db2.test")).await,
        codes::TLS,
        "another name",
    );
    fs::write(&root, self_signed("db1.test").certificate).unwrap();
    refused(
        log_in(&keywords("verify-full", "db1.test")).await,
        codes::TLS,
        "another of the same name",
    );
}

/// A server with no TLS at all.
#[tokio::test]
async fn a_server_without_tls() {
    let cluster = crate::login::server(18);
    assert!(!accepted(log_in(&base(&cluster, "plainonly", "sslmode=prefer")).await, "prefer").encrypted);
    let error = refused(
        log_in(&base(&cluster, "plainonly", "sslmode=require")).await,
        codes::TLS,
        "require",
    );
    assert!(error.to_string().contains("does not offer TLS"), "{error}");
    assert!(ConnInfo::parse(&base(&cluster, "plainonly", "sslnegotiation=direct")).is_err());
}
