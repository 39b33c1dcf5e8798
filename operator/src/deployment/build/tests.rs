//! Children as they are built.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use hardstorage_crds::{Duration, Retention};
use serde_json::{Value, json};

use super::*;
use crate::access::{HostAccess, SourceAccess};
use crate::deployment::samples::{deployment, repository, with_spec};
use crate::deployment::source::Leader;
use crate::pod::{Image, Surroundings};

fn image() -> Image {
    Image {
        name: "engine:1".into(),
        pull_policy: "IfNotPresent".into(),
    }
}

fn source() -> SourceAccess {
    SourceAccess {
        hosts: vec![HostAccess::named("shop-rw", 5432)],
        user: Some("streaming_replica".into()),
        database: "postgres".into(),
        ..SourceAccess::default()
    }
}

fn built(deployment: &ProtectedDeployment, source: &SourceAccess) -> k8s_openapi::api::apps::v1::Deployment {
    stream(&StreamPlan {
        deployment,
        repository: &repository(),
        source,
        name_in_repository: &identity::current_name(deployment),
        image: image(),
        moved: None,
        surroundings: Surroundings::default(),
    })
}

fn arguments(pod: &Value) -> String {
    let all = pod
        .pointer("/spec/template/spec/containers/0/args")
        .unwrap()
        .as_array()
        .unwrap();
    all.iter()
        .map(|one| one.as_str().unwrap())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn a_stream() {
    let object = deployment("team", "orders");
    let child = serde_json::to_value(built(&object, &source())).unwrap();
    assert_eq!(child["metadata"]["name"], "orders-wal");
    assert_eq!(child["spec"]["replicas"], 1);
    assert_eq!(child["spec"]["strategy"]["type"], "Recreate");
    let arguments = arguments(&child);
    let slot = identity::slot(&object);
    let wanted = format!(
        "wal stream team.orders --repo s3://backups/team --slot {slot} --flush-interval 10s --wait --pg-connection host=shop-rw"
    );
    assert!(arguments.starts_with(&wanted), "{arguments}");
    assert!(
        arguments.contains("--run-id uid-team-orders"),
        "its report is known by our object's UID: {arguments}"
    );
    assert!(!arguments.contains("--accept-new-system") && !arguments.contains("--allow-standby-source"));
    assert!(!child.to_string().contains("signing"), "a stream signs nothing");
    let standby = SourceAccess {
        standby: true,
        ..source()
    };
    let child = serde_json::to_value(built(&object, &standby)).unwrap();
    assert!(super::tests::arguments(&child).contains("--allow-standby-source"));
}

#[test]
fn a_paused_stream_and_one_with_the_users_settings() {
    let spec = json!({"source": {"cloudNativePG": {"cluster": "shop"}}, "repositoryRef": {"name": "main"},
        "stream": {"paused": true, "flushInterval": "2s", "slotName": "mine", "resources": {"limits": {"memory": "1Gi"}}},
        "podTemplate": {"labels": {"team": "a"}}});
    let child = serde_json::to_value(built(&with_spec("team", "orders", spec), &source())).unwrap();
    assert_eq!(child["spec"]["replicas"], 0);
    assert!(arguments(&child).contains("--slot mine --flush-interval 2s"));
    assert_eq!(child["spec"]["template"]["metadata"]["labels"]["team"], "a");
    let limits = child
        .pointer("/spec/template/spec/containers/0/resources/limits")
        .unwrap();
    assert_eq!(limits["memory"], "1Gi");
    // What selects the pods never changes, whatever the user writes.
    let plain = serde_json::to_value(built(&deployment("team", "orders"), &source())).unwrap();
    assert_eq!(child["spec"]["selector"], plain["spec"]["selector"]);
}

#[test]
fn no_mark_of_the_parent_reaches_a_child() {
    let object = deployment("team", "orders");
    let run = Run {
        deployment: &object,
        image: image(),
        surroundings: Surroundings::default(),
    };
    let leader = Leader {
        selector: [("role".to_owned(), "primary".to_owned())].into(),
        pod: None,
        ip: None,
    };
    let children = [
        serde_json::to_value(built(&object, &source())),
        serde_json::to_value(snapshot(&object, &json!({}))),
        serde_json::to_value(leader_service(&object, &leader)),
        serde_json::to_value(network_policy(&object, "operators", "monitoring")),
        serde_json::to_value(rotate(&run, &repository(), "n", &Retention::default(), "s")),
        serde_json::to_value(slot_drop(&run, &source(), "s", 120)),
        serde_json::to_value(sync(&run, &repository(), "s")),
        serde_json::to_value(tombstone(&run, &repository(), "n", "b")),
    ];
    for child in children {
        let child = child.unwrap();
        let text = child.to_string();
        for mark in ["argocd", "helm.sh", "toolkit.fluxcd"] {
            assert!(!text.contains(mark), "{mark} in {text}");
        }
        let owner = &child["metadata"]["ownerReferences"][0];
        assert_eq!(
            (&owner["uid"], &owner["controller"]),
            (&json!("uid-team-orders"), &json!(true))
        );
        assert_eq!(child["metadata"]["labels"]["hardstorage.dev/deployment"], "orders");
        assert!(
            !text.contains("\"PersistentVolumeClaim\""),
            "nothing that holds data is a child"
        );
    }
}

#[test]
fn what_the_jobs_do() {
    let object = deployment("team", "orders");
    let run = Run {
        deployment: &object,
        image: image(),
        surroundings: Surroundings::default(),
    };
    let job = |job| serde_json::to_value::<k8s_openapi::api::batch::v1::Job>(job).unwrap();
    let rotated = |retention| job(rotate(&run, &repository(), "team.orders.7", &retention, "s"));
    let all = "rotate team.orders.7 --repo s3://backups/team --apply --keep-last 3 --keep-daily 7 --keep-weekly 4 \
               --keep-monthly 12 --keep-yearly 5 --collect";
    let window = Retention {
        keep_wal: Some(Duration::new("14d")),
        ..Retention::default()
    };
    let windowed = format!("{all} --keep-wal 1209600s --credentials-dir");
    assert!(arguments(&rotated(window)).starts_with(&windowed));
    let rotated = rotated(Retention::default());
    assert!(arguments(&rotated).starts_with(&format!("{all} --credentials-dir")));
    assert!(rotated.to_string().contains("signing-key"));
    let dropped = job(slot_drop(&run, &source(), "s", 120));
    let slot = identity::slot(&object);
    assert!(arguments(&dropped).starts_with(&format!("slot drop team.orders --slot {slot} --pg-connection")));
    assert!(
        !dropped.to_string().contains("main-kek"),
        "the server's slot needs no repository"
    );
    let marked = job(tombstone(
        &run,
        &repository(),
        "team.orders",
        "team.orders.full.20260101T000000Z.0000",
    ));
    assert!(arguments(&marked).starts_with(
        "backup delete team.orders team.orders.full.20260101T000000Z.0000 --repo s3://backups/team --yes"
    ));
}

#[test]
fn the_snapshot_lies_where_backups_look() {
    let map = snapshot(&deployment("team", "orders"), &json!({"type": "CloudNativePG"}));
    assert_eq!(map.metadata.name.as_deref(), Some("orders-source"));
    let data = map.data.unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&data["source.json"]).unwrap()["type"],
        "CloudNativePG"
    );
}

