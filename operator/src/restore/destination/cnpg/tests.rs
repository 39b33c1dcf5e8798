//! What becomes of a recorded Cluster, and of a template.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use serde_json::{Value, json};

use super::*;

fn snapshot() -> Value {
    json!({
        "schema": "pg_hardstorage.source.v1",
        "image": "localhost/postgres:18.6",
        "cluster": {"name": "shop", "spec": {
            "imageCatalogRef": {"name": "images", "major": 18},
            "instances": 3,
            "storage": {"size": "1Gi", "storageClass": "fast"},
            "walStorage": {"pvcTemplate": {"resources": {"requests": {"storage": "512Mi"}}, "volumeName": "theirs"}},
            "bootstrap": {"recovery": {"source": "old", "database": "sales", "owner": "sam", "secret": {"name": "gone"}}},
            "externalClusters": [{"name": "old"}],
            "replica": {"enabled": true, "source": "old"},
            "backup": {"barmanObjectStore": {}}, "plugins": [{"name": "barman", "isWALArchiver": true}],
            "certificates": {"serverCASecret": "mine"}, "superuserSecret": {"name": "root"},
            "managed": {"roles": [{"name": "reader"}], "services": {"additional": [{"selectorType": "rw"}],
                "disabledDefaultServices": ["ro"]}},
            "postgresql": {"parameters": {"work_mem": "8MB"}},
        }},
    })
}

fn new<'a>(snapshot: Option<&'a Value>, template: Option<&'a Value>, needed_bytes: u64) -> NewCluster<'a> {
    NewCluster {
        namespace: "team",
        name: "shop-0815",
        uid: "u-1",
        restore: "back",
        template,
        snapshot,
        postgres_image: None,
        needed_bytes,
    }
}

#[test]
fn a_recorded_cluster_comes_back_on_its_own_feet() {
    let snapshot = snapshot();
    let of = new(Some(&snapshot), None, 0);
    let made = cluster(&of).unwrap();
    let spec = made["spec"].as_object().unwrap();
    for field in settings::FOREIGN.iter().filter(|field| **field != "bootstrap") {
        assert!(!spec.contains_key(*field), "{field}");
    }
    // Its Secret may be gone; another one is made for the same owner.
    assert_eq!(
        spec["bootstrap"],
        json!({"initdb": {"database": "sales", "owner": "sam"}})
    );
    assert_eq!(spec["imageName"], "localhost/postgres:18.6");
    assert!(!spec.contains_key("imageCatalogRef"));
    assert_eq!(spec["instances"], 3);
    assert_eq!(
        spec["managed"],
        json!({"roles": [{"name": "reader"}], "services": {"disabledDefaultServices": ["ro"]}})
    );
    assert_eq!(spec["postgresql"]["parameters"]["work_mem"], "8MB");
    assert!(made["metadata"].get("ownerReferences").is_none());
    assert_eq!(made["metadata"]["annotations"]["hardstorage.dev/restore-uid"], "u-1");
}

