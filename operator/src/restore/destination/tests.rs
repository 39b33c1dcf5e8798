//! Destinations, as they are wanted and as they are found.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::*;
use crate::restore::samples::{UID, planned, restore};
use serde_json::json;

fn engine() -> Image {
    Image {
        name: "engine:1".into(),
        pull_policy: "Always".into(),
    }
}

fn want(destination: Value, plan: Value) -> Result<Wanted, Refusal> {
    let mut status = planned();
    for (key, value) in plan.as_object().unwrap() {
        status["plan"][key] = value.clone();
    }
    wanted(&restore(json!({"destination": destination}), status), &engine())
}

fn reason<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> String {
    outcome.unwrap_err().reason
}

fn size(claim: &PersistentVolumeClaim) -> String {
    let spec = claim.spec.clone().unwrap();
    spec.resources.unwrap().requests.unwrap()["storage"].0.clone()
}

#[test]
fn a_new_claim_fits_what_is_planned_and_has_no_owner() {
    let into = |create: Value| json!({"persistentVolumeClaim": {"name": "pg", "create": create}});
    let wanted = want(into(json!({})), json!({})).unwrap();
    let claim = &wanted.claims[0];
    // 12 Mi and a tenth more.
    assert_eq!(size(claim), "14Mi");
    assert_eq!(claim.metadata.owner_references, None);
    assert_eq!(claim.annotations()[annotation::RESTORE_UID], UID);
    assert!(!claim.labels().contains_key("argocd.argoproj.io/instance"));
    let spec = claim.spec.clone().unwrap();
    assert_eq!(
        (spec.access_modes.unwrap(), spec.storage_class_name),
        (vec!["ReadWriteOnce".to_owned()], None)
    );
    assert_eq!(wanted.directory, "/restore/pgdata");
    assert_eq!((wanted.postgres, wanted.data.engine), (None, None));
    let chosen = into(json!({"size": "12Mi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]}));
    let claim = want(chosen, json!({})).unwrap().claims.remove(0);
    assert_eq!(
        (size(&claim).as_str(), claim.spec.unwrap().storage_class_name.as_deref()),
        ("12Mi", Some("fast"))
    );
    assert_eq!(reason(want(into(json!({"size": "11Mi"})), json!({}))), "ClaimTooSmall");
    let spread = json!({"tablespaces": ["/mnt/hot"]});
    assert_eq!(reason(want(into(json!({})), spread)), "TablespacesUnplaced");
}

#[test]
fn a_cluster_brings_its_image_and_its_paths() {
    let into = json!({"cloudNativePG": {"cluster": "again"}});
    let wanted = want(into.clone(), json!({})).unwrap();
    assert_eq!(wanted.postgres.unwrap().name, "postgres:18");
    assert_eq!(wanted.data.engine, Some(engine()));
    assert_eq!(wanted.data.user, User { uid: 26, gid: 26 });
    assert_eq!(wanted.wal_dir, None);
    assert_eq!(wanted.cluster.unwrap()["metadata"]["name"], "again");
    assert_eq!(wanted.claims.len(), 1);
    let more = json!({"sourceSnapshot": {"image": "postgres:18", "cluster": {"spec": {"storage": {"size": "1Gi"},
        "walStorage": {"size": "1Gi"}, "tablespaces": [{"name": "hot", "storage": {"size": "1Gi"}}]}}},
        "tablespaces": ["/var/lib/postgresql/tablespaces/hot/data"]});
    let wanted = want(into.clone(), more.clone()).unwrap();
    assert_eq!(wanted.wal_dir.as_deref(), Some("/var/lib/postgresql/wal/pg_wal"));
    assert_eq!(wanted.claims.len(), 3);
    let mut elsewhere = more;
    elsewhere["tablespaces"] = json!(["/mnt/hot"]);
    assert_eq!(reason(want(into.clone(), elsewhere)), "TablespacesUnplaced");
    assert_eq!(reason(want(into, json!({"sourceSnapshot": null}))), "SnapshotMissing");
}

fn claim(name: &str, value: Value) -> PersistentVolumeClaim {
    let mut object = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "team"}});
    for (key, value) in value.as_object().unwrap() {
        object["metadata"][key] = value.clone();
    }
    object["status"] = object["metadata"]["status"].take();
    serde_json::from_value(object).unwrap()
}

fn ours() -> Value {
    json!({"annotations": {annotation::RESTORE_UID: UID}})
}

fn pod(claim: &str) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "db-0"}, "spec": {"containers": [],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "d", "persistentVolumeClaim": {"claimName": claim}}]}}))
    .unwrap()
}

/// The destination, the claims, the Cluster, the pods of others, the reason of a refusal.
type Case = (Value, Vec<PersistentVolumeClaim>, Option<Value>, Vec<Pod>, &'static str);

#[test]
fn every_destination_is_judged() {
    let made = json!({"persistentVolumeClaim": {"name": "pg", "create": {}}});
    let there = json!({"persistentVolumeClaim": {"name": "pg"}});
    let cluster = json!({"cloudNativePG": {"cluster": "again"}});
    let small = json!({"status": {"capacity": {"storage": "11Mi"}}});
    let large = json!({"status": {"capacity": {"storage": "12Mi"}}});
    let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {annotation::RESTORE_UID: UID}});
    let stranger = json!({"metadata": {"annotations": {annotation::RESTORE_UID: "another"}}});
    let own = json!({"metadata": ours()});
    let cases: Vec<Case> = vec![
        (made.clone(), vec![], None, vec![], ""),
        (made.clone(), vec![], None, vec![pod("another")], ""),
        (made.clone(), vec![claim("pg", ours())], None, vec![], ""),
        (made.clone(), vec![claim("pg", json!({}))], None, vec![], USED),
        (
            made.clone(),
            vec![claim(
                "pg",
                json!({"annotations": {annotation::RESTORE_UID: "another"}}),
            )],
            None,
            vec![],
            USED,
        ),
        (made.clone(), vec![claim("pg", going)], None, vec![], "ClaimDeleting"),
        (made, vec![claim("pg", ours())], None, vec![pod("pg")], IN_USE),
        (there.clone(), vec![], None, vec![], "ClaimMissing"),
        (there.clone(), vec![claim("pg", json!({}))], None, vec![], ""),
        (there.clone(), vec![claim("pg", large)], None, vec![], ""),
        (there.clone(), vec![claim("pg", small)], None, vec![], "ClaimTooSmall"),
        (there, vec![claim("pg", json!({}))], None, vec![pod("pg")], IN_USE),
        (cluster.clone(), vec![], None, vec![], ""),
        (cluster.clone(), vec![], Some(stranger), vec![], USED),
        (cluster.clone(), vec![claim("again-1", ours())], Some(own), vec![], ""),
        (cluster.clone(), vec![claim("again-1", json!({}))], None, vec![], USED),
        (cluster, vec![claim("again-2", json!({}))], None, vec![], USED),
    ];
    for (number, (destination, claims, found_cluster, pods, said)) in cases.into_iter().enumerate() {
        let object = restore(json!({"destination": destination}), planned());
        let wanted = wanted(&object, &engine()).unwrap();
        let found = Found {
            of_the_cluster: claims
                .iter()
                .filter(|claim| claim.name_any().starts_with("again"))
                .cloned()
                .collect(),
            claims,
            cluster: found_cluster,
            pods,
            ..Found::default()
        };
        let got = judge(&object, &wanted, &found).err().map(|refusal| refusal.reason);
        assert_eq!(got.unwrap_or_default(), said, "case {number}");
    }
}