#[test]
fn only_the_operator_and_the_scraper_may_ask() {
    let policy = |scraper| {
        let policy = network_policy(&deployment("team", "orders"), "operators", scraper);
        serde_json::to_value(policy).unwrap()["spec"]["ingress"][0]["from"].clone()
    };
    let by_name = policy("monitoring");
    assert_eq!(
        by_name[0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
        "operators"
    );
    assert_eq!(
        by_name[1]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
        "monitoring"
    );
    let by_label = policy("app=prometheus");
    assert_eq!(by_label[1]["podSelector"]["matchLabels"]["app"], "prometheus");
    assert_eq!(by_label[1]["namespaceSelector"], json!({}));
}

#[test]
fn a_child_remembers_when_its_image_was_changed() {
    let moved = Moved {
        at: "2026-01-01T00:00:00.5Z".parse().unwrap(),
        streamed: true,
    };
    let object = deployment("team", "orders");
    let child = stream(&StreamPlan {
        deployment: &object,
        repository: &repository(),
        source: &source(),
        name_in_repository: "team.orders",
        image: image(),
        moved: Some(moved),
        surroundings: Surroundings::default(),
    });
    assert_eq!(Moved::of(&child), Some(moved));
    assert_eq!(image_of(&child).as_deref(), Some("engine:1"));
    assert_eq!(Moved::of(&built(&object, &source())), None);
}
