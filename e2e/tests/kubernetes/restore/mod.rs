//! Restore objects: what was lost comes back at the moment that was asked for, into a new Cluster or a claim, and what
//! cannot be done is said before anything is touched.

mod claim;
mod cluster;
mod faults;
mod gone;
mod patroni;
mod refused;
mod volumes;

use std::time::Duration;

use hardstorage_e2e::kubernetes::Namespace;
use serde_json::Value;

use crate::site::Site;

/// A restore of a small database, its Cluster's start included.
const PATIENCE: Duration = Duration::from_mins(6);

/// A Restore of `shop`; `more` is further YAML of its spec.
pub(crate) fn object(name: &str, more: &str) -> String {
    format!(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: Restore\nmetadata: {{name: {name}}}\nspec:\n  \
         source: {{deploymentRef: {{name: shop}}}}\n{more}"
    )
}

/// Its destination: a new Cluster.
fn into_cluster(name: &str) -> String {
    format!("  destination: {{cloudNativePG: {{cluster: {name}}}}}\n")
}

/// Its destination: a claim that is made.
pub(crate) fn into_claim(name: &str) -> String {
    format!("  destination: {{persistentVolumeClaim: {{name: {name}, create: {{}}}}}}\n")
}

/// Its moment.
fn at(time: &str) -> String {
    format!("  recoveryTarget: {{time: \"{time}\"}}\n")
}

/// Waits until it is over; the object.
#[track_caller]
pub(crate) fn until_over(namespace: &Namespace, name: &str) -> Value {
    let over = |object: &Value| {
        let phase = object["status"]["phase"].as_str().unwrap_or_default();
        ["Completed", "Failed", "Refused"].contains(&phase)
    };
    namespace.until_object(&format!("hsrs/{name}"), "it is over", PATIENCE, over)
}

/// Waits until it is over, and well.
#[track_caller]
fn until_completed(namespace: &Namespace, name: &str) -> Value {
    let object = until_over(namespace, name);
    assert_eq!(object["status"]["phase"], "Completed", "{object:#}");
    object
}

/// Three rows, of which the last is a mistake: the moment before it, when everything is archived.
#[track_caller]
fn before_a_mistake(site: &Site) -> String {
    let namespace = &site.namespace;
    site.database.sql(
        namespace,
        "CREATE TABLE history(n int, what text); INSERT INTO history VALUES (1, 'before the backup')",
    );
    site.back_up("first");
    site.database
        .sql(namespace, "INSERT INTO history VALUES (2, 'after the backup')");
    let moment = site.database.now(namespace);
    site.database.sql(
        namespace,
        "INSERT INTO history VALUES (3, 'a mistake'); DELETE FROM history WHERE n < 3",
    );
    site.until_archived();
    moment
}

/// What those rows are at that moment.
const ROWS: &str = "1|before the backup\n2|after the backup";
/// Asks for them.
const ASK: &str = "SELECT n, what FROM history ORDER BY n";