#[test]
fn its_claims_are_those_that_cloud_native_pg_looks_for() {
    let mut snapshot = snapshot();
    snapshot["cluster"]["spec"]["tablespaces"] = json!([{"name": "Cold_data", "storage": {"size": "4Gi"}}]);
    let of = new(Some(&snapshot), None, 1 << 40);
    let claims: Vec<Value> = claims(&of)
        .unwrap()
        .iter()
        .map(|claim| serde_json::to_value(claim).unwrap())
        .collect();
    let names: Vec<&str> = claims
        .iter()
        .map(|claim| claim["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["shop-0815-1", "shop-0815-1-wal", "shop-0815-1-tbs-cold-data"]);
    let mounts: Vec<String> = mounts(&of).unwrap().into_iter().map(|mount| mount.path).collect();
    assert_eq!(
        mounts,
        [
            "/var/lib/postgresql/data",
            "/var/lib/postgresql/wal",
            "/var/lib/postgresql/tablespaces/Cold_data"
        ]
    );
    for (claim, role) in claims.iter().zip(["PG_DATA", "PG_WAL", "PG_TABLESPACE"]) {
        let labels = &claim["metadata"]["labels"];
        assert_eq!(labels["cnpg.io/pvcRole"], role);
        assert_eq!(labels["cnpg.io/cluster"], "shop-0815");
        assert_eq!(labels["cnpg.io/instanceName"], "shop-0815-1");
        assert_eq!(labels["hardstorage.dev/restore"], "back");
        assert_eq!(claim["metadata"]["annotations"]["cnpg.io/nodeSerial"], "1");
        assert!(claim["metadata"].get("ownerReferences").is_none());
        assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteOnce"]));
        assert!(claim["spec"].get("volumeName").is_none());
    }
    assert_eq!(claims[2]["metadata"]["labels"]["cnpg.io/tablespaceName"], "Cold_data");
    assert_eq!(claims[0]["spec"]["storageClassName"], "fast");
    assert_eq!(claims[1]["spec"]["resources"]["requests"]["storage"], "512Mi");
}

#[test]
fn a_claim_has_room_for_what_comes() {
    let snapshot = snapshot();
    for (needed, wanted) in [
        (0, "1Gi"),
        (1 << 30, "1Gi"),
        ((1 << 30) + 1, "1025Mi"),
        (5 << 30, "5120Mi"),
    ] {
        let of = new(Some(&snapshot), None, needed);
        let claims = claims(&of).unwrap();
        let requests = claims[0]
            .spec
            .as_ref()
            .unwrap()
            .resources
            .as_ref()
            .unwrap()
            .requests
            .as_ref()
            .unwrap();
        assert_eq!(requests["storage"].0, wanted);
        // Its replicas are as large.
        assert_eq!(cluster(&of).unwrap()["spec"]["storage"]["size"], wanted);
    }
}

#[test]
fn a_template_is_taken_instead_and_what_lacks_is_said() {
    let snapshot = snapshot();
    let template = json!({"metadata": {"labels": {"team": "a"}}, "spec": {"instances": 1, "postgresUID": 70,
        "storage": {"size": "2Gi"}}});
    let of = new(Some(&snapshot), Some(&template), 0);
    let made = cluster(&of).unwrap();
    assert_eq!(made["metadata"]["labels"]["team"], "a");
    assert_eq!(made["spec"]["imageName"], "localhost/postgres:18.6");
    assert_eq!(of.user().unwrap(), (70, 26));
    assert_eq!(claims(&of).unwrap().len(), 1);

    let reason =
        |snapshot: Option<&Value>, template: Option<&Value>| cluster(&new(snapshot, template, 0)).unwrap_err().reason;
    assert_eq!(reason(None, None), "SnapshotMissing");
    assert_eq!(reason(None, Some(&json!({"instances": 1}))), "TemplateInvalid");
    assert_eq!(reason(None, Some(&template)), "ImageUnknown");
    let image = Some(&snapshot);
    for spec in [
        json!({}),
        json!({"storage": {}}),
        json!({"storage": {"size": "much"}}),
        json!({"storage": {"size": "1Gi"}, "tablespaces": [{"storage": {"size": "1Gi"}}]}),
    ] {
        assert_eq!(reason(image, Some(&json!({"spec": spec}))), "TemplateInvalid", "{spec}");
    }
}

#[test]
fn adopted_is_when_every_instance_is_ready() {
    let of = |status: Value| adoption(&json!({"spec": {"instances": 2}, "status": status}));
    let healthy = "Cluster in healthy state";
    assert_eq!(
        of(json!({"phase": healthy, "readyInstances": 2, "currentPrimary": "shop-1"})),
        Adoption::Adopted
    );
    for (status, words) in [
        (Value::Null, "has not looked"),
        (
            json!({"phase": healthy, "readyInstances": 1, "currentPrimary": "shop-1"}),
            "1 of 2",
        ),
        (json!({"phase": healthy, "currentPrimary": "shop-1"}), "0 of 2"),
        (
            json!({"phase": "Setting up primary", "phaseReason": "a Job fails"}),
            "a Job fails",
        ),
    ] {
        let Adoption::Waiting { words: said, serves } = of(status) else {
            panic!("adopted")
        };
        assert_eq!(serves, said.starts_with('1'), "{said}");
        assert!(said.contains(words), "{said}");
    }
}
