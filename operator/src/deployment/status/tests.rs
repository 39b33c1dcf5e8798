//! Statuses, state by state.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    reason = "test code"
)]

use hardstorage_crds::condition::deployment::{
    ARCHIVE_CONTINUOUS, SLOT_HEALTHY, SOURCE_READY, STREAMING, UPGRADE_HALTED,
};
use hardstorage_crds::condition::{READY, STALLED};
use hardstorage_crds::{Phase, SourceMode};
use serde_json::{Value, json};

use super::*;
use crate::condition::Is;
use crate::deployment::samples::{deployment, with_spec};
use crate::deployment::source::{Kind, State, reason};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn ready_source() -> SourceFacts {
    SourceFacts {
        primary: Some("shop-1".into()),
        version: Some("18.6".into()),
        system_identifier: Some("7".into()),
        cluster_uid: Some("cluster-1".into()),
        ..SourceFacts::unknown(Kind::CloudNativePg, State::Ready)
    }
}

fn report(stream: &Value) -> RunReport {
    let mut whole = json!({"deployment": "team.orders", "phase": "streaming", "slot": "ours", "slot_health": "active",
        "system_id": "7", "timeline": 3, "received_lsn": "0/3000100", "durable_lsn": "0/3000000", "server_lsn": "0/3000200",
        "lag_bytes": 512, "lag_seconds": 1.5, "recoverable_from": "2027-01-15T00:00:00Z",
        "recoverable_to": "2027-01-15T07:00:00Z", "segments": 1, "bytes_received": 2, "connections": 1, "gaps": 0,
        "last_error": null, "started_at": at(-100).to_string(), "heard_at": at(0).to_string()});
    for (key, value) in stream.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let mut report = RunReport::new("wal stream", Some("uid-team-orders".into()), "0.2.0");
    report.stream = Some(serde_json::from_value(whole).unwrap());
    report
}

fn heard(stream: &Value) -> Heard {
    Heard::Now(Box::new(report(stream)))
}

fn error(code: &str) -> Value {
    json!({"code": code, "message": "it says no", "hint": "do something", "exit_code": 4})
}

/// A world in which everything is well, to be changed.
struct World {
    deployment: ProtectedDeployment,
    collision: Option<Collision>,
    refusal: Option<Refusal>,
    source: SourceFacts,
    systems: Systems,
    lineages: Vec<Lineage>,
    has_child: bool,
    pod: Option<PodFacts>,
    heard: Heard,
    slot: Option<SlotWord>,
    turn: Turn,
    newest: Option<BackupRecord>,
    now: Timestamp,
}

impl World {
    fn well() -> World {
        World {
            deployment: deployment("team", "orders"),
            collision: None,
            refusal: None,
            source: ready_source(),
            systems: Systems::Same,
            lineages: vec![Lineage {
                name: "team.orders".into(),
                system_identifier: "7".into(),
                current: true,
            }],
            has_child: true,
            pod: Some(PodFacts {
                name: "orders-wal-1".into(),
                phase: "Running".into(),
                ..PodFacts::default()
            }),
            heard: heard(&json!({})),
            slot: None,
            turn: Turn::Go,
            newest: None,
            now: at(0),
        }
    }

    fn status(&self) -> DeploymentStatus {
        status(&Findings {
            deployment: &self.deployment,
            collision: self.collision.as_ref(),
            refusal: self.refusal.as_ref(),
            source: &self.source,
            systems: &self.systems,
            lineages: &self.lineages,
            has_child: self.has_child,
            pod: self.pod.as_ref(),
            heard: &self.heard,
            slot: self.slot.as_ref(),
            turn: &self.turn,
            newest: self.newest.as_ref(),
            now: self.now,
        })
        .0
    }
}

fn said(status: &DeploymentStatus, type_: &str) -> String {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    found.map_or_else(|| "-".to_owned(), |found| format!("{}/{}", found.status, found.reason))
}

