//! Several hosts: which one is taken, and what is told when none can be.

use std::net::TcpListener;

use hardstorage_e2e::{Cluster, free_loopback};
use hardstorage_replication::{ConnInfo, ConnectMode, Environment, connect};
use hardstorage_report::{Retry, code::replication as codes};

use crate::login::{accepted, log_in, refused};

const PASSWORD: &str = "user=pgbackup password=pgbackup sslmode=disable";

fn address(cluster: &Cluster) -> String {
    cluster.address().ip().to_string()
}

#[tokio::test]
async fn the_right_server_of_a_cluster() {
    let primary = Cluster::builder(18).start();
    let standby = primary.standby();
    let closed = free_loopback(5432).to_string();
    let (p, s) = (address(&primary), address(&standby));
    for (hosts, target, expected) in [
        (format!("{closed},{s},{p}"), "any", Some(&s)),
        (format!("{s},{p}"), "primary", Some(&p)),
        (format!("{s},{p}"), "read-write", Some(&p)),
        (format!("{p},{s}"), "standby", Some(&s)),
        (format!("{p},{s}"), "read-only", Some(&s)),
        (format!("{p},{closed},{s}"), "prefer-standby", Some(&s)),
        (format!("{closed},{p}"), "prefer-standby", Some(&p)),
        (format!("{closed},{s}"), "primary", None),
        (format!("{p},{closed}"), "standby", None),
    ] {
        let what = format!("host={hosts} target_session_attrs={target}");
        let result = log_in(&format!("{PASSWORD} {what}")).await;
        if let Some(address) = expected {
            assert_eq!(accepted(result, &what).host.to_string(), format!("{address}:5432"));
            continue;
        }
        let error = refused(result, codes::UNREACHABLE, &what);
        assert_eq!(error.retry_advice(), Retry::Later, "a failover may come");
        for host in hosts.split(',') {
            assert!(error.to_string().contains(host), "{error}");
        }
    }
    // A primary that is told to be read-only.
    let read_only = format!("{PASSWORD} host={p} options='-c default_transaction_read_only=on' target_session_attrs=");
    accepted(log_in(&format!("{read_only}primary")).await, "primary");
    accepted(log_in(&format!("{read_only}read-only")).await, "read-only");
    refused(
        log_in(&format!("{read_only}read-write")).await,
        codes::UNREACHABLE,
        "read-write",
    );

    // A refused login ends the search: the next host would get the same password.
    let wrong = format!("user=pgbackup password=wrong sslmode=disable host={closed},{p},{s}");
    let error = refused(log_in(&wrong).await, codes::AUTH, "wrong password");
    assert!(
        error.to_string().contains(&closed) && error.to_string().contains(&p),
        "{error}"
    );
    assert!(!error.to_string().contains(&s), "{error}");
    assert_eq!(error.retry_advice(), Retry::Never);
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_passed_over() {
    let primary = Cluster::builder(18).start();
    let mut starting = primary.standby();
    starting.stop();
    // It refuses with 57P03 for as long as it lives.
    starting.set("hot_standby", "off");
    starting.start_without_waiting();
    let (p, s) = (address(&primary), address(&starting));
    let only = ConnInfo::parse(&format!("{PASSWORD} host={s}")).unwrap();
    let environment = Environment::empty();
    // First nobody listens (Now), then the server itself says that it is not ready (Later).
    let error = loop {
        let error = connect(&only, ConnectMode::Physical, &environment).await.unwrap_err();
        assert!(error.is(codes::UNREACHABLE), "{error:?}");
        if error.retry_advice() == Retry::Later {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(error.to_string().contains("57P03"), "{error}");
    let connected = accepted(log_in(&format!("{PASSWORD} host={s},{p}")).await, "the next host");
    assert_eq!(connected.host.to_string(), format!("{p}:5432"));
}

#[tokio::test]
async fn no_walsender_is_free() {
    let cluster = Cluster::builder(18).set("max_wal_senders", "1").start();
    let conninfo = format!("{PASSWORD} host={}", address(&cluster));
    let first = accepted(log_in(&conninfo).await, "the only one");
    let error = refused(log_in(&conninfo).await, codes::SENDERS_FULL, "one too many");
    assert_eq!(error.retry_advice(), Retry::Later);
    drop(first);
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    // The name has an IPv6 address too on most machines; only the port tells the server here.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = refused(
        log_in(&format!("host=localhost,localhost port={port} user=u")).await,
        codes::UNREACHABLE,
        "closed",
    );
    assert_eq!(error.retry_advice(), Retry::Now);
    assert!(error.to_string().matches("127.0.0.1").count() >= 2, "{error}");
    let error = refused(
        log_in("host=no-such-host.invalid user=u").await,
        codes::UNREACHABLE,
        "no such name",
    );
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
}
