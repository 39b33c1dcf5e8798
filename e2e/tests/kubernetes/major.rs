//! The cluster behind a name becomes another one: by CloudNativePG's major upgrade in place, which is followed by itself,
//! and by being deleted and made again, which somebody has to agree to. What was before stays restorable either way.

use std::time::Duration;

use hardstorage_e2e::kubernetes::{Database, Outside, is_for};
use serde_json::{Value, json};

use crate::site::{PATIENCE, SOON, Site, step};

/// `pg_upgrade`, and the start of the primary.
const UPGRADE: Duration = Duration::from_mins(5);
/// The kubelet brings the new certificates into the stream's pod within a minute or two.
const MOUNT: Duration = Duration::from_mins(4);
/// One backup alone is kept.
const KEEP_ONE: &str =
    r#"{"spec":{"retention":{"keepLast":1,"keepDaily":0,"keepWeekly":0,"keepMonthly":0,"keepYearly":0}}}"#;

#[test]
fn an_upgrade_in_place_begins_a_lineage() {
    let site = Site::of_version("e2e-major", 15);
    let namespace = &site.namespace;
    site.protect("");

    step("rows of 15: in two backups, and in the WAL after them");
    fill(&site, "before", 1000);
    site.back_up("first");
    let kept = site.back_up("second");
    fill(&site, "before", 500);
    site.until_archived();
    let base = site.name();
    let old = system(&site);

    step("upgraded in place to 18");
    let image = Database::image_of(18);
    namespace.patch(
        &site.database.object(),
        &json!({"spec": {"imageName": image}}).to_string(),
    );
    let upgraded = |cluster: &Value| cluster["status"]["pgDataImageInfo"]["majorVersion"] == 18;
    namespace.until_object(&site.database.object(), "its data are those of 18", UPGRADE, upgraded);
    site.database.until_healthy(namespace, 1);

    step("a new lineage, by itself, with a full backup");
    let name = until_lineage(&site, &old);
    until_first_backup(&site, &name);
    site.until_ready();
    let object = namespace.get("hsdep/shop");
    assert_eq!(object["status"]["source"]["postgresVersion"], "18", "{object:#}");
    assert_eq!(site.database.slots(namespace), [site.slot()]);
    fill(&site, "after", 700);
    site.until_archived();

    step("the retention reaches both");
    namespace.patch("hsdep/shop", KEEP_ONE);
    let (_forward, outside) = site.outside();
    namespace.until("one backup is left under each name", PATIENCE, |_| {
        let all = [&base, &name].map(|name| backups(&outside, name));
        (all[0] == [kept.as_str()] && all[1].len() == 1).then_some(())
    });

    step("from outside: the rows of before and those of after");
    for name in [&base, &name] {
        outside.run(&["wal", "audit", name]).ok();
    }
    let restored = outside.restore_of(15, &base, "before", &["--to-latest"]);
    assert_eq!(restored.value("postgres", "SELECT count(*) FROM before"), "1500");
    drop(restored);
    let restored = outside.restore(&name, "after", &["--to-latest"]);
    assert_eq!(restored.value("postgres", "SELECT count(*) FROM before"), "1500");
    assert_eq!(restored.value("postgres", "SELECT count(*) FROM after"), "700");
    drop(restored);

    step("and inside, as the Cluster of 15 that it was");
    assert_eq!(brought_back(&site, &base, "before"), "1500");
}