#[test]
fn all_is_well() {
    let status = World::well().status();
    let wanted = [
        (READY, "True/Streaming"),
        (STREAMING, "True/Streaming"),
        (ARCHIVE_CONTINUOUS, "True/Continuous"),
        (SLOT_HEALTHY, "True/Active"),
        (SOURCE_READY, "True/Found"),
        (UPGRADE_HALTED, "False/UpToDate"),
        (STALLED, "False/Streaming"),
    ];
    for (type_, word) in wanted {
        assert_eq!(said(&status, type_), word, "{type_}");
    }
    assert_eq!(status.phase, Some(Phase::Streaming));
    let stream = status.stream.unwrap();
    assert_eq!(
        (stream.archived_lsn.as_deref(), stream.lag_seconds),
        (Some("0/3000000"), Some(1))
    );
    assert_eq!(status.recoverable.unwrap().gaps, Some(0));
    let source = status.source.unwrap();
    assert_eq!(source.postgres_version.as_deref(), Some("18.6"));
    assert_eq!(
        (source.type_.as_deref(), source.mode),
        (Some("CloudNativePG"), Some(SourceMode::Primary))
    );
    assert_eq!(status.engine_version.as_deref(), Some("0.2.0"));
    assert_eq!(status.observed_generation, Some(1));
}

#[test]
fn what_stands_against_it_and_who_has_to_act() {
    type Change = fn(&mut World);
    let refusal = |waits| Refusal {
        reason: "RepositoryMissing".into(),
        message: "there is no Repository main".into(),
        hint: String::new(),
        waits,
    };
    let cases: Vec<(&str, Change, &str, &str, &str, Phase)> = vec![
        // what, change, Ready, Stalled, Streaming, phase
        (
            "a collision",
            |world| {
                world.collision = Some(Collision {
                    reason: "NameTaken",
                    message: "x".into(),
                })
            },
            "False/NameTaken",
            "True",
            "True/Streaming",
            Phase::Degraded,
        ),
        (
            "another cluster",
            |world| world.systems = Systems::Refused("x".into()),
            "False/NewSystem",
            "True",
            "True/Streaming",
            Phase::Degraded,
        ),
        (
            "asleep",
            |world| world.source.state = State::Hibernated,
            "True/SourceHibernated",
            "False",
            "False/SourceHibernated",
            Phase::Hibernated,
        ),
        (
            "switching over, and the stream with it",
            |world| {
                world.source.state = State::Progressing {
                    reason: reason::SWITCHING_OVER,
                    message: String::new(),
                };
                world.heard = heard(&json!({"phase": "reconnecting"}));
            },
            "False/SwitchingOver",
            "False",
            "False/Connecting",
            Phase::Failed,
        ),
        (
            "switching over, and WAL still flows",
            |world| {
                world.source.state = State::Progressing {
                    reason: reason::SWITCHING_OVER,
                    message: String::new(),
                }
            },
            "True/Streaming",
            "False",
            "True/Streaming",
            Phase::Streaming,
        ),
        (
            "no Cluster yet",
            |world| {
                world.source = SourceFacts::unknown(
                    Kind::CloudNativePg,
                    State::Missing {
                        reason: reason::CLUSTER_MISSING,
                        message: String::new(),
                    },
                );
                world.has_child = false;
                world.pod = None;
                world.heard = Heard::Silent { seconds: 0 };
            },
            "False/ClusterMissing",
            "False",
            "False/NotStarted",
            Phase::Pending,
        ),
        (
            "the Cluster is gone",
            |world| {
                world.deployment.status.get_or_insert_default().stream = Some(StreamStatus::default());
                world.source.state = State::Missing {
                    reason: reason::CLUSTER_MISSING,
                    message: String::new(),
                };
                world.heard = heard(&json!({"phase": "reconnecting", "last_error": error("unreachable.postgres")}));
            },
            "False/ClusterMissing",
            "True",
            "False/UnreachablePostgres",
            Phase::Failed,
        ),
        (
            "the server lets nobody in",
            |world| world.heard = heard(&json!({"phase": "reconnecting", "last_error": error("auth.pg_hba")})),
            "False/AuthPgHba",
            "True",
            "False/AuthPgHba",
            Phase::Failed,
        ),
        (
            "the server is away",
            |world| world.heard = heard(&json!({"phase": "reconnecting", "last_error": error("unreachable.postgres")})),
            "False/UnreachablePostgres",
            "False",
            "False/UnreachablePostgres",
            Phase::Failed,
        ),
        (
            "somebody else holds the slot",
            |world| {
                world.heard = heard(&json!({"phase": "reconnecting", "slot_health": "held_by_other",
                    "last_error": error("conflict.slot_in_use")}));
            },
            "False/ConflictSlotInUse",
            "True",
            "False/ConflictSlotInUse",
            Phase::Failed,
        ),
        (
            "behind",
            |world| world.heard = heard(&json!({"phase": "catching_up"})),
            "True/Streaming",
            "False",
            "True/CatchingUp",
            Phase::CatchingUp,
        ),
        (
            "Patroni does not know the slot",
            |world| {
                world.slot = Some(SlotWord {
                    is: Is::False,
                    reason: "SlotNotPermanent",
                    message: "write".into(),
                });
            },
            "False/SlotNotPermanent",
            "True",
            "True/Streaming",
            Phase::Degraded,
        ),
    ];
    for (what, change, ready, stalled, streaming, phase) in cases {
        let mut world = World::well();
        change(&mut world);
        let status = world.status();
        assert_eq!(said(&status, READY), ready, "{what}");
        assert!(
            said(&status, STALLED).starts_with(stalled),
            "{what}: {}",
            said(&status, STALLED)
        );
        assert_eq!(said(&status, STREAMING), streaming, "{what}");
        assert_eq!(status.phase, Some(phase), "{what}");
    }
    for waits in [true, false] {
        let mut world = World::well();
        world.refusal = Some(refusal(waits));
        let status = world.status();
        assert_eq!(said(&status, READY), "False/RepositoryMissing");
        assert_eq!(said(&status, STALLED).starts_with("True"), !waits);
        assert_eq!(
            said(&status, STREAMING),
            "True/Streaming",
            "it flows, whatever became of the object"
        );
    }
    let spec = json!({"source": {"cloudNativePG": {"cluster": "shop"}}, "repositoryRef": {"name": "main"},
        "stream": {"paused": true}});
    let mut world = World::well();
    world.deployment = with_spec("team", "orders", spec);
    let status = world.status();
    assert_eq!(
        (said(&status, READY).as_str(), status.phase),
        ("True/Paused", Some(Phase::Paused))
    );
}

