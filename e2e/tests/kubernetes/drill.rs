//! Drills: a backup is proven on the node that it came from, and nobody notices but by the proof.

use std::time::Duration;

use hardstorage_e2e::kubernetes::{Database, Namespace, Operator, is, is_for};
use serde_json::Value;

use crate::restore::{self, until_over};
use crate::site::{PATIENCE, SOON, Site, step};

/// A drill of a small database.
const DRILL: Duration = Duration::from_mins(6);
/// What one leaves nothing of.
const KINDS: [&str; 5] = ["jobs", "pods", "pvc", "configmaps", "networkpolicies"];

/// A drill of `shop`; `more` is YAML of its destination, `spec` of its spec.
fn object(name: &str, more: &str, spec: &str) -> String {
    restore::object(name, &format!("  destination: {{drill: {{{more}}}}}\n{spec}"))
}

fn check(name: &str, sql: &str) -> String {
    format!("{{name: {name}, database: app, sql: \"{sql}\", expect: t}}")
}

#[track_caller]
fn until_nothing_is_left(namespace: &Namespace, name: &str) {
    let selector = format!("hardstorage.dev/restore={name}");
    namespace.until("nothing of the drill is left", PATIENCE, |namespace| {
        let left = KINDS.iter().flat_map(|kind| namespace.list(kind, &selector));
        (left.count() == 0).then_some(())
    });
    namespace.until_object(&format!("hsrs/{name}"), "nothing holds it", SOON, |object| {
        object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
    });
}

/// A database `origin` whose table `news` the database `app` subscribes to, through a slot that was made by hand.
fn subscribe(site: &Site) {
    let (namespace, database) = (&site.namespace, &site.database);
    database.sql(namespace, "CREATE ROLE reader LOGIN REPLICATION PASSWORD 'reader'");
    database.sql(namespace, "CREATE DATABASE origin");
    for sql in [
        "CREATE TABLE news(n int PRIMARY KEY); INSERT INTO news VALUES (1); GRANT SELECT ON news TO reader",
        "CREATE PUBLICATION news FOR TABLE news",
        "SELECT pg_create_logical_replication_slot('news', 'pgoutput')",
    ] {
        database.psql(namespace, "origin", sql).ok();
    }
    for sql in [
        "CREATE TABLE news(n int PRIMARY KEY)",
        "CREATE SUBSCRIPTION news CONNECTION 'host=shop-rw dbname=origin user=reader password=reader' \
         PUBLICATION news WITH (create_slot = false, slot_name = 'news')",
    ] {
        database.psql(namespace, "app", sql).ok();
    }
    until_value(site, "app", "SELECT count(*) FROM news", "1");
}

#[track_caller]
fn until_value(site: &Site, database: &str, sql: &str, wanted: &str) {
    site.namespace.until(&format!("{sql}: {wanted}"), SOON, |namespace| {
        let answer = site.database.psql(namespace, database, sql);
        (answer.code == Some(0) && answer.text() == wanted).then_some(())
    });
}

/// How far the subscription's slot is, and whether somebody has it.
#[track_caller]
fn slot(site: &Site) -> String {
    let sql = "SELECT confirmed_flush_lsn, restart_lsn, active FROM pg_replication_slots WHERE slot_name = 'news'";
    site.database.sql(&site.namespace, sql)
}

