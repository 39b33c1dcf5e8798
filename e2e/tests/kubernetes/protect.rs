//! The main path: three objects protect a CloudNativePG cluster that runs under load; its primary is killed and switched;
//! and nothing that a client was told of is missing from a restore by somebody who has only the bucket and the key.

use std::collections::BTreeSet;

use hardstorage_e2e::kubernetes::Writer;

use crate::site::{PATIENCE, SCHEDULE, Site, deployment, missing, repository, step};

#[test]
fn nothing_acknowledged_is_missing() {
    let site = Site::new("e2e-protect", 2);
    let namespace = &site.namespace;

    step("three objects, while rows are written");
    let writer = Writer::start(namespace, &site.database);
    namespace.apply(&repository(&site.bucket.url("main")));
    namespace.apply(&deployment("shop", ""));
    namespace.apply(SCHEDULE);
    site.until_ready();
    namespace.until_condition("hssched/shop", "Ready", PATIENCE);

    step("the schedule takes a backup");
    let first = until_backup(&site, &BTreeSet::new());
    writer.until_more(namespace, 3);

    step("the pod of the primary is killed");
    site.database.kill_primary(namespace);
    writer.until_more(namespace, 5);
    site.database.until_healthy(namespace, 2);

    step("a switchover");
    site.database.switch_over(namespace);
    writer.until_more(namespace, 5);
    site.database.until_healthy(namespace, 2);

    step("the schedule goes on, and so does the stream");
    until_backup(&site, &first);
    namespace.patch("hssched/shop", r#"{"spec":{"suspend":true}}"#);
    let committed = writer.stop(namespace);
    assert!(committed.len() > 15, "that was no load: {committed:?}");
    let held = Writer::held(namespace, &site.database, "app");
    assert_eq!(
        missing(&committed, &held),
        BTreeSet::new(),
        "the cluster itself has lost these"
    );
    site.until_archived();

    step("from outside: no gap, and every batch");
    let (_forward, outside) = site.outside();
    outside.run(&["wal", "audit", &site.name()]).ok();
    let restored = outside.restore(&site.name(), "latest", &["--to-latest"]);
    assert_eq!(restored.batches("app"), held);
    drop(restored);

    step("a restore that ends earlier is told from one that has all");
    let backup = oldest_backup(&site);
    let early = outside.restore(&site.name(), "early", &["--to-lsn", &backup, "--to-action", "promote"]);
    assert_ne!(missing(&committed, &early.batches("app")), BTreeSet::new());
    drop(early);

    step("without the key there is nothing to read");
    outside.forget("kek");
    let answer = outside.run(&["list", &site.name()]);
    assert_ne!(answer.code, Some(0), "{answer}");
}

/// Waits until there is a finished backup that was not there before; all that there are.
#[track_caller]
fn until_backup(site: &Site, before: &BTreeSet<String>) -> BTreeSet<String> {
    site.namespace.until("another backup is there", PATIENCE, |namespace| {
        let done = namespace.list("hsbk", "").into_iter();
        let done = done.filter(|backup| backup["status"]["phase"] == "Completed");
        let ids = done.filter_map(|backup| backup["status"]["backupID"].as_str().map(str::to_owned));
        let ids: BTreeSet<String> = ids.collect();
        (ids.difference(before).count() > 0).then_some(ids)
    })
}

/// Where the first of the backups ends.
#[track_caller]
fn oldest_backup(site: &Site) -> String {
    let mut done = site.namespace.list("hsbk", "");
    done.retain(|backup| backup["status"]["phase"] == "Completed");
    done.sort_by_key(|backup| backup["status"]["startTime"].as_str().unwrap_or_default().to_owned());
    let first = done.first().unwrap_or_else(|| panic!("there is no backup"));
    first["status"]["endLSN"].as_str().unwrap().to_owned()
}
