//! A Cluster of several volumes, which sleeps while it is restored: every claim of it comes back, from what was recorded with
//! the backup and from a Cluster that is written anew.

use std::time::Duration;

use hardstorage_e2e::kubernetes::{Database, is_for};

use super::{ASK, ROWS, at, before_a_mistake, object, until_completed};
use crate::site::{PATIENCE, Site, step};

const SLEEP: Duration = Duration::from_mins(3);
/// A volume for WAL, and one for a tablespace.
const VOLUMES: &str = "  walStorage: {size: 1Gi}\n  tablespaces:\n  - {name: archive, storage: {size: 1Gi}}\n";
/// In the tablespace; what is summed was written before and after the first backup.
const ARCHIVED: &str = "SELECT sum(n) FROM archived";
const WHERE: &str =
    "SELECT spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE relname = 'archived'";

/// Its data, where each part of it lies, and that all of its claims are there.
#[track_caller]
fn assert_back(site: &Site, name: &str, instances: u32) {
    let namespace = &site.namespace;
    let back = Database::of_cloud_native_pg(name);
    back.until_healthy(namespace, instances);
    assert_eq!(back.sql(namespace, ASK), ROWS);
    assert_eq!(back.sql(namespace, ARCHIVED), "42");
    assert_eq!(back.sql(namespace, WHERE), "archive");
    for suffix in ["", "-wal", "-tbs-archive"] {
        for instance in 1..=instances {
            let claim = format!("pvc/{name}-{instance}{suffix}");
            assert!(namespace.find(&claim).is_some(), "there is no {claim}");
        }
    }
    let pod = back.primary(namespace);
    let link = ["readlink", "/var/lib/postgresql/data/pgdata/pg_wal"];
    let wal = namespace.exec(&pod, "postgres", &link).ok();
    assert_eq!(wal.text(), "/var/lib/postgresql/wal/pg_wal");
}

#[test]
fn every_volume_of_a_cluster_that_sleeps_comes_back() {
    let site = Site::around("e2e-volumes", |namespace| {
        Database::make_cloud_native_pg_of(namespace, "shop", 1, 18, VOLUMES)
    });
    let namespace = &site.namespace;
    site.database.until_healthy(namespace, 1);
    namespace.until("the tablespace is there", PATIENCE, |namespace| {
        let there = "SELECT count(*) FROM pg_tablespace WHERE spcname = 'archive'";
        (site.database.sql(namespace, there) == "1").then_some(())
    });
    site.protect("");
    site.database
        .sql(namespace, "CREATE TABLE archived TABLESPACE archive AS SELECT 20 AS n");
    let zeroth = site.back_up("zeroth");
    site.database.sql(namespace, "INSERT INTO archived VALUES (22)");
    let moment = before_a_mistake(&site);

    step("its source goes to sleep");
    let cluster = site.database.object();
    namespace
        .kubectl(&["annotate", "--overwrite", &cluster, "cnpg.io/hibernation=on"])
        .ok();
    namespace.until_condition(&cluster, "cnpg.io/hibernation", SLEEP);
    namespace.until_object("hsdep/shop", "it sleeps too", SLEEP, |object| {
        is_for(object, "Streaming", "False", "SourceHibernated")
    });

    step("from what was recorded with the backup");
    let recorded = "  destination: {cloudNativePG: {cluster: shop-again}}\n";
    namespace.apply(&object("again", &(at(&moment) + recorded)));
    until_completed(namespace, "again");
    assert_back(&site, "shop-again", 1);

    step("from a Cluster that is written anew, with a standby, and from the backup before the last");
    let image = Database::image();
    let written = format!(
        "  destination:\n    cloudNativePG:\n      cluster: shop-other\n      template:\n        metadata: {{labels: {{team: e2e}}}}\n        \
         spec:\n          instances: 2\n          imageName: {image}\n          storage: {{size: 2Gi}}\n          \
         walStorage: {{size: 1Gi}}\n          tablespaces: [{{name: archive, storage: {{size: 1Gi}}}}]\n"
    );
    namespace.apply(&object(
        "other",
        &(at(&moment) + &written + &format!("  backup: {zeroth}\n")),
    ));
    until_completed(namespace, "other");
    assert_back(&site, "shop-other", 2);
    let other = namespace.get("clusters.postgresql.cnpg.io/shop-other");
    assert_eq!(other["metadata"]["labels"]["team"], "e2e", "{other:#}");
    assert!(
        namespace.get(&cluster)["metadata"]["annotations"]["cnpg.io/hibernation"] == "on",
        "the source was woken up"
    );
}
