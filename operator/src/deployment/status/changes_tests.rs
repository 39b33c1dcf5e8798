//! Statuses over time: what stays, what is written, what is forgotten.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    reason = "test code"
)]

use hardstorage_crds::Phase;
use hardstorage_crds::condition::deployment::{ARCHIVE_CONTINUOUS, STREAMING};
use hardstorage_crds::condition::{READY, STALLED};
use serde_json::{Value, json};

use super::world::*;
use super::*;

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
fn a_stream_that_waits_for_its_first_connection_says_nothing_of_the_archive() {
    let waits = json!({"phase": "reconnecting", "connections": 0, "received_lsn": null, "durable_lsn": null,
        "last_error": error("auth.key_missing")});
    let mut world = World::well();
    world.heard = heard(&waits);
    assert_eq!(said(&world.status(), ARCHIVE_CONTINUOUS), "-");
    // One that was started again keeps what was known.
    world.deployment.status = Some(World::well().status());
    assert_eq!(said(&world.status(), ARCHIVE_CONTINUOUS), "True/Continuous");
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
    // The stream looks for its server, and remembers the one of before.
    let lost = json!({"phase": "reconnecting", "last_error": error("unreachable.postgres")});
    for said in [heard(&lost), Heard::Silent { seconds: 10 }] {
        world.heard = said;
        let during = world.status();
        let source = during.source.as_ref().unwrap();
        assert_eq!(source.postgres_version.as_deref(), Some("15.19"));
        assert_eq!(source.system_identifier.as_deref(), Some("7"));
        world.deployment.status = Some(during);
    }
    // Known, and another: nothing is taken over before it has a lineage.
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
    // A backup that ended, and a first moment, within a second are told in whole ones, and are no news at the next look.
    let mut within = World::well();
    let record = json!({"backup_id": "team.orders.full.20270115T000000Z.0000", "file_count": 0, "logical_bytes": 0,
        "stored_bytes": 0, "reuse": 0.0, "held": false, "deleted": false, "damaged": false,
        "stopped_at": "2027-01-15T06:59:59.123456Z"});
    within.newest = Some(serde_json::from_value(record).unwrap());
    let from = json!("2027-01-15T00:00:00.140396Z");
    within.heard = heard(&json!({"recoverable_from": from}));
    let first: DeploymentStatus = serde_json::from_value(serde_json::to_value(within.status()).unwrap()).unwrap();
    assert_eq!(
        first.recoverable.as_ref().unwrap().from,
        Some(Time("2027-01-15T00:00:01Z".parse().unwrap()))
    );
    within.deployment.status = Some(first.clone());
    within.heard = heard(&json!({"recoverable_from": from, "durable_lsn": "0/4000000"}));
    assert_eq!(settle(&first, within.status(), at(15), Some(at(0))), first);
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

/// Two versions take turns while one replaces the other.
#[test]
fn what_a_later_version_has_written_stays() {
    let mut world = World::well();
    let mut written = serde_json::to_value(world.status()).unwrap();
    written["recoveryPoints"] = json!([{"time": "2027-01-15T00:00:00Z"}]);
    world.deployment.status = Some(serde_json::from_value(written).unwrap());
    world.heard = heard(&json!({"phase": "reconnecting", "last_error": error("unreachable.postgres")}));
    let after = serde_json::to_value(world.status()).unwrap();
    assert_eq!(after["recoveryPoints"], json!([{"time": "2027-01-15T00:00:00Z"}]));
    assert_eq!(after["conditions"][1]["status"], "False");
}
