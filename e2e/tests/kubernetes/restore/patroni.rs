//! A cluster that Patroni runs, lost with all of its claims: it comes back at the moment that was asked for, when its first
//! claim is filled and its owner starts it again. One that lives is not touched.

use hardstorage_e2e::kubernetes::{Bucket, Database, Namespace, Operator, Outside, condition};
use serde_json::Value;

use super::{ASK, at, until_completed, until_over};
use crate::patroni::{DEPLOYMENT, SECRET};
use crate::site::{PATIENCE, repository, step};

const INTO: &str = "  destination: {patroni: {statefulSet: orders, claim: data}}\n";

/// A Restore of the Deployment `orders`.
fn object(name: &str, more: &str) -> String {
    super::object(name, more).replace("{name: shop}", "{name: orders}")
}

fn backup(name: &str) -> String {
    format!(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: Backup\nmetadata: {{name: {name}}}\nspec:\n  \
         deploymentRef: {{name: orders}}\n"
    )
}

/// Refused for this reason.
#[track_caller]
fn refused(namespace: &Namespace, name: &str, code: &str) {
    namespace.apply(&object(name, INTO));
    let object = until_over(namespace, name);
    assert_eq!(object["status"]["phase"], "Refused", "{object:#}");
    assert_eq!(object["status"]["failure"]["code"], code, "{object:#}");
}

/// The commands in a sentence.
fn commands(text: &str) -> Vec<Vec<String>> {
    let parts = text
        .split("; ")
        .filter_map(|part| Some(&part[part.find("kubectl ")?..]));
    parts
        .map(|line| line.split_whitespace().skip(1).map(str::to_owned).collect())
        .collect()
}

#[test]
fn a_lost_cluster_is_started_on_the_claim_that_was_filled() {
    Operator::get();
    let namespace = Namespace::new("e2e-patroni-back");
    let bucket = Bucket::start(&namespace);
    let database = Database::patroni(&namespace);
    namespace.apply(SECRET);
    namespace.apply(&repository(&bucket.url("main")));
    namespace.apply(DEPLOYMENT);
    namespace.until_condition("hsdep/orders", "Ready", PATIENCE);
    let slot = database.slots(&namespace).remove(0);

    step("rows before the backup, after it, on another timeline; a moment; and a mistake");
    let history = |n: u32, what: &str| {
        database.sql(&namespace, &format!("INSERT INTO history VALUES ({n}, '{what}')"));
    };
    database.sql(&namespace, "CREATE TABLE history(n int, what text)");
    history(1, "before the backup");
    namespace.apply(&backup("first"));
    namespace.wait("hsbk/first", "jsonpath={.status.phase}=Completed", PATIENCE);
    history(2, "after the backup");
    database.switch_over(&namespace);
    database.until_healthy(&namespace, 2);
    history(3, "on another timeline");
    let rows = database.sql(&namespace, ASK);
    let moment = database.now(&namespace);
    database.sql(&namespace, "DELETE FROM history");
    // More than the lag at which Patroni lets a member lead.
    let much = "CREATE TABLE much AS SELECT md5(n::text) FROM generate_series(1, 100000) n";
    database.sql(&namespace, much);
    database.until_archived(&namespace, &slot, PATIENCE);

    step("a cluster that runs, and claims that are there, are not touched");
    let uid = |name: &str| namespace.get(name)["metadata"]["uid"].clone();
    let claims = ["pvc/data-orders-0", "pvc/data-orders-1"].map(uid);
    refused(&namespace, "over-a-cluster", "DestinationInUse");
    assert_eq!(database.sql(&namespace, "SELECT count(*) FROM much"), "100000");
    namespace.kubectl(&["scale", "statefulset/orders", "--replicas=0"]).ok();
    namespace.until("its pods are gone", PATIENCE, |namespace| {
        namespace.list("pods", &database.selector()).is_empty().then_some(())
    });
    refused(&namespace, "over-claims", "DestinationUsed");
    assert_eq!(["pvc/data-orders-0", "pvc/data-orders-1"].map(uid), claims);

    step("all of it is lost; what Patroni has kept in Kubernetes is in the way, and the condition says what to do");
    namespace.delete(&["statefulset/orders", "pvc/data-orders-0", "pvc/data-orders-1"]);
    namespace.apply(&object("back", &(at(&moment) + INTO)));
    let waits = namespace.until_object("hsrs/back", "it waits", PATIENCE, |object| {
        condition(object, "Ready").is_some_and(|ready| ready["reason"] == "PatroniStateLeft")
    });
    assert!(namespace.find("pvc/data-orders-0").is_none(), "{waits:#}");
    let said = condition(&waits, "Ready").unwrap()["message"]
        .as_str()
        .unwrap()
        .to_owned();
    let commands = commands(&said);
    assert!(!commands.is_empty(), "{said}");
    for words in &commands {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        namespace.kubectl(&words).ok();
    }

    step("its first claim is filled, and nothing is started");
    let done = until_completed(&namespace, "back");
    assert_eq!(done["status"]["created"][0]["name"], "data-orders-0", "{done:#}");
    let next = done["status"]["next"]["text"].as_str().unwrap();
    assert!(next.contains("replicas: 1"), "{next}");
    assert!(namespace.find("statefulset/orders").is_none());
    let image = &done["status"]["plan"]["image"];
    assert!(
        image.as_str().is_some_and(|image| image.contains("patroni")),
        "{done:#}"
    );

    step("its owner starts it: one member, then two");
    let database = Database::patroni_of(&namespace, 1);
    assert_eq!(database.sql(&namespace, ASK), rows);
    assert_eq!(database.sql(&namespace, "SELECT to_regclass('much') IS NULL"), "t");
    let archiving = "SELECT current_setting('archive_mode') || current_setting('synchronous_standby_names')";
    assert_eq!(database.sql(&namespace, archiving), "off");
    let database_of_two = Database::patroni_of(&namespace, 2);
    assert_eq!(database_of_two.sql(&namespace, ASK), rows);

    step("it is protected as before, on a timeline of its own, with nothing missing");
    let on_new = |object: &Value| object["status"]["stream"]["timeline"].as_i64() > Some(2);
    namespace.until_object("hsdep/orders", "it streams the new timeline", PATIENCE, on_new);
    namespace.until_condition("hsdep/orders", "Streaming", PATIENCE);
    database.sql(&namespace, "INSERT INTO history VALUES (4, 'after the restore')");
    database.until_archived(&namespace, &slot, PATIENCE);
    namespace.apply(&backup("second"));
    namespace.wait("hsbk/second", "jsonpath={.status.phase}=Completed", PATIENCE);
    let wanted = database.sql(&namespace, ASK);
    let (_forward, url) = bucket.outside(&namespace);
    let outside = Outside::new(url("main"));
    outside.take(&namespace, "s3");
    outside.take(&namespace, "main-kek");
    outside.run(&["wal", "audit", "e2e-patroni-back.orders"]).ok();
    let restored = outside.restore("e2e-patroni-back.orders", "latest", &["--to-latest"]);
    assert_eq!(restored.value("postgres", ASK), wanted);
    drop(restored);

    step("applied again it is refused");
    namespace.kubectl(&["delete", "hsrs/back", "--timeout=60s"]).ok();
    refused(&namespace, "back", "DestinationInUse");
    assert_eq!(database.sql(&namespace, ASK), wanted);
}