#[test]
fn a_stream_that_is_not_heard() {
    let mut world = World::well();
    world.deployment.status = Some(world.status());
    world.heard = Heard::Silent { seconds: 30 };
    assert_eq!(
        said(&world.status(), STREAMING),
        "True/Streaming",
        "one missed answer is no news"
    );
    assert!(
        world.status().stream.is_some(),
        "the last figures stay, with their time"
    );
    world.heard = Heard::Silent { seconds: 45 };
    let status = world.status();
    assert_eq!(said(&status, STREAMING), "Unknown/NotHeard");
    assert_eq!(
        (said(&status, READY).as_str(), said(&status, STALLED).as_str()),
        ("False/NotHeard", "False/NotHeard")
    );
    // The pod's own reason goes before.
    let pods = [
        (
            PodFacts {
                unschedulable: Some("0/3 nodes".into()),
                ..PodFacts::default()
            },
            "False/Unschedulable",
        ),
        (
            PodFacts {
                waiting: Some(("ImagePullBackOff".into(), "no such image".into())),
                ..PodFacts::default()
            },
            "False/ImagePullBackOff",
        ),
        (
            PodFacts {
                crashed: Some((137, Some("OOMKilled".into()), None)),
                ..PodFacts::default()
            },
            "False/OOMKilled",
        ),
        (
            PodFacts {
                waiting: Some(("CrashLoopBackOff".into(), String::new())),
                crashed: Some((7, Some("Error".into()), {
                    let mut report = RunReport::new("wal stream", Some("uid-team-orders".into()), "1");
                    report.error = Some(serde_json::from_value(error("conflict.system_identifier")).unwrap());
                    Some(serde_json::to_string(&report).unwrap())
                })),
                ..PodFacts::default()
            },
            "False/ConflictSystemIdentifier",
        ),
    ];
    for (pod, wanted) in pods {
        world.pod = Some(pod);
        assert_eq!(said(&world.status(), STREAMING), wanted);
    }
}

