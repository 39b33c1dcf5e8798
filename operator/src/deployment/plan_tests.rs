//! Which children there should be, fact by fact.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use clap::Parser as _;
use hardstorage_crds::{DeploymentStatus, SourceStatus};
use serde_json::{Value, json};

use super::*;
use crate::access::{HostAccess, SourceAccess};
use crate::deployment::collide::Collision;
use crate::deployment::samples::{deployment, repository, with_spec};
use crate::deployment::source::{Kind, SourceFacts, State, reason};
use crate::deployment::upgrade::Seen;
use crate::namespace::NamespaceFacts;
use crate::repository::Refusal;

fn settings(image: &str) -> Settings {
    Settings::parse_from(["operator", "--engine-image", image])
}

fn facts() -> Facts {
    Facts {
        namespace: NamespaceFacts::default(),
        repository: Ok(repository()),
        backup_objects: 50,
        source: SourceFacts {
            access: Some(SourceAccess {
                hosts: vec![HostAccess::named("shop-rw", 5432)],
                database: "postgres".into(),
                ..SourceAccess::default()
            }),
            system_identifier: Some("1".into()),
            cluster_uid: Some("u".into()),
            version: Some("15.19".into()),
            ..SourceFacts::unknown(Kind::CloudNativePg, State::Ready)
        },
        collision: None,
        child: None,
        namesake: None,
        pod: None,
        heard: Heard::Silent { seconds: 0 },
        catalog: None,
        streams: Vec::new(),
    }
}

fn planned(deployment: &ProtectedDeployment, facts: &Facts) -> Plan {
    plan(deployment, facts, &settings("engine:1"), Timestamp::UNIX_EPOCH)
}

fn arguments(plan: &Plan) -> Vec<String> {
    let stream = plan.stream.as_ref().unwrap();
    let pod = stream.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    pod.containers[0].args.clone().unwrap()
}

#[test]
fn everything_known_makes_a_stream() {
    let plan = planned(&deployment("team", "orders"), &facts());
    assert_eq!(arguments(&plan)[..3], ["wal", "stream", "team.orders"]);
    assert_eq!(plan.lineages.len(), 1);
    assert_eq!(
        (plan.lineages[0].name.as_str(), plan.lineages[0].current),
        ("team.orders", true)
    );
    assert_eq!(plan.turn, Turn::Go);
}

#[test]
fn what_is_missing_changes_no_stream() {
    let gone = |reason| State::Missing {
        reason,
        message: String::new(),
    };
    let refusal = Refusal {
        reason: "RepositoryMissing".into(),
        message: String::new(),
        hint: String::new(),
        waits: false,
    };
    let collision = Collision {
        reason: "NameTaken",
        message: String::new(),
    };
    let cases: Vec<(&str, Facts)> = vec![
        (
            "no Repository",
            Facts {
                repository: Err(refusal),
                ..facts()
            },
        ),
        (
            "no Cluster",
            Facts {
                source: SourceFacts::unknown(Kind::CloudNativePg, gone(reason::CLUSTER_MISSING)),
                ..facts()
            },
        ),
        (
            "no CloudNativePG",
            Facts {
                source: SourceFacts::unknown(Kind::CloudNativePg, gone(reason::CLOUD_NATIVE_PG_MISSING)),
                ..facts()
            },
        ),
        (
            "an older one has it",
            Facts {
                collision: Some(collision),
                ..facts()
            },
        ),
        (
            "another cluster",
            Facts {
                source: SourceFacts {
                    system_identifier: Some("2".into()),
                    cluster_uid: Some("v".into()),
                    ..facts().source
                },
                ..facts()
            },
        ),
    ];
    for (what, facts) in cases {
        assert_eq!(planned(&protected("1", "u", "15.19"), &facts).stream, None, "{what}");
    }
}

/// A Deployment that has streamed.
fn protected(system: &str, uid: &str, version: &str) -> ProtectedDeployment {
    let mut object = deployment("team", "orders");
    object.status = Some(DeploymentStatus {
        lineages: vec![Lineage {
            name: "team.orders".into(),
            system_identifier: system.into(),
            current: true,
        }],
        source: Some(SourceStatus {
            cluster_uid: Some(uid.into()),
            postgres_version: Some(version.into()),
            system_identifier: Some(system.into()),
            ..SourceStatus::default()
        }),
        ..DeploymentStatus::default()
    });
    object
}