#[test]
fn a_cluster_made_again_waits_for_a_word() {
    let site = Site::streaming("e2e-again", 1);
    let namespace = &site.namespace;
    fill(&site, "old", 1000);
    let backup = site.back_up("before");
    fill(&site, "old", 500);
    site.until_archived();
    let (base, old) = (site.name(), system(&site));

    step("the Cluster is deleted, and made again under its name");
    namespace.delete(&[&site.database.object()]);
    namespace.until_gone(&site.database.object(), PATIENCE);
    Database::cloud_native_pg(namespace, site.database.name(), 1);
    let refused = |object: &Value| is_for(object, "Stalled", "True", "NewSystem");
    let object = namespace.until_object("hsdep/shop", "it is refused", PATIENCE, refused);
    let said = object["status"]["conditions"].to_string();
    assert!(said.contains("set onNewSystem to NewLineage"), "{said}");
    assert_eq!(lineages(&object), [(base.clone(), old.clone(), true)]);

    step("the stream, with the certificates of the new one, and a backup refuse it by themselves");
    let refused = |object: &Value| is_for(object, "Streaming", "False", "ConflictSystemIdentifier");
    namespace.until_object("hsdep/shop", "the stream refuses it", MOUNT, refused);
    assert_eq!(
        site.database.slots(namespace),
        [""; 0],
        "a slot was made on a cluster that nobody protects"
    );
    site.wish("refused");
    let failed = |object: &Value| object["status"]["phase"] == "Failed";
    let object = namespace.until_object("hsbk/refused", "it has failed", PATIENCE, failed);
    assert_eq!(
        object["status"]["failure"]["code"], "conflict.system_identifier",
        "{object:#}"
    );

    step("nothing was added, and nothing is lost");
    let (_forward, outside) = site.outside();
    assert_eq!(backups(&outside, &base), [backup.as_str()]);
    outside.run(&["wal", "audit", &base]).ok();
    let restored = outside.restore(&base, "refused", &["--to-latest"]);
    assert_eq!(restored.value("postgres", "SELECT count(*) FROM old"), "1500");
    drop(restored);

    step("somebody agrees");
    namespace.patch("hsdep/shop", r#"{"spec":{"onNewSystem":"NewLineage"}}"#);
    let name = until_lineage(&site, &old);
    until_first_backup(&site, &name);
    site.until_ready();
    fill(&site, "new", 700);
    site.until_archived();
    outside.run(&["wal", "audit", &name]).ok();
    let restored = outside.restore(&name, "new", &["--to-latest"]);
    assert_eq!(restored.value("postgres", "SELECT count(*) FROM new"), "700");
    assert_eq!(restored.value("postgres", "SELECT to_regclass('old') IS NULL"), "t");
    drop(restored);
    step("the rows of before come back beside it");
    assert_eq!(brought_back(&site, &base, "old"), "1500");
}

/// The rows of a table in a Cluster that is restored from a lineage of before.
#[track_caller]
fn brought_back(site: &Site, lineage: &str, table: &str) -> String {
    let namespace = &site.namespace;
    namespace.apply(&format!(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: Restore\nmetadata: {{name: of-before}}\nspec:\n  \
         source: {{repository: {{ref: {{name: main}}, name: {lineage}}}}}\n  \
         destination: {{cloudNativePG: {{cluster: of-before}}}}\n"
    ));
    namespace.wait("hsrs/of-before", "condition=Ready", UPGRADE);
    let back = Database::of_cloud_native_pg("of-before");
    back.until_healthy(namespace, 1);
    back.sql(namespace, &format!("SELECT count(*) FROM {table}"))
}

/// Adds rows to a table, which is made when it is missing.
#[track_caller]
fn fill(site: &Site, table: &str, rows: u32) {
    site.database.sql(
        &site.namespace,
        &format!(
            "CREATE TABLE IF NOT EXISTS {table} (note text); \
             INSERT INTO {table} SELECT md5(random()::text) FROM generate_series(1, {rows})"
        ),
    );
}

/// The system identifier of the server.
#[track_caller]
fn system(site: &Site) -> String {
    site.database
        .sql(&site.namespace, "SELECT system_identifier FROM pg_control_system()")
}

/// Name, system identifier, and whether it is the current one, of each.
fn lineages(object: &Value) -> Vec<(String, String, bool)> {
    let all = object["status"]["lineages"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.iter()
        .map(|one| {
            let current = one["current"] == true;
            (text(&one["name"]), text(&one["systemIdentifier"]), current)
        })
        .collect()
}

/// Waits for the lineage of the cluster that is there now, beside that of before; its name.
#[track_caller]
fn until_lineage(site: &Site, old: &str) -> String {
    let (base, new) = (site.name(), system(site));
    assert_ne!(old, new);
    let name = format!("{base}.{new}");
    let wanted = [(base, old.to_owned(), false), (name.clone(), new, true)];
    site.namespace
        .until_object("hsdep/shop", "it has another lineage", PATIENCE, |object| {
            lineages(object) == wanted
        });
    let object = site.namespace.get("hsdep/shop");
    assert_eq!(object["status"]["nameInRepository"], name.as_str(), "{object:#}");
    name
}

/// Waits for the backup that nobody has asked for.
#[track_caller]
fn until_first_backup(site: &Site, name: &str) {
    let begin = format!("{name}.full.");
    site.namespace
        .until("the lineage has a full backup", PATIENCE, |namespace| {
            let all = namespace.list("hsbk", "");
            let mut done = all.iter().filter(|one| one["status"]["phase"] == "Completed");
            done.any(|one| {
                one["status"]["backupID"]
                    .as_str()
                    .is_some_and(|id| id.starts_with(&begin))
            })
            .then_some(())
        });
    site.namespace
        .until_object("hsdep/shop", "it is shown", SOON, |object| {
            object["status"]["lastBackup"]["id"]
                .as_str()
                .is_some_and(|id| id.starts_with(&begin))
        });
}

/// The backups under a name that are not marked as deleted.
#[track_caller]
fn backups(outside: &Outside, name: &str) -> Vec<String> {
    let list = outside.run(&["list", name, "-o", "json"]).ok().result();
    let all = list["backups"].as_array().unwrap();
    all.iter()
        .map(|one| one["backup_id"].as_str().unwrap().to_owned())
        .collect()
}