#[test]
fn a_hole_stays_until_a_backup_was_taken_after_it() {
    let mut world = World::well();
    let backup = |second: i64| -> BackupRecord {
        serde_json::from_value(
            json!({"backup_id": "team.orders.full.20270115T000000Z.0000", "file_count": 0,
            "logical_bytes": 0, "stored_bytes": 0, "reuse": 0.0, "held": false, "deleted": false, "damaged": false,
            "started_at": at(second).to_string(), "stopped_at": at(second + 1).to_string()}),
        )
        .unwrap()
    };
    world.heard = heard(&json!({"phase": "reconnecting", "last_error": error("replication.wal_removed")}));
    let first = world.status();
    assert_eq!(said(&first, ARCHIVE_CONTINUOUS), "False/WalMissing");
    // It flows again, and the process that knew of the gap is gone: the hole is there all the same.
    world.deployment.status = Some(first);
    world.heard = heard(&json!({}));
    world.now = at(60);
    world.newest = Some(backup(-50));
    let still = world.status();
    assert_eq!(said(&still, ARCHIVE_CONTINUOUS), "False/WalMissing");
    assert_eq!(still.phase, Some(Phase::Degraded));
    world.deployment.status = Some(still);
    world.newest = Some(backup(30));
    let closed = world.status();
    assert_eq!(said(&closed, ARCHIVE_CONTINUOUS), "True/Continuous");
    assert_eq!(
        closed.last_backup.unwrap().id.as_deref(),
        Some("team.orders.full.20270115T000000Z.0000")
    );
}

#[test]
fn version_and_uid_are_those_of_the_cluster_that_was_agreed_to() {
    let mut world = World::well();
    world.source.version = Some("15.19".into());
    world.deployment.status = Some(world.status());
    // In the middle of an upgrade: the version is new, the system identifier not known yet.
    world.source.version = Some("18".into());
    world.source.system_identifier = None;
    world.heard = Heard::Silent { seconds: 10 };
    let during = world.status();
    assert_eq!(
        during.source.as_ref().unwrap().postgres_version.as_deref(),
        Some("15.19")
    );
    // Known, and another: nothing is taken over before it has a lineage.
    world.deployment.status = Some(during);
    world.source.system_identifier = Some("8".into());
    assert_eq!(
        world.status().source.unwrap().postgres_version.as_deref(),
        Some("15.19")
    );
    world.lineages = vec![Lineage {
        name: "team.orders.8".into(),
        system_identifier: "8".into(),
        current: true,
    }];
    let after = world.status();
    assert_eq!(after.name_in_repository.as_deref(), Some("team.orders.8"));
    let source = after.source.unwrap();
    assert_eq!(
        (source.postgres_version.as_deref(), source.system_identifier.as_deref()),
        (Some("18"), Some("8"))
    );
}

#[test]
fn figures_are_written_once_a_minute_and_transitions_at_once() {
    let world = World::well();
    let before = world.status();
    let later = |second: i64, stream: &Value| {
        let mut world = World::well();
        world.deployment.status = Some(before.clone());
        world.now = at(second);
        world.heard = heard(stream);
        settle(&before, world.status(), at(second), Some(at(0)))
    };
    let moved = json!({"durable_lsn": "0/4000000", "lag_bytes": 9});
    assert_eq!(later(15, &json!({})), before, "nothing has changed");
    assert_eq!(
        later(600, &json!({})),
        before,
        "a stream with nothing to do costs no writes"
    );
    assert_eq!(later(59, &moved), before);
    let written = later(60, &moved).stream.unwrap();
    assert_eq!(written.archived_lsn.as_deref(), Some("0/4000000"));
    assert_eq!(written.observed_time.unwrap().0, at(60));
    let fell = later(
        15,
        &json!({"phase": "reconnecting", "last_error": error("unreachable.postgres")}),
    );
    assert_eq!(said(&fell, STREAMING), "False/UnreachablePostgres");
    assert_ne!(fell, before);
    // For how long it was not heard is no transition.
    let mut silent = World::well();
    silent.heard = Heard::Silent { seconds: 50 };
    let first = silent.status();
    silent.deployment.status = Some(first.clone());
    silent.heard = Heard::Silent { seconds: 65 };
    assert_eq!(settle(&first, silent.status(), at(15), Some(at(0))), first);
    // A sentence with a number in it that is another one at each look.
    let mut tries = World::well();
    let refused = |message: &str| {
        let error = json!({"code": "unreachable.postgres", "message": message, "hint": "", "exit_code": 8});
        heard(&json!({"phase": "reconnecting", "last_error": error}))
    };
    tries.heard = refused("for 1 s");
    let first = tries.status();
    tries.heard = refused("for 2 s");
    assert_eq!(settle(&first, tries.status(), at(1), Some(at(0))), first);
    assert_ne!(settle(&first, tries.status(), at(60), Some(at(0))), first);
}
