//! What keeps a restore from being done: a key that is not there, WAL that is not there, a store that goes away meanwhile. It
//! is said, nothing is touched, and what passes is waited for.

use std::time::Duration;

use hardstorage_e2e::kubernetes::{Database, is};

use super::{at, before_a_mistake, into_claim, object, until_completed, until_over};
use crate::site::{PATIENCE, SOON, Site, step};

/// A server that removes WAL as soon as no slot wants it.
const KEEPS_NOTHING: &str =
    "  postgresql: {parameters: {wal_keep_size: 0MB, min_wal_size: 32MB, max_wal_size: 64MB}}\n";
/// The stream makes its slot again, and a backup behind the gap is seen.
const AGAIN: Duration = Duration::from_mins(4);

#[test]
fn a_moment_in_a_gap_is_refused() {
    let site = Site::around("e2e-gap", |namespace| {
        Database::make_cloud_native_pg_of(namespace, "shop", 1, 18, KEEPS_NOTHING)
    });
    let namespace = &site.namespace;
    site.database.until_healthy(namespace, 1);
    site.protect("");
    let before = before_a_mistake(&site);

    step("the stream rests, its slot is dropped, and the server lets go of WAL that nobody has");
    let slot = site.slot();
    namespace.patch("hsdep/shop", r#"{"spec":{"stream":{"paused":true}}}"#);
    namespace.until("nobody streams", PATIENCE, |_| {
        let active = "SELECT count(*) FROM pg_replication_slots WHERE active";
        (site.database.sql(namespace, active) == "0").then_some(())
    });
    site.database
        .sql(namespace, &format!("SELECT pg_drop_replication_slot('{slot}')"));
    site.database.sql(
        namespace,
        "CREATE TABLE unseen AS SELECT 1 AS n; SELECT pg_switch_wal(); CHECKPOINT",
    );
    let within = site.database.now(namespace);
    for _ in 0..8 {
        site.database.sql(
            namespace,
            "INSERT INTO history SELECT n, md5(n::text) FROM generate_series(1, 40000) AS n; SELECT pg_switch_wal(); CHECKPOINT",
        );
    }

    step("it goes on behind the gap, and a backup begins anew there");
    namespace.patch("hsdep/shop", r#"{"spec":{"stream":{"paused":false}}}"#);
    namespace.until_object("hsdep/shop", "the gap is told", AGAIN, |object| {
        object["status"]["recoverable"]["gaps"].as_i64() > Some(0) && is(object, "Streaming", "True")
    });
    site.back_up("behind");
    site.until_archived();

    step("a moment in it is refused, with what can be reached; one before it is not");
    namespace.apply(&object("within", &(at(&within) + &into_claim("within"))));
    let refused = until_over(namespace, "within");
    assert_eq!(refused["status"]["phase"], "Refused", "{refused:#}");
    assert!(refused["status"]["reachable"]["from"].is_string(), "{refused:#}");
    assert!(refused["status"]["failure"]["hint"].is_string(), "{refused:#}");
    assert!(namespace.find("pvc/within").is_none());
    namespace.apply(&object("before", &(at(&before) + &into_claim("before"))));
    until_completed(namespace, "before");
}

#[test]
fn what_goes_away_meanwhile_is_waited_for() {
    let site = Site::streaming("e2e-meanwhile", 1);
    let namespace = &site.namespace;
    let moment = before_a_mistake(&site);

    step("the key is not there: said, and nothing is made");
    let key = namespace.get("secret/main-kek");
    namespace.delete(&["secret/main-kek"]);
    // A node goes on handing out a Secret for a while that it knows.
    namespace
        .kubectl(&["annotate", "hsrepo/main", "hardstorage.dev/sync-now=without-the-key"])
        .ok();
    namespace.until_object("hsrepo/main", "the key is missed", PATIENCE, |object| {
        is(object, "KeyAvailable", "False")
    });
    let wanted = object("keyless", &(at(&moment) + &into_claim("keyless")));
    namespace.apply(&wanted);
    let told = namespace.until_object("hsrs/keyless", "it says what it lacks", PATIENCE, |object| {
        let conditions = object["status"]["conditions"].to_string();
        is(object, "Stalled", "True") && conditions.contains("key")
    });
    assert!(namespace.find("pvc/keyless").is_none(), "{told:#}");

    step("it is given back, and the restore goes on by itself");
    namespace.give_back(&key);
    until_completed(namespace, "keyless");

    step("the store goes when the plan is made, and comes back a minute later");
    namespace.apply(&object(
        "meanwhile",
        &(at(&moment) + &into_claim("meanwhile") + "  dryRun: true\n"),
    ));
    namespace.until_object("hsrs/meanwhile", "it is planned", PATIENCE, |object| {
        object["status"]["phase"] == "Planned"
    });
    namespace.kubectl(&["scale", "deployment/minio", "--replicas=0"]).ok();
    namespace.wait("deployment/minio", "jsonpath={.spec.replicas}=0", SOON);
    namespace.patch("hsrs/meanwhile", r#"{"spec":{"dryRun":false}}"#);
    namespace.until("its pod runs, and finds no store", PATIENCE, |namespace| {
        let pods = namespace.list("pods", "hardstorage.dev/restore=meanwhile,hardstorage.dev/role=restore");
        pods.iter().any(|pod| pod["status"]["phase"] == "Running").then_some(())
    });
    namespace.kubectl(&["scale", "deployment/minio", "--replicas=1"]).ok();
    until_completed(namespace, "meanwhile");
}
