//! What the conditions say of each state.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

mod states;

use super::*;
use crate::job::Observed;
use crate::repository::resolve::ClaimFacts;
use crate::repository::samples::{
    ID, KEY, absent, at, job, lost, one, present, repository, runs, went_well, went_wrong,
};
use crate::repository::verdict::judge;
use serde_json::{Value, json};

#[derive(Default)]
struct Scene {
    spec: Value,
    status: Value,
    claim: Option<ClaimFacts>,
    probe: Runs<Probe>,
    init: Runs<Init>,
    sync: Runs<Sync>,
    check: Runs<Check>,
    catalog: Option<ServedCatalog>,
    sharing: Sharing,
    schedule: Option<&'static str>,
}

impl Scene {
    fn new(spec: Value, status: Value, probe: Runs<Probe>) -> Scene {
        Scene {
            spec,
            status,
            probe,
            ..Scene::default()
        }
    }

    fn good() -> Scene {
        Scene::new(json!({}), Value::Null, one("p", went_well(present(), None)))
    }

    fn status(&self) -> RepositoryStatus {
        let repository = repository(self.spec.clone(), self.status.clone());
        let before = repository.status.clone().unwrap_or_default();
        let claim = self.claim.clone().unwrap_or(ClaimFacts::NotNeeded);
        let verdict = judge(&repository.spec, &before, &claim, &self.probe, &self.init);
        let seen = Seen {
            repository: &repository,
            verdict: &verdict,
            probe: &self.probe,
            init: &self.init,
            sync: &self.sync,
            check: &self.check,
            catalog: self.catalog.as_ref(),
            sharing: &self.sharing,
            schedule: self.schedule,
            now: at(100),
        };
        super::status(&seen).0
    }
}

/// `status/reason` of a condition.
fn says(status: &RepositoryStatus, type_: &str) -> String {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    found.map_or_else(String::new, |found| format!("{}/{}", found.status, found.reason))
}

fn message(status: &RepositoryStatus, type_: &str) -> String {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    found.map(|found| found.message.clone()).unwrap_or_default()
}

#[test]
fn its_id_is_taken_once_and_never_changed_by_what_is_there() {
    let status = Scene::good().status();
    assert_eq!(status.repository_id.as_deref(), Some(ID));
    assert_eq!(status.kek_fingerprint.as_deref(), Some(KEY));
    let replaced = Scene {
        status: json!({"repositoryID": "ff", "kekFingerprint": "aa"}),
        ..Scene::good()
    };
    let status = replaced.status();
    assert_eq!(status.repository_id.as_deref(), Some("ff"));
    assert_eq!(status.kek_fingerprint.as_deref(), Some("aa"));
}

