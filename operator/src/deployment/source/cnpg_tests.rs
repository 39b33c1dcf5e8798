//! Clusters as CloudNativePG 1.30 writes them, and as they might be.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::*;
use serde_json::Value;

fn sample(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn healthy() -> Value {
    sample(include_str!("samples/healthy.json"))
}

fn of(object: &Value) -> SourceFacts {
    facts(&Cluster::of(object))
}

#[test]
fn a_healthy_cluster_names_everything_itself() {
    let facts = of(&healthy());
    assert_eq!((facts.kind, &facts.state), (Kind::CloudNativePg, &State::Ready));
    assert_eq!(
        facts.access.unwrap().conninfo(),
        "host=shop-rw port=5432 user=streaming_replica dbname=postgres sslmode=verify-full \
         sslrootcert=/etc/pg-hardstorage/postgres/ca.crt sslcert=/etc/pg-hardstorage/postgres/tls.crt \
         sslkey=/etc/pg-hardstorage/postgres/tls.key connect_timeout=10"
    );
    assert_eq!(facts.standby.unwrap().hosts[0].name, "shop-ro");
    assert_eq!(facts.mode, SourceMode::Primary);
    assert_eq!(facts.primary.as_deref(), Some("shop-1"));
    assert_eq!(facts.version.as_deref(), Some("18"));
    assert_eq!(facts.system_identifier.as_deref(), Some("7712188176470106131"));
    assert!(facts.cluster_uid.is_some());
}

#[test]
fn secrets_of_other_names_are_those_of_the_status() {
    let mut object = healthy();
    object["status"]["certificates"]["serverCASecret"] = json!("my-ca");
    object["status"]["certificates"]["replicationTLSSecret"] = json!("my-replication");
    let access = of(&object).access.unwrap();
    assert_eq!(access.ca.unwrap().name, "my-ca");
    assert_eq!(access.certificate.as_deref(), Some("my-replication"));
}

#[test]
fn one_that_sleeps_says_that_it_is_healthy_and_is_not_believed() {
    let object = sample(include_str!("samples/hibernated.json"));
    assert_eq!(object["status"]["phase"], "Cluster in healthy state");
    let facts = of(&object);
    assert_eq!(facts.state, State::Hibernated);
    assert!(
        facts.access.is_some(),
        "the stream goes on trying, and is there when it wakes"
    );
    assert_eq!((facts.standby, facts.system_identifier), (None, None));
    // On its way to sleep.
    let mut going = healthy();
    going["metadata"]["annotations"] = json!({"cnpg.io/hibernation": "on"});
    assert!(matches!(
        of(&going).state,
        State::Progressing {
            reason: reason::HIBERNATING,
            ..
        }
    ));
}

#[test]
fn one_that_switches_over_is_on_the_way() {
    let facts = of(&sample(include_str!("samples/switching.json")));
    match facts.state {
        State::Progressing { reason, message } => {
            assert_eq!(reason, reason::SWITCHING_OVER);
            assert!(message.contains("shop-1") && message.contains("shop-2"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert!(facts.access.is_some());
}

#[test]
fn a_replica_cluster_is_streamed_from_its_designated_primary() {
    let mut object = sample(include_str!("samples/replica.json"));
    let facts = of(&object);
    assert_eq!((facts.state, facts.mode), (State::Ready, SourceMode::Standby));
    let access = facts.access.clone().unwrap();
    assert_eq!((access.hosts[0].name.as_str(), access.standby), ("copy-rw", true));
    assert_eq!(facts.standby, None, "one instance has no standby");
    // Promoted: its spec says so at once, its server a while later, and the stream is not started anew for it.
    object["spec"]["replica"]["enabled"] = json!(false);
    let promoted = of(&object);
    assert_eq!((promoted.mode, promoted.access), (SourceMode::Primary, facts.access));
}

#[test]
fn states_that_stop_nothing() {
    let set = |path: &str, value: Value| {
        let mut object = healthy();
        let (parent, key) = path.rsplit_once('/').unwrap();
        if object.pointer(parent).is_none() {
            object["metadata"]["annotations"] = json!({});
        }
        object.pointer_mut(parent).unwrap()[key] = value;
        of(&object)
    };
    let fenced = set("/metadata/annotations/x", json!("y"));
    assert_eq!(fenced.state, State::Ready);
    for (list, is_fenced) in [("[\"*\"]", true), ("[\"shop-1\"]", true), ("[\"shop-2\"]", false)] {
        let mut object = healthy();
        object["metadata"]["annotations"] = json!({"cnpg.io/fencedInstances": list});
        let state = of(&object).state;
        assert_eq!(
            matches!(
                state,
                State::Progressing {
                    reason: reason::FENCED,
                    ..
                }
            ),
            is_fenced,
            "{list}"
        );
    }
    // Being set up: there is nothing to stream from yet, and so no access.
    for path in ["/status/currentPrimary", "/status/certificates", "/status/writeService"] {
        let facts = set(path, Value::Null);
        assert!(
            matches!(
                facts.state,
                State::Progressing {
                    reason: reason::CLUSTER_NOT_READY,
                    ..
                }
            ),
            "{path}"
        );
    }
    assert_eq!(set("/status/certificates", Value::Null).access, None);
    // Being deleted.
    let going = set("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"));
    assert!(going.is_gone() && going.access.is_none());
}

#[test]
fn the_standbys_service_can_be_switched_off() {
    let mut object = healthy();
    object["spec"]["managed"] = json!({"services": {"disabledDefaultServices": ["ro"]}});
    assert_eq!(of(&object).standby, None);
}

#[test]
fn the_snapshot_makes_the_cluster_again() {
    let mut object = healthy();
    object["spec"]["walStorage"] = json!({"pvcTemplate": {"storageClassName": "fast",
        "resources": {"requests": {"storage": "2Gi"}}}});
    object["spec"]["tablespaces"] = json!([{"name": "hot", "storage": {"size": "3Gi"}}]);
    let snapshot = of(&object).snapshot.unwrap();
    assert_eq!(snapshot["cluster"]["spec"]["imageName"], "localhost/postgres:18");
    assert_eq!(snapshot["cluster"]["uid"], object["metadata"]["uid"]);
    assert_eq!(snapshot["architectures"], json!(["amd64"]));
    let sizes: Vec<_> = snapshot["claims"]
        .as_array()
        .unwrap()
        .iter()
        .map(|claim| claim["size"].clone())
        .collect();
    assert_eq!(sizes, [json!("1Gi"), json!("2Gi"), json!("3Gi")]);
    assert_eq!(snapshot["claims"][2]["tablespace"], "hot");
    // Moments and resource versions are not in it: it changes only when the Cluster does.
    let mut later = object.clone();
    later["metadata"]["resourceVersion"] = json!("999");
    later["status"]["phase"] = json!("another");
    assert_eq!(of(&later).snapshot.unwrap(), snapshot);
}