/// What the operator shows of the last drill of the Deployment `shop`.
#[track_caller]
fn metric(site: &Site) -> String {
    let operator = Operator::get();
    let leader = operator.until_led("somebody acts", |_| true);
    let path = format!("/api/v1/namespaces/pg-hardstorage/pods/{leader}:8080/proxy/metrics");
    let all = operator.kubectl(&["get", "--raw", &path]).ok().text().to_owned();
    let of = format!(
        "kind=\"Deployment\",namespace=\"{}\",name=\"shop\"",
        site.namespace.name()
    );
    let line = all
        .lines()
        .find(|line| line.starts_with("pg_hardstorage_operator_last_drill_passed") && line.contains(&of));
    line.and_then(|line| line.rsplit(' ').next())
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_backup_is_proven_and_nobody_notices() {
    let site = Site::streaming("e2e-drill", 1);
    let (namespace, database) = (&site.namespace, &site.database);
    subscribe(&site);
    database
        .psql(
            namespace,
            "app",
            "CREATE TABLE orders(n int PRIMARY KEY); INSERT INTO orders VALUES (1), (2)",
        )
        .ok();
    let id = site.back_up("first");
    database.psql(namespace, "app", "INSERT INTO orders VALUES (3)").ok();
    let moment = database.now(namespace);
    // From here on the true subscriber rests, and there is something to take away from it.
    database
        .psql(
            namespace,
            "app",
            "INSERT INTO orders VALUES (4); ALTER SUBSCRIPTION news DISABLE",
        )
        .ok();
    database.psql(namespace, "origin", "INSERT INTO news VALUES (2)").ok();
    site.until_archived();
    namespace.until("the true subscriber rests", SOON, |_| {
        slot(&site).ends_with("|f").then_some(())
    });
    let (before, stream) = (slot(&site), site.stream());

    step("restored to the moment, asked, passed");
    let checks = [
        check("rows", "select count(*) = 3 from orders"),
        check(
            "harmless",
            "select count(*) = 1 and not bool_or(subenabled) from pg_subscription",
        ),
        check("standby", "select pg_is_in_recovery()"),
    ];
    let more = format!("checks: [{}]", checks.join(", "));
    namespace.apply(&object(
        "proof",
        &more,
        &format!("  recoveryTarget: {{time: \"{moment}\"}}\n"),
    ));
    let done = until_over(namespace, "proof");
    assert_eq!(done["status"]["phase"], "Completed", "{done:#}");
    let drill = &done["status"]["drill"];
    assert_eq!(drill["result"], "Passed", "{done:#}");
    assert!(drill["indexesChecked"].as_i64() > Some(50), "{done:#}");
    assert!(drill["duration"].is_string(), "{done:#}");
    until_nothing_is_left(namespace, "proof");

    step("nobody has noticed, and everybody can read it");
    assert_eq!(slot(&site), before, "the publisher's slot");
    assert_eq!(site.stream(), stream);
    assert_eq!(
        database
            .psql(namespace, "app", "SELECT count(*) FROM orders")
            .ok()
            .text(),
        "4"
    );
    let first = namespace.get("hsbk/first");
    assert_eq!(first["status"]["backupID"], id.as_str());
    assert!(is_for(&first, "Verified", "True", "DrillPassed"), "{first:#}");
    assert_eq!(namespace.get("hsdep/shop")["status"]["lastDrill"]["result"], "Passed");
    assert_eq!(metric(&site), "1");

    step("a check that is not true: the copy waits for a look, and then goes");
    let more = format!(
        "keepOnFailure: 40s, checks: [{}, {}, {{name: gone, database: app, sql: select 1 from nowhere}}]",
        check("rows", "select count(*) = 4 from orders"),
        check("wrong", "select count(*) = 5 from orders"),
    );
    namespace.apply(&object("wrong", &more, ""));
    let failed = until_over(namespace, "wrong");
    let failure = &failed["status"]["failure"];
    assert_eq!(failure["code"], "verify.drill_failed", "{failed:#}");
    let message = failure["message"].as_str().unwrap();
    for words in [
        "2 checks failed",
        "wrong in app: expected t, got f",
        "gone in app: ",
        "nowhere",
    ] {
        assert!(message.contains(words), "{message}");
    }
    assert!(namespace.find("pvc/wrong-drill").is_some(), "{failed:#}");
    let first = namespace.until_object("hsbk/first", "it says so", SOON, |object| {
        is(object, "Verified", "False")
    });
    assert!(first["status"]["backupID"].is_string());
    namespace.until("the metric says so", SOON, |_| (metric(&site) == "0").then_some(()));
    until_nothing_is_left(namespace, "wrong");
    assert_eq!(
        namespace.get("hsrs/wrong")["status"]["phase"],
        "Failed",
        "what was wrong is still told"
    );
    assert_eq!(slot(&site), before, "the publisher's slot");

    step("deleted half-way it takes everything along at once");
    namespace.apply(&object("broken-off", "", ""));
    namespace.until_object("hsrs/broken-off", "it has begun", PATIENCE, |object| {
        object["metadata"]["finalizers"].is_array()
    });
    namespace.kubectl(&["delete", "hsrs/broken-off", "--timeout=120s"]).ok();
    namespace.until("nothing of it is left", PATIENCE, |namespace| {
        let left = KINDS
            .iter()
            .flat_map(|kind| namespace.list(kind, "hardstorage.dev/restore=broken-off"));
        (left.count() == 0).then_some(())
    });

    step("on a schedule, for a moment that nobody chose");
    namespace.apply(&format!(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: BackupSchedule\nmetadata: {{name: shop}}\nspec:\n  \
         deploymentRef: {{name: shop}}\n  schedule: \"0 0 1 1 *\"\n  history: {{successful: 0}}\n  drill:\n    schedule: \"* * * * *\"\n    \
         checks: [{}]\n",
        check("rows", "select count(*) between 2 and 4 from orders")
    ));
    let passed = |object: &Value| is(object, "LastDrillPassed", "True");
    let schedule = namespace.until_object("hssched/shop", "a drill has passed", DRILL, passed);
    let name = schedule["status"]["drill"]["last"]["name"].as_str().unwrap().to_owned();
    let made = namespace.get(&format!("hsrs/{name}"));
    assert!(made["status"]["target"]["time"].is_string(), "{made:#}");
    assert_eq!(made["metadata"]["ownerReferences"][0]["kind"], "BackupSchedule");
    step("the next one takes its place");
    namespace.until_gone(&format!("hsrs/{name}"), DRILL);
    namespace.until("the Deployment tells of it", SOON, |_| {
        (metric(&site) == "1").then_some(())
    });
    namespace.kubectl(&["delete", "hssched/shop", "--timeout=120s"]).ok();
    namespace.until("its drills go with it", PATIENCE, |namespace| {
        namespace
            .list("hsrs", "hardstorage.dev/schedule=shop")
            .is_empty()
            .then_some(())
    });
    assert_eq!(slot(&site), before, "the publisher's slot");
    site.nothing_is_lost();
}

#[test]
fn a_copy_with_a_tablespace_lies_on_one_claim() {
    let site = Site::around("e2e-drill-space", |namespace| {
        let more = "  tablespaces:\n  - {name: hot, storage: {size: 1Gi}}\n";
        Database::make_cloud_native_pg_of(namespace, "shop", 1, 18, more)
    });
    let (namespace, database) = (&site.namespace, &site.database);
    database.until_healthy(namespace, 1);
    site.protect("");
    let made = "CREATE TABLE orders(n int PRIMARY KEY) TABLESPACE hot; INSERT INTO orders VALUES (1)";
    namespace.until("the tablespace is there", PATIENCE, |namespace| {
        (database.psql(namespace, "app", made).code == Some(0)).then_some(())
    });
    site.back_up("first");
    database.psql(namespace, "app", "INSERT INTO orders VALUES (2)").ok();
    site.until_archived();
    let checks = [
        check("rows", "select count(*) = 2 from orders"),
        check(
            "place",
            "select pg_tablespace_location(oid) like '/var/lib/postgresql/data/%' from pg_tablespace where spcname = 'hot'",
        ),
    ];
    namespace.apply(&object("proof", &format!("checks: [{}]", checks.join(", ")), ""));
    let done = until_over(namespace, "proof");
    assert_eq!(done["status"]["drill"]["result"], "Passed", "{done:#}");
    until_nothing_is_left(namespace, "proof");
}
