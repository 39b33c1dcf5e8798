//! States of a CloudNativePG cluster that are no failure of ours: asleep, fenced, and following another cluster.

use std::time::Duration;

use hardstorage_e2e::kubernetes::{Database, is, is_for};
use serde_json::Value;

use crate::site::{PATIENCE, SOON, Site, step};

/// CloudNativePG stops a server at its ease.
const CHANGE: Duration = Duration::from_mins(3);
const ROWS: &str = "SELECT count(*) FROM ledger";

#[test]
fn a_cluster_that_sleeps_is_well() {
    let site = Site::streaming("e2e-asleep", 1);
    let namespace = &site.namespace;
    let cluster = site.database.object();
    site.back_up("awake");
    fill(&site, &site.database, 500);
    let stream = site.stream();

    step("it goes to sleep: that is no failure");
    annotate(&site, "cnpg.io/hibernation=on");
    namespace.until_condition(&cluster, "cnpg.io/hibernation", CHANGE);
    let asleep = |object: &Value| {
        is_for(object, "Streaming", "False", "SourceHibernated")
            && is_for(object, "Ready", "True", "SourceHibernated")
            && is(object, "Stalled", "False")
            && object["status"]["phase"] == "Hibernated"
    };
    namespace.until_object("hsdep/shop", "it sleeps too", SOON, asleep);
    site.wish("asleep");
    let waits = |object: &Value| is_for(object, "Ready", "False", "SourceHibernated");
    let wish = namespace.until_object("hsbk/asleep", "it waits", SOON, waits);
    assert!(is(&wish, "Stalled", "False"), "{wish:#}");

    step("it wakes up: the stream goes on, and what has waited is done");
    annotate(&site, "cnpg.io/hibernation=off");
    site.database.until_healthy(namespace, 1);
    site.until_ready();
    site.until_completed("asleep");
    fill(&site, &site.database, 300);
    site.until_archived();
    assert_eq!(site.stream(), stream, "the stream was started again");
    assert_restored(&site, "800");
}

#[test]
fn a_fenced_primary_is_waited_for() {
    let site = Site::streaming("e2e-fenced", 1);
    let namespace = &site.namespace;
    site.back_up("before");
    fill(&site, &site.database, 500);
    site.until_archived();
    let stream = site.stream();

    step("fenced: the server is stopped, and that is told");
    annotate(&site, r#"cnpg.io/fencedInstances=["*"]"#);
    let fenced = |object: &Value| {
        is_for(object, "SourceReady", "False", "Fenced")
            && is(object, "Streaming", "False")
            && is_for(object, "Ready", "False", "Fenced")
            && is(object, "Stalled", "False")
    };
    namespace.until_object("hsdep/shop", "it is known to be fenced", CHANGE, fenced);

    step("let free: it goes on by itself");
    annotate(&site, "cnpg.io/fencedInstances-");
    site.until_ready();
    fill(&site, &site.database, 300);
    site.until_archived();
    assert_eq!(site.stream(), stream, "the stream was started again");
    assert_restored(&site, "800");
}

/// The spec of a cluster that follows another one of its namespace, by its certificates.
fn follows(origin: &str) -> String {
    format!(
        "  replica: {{enabled: true, source: {origin}}}\n  bootstrap: {{pg_basebackup: {{source: {origin}}}}}\n  \
         externalClusters:\n  - name: {origin}\n    \
         connectionParameters: {{host: {origin}-rw, user: streaming_replica, dbname: postgres, sslmode: verify-full}}\n    \
         sslKey: {{name: {origin}-replication, key: tls.key}}\n    \
         sslCert: {{name: {origin}-replication, key: tls.crt}}\n    sslRootCert: {{name: {origin}-ca, key: ca.crt}}\n"
    )
}

#[test]
fn a_cluster_that_follows_another_is_streamed_and_so_is_its_promotion() {
    let mut origin = None;
    let site = Site::around("e2e-replica", |namespace| {
        origin = Some(Database::cloud_native_pg(namespace, "america", 1));
        Database::make_cloud_native_pg_of(namespace, "europe", 1, 18, &follows("america"))
    });
    let origin = origin.unwrap();
    let namespace = &site.namespace;
    site.database.until_healthy(namespace, 1);

    step("a standby is streamed, and backed up");
    site.protect("");
    let object = namespace.get("hsdep/shop");
    assert_eq!(object["status"]["source"]["mode"], "Standby", "{object:#}");
    fill(&site, &origin, 500);
    site.back_up("from-the-standby");
    fill(&site, &origin, 300);
    let written = origin.sql(namespace, "SELECT pg_current_wal_flush_lsn()");
    site.database
        .until_confirmed(namespace, &site.slot(), &written, PATIENCE);
    assert_eq!(origin.slots(namespace), [""; 0], "the origin was touched");
    assert_restored(&site, "800");

    step("it is promoted, and followed to its own timeline");
    let stream = site.stream();
    namespace.patch(&site.database.object(), r#"{"spec":{"replica":{"enabled":false}}}"#);
    // CloudNativePG starts the server again for an archive that is no longer to hold the WAL of others.
    let settled = "SELECT NOT pg_is_in_recovery() AND current_setting('archive_mode') = 'on'";
    namespace.until("it takes writes", CHANGE, |namespace| {
        (site.database.try_value(namespace, settled)? == "t").then_some(())
    });
    let promoted =
        |object: &Value| object["status"]["source"]["mode"] == "Primary" && object["status"]["stream"]["timeline"] == 2;
    namespace.until_object("hsdep/shop", "it streams a primary", PATIENCE, promoted);
    site.until_ready();
    fill(&site, &site.database, 200);
    site.until_archived();
    assert_eq!(site.stream(), stream, "the stream was started again");
    assert_restored(&site, "1000");
}

/// Adds rows to the table `ledger` of a server.
#[track_caller]
fn fill(site: &Site, database: &Database, rows: u32) {
    database.sql(
        &site.namespace,
        &format!(
            "CREATE TABLE IF NOT EXISTS ledger (note text); \
             INSERT INTO ledger SELECT md5(random()::text) FROM generate_series(1, {rows})"
        ),
    );
}

/// Writes an annotation on the Cluster, or takes it off.
#[track_caller]
fn annotate(site: &Site, annotation: &str) {
    let object = site.database.object();
    site.namespace
        .kubectl(&["annotate", &object, "--overwrite", annotation])
        .ok();
}

/// From outside there is no gap, and the last restore has so many rows.
#[track_caller]
fn assert_restored(site: &Site, rows: &str) {
    let (_forward, outside) = site.outside();
    outside.run(&["wal", "audit", &site.name()]).ok();
    let restored = outside.restore(&site.name(), "latest", &["--to-latest"]);
    assert_eq!(restored.value("postgres", ROWS), rows);
}
