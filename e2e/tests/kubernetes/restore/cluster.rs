//! Into a new Cluster of CloudNativePG, which is an ordinary one afterwards.

use hardstorage_e2e::kubernetes::Database;

use super::{ASK, ROWS, at, before_a_mistake, into_cluster, object, until_completed, until_over};
use crate::site::{PATIENCE, Site, deployment, step};

#[test]
fn a_cluster_comes_back_at_the_moment_before_a_mistake() {
    let site = Site::streaming("e2e-restore", 2);
    let namespace = &site.namespace;
    site.database
        .psql(
            namespace,
            "app",
            "CREATE TABLE mine AS SELECT 7 AS n; ALTER TABLE mine OWNER TO app",
        )
        .ok();
    let moment = before_a_mistake(&site);

    step("first the plan, and nothing else");
    let more = at(&moment) + &into_cluster("shop-back");
    namespace.apply(&object("back", &format!("{more}  dryRun: true\n")));
    let planned = namespace.until_object("hsrs/back", "it is planned", PATIENCE, |object| {
        object["status"]["phase"] == "Planned"
    });
    let backup = planned["status"]["target"]["backupID"].clone();
    assert!(backup.is_string(), "{planned:#}");
    namespace.until_condition("hsrs/back", "Ready", PATIENCE);
    assert!(namespace.find("pvc/shop-back-1").is_none());

    step("approved: exactly that");
    namespace.patch("hsrs/back", r#"{"spec":{"dryRun":false}}"#);
    let done = until_completed(namespace, "back");
    assert_eq!(done["status"]["target"]["backupID"], backup);
    assert!(done["status"]["recovered"]["lsn"].is_string(), "{done:#}");
    let back = Database::of_cloud_native_pg("shop-back");
    back.until_healthy(namespace, 2);
    assert_eq!(back.sql(namespace, ASK), ROWS);
    assert_eq!(site.database.sql(namespace, ASK), "3|a mistake");

    step("its owner logs in with the Secret of the new Cluster, and writes");
    let secret = |key: &str| {
        let found = namespace.get("secret/shop-back-app")["data"][key].clone();
        found.as_str().unwrap().to_owned()
    };
    let url = format!("$(echo {} | base64 -d)", secret("uri"));
    let pod = back.primary(namespace);
    let script = format!("psql -XAtq \"{url}\" -c 'INSERT INTO mine VALUES (8)' -c 'SELECT sum(n) FROM mine'");
    assert_eq!(
        namespace.exec(&pod, "postgres", &["sh", "-c", &script]).ok().text(),
        "15"
    );

    step("nothing of it is ours");
    for name in ["clusters.postgresql.cnpg.io/shop-back", "pvc/shop-back-1"] {
        let owners = namespace.get(name)["metadata"]["ownerReferences"].to_string();
        assert!(!owners.contains("hardstorage.dev"), "{name}: {owners}");
    }
    namespace.kubectl(&["delete", "hsrs/back", "--timeout=60s"]).ok();
    assert_eq!(back.sql(namespace, ASK), ROWS);

    step("applied again it is refused, and touches nothing");
    namespace.apply(&object("back", &more));
    let refused = until_over(namespace, "back");
    assert_eq!(refused["status"]["phase"], "Refused", "{refused:#}");
    assert_eq!(back.sql(namespace, ASK), ROWS);

    step("protected as a lineage of its own, beside the one that it came from");
    let of_the_new = deployment("shop-back", "").replace("metadata: {name: shop}", "metadata: {name: shop-back}");
    namespace.apply(&of_the_new);
    namespace.until_condition("hsdep/shop-back", "Streaming", PATIENCE);
    namespace.apply(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: Backup\nmetadata: {name: of-the-new}\nspec:\n  \
         deploymentRef: {name: shop-back}\n",
    );
    site.until_completed("of-the-new");
    assert!(site.stream().contains(' '));
    let (_forward, outside) = site.outside();
    for name in [site.name(), format!("{}.shop-back", namespace.name())] {
        outside.run(&["wal", "audit", &name]).ok();
    }
}

#[test]
fn a_moment_across_a_switchover_and_one_that_cannot_be_reached() {
    let site = Site::streaming("e2e-across", 2);
    let namespace = &site.namespace;
    site.database.sql(namespace, "CREATE TABLE history(n int, what text)");
    site.back_up("first");
    site.database
        .sql(namespace, "INSERT INTO history VALUES (1, 'before the backup')");
    site.database.switch_over(namespace);
    site.database.until_healthy(namespace, 2);
    site.database
        .sql(namespace, "INSERT INTO history VALUES (2, 'after the backup')");
    let moment = site.database.now(namespace);
    site.database.sql(namespace, "DELETE FROM history");
    site.until_archived();

    step("on the other side of it");
    namespace.apply(&object("across", &(at(&moment) + &into_cluster("shop-across"))));
    let done = until_completed(namespace, "across");
    assert!(done["status"]["recovered"]["timeline"].as_i64() > Some(2), "{done:#}");
    let back = Database::of_cloud_native_pg("shop-across");
    back.until_healthy(namespace, 2);
    assert_eq!(back.sql(namespace, ASK), ROWS);

    step("before there was a backup: what can be reached is said");
    namespace.apply(&object(
        "early",
        &(at("2020-01-01T00:00:00Z") + &into_cluster("shop-early")),
    ));
    let refused = until_over(namespace, "early");
    assert_eq!(refused["status"]["phase"], "Refused", "{refused:#}");
    assert!(refused["status"]["reachable"]["from"].is_string(), "{refused:#}");
    assert!(refused["status"]["failure"]["hint"].is_string(), "{refused:#}");
    assert!(namespace.find("pvc/shop-early-1").is_none());

    step("after the last commit: refused, and the nearest is taken where that is allowed");
    let late = at("2035-01-01T00:00:00Z");
    namespace.apply(&object("late", &(late.clone() + &into_cluster("shop-late"))));
    assert_eq!(until_over(namespace, "late")["status"]["phase"], "Refused");
    let nearest = late + &into_cluster("shop-near") + "  onUnreachable: Nearest\n  dryRun: true\n";
    namespace.apply(&object("nearest", &nearest));
    let planned = namespace.until_object("hsrs/nearest", "it is planned", PATIENCE, |object| {
        object["status"]["phase"] == "Planned"
    });
    let warnings = planned["status"]["plan"]["warnings"].to_string();
    assert!(warnings.contains("nearest"), "{planned:#}");
}