#[test]
fn an_upgrade_in_place_begins_a_lineage() {
    let mut now = facts();
    now.source.version = Some("18".into());
    now.source.system_identifier = Some("2".into());
    let plan = planned(&protected("1", "u", "15.19"), &now);
    assert_eq!(arguments(&plan)[..3], ["wal", "stream", "team.orders.2"]);
    let names: Vec<(&str, bool)> = plan
        .lineages
        .iter()
        .map(|one| (one.name.as_str(), one.current))
        .collect();
    assert_eq!(names, [("team.orders", false), ("team.orders.2", true)]);
}

#[test]
fn a_cluster_made_again_is_refused_until_somebody_agrees() {
    let mut now = facts();
    now.source.system_identifier = Some("2".into());
    now.source.cluster_uid = Some("v".into());
    let mut object = protected("1", "u", "15.19");
    let refused = planned(&object, &now);
    assert!(matches!(refused.systems, Systems::Refused(_)));
    assert_eq!(refused.lineages.len(), 1, "the status says what it said");
    object.spec.on_new_system = hardstorage_crds::OnNewSystem::NewLineage;
    assert_eq!(planned(&object, &now).name(&object), "team.orders.2");
}

#[test]
fn a_system_that_only_the_stream_knows() {
    let mut now = facts();
    now.source.system_identifier = None;
    assert_eq!(planned(&deployment("team", "orders"), &now).lineages, []);
    let mut report = RunReport::new("wal stream", Some("uid-team-orders".into()), "1");
    report.stream = Some(
        serde_json::from_value(
            json!({"deployment": "team.orders", "phase": "streaming", "slot_health": "active",
            "system_id": "9", "segments": 0, "bytes_received": 0, "connections": 1, "gaps": 0,
            "started_at": "2026-01-01T00:00:00Z"}),
        )
        .unwrap(),
    );
    now.heard = Heard::Now(Box::new(report.clone()));
    let plan = planned(&deployment("team", "orders"), &now);
    assert_eq!(plan.lineages[0].system_identifier, "9");
    // What lies under the name is another cluster's: the last words of the container say so.
    report.error =
        Some(serde_json::from_value(json!({"code": OTHER_SYSTEM, "message": "", "hint": "", "exit_code": 7})).unwrap());
    now.heard = Heard::Silent { seconds: 5 };
    now.pod = Some(PodFacts {
        crashed: Some((7, None, Some(serde_json::to_string(&report).unwrap()))),
        ..PodFacts::default()
    });
    let mut object = protected("9", "u", "15");
    assert!(matches!(planned(&object, &now).systems, Systems::Refused(_)));
    object.spec.on_new_system = hardstorage_crds::OnNewSystem::NewLineage;
    assert_eq!(planned(&object, &now).name(&object), "team.orders.9");
}

#[test]
fn another_name_begins_anew_and_keeps_the_old_ones_for_the_retention() {
    let mut object = protected("1", "u", "15.19");
    object.spec.name_in_repository = Some("shop".into());
    let plan = planned(&object, &facts());
    assert_eq!(arguments(&plan)[2], "shop");
    let names: Vec<(&str, bool)> = plan
        .lineages
        .iter()
        .map(|one| (one.name.as_str(), one.current))
        .collect();
    assert_eq!(names, [("team.orders", false), ("shop", true)]);
}

fn with_child(image: &str) -> Facts {
    let mut with = facts();
    let plan = plan(
        &deployment("team", "orders"),
        &facts(),
        &settings(image),
        Timestamp::UNIX_EPOCH,
    );
    with.child = plan.stream.map(|stream| *stream);
    let seen = |name: &str| Seen {
        who: ("team".into(), name.into()),
        image: image.into(),
        moved: None,
        streams: true,
        down: false,
        observed: None,
        expected: true,
        pinned: false,
    };
    with.streams = vec![seen("a"), seen("orders")];
    with
}

