//! Statuses, state by state.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    reason = "test code"
)]

use hardstorage_crds::Phase;
use hardstorage_crds::condition::deployment::{
    ARCHIVE_CONTINUOUS, SLOT_HEALTHY, SOURCE_READY, STREAMING, UPGRADE_HALTED,
};
use hardstorage_crds::condition::{READY, STALLED};
use serde_json::json;

use super::world::*;
use super::*;
use crate::condition::Is;
use crate::deployment::samples::with_spec;
use crate::deployment::source::{Kind, State, reason};
use hardstorage_crds::SourceMode;

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
            "the Secret with the key comes later",
            |world| {
                world.heard = heard(
                    &json!({"phase": "reconnecting", "system_id": null, "timeline": null, "slot_health": "unknown",
                    "received_lsn": null, "durable_lsn": null, "server_lsn": null, "connections": 0, "heard_at": null,
                    "last_error": error("auth.key_missing")}),
                );
            },
            "False/AuthKeyMissing",
            "True",
            "False/AuthKeyMissing",
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