#[test]
fn a_key_that_is_not_exported_says_exactly_what_to_do() {
    let status = Scene::good().status();
    assert_eq!(says(&status, RECOVERY_KEY_EXPORTED), "False/NotExported");
    let text = message(&status, RECOVERY_KEY_EXPORTED);
    for part in [
        "`(umask 077 && kubectl -n team get secret main-kek -o jsonpath='{.data.kek}' | base64 -d > main-kek.key)`",
        "spec.encryption.managed.exportedFingerprint",
        KEY,
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let with = |encryption: Value| {
        let scene = Scene {
            spec: json!({"encryption": encryption}),
            ..Scene::good()
        };
        says(&scene.status(), RECOVERY_KEY_EXPORTED)
    };
    assert_eq!(with(json!({"managed": {"exportedFingerprint": KEY}})), "True/Exported");
    assert_eq!(
        with(json!({"managed": {"exportedFingerprint": ""}})),
        "False/NotExported"
    );
    let other = with(json!({"managed": {"exportedFingerprint": "ffffffffffffffff"}}));
    assert_eq!(other, "False/OtherKeyExported");
    assert_eq!(
        with(json!({"secretRef": {"name": "own", "key": "kek"}})),
        "True/ManagedByUser"
    );
    assert_eq!(with(json!({"none": {}})), "True/NotEncrypted");
    let new = Scene::new(json!({}), Value::Null, Runs::default());
    assert_eq!(says(&new.status(), RECOVERY_KEY_EXPORTED), "Unknown/NoKeyYet");
}

#[test]
fn whether_two_writers_are_safe_is_remembered() {
    let made = |proven: bool| Scene {
        init: one("i", went_well(json!({"id": ID, "create_only_proven": proven}), None)),
        ..Scene::good()
    };
    assert_eq!(says(&made(true).status(), WRITE_SAFE), "True/ConditionalWrites");
    assert_eq!(says(&made(false).status(), WRITE_SAFE), "False/NoConditionalWrites");
    let later = Scene {
        status: json!({"repositoryID": ID, "conditionalWrites": "Unsupported"}),
        ..Scene::good()
    };
    assert_eq!(later.status().conditional_writes, Some(ConditionalWrites::Unsupported));
    assert_eq!(says(&Scene::good().status(), WRITE_SAFE), "Unknown/NotTried");
    // One that somebody else has created: the look itself has tried.
    let looked = |proven: Value, problem: Value, before: &str| {
        let mut found = present();
        found["create_only_proven"] = proven;
        found["write_problem"] = problem;
        let status = json!({"repositoryID": ID, "conditionalWrites": before});
        Scene::new(json!({}), status, one("p", went_well(found, None))).status()
    };
    let problem = |code: &str| json!({"code": code, "message": "it says no", "hint": "do it", "exit_code": 3});
    let proven = looked(json!(true), Value::Null, "Unknown");
    assert_eq!(says(&proven, WRITE_SAFE), "True/ConditionalWrites");
    assert_eq!(proven.conditional_writes, Some(ConditionalWrites::Native));
    let broken = looked(json!(false), problem("preflight.create_only_not_kept"), "Native");
    assert_eq!(says(&broken, WRITE_SAFE), "False/NoConditionalWrites");
    for before in ["Unknown", "Native"] {
        let refused = looked(Value::Null, problem("auth.store_denied"), before);
        assert_eq!(says(&refused, WRITE_SAFE), "False/WritesRefused");
        assert!(message(&refused, WRITE_SAFE).contains("it says no; do it"));
        assert_eq!(says(&refused, READY), says(&proven, READY), "it can be read");
    }
    let failed = looked(Value::Null, problem("storage.full"), "Unknown");
    assert_eq!(says(&failed, WRITE_SAFE), "Unknown/TrialFailed");
    assert!(message(&failed, WRITE_SAFE).contains("it says no; do it"));
    let reading = Scene {
        spec: json!({"accessMode": "ReadOnly"}),
        ..Scene::good()
    };
    assert_eq!(says(&reading.status(), WRITE_SAFE), "True/ReadOnly");
}

#[test]
fn what_was_known_stays_known_while_its_jobs_are_gone() {
    let first = Scene::good().status();
    let scene = Scene::new(json!({}), serde_json::to_value(&first).unwrap(), Runs::default());
    let again = scene.status();
    for type_ in [READY, STALLED, REACHABLE, KEY_AVAILABLE] {
        assert_eq!(says(&again, type_), says(&first, type_));
    }
    // And a store that is away for a while is not a lost key.
    let away = Scene {
        probe: one("p", went_wrong("unreachable.store")),
        ..scene
    };
    assert_eq!(says(&away.status(), KEY_AVAILABLE), "True/Matches");
}

#[test]
fn a_catalogue_is_counted_and_what_is_deleted_is_not() {
    let record = |id: &str, deleted: bool| {
        serde_json::from_value(
            json!({"backup_id": id, "file_count": 0, "logical_bytes": 0, "stored_bytes": 0,
            "reuse": 0.0, "held": false, "deleted": deleted, "damaged": false}),
        )
        .unwrap()
    };
    let window = json!({"from": "2026-01-01T00:00:00.5Z", "to": "2026-01-01T00:00:02.5Z"});
    let result = json!({"id": ID, "total_bytes": 3_u64 << 30, "reclaimable_at_most": 1024,
        "deployments": {"team.orders": {"backups": 9, "recoverable": window}, "team.empty": {"backups": 0}}});
    let scene = Scene {
        sync: runs(vec![(job("s", 90, None, Value::Null), went_well(result, Some("pod")))]),
        catalog: Some(ServedCatalog {
            etag: "e".into(),
            repository_id: ID.into(),
            backups: vec![
                record("team.orders.full.20260101T000000Z.00aa", false),
                record("team.orders.full.20260102T000000Z.00aa", true),
                record("qa.users.full.20260102T000000Z.00aa", false),
            ],
        }),
        ..Scene::good()
    };
    let status = scene.status();
    assert_eq!(status.backups, Some(2));
    let names: Vec<_> = status
        .names
        .iter()
        .map(|name| (name.name.as_str(), name.backups))
        .collect();
    assert_eq!(names, [("qa.users", 1), ("team.empty", 0), ("team.orders", 1)]);
    assert_eq!(status.names[2].recoverable_from, Some(Time(at(1))));
    assert_eq!(status.names[2].recoverable_to, Some(Time(at(2))));
    assert_eq!(status.size.unwrap().as_str(), "3Gi");
    assert_eq!(
        status.last_sync_time,
        Some(Time(at(90))),
        "a catalogue is as of when it was asked for"
    );
    // Without a catalogue nothing is said to be read.
    let unheard = Scene { catalog: None, ..scene };
    assert_eq!(unheard.status().last_sync_time, None);
}

#[test]
fn a_check_that_found_something_is_not_ready_and_stops_nobody() {
    let check = |state| Scene {
        check: one("c", state),
        ..Scene::good()
    };
    let problems = json!({"ok": false, "problems": [{"backup_id": "team.x", "code": "verify.pack_missing"}]});
    let found = check(went_well(problems, None)).status();
    assert_eq!(says(&found, READY), "False/CheckFailed");
    assert!(says(&found, STALLED).starts_with("False"));
    let last = found.last_check.unwrap();
    assert_eq!(last.result, "1 problem(s): verify.pack_missing in team.x");
    assert_eq!(last.time, Time(at(10)));
    let good = check(went_well(json!({"ok": true}), None)).status();
    assert_eq!(
        (says(&good, READY).as_str(), good.last_check.unwrap().result.as_str()),
        ("True/Ready", "Completed")
    );
    // One that did not get to its end has found nothing, and says so.
    let ended = check(went_wrong("unreachable.store")).status();
    assert_eq!(says(&ended, READY), "True/Ready");
    assert!(message(&ended, READY).contains("[unreachable.store]"));
    assert_eq!(ended.last_check.unwrap().result, "Failed: unreachable.store");
    // Nor does it refute what was found before it; nor does a Job that somebody removed.
    let after = |result: &str, state: Option<Observed>| {
        let mut scene = Scene::good();
        scene.status["lastCheck"] = json!({"time": at(1), "result": result});
        scene.check = state.map(|state| one("c", state)).unwrap_or_default();
        scene.status()
    };
    let kept = after(&last.result, Some(went_wrong("unreachable.store")));
    assert_eq!(says(&kept, READY), "False/CheckFailed");
    let result = kept.last_check.unwrap().result;
    assert_eq!(result, format!("{}; then Failed: unreachable.store", last.result));
    let again = after(&result, Some(went_wrong("auth.store_denied")));
    assert!(
        again
            .last_check
            .unwrap()
            .result
            .ends_with("team.x; then Failed: auth.store_denied")
    );
    assert_eq!(says(&after(&result, None), READY), "False/CheckFailed");
    let healed = after(&result, Some(went_well(json!({"ok": true}), None)));
    assert_eq!(says(&healed, READY), "True/Ready");
}

#[test]
fn what_else_is_wrong_is_said_without_stalling() {
    let scene = Scene {
        schedule: Some("there is no time zone \"Europe/Bern\""),
        ..Scene::good()
    };
    assert_eq!(says(&scene.status(), READY), "False/MaintenanceInvalid");
    let scene = Scene {
        sync: one("s", went_wrong("verify.manifest_corrupt")),
        ..Scene::good()
    };
    assert_eq!(says(&scene.status(), READY), "False/SyncFailed");
    let scene = Scene {
        claim: Some(ClaimFacts::Missing("there is no PersistentVolumeClaim bk".into())),
        ..Scene::good()
    };
    let status = scene.status();
    assert_eq!(
        (says(&status, READY).as_str(), says(&status, REACHABLE).as_str()),
        ("False/ClaimMissing", "False/ClaimMissing")
    );
}

#[test]
fn a_change_counts_as_observed_once_it_was_looked_at() {
    let notes = json!({"hardstorage.dev/generation": "7"});
    let probe = runs(vec![(job("p", 0, Some(10), notes), went_well(present(), None))]);
    let status = Scene::new(json!({}), Value::Null, probe).status();
    assert_eq!(status.observed_generation, Some(7));
    assert!(status.conditions.iter().all(|one| one.observed_generation == Some(7)));
}

#[test]
fn sharing_is_told() {
    let with = |sharing: Sharing| {
        let scene = Scene {
            sharing,
            ..Scene::good()
        };
        let status = scene.status();
        let type_ = hardstorage_crds::condition::repository::CREDENTIALS_SHARED;
        (says(&status, type_), message(&status, type_))
    };
    assert_eq!(with(Sharing::default()).0, "False/NotShared");
    let shared = Sharing {
        wanted: true,
        namespaces: ["dev".to_owned(), "qa".to_owned()].into(),
        version: "1a2b3c4".into(),
        problem: None,
    };
    assert_eq!(
        with(shared.clone()),
        ("True/Shared".into(), "copies lie in dev, qa (version 1a2b3c4)".into())
    );
    let forbidden = Sharing {
        problem: Some(("Forbidden", "it may not".into())),
        ..shared
    };
    assert_eq!(
        with(forbidden),
        (
            "False/Forbidden".into(),
            "it may not; copies lie in dev, qa (version 1a2b3c4)".into()
        )
    );
}