#[test]
fn the_image_waits_for_its_turn() {
    let object = deployment("team", "orders");
    let image = |facts: &Facts, at_once: usize| {
        let mut settings = settings("engine:2");
        settings.upgrade_at_once = at_once;
        let plan = plan(&object, facts, &settings, Timestamp::UNIX_EPOCH);
        let stream = plan.stream.unwrap();
        (image_of(&stream).unwrap(), Moved::of(&stream), plan.turn)
    };
    let facts = with_child("engine:1");
    let (running, moved, turn) = image(&facts, 1);
    assert_eq!((running.as_str(), moved), ("engine:1", None));
    assert!(matches!(turn, Turn::Wait(_)));
    let (next, moved, _) = image(&facts, 2);
    assert_eq!(next, "engine:2");
    assert!(moved.unwrap().streamed);
    // While it waits, what the user changes reaches it, and nothing else does: another version of the operator builds more
    // than the image in another way.
    let mut one_at_once = settings("engine:2");
    one_at_once.upgrade_at_once = 1;
    let waits = plan(&object, &facts, &one_at_once, Timestamp::UNIX_EPOCH);
    assert!(waits.waits && matches!(waits.turn, Turn::Wait(_)));
    let mut paused = with_spec("team", "orders", paused());
    paused.metadata.generation = Some(2);
    let changed = plan(&paused, &facts, &one_at_once, Timestamp::UNIX_EPOCH);
    assert!(!changed.waits && matches!(changed.turn, Turn::Wait(_)));
    assert_eq!(changed.stream.unwrap().spec.unwrap().replicas, Some(0));
    let goes = plan(&object, &facts, &settings("engine:2"), Timestamp::UNIX_EPOCH);
    assert!(!goes.waits && goes.turn == Turn::Go);
}

/// An upgrade in place: CloudNativePG's status still names the cluster of before, and the engine has seen the new one.
#[test]
fn what_a_refused_stream_has_seen_goes_before_what_describes_the_cluster() {
    let mut now = facts();
    let mut report = RunReport::new("wal stream", Some("uid-team-orders".into()), "1");
    let error = json!({"code": OTHER_SYSTEM, "message": "", "hint": "", "exit_code": 7});
    report.stream = Some(
        serde_json::from_value(
            json!({"deployment": "team.orders", "phase": "reconnecting", "slot_health": "unknown",
            "system_id": "2", "segments": 0, "bytes_received": 0, "connections": 1, "gaps": 0, "last_error": error,
            "started_at": "2026-01-01T00:00:00Z"}),
        )
        .unwrap(),
    );
    now.heard = Heard::Now(Box::new(report));
    let mut object = protected("1", "u", "15.19");
    let refused = planned(&object, &now);
    let message = match refused.systems {
        Systems::Refused(message) => message,
        other => panic!("{other:?}"),
    };
    assert!(message.contains("identifier 2, it was 1"), "{message}");
    object.spec.on_new_system = hardstorage_crds::OnNewSystem::NewLineage;
    let names: Vec<(String, bool)> = planned(&object, &now)
        .lineages
        .into_iter()
        .map(|one| (one.name, one.current))
        .collect();
    assert_eq!(
        names,
        [("team.orders".to_owned(), false), ("team.orders.2".to_owned(), true)]
    );
}

fn paused() -> Value {
    json!({"source": {"cloudNativePG": {"cluster": "shop"}}, "repositoryRef": {"name": "main"}, "stream": {"paused": true}})
}

#[test]
fn a_pinned_image_goes_with_nobody() {
    let spec = json!({"source": {"cloudNativePG": {"cluster": "shop"}}, "repositoryRef": {"name": "main"},
        "engine": {"image": "mine:7", "imagePullPolicy": "Always"}});
    let plan = plan(
        &with_spec("team", "orders", spec),
        &with_child("engine:1"),
        &settings("engine:2"),
        Timestamp::UNIX_EPOCH,
    );
    let stream = plan.stream.unwrap();
    assert_eq!(image_of(&stream).as_deref(), Some("mine:7"));
    let pod = stream.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.containers[0].image_pull_policy.as_deref(), Some("Always"));
}
