//! The harness itself: a story that fails because a server was not what it claimed to be would tell nothing.

use std::path::PathBuf;

use hardstorage_e2e::{Cluster, Ledger, ObjectStore, get, run, unprivileged};

/// The introduction's role gets in as its single line allows, and in no other way.
#[test]
fn cluster_is_the_introductions() {
    let mut cluster = Cluster::builder(18).start();
    assert_eq!(cluster.value("SHOW data_checksums"), "on");
    assert_eq!(
        cluster.value("SELECT rolreplication AND NOT rolsuper FROM pg_roles WHERE rolname = 'pgbackup'"),
        "t"
    );

    let as_pgbackup = |database: &str, sql: &str| {
        let mut psql = cluster.tool_command("psql");
        let conninfo = format!("{}?{database}", cluster.connection());
        psql.args(["-X", "-A", "-t", "-d", &conninfo, "-c", sql]);
        run(psql, std::time::Duration::from_secs(30))
    };
    let identified = as_pgbackup("replication=true", "IDENTIFY_SYSTEM").ok();
    assert!(identified.text().contains('|'), "{identified}");
    // An ordinary connection finds no line in pg_hba.conf; the text may be in any language, the failure is not.
    assert_ne!(as_pgbackup("application_name=e2e", "SELECT 1").code, Some(0));

    Ledger::create(&cluster);
    let before = Ledger::add(&cluster, "before the crash", 100);
    cluster.kill();
    cluster.start();
    assert_eq!(Ledger::read(&cluster), before);
}

#[test]
fn standby_follows_and_takes_over() {
    let mut primary = Cluster::builder(18).start();
    Ledger::create(&primary);
    let mut standby = primary.standby();
    let written = Ledger::add(&primary, "replicated", 100);
    primary.until_acknowledged();
    primary.stop();
    standby.promote();
    assert_eq!(Ledger::read(&standby), written);
    assert_eq!(
        standby.value("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"),
        "00000002"
    );
}

#[test]
fn identities_and_segment_sizes_differ_when_asked() {
    let identity = "SELECT system_identifier FROM pg_control_system()";
    let usual = Cluster::builder(15).start();
    let own = Cluster::builder(15).wal_segment_size(1).start();
    assert_ne!(usual.value(identity), own.value(identity));
    assert_eq!(own.value("SHOW wal_segment_size"), "1MB");
    assert_ne!(usual.address(), own.address());
}

/// Nothing outlives a test.
#[test]
fn dropped_server_leaves_nothing() {
    let cluster = Cluster::builder(18).start();
    let (data, address) = (cluster.data().to_owned(), cluster.address());
    let postmaster: u32 = std::fs::read_to_string(data.join("postmaster.pid"))
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(PathBuf::from(format!("/proc/{postmaster}")).exists());
    drop(cluster);
    assert!(!data.exists());
    assert!(!PathBuf::from(format!("/proc/{postmaster}")).exists());
    assert!(get(address, "/").is_err());
}

#[test]
fn programs_run_without_rights_and_environment() {
    let mut id = unprivileged("/usr/bin/id");
    id.arg("-u");
    assert_ne!(run(id, std::time::Duration::from_secs(10)).ok().text(), "0");
    let environment = run(unprivileged("/usr/bin/env"), std::time::Duration::from_secs(10)).ok();
    assert!(!environment.stdout.contains("HOME="), "{environment}");
}

#[test]
fn object_stores_answer() {
    for store in [ObjectStore::minio(), ObjectStore::moto(), ObjectStore::s3s_fs()] {
        store.bucket("backups");
        let url = store.url("backups/prefix");
        assert!(url.starts_with("s3://backups/prefix?region="), "{url}");
        assert!(url.contains(&store.endpoint()), "{url}");
    }
}
