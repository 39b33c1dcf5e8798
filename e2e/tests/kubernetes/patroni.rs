//! A cluster that Patroni runs: the leader is found by its label, the slot is in Patroni's configuration, and a switchover is
//! followed.

use hardstorage_e2e::kubernetes::{Bucket, Database, Namespace, Operator, Outside};
use serde_json::Value;

use crate::site::{PATIENCE, SOON, repository, step};

/// Patroni's own replication role.
pub const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: replication}\n\
                      stringData: {username: standby, password: for-tests-only}\n";
/// The Deployment `orders` of it.
pub const DEPLOYMENT: &str = "apiVersion: hardstorage.dev/v1alpha1\nkind: Deployment\nmetadata: {name: orders}\nspec:\n  \
    source:\n    patroni:\n      scope: orders\n      \
    selector: {matchLabels: {application: patroni, cluster-name: orders}}\n      \
    credentials: {secretRef: {name: replication}}\n      tls: {mode: Disable}\n  repositoryRef: {name: main}\n";
const ROWS: &str = "SELECT count(*) || ' ' || md5(string_agg(note, ',' ORDER BY id)) FROM ledger";

#[test]
fn a_switchover_is_followed() {
    Operator::get();
    let namespace = Namespace::new("e2e-patroni");
    let bucket = Bucket::start(&namespace);
    let database = Database::patroni(&namespace);
    namespace.apply(SECRET);
    namespace.apply(&repository(&bucket.url("main")));
    namespace.apply(DEPLOYMENT);
    namespace.until_condition("hsrepo/main", "Ready", PATIENCE);
    namespace.until_condition("hsdep/orders", "Ready", PATIENCE);
    let slot = database.slots(&namespace);
    assert_eq!(slot.len(), 1, "{slot:?}");
    assert!(
        configured(&namespace, &slot[0]),
        "the slot is not in Patroni's configuration"
    );

    step("rows before and after a backup, and a switchover");
    let fill = "INSERT INTO ledger (note) SELECT md5(random()::text) FROM generate_series(1, 500)";
    database.sql(
        &namespace,
        "CREATE TABLE ledger (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL)",
    );
    database.sql(&namespace, fill);
    namespace.apply(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: Backup\nmetadata: {name: first}\nspec:\n  deploymentRef: {name: orders}\n",
    );
    namespace.wait("hsbk/first", "jsonpath={.status.phase}=Completed", PATIENCE);
    database.switch_over(&namespace);
    database.sql(&namespace, fill);
    database.until_archived(&namespace, &slot[0], PATIENCE);
    let second = |object: &Value| object["status"]["stream"]["timeline"] == 2;
    namespace.until_object("hsdep/orders", "it is on the new timeline", PATIENCE, second);
    let wanted = database.sql(&namespace, ROWS);

    step("from outside: no gap, and every row");
    let (_forward, url) = bucket.outside(&namespace);
    let outside = Outside::new(url("main"));
    outside.take(&namespace, "s3");
    outside.take(&namespace, "main-kek");
    outside.run(&["wal", "audit", "e2e-patroni.orders"]).ok();
    let restored = outside.restore("e2e-patroni.orders", "latest", &["--to-latest"]);
    assert_eq!(restored.value("postgres", ROWS), wanted);
    drop(restored);

    step("the Deployment goes: slot and configuration with it");
    namespace.delete(&["hsdep/orders"]);
    namespace.until_gone("hsdep/orders", PATIENCE);
    assert!(!configured(&namespace, &slot[0]), "Patroni would make the slot again");
    namespace.until("no member has the slot", SOON, |namespace| {
        database.slots(namespace).is_empty().then_some(())
    });
    let healthy = namespace.get("statefulset/orders");
    assert_eq!(healthy["status"]["readyReplicas"], 2, "{healthy:#}");
}

/// Whether Patroni's own configuration names the slot.
#[track_caller]
fn configured(namespace: &Namespace, slot: &str) -> bool {
    let words = ["patronictl", "-c", "/etc/patroni/patroni.yaml", "show-config"];
    namespace.exec("orders-0", "patroni", &words).ok().stdout.contains(slot)
}
